// SPDX-License-Identifier: BSD-3-Clause

// Packed ring, from the guest: chains of device-readable buffers become frame
// views (virtio 1.2, 2.8).

#include "virtqueue_view.h"

uint16_t virtqueue_packed_receive(struct virtqueue *vq, struct burst *burst, _Atomic uint64_t *discarded)
{
    struct virtqueue_packed_batch given_back;
    const uint8_t *headers[LIMIT_BURST_FRAMES]; // of frames whose header isn't checked yet
    uint32_t ahead = 0, bytes = 0, walked = 0, given_back_count = 0;

    virtqueue_view_begin(burst);
    virtqueue_packed_begin(&given_back);
    if (!virtqueue_packed_is_available(virtqueue_packed_word(vq, vq->next), vq->wrap))
        return 0;
    virtqueue_packed_prefetch(vq, vq->size < LIMIT_BURST_FRAMES ? vq->size : LIMIT_BURST_FRAMES);
    // Chains that are given back count as well, and descriptors are bounded:
    // chains of none but empty ones would buy a guest many times its share of
    // the worker.
    for (uint32_t i = 0; i < LIMIT_BURST_FRAMES && bytes < LIMIT_BURST_BYTES && walked < LIMIT_BURST_DESCRIPTORS; i++) {
        struct frame *frame = &burst->frames[burst->count];
        uint16_t segments = burst->segment_count;
        uint32_t walked_before = walked;
        struct virtqueue_chain chain;
        struct vring_desc desc;
        enum virtqueue_view view;

        if (!virtqueue_packed_chain_begin(vq, &chain.chain, ahead, &desc))
            break;
        if (likely(virtqueue_view_simple(vq, &desc, frame))) {
            frame->id = virtqueue_packed_id(chain.chain.word);
            frame->chain_len = 1;
            headers[burst->count] = frame->data - vq->hdr_len;
            ahead++;
            bytes += frame->len;
            burst->count++;
            continue;
        }
        view = virtqueue_view_walk(true, vq, &chain, desc, burst, frame, &walked);
        // The last descriptor has the id, without which it can't be given back.
        if (!virtqueue_packed_chain_end(vq, &chain.chain)) {
            burst->segment_count = segments;
            break;
        }
        // All of a chain counts that was found bad at its first descriptor, too.
        if (walked - walked_before < chain.chain.len)
            walked = walked_before + chain.chain.len;
        if (view == VIEW_FRAME) {
            virtqueue_prefetch_source(frame->data, frame->data_len);
            frame->id = virtqueue_packed_id(chain.chain.word);
            frame->chain_len = (uint16_t)chain.chain.len;
            headers[burst->count] = NULL;
            ahead += chain.chain.len;
            bytes += frame->len;
            burst->count++;
            continue;
        }
        burst->segment_count = segments;
        // Frames before it are still in the ring, and completion is in order:
        // it waits until it is the first.
        if (burst->count > 0)
            break;
        if (view == VIEW_NO_ROOM)
            view = VIEW_BAD; // not even alone: more pieces than any frame has
        counter_add_relaxed(&discarded[view - 1], 1);
        virtqueue_packed_use(&given_back, given_back_count++, virtqueue_packed_id(chain.chain.word), 0,
                             chain.chain.len);
        ahead += chain.chain.len;
    }
    if (unlikely(vq->offloads != 0)) {
        uint16_t ids[LIMIT_BURST_FRAMES];
        uint16_t bad = offload_receive(burst, headers, vq->offloads, discarded, ids);

        for (uint16_t i = 0; i < bad; i++) // of one descriptor each, since their headers are in one piece
            virtqueue_packed_use(&given_back, given_back_count++, ids[i], 0, 1);
    }
    if (unlikely(given_back_count > 0)) {
        virtqueue_packed_publish(vq, given_back.used, NULL, given_back_count);
        virtqueue_packed_notify(vq);
        burst->worked = burst->count == 0;
    }
    return burst->count;
}

void virtqueue_packed_complete(struct virtqueue *vq, const struct burst *burst, uint16_t taken)
{
    if (taken == 0)
        return;
    virtqueue_packed_publish(vq, NULL, burst->frames, taken);
    virtqueue_packed_notify(vq);
}
