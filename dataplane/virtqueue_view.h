// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VIRTQUEUE_VIEW_H
#define PATCHBAY_VIRTQUEUE_VIEW_H

// Chains of device-readable buffers become frame views, whatever their ring
// (virtio 1.2, 5.1.6.2.1).

#include "offload.h"
#include "virtqueue_chain.h"

// What a chain turned out to be.
enum virtqueue_view {
    VIEW_FRAME,
    VIEW_NO_ROOM = -1,                    // the burst's segments are used up: next time
    VIEW_BAD = VIF_DISCARD_BAD_CHAIN + 1, // + 1, so that no reason is VIEW_FRAME
    VIEW_RUNT = VIF_DISCARD_RUNT + 1,
    VIEW_GIANT = VIF_DISCARD_GIANT + 1,
    VIEW_BAD_HEADER = VIF_DISCARD_BAD_HEADER + 1,
};

// Appends len bytes at data to the frame that is being built. Neighbouring
// pieces aren't merged: it would save nothing.
static inline bool virtqueue_view_append(struct burst *burst, struct frame *frame, const uint8_t *data, uint32_t len)
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
static inline enum virtqueue_view virtqueue_view_check(struct frame *frame, const uint8_t *header, uint8_t agreed)
{
    int reason = offload_check(frame, header, agreed);

    return likely(reason == 0) ? VIEW_FRAME : (enum virtqueue_view)(reason + 1);
}

// Walks a chain of any layout (several descriptors, indirect table, buffers
// across regions, the header in a descriptor of its own or with the data).
// desc is the local copy of the head. The walk is bounded by
// LIMIT_FRAME_SEGMENTS descriptors, whatever next says; *walked counts them.
static inline enum virtqueue_view virtqueue_view_walk(bool packed, struct virtqueue *vq, struct virtqueue_chain *chain,
                                                      struct vring_desc desc, struct burst *burst, struct frame *frame,
                                                      uint32_t *walked)
{
    uint32_t header_left = vq->hdr_len; // bytes of it still to skip
    uint8_t header[12];

    *frame = (struct frame){.id = frame->id};
    for (unsigned steps = 0; steps < LIMIT_FRAME_SEGMENTS; steps++) {
        uint64_t address;
        uint32_t left;

        ++*walked;
        if (unlikely(!virtqueue_chain_resolve(packed, vq, chain, &desc) || (desc.flags & VRING_DESC_F_WRITE)))
            return VIEW_BAD;
        address = desc.addr;
        left = desc.len;
        while (left > 0) {
            uint32_t len = left;
            const uint8_t *data = guest_memory_at(vq->memory, address, &len);
            uint32_t skip = header_left < len ? header_left : len;

            if (unlikely(data == NULL))
                return VIEW_BAD;
            address += len;
            left -= len;
            if (skip > 0)
                memcpy(header + vq->hdr_len - header_left, data, skip);
            header_left -= skip;
            if (len == skip)
                continue;
            if (unlikely(len - skip > offload_frame_max(vq->offloads) - frame->len))
                return VIEW_GIANT;
            if (unlikely(!virtqueue_view_append(burst, frame, data + skip, len - skip)))
                return VIEW_NO_ROOM;
        }
        if (!(desc.flags & VRING_DESC_F_NEXT)) {
            if (header_left > 0)
                return VIEW_BAD;
            if (frame->len < LIMIT_FRAME_MIN)
                return VIEW_RUNT;
            return vq->offloads == 0 ? VIEW_FRAME : virtqueue_view_check(frame, header, vq->offloads);
        }
        if (unlikely(!virtqueue_chain_next(packed, vq, chain, &desc)))
            return VIEW_BAD;
    }
    return VIEW_BAD;
}

// The common chain: one descriptor, header and data in it, in one region.
static inline bool virtqueue_view_simple(const struct virtqueue *vq, const struct vring_desc *desc, struct frame *frame)
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

// A burst without frames.
static inline void virtqueue_view_begin(struct burst *burst)
{
    burst->count = 0;
    burst->segment_count = 0;
    burst->owned = burst->keep = false;
    burst->offloads = 0;
}

#endif
