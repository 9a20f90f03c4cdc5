// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_STAGE_H
#define PATCHBAY_STAGE_H

// Where a worker's cycles go. Some loops are measured from end to end: at each
// border between two stages the time stamp counter is read, and what went by
// since the last border belongs to the stage that ends there. So the stages of
// a loop add up to the loop, and nothing falls between them.
//
// Which loops: of those that move frames, or give a guest its bad chains back,
// one in 64, at random intervals, since rings and guests have periods of their
// own. The choice is made before the loop begins, so neither how long it takes
// nor what it finds has a part in it; a loop that then does neither is forgotten
// and the next one is measured instead. What a border itself costs is measured
// at the start and taken off.
//
// The clock is its worker's own. In loops that aren't measured the pointer to it
// is NULL, and a border is one branch a burst. The sums' one writer is the
// worker, once a measured loop; others read them relaxed.

#include "dataplane.h"

#include <rte_branch_prediction.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { STAGE_SAMPLE_EVERY = 64 };

struct stage_sum {
    _Atomic uint64_t cycles;
    _Atomic uint64_t frames;
};

struct stage_clock {
    uint64_t mark;        // TSC at the last border
    uint64_t border_cost; // cycles
    uint64_t random;      // state; never 0
    uint32_t countdown;   // loops with work until the next measured one; 0: the next loop is
    // Of the loop being measured.
    uint64_t cycles[WORKER_STAGE_COUNT];
    uint64_t frames[WORKER_STAGE_COUNT];

    _Alignas(64) _Atomic uint64_t loops; // measured
    _Atomic uint64_t loop_frames;        // in them
    struct stage_sum sums[WORKER_STAGE_COUNT];
};

// Any thread, before the worker runs: measures what a border costs. seed: of
// the intervals.
void stage_init(struct stage_clock *clock, uint64_t seed);

// At a loop's start, of which `now` (TSC) is the moment: the clock if the loop
// is to be measured, else NULL. What went by since `now` is housekeeping.
struct stage_clock *stage_start(struct stage_clock *clock, uint64_t now);

static inline struct stage_clock *stage_loop(struct stage_clock *clock, uint64_t now)
{
    return unlikely(clock->countdown == 0) ? stage_start(clock, now) : NULL;
}

// The stage ends here. frames: how many passed it since its last end.
void stage_border(struct stage_clock *clock, enum worker_stage stage, uint64_t frames);

static inline void stage_end(struct stage_clock *clock, enum worker_stage stage, uint64_t frames)
{
    if (unlikely(clock != NULL))
        stage_border(clock, stage, frames);
}

// A loop with work has ended at `now` (TSC), having moved `frames` frames. measuring:
// what stage_loop returned for it.
void stage_finish(struct stage_clock *clock, uint64_t now, uint64_t frames);

static inline void stage_loop_end(struct stage_clock *clock, const struct stage_clock *measuring, uint64_t now,
                                  uint64_t frames)
{
    if (unlikely(measuring != NULL))
        stage_finish(clock, now, frames);
    else if (likely(clock->countdown > 0))
        clock->countdown--;
}

// Any thread.
void stage_read(const struct stage_clock *clock, struct worker_count *count);

#endif
