// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TESTS_ETHDEV_FIXTURE_H
#define PATCHBAY_TESTS_ETHDEV_FIXTURE_H

// A dataplane whose vifs are on no table: its workers leave them alone, and
// the test plays the worker.

#include "dataplane/vif_ethdev.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

// Of a group of tests.
int fixture_start(void **state);
int fixture_stop(void **state);

// After a test: removes the vifs that one that failed has left.
int fixture_clean(void **state);

// Makes a vif in the first free slot; fails the test if it can't.
struct vif *fixture_make(enum vif_kind kind, const char *target);

// Expects it not to be made, for `error`, with `part` in the reason.
void fixture_refuse(enum vif_kind kind, const char *target, int error, const char *part);

// Removes a vif, and fails if any packet buffer is still out after it.
void fixture_remove(struct vif *vif);

// Packet buffers that are out of the pool.
unsigned fixture_buffers_out(struct vif *vif);

// Lines that DPDK or the dataplane logged as warnings or errors so far.
unsigned fixture_complaints(void);

// Waits until the vif's link is so; polls the links as housekeeping does if
// poll is set. Fails after 10 s.
void fixture_wait_link(struct vif *vif, enum vif_link link, bool poll);

// ---- frames of one's own memory ----

enum { FIXTURE_FRAMES = LIMIT_BURST_FRAMES };

struct fixture_frames {
    struct burst burst;
    uint8_t bytes[FIXTURE_FRAMES][LIMIT_FRAME_MAX + 64];
};

// The one there is; its frames are borrowed views.
extern struct fixture_frames fixture_out;
extern struct burst fixture_in;

// Empties it.
void fixture_clear(void);

// Adds a frame of len bytes, whose bytes follow from number, in pieces
// (0: one) of at most that many bytes.
void fixture_add(uint32_t number, uint32_t len, uint32_t piece);

// Checks a received frame against its number and length; what stands behind
// len is padding, all zero.
void fixture_check(const struct burst *burst, uint16_t at, uint32_t number, uint32_t len);

// The number that fixture_add wrote into a received frame.
uint32_t fixture_number(const struct burst *burst, uint16_t at);

#endif
