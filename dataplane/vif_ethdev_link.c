// SPDX-License-Identifier: BSD-3-Clause

// The links of ethdevs. A NIC tells by an interrupt of DPDK's (LSC); a kernel
// TAP through its own descriptor; the others are asked once a second.
//
// A TAP isn't asked by name, as DPDK's driver would: its interface may have
// been moved to another network namespace, where the name means nothing to us,
// or ours may have another interface of that name. Its descriptor knows: it
// is writable while the interface is up, in error once it is deleted. The kernel
// also reports both at once, but not that it went down. For that there is
// rtnetlink: whatever it tells of any interface, all TAPs are asked. It tells
// of other network namespaces only if the daemon may hear of them
// (CAP_NET_BROADCAST), and may have to leave something out: hence also once a
// second.

#include "eal_log.h"
#include "vif_ethdev.h"
#include "worker.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <rte_ethdev.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

// Guards the list and the devices' being there while their links are looked at.
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static struct ethdev *list;

// The link thread is there while there are TAPs. Device thread, but for the fds.
static unsigned tap_count;
static pthread_t link_thread;
static int epoll_fd = -1;
static int end_fd = -1;
static int news_fd = -1; // rtnetlink's; -1: can't be had, and isn't needed for all that

// What epoll's events are of, if not of a port.
#define OF_NEWS (UINT32_MAX - 1)
#define OF_END  UINT32_MAX

// The name that the interface has now, wherever it is.
static const char *interface_name(const struct ethdev *dev, struct ifreq *request)
{
    memset(request, 0, sizeof(*request));
    return ioctl(dev->tap_fd, TUNGETIFF, request) == 0 ? request->ifr_name : "IFACE";
}

static void look_at_tap(struct ethdev *dev)
{
    struct pollfd queue = {.fd = dev->tap_fd, .events = POLLOUT};
    struct ifreq request;

    if (vif_link(dev->vif) == VIF_LINK_BROKEN || poll(&queue, 1, 0) < 0)
        return;
    if (queue.revents & (POLLERR | POLLNVAL)) {
        // Workers first: from now on they wait for something else.
        atomic_store(&dev->gone, true);
        worker_forget_fd(dev->tap_fd);
        (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, dev->tap_fd, NULL);
        vif_set_link(dev->vif, VIF_LINK_BROKEN, "%s", VIF_ETHDEV_TAP_GONE);
    } else if (queue.revents & POLLOUT) {
        vif_set_link(dev->vif, VIF_LINK_UP, "%s", "");
    } else {
        vif_set_link(dev->vif, VIF_LINK_DOWN, "its kernel interface is down: ip link set %s up, where it is now",
                     interface_name(dev, &request));
    }
}

static void look_at_nic(struct ethdev *dev)
{
    struct rte_eth_link link = {0};
    int error = rte_eth_link_get_nowait(dev->port, &link);

    if (error == -EIO || error == -ENODEV)
        vif_set_link(dev->vif, VIF_LINK_BROKEN, "its device was removed");
    else if (error == 0 && link.link_status == RTE_ETH_LINK_UP)
        vif_set_link(dev->vif, VIF_LINK_UP, "%s", "");
    else
        vif_set_link(dev->vif, VIF_LINK_DOWN, "no link: is the cable plugged in, and the other end up?");
}

static void look(struct ethdev *dev)
{
    if (dev->tap_fd >= 0)
        look_at_tap(dev);
    else
        look_at_nic(dev);
}

void vif_ethdev_poll_links(void)
{
    pthread_mutex_lock(&list_lock);
    for (struct ethdev *dev = list; dev != NULL; dev = dev->next)
        if (!dev->link_events)
            look(dev);
    pthread_mutex_unlock(&list_lock);
    eal_log_drain();
}

// DPDK's interrupt thread: a NIC's link changed, or it was pulled out.
static int on_event(uint16_t port, enum rte_eth_event_type type, void *argument, void *unused)
{
    (void)argument;
    (void)unused;
    pthread_mutex_lock(&list_lock);
    for (struct ethdev *dev = list; dev != NULL; dev = dev->next) {
        if (dev->port != port)
            continue;
        if (type == RTE_ETH_EVENT_INTR_RMV)
            vif_set_link(dev->vif, VIF_LINK_BROKEN, "its device was removed");
        else
            look(dev);
    }
    pthread_mutex_unlock(&list_lock);
    return 0;
}

// ---- the link thread: TAPs that come up, go down or are deleted ----

// Of interfaces here, and in the namespaces that ours has a number for, as it has once an interface was moved there.
static int open_news(void)
{
    struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = RTMGRP_LINK};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
    int on = 1;

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
        return fd;
    close(fd);
    return -1;
}

// What was told doesn't matter, nor that some of it had no room (ENOBUFS): something has changed. With list_lock.
static void take_news(void)
{
    char ignored[64];

    while (recv(news_fd, ignored, sizeof(ignored), MSG_TRUNC) > 0)
        continue;
    for (struct ethdev *dev = list; dev != NULL; dev = dev->next)
        if (dev->tap_fd >= 0)
            look_at_tap(dev);
}

static void *follow_taps(void *argument)
{
    (void)argument;
    for (;;) {
        struct epoll_event events[LIMIT_ETHDEVS];
        int count = epoll_wait(epoll_fd, events, LIMIT_ETHDEVS, -1);

        if (count < 0 && errno != EINTR)
            return NULL;
        pthread_mutex_lock(&list_lock);
        for (int i = 0; i < count; i++) {
            if (events[i].data.u32 == OF_END) {
                pthread_mutex_unlock(&list_lock);
                return NULL;
            }
            if (events[i].data.u32 == OF_NEWS)
                take_news();
            for (struct ethdev *dev = list; dev != NULL; dev = dev->next)
                if (dev->tap_fd >= 0 && dev->port == events[i].data.u32)
                    look_at_tap(dev);
        }
        pthread_mutex_unlock(&list_lock);
    }
}

static void link_thread_stop(void)
{
    (void)eventfd_write(end_fd, 1);
    pthread_join(link_thread, NULL);
    close(end_fd);
    close(epoll_fd);
    if (news_fd >= 0)
        close(news_fd);
    epoll_fd = end_fd = news_fd = -1;
}

static int link_thread_start(void)
{
    struct epoll_event end = {.events = EPOLLIN, .data.u32 = OF_END};
    struct epoll_event news = {.events = EPOLLIN, .data.u32 = OF_NEWS};
    sigset_t all, before;
    int error = 0;

    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    end_fd = eventfd(0, EFD_CLOEXEC);
    news_fd = open_news();
    if (epoll_fd < 0 || end_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, end_fd, &end) != 0)
        error = errno;
    if (error == 0 && news_fd >= 0)
        (void)epoll_ctl(epoll_fd, EPOLL_CTL_ADD, news_fd, &news);
    if (error == 0) {
        // Signals are the main thread's.
        sigfillset(&all);
        sigdelset(&all, SIGBUS);
        sigdelset(&all, SIGSEGV);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        error = pthread_create(&link_thread, NULL, follow_taps, NULL);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (error != 0) {
        if (epoll_fd >= 0)
            close(epoll_fd);
        if (end_fd >= 0)
            close(end_fd);
        if (news_fd >= 0)
            close(news_fd);
        epoll_fd = end_fd = news_fd = -1;
        return -error;
    }
    pthread_setname_np(link_thread, "patchbay-link");
    return 0;
}

static int follow_tap(struct ethdev *dev)
{
    // An edge-triggered wait for POLLOUT: told when it comes up; POLLERR comes unasked.
    struct epoll_event event = {.events = EPOLLOUT | EPOLLET, .data.u32 = dev->port};
    int error = tap_count == 0 ? link_thread_start() : 0;

    if (error != 0)
        return error;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, dev->tap_fd, &event) != 0) {
        error = -errno;
        if (tap_count == 0)
            link_thread_stop();
        return error;
    }
    tap_count++;
    return 0;
}

int vif_ethdev_link_add(struct ethdev *dev, char *reason, size_t reason_size)
{
    int error = 0;

    if (dev->tap_fd >= 0)
        error = follow_tap(dev);
    if (error == 0 && dev->link_events)
        error = rte_eth_dev_callback_register(dev->port, RTE_ETH_EVENT_INTR_LSC, on_event, NULL);
    if (error == 0)
        (void)rte_eth_dev_callback_register(dev->port, RTE_ETH_EVENT_INTR_RMV, on_event, NULL);
    if (error != 0) {
        snprintf(reason, reason_size, "its link can't be followed: %s", strerror(-error));
        return error;
    }
    pthread_mutex_lock(&list_lock);
    dev->next = list;
    list = dev;
    look(dev);
    pthread_mutex_unlock(&list_lock);
    return 0;
}

static void callback_unregister(uint16_t port, enum rte_eth_event_type type)
{
    // Not while it runs; it may be waiting for list_lock, which isn't ours now.
    while (rte_eth_dev_callback_unregister(port, type, on_event, NULL) == -EAGAIN)
        usleep(1000);
}

void vif_ethdev_link_remove(struct ethdev *dev)
{
    pthread_mutex_lock(&list_lock);
    for (struct ethdev **at = &list; *at != NULL; at = &(*at)->next) {
        if (*at == dev) {
            *at = dev->next;
            break;
        }
    }
    pthread_mutex_unlock(&list_lock);
    if (dev->link_events)
        callback_unregister(dev->port, RTE_ETH_EVENT_INTR_LSC);
    callback_unregister(dev->port, RTE_ETH_EVENT_INTR_RMV);
    if (dev->tap_fd < 0)
        return;
    (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, dev->tap_fd, NULL);
    if (--tap_count == 0)
        link_thread_stop();
}
