// SPDX-License-Identifier: BSD-3-Clause

// Receivers that don't take what they are given: full, slow, too small, down,
// just there, broken; and programs that end in a drop.

#include "hop_case.h"

void test_full_waits(void **state)
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

void test_full_drops(void **state)
{
    (void)state;
    WIRE(SLOT_A, STEP_END(SLOT_B, false));
    guest_post(&b, 3, 200);
    send_some(&a, 0, 10, 60);
    assert_int_equal(10, rig_poll());
    expect_some(&b, 0, 3, 60);
    check(10, 3, DROP_FULL, 7);
}

void test_stalled(void **state)
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
void test_stall_clock_restarts(void **state)
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
void test_stall_clock_and_down(void **state)
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
void test_stall_clock_and_source_reset(void **state)
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
void test_stall_clock_and_replug(void **state)
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

void test_short_becomes_too_big(void **state)
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

void test_too_big(void **state)
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

void test_down_and_paused(void **state)
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
void test_just_attached(void **state)
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

void test_broken_receiver(void **state)
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

void test_no_mbuf(void **state)
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

void test_drop_steps(void **state)
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
