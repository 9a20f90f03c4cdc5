// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_HOP_H
#define PATCHBAY_HOP_H

// What the dataplane does with the frames of one leg.

#include "complete.h"
#include "leg.h"
#include "stage.h"

struct wire_table;

// Enough for a burst: it ends with the frame that reaches LIMIT_BURST_BYTES.
enum { BOUNCE_SIZE = LIMIT_BURST_BYTES + LIMIT_FRAME_GSO_MAX };

// A worker's own scratch memory for one burst. Nothing in it outlives the burst.
struct hop_scratch {
    struct burst tagged;                  // views with a VLAN tag pushed
    uint8_t tags[LIMIT_BURST_FRAMES][16]; // their MAC addresses and tags
    struct completion completion;         // views of frames whose offloads are completed
    uint8_t bounce[BOUNCE_SIZE];          // snapshots of guests' frames
};

struct hop_context {
    uint64_t now; // TSC at the start of the loop
    struct vif_rxq *rxq;
    uint16_t queue;                // that rxq is
    struct stage_clock *measuring; // NULL: this loop isn't
    // The burst is part of what a shared source received: its frames can't
    // stay behind, whatever the leg says.
    bool shared;
    struct hop_scratch *scratch;
};

// Runs the leg's program on the burst. Returns how many frames, from the front,
// leave the source; they are counted as delivered or dropped. The others stay
// (on_full: wait). The frames' views may be changed.
uint16_t hop_run(const struct hop_context *context, struct leg *leg, struct burst *burst);

// All of the burst leaves the source and is dropped for this reason, whatever the program's end; its taps see it.
void hop_drop(const struct hop_context *context, struct leg *leg, enum drop_reason reason, struct burst *burst);

// Copies frames [first, first + count) to a TAP step's monitor and counts what
// became of each. Never waits; the frames stay as they are. The burst must be
// stable (owned or a snapshot) where anyone else reads it too.
void tap_run(const struct hop_context *context, struct leg_step *step, struct burst *burst, uint16_t first,
             uint16_t count);

// The copying part of it, under the lock of the monitor's queue: adds to all of
// counts but offered, and to given what the monitor got, segments one by one.
void tap_copy(struct vif *monitor, uint16_t queue, struct burst *burst, uint16_t first, uint16_t count,
              struct hop_scratch *scratch, struct tap_count *counts, struct frame_count *given);

// Adds a burst's tap counts to the step's.
void tap_add(struct leg_step *step, const struct tap_count *count);

// Sum of the frames' lengths, in bytes.
static inline uint64_t burst_bytes(const struct burst *burst, uint16_t first, uint16_t count)
{
    uint64_t bytes = 0;

    for (uint16_t i = first; i < first + count; i++)
        bytes += burst->frames[i].len;
    return bytes;
}

// Counts what a vif took. Under its txq's lock.
static inline void txq_add(struct vif_txq *txq, uint64_t frames, uint64_t bytes)
{
    counter_add(&txq->frames, frames);
    counter_add(&txq->bytes, bytes);
}

#endif
