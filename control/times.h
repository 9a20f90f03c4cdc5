// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TIMES_H
#define PATCHBAY_TIMES_H

// What the last change took, by stage, for GET /v1/stats. CPU time is the
// control thread's; the disk and the workers are waited for, so they have wall time.

#include <stddef.h>
#include <stdint.h>

struct times {
    uint64_t compile_ns; // CPU: affected wires compiled, their legs made
    uint64_t build_ns;   // CPU: the table, or both
    uint64_t publish_ns; // CPU: the swap
    uint64_t store_ns;   // wall: the commit, with its fsync
    uint64_t wait_ns;    // wall: until every worker has left the old table
    uint64_t published;  // tables since the start
    size_t wires;        // that were looked at
};

// Written by apply.c alone.
extern struct times times_last;

// A change begins: forgets the last one's stages.
void times_begin(void);
uint64_t times_cpu(void);
// Adds the CPU time since *since to a figure, and begins the next stage.
void times_take(uint64_t *figure, uint64_t *since);

#endif
