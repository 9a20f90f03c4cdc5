// SPDX-License-Identifier: BSD-3-Clause

// Adaptive polling of ethdevs.

#include "eal_log.h"
#include "vif_ethdev.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <unistd.h>

// A NIC's interrupt arrives by an eventfd, which stays readable until it is
// read; a TAP's descriptor is the interface itself, where a read takes a frame.
static bool is_event(int fd)
{
    char path[64], target[64];
    ssize_t len;

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    len = readlink(path, target, sizeof(target) - 1);
    if (len < 0)
        return false;
    target[len] = '\0';
    return strcmp(target, "anon_inode:[eventfd]") == 0;
}

void vif_ethdev_wake_init(struct ethdev *dev, uint16_t queues)
{
    char said[256];

    for (uint16_t queue = 0; queue < VIF_QUEUES_MAX; queue++)
        dev->wake_fd[queue] = -1;
    // Drivers without interrupts say so as an error.
    eal_log_capture_begin(true);
    for (uint16_t queue = 0; queue < queues; queue++) {
        int fd = rte_eth_dev_rx_intr_ctl_q_get_fd(dev->port, queue);
        int flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
        bool enabled;

        if (flags < 0 || !(flags & O_NONBLOCK))
            continue;
        enabled = rte_eth_dev_rx_intr_enable(dev->port, queue) == 0;
        if (enabled)
            rte_eth_dev_rx_intr_disable(dev->port, queue);
        dev->wake_is_event = is_event(fd);
        // An eventfd that nothing rings is worth nothing.
        if (dev->wake_is_event && !enabled)
            continue;
        dev->rx_interrupt = enabled;
        dev->wake_fd[queue] = fd;
    }
    eal_log_capture_end(said, sizeof(said));
}

int vif_ethdev_wake_fd(struct vif *vif, uint16_t queue)
{
    struct ethdev *dev = vif_ethdev(vif);

    // A deleted TAP's descriptor is in error for ever.
    return unlikely(atomic_load_explicit(&dev->gone, memory_order_relaxed)) ? dev->quiet_fd : dev->wake_fd[queue];
}

// Whether a TAP's interface was deleted. The worker may be the first to see it,
// and would be woken by the error over and over until others do.
static bool tap_is_gone(struct vif *vif, struct ethdev *dev)
{
    struct pollfd queue = {.fd = dev->tap_fd};

    if (dev->tap_fd < 0 || poll(&queue, 1, 0) <= 0 || !(queue.revents & POLLERR))
        return false;
    atomic_store_explicit(&dev->gone, true, memory_order_relaxed);
    vif_mark_broken(vif, VIF_ETHDEV_TAP_GONE);
    return true;
}

bool vif_ethdev_arm(struct vif *vif, uint16_t queue)
{
    struct ethdev *dev = vif_ethdev(vif);
    struct ethdev_rxq *rxq = &dev->rxq[queue];

    if (rxq->head != rxq->count)
        return false;
    if (unlikely(atomic_load_explicit(&dev->gone, memory_order_relaxed) || tap_is_gone(vif, dev)))
        return true;
    if (dev->wake_is_event && dev->wake_fd[queue] >= 0) {
        uint64_t rings;

        // Non-blocking: it may be empty, which is as well.
        if (read(dev->wake_fd[queue], &rings, sizeof(rings)) < 0 && errno != EAGAIN && errno != EINTR)
            return false;
    }
    if (dev->rx_interrupt)
        rte_eth_dev_rx_intr_enable(dev->port, queue);
    // The enabling must be seen by the device before we look again, or a frame
    // that comes between rings nobody.
    atomic_thread_fence(memory_order_seq_cst);
    if (vif_ethdev_poll(vif, queue) == 0)
        return true;
    vif_ethdev_disarm(vif, queue);
    return false;
}

void vif_ethdev_disarm(struct vif *vif, uint16_t queue)
{
    struct ethdev *dev = vif_ethdev(vif);

    if (dev->rx_interrupt)
        rte_eth_dev_rx_intr_disable(dev->port, queue);
}
