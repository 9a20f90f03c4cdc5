// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VIRTQUEUE_SPLIT_H
#define PATCHBAY_VIRTQUEUE_SPLIT_H

// What both directions of the split ring's engine share: access to the rings
// (virtio 1.2, 2.7). Every access to guest memory here is one load or store.

#include "virtqueue_access.h"
#include "virtqueue_log.h"

// How many chains the guest has made available and we haven't taken; at most
// size. The acquire pairs with the driver's barrier before its store of idx:
// ring entries and descriptors read after it are those it wrote before.
static inline uint16_t virtqueue_split_waiting(struct virtqueue *vq)
{
    uint16_t waiting = (uint16_t)(__atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE) - vq->last_avail);

    if (likely(waiting <= vq->size))
        return waiting;
    virtqueue_break(vq, "the available index jumped by more than the ring's size");
    return 0;
}

// Entry of the available ring at a free-running index; not yet checked.
static inline uint16_t virtqueue_avail(const struct virtqueue *vq, uint16_t index)
{
    return __atomic_load_n(&vq->avail->ring[index & (vq->size - 1)], __ATOMIC_RELAXED);
}

// Writes entry `ahead` after the last published one of the used ring.
static inline void virtqueue_split_use(const struct virtqueue *vq, uint16_t ahead, uint16_t head, uint32_t len)
{
    struct vring_used_elem *elem = &vq->used->ring[(uint16_t)(vq->last_used + ahead) & (vq->size - 1)];

    __atomic_store_n(&elem->id, head, __ATOMIC_RELAXED);
    __atomic_store_n(&elem->len, len, __ATOMIC_RELAXED);
}

// Makes `count` used entries visible. The release keeps the entries, and the
// frame bytes they stand for, before the index in the driver's eyes.
static inline void virtqueue_split_publish(struct virtqueue *vq, uint16_t count)
{
    vq->last_used += count;
    __atomic_store_n(&vq->used->idx, vq->last_used, __ATOMIC_RELEASE);
    if (unlikely(vq->log != NULL))
        virtqueue_log_used(vq, count);
}

// Where the descriptors of a chain stand: in the ring's table or in an
// indirect one.
struct virtqueue_table {
    const uint8_t *base;
    uint32_t count;
    bool indirect;
};

// The ring's own table, where every chain begins.
static inline struct virtqueue_table virtqueue_table_of_ring(const struct virtqueue *vq)
{
    return (struct virtqueue_table){.base = (const uint8_t *)vq->desc, .count = vq->size};
}

// If *desc (a local copy) refers to an indirect table, goes on there: *desc
// becomes its first entry. A chain may begin with direct descriptors and end in
// one such table (virtio 1.2, 2.7.5.3.2). False if no driver may build it:
// indirect without the feature, with NEXT or inside of an indirect table, empty
// or no whole number of descriptors, or not in one piece of guest memory.
static inline bool virtqueue_table_resolve(const struct virtqueue *vq, struct virtqueue_table *table,
                                           struct vring_desc *desc)
{
    uint32_t len = desc->len;

    if (likely(!(desc->flags & VRING_DESC_F_INDIRECT)))
        return true;
    if (!vq->indirect || table->indirect || (desc->flags & VRING_DESC_F_NEXT) || len == 0 ||
        len % sizeof(struct vring_desc) != 0)
        return false;
    table->indirect = true;
    table->base = guest_memory_at(vq->memory, desc->addr, &len);
    if (table->base == NULL || len != desc->len)
        return false;
    table->count = len / sizeof(struct vring_desc);
    *desc = virtqueue_desc_load(table->base);
    return !(desc->flags & VRING_DESC_F_INDIRECT);
}

// Goes on to the next descriptor of the chain. False: it lies beyond the table.
static inline bool virtqueue_table_next(const struct virtqueue_table *table, struct vring_desc *desc)
{
    if (unlikely(desc->next >= table->count))
        return false;
    *desc = virtqueue_desc_load(table->base + (size_t)desc->next * sizeof(*desc));
    return true;
}

#endif
