// SPDX-License-Identifier: BSD-3-Clause

// The split or, with FUZZ_VIRTQUEUE_PACKED, the packed ring's engine against any bytes a guest can put into its memory.
//
// The input is the guest: 12 bytes choose the features and the engine's state
// (fuzz.py has their meaning, for its seeds), the rest is its memory, rings
// included, in two regions that have a hole between them. The engine receives
// from it, delivers to it and, as a tap, to a second ring of it.
// AddressSanitizer sees a byte outside; what must hold besides is checked here.

#include "dataplane/guest_log.h"
#include "dataplane/offload.h"
#include "dataplane/virtqueue.h"
#include "dataplane/virtqueue_packed_resume.h"
#include "fuzz.h"
#include "patchbay/counters.h"

enum {
    OPTIONS = 12,
    REGION = 4096,
    SIZE = 16, // ring entries, at most
    GUEST_BASE = 0x1000,
    GUEST_HOLE = 0x4000, // the second region's address: not next to the first
    FRAMES = 8,
    // Where the rings stand in the first region; the addresses inside them are the guest's.
    FROM_AT = 0,
    TO_AT = 1024,
    MONITOR_AT = 2048,
};

static void ring_open(struct virtqueue *vq, const struct guest_memory *memory, const struct guest_log *log,
                      uint8_t *host, unsigned at, const uint8_t options[2], uint16_t index, uint8_t smaller)
{
    uint8_t features = options[0];

    *vq = (struct virtqueue){
#ifdef FUZZ_VIRTQUEUE_PACKED
        .packed = true,
        .in_order = features & 16,
        .size = (uint16_t)(SIZE - smaller % SIZE),
        .ring = (void *)(host + at),
        .driver_event = (void *)(host + at + 16 * SIZE),
        .device_event = (void *)(host + at + 16 * SIZE + 4),
        .wrap = index >> 15,
#else
        .size = (uint16_t)(SIZE >> smaller % 5),
        .desc = (void *)(host + at),
        .avail = (void *)(host + at + 16 * SIZE),
        .used = (void *)(host + at + 16 * SIZE + 64),
        .last_avail = index,
        .last_used = index,
#endif
        .memory = memory,
        .log = features & 32 ? log : NULL,
        .hdr_len = features & 1 ? 10 : 12,
        .event_idx = features & 2,
        .indirect = features & 4,
        .mergeable = features & 8,
        .offloads = options[1] & OFFLOAD_ALL,
        .enabled = true,
        .kick_fd = -1,
        .call_fd = -1,
    };
#ifdef FUZZ_VIRTQUEUE_PACKED
    vq->next = index % vq->size;
    vq->used_size = sizeof(*vq->device_event);
#else
    vq->used_size = 6 + 8u * vq->size;
#endif
    // Where the front end has it logged, which may be anywhere.
    vq->used_log = options[1] & 128 ? UINT64_MAX - index : GUEST_BASE + (uint64_t)((uint8_t *)vq->used - host);
}

static bool lies_in(const uint8_t *data, uint32_t len, const uint8_t *region)
{
    return data >= region && data + len <= region + REGION;
}

static void check_burst(const struct virtqueue *vq, const struct burst *burst, const uint8_t *one, const uint8_t *two)
{
    must(burst->count <= LIMIT_BURST_FRAMES && burst->segment_count <= LIMIT_BURST_SEGMENTS);
    must((burst->offloads & ~vq->offloads) == 0);
    for (uint16_t i = 0; i < burst->count; i++) {
        const struct frame *frame = &burst->frames[i];
        uint32_t len = frame->data_len;

        must(frame->len >= LIMIT_FRAME_MIN && frame->segment_count >= 1);
        must(frame->len <= (burst->offloads & OFFLOAD_TSO ? LIMIT_FRAME_GSO_MAX : LIMIT_FRAME_MAX));
        must(lies_in(frame->data, frame->data_len, one) || lies_in(frame->data, frame->data_len, two));
        for (uint16_t j = 0; j + 1 < frame->segment_count; j++) {
            const struct frame_segment *segment = &burst->segments[frame->segment_first + j];

            must(lies_in(segment->data, segment->len, one) || lies_in(segment->data, segment->len, two));
            len += segment->len;
        }
        must(len == frame->len);
        if (burst->offloads != 0)
            check_offload(&frame->offload, frame->len, vq->offloads);
    }
}

// A receiver that doesn't take an offload says so; here the frame is then dropped.
static void deliver(struct virtqueue *to, const struct burst *burst)
{
    enum transmit_stop stop = TRANSMIT_OFFLOAD;

    for (uint16_t at = 0; at < burst->count && stop == TRANSMIT_OFFLOAD; at++)
        at += virtqueue_transmit(to, burst, at, burst->count - at, &stop);
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
    struct guest_log log = {.size = 1}; // of the first eight pages, which are more than there are
    uint8_t *one, *two;
    size_t rest;

    if (size < OPTIONS)
        return 0;
    rest = size - OPTIONS;
    // From malloc, so that a byte beyond either end is seen.
    one = aligned_alloc(64, REGION);
    two = aligned_alloc(64, REGION);
    log.bits = calloc(1, log.size);
    memset(one, 0, REGION);
    memset(two, 0, REGION);
    memcpy(one, data + OPTIONS, rest < REGION ? rest : REGION);
    if (rest > REGION)
        memcpy(two, data + OPTIONS + REGION, rest - REGION < REGION ? rest - REGION : REGION);
    memory = (struct guest_memory){.count = 2,
                                   .regions = {{GUEST_BASE, REGION, (uint64_t)(uintptr_t)one - GUEST_BASE},
                                               {GUEST_HOLE, REGION, (uint64_t)(uintptr_t)two - GUEST_HOLE}}};
    ring_open(&from, &memory, &log, one, FROM_AT, data, (uint16_t)(data[2] | data[3] << 8), data[11]);
    ring_open(&to, &memory, &log, one, TO_AT, data + 4, (uint16_t)(data[2] | data[3] << 8), data[11]);
    ring_open(&monitor, &memory, &log, one, MONITOR_AT, data + 6, (uint16_t)(data[8] | data[9] << 8), data[11]);

    for (int rounds = 0; rounds < 3 && from.broken == NULL; rounds++) {
        uint16_t count = virtqueue_receive(&from, &burst, discarded);

        check_burst(&from, &burst, one, two);
        // To itself: sources and targets may overlap, as a hostile guest can have it.
        deliver(&to, &burst);
        virtqueue_complete(&from, &burst, count);
        must(from.last_avail == from.last_used && from.next < from.size && to.next < to.size);
    }
    burst.count = FRAMES;
    burst.offloads = 0;
    for (unsigned i = 0; i < FRAMES; i++)
        frame_set_single(&burst.frames[i], payload[i], LIMIT_FRAME_MIN + (data[10] * (i + 1)) % 4000);
    must(virtqueue_transmit_tapped(&to, &monitor, &burst, 0, FRAMES, &stop, &tap) <= FRAMES);
    must(virtqueue_arm(&from) || !from.armed);
#ifdef FUZZ_VIRTQUEUE_PACKED
    // As after the daemon was killed: where the rings stand is to be seen in them.
    if (virtqueue_packed_resume(&from, (uint16_t)(from.next | from.wrap << 15), false, data[2] & 1))
        must(from.next < from.size);
    if (virtqueue_packed_resume(&to, (uint16_t)(data[2] % to.size | (data[3] << 8 & 0x8000)), true, data[3] & 1))
        must(to.next < to.size);
#endif
    free(log.bits);
    free(one);
    free(two);
    return 0;
}
