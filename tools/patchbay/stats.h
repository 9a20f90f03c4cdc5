// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_STATS_H
#define PATCHBAY_CLI_STATS_H

// Counters as rows, whatever object they are of, so that sums and rates of
// all are made and printed alike.

#include "command.h"
#include "patchbay/limits.h"

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

// Of one stage of a worker's loops. More stages than the array takes: the last
// ones are left out.
enum { STATS_STAGES_MAX = 24 };
struct stats_stage {
    char name[24];
    uint64_t cycles, frames;
};

// Of one worker.
struct stats_worker {
    uint64_t worker, core;
    uint64_t loops, frames, busy_cycles, empty_cycles, cycles, sleeps, sources;
    uint64_t sampled_loops, sampled_frames; // which the stages are about
    size_t stage_count;                     // 0: a daemon that doesn't measure them
    struct stats_stage stages[STATS_STAGES_MAX];
};

// Of one receive queue.
struct stats_queue {
    char vif[LIMIT_NAME_LEN + 1];
    uint64_t queue, worker, frames, bytes, busy_cycles;
};

// What was counted at one moment.
struct stats {
    double at_s; // of the monotonic clock
    size_t row_count;
    struct stats_row *rows; // in the text pool until stats_own
    size_t worker_count;
    struct stats_worker *workers; // likewise
    size_t queue_count;
    struct stats_queue *queues; // likewise
};

// How samples of a kind are printed: all that was counted or, with what was
// counted before, rates; on one line each, for a log or a pipe.
struct stats_kind {
    void (*print)(const struct stats *now, const struct stats *before);
    void (*print_lines)(const struct stats *now, const struct stats *before);
};

// What is counted, once: the rows, and the JSON that they are made of.
struct stats_sample {
    struct stats stats;
    json_t *json;      // owned; see stats_take
    const char *title; // "" for none
    const struct stats_kind *kind;
    char instance[64]; // with --watch: the run of the daemon; "" from one that doesn't say
};

// ---- stats.c ----

// Asks for what the call's arguments name. Returns an exit code. The sample's
// rows are in the text pool; its JSON is the caller's to decref in any case.
int stats_take(struct call *call, struct stats_sample *sample);
// Frees a sample whose rows were taken out of the pool (stats_own).
void stats_drop(struct stats_sample *sample);
// Prints it for people; before may be NULL.
void stats_print_sample(const struct stats_sample *now, const struct stats_sample *before);

// ---- stats_watch.c ----

// Rates every so many seconds, `rounds` times; 0: until interrupted. Returns an exit code.
int stats_watch(struct call *call, double seconds, long long rounds);

// ---- stats_rows.c, stats_print.c ----

// Adds rows of a wire's, a vif's counters as the API gives them. summary: its
// two directions alone, named after the wire.
void stats_add_wire(struct stats *stats, const json_t *counters, bool summary);
void stats_add_vif(struct stats *stats, const json_t *counters);

// Adds the workers of /v1/stats.
void stats_add_workers(struct stats *stats, const json_t *counters);

// Adds the queues of /v1/stats?queues=1.
void stats_add_queues(struct stats *stats, const json_t *counters);

// ---- stats_queues.c: who polls what ----

// The workers, and the queues with what each has cost since the daemon's start; or,
// with what was counted before, since then.
void stats_print_queues(const struct stats *now, const struct stats *before);
// On one line a queue, for a log or a pipe.
void stats_print_queues_lines(const struct stats *now, const struct stats *before);

// ---- stats_cycles.c: where the workers' cycles go ----

// All of it since the daemon's start; or, with what was counted before, since then.
void stats_print_cycles(const struct stats *now, const struct stats *before);

// On one line a worker, for a log or a pipe.
void stats_print_cycles_lines(const struct stats *now, const struct stats *before);

// ---- stats_print.c ----

// What a counter grew by. One that shrank was started anew meanwhile.
uint64_t stats_grown_by(uint64_t now, uint64_t before);

// The workers as a table.
void stats_print_workers(const struct stats *now, const struct stats *before);

// "12:30:59"; in the text pool.
const char *stats_clock(void);

// ---- stats_rows.c ----

// Moves all that stats has out of the text pool, to live until stats_disown.
void stats_own(struct stats *stats);
void stats_disown(struct stats *stats);

// Prints sums; or, with what was counted before, rates a second.
void stats_print(const struct stats *now, const struct stats *before);

// The rates on one line a row, for a log or a pipe.
void stats_print_lines(const struct stats *now, const struct stats *before);

#endif
