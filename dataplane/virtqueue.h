// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VIRTQUEUE_H
#define PATCHBAY_VIRTQUEUE_H

// One virtqueue as the device sees it: a split ring (virtio 1.2, 2.7) or a
// packed one (2.8). Their engines are in virtqueue_split_*.c and
// virtqueue_packed_*.c.
//
// The guest may change every byte of the rings at any time. Rules: a
// descriptor is copied once into a local, and only the local is checked and
// used; indices that the guest gives are checked against the size; what we
// wrote (used ring, our event index) is never read back.

#include "frame.h"
#include "guest_memory.h"
#include "patchbay/counters.h"

#include <linux/virtio_ring.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct guest_log;

struct virtqueue {
    // Immutable while attached. Host addresses in guest memory, each checked
    // for its full length: desc 16 × size; avail 6 + 2 × size; used 6 + 8 × size bytes.
    // Or, of a packed ring: ring 16 × size; the event structures 4 bytes each.
    union {
        struct {
            struct vring_desc *desc;
            struct vring_avail *avail;
            struct vring_used *used;
        };
        struct {
            struct vring_packed_desc *ring;
            const struct vring_packed_desc_event *driver_event;
            struct vring_packed_desc_event *device_event;
        };
    };
    const struct guest_memory *memory;
    const struct guest_log *log; // of a live migration; NULL: writes needn't be logged
    uint16_t size;               // entries; 1 … 32768; a power of 2 if split
    bool packed;                 // VIRTIO_F_RING_PACKED
    bool in_order;               // VIRTIO_F_IN_ORDER
    uint8_t hdr_len;             // bytes of virtio_net_hdr: 12, or 10 without VERSION_1 and MRG_RXBUF
    bool event_idx;              // VIRTIO_RING_F_EVENT_IDX
    bool indirect;               // VIRTIO_RING_F_INDIRECT_DESC
    bool mergeable;              // VIRTIO_NET_F_MRG_RXBUF
    // enum offload, negotiated: what the guest's frames may leave undone (of a
    // ring from it; 0: its headers aren't read), or what it takes (of one to it).
    uint8_t offloads;
    bool enabled; // the front end enabled it (SET_VRING_ENABLE)
    bool retired; // it has disabled it since, and the guest goes on with others; see vif_vhost.c
    int kick_fd;  // ours (dup'ed), −1: none; readable when the guest notified us
    int call_fd;  // ours (dup'ed), an eventfd; −1: the guest polls

    // The owner's (see attachment.h). Of a split ring: last_avail counts chains
    // taken, last_used chains given back; with in-order completion they are
    // equal at rest.
    uint16_t last_avail;
    uint16_t last_used;
    uint16_t signalled_used; // used index at the last notification
    // Of a packed ring: the descriptor at which the next available chain begins
    // and, completion being in order, the next used one is written, 0 … size − 1;
    // the ring's wrap counter there; descriptors used since the last notification.
    uint16_t next;
    bool wrap;
    uint32_t unsignalled;
    bool signalled_valid;        // false after attach: then the first use signals
    uint32_t walked;             // to the guest: descriptors walked for this burst so far
    bool armed;                  // the guest is asked to notify us
    bool drained;                // retired, and it was seen empty since
    uint64_t late_since;         // drained: TSC at which frames were there again; 0: none
    _Atomic uint64_t bad_chains; // receive buffers that were none; given back empty
    // Why the queue is stopped: its ring can't be what a driver writes.
    // Written once by the owner, read by any thread; static string, NULL: sound.
    _Atomic(const char *) broken;

    // Immutable and cold: the bytes at used, and the guest address at which
    // they are logged.
    uint32_t used_size;
    uint64_t used_log;
};

// Receives up to a burst of frames from the ring into views of guest memory.
// Chains that are no frame (bad addresses, loops, wrong direction, runts,
// giants, headers that can't be true) end the burst, or, at its front, are given back at once and counted
// in discarded (VIF_DISCARD_REASON_COUNT, relaxed). Returns burst->count.
uint16_t virtqueue_split_receive(struct virtqueue *vq, struct burst *burst, _Atomic uint64_t *discarded);
uint16_t virtqueue_packed_receive(struct virtqueue *vq, struct burst *burst, _Atomic uint64_t *discarded);

static inline uint16_t virtqueue_receive(struct virtqueue *vq, struct burst *burst, _Atomic uint64_t *discarded)
{
    return vq->packed ? virtqueue_packed_receive(vq, burst, discarded) : virtqueue_split_receive(vq, burst, discarded);
}

// Gives the chains of the first `taken` frames of the burst back, in ring
// order (an invariant: it is what lets a ring resume after a crash), and
// notifies the guest if it wants that.
void virtqueue_split_complete(struct virtqueue *vq, const struct burst *burst, uint16_t taken);
void virtqueue_packed_complete(struct virtqueue *vq, const struct burst *burst, uint16_t taken);

static inline void virtqueue_complete(struct virtqueue *vq, const struct burst *burst, uint16_t taken)
{
    if (vq->packed)
        virtqueue_packed_complete(vq, burst, taken);
    else
        virtqueue_split_complete(vq, burst, taken);
}

// Copies frames [first, first + count) into the guest's receive buffers and
// makes them visible by one store; see vif_ops.transmit. The caller holds the
// txq's lock and calls virtqueue_notify once afterwards.
uint16_t virtqueue_split_transmit(struct virtqueue *vq, const struct burst *burst, uint16_t first, uint16_t count,
                                  enum transmit_stop *stop);
uint16_t virtqueue_packed_transmit(struct virtqueue *vq, const struct burst *burst, uint16_t first, uint16_t count,
                                   enum transmit_stop *stop);

static inline uint16_t virtqueue_transmit(struct virtqueue *vq, const struct burst *burst, uint16_t first,
                                          uint16_t count, enum transmit_stop *stop)
{
    return vq->packed ? virtqueue_packed_transmit(vq, burst, first, count, stop)
                      : virtqueue_split_transmit(vq, burst, first, count, stop);
}

// The same, and each load is stored a second time into tap's buffers, where it
// has room. tap's counters are added to. The first is for two split rings, the
// second for any two of which one is packed.
uint16_t virtqueue_split_transmit_tapped(struct virtqueue *vq, struct virtqueue *tap, const struct burst *burst,
                                         uint16_t first, uint16_t count, enum transmit_stop *stop,
                                         struct tap_count *counts);
uint16_t virtqueue_packed_transmit_tapped(struct virtqueue *vq, struct virtqueue *tap, const struct burst *burst,
                                          uint16_t first, uint16_t count, enum transmit_stop *stop,
                                          struct tap_count *counts);

static inline uint16_t virtqueue_transmit_tapped(struct virtqueue *vq, struct virtqueue *tap, const struct burst *burst,
                                                 uint16_t first, uint16_t count, enum transmit_stop *stop,
                                                 struct tap_count *counts)
{
    return vq->packed || tap->packed ? virtqueue_packed_transmit_tapped(vq, tap, burst, first, count, stop, counts)
                                     : virtqueue_split_transmit_tapped(vq, tap, burst, first, count, stop, counts);
}

// Notifies the guest of used buffers if it asked for it (virtio 1.2, 2.7.7 and
// 2.7.10, or 2.8.10). Returns true if it did.
bool virtqueue_split_notify(struct virtqueue *vq);
bool virtqueue_packed_notify(struct virtqueue *vq);

static inline bool virtqueue_notify(struct virtqueue *vq)
{
    return vq->packed ? virtqueue_packed_notify(vq) : virtqueue_split_notify(vq);
}

// Asks the guest for a notification of the next available buffer, then looks
// again: true if there is still none (armed), false if there is one (disarmed).
bool virtqueue_split_arm(struct virtqueue *vq);
bool virtqueue_packed_arm(struct virtqueue *vq);
void virtqueue_split_disarm(struct virtqueue *vq);
void virtqueue_packed_disarm(struct virtqueue *vq);

static inline bool virtqueue_arm(struct virtqueue *vq)
{
    return vq->packed ? virtqueue_packed_arm(vq) : virtqueue_split_arm(vq);
}

static inline void virtqueue_disarm(struct virtqueue *vq)
{
    if (vq->packed)
        virtqueue_packed_disarm(vq);
    else
        virtqueue_split_disarm(vq);
}

#endif
