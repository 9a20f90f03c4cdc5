// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_STATS_H
#define PATCHBAY_CLI_STATS_H

// Counters as rows, whatever object they are of, so that sums and rates of
// all are made and printed alike.

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct stats_row {
    const char *name; // texts, here and below: in the text pool until stats_own
    unsigned depth;   // > 0: part of the row above with less
    const char *uid;  // of the object: another one counts from 0 again
    uint64_t in_frames, in_bytes;
    bool in_has_bytes; // a tap's offer is counted in frames alone
    uint64_t out_frames, out_bytes;
    uint64_t dropped;
    const char *reasons; // "12 full, 3 stalled"
};

// Of one worker.
struct stats_worker {
    uint64_t worker, core;
    uint64_t loops, frames, busy_cycles, cycles, sleeps, sources;
};

// What was counted at one moment.
struct stats {
    double at_s; // of the monotonic clock
    size_t row_count;
    struct stats_row *rows; // in the text pool until stats_own
    size_t worker_count;
    struct stats_worker *workers; // likewise
};

// Adds rows of a wire's, a vif's counters as the API gives them. summary: its
// two directions alone, named after the wire.
void stats_add_wire(struct stats *stats, const json_t *counters, bool summary);
void stats_add_vif(struct stats *stats, const json_t *counters);

// Adds the workers of /v1/stats.
void stats_add_workers(struct stats *stats, const json_t *counters);

// Moves all that stats has out of the text pool, to live until stats_disown.
void stats_own(struct stats *stats);
void stats_disown(struct stats *stats);

// Prints sums; or, with what was counted before, rates a second.
void stats_print(const struct stats *now, const struct stats *before);

// The rates on one line a row, for a log or a pipe.
void stats_print_lines(const struct stats *now, const struct stats *before);

#endif
