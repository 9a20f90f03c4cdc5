// SPDX-License-Identifier: BSD-3-Clause
// One virtqueue as its driver sees it: a split ring, or a packed one whose buffers take one descriptor each. The back
// end writes `used` and the packed ring's used descriptors, all else is ours.
#ifndef BENCH_QUEUE_H
#define BENCH_QUEUE_H

#include <err.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/eventfd.h>

struct queue {
    union {
        struct {
            struct vring_desc *desc;
            struct vring_avail *avail;
            struct vring_used *used;
        };
        struct {
            struct vring_packed_desc *ring;
            struct vring_packed_desc_event *driver_event;
            struct vring_packed_desc_event *device_event;
        };
    };
    uint16_t size, mask;
    bool packed, in_order;
    uint16_t avail_idx; // split: ours; avail->idx once published. Packed: the next descriptor to fill
    uint16_t used_idx;  // split: up to where the used ring was read. Packed: the next descriptor to become used
    bool avail_wrap, used_wrap;
    // Packed: the first descriptor since the last publish, whose flags are written then, so that all become available
    // at once.
    uint16_t first_idx, put_count;
    uint64_t first_word;
    uint16_t free_head, free_count;
    uint16_t *free_ids;  // descriptors that are free, a ring in the order in which they came back
    uint32_t *buffer_of; // by descriptor, or by buffer id in a packed ring
    int kick, call;
};

#define QUEUE_PACKED_AVAIL (UINT64_C(1) << (48 + VRING_PACKED_DESC_F_AVAIL))
#define QUEUE_PACKED_USED  (UINT64_C(1) << (48 + VRING_PACKED_DESC_F_USED))

// Length, id and flags of a packed descriptor. Acquire, pairs with the back end's release of the flags.
static inline uint64_t queue_word(const struct queue *q, uint16_t index)
{
    return __atomic_load_n((const uint64_t *)(const void *)&q->ring[index & q->mask].len, __ATOMIC_ACQUIRE);
}

// How many packed descriptors a used one at `index` stands for: with IN_ORDER a back end may write one for a batch,
// with the id of the last of them; ids are given out in the ring's order, so that they are its places then.
static inline uint16_t queue_batch(const struct queue *q, uint16_t index, uint64_t word)
{
    return q->in_order ? (uint16_t)((((uint16_t)(word >> 32) - index) & q->mask) + 1) : 1;
}

static inline uint16_t queue_packed_completed(const struct queue *q, uint16_t most)
{
    uint16_t outstanding = (uint16_t)(q->size - q->free_count), count = 0;

    if (most > outstanding)
        most = outstanding;
    while (count < most) {
        uint16_t index = (uint16_t)(q->used_idx + count);
        bool wrap = index < q->size ? q->used_wrap : !q->used_wrap;
        uint64_t both = QUEUE_PACKED_AVAIL | QUEUE_PACKED_USED, word = queue_word(q, index);

        if ((word & both) != (wrap ? both : 0))
            break;
        count += queue_batch(q, index & q->mask, word);
    }
    return count <= outstanding ? count : outstanding;
}

// How many completed descriptors wait, as far as `most` of them are asked for. Acquire, pairs with the back end's
// release: entries and buffers are read after it. A back end can't complete more than it was given; one that says so is
// broken, and is believed no further than our own arrays reach.
static inline uint16_t queue_completed(const struct queue *q, uint16_t most)
{
    uint16_t count, outstanding;

    if (q->packed)
        return queue_packed_completed(q, most);
    count = (uint16_t)(__atomic_load_n(&q->used->idx, __ATOMIC_ACQUIRE) - q->used_idx);
    outstanding = (uint16_t)(q->size - q->free_count);
    return count <= outstanding ? count : outstanding;
}

// The completed descriptor that comes after `ahead` others, and how much was written. A back end that names one that
// doesn't exist must not make us write elsewhere.
static inline uint16_t queue_peek(const struct queue *q, unsigned ahead, uint32_t *len)
{
    if (q->packed) {
        uint16_t index = (uint16_t)(q->used_idx + ahead) & q->mask;
        uint64_t word = queue_word(q, index);

        *len = (uint32_t)word;
        return (q->in_order ? index : (uint16_t)(word >> 32)) & q->mask;
    }
    const struct vring_used_elem *elem = &q->used->ring[(uint16_t)(q->used_idx + ahead) & q->mask];

    *len = elem->len;
    return (uint16_t)elem->id & q->mask;
}

// Takes the next completed descriptor.
static inline uint16_t queue_take(struct queue *q, uint32_t *len)
{
    uint16_t id = queue_peek(q, 0, len);

    q->used_idx++;
    if (q->packed && q->used_idx == q->size) {
        q->used_idx = 0;
        q->used_wrap = !q->used_wrap;
    }
    q->free_ids[(uint16_t)(q->free_head + q->free_count++) & q->mask] = id;
    return id;
}

// Puts buffer `number`, len bytes at `address`, into the ring; visible after queue_publish.
static inline void queue_put(struct queue *q, uint32_t number, uint64_t address, uint32_t len, uint16_t flags)
{
    uint16_t id = q->free_ids[q->free_head++ & q->mask];

    q->free_count--;
    q->buffer_of[id] = number;
    if (q->packed) {
        uint64_t word =
            (uint64_t)flags << 48 | (uint64_t)id << 32 | len | (q->avail_wrap ? QUEUE_PACKED_AVAIL : QUEUE_PACKED_USED);

        q->ring[q->avail_idx].addr = address;
        if (q->put_count++ == 0) {
            q->first_idx = q->avail_idx;
            q->first_word = word;
        } else {
            __atomic_store_n((uint64_t *)(void *)&q->ring[q->avail_idx].len, word, __ATOMIC_RELAXED);
        }
        if (++q->avail_idx == q->size) {
            q->avail_idx = 0;
            q->avail_wrap = !q->avail_wrap;
        }
        return;
    }
    q->desc[id] = (struct vring_desc){.addr = address, .len = len, .flags = flags};
    q->avail->ring[q->avail_idx++ & q->mask] = id;
}

static inline void queue_publish(struct queue *q)
{
    bool wanted;

    // Release, pairs with the back end's acquire of avail->idx, or of a descriptor's flags: what was written before is
    // seen by who sees that.
    if (q->packed && q->put_count > 0)
        __atomic_store_n((uint64_t *)(void *)&q->ring[q->first_idx].len, q->first_word, __ATOMIC_RELEASE);
    else if (!q->packed)
        __atomic_store_n(&q->avail->idx, q->avail_idx, __ATOMIC_RELEASE);
    q->put_count = 0;
    // That must be visible before the wish is read: a back end that is about to sleep writes its wish and then looks
    // once more.
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (q->packed)
        wanted = __atomic_load_n(&q->device_event->flags, __ATOMIC_RELAXED) != VRING_PACKED_EVENT_FLAG_DISABLE;
    else
        wanted = (__atomic_load_n(&q->used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY) == 0;
    if (wanted && eventfd_write(q->kick, 1) != 0)
        warn("kick");
}

#endif
