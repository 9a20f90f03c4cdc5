// SPDX-License-Identifier: BSD-3-Clause

// Any frame into any buffers of a guest: chains of several descriptors,
// indirect tables, mergeable buffers, and the frame in pieces. The rare path
// beside virtqueue_target.h.

#include "virtqueue_target.h"
#include "frame_reader.h"

#include <errno.h>

// Chains of one frame, until it is known to fit.
struct placement {
    uint16_t chain_count;
    uint16_t piece_count;
    uint32_t descs;  // of its chains: of the ring if that is packed, else one each
    uint32_t walked; // descriptors looked at, those without bytes too
    struct {
        uint16_t id;
        uint16_t chain_len; // descriptors of a packed ring; else 1
        uint32_t len;       // bytes written to it
    } chains[LIMIT_FRAME_SEGMENTS];
    struct {
        uint8_t *host;
        uint32_t len;
    } pieces[LIMIT_FRAME_SEGMENTS];
};

// Begins at the next chain that nothing stands in yet, with its first
// descriptor in *desc; of a split ring *id is its head. TRANSMIT_FULL: there is
// none now.
static enum transmit_stop chain_begin(const struct placement *placement, const struct target *target,
                                      struct virtqueue_chain *chain, struct vring_desc *desc, uint16_t *id)
{
    struct virtqueue *vq = target->vq;
    uint32_t at = (uint32_t)target->taken + placement->chain_count;

    if (at >= target->room)
        return TRANSMIT_FULL;
    if (vq->packed) {
        uint32_t ahead = target->taken + target->batch.longer + placement->descs;

        return virtqueue_packed_chain_begin(vq, &chain->chain, ahead, desc) ? TRANSMIT_ALL : TRANSMIT_FULL;
    }
    *id = virtqueue_avail(vq, (uint16_t)(vq->last_avail + at));
    if (*id >= vq->size) {
        virtqueue_break(vq, "an available descriptor index is beyond the ring");
        return TRANSMIT_DOWN;
    }
    chain->table = virtqueue_table_of_ring(vq);
    *desc = virtqueue_desc_load(&vq->desc[*id]);
    return TRANSMIT_ALL;
}

// Adds the writable pieces of the chain that begins with desc, up to `want`
// bytes in all. Returns the bytes it adds, or -EINVAL for a chain that no
// driver may build: then some of its pieces may stand in the placement.
static int64_t placement_add_chain(struct placement *placement, struct target *target, struct virtqueue_chain *chain,
                                   struct vring_desc desc, uint32_t want)
{
    struct virtqueue *vq = target->vq;
    uint32_t got = 0;

    while (placement->walked < LIMIT_FRAME_SEGMENTS) {
        uint64_t address;
        uint32_t left;

        placement->walked++;
        target->walked++;
        if (!virtqueue_chain_resolve(vq->packed, vq, chain, &desc) || !(desc.flags & VRING_DESC_F_WRITE))
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
        if (!virtqueue_chain_next(vq->packed, vq, chain, &desc))
            return -EINVAL;
    }
    return -EINVAL;
}

// Of a packed ring the chain's id and length, which its end tells. False: the
// ring is stopped.
static bool chain_end(struct target *target, struct virtqueue_chain *chain, uint16_t *id, uint32_t *chain_len)
{
    struct virtqueue *vq = target->vq;
    uint32_t walked;

    *chain_len = 1;
    if (!vq->packed)
        return true;
    walked = chain->chain.len;
    if (!virtqueue_packed_chain_end(vq, &chain->chain))
        return false;
    target->walked += chain->chain.len - walked;
    *id = virtqueue_packed_id(chain->chain.word);
    *chain_len = chain->chain.len;
    return true;
}

// Why a frame finds no place when no more buffers are available.
static enum transmit_stop placement_stop(const struct placement *placement, const struct virtqueue *vq)
{
    // A whole ring of buffers that is too small for one frame will never be
    // enough.
    if (placement->descs == vq->size)
        return TRANSMIT_TOO_BIG;
    return placement->chain_count > 0 ? TRANSMIT_SHORT : TRANSMIT_FULL;
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

    placement->chain_count = placement->piece_count = placement->walked = placement->descs = 0;
    while (left > 0) {
        struct virtqueue_chain chain;
        struct vring_desc desc;
        enum transmit_stop stop;
        uint32_t chain_len;
        uint16_t id = 0;
        int64_t got;

        if (placement->chain_count == LIMIT_FRAME_SEGMENTS)
            return TRANSMIT_TOO_BIG;
        if (placement->chain_count == 0 && target->walked >= LIMIT_BURST_DESCRIPTORS)
            return TRANSMIT_FULL; // the next call goes on
        stop = chain_begin(placement, target, &chain, &desc, &id);
        if (stop != TRANSMIT_ALL)
            return stop == TRANSMIT_FULL ? placement_stop(placement, vq) : stop;
        got = placement_add_chain(placement, target, &chain, desc, left);
        if (!chain_end(target, &chain, &id, &chain_len))
            return TRANSMIT_DOWN;
        if (got <= 0) {
            // Frames of this call before it are in `taken`; it comes right
            // behind them, so order is kept. Chains of this frame that are
            // sound are looked at anew.
            if (placement->chain_count > 0)
                return TRANSMIT_TOO_BIG;
            counter_add_relaxed(&vq->bad_chains, 1);
            target_use(target, vq->packed, id, 0, chain_len);
            placement->piece_count = placement->walked = 0; // nothing of it is written to
            continue;
        }
        placement->chains[placement->chain_count].id = id;
        placement->chains[placement->chain_count].chain_len = (uint16_t)chain_len;
        placement->chains[placement->chain_count++].len = (uint32_t)got;
        placement->descs += chain_len;
        left -= (uint32_t)got;
        if (left > 0 && !vq->mergeable)
            return TRANSMIT_TOO_BIG; // the next buffer won't be looked at before this one is used
    }
    return TRANSMIT_ALL;
}

// Goes through a placement's pieces in order.
struct writer {
    const struct placement *placement;
    uint8_t *host;
    uint32_t left;
    uint16_t next;
};

// Makes sure that there are bytes left in the piece it stands at.
static inline void writer_advance(struct writer *writer)
{
    while (writer->left == 0) { // ends: the placement has room for all that is written
        writer->host = writer->placement->pieces[writer->next].host;
        writer->left = writer->placement->pieces[writer->next++].len;
    }
}

static inline void writer_skip(struct writer *writer, uint32_t len)
{
    writer->host += len;
    writer->left -= len;
}

// Begins with the virtio header.
static void writer_open(struct writer *writer, const struct placement *placement, const struct virtqueue *vq,
                        const struct burst *burst, const struct frame *frame)
{
    static const struct frame_offload none;
    uint8_t header[12];
    uint32_t done = 0;

    *writer = (struct writer){.placement = placement};
    header_fill(header, burst->offloads != 0 ? &frame->offload : &none, placement->chain_count);
    while (done < vq->hdr_len) {
        uint32_t part;

        writer_advance(writer);
        part = vq->hdr_len - done < writer->left ? vq->hdr_len - done : writer->left;
        memcpy(writer->host, header + done, part);
        writer_skip(writer, part);
        done += part;
    }
}

static void placement_use(const struct placement *placement, struct target *target)
{
    if (unlikely(target->vq->log != NULL)) {
        for (uint16_t i = 0; i < placement->piece_count; i++)
            virtqueue_log_write(target->vq, placement->pieces[i].host, placement->pieces[i].len);
    }
    for (uint16_t i = 0; i < placement->chain_count; i++)
        target_use(target, target->vq->packed, placement->chains[i].id, placement->chains[i].len,
                   placement->chains[i].chain_len);
}

// Copies header and frame into the pieces and uses the chains up.
static void placement_fill(const struct placement *placement, struct target *target, const struct burst *burst,
                           const struct frame *frame)
{
    struct frame_reader reader = frame_reader_open(burst, frame);
    struct writer writer;

    writer_open(&writer, placement, target->vq, burst, frame);
    for (uint32_t left = frame->len; left > 0;) {
        const uint8_t *data;
        uint32_t part;

        writer_advance(&writer);
        part = left < writer.left ? left : writer.left;
        data = frame_reader_next(&reader, &part);
        copy_bytes(writer.host, data, part);
        writer_skip(&writer, part);
        left -= part;
    }
    placement_use(placement, target);
}

// The same for two receivers: each load is stored twice, so that both get the
// same bytes.
static void placement_fill_both(const struct placement *placement, struct target *target,
                                const struct placement *tap_placement, struct target *tap, const struct burst *burst,
                                const struct frame *frame)
{
    struct frame_reader reader = frame_reader_open(burst, frame);
    struct writer writer, tap_writer;

    writer_open(&writer, placement, target->vq, burst, frame);
    writer_open(&tap_writer, tap_placement, tap->vq, burst, frame);
    for (uint32_t left = frame->len; left > 0;) {
        const uint8_t *data;
        uint32_t part;

        writer_advance(&writer);
        writer_advance(&tap_writer);
        part = left < writer.left ? left : writer.left;
        part = part < tap_writer.left ? part : tap_writer.left;
        data = frame_reader_next(&reader, &part);
        copy_bytes_twice(writer.host, tap_writer.host, data, part);
        writer_skip(&writer, part);
        writer_skip(&tap_writer, part);
        left -= part;
    }
    placement_use(placement, target);
    placement_use(tap_placement, tap);
}

enum transmit_stop virtqueue_target_put(struct target *target, const struct burst *burst, const struct frame *frame)
{
    struct placement placement;
    enum transmit_stop stop = placement_find(&placement, target, frame->len);

    if (stop == TRANSMIT_ALL)
        placement_fill(&placement, target, burst, frame);
    return stop;
}

enum transmit_stop virtqueue_target_put_both(struct target *target, struct target *tap, const struct burst *burst,
                                             const struct frame *frame, struct tap_count *counts)
{
    struct placement placement, tap_placement;
    enum transmit_stop stop = placement_find(&placement, target, frame->len), tap_stop;

    if (stop != TRANSMIT_ALL)
        return stop; // it stays: the tap sees it when it leaves the source's ring
    // Who asked for a copy of a frame with offloads knew that the monitor takes
    // them; it may be another driver by now.
    if (burst->offloads != 0 && (frame->offload.wants & ~tap->vq->offloads) != 0)
        tap_stop = TRANSMIT_PAUSED;
    else
        tap_stop = placement_find(&tap_placement, tap, frame->len);
    if (tap_stop == TRANSMIT_ALL)
        placement_fill_both(&placement, target, &tap_placement, tap, burst, frame);
    else
        placement_fill(&placement, target, burst, frame);
    tap_count_stop(counts, tap_stop, frame->len);
    return TRANSMIT_ALL;
}
