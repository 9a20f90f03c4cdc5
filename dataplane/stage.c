// SPDX-License-Identifier: BSD-3-Clause

// The measured loops. Hot: runs in workers, in one loop of many.

#include "stage.h"
#include "vif.h"

#include <rte_cycles.h>
#include <string.h>

enum { CALIBRATION_ROUNDS = 64, CALIBRATION_BORDERS = 256 };

// Borders in a row, with nothing between them: the lowest mean of many rounds,
// so that what interrupts us has no part in it.
static uint64_t measure_border(struct stage_clock *clock)
{
    uint64_t best = UINT64_MAX;

    for (unsigned round = 0; round < CALIBRATION_ROUNDS; round++) {
        clock->cycles[0] = 0;
        clock->mark = rte_rdtsc();
        for (unsigned i = 0; i < CALIBRATION_BORDERS; i++)
            stage_border(clock, (enum worker_stage)0, 0);
        if (clock->cycles[0] / CALIBRATION_BORDERS < best)
            best = clock->cycles[0] / CALIBRATION_BORDERS;
    }
    return best;
}

// Uniform from 2 on, with the mean STAGE_SAMPLE_EVERY. Never the next loop: that one
// pays for adding up this one.
static uint32_t next_interval(struct stage_clock *clock)
{
    clock->random ^= clock->random << 13;
    clock->random ^= clock->random >> 7;
    clock->random ^= clock->random << 17;
    return 2 + (uint32_t)(clock->random % (2 * STAGE_SAMPLE_EVERY - 3));
}

void stage_init(struct stage_clock *clock, uint64_t seed)
{
    memset(clock, 0, sizeof(*clock));
    clock->random = seed | 1;
    clock->border_cost = measure_border(clock);
    clock->countdown = next_interval(clock);
}

struct stage_clock *stage_start(struct stage_clock *clock, uint64_t now)
{
    memset(clock->cycles, 0, sizeof(clock->cycles));
    memset(clock->frames, 0, sizeof(clock->frames));
    clock->mark = now;
    stage_border(clock, WORKER_STAGE_HOUSEKEEPING, 0);
    return clock;
}

static void add(struct stage_clock *clock, enum worker_stage stage, uint64_t now, uint64_t cost)
{
    uint64_t cycles = now - clock->mark;

    clock->cycles[stage] += cycles > cost ? cycles - cost : 0;
    clock->mark = now;
}

void stage_border(struct stage_clock *clock, enum worker_stage stage, uint64_t frames)
{
    add(clock, stage, rte_rdtsc(), clock->border_cost);
    clock->frames[stage] += frames;
}

void stage_finish(struct stage_clock *clock, uint64_t now, uint64_t frames)
{
    // The loop reads the counter here anyway: this border is free.
    add(clock, WORKER_STAGE_HOUSEKEEPING, now, 0);
    clock->frames[WORKER_STAGE_HOUSEKEEPING] = frames;
    for (unsigned i = 0; i < WORKER_STAGE_COUNT; i++) {
        counter_add(&clock->sums[i].cycles, clock->cycles[i]);
        counter_add(&clock->sums[i].frames, clock->frames[i]);
    }
    counter_add(&clock->loop_frames, frames);
    counter_add(&clock->loops, 1);
    clock->countdown = next_interval(clock);
}

void stage_read(const struct stage_clock *clock, struct worker_count *count)
{
    count->sampled_loops = counter_read(&clock->loops);
    count->sampled_frames = counter_read(&clock->loop_frames);
    for (unsigned i = 0; i < WORKER_STAGE_COUNT; i++) {
        count->stages[i].cycles = counter_read(&clock->sums[i].cycles);
        count->stages[i].frames = counter_read(&clock->sums[i].frames);
    }
}
