// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VIRTQUEUE_PACKED_RESUME_H
#define PATCHBAY_VIRTQUEUE_PACKED_RESUME_H

#include "virtqueue.h"

// Sets vq->next and vq->wrap where the front end says that the device stands
// (base: the descriptor, below vq->size, and in bit 15 the wrap counter), or
// where the ring shows that it does. Of a batch that was being published when
// the device died it publishes the rest; to_guest: it has frames. Reads each
// descriptor a few times; no worker uses the ring. believe: a ring that tells nothing, but doesn't
// contradict, stands where the front end says; not before it was looked at more than once,
// since a driver that writes to it makes it unreadable for a moment. False: it can't be told, and
// a device that went on at the wrong place would wait for ever.
bool virtqueue_packed_resume(struct virtqueue *vq, uint16_t base, bool to_guest, bool believe);

// Why a ring is broken then; static.
extern const char virtqueue_packed_index_lost[];

#endif
