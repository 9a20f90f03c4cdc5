// SPDX-License-Identifier: BSD-3-Clause

// What a worker waits on while a guest's ring is at rest: an epoll set that
// exists as long as the vif, with the guest's kick eventfd in it while there is
// one. So a driver that comes or goes changes nothing in the worker's own set,
// and an attach can wake just the queue that it is about.
//
// The guest holds its eventfd open too and may make it blocking or empty it at
// any time, so that a read could stop the worker: instead of reading, the set
// is edge-triggered and emptied with a zero timeout.

#include "vif_vhost.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

static int add(int set, int fd)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};

    return epoll_ctl(set, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : -errno;
}

int vif_vhost_wake_open(struct vhost_wake *wake)
{
    wake->bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    wake->set = epoll_create1(EPOLL_CLOEXEC);
    if (wake->bell < 0 || wake->set < 0 || add(wake->set, wake->bell) != 0) {
        int err = errno;

        vif_vhost_wake_close(wake);
        return -err;
    }
    return 0;
}

void vif_vhost_wake_close(struct vhost_wake *wake)
{
    if (wake->set >= 0)
        close(wake->set);
    if (wake->bell >= 0)
        close(wake->bell);
    wake->set = wake->bell = -1;
}

int vif_vhost_wake_add(struct vhost_wake *wake, int kick_fd)
{
    return kick_fd < 0 ? 0 : add(wake->set, kick_fd);
}

void vif_vhost_wake_remove(struct vhost_wake *wake, int kick_fd)
{
    if (kick_fd >= 0)
        (void)epoll_ctl(wake->set, EPOLL_CTL_DEL, kick_fd, NULL);
}

void vif_vhost_wake_ring(struct vhost_wake *wake)
{
    (void)eventfd_write(wake->bell, 1);
}

void vif_vhost_wake_calm(struct vhost_wake *wake)
{
    struct epoll_event events[2];

    (void)epoll_wait(wake->set, events, 2, 0);
}
