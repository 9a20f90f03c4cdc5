// SPDX-License-Identifier: BSD-3-Clause

// Split ring, to the guest: frames are copied into device-writable buffers
// (virtio 1.2, 2.7, 5.1.6.3 and 5.1.6.4), to one guest or, for a tap, to two
// in the same pass.

#include "copy.h"
#include "virtqueue_split.h"

#include <endian.h>
#include <errno.h>

// The next available chains, looked at ahead of the copies so that their cache
// misses overlap. A slot is plain when the chain is one writable descriptor in
// one region, which is what drivers post; len is 0 for any other.
struct slot {
    uint8_t *host;
    uint32_t len;
    uint16_t head;
};

// A receiver during one call: its ring and how far we are in it. Nothing is
// published before the end, so rolling a frame back is not advancing.
struct target {
    struct virtqueue *vq;
    uint16_t room;     // chains available at the start
    uint16_t taken;    // of them used up by frames
    uint16_t prepared; // slots looked at
    uint32_t walked;   // descriptors looked at but for those of plain slots
    struct slot slots[LIMIT_BURST_FRAMES];
};

// Chains of one frame, until it is known to fit.
struct placement {
    uint16_t chain_count;
    uint16_t piece_count;
    uint16_t walked; // descriptors looked at, those without bytes too
    struct {
        uint16_t head;
        uint32_t len; // bytes written to it
    } chains[LIMIT_FRAME_SEGMENTS];
    struct {
        uint8_t *host;
        uint32_t len;
    } pieces[LIMIT_FRAME_SEGMENTS];
};

// frames: those that it is opened for, `want` of them.
static void target_open(struct target *target, struct virtqueue *vq, const struct frame *frames, uint16_t want)
{
    target->vq = vq;
    target->taken = 0;
    target->walked = 0;
    target->room = virtqueue_split_waiting(vq);
    target->prepared = target->room < want ? target->room : want;
    // The driver was asked for a notification while there was no room.
    if (unlikely(vq->armed) && target->room > 0)
        virtqueue_split_disarm(vq);
    for (uint16_t i = 0; i < target->prepared; i++) {
        uint16_t head = virtqueue_avail(vq, vq->last_avail + i);

        target->slots[i].head = head;
        rte_prefetch0(&vq->desc[head & (vq->size - 1)]);
    }
    for (uint16_t i = 0; i < target->prepared; i++) {
        struct slot *slot = &target->slots[i];
        struct vring_desc desc = virtqueue_desc_load(&vq->desc[slot->head & (vq->size - 1)]);

        slot->len = desc.len;
        slot->host = guest_memory_at(vq->memory, desc.addr, &slot->len);
        if (unlikely(slot->head >= vq->size || slot->len != desc.len ||
                     (desc.flags & (VRING_DESC_F_WRITE | VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT)) !=
                         VRING_DESC_F_WRITE))
            slot->len = 0;
        else
            virtqueue_prefetch_target(slot->host, frames[i].len); // usually the frame that it will get
    }
}

// Publishes what was used up.
static void target_close(struct target *target)
{
    if (target->taken > 0) {
        target->vq->last_avail += target->taken;
        virtqueue_split_publish(target->vq, target->taken);
    }
}

// The virtio header of a frame without offloads (virtio 1.2, 5.1.6.1): zeros,
// and num_buffers where the header has it.
static inline void header_fill(uint8_t header[12], uint16_t num_buffers)
{
    uint32_t tail = htole32((uint32_t)num_buffers << 16);

    memset(header, 0, 8);
    memcpy(header + 8, &tail, sizeof(tail));
}

// Writes the header straight into a buffer that has room for it.
static inline void header_write(const struct virtqueue *vq, uint8_t *host)
{
    uint8_t header[12];

    header_fill(header, 1);
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

static inline void target_use_plain(struct target *target, uint32_t len)
{
    struct virtqueue *vq = target->vq;

    virtqueue_split_use(vq, target->taken, target->slots[target->taken].head, len + vq->hdr_len);
    target->taken++;
}

static inline uint8_t *target_plain_at(struct target *target)
{
    uint8_t *host = target->slots[target->taken].host;

    header_write(target->vq, host);
    return host + target->vq->hdr_len;
}

// Adds the writable pieces of one chain, up to `want` bytes in all. Returns
// the bytes it adds, or -EINVAL for a chain that no driver may build: then some
// of its pieces may stand in the placement.
static int64_t placement_add_chain(struct placement *placement, struct target *target, uint16_t head, uint32_t want)
{
    const struct virtqueue *vq = target->vq;
    struct virtqueue_table table = virtqueue_table_of_ring(vq);
    struct vring_desc desc;
    uint32_t got = 0;

    if (head >= vq->size)
        return -EINVAL;
    desc = virtqueue_desc_load(&vq->desc[head]);
    while (placement->walked < LIMIT_FRAME_SEGMENTS) {
        uint64_t address;
        uint32_t left;

        placement->walked++;
        target->walked++;
        if (!virtqueue_table_resolve(vq, &table, &desc) || !(desc.flags & VRING_DESC_F_WRITE))
            return -EINVAL;
        address = desc.addr;
        left = desc.len < want - got ? desc.len : want - got;
        while (left > 0) {
            uint32_t len = left;
            uint8_t *host = guest_memory_at(vq->memory, address, &len);

            if (host == NULL || placement->piece_count == LIMIT_FRAME_SEGMENTS)
                return -EINVAL;
            placement->pieces[placement->piece_count].host = host;
            placement->pieces[placement->piece_count++].len = len;
            address += len;
            left -= len;
            got += len;
        }
        if (got == want || !(desc.flags & VRING_DESC_F_NEXT))
            return got;
        if (!virtqueue_table_next(&table, &desc))
            return -EINVAL;
    }
    return -EINVAL;
}

// Finds room for len bytes of frame and its header, in one chain or, with
// mergeable buffers, in as many as it takes. Chains that are none are given
// back empty. A call ends with the frame or chain that reaches as many
// descriptors as a burst may have: neither a ring full of bad chains nor one of
// tiny buffers buys its guest more of the worker. (A burst's bytes fit long
// before in buffers of a sensible size.)
static enum transmit_stop placement_find(struct placement *placement, struct target *target, uint32_t len)
{
    struct virtqueue *vq = target->vq;
    uint32_t left = len + vq->hdr_len;

    placement->chain_count = placement->piece_count = placement->walked = 0;
    while (left > 0) {
        uint16_t at = target->taken + placement->chain_count;
        uint16_t head;
        int64_t got;

        if (at >= target->room)
            // A whole ring of buffers that is too small for one frame will
            // never be enough.
            return placement->chain_count == vq->size ? TRANSMIT_TOO_BIG
                   : placement->chain_count > 0       ? TRANSMIT_SHORT
                                                      : TRANSMIT_FULL;
        if (placement->chain_count == LIMIT_FRAME_SEGMENTS)
            return TRANSMIT_TOO_BIG;
        if (placement->chain_count == 0 && target->walked >= LIMIT_BURST_SEGMENTS)
            return TRANSMIT_FULL; // the next call goes on
        head = virtqueue_avail(vq, vq->last_avail + at);
        if (head >= vq->size) {
            virtqueue_break(vq, "an available descriptor index is beyond the ring");
            return TRANSMIT_DOWN;
        }
        got = placement_add_chain(placement, target, head, left);
        if (got <= 0) {
            // Frames of this call before it are in `taken`; it comes right
            // behind them, so order is kept. Chains of this frame that are
            // sound are looked at anew.
            if (placement->chain_count > 0)
                return TRANSMIT_TOO_BIG;
            counter_add_relaxed(&vq->bad_chains, 1);
            virtqueue_split_use(vq, target->taken, head, 0);
            target->taken++;
            placement->piece_count = placement->walked = 0; // nothing of it is written to
            continue;
        }
        placement->chains[placement->chain_count].head = head;
        placement->chains[placement->chain_count++].len = (uint32_t)got;
        left -= (uint32_t)got;
        if (left > 0 && !vq->mergeable)
            return TRANSMIT_TOO_BIG; // the next buffer won't be looked at before this one is used
    }
    return TRANSMIT_ALL;
}

// Reads the frame's segments one after the other.
struct reader {
    const struct burst *burst;
    const uint8_t *data;
    uint32_t left;
    uint16_t next;
};

static void reader_open(struct reader *reader, const struct burst *burst, const struct frame *frame)
{
    *reader = (struct reader){burst, frame->data, frame->data_len, frame->segment_first};
}

static void reader_copy(struct reader *reader, uint8_t *dst, uint32_t len)
{
    while (len > 0) {
        uint32_t part;

        if (reader->left == 0) {
            const struct frame_segment *segment = &reader->burst->segments[reader->next++];

            reader->data = segment->data;
            reader->left = segment->len;
        }
        part = reader->left < len ? reader->left : len;
        copy_bytes(dst, reader->data, part);
        reader->data += part;
        reader->left -= part;
        dst += part;
        len -= part;
    }
}

// Copies header and frame into the pieces and uses the chains up.
static void placement_fill(const struct placement *placement, struct target *target, const struct burst *burst,
                           const struct frame *frame)
{
    struct virtqueue *vq = target->vq;
    uint8_t header[12];
    uint32_t header_left = vq->hdr_len;
    struct reader reader;

    header_fill(header, placement->chain_count);
    reader_open(&reader, burst, frame);
    for (uint16_t i = 0; i < placement->piece_count; i++) {
        uint8_t *host = placement->pieces[i].host;
        uint32_t len = placement->pieces[i].len;
        uint32_t part = header_left < len ? header_left : len;

        memcpy(host, header + vq->hdr_len - header_left, part);
        header_left -= part;
        reader_copy(&reader, host + part, len - part);
    }
    for (uint16_t i = 0; i < placement->chain_count; i++)
        virtqueue_split_use(vq, target->taken + i, placement->chains[i].head, placement->chains[i].len);
    target->taken += placement->chain_count;
}

// Any frame into any buffers. Its bytes must not change between this and
// another receiver's copy (see both_put).
__attribute__((noinline)) static enum transmit_stop target_put(struct target *target, const struct burst *burst,
                                                               const struct frame *frame)
{
    struct placement placement;
    enum transmit_stop stop = placement_find(&placement, target, frame->len);

    if (stop == TRANSMIT_ALL)
        placement_fill(&placement, target, burst, frame);
    return stop;
}

static void tap_count_stop(struct tap_count *tap, enum transmit_stop stop, uint32_t len)
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
    default:
        tap->dropped[TAP_DROP_RING_FULL]++;
    }
}

// A frame for two receivers of which at least one isn't plain: it is copied
// once to a place of our own, so that both get the same bytes.
__attribute__((noinline)) static enum transmit_stop both_put(struct target *target, struct target *tap,
                                                             const struct burst *burst, const struct frame *frame,
                                                             struct tap_count *counts)
{
    uint8_t bytes[LIMIT_FRAME_MAX];
    struct frame copy = *frame;
    struct placement placement;
    struct reader reader;
    enum transmit_stop stop = placement_find(&placement, target, frame->len);

    if (stop != TRANSMIT_ALL)
        return stop; // it stays: the tap sees it when it leaves the source's ring
    reader_open(&reader, burst, frame);
    reader_copy(&reader, bytes, frame->len);
    frame_set_single(&copy, bytes, frame->len);
    placement_fill(&placement, target, burst, &copy);
    tap_count_stop(counts, target_put(tap, burst, &copy), frame->len);
    return TRANSMIT_ALL;
}

// The body of both transmits; tap is NULL or not at compile time.
__attribute__((always_inline)) static inline uint16_t transmit_body(struct virtqueue *vq, struct virtqueue *tap_vq,
                                                                    const struct burst *burst, uint16_t first,
                                                                    uint16_t count, enum transmit_stop *stop,
                                                                    struct tap_count *counts)
{
    struct target target, tap;
    uint16_t done;

    *stop = TRANSMIT_ALL;
    target_open(&target, vq, &burst->frames[first], count);
    if (tap_vq != NULL)
        target_open(&tap, tap_vq, &burst->frames[first], count);
    for (done = 0; done < count; done++) {
        const struct frame *frame = &burst->frames[first + done];

        if (likely(frame->segment_count == 1 && target_is_plain(&target, frame->len))) {
            if (tap_vq == NULL) {
                copy_bytes(target_plain_at(&target), frame->data, frame->len);
                target_use_plain(&target, frame->len);
                continue;
            }
            if (likely(target_is_plain(&tap, frame->len))) {
                copy_bytes_twice(target_plain_at(&target), target_plain_at(&tap), frame->data, frame->len);
                target_use_plain(&target, frame->len);
                target_use_plain(&tap, frame->len);
                tap_count_stop(counts, TRANSMIT_ALL, frame->len);
                continue;
            }
            if (tap.taken == tap.room) { // the usual reason: the monitor is slow
                copy_bytes(target_plain_at(&target), frame->data, frame->len);
                target_use_plain(&target, frame->len);
                tap_count_stop(counts, TRANSMIT_FULL, frame->len);
                continue;
            }
        }
        *stop = tap_vq == NULL ? target_put(&target, burst, frame) : both_put(&target, &tap, burst, frame, counts);
        if (*stop != TRANSMIT_ALL)
            break;
    }
    target_close(&target);
    if (tap_vq != NULL)
        target_close(&tap);
    return done;
}

uint16_t virtqueue_split_transmit(struct virtqueue *vq, const struct burst *burst, uint16_t first, uint16_t count,
                                  enum transmit_stop *stop)
{
    return transmit_body(vq, NULL, burst, first, count, stop, NULL);
}

uint16_t virtqueue_split_transmit_tapped(struct virtqueue *vq, struct virtqueue *tap, const struct burst *burst,
                                         uint16_t first, uint16_t count, enum transmit_stop *stop,
                                         struct tap_count *counts)
{
    return transmit_body(vq, tap, burst, first, count, stop, counts);
}
