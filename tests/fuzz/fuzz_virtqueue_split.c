// SPDX-License-Identifier: BSD-3-Clause

// The split ring's engine against any bytes a guest can put into its memory.
//
// The input is the guest: a few bytes choose the features and the engine's
// state, the rest is its memory, rings included, in two regions that have a
// hole between them. The engine receives from it, delivers to it and, as a tap, to a second
// ring of it. AddressSanitizer sees a byte outside; what must hold besides is checked here.

#include "dataplane/virtqueue_split.h"
#include "patchbay/counters.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    REGION = 4096,
    SIZE = 16, // ring entries
    GUEST_BASE = 0x1000,
    GUEST_HOLE = 0x4000, // the second region's address: not next to the first
    FRAMES = 8,
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool so)
{
    if (!so)
        abort();
}

// Rings at fixed places of the first region: the addresses inside them are the guest's.
static void ring_open(struct virtqueue *vq, const struct guest_memory *memory, uint8_t *host, unsigned at,
                      const uint8_t options[4])
{
    *vq = (struct virtqueue){
        .desc = (void *)(host + at),
        .avail = (void *)(host + at + 16 * SIZE),
        .used = (void *)(host + at + 16 * SIZE + 64),
        .memory = memory,
        .size = SIZE,
        .hdr_len = options[0] & 1 ? 10 : 12,
        .event_idx = options[0] & 2,
        .indirect = options[0] & 4,
        .mergeable = options[0] & 8,
        .enabled = true,
        .kick_fd = -1,
        .call_fd = -1,
        .last_avail = (uint16_t)(options[1] | options[2] << 8),
        .last_used = (uint16_t)(options[1] | options[2] << 8),
    };
}

static bool lies_in(const uint8_t *data, uint32_t len, const uint8_t *region)
{
    return data >= region && data + len <= region + REGION;
}

static void check_burst(const struct burst *burst, const uint8_t *one, const uint8_t *two)
{
    must(burst->count <= LIMIT_BURST_FRAMES && burst->segment_count <= LIMIT_BURST_SEGMENTS);
    for (uint16_t i = 0; i < burst->count; i++) {
        const struct frame *frame = &burst->frames[i];
        uint32_t len = frame->data_len;

        must(frame->len >= LIMIT_FRAME_MIN && frame->len <= LIMIT_FRAME_MAX && frame->segment_count >= 1);
        must(lies_in(frame->data, frame->data_len, one) || lies_in(frame->data, frame->data_len, two));
        for (uint16_t j = 0; j + 1 < frame->segment_count; j++) {
            const struct frame_segment *segment = &burst->segments[frame->segment_first + j];

            must(lies_in(segment->data, segment->len, one) || lies_in(segment->data, segment->len, two));
            len += segment->len;
        }
        must(len == frame->len);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct burst burst;
    static uint8_t payload[FRAMES][LIMIT_FRAME_MAX];
    _Atomic uint64_t discarded[VIF_DISCARD_REASON_COUNT] = {0};
    struct tap_count tap = {0};
    struct virtqueue from, to, monitor;
    struct guest_memory memory;
    enum transmit_stop stop;
    uint8_t *one, *two;

    if (size < 8)
        return 0;
    // From malloc, so that a byte beyond either end is seen.
    one = aligned_alloc(64, REGION);
    two = aligned_alloc(64, REGION);
    memset(one, 0, REGION);
    memset(two, 0, REGION);
    memcpy(one, data + 8, size - 8 < REGION ? size - 8 : REGION);
    if (size - 8 > REGION)
        memcpy(two, data + 8 + REGION, size - 8 - REGION < REGION ? size - 8 - REGION : REGION);
    memory = (struct guest_memory){.count = 2,
                                   .regions = {{GUEST_BASE, REGION, (uint64_t)(uintptr_t)one - GUEST_BASE},
                                               {GUEST_HOLE, REGION, (uint64_t)(uintptr_t)two - GUEST_HOLE}}};
    ring_open(&from, &memory, one, 0, data);
    ring_open(&to, &memory, one, 1024, data);
    ring_open(&monitor, &memory, one, 2048, data + 4);

    for (int rounds = 0; rounds < 3 && from.broken == NULL; rounds++) {
        uint16_t count = virtqueue_split_receive(&from, &burst, discarded);

        check_burst(&burst, one, two);
        // To itself: sources and targets may overlap, as a hostile guest can have it.
        virtqueue_split_transmit(&to, &burst, 0, count, &stop);
        virtqueue_split_complete(&from, &burst, count);
        must(from.last_avail == from.last_used);
    }
    burst.count = FRAMES;
    for (unsigned i = 0; i < FRAMES; i++)
        frame_set_single(&burst.frames[i], payload[i], LIMIT_FRAME_MIN + (data[3] * (i + 1)) % 4000);
    must(virtqueue_split_transmit_tapped(&to, &monitor, &burst, 0, FRAMES, &stop, &tap) <= FRAMES);
    must(virtqueue_split_arm(&from) || !from.armed);
    free(one);
    free(two);
    return 0;
}
