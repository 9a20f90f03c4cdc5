// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VIRTQUEUE_ACCESS_H
#define PATCHBAY_VIRTQUEUE_ACCESS_H

// What both rings' engines share in dealing with a guest: descriptors that are
// copied once, prefetches, counters, and stopping a queue.

#include "virtqueue.h"

#include <rte_branch_prediction.h>
#include <rte_prefetch.h>
#include <string.h>

static inline void counter_add_relaxed(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value, memory_order_relaxed);
}

// Prefetches a frame's bytes, or the buffer for it: its first line, and of a
// longer one as many as it takes until the CPU's own prefetcher follows. A guest
// may have given any address: it is a number here, since no object need be there.
static inline void virtqueue_prefetch_source(const uint8_t *data, uint32_t len)
{
    __builtin_prefetch(data, 0);
    if (len > 256)
        for (unsigned line = 1; line < 4; line++)
            __builtin_prefetch((const void *)((uintptr_t)data + 64 * line), 0);
}

static inline void virtqueue_prefetch_target(uint8_t *host, uint32_t len)
{
    __builtin_prefetch(host, 1);
    if (len > 256)
        for (unsigned line = 1; line < 4; line++)
            __builtin_prefetch((const void *)((uintptr_t)host + 64 * line), 1);
}

// Stops the queue until the driver resets it. The worker that sees it tells the
// vif (vif_mark_broken); reason is static.
static inline void virtqueue_break(struct virtqueue *vq, const char *reason)
{
    atomic_store_explicit(&vq->broken, reason, memory_order_relaxed);
}

static inline bool virtqueue_is_broken(const struct virtqueue *vq)
{
    return atomic_load_explicit((_Atomic(const char *) *)&vq->broken, memory_order_relaxed) != NULL;
}

// Copies a descriptor once. After the barrier the compiler can't read the
// guest's memory again in place of the copy. memcpy, since an indirect table
// has any alignment.
static inline struct vring_desc virtqueue_desc_load(const void *from)
{
    struct vring_desc desc;
    uint64_t words[2];

    memcpy(words, from, sizeof(words));
    __asm__("" : "+r"(words[0]), "+r"(words[1]));
    memcpy(&desc, words, sizeof(desc));
    return desc;
}

#endif
