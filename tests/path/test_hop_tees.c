// SPDX-License-Identifier: BSD-3-Clause

// Bumps that fail and come back, taps before and behind them, and what monitors
// in any state cost the wire.

#include "hop_case.h"

// ---- bumps ----

void test_bump_flips(void **state)
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
void test_bump_fails_while_waiting(void **state)
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

void test_several_bumps_and_taps(void **state)
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

// ---- taps ----

// The monitor's state, and what it makes of ten frames of which the receiver
// takes `room` at once and the rest later (wait) or never.
enum monitor { MONITOR_FINE, MONITOR_FEW, MONITOR_SMALL, MONITOR_DOWN, MONITOR_PAUSED, MONITOR_LOCKED, MONITOR_NONE };

void test_tap_and_its_drops(void **state)
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
                    hop_teardown(NULL);
                    hop_setup(NULL);
                }
}

void test_tap_of_a_stalled_wire(void **state)
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

void test_tap_on_a_nic(void **state)
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
void test_same_vif_twice(void **state)
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
