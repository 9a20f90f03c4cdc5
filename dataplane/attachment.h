// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_ATTACHMENT_H
#define PATCHBAY_ATTACHMENT_H

// What a vhost vif is right now: its guest's memory and its rings. Made by the
// vhost callbacks when a driver is ready, hung behind vif->attachment,
// taken away (NULL, quiesce, indices pushed back to the library, freed) before
// the library changes anything that it describes.
//
// memory and the rings' addresses are immutable. Each virtqueue's mutable part
// belongs to one worker at a time: of a queue from the guest the worker that
// polls the vif, of a queue to the guest the holder of the txq's lock.

#include "guest_log.h"
#include "guest_memory.h"
#include "vif.h"
#include "virtqueue.h"

struct attachment {
    struct guest_memory memory;
    uint64_t features;    // negotiated virtio features
    uint64_t patience;    // TSC cycles that frames in a retired queue are kept
    uint16_t queue_pairs; // up to the last one whose rings are there; of those before some may have none (desc NULL)
    // An announcement waits to be sent in the guest's name, before its own
    // frames; written by the worker that polls queue 0.
    bool announce;
    uint32_t epoch; // see struct burst
    uint16_t mtu;   // that the front end gave its guest (VIRTIO_NET_F_MTU), bytes; 0: none
    struct {
        struct virtqueue from_guest; // the guest's transmitq: we receive here
        struct virtqueue to_guest;   // the guest's receiveq: we transmit here
    } queues[VIF_QUEUES_MAX];

    // Cold: the library's side.
    uint16_t looks; // how often packed rings that tell nothing may be read again, 1 ms apart, while they are attached
    int vid;
    int numa_node;                         // of its rings; negative: not known
    int watches[GUEST_MEMORY_REGIONS + 1]; // handles of sigbus.h; the last: of the log
    struct vif *vif;
    struct guest_log log; // while the guest is being migrated; the mapping is the connection's
    uint8_t announcement[LIMIT_FRAME_WIRE_MIN];
};

// What the callbacks know of a connection and the library doesn't tell.
struct attachment_config {
    const bool *enabled;         // by ring: the front end wants it processed
    const int32_t *known;        // by packed ring: what attachment_push told last; -1: nothing
    const uint64_t *used_log;    // by ring: where its used ring is logged; UINT64_MAX: where it lies
    const struct guest_log *log; // NULL: none
};

// Makes an attachment of what the library holds for the connection vid. The first
// pair must be there; others may, up to VIF_QUEUES_MAX. Rings are numbered 2 × pair: to the guest,
// 2 × pair + 1: from it. A memory table must be there. The caller owns it:
// attachment_free. Returns NULL with why in reason (size bytes), for the vif's
// state. A packed ring whose place can't be told is broken from the start.
struct attachment *attachment_create(struct vif *vif, int vid, const struct attachment_config *config, char *reason,
                                     size_t reason_size);

// How many pairs the guest uses: from the first on those that are enabled, both
// ways; and to the guest only.
uint16_t attachment_pairs_in_use(const struct attachment *attachment);
uint16_t attachment_tx_pairs(const struct attachment *attachment);

// Tells the library where the rings stand, so that it tells the guest; of packed
// rings that is noted in known. No worker uses the attachment any more.
void attachment_push(const struct attachment *attachment, int32_t *known);

// Frees it; closes its file descriptors. No worker uses it any more.
void attachment_free(struct attachment *attachment);

// Why a vif is broken whose memory has vanished; static.
extern const char attachment_memory_gone[];

// The ring of the library's number.
static inline struct virtqueue *attachment_ring(struct attachment *attachment, unsigned ring)
{
    return ring % 2 == 0 ? &attachment->queues[ring / 2].to_guest : &attachment->queues[ring / 2].from_guest;
}

// True if the guest's memory is all zeros where a running guest has something:
// the front end didn't share it. A guess; reads guest memory.
bool attachment_is_empty(const struct attachment *attachment);

#endif
