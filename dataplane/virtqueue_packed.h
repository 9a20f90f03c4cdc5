// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VIRTQUEUE_PACKED_H
#define PATCHBAY_VIRTQUEUE_PACKED_H

// What both directions of the packed ring's engine share: access to the ring
// (virtio 1.2, 2.8). One ring holds what is available and what is used; two
// bits of a descriptor's flags say which it is, read against a wrap counter
// that changes whenever one comes by the ring's end.
//
// A descriptor's length, id and flags are its second 8 bytes, and every access
// to them is one load or store: none is seen half changed.

#include "virtqueue_access.h"
#include "virtqueue_log.h"

enum {
    // No driver may make longer chains than the device allows (virtio 1.2,
    // 2.8.20), and none has a use for as many as this. Up to here a chain that
    // is too long for a frame is given back.
    VIRTQUEUE_PACKED_CHAIN = 2 * LIMIT_FRAME_SEGMENTS,
};

#define VIRTQUEUE_PACKED_AVAIL (UINT64_C(1) << (48 + VRING_PACKED_DESC_F_AVAIL))
#define VIRTQUEUE_PACKED_USED  (UINT64_C(1) << (48 + VRING_PACKED_DESC_F_USED))
#define VIRTQUEUE_PACKED_BOTH  (VIRTQUEUE_PACKED_AVAIL | VIRTQUEUE_PACKED_USED)

// Places in the ring are told by how many descriptors they are ahead of
// vq->next, 0 … size − 1.
static inline uint32_t virtqueue_packed_index(const struct virtqueue *vq, uint32_t ahead)
{
    uint32_t index = vq->next + ahead;

    return index < vq->size ? index : index - vq->size;
}

// The ring's wrap counter at that place.
static inline bool virtqueue_packed_wrap(const struct virtqueue *vq, uint32_t ahead)
{
    return vq->next + ahead < vq->size ? vq->wrap : !vq->wrap;
}

// Length, id and flags of a descriptor. The acquire pairs with the driver's
// barrier before its store of a chain's first flags: what is read after it is
// what the driver wrote before.
static inline uint64_t virtqueue_packed_word(const struct virtqueue *vq, uint32_t index)
{
    return __atomic_load_n((const uint64_t *)(const void *)&vq->ring[index].len, __ATOMIC_ACQUIRE);
}

static inline uint32_t virtqueue_packed_len(uint64_t word)
{
    return (uint32_t)word;
}

static inline uint16_t virtqueue_packed_id(uint64_t word)
{
    return (uint16_t)(word >> 32);
}

static inline uint16_t virtqueue_packed_flags(uint64_t word)
{
    return (uint16_t)(word >> 48);
}

// Available where the wrap counter is `wrap` (virtio 1.2, 2.8.1): its AVAIL bit
// is the same, its USED bit isn't yet.
static inline bool virtqueue_packed_is_available(uint64_t word, bool wrap)
{
    return (word & VIRTQUEUE_PACKED_BOTH) == (wrap ? VIRTQUEUE_PACKED_AVAIL : VIRTQUEUE_PACKED_USED);
}

static inline uint64_t virtqueue_packed_address(const struct virtqueue *vq, uint32_t index)
{
    return __atomic_load_n(&vq->ring[index].addr, __ATOMIC_RELAXED);
}

// Fetches the next `count` descriptors; the driver has just written them.
static inline void virtqueue_packed_prefetch(const struct virtqueue *vq, uint32_t count)
{
    for (uint32_t ahead = 0; ahead < count; ahead += 64 / sizeof(struct vring_packed_desc))
        rte_prefetch0(&vq->ring[virtqueue_packed_index(vq, ahead)]);
}

// A used descriptor's length, id and flags. Without WRITE a driver needn't look
// at len (virtio 1.2, 2.8.4).
static inline uint64_t virtqueue_packed_used_word(uint16_t id, uint32_t len, bool wrap)
{
    return (wrap ? VIRTQUEUE_PACKED_BOTH : 0) | (len > 0 ? (uint64_t)VRING_DESC_F_WRITE << 48 : 0) |
           (uint64_t)id << 32 | len;
}

// A chain that is used up: its used descriptor's word without a wrap counter,
// and in the flags above WRITE, which a used descriptor has no use for, how many
// of the ring's descriptors it takes. One word, so that it is one store. NEXT stays in
// the first of several: drivers ignore it there (virtio 1.2, 2.8.6), and whoever reads the
// ring after a crash sees that what follows, as the driver wrote it, was used with it.
enum { VIRTQUEUE_PACKED_USED_CHAIN = 48 + 2 };
_Static_assert(VRING_DESC_F_NEXT == 1 && VRING_DESC_F_WRITE == 2 &&
                   VIRTQUEUE_PACKED_CHAIN < 1 << (64 - VIRTQUEUE_PACKED_USED_CHAIN),
               "a chain's length stands above its flags");

static inline uint64_t virtqueue_packed_used(uint16_t id, uint32_t len, uint32_t chain_len)
{
    return virtqueue_packed_used_word(id, len, false) | (uint64_t)(chain_len > 1 ? VRING_DESC_F_NEXT : 0) << 48 |
           (uint64_t)chain_len << VIRTQUEUE_PACKED_USED_CHAIN;
}

// What is used up in one call. The ring is written when it is published and not
// before, so that a crash finds it half written as seldom as can be. How many
// there are is the caller's to know.
struct virtqueue_packed_batch {
    uint32_t longer; // descriptors that they take, beyond one each
    // As many as a call can come to: a burst of plain ones, and those of a call's
    // and one more frame's bounded walks.
    uint64_t used[LIMIT_BURST_FRAMES + LIMIT_BURST_DESCRIPTORS + LIMIT_FRAME_SEGMENTS];
};

static inline void virtqueue_packed_begin(struct virtqueue_packed_batch *batch)
{
    batch->longer = 0;
}

// Uses a chain of chain_len descriptors up, len bytes having been written to
// it: the next in the ring's order, after `count` others.
static inline void virtqueue_packed_use(struct virtqueue_packed_batch *batch, uint32_t count, uint16_t id, uint32_t len,
                                        uint32_t chain_len)
{
    batch->used[count] = virtqueue_packed_used(id, len, chain_len);
    batch->longer += chain_len - 1;
}

// Writes and publishes `count` used descriptors, at least one: those of a batch,
// or, where that is NULL (at compile time), of frames, to which nothing was
// written. The driver reads used descriptors in ring order, so all are hidden
// behind the first as long as that isn't written. The release keeps the others,
// and the frame bytes they all stand for, before the first one's flags in the
// driver's eyes.
__attribute__((always_inline)) static inline void virtqueue_packed_publish(struct virtqueue *vq, const uint64_t *batch,
                                                                           const struct frame *frames, uint32_t count)
{
    const uint64_t content = (UINT64_C(1) << VIRTQUEUE_PACKED_USED_CHAIN) - 1;
    const uint32_t size = vq->size;
    struct vring_packed_desc *ring = vq->ring;
    uint64_t marks = vq->wrap ? VIRTQUEUE_PACKED_BOTH : 0, first = 0;
    uint32_t index = vq->next, descs = 0;

    for (uint32_t i = 0; i < count; i++) {
        uint64_t used = batch != NULL ? batch[i] : virtqueue_packed_used(frames[i].id, 0, frames[i].chain_len);
        uint32_t chain_len = (uint32_t)(used >> VIRTQUEUE_PACKED_USED_CHAIN);

        used = (used & content) | marks;
        if (i == 0)
            first = used;
        else
            __atomic_store_n((uint64_t *)(void *)&ring[index].len, used, __ATOMIC_RELAXED);
        descs += chain_len;
        index += chain_len;
        if (unlikely(index >= size)) {
            index -= size;
            marks ^= VIRTQUEUE_PACKED_BOTH;
        }
    }
    __atomic_store_n((uint64_t *)(void *)&ring[vq->next].len, first, __ATOMIC_RELEASE);
    if (unlikely(vq->log != NULL))
        virtqueue_log_ring(vq, vq->next, descs);
    vq->next = (uint16_t)index;
    vq->wrap = marks != 0;
    vq->unsignalled += descs;
}

// A walk over a chain (virtio 1.2, 2.8.6 and 2.8.8).
struct virtqueue_packed_chain {
    uint32_t ahead; // where its head stands
    uint32_t len;   // descriptors of the ring walked so far
    uint64_t word;  // of the last of them
    // Entries of an indirect table behind the one in hand; they follow each
    // other. NULL: the walk is in the ring.
    const uint8_t *entry;
    uint32_t entries;
};

// As a split ring's descriptor. NEXT and INDIRECT mean the same there.
static inline struct vring_desc virtqueue_packed_desc(const struct virtqueue *vq, uint32_t index, uint64_t word)
{
    return (struct vring_desc){
        .addr = virtqueue_packed_address(vq, index),
        .len = virtqueue_packed_len(word),
        .flags = virtqueue_packed_flags(word) & (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT),
    };
}

// Begins at the chain that stands `ahead`, with its first descriptor in *desc.
// False: none is available there.
static inline bool virtqueue_packed_chain_begin(const struct virtqueue *vq, struct virtqueue_packed_chain *chain,
                                                uint32_t ahead, struct vring_desc *desc)
{
    uint32_t index;
    uint64_t word;

    if (ahead >= vq->size)
        return false;
    index = virtqueue_packed_index(vq, ahead);
    word = virtqueue_packed_word(vq, index);
    if (!virtqueue_packed_is_available(word, virtqueue_packed_wrap(vq, ahead)))
        return false;
    *chain = (struct virtqueue_packed_chain){.ahead = ahead, .len = 1, .word = word};
    *desc = virtqueue_packed_desc(vq, index, word);
    return true;
}

// Goes on in the ring. False: the ring can't be, and is stopped. A driver makes
// a chain's head available last, so all of it is.
static inline bool virtqueue_packed_chain_step(struct virtqueue *vq, struct virtqueue_packed_chain *chain)
{
    uint32_t ahead = chain->ahead + chain->len;

    if (chain->len == VIRTQUEUE_PACKED_CHAIN) {
        virtqueue_break(vq, "a chain has more than 512 descriptors");
        return false;
    }
    if (ahead < vq->size) {
        chain->word = virtqueue_packed_word(vq, virtqueue_packed_index(vq, ahead));
        if (likely(virtqueue_packed_is_available(chain->word, virtqueue_packed_wrap(vq, ahead)))) {
            chain->len++;
            return true;
        }
    }
    virtqueue_break(vq, "a chain goes on beyond the available descriptors");
    return false;
}

// Goes to the end of the chain, whose last descriptor has the buffer's id.
// False: the ring is stopped.
static inline bool virtqueue_packed_chain_end(struct virtqueue *vq, struct virtqueue_packed_chain *chain)
{
    while (unlikely(virtqueue_packed_flags(chain->word) & VRING_DESC_F_NEXT)) {
        if (!virtqueue_packed_chain_step(vq, chain))
            return false;
    }
    return true;
}

// Takes the next entry of the indirect table. Of its flags only WRITE means
// anything; NEXT is set here while there are more.
static inline struct vring_desc virtqueue_packed_chain_entry(struct virtqueue_packed_chain *chain)
{
    struct vring_desc entry = virtqueue_desc_load(chain->entry);

    // A packed descriptor has id and flags where a split one has flags and next.
    entry.flags = entry.next & VRING_DESC_F_WRITE;
    chain->entry += sizeof(entry);
    if (--chain->entries > 0)
        entry.flags |= VRING_DESC_F_NEXT;
    return entry;
}

// If *desc refers to an indirect table, goes on there: *desc becomes its first
// entry. False if no driver may build it: indirect without the feature or in a
// chain, a table that is empty, no whole number of descriptors, or not in one
// piece of guest memory.
static inline bool virtqueue_packed_chain_resolve(const struct virtqueue *vq, struct virtqueue_packed_chain *chain,
                                                  struct vring_desc *desc)
{
    uint32_t len = desc->len;

    if (likely(!(desc->flags & VRING_DESC_F_INDIRECT)))
        return true;
    if (!vq->indirect || chain->len > 1 || (desc->flags & VRING_DESC_F_NEXT) || len == 0 ||
        len % sizeof(struct vring_packed_desc) != 0)
        return false;
    chain->entry = guest_memory_at(vq->memory, desc->addr, &len);
    if (chain->entry == NULL || len != desc->len)
        return false;
    chain->entries = len / (uint32_t)sizeof(struct vring_packed_desc);
    *desc = virtqueue_packed_chain_entry(chain);
    return true;
}

// Goes on to the chain's next descriptor; only where *desc has NEXT. False: the
// ring is stopped.
static inline bool virtqueue_packed_chain_next(struct virtqueue *vq, struct virtqueue_packed_chain *chain,
                                               struct vring_desc *desc)
{
    if (chain->entry != NULL) {
        *desc = virtqueue_packed_chain_entry(chain);
        return true;
    }
    if (!virtqueue_packed_chain_step(vq, chain))
        return false;
    *desc = virtqueue_packed_desc(vq, virtqueue_packed_index(vq, chain->ahead + chain->len - 1), chain->word);
    return true;
}

#endif
