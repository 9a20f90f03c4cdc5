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

// How much of a frame is prefetched, in bytes. While its burst is looked at: the first line, and a longer one's head.
// Of a long one, from the copy of the frame that is VIRTQUEUE_PREFETCH_AHEAD before it: the rest, but no more than a
// few frames may take of the first-level cache. docs/performance.md says what that gains, and that it costs shorter
// ones.
enum {
    VIRTQUEUE_PREFETCH_LINE = 64,
    VIRTQUEUE_PREFETCH_HEAD = 4 * VIRTQUEUE_PREFETCH_LINE,
    VIRTQUEUE_PREFETCH_LONG = 12 * VIRTQUEUE_PREFETCH_LINE,
    VIRTQUEUE_PREFETCH_MOST = 32 * VIRTQUEUE_PREFETCH_LINE,
    VIRTQUEUE_PREFETCH_AHEAD = 2,
};

// Prefetches a frame's bytes, or the buffer for it. A guest may have given any
// address: it is a number here, since no object need be there.
static inline void virtqueue_prefetch_source(const uint8_t *data, uint32_t len)
{
    __builtin_prefetch(data, 0);
    if (len > VIRTQUEUE_PREFETCH_HEAD)
        for (uint32_t at = VIRTQUEUE_PREFETCH_LINE; at < VIRTQUEUE_PREFETCH_HEAD; at += VIRTQUEUE_PREFETCH_LINE)
            __builtin_prefetch((const void *)((uintptr_t)data + at), 0);
}

static inline void virtqueue_prefetch_target(uint8_t *host, uint32_t len)
{
    __builtin_prefetch(host, 1);
    if (len > VIRTQUEUE_PREFETCH_HEAD)
        for (uint32_t at = VIRTQUEUE_PREFETCH_LINE; at < VIRTQUEUE_PREFETCH_HEAD; at += VIRTQUEUE_PREFETCH_LINE)
            __builtin_prefetch((const void *)((uintptr_t)host + at), 1);
}

// Prefetches what of a frame of len bytes comes behind its head, in the sender's and the receiver's buffer.
static inline void virtqueue_prefetch_rest(const uint8_t *data, uint8_t *host, uint32_t len)
{
    if (len > VIRTQUEUE_PREFETCH_MOST)
        len = VIRTQUEUE_PREFETCH_MOST;
    for (uint32_t at = VIRTQUEUE_PREFETCH_HEAD; at < len; at += VIRTQUEUE_PREFETCH_LINE) {
        __builtin_prefetch((const void *)((uintptr_t)data + at), 0);
        __builtin_prefetch((const void *)((uintptr_t)host + at), 1);
    }
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
