// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VIRTQUEUE_TARGET_H
#define PATCHBAY_VIRTQUEUE_TARGET_H

// Frames to a guest, whatever its ring: virtio 1.2, 5.1.6.3 and 5.1.6.4. The
// common frame fits into one plain buffer, and that path is here, inline; any
// other frame and buffers go by virtqueue_target.c.
//
// What differs between rings is how available buffers are found
// (target_open), how one is used up (target_use) and how all of them become
// visible (target_close). `packed` is the ring's kind, a constant where speed
// matters: a frame for two rings knows both kinds without being written twice.

#include "copy.h"
#include "offload.h"
#include "virtqueue_chain.h"

#include <endian.h>

// The next available chains, looked at ahead of the copies so that their cache
// misses overlap. A slot is plain when the chain is one writable descriptor in
// one region, which is what drivers post; len is 0 for any other.
struct target_slot {
    uint8_t *host;
    uint32_t len;
    uint16_t id; // the chain's head, or the buffer's id in a packed ring
};

enum { TARGET_ROOM_UNKNOWN = UINT16_MAX };

// A receiver during one call: its ring and how far we are in it. Nothing is
// published before the end, so rolling a frame back is not advancing.
struct target {
    struct virtqueue *vq;
    uint16_t room;                       // chains available at the start; TARGET_ROOM_UNKNOWN: at least `prepared`
    uint16_t taken;                      // of them used up by frames
    uint16_t prepared;                   // slots looked at
    uint32_t walked;                     // descriptors looked at but for those of plain slots
    struct virtqueue_packed_batch batch; // of a packed ring: what is used up
    struct target_slot slots[LIMIT_BURST_FRAMES];
};

// Of a chain's one descriptor, in *slot.
static inline void target_slot_fill(const struct virtqueue *vq, struct target_slot *slot, const struct vring_desc *desc,
                                    uint32_t frame_len)
{
    slot->len = desc->len;
    slot->host = guest_memory_at(vq->memory, desc->addr, &slot->len);
    if (unlikely(slot->len != desc->len || (desc->flags & (VRING_DESC_F_WRITE | VRING_DESC_F_NEXT |
                                                           VRING_DESC_F_INDIRECT)) != VRING_DESC_F_WRITE))
        slot->len = 0;
    else
        virtqueue_prefetch_target(slot->host, frame_len); // usually the frame that it will get
}

static inline void target_open_split(struct target *target, struct virtqueue *vq, const struct frame *frames,
                                     uint16_t want)
{
    target->room = virtqueue_split_waiting(vq);
    // While writes are logged no buffer is plain: the other way knows its pieces.
    target->prepared = unlikely(vq->log != NULL) ? 0 : target->room < want ? target->room : want;
    for (uint16_t i = 0; i < target->prepared; i++) {
        uint16_t head = virtqueue_avail(vq, vq->last_avail + i);

        target->slots[i].id = head;
        rte_prefetch0(&vq->desc[head & (vq->size - 1)]);
    }
    for (uint16_t i = 0; i < target->prepared; i++) {
        struct target_slot *slot = &target->slots[i];
        struct vring_desc desc = virtqueue_desc_load(&vq->desc[slot->id & (vq->size - 1)]);

        target_slot_fill(vq, slot, &desc, frames[i].len);
        if (unlikely(slot->id >= vq->size))
            slot->len = 0;
    }
}

// Slots end before a chain of several descriptors: what comes behind it isn't
// where it would be looked for.
static inline void target_open_packed(struct target *target, struct virtqueue *vq, const struct frame *frames,
                                      uint16_t want)
{
    uint32_t limit = want < vq->size ? want : vq->size;

    virtqueue_packed_begin(&target->batch);
    target->room = want < vq->size ? TARGET_ROOM_UNKNOWN : vq->size;
    target->prepared = 0;
    if (unlikely(vq->log != NULL)) { // see target_open_split
        target->room = TARGET_ROOM_UNKNOWN;
        return;
    }
    virtqueue_packed_prefetch(vq, limit);
    for (uint32_t i = 0; i < limit; i++) {
        struct target_slot *slot = &target->slots[i];
        struct virtqueue_packed_chain chain;
        struct vring_desc desc;

        if (unlikely(!virtqueue_packed_chain_begin(vq, &chain, i, &desc))) {
            target->room = (uint16_t)i;
            break;
        }
        if (unlikely(desc.flags & VRING_DESC_F_NEXT)) {
            target->room = TARGET_ROOM_UNKNOWN;
            break;
        }
        slot->id = virtqueue_packed_id(chain.word);
        target_slot_fill(vq, slot, &desc, frames[i].len);
        target->prepared++;
    }
}

// frames: those that it is opened for, `want` of them.
static inline void target_open(struct target *target, bool packed, struct virtqueue *vq, const struct frame *frames,
                               uint16_t want)
{
    target->vq = vq;
    target->taken = 0;
    target->walked = 0;
    if (packed)
        target_open_packed(target, vq, frames, want);
    else
        target_open_split(target, vq, frames, want);
    // The driver was asked for a notification while there was no room.
    if (unlikely(vq->armed) && target->room > 0)
        virtqueue_disarm(vq);
}

// Uses the next chain up, with len bytes written to it; in a packed ring it has
// chain_len descriptors.
static inline void target_use(struct target *target, bool packed, uint16_t id, uint32_t len, uint32_t chain_len)
{
    if (packed)
        virtqueue_packed_use(&target->batch, target->taken, id, len, chain_len);
    else
        virtqueue_split_use(target->vq, target->taken, id, len);
    target->taken++;
}

// Publishes what was used up.
static inline void target_close(struct target *target, bool packed)
{
    if (target->taken == 0)
        return;
    if (packed) {
        virtqueue_packed_publish(target->vq, target->batch.used, NULL, target->taken);
    } else {
        target->vq->last_avail += target->taken;
        virtqueue_split_publish(target->vq, target->taken);
    }
}

// The virtio header (virtio 1.2, 5.1.6.1): the frame's offloads, or zeros where
// offload is NULL (at compile time), and num_buffers where the header has it.
static inline void header_fill(uint8_t header[12], const struct frame_offload *offload, uint16_t num_buffers)
{
    if (offload == NULL) {
        uint32_t tail = htole32((uint32_t)num_buffers << 16);

        memset(header, 0, 8);
        memcpy(header + 8, &tail, sizeof(tail));
    } else {
        uint16_t tail = htole16(num_buffers);

        offload_header(header, offload);
        memcpy(header + OFFLOAD_HEADER_LEN, &tail, sizeof(tail));
    }
}

// Writes the header straight into a buffer that has room for it.
static inline void header_write(const struct virtqueue *vq, uint8_t *host, const struct frame_offload *offload)
{
    uint8_t header[12];

    header_fill(header, offload, 1);
    if (likely(vq->hdr_len == 12))
        memcpy(host, header, 12);
    else
        memcpy(host, header, 10); // virtio 1.2, 5.1.6.1.1: without num_buffers
}

// The frame fits into the plain slot that is next.
static inline bool target_is_plain(const struct target *target, uint32_t len)
{
    return likely(target->taken < target->prepared && target->slots[target->taken].len >= len + target->vq->hdr_len);
}

static inline void target_use_plain(struct target *target, bool packed, uint32_t len)
{
    target_use(target, packed, target->slots[target->taken].id, len + target->vq->hdr_len, 1);
}

static inline uint8_t *target_plain_at(struct target *target, const struct frame_offload *offload)
{
    uint8_t *host = target->slots[target->taken].host;

    header_write(target->vq, host, offload);
    return host + target->vq->hdr_len;
}

// Any frame into any buffers.
enum transmit_stop virtqueue_target_put(struct target *target, const struct burst *burst, const struct frame *frame);

// A frame for two receivers of which at least one isn't plain; each load is stored twice.
enum transmit_stop virtqueue_target_put_both(struct target *target, struct target *tap, const struct burst *burst,
                                             const struct frame *frame, struct tap_count *counts);

// Prefetches the rest of a long frame that comes soon, in case it gets the plain slot that stands that far ahead.
static inline void target_prefetch(const struct target *target, const struct frame *frame)
{
    uint32_t at = target->taken + VIRTQUEUE_PREFETCH_AHEAD;

    if (likely(at < target->prepared))
        virtqueue_prefetch_rest(frame->data, target->slots[at].host, frame->data_len);
}

static inline void tap_count_stop(struct tap_count *tap, enum transmit_stop stop, uint32_t len)
{
    tap->offered++;
    switch (stop) {
    case TRANSMIT_ALL:
        tap->copied.frames++;
        tap->copied.bytes += len;
        break;
    case TRANSMIT_TOO_BIG:
        tap->dropped[TAP_DROP_TOO_BIG]++;
        break;
    case TRANSMIT_DOWN:
        tap->dropped[TAP_DROP_DOWN]++;
        break;
    case TRANSMIT_PAUSED:
        tap->dropped[TAP_DROP_PAUSED]++;
        break;
    default:
        tap->dropped[TAP_DROP_RING_FULL]++;
    }
}

// The body of all transmits; what kinds of ring there are, whether tap is NULL,
// and offloads, are known at compile time.
__attribute__((always_inline)) static inline uint16_t
transmit_body(struct virtqueue *vq, bool packed, struct virtqueue *tap_vq, bool tap_packed, const struct burst *burst,
              uint16_t first, uint16_t count, enum transmit_stop *stop, struct tap_count *counts, bool offloads)
{
    struct target target, tap;
    uint16_t done;

    *stop = TRANSMIT_ALL;
    target_open(&target, packed, vq, &burst->frames[first], count);
    if (tap_vq != NULL)
        target_open(&tap, tap_packed, tap_vq, &burst->frames[first], count);
    if (unlikely(first > 0)) {
        // Goes on behind a frame that was dropped: what its receiver made us
        // walk for it counts, or a hostile one would get 64 times as much.
        target.walked = vq->walked;
        if (tap_vq != NULL)
            tap.walked = tap_vq->walked;
    }
    for (done = 0; done < count; done++) {
        const struct frame *frame = &burst->frames[first + done];
        const struct frame_offload *offload = offloads ? &frame->offload : NULL;
        bool tap_takes = true;

        // With a tap it gains nothing: there the stores' traffic is the limit.
        if (tap_vq == NULL && done + VIRTQUEUE_PREFETCH_AHEAD < count &&
            frame[VIRTQUEUE_PREFETCH_AHEAD].len > VIRTQUEUE_PREFETCH_LONG)
            target_prefetch(&target, &frame[VIRTQUEUE_PREFETCH_AHEAD]);
        if (offloads) {
            if (unlikely((offload->wants & ~vq->offloads) != 0)) {
                *stop = TRANSMIT_OFFLOAD;
                break;
            }
            tap_takes = tap_vq == NULL || (offload->wants & ~tap_vq->offloads) == 0;
        }
        if (likely(frame->segment_count == 1 && target_is_plain(&target, frame->len))) {
            if (tap_vq == NULL) {
                copy_bytes(target_plain_at(&target, offload), frame->data, frame->len);
                target_use_plain(&target, packed, frame->len);
                continue;
            }
            if (likely(tap_takes && target_is_plain(&tap, frame->len))) {
                copy_bytes_twice(target_plain_at(&target, offload), target_plain_at(&tap, offload), frame->data,
                                 frame->len);
                target_use_plain(&target, packed, frame->len);
                target_use_plain(&tap, tap_packed, frame->len);
                tap_count_stop(counts, TRANSMIT_ALL, frame->len);
                continue;
            }
            // The usual reason: the monitor is slow. Or it has made us walk
            // enough for this burst.
            if (tap.taken == tap.room || tap.walked >= LIMIT_BURST_DESCRIPTORS) {
                copy_bytes(target_plain_at(&target, offload), frame->data, frame->len);
                target_use_plain(&target, packed, frame->len);
                tap_count_stop(counts, TRANSMIT_FULL, frame->len);
                continue;
            }
        }
        *stop = tap_vq == NULL ? virtqueue_target_put(&target, burst, frame)
                               : virtqueue_target_put_both(&target, &tap, burst, frame, counts);
        if (*stop != TRANSMIT_ALL)
            break;
    }
    target_close(&target, packed);
    vq->walked = target.walked;
    if (tap_vq != NULL) {
        target_close(&tap, tap_packed);
        tap_vq->walked = tap.walked;
    }
    return done;
}

#endif
