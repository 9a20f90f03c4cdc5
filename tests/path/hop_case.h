// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TESTS_PATH_HOP_CASE_H
#define PATCHBAY_TESTS_PATH_HOP_CASE_H

// What every case of `path hop` stands on: eight guests and three NICs, one
// wire between some of them, and what was seen of it.

#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum {
    SLOT_A,
    SLOT_B,
    SLOT_IN,
    SLOT_OUT,
    SLOT_IN2,
    SLOT_OUT2,
    SLOT_M1,
    SLOT_M2,
    SLOT_NONE,
    SLOT_NIC,
    SLOT_NIC2,
    SLOT_NIC3
};
enum { STALL_MS = 100, MS = 1000000 };

extern struct guest a, b, in, out, in2, out2, m1, m2;
extern struct nic nic, nic2, nic3;
extern struct leg *leg; // the wire's only one

// Which reasons some test has seen, so that the last one can say that it was all.
extern bool dropped_seen[DROP_REASON_COUNT];
extern bool tap_dropped_seen[TAP_DROP_REASON_COUNT];
extern bool discarded_seen[VIF_DISCARD_REASON_COUNT];

int hop_setup(void **state);
// Looks as well whether a lock or a buffer was left behind.
int hop_teardown(void **state);

#define STEP_END(to, waits)                                                 \
    {                                                                       \
        .kind = HOP_END, .vif = (to), .wait = (waits), .stall_ms = STALL_MS \
    }
#define STEP_TAP(to)                 \
    {                                \
        .kind = HOP_TAP, .vif = (to) \
    }
#define STEP_BUMP(to, from, open)                                                                               \
    {                                                                                                           \
        .kind = HOP_BUMP, .vif = (to), .other = (from), .fail_open = (open), .wait = true, .stall_ms = STALL_MS \
    }
#define STEP_DROP(why)                    \
    {                                     \
        .kind = HOP_DROP, .reason = (why) \
    }

// Makes the wire from `from` whose only leg has these steps.
void wire_steps(vif_slot from, const struct hop_step *steps, uint16_t count);

#define WIRE(from, ...)                                        \
    wire_steps((from), (const struct hop_step[]){__VA_ARGS__}, \
               sizeof((const struct hop_step[]){__VA_ARGS__}) / sizeof(struct hop_step))

// The counters are right in themselves, and say where each of `received` went.
struct leg_count check(uint64_t received, uint64_t delivered, enum drop_reason reason, uint64_t dropped);

void send_some(struct guest *guest, uint32_t first, unsigned count, uint32_t len);
void expect_some(struct guest *guest, uint32_t first, unsigned count, uint32_t len);
void expect_none(struct guest *guest);
void nic_send_some(struct nic *from, uint32_t first, unsigned count, uint32_t len);
void nic_expect_some(struct nic *to, uint32_t first, unsigned count, uint32_t len);

// ---- the cases of the other files ----

// test_hop_receiver.c
void test_full_waits(void **state);
void test_full_drops(void **state);
void test_stalled(void **state);
void test_stall_clock_restarts(void **state);
void test_stall_clock_and_down(void **state);
void test_stall_clock_and_source_reset(void **state);
void test_stall_clock_and_replug(void **state);
void test_short_becomes_too_big(void **state);
void test_too_big(void **state);
void test_down_and_paused(void **state);
void test_just_attached(void **state);
void test_broken_receiver(void **state);
void test_no_mbuf(void **state);
void test_drop_steps(void **state);

// test_hop_tees.c
void test_bump_flips(void **state);
void test_bump_fails_while_waiting(void **state);
void test_several_bumps_and_taps(void **state);
void test_tap_and_its_drops(void **state);
void test_tap_of_a_stalled_wire(void **state);
void test_tap_on_a_nic(void **state);
void test_same_vif_twice(void **state);

#endif
