// SPDX-License-Identifier: BSD-3-Clause

// What the engines wrote, for the dirty log; only while a guest is being
// migrated. Found by host address, so that the rest of the engines needn't carry
// guest addresses along.

#include "virtqueue_log.h"

#include "guest_log.h"

void virtqueue_log_write(const struct virtqueue *vq, const void *host, uint64_t len)
{
    uint64_t into_used = (uint64_t)(uintptr_t)host - (uint64_t)(uintptr_t)vq->used;

    // The front end may have said where the used ring is logged.
    if (into_used < vq->used_size) {
        guest_log_mark(vq->log, vq->used_log + into_used, len);
        return;
    }
    for (uint32_t i = 0; i < vq->memory->count; i++) {
        const struct guest_region *region = &vq->memory->regions[i];
        uint64_t guest = (uint64_t)(uintptr_t)host - region->offset;

        if (guest - region->guest < region->size) {
            guest_log_mark(vq->log, guest, len);
            return;
        }
    }
}

void virtqueue_log_used(const struct virtqueue *vq, uint16_t count)
{
    uint16_t first = (uint16_t)(vq->last_used - count) & (vq->size - 1);
    uint32_t left = (uint32_t)vq->size - first; // entries before the ring's end

    if (left > count)
        left = count;
    virtqueue_log_write(vq, &vq->used->ring[first], left * sizeof(vq->used->ring[0]));
    if (count > left)
        virtqueue_log_write(vq, &vq->used->ring[0], (count - left) * sizeof(vq->used->ring[0]));
    virtqueue_log_write(vq, &vq->used->idx, sizeof(vq->used->idx));
}

void virtqueue_log_ring(const struct virtqueue *vq, uint16_t index, uint32_t descs)
{
    uint32_t left = (uint32_t)vq->size - index; // before the ring's end

    if (left > descs)
        left = descs;
    virtqueue_log_write(vq, &vq->ring[index], left * sizeof(vq->ring[0]));
    if (descs > left)
        virtqueue_log_write(vq, &vq->ring[0], (descs - left) * sizeof(vq->ring[0]));
}
