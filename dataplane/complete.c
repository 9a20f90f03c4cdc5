// SPDX-License-Identifier: BSD-3-Clause

// Completing offloads. Hot where a receiver takes fewer than its sender used.

#include "complete.h"
#include "checksum.h"
#include "copy.h"
#include "frame_reader.h"
#include "offload.h"

enum { CHECKSUM_LEN = sizeof(uint16_t) };

static void reader_skip(struct frame_reader *reader, uint32_t len)
{
    while (len > 0) {
        uint32_t part = len;

        frame_reader_next(reader, &part);
        len -= part;
    }
}

static void reader_copy(struct frame_reader *reader, uint8_t *to, uint32_t len)
{
    while (len > 0) {
        uint32_t part = len;
        const uint8_t *data = frame_reader_next(reader, &part);

        copy_bytes(to, data, part);
        to += part;
        len -= part;
    }
}

static void view_add(struct burst *out, struct frame *view, const uint8_t *data, uint32_t len)
{
    if (view->segment_count == 0) {
        frame_set_single(view, data, len);
        view->segment_first = out->segment_count;
        return;
    }
    out->segments[out->segment_count++] = (struct frame_segment){data, len};
    view->segment_count++;
    view->len += len;
}

// Appends the reader's next len bytes to the view; adds them to sum unless it is NULL.
static void view_add_from(struct burst *out, struct frame *view, struct frame_reader *reader, uint32_t len,
                          struct checksum *sum)
{
    while (len > 0) {
        uint32_t part = len;
        const uint8_t *data = frame_reader_next(reader, &part);

        view_add(out, view, data, part);
        if (sum != NULL)
            checksum_add(sum, data, part);
        len -= part;
    }
}

// As a receiver gets it: 0 would say, in UDP, that there is none, and in one's
// complement both zeros are the same.
static void store_checksum(uint8_t *at, const struct checksum *sum)
{
    uint16_t value = (uint16_t)~checksum_end(sum);

    if (value == 0)
        value = 0xffff;
    memcpy(at, &value, sizeof(value));
}

// Room in the list of pieces for as many views of the frame as may follow.
static bool has_room(const struct burst *out, const struct frame *frame)
{
    const uint32_t room = sizeof(out->segments) / sizeof(out->segments[0]) - out->segment_count;

    return room >= frame->segment_count + 2u * COMPLETE_VIEWS;
}

static struct frame *next_view(struct completion *completion, uint16_t frame, uint32_t segments, bool last)
{
    struct burst *out = &completion->burst;
    uint16_t i = out->count++;

    completion->frame[i] = frame;
    completion->segments[i] = segments;
    completion->last[i] = last;
    out->frames[i] = (struct frame){.id = out->count};
    return &out->frames[i];
}

// A frame whose checksum alone is missing: its bytes up to the checksum as
// views or, where they are few, a copy, so that what follows is but one piece.
static void fill_checksum(struct completion *completion, const struct burst *burst, uint16_t at)
{
    const struct frame *frame = &burst->frames[at];
    const uint32_t start = frame->offload.csum_start, field = start + frame->offload.csum_offset;
    uint8_t *header = completion->headers[completion->burst.count];
    struct burst *out = &completion->burst;
    struct frame *view = next_view(completion, at, 1, true);
    struct frame_reader reader = frame_reader_open(burst, frame);
    struct checksum sum = {0};

    if (frame->len <= SEGMENT_HEADER_MAX) {
        reader_copy(&reader, header, frame->len);
        checksum_add(&sum, header + start, frame->len - start);
        store_checksum(header + field, &sum);
        view_add(out, view, header, frame->len);
    } else if (field + CHECKSUM_LEN <= SEGMENT_HEADER_MAX) {
        reader_copy(&reader, header, field + CHECKSUM_LEN);
        checksum_add(&sum, header + start, field + CHECKSUM_LEN - start);
        view_add(out, view, header, field + CHECKSUM_LEN);
        view_add_from(out, view, &reader, frame->len - field - CHECKSUM_LEN, &sum);
        store_checksum(header + field, &sum);
    } else {
        view_add_from(out, view, &reader, start, NULL);
        view_add_from(out, view, &reader, field - start, &sum);
        reader_copy(&reader, header, CHECKSUM_LEN); // the sum of the pseudo header
        checksum_add(&sum, header, CHECKSUM_LEN);
        view_add(out, view, header, CHECKSUM_LEN);
        view_add_from(out, view, &reader, frame->len - field - CHECKSUM_LEN, &sum);
        store_checksum(header, &sum);
    }
}

// A frame to be segmented. Returns false if it can't be.
static bool fill_segments(struct completion *completion, const struct burst *burst, uint16_t at, uint32_t index,
                          uint8_t takes, uint32_t max)
{
    const struct frame *frame = &burst->frames[at];
    struct segment_plan *plan = &completion->plan;
    struct burst *out = &completion->burst;
    struct frame_reader reader = frame_reader_open(burst, frame);

    reader_copy(&reader, plan->header, frame->len < SEGMENT_HEADER_MAX ? frame->len : SEGMENT_HEADER_MAX);
    // A cursor beyond the end: the frame isn't what it was.
    if (segment_plan(plan, &frame->offload, frame->len) != 0 || index >= plan->count)
        return false;
    reader = frame_reader_open(burst, frame);
    reader_skip(&reader, plan->header_len + index * plan->gso_size);
    for (; index < plan->count && out->count < max; index++) {
        uint8_t *header = completion->headers[out->count];
        uint32_t payload = segment_payload(plan, index);
        struct frame *view = next_view(completion, at, index + 1, index + 1 == plan->count);

        segment_header(plan, index, header);
        view_add(out, view, header, plan->header_len);
        if (takes & OFFLOAD_CSUM) {
            view_add_from(out, view, &reader, payload, NULL);
            view->offload = (struct frame_offload){
                .flags = VIRTIO_NET_HDR_F_NEEDS_CSUM,
                .csum_start = frame->offload.csum_start,
                .csum_offset = frame->offload.csum_offset,
                .wants = OFFLOAD_CSUM,
            };
            out->offloads = OFFLOAD_CSUM;
        } else {
            struct checksum sum = {0};

            // The sum of the pseudo header stands in the field.
            checksum_add(&sum, header + plan->l4, plan->header_len - plan->l4);
            view_add_from(out, view, &reader, payload, &sum);
            store_checksum(header + frame->offload.csum_start + frame->offload.csum_offset, &sum);
        }
    }
    return true;
}

uint16_t complete_fill(struct completion *completion, const struct burst *burst, uint16_t at, uint16_t end,
                       uint32_t segment, uint8_t takes, uint32_t max)
{
    struct burst *out = &completion->burst;

    out->count = out->segment_count = 0;
    out->offloads = 0;
    out->owned = out->keep = false;
    if (max > COMPLETE_VIEWS)
        max = COMPLETE_VIEWS;
    for (uint16_t i = at; i < end && out->count < max; i++) {
        const struct frame *frame = &burst->frames[i];

        if (i > at && ((frame->offload.wants & ~takes) == 0 || !has_room(out, frame)))
            break;
        if (frame->offload.gso_type == VIRTIO_NET_HDR_GSO_NONE) {
            fill_checksum(completion, burst, i);
        } else if (!fill_segments(completion, burst, i, i == at ? segment : 0, takes, max)) {
            break;
        }
    }
    return out->count;
}

uint16_t complete_transmit(struct vif *vif, uint16_t queue, const struct burst *burst, uint16_t at, uint16_t end,
                           struct completion *completion, struct complete_state *state, enum transmit_stop *stop)
{
    uint16_t frames = 0;
    bool refused = false;

    *stop = TRANSMIT_ALL;
    while (at + frames < end && *stop == TRANSMIT_ALL) {
        uint8_t takes = refused ? 0 : complete_takes(vif, queue);
        uint16_t views, done;

        if (frames > 0 && (burst->frames[at + frames].offload.wants & ~takes) == 0)
            break; // it goes as it is
        if (state->budget == 0) {
            *stop = TRANSMIT_FULL;
            break;
        }
        views = complete_fill(completion, burst, at + frames, end, state->segment, takes, state->budget);
        if (views == 0) {
            *stop = TRANSMIT_BAD_OFFLOAD;
            break;
        }
        done = vif->ops->transmit(vif, queue, &completion->burst, 0, views, stop);
        // Not the driver that was asked, or a device that doesn't do it for such
        // headers: then it gets what wants nothing.
        if (*stop == TRANSMIT_OFFLOAD) {
            *stop = TRANSMIT_ALL;
            refused = true;
        }
        state->budget -= views;
        for (uint16_t i = 0; i < done; i++) {
            bool segmented = burst->frames[completion->frame[i]].offload.gso_type != VIRTIO_NET_HDR_GSO_NONE;

            state->sent.bytes += completion->burst.frames[i].len;
            state->count.segments += segmented;
            state->segment = completion->segments[i];
            if (completion->last[i]) {
                state->count.frames += segmented;
                state->segment = 0;
                frames++;
            }
        }
        state->sent.frames += done;
    }
    return frames;
}
