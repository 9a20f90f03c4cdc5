// SPDX-License-Identifier: BSD-3-Clause

#include "vhost_received.h"

#include <fcntl.h>
#include <linux/kcmp.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef F_DUPFD_QUERY
#define F_DUPFD_QUERY 1027 // Linux 6.10
#endif

// Watched: more descriptors than the daemon's own unit allows it; a guest with 16 pairs of queues takes 200.
enum { MESSAGE_FDS = 8, WATCHED_MAX = 1 << 20 };

static _Atomic uint64_t watched[WATCHED_MAX / 64];

// Of the last message: each descriptor, and a duplicate of our own. When the
// connection ends the duplicate tells whether the number still means the same
// file, or was closed by the library and perhaps opened anew by another thread.
static _Thread_local struct {
    int fd;
    int own;
} received[MESSAGE_FDS];
static _Thread_local unsigned received_count;

void vhost_received_watch(int fd)
{
    if (fd >= 0 && fd < WATCHED_MAX)
        atomic_fetch_or(&watched[fd / 64], UINT64_C(1) << fd % 64);
}

void vhost_received_unwatch(int fd)
{
    if (fd >= 0 && fd < WATCHED_MAX)
        atomic_fetch_and(&watched[fd / 64], ~(UINT64_C(1) << fd % 64));
}

static bool is_watched(int fd)
{
    return fd >= 0 && fd < WATCHED_MAX && (atomic_load(&watched[fd / 64]) >> fd % 64 & 1);
}

void vhost_received_taken(void)
{
    for (unsigned i = 0; i < received_count; i++)
        close(received[i].own);
    received_count = 0;
}

// False also where neither call is allowed: a leak is better than closing
// somebody else's descriptor.
static bool is_same_file(int fd, int own)
{
    int rc = fcntl(fd, F_DUPFD_QUERY, own);

    if (rc >= 0)
        return rc == 1;
    return syscall(SYS_kcmp, getpid(), getpid(), KCMP_FILE, fd, own) == 0;
}

void vhost_received_close(void)
{
    for (unsigned i = 0; i < received_count; i++) {
        if (is_same_file(received[i].fd, received[i].own))
            close(received[i].fd);
    }
    vhost_received_taken();
}

static void note(struct msghdr *message)
{
    vhost_received_taken();
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part != NULL; part = CMSG_NXTHDR(message, part)) {
        size_t count;

        if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
            continue;
        count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count && received_count < MESSAGE_FDS; i++) {
            int fd, own;

            memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(fd));
            own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
            if (own < 0)
                continue;
            received[received_count].fd = fd;
            received[received_count++].own = own;
        }
    }
}

// The whole process's, librte_vhost's above all.
ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
    ssize_t got = syscall(SYS_recvmsg, fd, message, flags);

    if (got >= 0 && is_watched(fd))
        note(message);
    return got;
}
