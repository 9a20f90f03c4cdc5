// SPDX-License-Identifier: BSD-3-Clause

// Split ring, from the guest: chains of device-readable buffers become frame
// views (virtio 1.2, 2.7).

#include "virtqueue_view.h"

uint16_t virtqueue_split_receive(struct virtqueue *vq, struct burst *burst, _Atomic uint64_t *discarded)
{
    const uint16_t mask = vq->size - 1;
    uint16_t heads[LIMIT_BURST_FRAMES];
    const uint8_t *headers[LIMIT_BURST_FRAMES]; // of frames whose header isn't checked yet
    uint16_t waiting, given_back = 0;
    uint32_t bytes = 0, walked = 0;

    virtqueue_view_begin(burst);
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
        struct virtqueue_chain chain;
        enum virtqueue_view view;

        if (unlikely(heads[i] >= vq->size)) {
            virtqueue_break(vq, "an available descriptor index is beyond the ring");
            break;
        }
        desc = virtqueue_desc_load(&vq->desc[heads[i]]);
        frame->id = heads[i];
        if (likely(virtqueue_view_simple(vq, &desc, frame))) {
            headers[burst->count] = frame->data - vq->hdr_len;
            bytes += frame->len;
            burst->count++;
            continue;
        }
        uint16_t segments = burst->segment_count;

        chain.table = virtqueue_table_of_ring(vq);
        view = virtqueue_view_walk(false, vq, &chain, desc, burst, frame, &walked);
        if (view == VIEW_FRAME) {
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
        if (view == VIEW_NO_ROOM)
            view = VIEW_BAD; // not even alone: more pieces than any frame has
        counter_add_relaxed(&discarded[view - 1], 1);
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
        burst->worked = burst->count == 0;
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
