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

#include "guest_memory.h"
#include "vif.h"
#include "virtqueue.h"

struct attachment {
    struct guest_memory memory;
    uint64_t features; // negotiated virtio features
    uint16_t queue_pairs;
    struct {
        struct virtqueue from_guest; // the guest's transmitq: we receive here
        struct virtqueue to_guest;   // the guest's receiveq: we transmit here
    } queues[VIF_QUEUES_MAX];

    // Cold: the library's side.
    int vid;
};

#endif
