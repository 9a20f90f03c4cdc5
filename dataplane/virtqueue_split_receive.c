// SPDX-License-Identifier: BSD-3-Clause

// Split ring, from the guest: chains of device-readable buffers become frame
// views (virtio 1.2, 2.7 and 5.1.6.2.1).

#include "offload.h"
#include "virtqueue_split.h"

// What a chain turned out to be.
enum chain {
    CHAIN_FRAME,
    CHAIN_NO_ROOM = -1,                    // the burst's segments are used up: next time
    CHAIN_BAD = VIF_DISCARD_BAD_CHAIN + 1, // + 1, so that no reason is CHAIN_FRAME
    CHAIN_RUNT = VIF_DISCARD_RUNT + 1,
    CHAIN_GIANT = VIF_DISCARD_GIANT + 1,
    CHAIN_BAD_HEADER = VIF_DISCARD_BAD_HEADER + 1,
};

// Appends len bytes at data to the frame that is being built. Neighbouring
// pieces aren't merged: it would save nothing.
static bool frame_append(struct burst *burst, struct frame *frame, const uint8_t *data, uint32_t len)
{
    if (frame->segment_count == 0) {
        frame->data = data;
        frame->data_len = len;
        frame->segment_first = burst->segment_count;
    } else {
        if (burst->segment_count == LIMIT_BURST_SEGMENTS)
            return false;
        burst->segments[burst->segment_count++] = (struct frame_segment){.data = data, .len = len};
    }
    frame->segment_count++;
    frame->len += len;
    return true;
}

// header is the local copy of the guest's.
static enum chain check_header(struct frame *frame, const uint8_t *header, uint8_t agreed)
{
    int reason = offload_check(frame, header, agreed);

    return likely(reason == 0) ? CHAIN_FRAME : (enum chain)(reason + 1);
}

// Walks a chain of any layout (several descriptors, indirect table, buffers
// across regions, the header in a descriptor of its own or with the data).
// desc is the local copy of the head. The walk is bounded by
// LIMIT_FRAME_SEGMENTS descriptors, whatever next says; *walked counts them.
static enum chain walk_chain(const struct virtqueue *vq, struct vring_desc desc, struct burst *burst,
                             struct frame *frame, uint32_t *walked)
{
    struct virtqueue_table table = virtqueue_table_of_ring(vq);
    uint32_t header_left = vq->hdr_len; // bytes of it still to skip
    uint8_t header[12];

    *frame = (struct frame){.id = frame->id};
    for (unsigned steps = 0; steps < LIMIT_FRAME_SEGMENTS; steps++) {
        uint64_t address;
        uint32_t left;

        ++*walked;
        if (unlikely(!virtqueue_table_resolve(vq, &table, &desc) || (desc.flags & VRING_DESC_F_WRITE)))
            return CHAIN_BAD;
        address = desc.addr;
        left = desc.len;
        while (left > 0) {
            uint32_t len = left;
            const uint8_t *data = guest_memory_at(vq->memory, address, &len);
            uint32_t skip = header_left < len ? header_left : len;

            if (unlikely(data == NULL))
                return CHAIN_BAD;
            address += len;
            left -= len;
            if (skip > 0)
                memcpy(header + vq->hdr_len - header_left, data, skip);
            header_left -= skip;
            if (len == skip)
                continue;
            if (unlikely(len - skip > offload_frame_max(vq->offloads) - frame->len))
                return CHAIN_GIANT;
            if (unlikely(!frame_append(burst, frame, data + skip, len - skip)))
                return CHAIN_NO_ROOM;
        }
        if (!(desc.flags & VRING_DESC_F_NEXT)) {
            if (header_left > 0)
                return CHAIN_BAD;
            if (frame->len < LIMIT_FRAME_MIN)
                return CHAIN_RUNT;
            return vq->offloads == 0 ? CHAIN_FRAME : check_header(frame, header, vq->offloads);
        }
        if (unlikely(!virtqueue_table_next(&table, &desc)))
            return CHAIN_BAD;
    }
    return CHAIN_BAD;
}

// The common chain: one descriptor, header and data in it, in one region.
static inline bool simple_chain(const struct virtqueue *vq, const struct vring_desc *desc, struct frame *frame)
{
    uint32_t len = desc->len;
    const uint8_t *data;

    if (unlikely(desc->flags & (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)))
        return false;
    if (unlikely(len - vq->hdr_len - LIMIT_FRAME_MIN >
                 offload_frame_max(vq->offloads) - LIMIT_FRAME_MIN)) // below wraps
        return false;
    data = guest_memory_at(vq->memory, desc->addr, &len);
    if (unlikely(len != desc->len))
        return false;
    frame_set_single(frame, data + vq->hdr_len, len - vq->hdr_len);
    frame->mbuf = NULL;
    virtqueue_prefetch_source(frame->data, frame->data_len);
    return true;
}

uint16_t virtqueue_split_receive(struct virtqueue *vq, struct burst *burst, _Atomic uint64_t *discarded)
{
    const uint16_t mask = vq->size - 1;
    uint16_t heads[LIMIT_BURST_FRAMES];
    const uint8_t *headers[LIMIT_BURST_FRAMES]; // of frames whose header isn't checked yet
    uint16_t waiting, given_back = 0;
    uint32_t bytes = 0, walked = 0;

    burst->count = 0;
    burst->segment_count = 0;
    burst->owned = burst->keep = false;
    burst->offloads = 0;
    waiting = virtqueue_split_waiting(vq);
    if (waiting == 0)
        return 0;
    if (waiting > LIMIT_BURST_FRAMES)
        waiting = LIMIT_BURST_FRAMES;

    for (uint16_t i = 0; i < waiting; i++) {
        heads[i] = virtqueue_avail(vq, vq->last_avail + i);
        rte_prefetch0(&vq->desc[heads[i] & mask]);
    }
    // Descriptors are bounded as well: chains of none but empty or looping ones
    // would buy a guest many times its share of the worker.
    for (uint16_t i = 0; i < waiting && bytes < LIMIT_BURST_BYTES && walked < LIMIT_BURST_DESCRIPTORS; i++) {
        struct frame *frame = &burst->frames[burst->count];
        struct vring_desc desc;
        enum chain chain;

        if (unlikely(heads[i] >= vq->size)) {
            virtqueue_break(vq, "an available descriptor index is beyond the ring");
            break;
        }
        desc = virtqueue_desc_load(&vq->desc[heads[i]]);
        frame->id = heads[i];
        if (likely(simple_chain(vq, &desc, frame))) {
            headers[burst->count] = frame->data - vq->hdr_len;
            bytes += frame->len;
            burst->count++;
            continue;
        }
        uint16_t segments = burst->segment_count;

        chain = walk_chain(vq, desc, burst, frame, &walked);
        if (chain == CHAIN_FRAME) {
            virtqueue_prefetch_source(frame->data, frame->data_len);
            headers[burst->count] = NULL;
            bytes += frame->len;
            burst->count++;
            continue;
        }
        burst->segment_count = segments;
        // Frames before it are still in the ring, and completion is in order:
        // it waits until it is the first.
        if (burst->count > 0)
            break;
        if (chain == CHAIN_NO_ROOM)
            chain = CHAIN_BAD; // not even alone: more pieces than any frame has
        counter_add_relaxed(&discarded[chain - 1], 1);
        virtqueue_split_use(vq, given_back, heads[i], 0);
        given_back++;
    }
    if (unlikely(vq->offloads != 0)) {
        uint16_t bad = offload_receive(burst, headers, vq->offloads, discarded, heads);

        for (uint16_t i = 0; i < bad; i++)
            virtqueue_split_use(vq, given_back++, heads[i], 0);
    }
    if (unlikely(given_back > 0)) {
        vq->last_avail += given_back;
        virtqueue_split_publish(vq, given_back);
        virtqueue_notify(vq);
    }
    return burst->count;
}

void virtqueue_split_complete(struct virtqueue *vq, const struct burst *burst, uint16_t taken)
{
    if (taken == 0)
        return;
    for (uint16_t i = 0; i < taken; i++)
        virtqueue_split_use(vq, i, burst->frames[i].id, 0);
    vq->last_avail += taken;
    virtqueue_split_publish(vq, taken);
    virtqueue_notify(vq);
}
