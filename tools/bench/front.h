// SPDX-License-Identifier: BSD-3-Clause
// The front end's half of the vhost-user protocol, as much as a driver with one queue pair needs
// (https://qemu-project.gitlab.io/qemu/interop/vhost-user.html).
#ifndef BENCH_FRONT_H
#define BENCH_FRONT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VIRTIO_F_VERSION_1_BIT    (UINT64_C(1) << 32)
#define VIRTIO_NET_F_MRG_BIT      (UINT64_C(1) << 15)
#define VIRTIO_F_IN_ORDER_BIT     (UINT64_C(1) << 35)
#define VIRTIO_F_RING_PACKED_BIT  (UINT64_C(1) << 34)
#define VHOST_USER_F_PROTOCOL_BIT (UINT64_C(1) << 30)

enum { FRONT_QUEUES = 2 }; // receive, transmit

// What the back end is told of one queue; the addresses are ours and lie in the shared memory.
struct front_queue {
    void *desc;
    void *avail;
    void *used;
    uint16_t size;
    uint32_t base; // where the back end begins
    int kick;
    int call;
};

struct front_memory {
    void *base;
    size_t size; // bytes
    int fd;
};

// Connects to `path`, or waits there for a connection when `server`, until the time `deadline` (CLOCK_MONOTONIC
// seconds) or until the program is told to stop. Returns the socket, which the caller closes, or -errno after an error
// message that begins with `name`.
int front_connect(const char *name, const char *path, bool server, double deadline);

// Negotiates `wanted` features (those that the back end lacks are left out; VERSION_1 must be there), shares the
// memory and starts both queues. On return the back end has handled all of it. Returns 0 with the negotiated set in
// `features`, or -errno after an error message.
int front_start(int fd, const char *name, uint64_t wanted, uint64_t *features, const struct front_memory *memory,
                const struct front_queue queues[FRONT_QUEUES]);

// Asks the back end to stop both queues, for at most two seconds.
void front_stop(int fd);

#endif
