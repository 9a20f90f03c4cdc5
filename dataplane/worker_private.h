// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_WORKER_PRIVATE_H
#define PATCHBAY_WORKER_PRIVATE_H

// A worker's own state, shared by worker.c (its loop), worker_rest.c (how it
// sleeps) and worker_start.c (how it comes and goes).

#include "hop.h"
#include "publish.h"
#include "stage.h"
#include "worker.h"

enum { WORKER_SOURCES_MAX = (LIMIT_VHOST + LIMIT_ETHDEVS) * VIF_QUEUES_MAX };

struct worker {
    // Owned by the worker itself.
    unsigned index;
    bool adaptive;
    uint64_t now;                   // TSC at the start of the loop
    uint64_t rest_after;            // cycles that a queue stays empty before it rests
    const struct wire_table *table; // valid only in the loop that loaded it
    uint64_t table_serial;
    bool yields; // it shares the only CPU with everybody else
    uint64_t loop_frames;
    bool loop_worked;              // it had work, if only with what was no frame
    bool backwards;                // the direction of this loop's round
    bool first_found;              // first_next is known of this pair of rounds
    uint64_t turn;                 // which pair of rounds it is
    uint32_t first;                // index in active at which this pair of rounds begins; may be beyond the end
    uint32_t first_next;           // and the next pair
    struct stage_clock *measuring; // stages, in loops that are measured; else NULL
    uint64_t waiting_since;        // TSC of the first of the loops in a row in which nothing moved; 0: something did
    uint64_t last_glance;          // TSC of the last look at the queues at rest
    uint32_t active_count;
    uint32_t resting_count;
    const struct source **active; // WORKER_SOURCES_MAX

    // Read by others, written by the worker.
    _Alignas(64) _Atomic uint64_t loops;
    _Atomic uint64_t frames;
    _Atomic uint64_t busy_cycles;
    _Atomic uint64_t empty_cycles;
    _Atomic uint64_t started; // TSC; 0: not yet
    _Atomic uint64_t sleeps;
    _Atomic uint32_t source_count;
    // Set by the worker before it looks at the table a last time and sleeps;
    // read by those who change something for it, after they have.
    _Atomic bool sleeping;

    // Written by others.
    _Alignas(64) _Atomic bool stop;
    // The worker's last store. EAL's own join says the same, but in assembly
    // that a race detector doesn't see.
    _Atomic bool ended;
    _Atomic uint32_t queue_count; // receive queues that are its own; any thread but workers

    unsigned lcore;
    int epoll_fd;
    int wake_fd; // eventfd

    // Big, last.
    struct stage_clock stages;
    struct burst burst;
    struct burst part; // one tag's frames of a shared source
    uint8_t headers[LIMIT_BURST_FRAMES][18];
    struct hop_scratch scratch;
};

int worker_main(void *argument);

// Takes over a new table. The worker is online.
void worker_adopt(struct worker *worker, const struct wire_table *table);

// Puts active source i to rest: asks its driver to notify us. False: it has no
// way to, or a frame came; it stays.
bool worker_rest_source(struct worker *worker, uint32_t i);

// Lets others run, where there is but one CPU.
void worker_yield(void);

// After a loop: wakes sources whose driver notified us; sleeps when nothing is
// left to poll, or for at most a millisecond when there is but nothing moved for a while.
void worker_rest(struct worker *worker, bool moved, bool waiting);

#endif
