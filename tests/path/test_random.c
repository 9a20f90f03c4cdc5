// SPDX-License-Identifier: BSD-3-Clause

// Random programs, vifs and frames: what each receiver and monitor got is
// compared with what a simple model says, the sums hold after each burst, and a
// tap is the same in one pass and by way of a snapshot.
// PATCHBAY_TEST_SEED repeats a run.

#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { VIFS = 8, GUESTS = 5, MS = 1000000, STALL_MS = 50, SENT_MAX = 100000 };

static struct guest guests[GUESTS];
static struct nic nics[VIFS - GUESTS];
static uint32_t sent_len[SENT_MAX]; // by frame number

static void open_all(struct dice *dice)
{
    rig_start();
    for (unsigned i = 0; i < GUESTS; i++) {
        const struct guest_options options = {
            .tx = {.hdr_len = dice_below(dice, 4) ? 12 : 10, .start = (uint16_t)dice_u64(dice)},
            .rx = {.size = dice_below(dice, 2) ? 64 : 256,
                   .hdr_len = dice_below(dice, 4) ? 12 : 10,
                   .start = (uint16_t)dice_u64(dice)},
        };

        guest_open(&guests[i], i, &options);
    }
    for (unsigned i = 0; i < VIFS - GUESTS; i++)
        nic_open(&nics[i], GUESTS + i);
}

static void close_all(void)
{
    rig_publish(NULL, 0);
    for (unsigned i = 0; i < GUESTS; i++)
        guest_close(&guests[i]);
    for (unsigned i = 0; i < VIFS - GUESTS; i++)
        nic_close(&nics[i]);
    assert_int_equal(0, nic_buffers);
    rig_stop();
}

static struct vif *vif_of(unsigned slot)
{
    return vif_in_slot(slot);
}

static uint32_t take(unsigned slot, uint8_t *bytes)
{
    return slot < GUESTS ? guest_take(&guests[slot], bytes) : nic_take(&nics[slot - GUESTS], bytes);
}

// Numbers that a vif got, in order, since the last look; each is checked to the byte.
static unsigned take_all(unsigned slot, uint32_t *numbers)
{
    uint8_t bytes[LIMIT_FRAME_MAX + 64];
    unsigned count = 0;
    uint32_t len;

    while ((len = take(slot, bytes)) > 0) {
        uint32_t number = frame_number(bytes, len);

        assert_true(number < SENT_MAX);
        frame_expect(bytes, len, sent_len[number], 0, number);
        numbers[count++] = number;
    }
    return count;
}

static struct hop_program random_program(struct dice *dice, unsigned from)
{
    struct hop_program program = {0};
    unsigned steps = dice_below(dice, 5);

    for (unsigned i = 0; i <= steps; i++) {
        struct hop_step *step = &program.steps[program.step_count++];
        vif_slot vif = dice_below(dice, VIFS);

        while (vif == from)
            vif = dice_below(dice, VIFS);
        *step = (struct hop_step){.kind = HOP_END, .vif = vif, .stall_ms = STALL_MS};
        step->wait = dice_below(dice, 2);
        if (i < steps) {
            step->kind = dice_below(dice, 3) ? HOP_TAP : HOP_BUMP;
            if (step->kind == HOP_TAP && dice_below(dice, 8) == 0)
                step->vif = VIF_SLOT_NONE; // its port has none
            step->other = dice_below(dice, VIFS);
            step->fail_open = dice_below(dice, 2);
        } else if (dice_below(dice, 8) == 0) {
            *step = (struct hop_step){.kind = HOP_DROP, .reason = DROP_UNPLUGGED};
        }
    }
    return program;
}

static bool is_sound(vif_slot slot)
{
    return vif_link(vif_of(slot)) == VIF_LINK_UP || vif_link(vif_of(slot)) == VIF_LINK_PAUSED;
}

// The step that takes the frames, by the model's own reading of the program.
static int deciding_step(const struct hop_program *program)
{
    for (uint16_t i = 0; i < program->step_count; i++) {
        const struct hop_step *step = &program->steps[i];

        if (step->kind == HOP_END || step->kind == HOP_DROP)
            return i;
        if (step->kind == HOP_BUMP) {
            bool sound = is_sound(step->vif) && is_sound(step->other);

            if (sound || !step->fail_open)
                return i;
        }
    }
    return -1;
}

static void random_health(struct dice *dice)
{
    static const enum vif_link links[] = {VIF_LINK_UP,   VIF_LINK_UP,     VIF_LINK_UP,    VIF_LINK_UP,
                                          VIF_LINK_DOWN, VIF_LINK_PAUSED, VIF_LINK_BROKEN};

    for (unsigned slot = 0; slot < VIFS; slot++) {
        enum vif_link link = links[dice_below(dice, 7)];

        if (slot < GUESTS) {
            if (guests[slot].attachment != NULL && link != VIF_LINK_UP)
                guest_detach(&guests[slot], link);
            else if (guests[slot].attachment == NULL && link == VIF_LINK_UP)
                guest_attach(&guests[slot]);
        } else {
            vif_set_link(vif_of(slot), link, "test");
        }
    }
}

static void random_room(struct dice *dice)
{
    for (unsigned i = 0; i < GUESTS; i++) {
        unsigned some = dice_below(dice, 30);

        while (some-- > 0 && guests[i].rx.free_count > 0)
            guest_post(&guests[i], 1, dice_below(dice, 10) ? 2000 : 100);
    }
    for (unsigned i = 0; i < VIFS - GUESTS; i++) {
        static const enum transmit_stop refusals[] = {TRANSMIT_FULL, TRANSMIT_NO_MBUF, TRANSMIT_DOWN};

        nics[i].room = dice_below(dice, 40);
        nics[i].len_max = dice_below(dice, 4) ? 9300 : 200;
        nics[i].refuses = dice_below(dice, 6) ? TRANSMIT_ALL : refusals[dice_below(dice, 3)];
    }
}

static uint32_t unsent(unsigned from)
{
    return from < GUESTS ? guest_unsent(&guests[from]) : nic_unsent(&nics[from - GUESTS]);
}

// One wire with one program, some bursts under changing circumstances.
static void run(struct dice *dice, uint32_t *number)
{
    static uint32_t got[VIFS][4096];
    const unsigned from = dice_below(dice, VIFS);
    const struct hop_program program = random_program(dice, from);
    struct leg *leg = leg_create(&program);
    uint32_t first = *number; // of the frames that are in the source

    assert_non_null(leg);
    rig_publish(&(struct table_entry){.vif = from, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    for (unsigned round = 0; round < 20; round++) {
        struct leg_count before = leg_check(leg), after;
        unsigned count[VIFS], end_copies = 0;
        uint64_t left;
        int decides;

        random_health(dice);
        random_room(dice);
        for (unsigned some = dice_below(dice, 40); some > 0 && *number < SENT_MAX; some--) {
            uint32_t len = 18 + dice_below(dice, dice_below(dice, 10) ? 300 : 1900);

            if (from < GUESTS && (guests[from].attachment == NULL || guests[from].tx.free_count == 0))
                break;
            sent_len[*number] = len;
            if (from < GUESTS)
                guest_send(&guests[from], *number, len, 0);
            else
                nic_send(&nics[from - GUESTS], *number, len, 0, 1 + dice_below(dice, 3));
            (*number)++;
        }
        decides = deciding_step(&program);
        rig_now += dice_below(dice, 3 * STALL_MS) * MS;
        rig_poll();
        if (from < GUESTS)
            guest_forget_sent(&guests[from]);
        after = leg_check(leg);
        left = after.received.frames - before.received.frames;
        assert_int_equal(*number - first - left, unsent(from));
        for (unsigned slot = 0; slot < VIFS; slot++)
            count[slot] = take_all(slot, got[slot]);

        for (uint16_t i = 0; i < program.step_count; i++) {
            const struct hop_step *step = &program.steps[i];
            uint64_t delivered = after.steps[i].delivered.frames - before.steps[i].delivered.frames;

            if (step->kind == HOP_TAP) {
                // What is behind the deciding step sees nothing.
                assert_int_equal(i < decides ? left : 0, after.steps[i].tap.offered - before.steps[i].tap.offered);
                end_copies += after.steps[i].tap.copied.frames - before.steps[i].tap.copied.frames;
            } else {
                if (i != decides)
                    assert_int_equal(0, delivered);
                end_copies += delivered;
            }
        }
        // Each vif got just what was counted for it, in order for each of its
        // parts, and nothing that hasn't left the source.
        unsigned all = 0;

        for (unsigned slot = 0; slot < VIFS; slot++) {
            uint64_t want = 0;
            unsigned parts = 0, descents = 0;

            for (uint16_t i = 0; i < program.step_count; i++) {
                if (program.steps[i].kind == HOP_DROP || program.steps[i].vif != slot)
                    continue;
                parts++;
                want += program.steps[i].kind == HOP_TAP
                            ? after.steps[i].tap.copied.frames - before.steps[i].tap.copied.frames
                            : after.steps[i].delivered.frames - before.steps[i].delivered.frames;
            }
            assert_int_equal(want, count[slot]);
            for (unsigned i = 0; i < count[slot]; i++) {
                assert_in_range(got[slot][i], first, first + left - 1);
                descents += i > 0 && got[slot][i] <= got[slot][i - 1];
            }
            assert_true(descents < (parts > 0 ? parts : 1));
            all += count[slot];
        }
        assert_int_equal(end_copies, all);
        first += (uint32_t)left;
    }
    // What waits is thrown away.
    rig_publish(NULL, 0);
    if (from < GUESTS && guests[from].attachment == NULL)
        guest_attach(&guests[from]);
    while (unsent(from) > 0)
        assert_true(rig_poll() > 0);
    if (from < GUESTS)
        guest_forget_sent(&guests[from]);
    leg_destroy(leg);
}

static void test_programs(void **state)
{
    struct dice dice;
    uint32_t number = 0;

    (void)state;
    dice_open(&dice, "programs");
    while (number < 60000) {
        open_all(&dice);
        for (unsigned i = 0; i < 60; i++)
            run(&dice, &number);
        close_all();
    }
}

// ---- one pass and snapshot ----

struct outcome {
    struct leg_count count;
    uint64_t moved;
    unsigned got[2];
    uint32_t numbers[2][256];
};

// The same frames to receiver 1 with a tap to monitor 2, which has so much room.
// With a second tap, to a monitor without buffers, no one pass is possible.
static void tap_once(struct outcome *outcome, bool by_snapshot, bool wait, unsigned room, unsigned monitor_room,
                     uint64_t seed)
{
    struct hop_program program = {.step_count = by_snapshot ? 3 : 2};
    struct dice dice = {seed};
    struct leg *leg;

    open_all(&dice);
    program.steps[0] = (struct hop_step){.kind = HOP_TAP, .vif = 2};
    program.steps[1] = (struct hop_step){.kind = HOP_TAP, .vif = 3};
    program.steps[program.step_count - 1] =
        (struct hop_step){.kind = HOP_END, .vif = 1, .wait = wait, .stall_ms = STALL_MS};
    leg = leg_create(&program);
    assert_non_null(leg);
    rig_publish(&(struct table_entry){.vif = 0, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    for (unsigned i = 0; i < room; i++)
        guest_post(&guests[1], 1, dice_below(&dice, 8) ? 2000 : 100);
    for (unsigned i = 0; i < monitor_room; i++)
        guest_post(&guests[2], 1, dice_below(&dice, 8) ? 2000 : 100);
    for (uint32_t i = 0; i < 40; i++) {
        sent_len[i] = 18 + dice_below(&dice, 300);
        guest_send(&guests[0], i, sent_len[i], 0);
    }
    outcome->moved = rig_poll();
    outcome->got[0] = take_all(1, outcome->numbers[0]);
    outcome->got[1] = take_all(2, outcome->numbers[1]);
    outcome->count = leg_check(leg);
    close_all();
    leg_destroy(leg);
}

static void test_one_pass_is_as_a_snapshot(void **state)
{
    static struct outcome one, other;
    struct dice dice;

    (void)state;
    dice_open(&dice, "one pass");
    for (unsigned i = 0; i < 150; i++) {
        bool wait = i & 1;
        unsigned room = dice_below(&dice, 60), monitor_room = dice_below(&dice, 60);
        uint64_t seed = dice_u64(&dice) | 1;
        const struct step_count *end, *other_end;

        tap_once(&one, false, wait, room, monitor_room, seed);
        tap_once(&other, true, wait, room, monitor_room, seed);
        end = &one.count.steps[1];
        other_end = &other.count.steps[2];
        assert_int_equal(one.moved, other.moved);
        assert_memory_equal(one.got, other.got, sizeof(one.got));
        assert_memory_equal(one.numbers[0], other.numbers[0], one.got[0] * sizeof(uint32_t));
        assert_memory_equal(one.numbers[1], other.numbers[1], one.got[1] * sizeof(uint32_t));
        assert_memory_equal(one.count.dropped, other.count.dropped, sizeof(one.count.dropped));
        assert_memory_equal(&one.count.steps[0].tap, &other.count.steps[0].tap, sizeof(struct tap_count));
        assert_int_equal(end->delivered.bytes, other_end->delivered.bytes);
        assert_int_equal(other.count.received.frames, other.count.steps[1].tap.dropped[TAP_DROP_RING_FULL]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_programs),
        cmocka_unit_test(test_one_pass_is_as_a_snapshot),
    };

    return cmocka_run_group_tests_name("path: random", tests, NULL, NULL);
}
