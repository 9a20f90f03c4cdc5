// SPDX-License-Identifier: BSD-3-Clause

// Frames over wires, through the real worker's loop: every reason to drop one,
// bumps that fail, taps before and behind them, clocks and locks. Each leg's
// counters are checked after each case.

#include "rig.h"

#include "dataplane/attachment.h"
#include "dataplane/offload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static struct guest a, b, in, out, in2, out2, m1, m2;
static struct nic nic, nic2, nic3;
static struct leg *leg;

// Which reasons some test has seen, so that the last one can say that it was all.
static bool dropped_seen[DROP_REASON_COUNT];
static bool tap_dropped_seen[TAP_DROP_REASON_COUNT];
static bool discarded_seen[VIF_DISCARD_REASON_COUNT];

static int setup(void **state)
{
    const struct guest_options plain = {.rx = {.mergeable = false}};
    const struct vif_config none = {.slot = SLOT_NONE, .name = "none", .kind = VIF_NONE};
    char reason[100];

    (void)state;
    rig_start();
    guest_open(&a, SLOT_A, &plain);
    guest_open(&b, SLOT_B, &plain);
    guest_open(&in, SLOT_IN, &plain);
    guest_open(&out, SLOT_OUT, &plain);
    guest_open(&in2, SLOT_IN2, &plain);
    guest_open(&out2, SLOT_OUT2, &plain);
    guest_open(&m1, SLOT_M1, &plain);
    guest_open(&m2, SLOT_M2, &plain);
    nic_open(&nic, SLOT_NIC);
    nic_open(&nic2, SLOT_NIC2);
    nic_open(&nic3, SLOT_NIC3);
    assert_int_equal(0, vif_create(&none, reason, sizeof(reason)));
    vif_list(SLOT_NONE, true);
    return 0;
}

static struct guest *const guests[] = {&a, &b, &in, &out, &in2, &out2, &m1, &m2};
static struct nic *const nics[] = {&nic, &nic2, &nic3};

static int teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(guests) / sizeof(guests[0]); i++) {
        struct vif_count count;

        assert_true(vif_read_count(guests[i]->slot, &count));
        for (unsigned j = 0; j < VIF_DISCARD_REASON_COUNT; j++)
            discarded_seen[j] |= count.discarded[j] > 0;
        // No lock was forgotten.
        assert_false(txq_is_locked(guests[i]->vif));
    }
    rig_publish(NULL, 0);
    leg_destroy(leg);
    leg = NULL;
    for (unsigned i = 0; i < sizeof(guests) / sizeof(guests[0]); i++)
        guest_close(guests[i]);
    for (unsigned i = 0; i < sizeof(nics) / sizeof(nics[0]); i++) {
        assert_false(txq_is_locked(nics[i]->vif));
        nic_close(nics[i]);
    }
    vif_destroy(SLOT_NONE);
    assert_int_equal(0, nic_buffers); // neither lost nor freed twice
    rig_stop();
    return 0;
}

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
static void wire_steps(vif_slot from, const struct hop_step *steps, uint16_t count)
{
    struct hop_program program = {.step_count = count};
    struct leg *old = leg;

    memcpy(program.steps, steps, count * sizeof(steps[0]));
    leg = leg_create(&program);
    assert_non_null(leg);
    rig_publish(&(struct table_entry){.vif = from, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    leg_destroy(old);
}

#define WIRE(from, ...)                                        \
    wire_steps((from), (const struct hop_step[]){__VA_ARGS__}, \
               sizeof((const struct hop_step[]){__VA_ARGS__}) / sizeof(struct hop_step))

// The counters are right in themselves, and say where each of `received` went.
static struct leg_count check(uint64_t received, uint64_t delivered, enum drop_reason reason, uint64_t dropped)
{
    struct leg_count count = leg_check(leg);

    assert_int_equal(received, count.received.frames);
    assert_int_equal(dropped, count.dropped[reason]);
    assert_int_equal(delivered, received - dropped);
    for (unsigned i = 0; i < DROP_REASON_COUNT; i++)
        dropped_seen[i] |= count.dropped[i] > 0;
    for (uint16_t i = 0; i < count.step_count; i++) {
        if (count.steps[i].kind != HOP_TAP)
            continue;
        for (unsigned j = 0; j < TAP_DROP_REASON_COUNT; j++)
            tap_dropped_seen[j] |= count.steps[i].tap.dropped[j] > 0;
    }
    return count;
}

static void send_some(struct guest *guest, uint32_t first, unsigned count, uint32_t len)
{
    for (unsigned i = 0; i < count; i++)
        guest_send(guest, first + i, len, 0);
}

static void expect_some(struct guest *guest, uint32_t first, unsigned count, uint32_t len)
{
    uint8_t bytes[LIMIT_FRAME_MAX + 64];

    for (unsigned i = 0; i < count; i++)
        frame_expect(bytes, guest_take(guest, bytes), len, 0, first + i);
}

static void expect_none(struct guest *guest)
{
    uint8_t bytes[LIMIT_FRAME_MAX + 64];

    assert_int_equal(0, guest_take(guest, bytes));
}

static void nic_send_some(struct nic *from, uint32_t first, unsigned count, uint32_t len)
{
    for (unsigned i = 0; i < count; i++)
        nic_send(from, first + i, len, 0, 1 + i % 3);
}

static void nic_expect_some(struct nic *to, uint32_t first, unsigned count, uint32_t len)
{
    uint8_t bytes[LIMIT_FRAME_MAX + 64];

    for (unsigned i = 0; i < count; i++)
        frame_expect(bytes, nic_take(to, bytes), len, 0, first + i);
}

// ---- a wire ----

static void test_wire(void **state)
{
    struct leg_count count;

    (void)state;
    WIRE(SLOT_A, STEP_END(SLOT_B, true));
    guest_post(&b, 100, 1526);
    send_some(&a, 0, 50, 60);
    send_some(&a, 50, 10, 1514);
    assert_int_equal(60, rig_poll());
    expect_some(&b, 0, 50, 60);
    expect_some(&b, 50, 10, 1514);
    expect_none(&b);
    assert_int_equal(0, guest_unsent(&a));
    guest_forget_sent(&a);
    count = check(60, 60, 0, 0);
    assert_int_equal(50 * 60 + 10 * 1514, count.received.bytes);
    assert_int_equal(50 * 60 + 10 * 1514, count.steps[0].delivered.bytes);
    assert_int_equal(0, rig_poll());
}

static void test_wire_to_none(void **state)
{
    (void)state;
    WIRE(SLOT_A, STEP_END(SLOT_NONE, true));
    send_some(&a, 0, 64, 100);
    rig_poll();
    check(64, 64, 0, 0);
    WIRE(SLOT_NIC, STEP_END(SLOT_NONE, true));
    nic_send_some(&nic, 0, 64, 100);
    rig_poll();
    check(64, 64, 0, 0);
}

// ---- a full receiver ----

static void test_full_waits(void **state)
{
    (void)state;
    WIRE(SLOT_A, STEP_END(SLOT_B, true));
    guest_post(&b, 3, 200);
    send_some(&a, 0, 10, 60);
    assert_int_equal(3, rig_poll());
    assert_int_equal(7, guest_unsent(&a));
    assert_int_equal(0, rig_poll());
    guest_post(&b, 2, 200);
    assert_int_equal(2, rig_poll());
    guest_post(&b, 20, 200);
    assert_int_equal(5, rig_poll());
    expect_some(&b, 0, 10, 60);
    check(10, 10, 0, 0);
}

static void test_full_drops(void **state)
{
    (void)state;
    WIRE(SLOT_A, STEP_END(SLOT_B, false));
    guest_post(&b, 3, 200);
    send_some(&a, 0, 10, 60);
    assert_int_equal(10, rig_poll());
    expect_some(&b, 0, 3, 60);
    check(10, 3, DROP_FULL, 7);
}

static void test_stalled(void **state)
{
    (void)state;
    WIRE(SLOT_A, STEP_END(SLOT_B, true));
    send_some(&a, 0, 3, 60);
    assert_int_equal(0, rig_poll()); // the clock starts
    rig_now += STALL_MS * MS;
    assert_int_equal(0, rig_poll()); // not a moment too early
    rig_now += 1;
    assert_int_equal(3, rig_poll());
    check(3, 0, DROP_STALLED, 3);
    // The next ones too, until there is room.
    assert_int_equal(0, rig_poll());
    send_some(&a, 3, 5, 60);
    assert_int_equal(5, rig_poll());
    check(8, 0, DROP_STALLED, 8);
    guest_post(&b, 1, 200);
    send_some(&a, 8, 2, 60);
    assert_int_equal(1, rig_poll()); // the second has a clock of its own
    expect_some(&b, 8, 1, 60);
    rig_now += STALL_MS * MS;
    assert_int_equal(0, rig_poll());
    guest_post(&b, 1, 200);
    assert_int_equal(1, rig_poll());
    expect_some(&b, 9, 1, 60);
    check(10, 2, DROP_STALLED, 8);
}

// Every head frame has its own stall_ms, whatever became of the one before it.
static void test_stall_clock_restarts(void **state)
{
    (void)state;
    WIRE(SLOT_A, STEP_END(SLOT_B, true));

    // With each frame that goes.
    send_some(&a, 0, 10, 60);
    for (unsigned i = 0; i < 10; i++) {
        assert_int_equal(0, rig_poll());
        rig_now += STALL_MS * MS - 1;
        assert_int_equal(0, rig_poll());
        guest_post(&b, 1, 200);
        assert_int_equal(1, rig_poll());
    }
    expect_some(&b, 0, 10, 60);
    check(10, 10, 0, 0);

    // With one that is dropped as too big.
    WIRE(SLOT_A, STEP_END(SLOT_NIC, true));
    nic.room = 0;
    guest_send(&a, 10, 300, 0);
    send_some(&a, 11, 1, 60);
    assert_int_equal(0, rig_poll());
    rig_now += STALL_MS * MS;
    nic.len_max = 200;
    assert_int_equal(1, rig_poll());
    rig_now += STALL_MS * MS;
    assert_int_equal(0, rig_poll());
    nic.room = 1;
    assert_int_equal(1, rig_poll());
    nic_expect_some(&nic, 11, 1, 60);
    check(2, 1, DROP_TOO_BIG, 1);
}

// The clock is that of a head frame and of the receiver it waits for.
static void test_stall_clock_and_down(void **state)
{
    (void)state;
    WIRE(SLOT_A, STEP_END(SLOT_B, true));
    send_some(&a, 0, 1, 60);
    assert_int_equal(0, rig_poll());
    rig_now += 50 * MS;
    guest_detach(&b, VIF_LINK_DOWN);
    assert_int_equal(1, rig_poll());
    check(1, 0, DROP_DOWN, 1);
    // It comes back, with no buffers yet, long after: a new frame, a new clock.
    rig_now += 10000 * (uint64_t)MS;
    guest_attach(&b);
    send_some(&a, 1, 1, 60);
    assert_int_equal(0, rig_poll());
    rig_now += STALL_MS * MS;
    assert_int_equal(0, rig_poll());
    guest_post(&b, 1, 200);
    assert_int_equal(1, rig_poll());
    check(2, 1, DROP_DOWN, 1);
}

// A source that vanishes with the head frame takes the clock along.
static void test_stall_clock_and_source_reset(void **state)
{
    (void)state;
    WIRE(SLOT_A, STEP_END(SLOT_B, true));
    send_some(&a, 0, 1, 60);
    assert_int_equal(0, rig_poll());
    guest_detach(&a, VIF_LINK_DOWN);
    rig_now += 10 * MS;
    assert_int_equal(0, rig_poll());
    rig_now += 1000 * MS;
    guest_attach(&a);
    assert_int_equal(0, rig_poll());
    rig_now += STALL_MS * MS;
    assert_int_equal(0, rig_poll());
    guest_post(&b, 1, 200);
    assert_int_equal(1, rig_poll());
    check(1, 1, 0, 0);
}

// Replugged to another receiver, the head frame waits for that one anew; a
// change elsewhere doesn't touch its clock.
static void test_stall_clock_and_replug(void **state)
{
    struct leg_count count;

    (void)state;
    WIRE(SLOT_A, STEP_END(SLOT_B, true));
    send_some(&a, 0, 1, 60);
    assert_int_equal(0, rig_poll());
    rig_now += STALL_MS * MS + 1;
    assert_int_equal(1, rig_poll());
    check(1, 0, DROP_STALLED, 1);
    send_some(&a, 1, 1, 60);
    WIRE(SLOT_A, STEP_END(SLOT_IN, true));
    assert_int_equal(0, rig_poll());
    assert_int_equal(1, guest_unsent(&a)); // not dropped for what b did
    for (unsigned i = 0; i < 20; i++) {
        rig_now += STALL_MS * MS / 10;
        rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
        rig_poll();
    }
    count = leg_check(leg);
    assert_int_equal(1, count.dropped[DROP_STALLED]); // generations that change nothing don't hold it up
    assert_int_equal(1, count.received.frames);
}

static void test_short_becomes_too_big(void **state)
{
    struct leg_count count;

    (void)state;
    guest_detach(&b, VIF_LINK_DOWN);
    b.rx.vq.mergeable = true;
    guest_attach(&b);
    WIRE(SLOT_A, STEP_END(SLOT_B, true));
    guest_post(&b, 2, 500);
    guest_send(&a, 0, 1514, 0);
    send_some(&a, 1, 1, 60);
    assert_int_equal(0, rig_poll());
    rig_now += STALL_MS * MS;
    assert_int_equal(0, rig_poll());
    rig_now += 1;
    assert_int_equal(2, rig_poll()); // buffers are there, and it still doesn't fit; the other does
    expect_some(&b, 1, 1, 60);
    count = check(2, 1, DROP_TOO_BIG, 1);
    assert_int_equal(0, count.dropped[DROP_STALLED]);
}

static void test_too_big(void **state)
{
    (void)state;
    for (unsigned wait = 0; wait < 2; wait++) {
        WIRE(SLOT_A, STEP_END(SLOT_B, wait));
        guest_post(&b, 10, 200);
        send_some(&a, 0, 2, 60);
        guest_send(&a, 2, 1514, 0);
        send_some(&a, 3, 2, 60);
        guest_send(&a, 5, 1514, 0);
        assert_int_equal(6, rig_poll());
        expect_some(&b, 0, 2, 60);
        expect_some(&b, 3, 2, 60);
        check(6, 4, DROP_TOO_BIG, 2);
    }
}

static void test_down_and_paused(void **state)
{
    struct leg_count count;

    (void)state;
    for (unsigned wait = 0; wait < 2; wait++) {
        WIRE(SLOT_A, STEP_END(SLOT_B, wait));
        guest_post(&b, 10, 200);
        guest_detach(&b, VIF_LINK_DOWN);
        send_some(&a, 0, 4, 60);
        assert_int_equal(4, rig_poll());
        check(4, 0, DROP_DOWN, 4);
        guest_attach(&b);
        guest_detach(&b, VIF_LINK_PAUSED);
        send_some(&a, 4, 4, 60);
        assert_int_equal(wait ? 0 : 4, rig_poll());
        guest_attach(&b);
        assert_int_equal(wait ? 4 : 0, rig_poll());
        if (wait)
            expect_some(&b, 4, 4, 60);
        count = leg_check(leg);
        assert_int_equal(8, count.received.frames);
        assert_int_equal(4, count.dropped[DROP_DOWN]);
        assert_int_equal(wait ? 0 : 4, count.dropped[DROP_FULL]);
    }
}

// Who sees no attachment may see the link of the next one already: it has come
// back, and nothing is to be dropped for that moment.
static void test_just_attached(void **state)
{
    struct leg_count count;

    (void)state;
    for (unsigned tapped = 0; tapped < 2; tapped++) {
        if (tapped)
            WIRE(SLOT_A, STEP_TAP(SLOT_M1), STEP_END(SLOT_B, true));
        else
            WIRE(SLOT_A, STEP_END(SLOT_B, true));
        guest_post(&m1, tapped ? 4 : 0, 200);
        guest_detach(&b, VIF_LINK_PAUSED);
        vif_set_link(b.vif, VIF_LINK_UP, "%s", "");
        send_some(&a, 0, 4, 60);
        assert_int_equal(0, rig_poll());
        guest_attach(&b);
        guest_post(&b, 4, 200);
        assert_int_equal(4, rig_poll());
        expect_some(&b, 0, 4, 60);
        count = check(4, 4, 0, 0);
        if (tapped)
            assert_int_equal(4, count.steps[0].tap.copied.frames);
    }
}

static void test_broken_receiver(void **state)
{
    struct leg_count count;

    (void)state;
    WIRE(SLOT_A, STEP_END(SLOT_B, true));
    send_some(&a, 0, 4, 60);
    b.rx.avail->ring[0] = 5000;
    b.rx.avail->idx = 1;
    rig_poll();
    assert_int_equal(VIF_LINK_BROKEN, vif_link(b.vif));
    rig_poll();
    count = leg_check(leg);
    assert_int_equal(4, count.dropped[DROP_DOWN]);
}

static void test_no_mbuf(void **state)
{
    (void)state;
    for (unsigned wait = 0; wait < 2; wait++) {
        WIRE(SLOT_A, STEP_END(SLOT_NIC, wait));
        nic.refuses = TRANSMIT_NO_MBUF;
        send_some(&a, 0, 4, 60);
        assert_int_equal(wait ? 0 : 4, rig_poll());
        nic.refuses = TRANSMIT_ALL;
        assert_int_equal(wait ? 4 : 0, rig_poll());
        if (wait)
            nic_expect_some(&nic, 0, 4, 60);
        check(4, wait ? 4 : 0, DROP_NO_MBUF, wait ? 0 : 4);
    }
}

static void test_drop_steps(void **state)
{
    static const enum drop_reason reasons[] = {DROP_UNPLUGGED, DROP_ADMIN_DOWN, DROP_LATE};

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        for (unsigned taps = 0; taps < 3; taps++) {
            if (taps == 0)
                WIRE(SLOT_A, STEP_DROP(reasons[i]));
            else if (taps == 1)
                WIRE(SLOT_A, STEP_TAP(SLOT_M1), STEP_DROP(reasons[i]));
            else
                WIRE(SLOT_A, STEP_TAP(SLOT_M1), STEP_TAP(SLOT_M2), STEP_DROP(reasons[i]));
            guest_post(&m1, taps > 0 ? 7 : 0, 200);
            guest_post(&m2, taps > 1 ? 7 : 0, 200);
            send_some(&a, 0, 7, 60);
            assert_int_equal(7, rig_poll());
            expect_some(&m1, 0, taps > 0 ? 7 : 0, 60);
            expect_some(&m2, 0, taps > 1 ? 7 : 0, 60);
            check(7, 0, reasons[i], 7);
        }
}

// ---- locks ----

static void test_contended_receiver(void **state)
{
    (void)state;
    for (unsigned wait = 0; wait < 2; wait++)
        for (unsigned tapped = 0; tapped < 2; tapped++) {
            struct leg_count count;

            if (tapped)
                WIRE(SLOT_A, STEP_TAP(SLOT_M1), STEP_END(SLOT_B, wait));
            else
                WIRE(SLOT_A, STEP_END(SLOT_B, wait));
            guest_post(&b, 4, 200);
            guest_post(&m1, tapped ? 4 : 0, 200);
            send_some(&a, 0, 4, 60);
            assert_true(txq_try(b.vif));
            assert_int_equal(wait ? 0 : 4, rig_poll());
            txq_release(b.vif);
            assert_int_equal(wait ? 4 : 0, rig_poll());
            if (wait)
                expect_some(&b, 0, 4, 60);
            // The tap has seen each frame that left, once.
            expect_some(&m1, 0, tapped ? 4 : 0, 60);
            expect_none(&m1);
            count = check(4, wait ? 4 : 0, DROP_FULL, wait ? 0 : 4);
            if (tapped)
                assert_int_equal(4, count.steps[0].tap.copied.frames);
            while (guest_take(&b, (uint8_t[LIMIT_FRAME_MAX + 64]){0}) > 0)
                ;
        }
}

static void test_contended_monitor(void **state)
{
    struct leg_count count;

    (void)state;
    WIRE(SLOT_A, STEP_TAP(SLOT_M1), STEP_END(SLOT_B, true));
    guest_post(&b, 10, 200);
    guest_post(&m1, 10, 200);
    send_some(&a, 0, 4, 60);
    assert_true(txq_try(m1.vif));
    assert_int_equal(4, rig_poll());
    txq_release(m1.vif);
    expect_some(&b, 0, 4, 60);
    expect_none(&m1);
    count = check(4, 4, 0, 0);
    assert_int_equal(4, count.steps[0].tap.dropped[TAP_DROP_CONTENDED]);
}

// ---- bumps ----

static void test_bump_flips(void **state)
{
    static const enum vif_link links[] = {VIF_LINK_DOWN, VIF_LINK_BROKEN, VIF_LINK_PAUSED, VIF_LINK_UP};

    (void)state;
    for (unsigned open = 0; open < 2; open++) {
        uint64_t received = 0, closed = 0;
        uint32_t number = 0;

        WIRE(SLOT_A, STEP_BUMP(SLOT_IN, SLOT_OUT, open), STEP_END(SLOT_B, true));
        for (unsigned first = 0; first < 4; first++)
            for (unsigned second = 0; second < 4; second++) {
                bool sound = links[first] >= VIF_LINK_UP && links[first] != VIF_LINK_BROKEN &&
                             links[second] >= VIF_LINK_UP && links[second] != VIF_LINK_BROKEN;
                struct guest *to = sound ? &in : &b;

                // By the health word alone: no table, no control thread.
                atomic_store(&in.vif->health.link, links[first]);
                atomic_store(&out.vif->health.link, links[second]);
                send_some(&a, number, 3, 60);
                guest_post(to, sound || open ? 3 : 0, 200);
                assert_int_equal(3, rig_poll());
                received += 3;
                if (sound || open)
                    expect_some(to, number, 3, 60);
                else
                    closed += 3;
                expect_none(&in);
                expect_none(&b);
                number += 3;
                check(received, received - closed, DROP_BUMP_DOWN, closed);
            }
        atomic_store(&in.vif->health.link, VIF_LINK_UP);
        atomic_store(&out.vif->health.link, VIF_LINK_UP);
    }
}

// Frames that wait for a full appliance follow the bypass when it fails.
static void test_bump_fails_while_waiting(void **state)
{
    (void)state;
    WIRE(SLOT_A, STEP_BUMP(SLOT_IN, SLOT_OUT, true), STEP_END(SLOT_B, true));
    guest_post(&in, 2, 200);
    guest_post(&b, 10, 200);
    send_some(&a, 0, 5, 60);
    assert_int_equal(2, rig_poll());
    atomic_store(&out.vif->health.link, VIF_LINK_DOWN);
    assert_int_equal(3, rig_poll());
    expect_some(&in, 0, 2, 60);
    expect_some(&b, 2, 3, 60);
    check(5, 5, 0, 0);
    atomic_store(&out.vif->health.link, VIF_LINK_UP);
}

static void test_several_bumps_and_taps(void **state)
{
    (void)state;
    // Which of two bumps are sound; the taps between see what gets to them.
    for (unsigned sound = 0; sound < 4; sound++) {
        bool first = sound & 1, second = sound & 2;
        struct leg_count count;
        struct guest *to = first ? &in : second ? &in2 : &b;

        WIRE(SLOT_A, STEP_TAP(SLOT_M1), STEP_BUMP(SLOT_IN, SLOT_OUT, true), STEP_TAP(SLOT_M2),
             STEP_BUMP(SLOT_IN2, SLOT_OUT2, true), STEP_END(SLOT_B, true));
        atomic_store(&out.vif->health.link, first ? VIF_LINK_UP : VIF_LINK_DOWN);
        atomic_store(&in2.vif->health.link, second ? VIF_LINK_UP : VIF_LINK_DOWN);
        guest_post(to, 5, 200);
        guest_post(&m1, 5, 200);
        guest_post(&m2, first ? 0 : 5, 200);
        send_some(&a, 0, 5, 60);
        assert_int_equal(5, rig_poll());
        expect_some(to, 0, 5, 60);
        expect_some(&m1, 0, 5, 60);
        expect_some(&m2, 0, first ? 0 : 5, 60);
        expect_none(&m2);
        count = check(5, 5, 0, 0);
        assert_int_equal(5, count.steps[0].tap.offered);
        assert_int_equal(first ? 0 : 5, count.steps[2].tap.offered);
        assert_int_equal(first ? 5 : 0, count.steps[1].delivered.frames);
        assert_int_equal(!first && second ? 5 : 0, count.steps[3].delivered.frames);
        assert_int_equal(!first && !second ? 5 : 0, count.steps[4].delivered.frames);
    }
    atomic_store(&out.vif->health.link, VIF_LINK_UP);
    atomic_store(&in2.vif->health.link, VIF_LINK_UP);
}

// ---- what a vif sends and nobody takes ----

// Sends a frame of len zeros whose header is the caller's to write, at the address
// returned.
static uint64_t driver_add_header(struct driver *driver, uint32_t len)
{
    uint64_t at = driver_alloc(driver, driver->vq.hdr_len + len);

    for (uint32_t i = 0; i < driver->vq.hdr_len + len; i++)
        driver_write(driver, at + i, "", 1);
    driver_add_one(driver, at, driver->vq.hdr_len + len, 0);
    driver_publish(driver);
    return at;
}

static void test_discards(void **state)
{
    struct vif_count count;
    uint8_t bytes[2000];

    (void)state;
    // No wire: drained. A monitor: drained, too.
    rig_publish(&(struct table_entry){.vif = SLOT_M1, .vlan = TABLE_ANY_VLAN, .monitor = true}, 1);
    send_some(&a, 0, 5, 60);
    send_some(&m1, 0, 6, 60);
    assert_int_equal(11, rig_poll());
    assert_true(vif_read_count(SLOT_A, &count));
    assert_int_equal(5, count.discarded[VIF_DISCARD_UNWIRED]);
    assert_int_equal(5, count.received.frames);
    assert_true(vif_read_count(SLOT_M1, &count));
    assert_int_equal(6, count.discarded[VIF_DISCARD_MONITOR]);

    // No frames at all.
    WIRE(SLOT_A, STEP_END(SLOT_B, true));
    guest_post(&b, 10, 200);
    driver_add_one(&a.tx, driver_alloc(&a.tx, 20), 20, 0);     // 8 bytes
    driver_add_one(&a.tx, driver_alloc(&a.tx, 9300), 9300, 0); // 9,288
    driver_add_one(&a.tx, 5, 72, 0);                           // nowhere
    guest_send(&a, 7, 60, 0);
    rig_poll();
    assert_true(vif_read_count(SLOT_A, &count));
    assert_int_equal(1, count.discarded[VIF_DISCARD_RUNT]);
    assert_int_equal(1, count.discarded[VIF_DISCARD_GIANT]);
    assert_int_equal(1, count.discarded[VIF_DISCARD_BAD_CHAIN]);
    frame_expect(bytes, guest_take(&b, bytes), 60, 0, 7);
    check(1, 1, 0, 0);

    // Headers that can't be true, once the driver negotiated offloads.
    a.attachment->queues[0].from_guest.offloads = OFFLOAD_ALL;
    driver_write(&a.tx, driver_add_header(&a.tx, 100), (const uint8_t[]){1, 0, 0, 0, 0, 0, 14, 0, 85, 0}, 10);
    driver_write(&a.tx, driver_add_header(&a.tx, 100), (const uint8_t[]){0, 1, 0, 0, 1}, 5);
    rig_poll();
    assert_true(vif_read_count(SLOT_A, &count));
    assert_int_equal(2, count.discarded[VIF_DISCARD_BAD_HEADER]);
    a.attachment->queues[0].from_guest.offloads = 0;

    // Held: they stay where they are.
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg, .held = true}, 1);
    send_some(&a, 8, 3, 60);
    assert_int_equal(0, rig_poll());
    assert_int_equal(3, guest_unsent(&a));
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    rig_poll();
    expect_some(&b, 8, 3, 60);
    check(4, 4, 0, 0);
}

// ---- taps ----

// The monitor's state, and what it makes of ten frames of which the receiver
// takes `room` at once and the rest later (wait) or never.
enum monitor { MONITOR_FINE, MONITOR_FEW, MONITOR_SMALL, MONITOR_DOWN, MONITOR_PAUSED, MONITOR_LOCKED, MONITOR_NONE };

static void test_tap_and_its_drops(void **state)
{
    static const int reasons[] = {-1,
                                  TAP_DROP_RING_FULL,
                                  TAP_DROP_TOO_BIG,
                                  TAP_DROP_DOWN,
                                  TAP_DROP_PAUSED,
                                  TAP_DROP_CONTENDED,
                                  TAP_DROP_RING_FULL};

    (void)state;
    for (unsigned kind = 0; kind < 7; kind++)
        for (unsigned wait = 0; wait < 2; wait++)
            for (unsigned taps = 1; taps < 3; taps++)
                for (unsigned room = 0; room <= 10; room += 5) {
                    const unsigned copies = kind == MONITOR_FINE ? 10 : kind == MONITOR_FEW ? 4 : 0;
                    struct leg_count count;
                    unsigned got = 0;
                    uint8_t bytes[2000];
                    uint32_t len;

                    if (taps == 1)
                        WIRE(SLOT_A, STEP_TAP(SLOT_M1), STEP_END(SLOT_B, wait));
                    else
                        WIRE(SLOT_A, STEP_TAP(SLOT_M1), STEP_TAP(SLOT_M2), STEP_END(SLOT_B, wait));
                    guest_post(&b, room, 200);
                    guest_post(&m2, taps > 1 ? 10 : 0, 200);
                    guest_post(&m1,
                               kind == MONITOR_NONE  ? 0
                               : kind == MONITOR_FEW ? 4
                                                     : 10,
                               kind == MONITOR_SMALL ? 70 : 200);
                    if (kind == MONITOR_DOWN || kind == MONITOR_PAUSED)
                        guest_detach(&m1, kind == MONITOR_DOWN ? VIF_LINK_DOWN : VIF_LINK_PAUSED);
                    if (kind == MONITOR_LOCKED)
                        assert_true(txq_try(m1.vif));
                    send_some(&a, 0, 10, 60);
                    assert_int_equal(wait ? room : 10, rig_poll());
                    if (wait && room < 10) {
                        guest_post(&b, 10 - room, 200);
                        assert_int_equal(10 - room, rig_poll());
                    }
                    if (kind == MONITOR_LOCKED)
                        txq_release(m1.vif);
                    if (kind == MONITOR_DOWN || kind == MONITOR_PAUSED)
                        guest_attach(&m1);
                    expect_some(&b, 0, wait ? 10 : room, 60);
                    expect_none(&b);
                    expect_some(&m2, 0, taps > 1 ? 10 : 0, 60);
                    while ((len = guest_take(&m1, bytes)) > 0)
                        frame_expect(bytes, len, 60, 0, got++);
                    assert_int_equal(copies, got);
                    count = check(10, wait ? 10 : room, DROP_FULL, wait ? 0 : 10 - room);
                    assert_int_equal(10, count.steps[0].tap.offered);
                    assert_int_equal(copies, count.steps[0].tap.copied.frames);
                    assert_int_equal(copies * 60, count.steps[0].tap.copied.bytes);
                    if (reasons[kind] >= 0)
                        assert_int_equal(10 - copies, count.steps[0].tap.dropped[reasons[kind]]);
                    if (taps > 1)
                        assert_int_equal(10, count.steps[1].tap.copied.frames);
                    // The buffers that are left over would be taken for the next case's.
                    teardown(NULL);
                    setup(NULL);
                }
}

static void test_tap_of_a_stalled_wire(void **state)
{
    struct leg_count count;

    (void)state;
    WIRE(SLOT_A, STEP_TAP(SLOT_M1), STEP_END(SLOT_B, true));
    guest_post(&m1, 10, 200);
    send_some(&a, 0, 5, 60);
    assert_int_equal(0, rig_poll());
    expect_none(&m1); // it has not left the source
    rig_now += STALL_MS * MS + 1;
    assert_int_equal(5, rig_poll());
    expect_some(&m1, 0, 5, 60);
    count = check(5, 0, DROP_STALLED, 5);
    assert_int_equal(5, count.steps[0].tap.copied.frames);
}

static void test_tap_on_a_nic(void **state)
{
    struct leg_count count;

    (void)state;
    WIRE(SLOT_A, STEP_TAP(SLOT_NIC), STEP_END(SLOT_B, true));
    guest_post(&b, 10, 200);
    send_some(&a, 0, 4, 60);
    rig_poll();
    expect_some(&b, 0, 4, 60);
    nic_expect_some(&nic, 0, 4, 60);
    nic.refuses = TRANSMIT_NO_MBUF;
    send_some(&a, 4, 4, 60);
    rig_poll();
    expect_some(&b, 4, 4, 60);
    count = check(8, 8, 0, 0);
    assert_int_equal(4, count.steps[0].tap.dropped[TAP_DROP_NO_MBUF]);
}

// A monitor that is the receiver as well, or twice a monitor.
static void test_same_vif_twice(void **state)
{
    struct leg_count count;
    uint8_t bytes[2000];

    (void)state;
    for (unsigned wait = 0; wait < 2; wait++) {
        WIRE(SLOT_A, STEP_TAP(SLOT_B), STEP_TAP(SLOT_B), STEP_END(SLOT_B, wait));
        guest_post(&b, 12, 200);
        send_some(&a, 0, 4, 60);
        rig_poll();
        for (unsigned i = 0; i < 12; i++)
            frame_expect(bytes, guest_take(&b, bytes), 60, 0, i % 4);
        count = check(4, 4, 0, 0);
        assert_int_equal(4, count.steps[0].tap.copied.frames);
        assert_int_equal(4, count.steps[1].tap.copied.frames);
    }
}

// ---- buffers that change hands ----

static void test_ownership(void **state)
{
    (void)state;
    for (unsigned taps = 0; taps < 8; taps++)
        for (unsigned wait = 0; wait < 2; wait++)
            for (unsigned room = 0; room <= 10; room += 5) {
                // Taps: none, and every choice of a guest and NICs.
                struct hop_step steps[4];
                uint16_t count = 0;

                if (taps & 1)
                    steps[count++] = (struct hop_step)STEP_TAP(SLOT_M1);
                if (taps & 2)
                    steps[count++] = (struct hop_step)STEP_TAP(SLOT_NIC3);
                if (taps & 4)
                    steps[count++] = (struct hop_step)STEP_TAP(SLOT_NIC2);
                steps[count++] = (struct hop_step)STEP_END(SLOT_NIC2, wait);
                wire_steps(SLOT_NIC, steps, count);
                guest_post(&m1, taps & 1 ? 10 : 0, 200);
                nic2.room = room + (taps & 4 ? 10 : 0);
                nic_send_some(&nic, 0, 10, 60);
                if (taps & 4) {
                    // It is its own monitor: then who comes first depends on wait; only
                    // the sums are looked at.
                    nic2.room = 20;
                    rig_poll();
                    assert_int_equal(20, nic2.out_next - nic2.out_first);
                } else {
                    assert_int_equal(wait ? room : 10, rig_poll());
                    if (wait && room < 10) {
                        nic2.room = 10 - room;
                        assert_int_equal(10 - room, rig_poll());
                    }
                    nic_expect_some(&nic2, 0, wait ? 10 : room, 60);
                }
                if (taps & 1)
                    expect_some(&m1, 0, 10, 60);
                if (taps & 2)
                    nic_expect_some(&nic3, 0, 10, 60);
                leg_check(leg);
                assert_int_equal(0, nic_unsent(&nic));
                if (taps == 0)
                    assert_int_equal(0, nic2.copied); // NIC to NIC: no copy
                teardown(NULL);
                setup(NULL);
            }
}

static void test_nic_and_guest(void **state)
{
    (void)state;
    WIRE(SLOT_NIC, STEP_TAP(SLOT_M1), STEP_END(SLOT_B, true));
    guest_post(&b, 6, 200);
    guest_post(&m1, 20, 200);
    nic_send_some(&nic, 0, 10, 150);
    assert_int_equal(6, rig_poll());
    guest_post(&b, 6, 200);
    assert_int_equal(4, rig_poll());
    expect_some(&b, 0, 10, 150);
    expect_some(&m1, 0, 10, 150);
    check(10, 10, 0, 0);
    WIRE(SLOT_A, STEP_TAP(SLOT_M1), STEP_END(SLOT_NIC, true));
    nic.room = 3;
    guest_post(&m1, 20, 200);
    send_some(&a, 0, 10, 60);
    assert_int_equal(3, rig_poll());
    nic.room = 100;
    assert_int_equal(7, rig_poll());
    nic_expect_some(&nic, 0, 10, 60);
    expect_some(&m1, 0, 10, 60);
    check(10, 10, 0, 0);
}

// ---- the end ----

static void test_every_reason_was_seen(void **state)
{
    static const char *const drops[] = {
#define KEY(symbol, key, help) key,
        DROP_REASONS(KEY)};
    static const char *const tap_drops[] = {TAP_DROP_REASONS(KEY)};
    static const char *const discards[] = {VIF_DISCARD_REASONS(KEY)};

    (void)state;
    for (unsigned i = 0; i < DROP_REASON_COUNT; i++)
        if (!dropped_seen[i])
            fail_msg("no frame was dropped as %s", drops[i]);
    for (unsigned i = 0; i < TAP_DROP_REASON_COUNT; i++) {
        // Filters, sampling and rates of taps are still to come.
        if (i == TAP_DROP_FILTERED || i == TAP_DROP_SAMPLED || i == TAP_DROP_RATE_LIMITED)
            print_message("not there yet: %s\n", tap_drops[i]);
        else if (!tap_dropped_seen[i])
            fail_msg("no copy was dropped as %s", tap_drops[i]);
    }
    for (unsigned i = 0; i < VIF_DISCARD_REASON_COUNT; i++)
        if (i != VIF_DISCARD_UNKNOWN_VLAN && !discarded_seen[i]) // that one: test_vlan.c
            fail_msg("no frame was discarded as %s", discards[i]);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_wire),
        CASE(test_wire_to_none),
        CASE(test_full_waits),
        CASE(test_full_drops),
        CASE(test_stalled),
        CASE(test_stall_clock_restarts),
        CASE(test_stall_clock_and_down),
        CASE(test_stall_clock_and_source_reset),
        CASE(test_stall_clock_and_replug),
        CASE(test_short_becomes_too_big),
        CASE(test_too_big),
        CASE(test_down_and_paused),
        CASE(test_just_attached),
        CASE(test_broken_receiver),
        CASE(test_no_mbuf),
        CASE(test_drop_steps),
        CASE(test_contended_receiver),
        CASE(test_contended_monitor),
        CASE(test_bump_flips),
        CASE(test_bump_fails_while_waiting),
        CASE(test_several_bumps_and_taps),
        CASE(test_discards),
        CASE(test_tap_and_its_drops),
        CASE(test_tap_of_a_stalled_wire),
        CASE(test_tap_on_a_nic),
        CASE(test_same_vif_twice),
        CASE(test_ownership),
        CASE(test_nic_and_guest),
        cmocka_unit_test(test_every_reason_was_seen),
    };

    return cmocka_run_group_tests_name("path: hop", tests, NULL, NULL);
}
