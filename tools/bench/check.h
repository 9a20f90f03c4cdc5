// SPDX-License-Identifier: BSD-3-Clause
// The state of a check run: shared by its engine (check.c) and its report (check_report.c).
#ifndef BENCH_CHECK_H
#define BENCH_CHECK_H

#include "track.h"
#include "traffic.h"

// What one port saw of one stream. Written by the worker.
struct check_view {
    uint64_t frames;    // good ones, duplicates among them
    uint64_t duplicate; // numbers that this view's track had seen
    uint64_t reordered; // new numbers below one that had arrived at this port before
    uint64_t next;      // one above the highest number so far
};

struct check_stream {
    const struct stream_spec *spec;
    uint16_t id;
    struct port *tx;
    uint64_t built; // numbers given out; the last `pending_count` of them wait in `pending`
    uint64_t sent;  // taken by the device
    uint64_t rate_start;
    uint16_t pending_count, pending_at;
    struct rte_mbuf *pending[TRAFFIC_BURST_MAX];

    struct track received; // the union over the receivers
    struct track copies[TRAFFIC_PORTS_MAX];
    struct check_view views[TRAFFIC_PORTS_MAX];
};

enum check_phase { CHECK_SENDING, CHECK_SETTLING, CHECK_OVER };

struct check {
    struct traffic *t;
    uint64_t start_tsc, end_tsc;
    enum check_phase phase; // written by the worker
    bool stalled;           // nothing moved for so long that the run was given up while sending
    bool unsettled;         // frames were missing when the settle time was over
    // Cycles while sending in which no frame arrived: now, and the most. Loops in which this program itself was kept
    // from its CPU don't count; the longest of those stands apart.
    uint64_t pause, pause_max, off_max;
    uint32_t rx_mask; // ports that are polled
    unsigned bad_printed;
    unsigned stream_count;
    struct check_stream streams[TRAFFIC_STREAMS_MAX];
};

// Prints one line of JSON on stderr: how far the run is. Called by the main thread while the worker runs.
void check_progress(const struct check *check);

// Prints the result on stdout and returns the exit code; the worker has ended.
int check_report(const struct check *check);

#endif
