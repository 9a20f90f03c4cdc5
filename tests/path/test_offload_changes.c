// SPDX-License-Identifier: BSD-3-Clause

// Frames with offloads where something changes in the middle of one: wires,
// drivers, buffers, bytes; and what monitors, tags and NICs get.

#include "offload_case.h"

#include "dataplane/offload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// ---- changes in the middle of a frame ----

// Sends a frame of 40 segments to b, which has room for ten of them.
static void begin_frame(uint8_t mask)
{
    takes(&b, mask);
    tcp_frame_random(&sent, &dice, 40 * 1000, 1000);
    send_sent();
    guest_post(&b, 10, 1500);
    rig_poll();
    for (uint32_t k = 0; k < 10; k++)
        expect_segment(&b, &sent, k, mask & OFFLOAD_CSUM);
    expect_nothing(&b);
    assert_int_equal(1, guest_unsent(&a));
}

// The wire is replugged: the new end gets the rest, as the new end takes it.
static void test_replug(void **state)
{
    static const uint8_t masks[] = {0, OFFLOAD_CSUM, OFFLOAD_ALL};

    (void)state;
    dice_open(&dice, "replug");
    for (unsigned i = 0; i < 3; i++) {
        WIRE(STEP_END(SLOT_B, true));
        begin_frame(0);
        assert_int_equal(0, leg_check(leg).received.frames);
        assert_int_equal(10, leg_check(leg).steps[0].segmented.segments);
        takes(&c, masks[i]);
        WIRE(STEP_END(SLOT_C, true));
        guest_post(&c, 30, 1500);
        assert_int_equal(1, rig_poll());
        for (uint32_t k = 10; k < 40; k++)
            expect_segment(&c, &sent, k, masks[i] & OFFLOAD_CSUM);
        assert_int_equal(1, leg_check(leg).steps[0].delivered.frames);
        assert_int_equal(30, leg_check(leg).steps[0].segmented.segments);
        // The next one is whole again.
        takes(&c, OFFLOAD_ALL);
        tcp_frame_random(&sent, &dice, 10000, 1000);
        send_sent();
        guest_post(&c, (sent.len + HEADER_LEN + 1499) / 1500, 1500);
        assert_int_equal(1, rig_poll());
        expect_whole(&c, &sent);
        guest_forget_sent(&a);
    }
}

// The receiver takes nothing for longer than stall_ms: the frame is dropped, once.
static void test_stalled(void **state)
{
    (void)state;
    dice_open(&dice, "stalled");
    WIRE(STEP_END(SLOT_B, true));
    begin_frame(OFFLOAD_CSUM);
    rig_poll();
    rig_now += (STALL_MS + 1) * (uint64_t)MS;
    assert_int_equal(1, rig_poll());
    assert_int_equal(1, leg_check(leg).dropped[DROP_STALLED]);
    assert_int_equal(0, leg_check(leg).steps[0].segmented.frames);
    assert_int_equal(10, leg_check(leg).steps[0].segmented.segments);
    guest_forget_sent(&a);
    tcp_frame_random(&sent, &dice, 5000, 1000);
    send_sent();
    poll_all(&b, 5);
    for (uint32_t k = 0; k < 5; k++)
        expect_segment(&b, &sent, k, true);
    // And its end on an unplugged wire, or without one.
    for (unsigned i = 0; i < 2; i++) {
        WIRE(STEP_END(SLOT_B, true));
        begin_frame(0);
        if (i == 0)
            WIRE({.kind = HOP_DROP, .reason = DROP_UNPLUGGED});
        else
            rig_publish(NULL, 0);
        rig_poll();
        assert_int_equal(0, guest_unsent(&a));
        guest_forget_sent(&a);
        WIRE(STEP_END(SLOT_B, true));
        tcp_frame_random(&sent, &dice, 5000, 1000);
        send_sent();
        poll_all(&b, 5);
        for (uint32_t k = 0; k < 5; k++)
            expect_segment(&b, &sent, k, false);
    }
}

// The sender's attachment goes and comes: after a message it is the same frame,
// after a reset another one, though it has the same number.
static void test_sender_detaches(void **state)
{
    (void)state;
    dice_open(&dice, "sender detaches");
    WIRE(STEP_END(SLOT_B, true));
    begin_frame(0);
    guest_detach(&a, VIF_LINK_PAUSED);
    rig_poll();
    guest_attach(&a);
    guest_post(&b, 10, 1500);
    rig_poll();
    for (uint32_t k = 10; k < 20; k++)
        expect_segment(&b, &sent, k, false);
    guest_detach(&a, VIF_LINK_DOWN);
    rig_poll();
    guest_attach(&a);
    a.attachment->epoch++;
    guest_post(&b, 40, 1500);
    assert_int_equal(1, rig_poll());
    for (uint32_t k = 0; k < 40; k++)
        expect_segment(&b, &sent, k, false);
    guest_forget_sent(&a);
    assert_int_equal(1, leg_check(leg).received.frames);
}

// The receiver's driver goes and comes, and takes other things then.
static void test_receiver_changes(void **state)
{
    (void)state;
    dice_open(&dice, "receiver changes");
    WIRE(STEP_END(SLOT_B, true));
    begin_frame(0);
    guest_detach(&b, VIF_LINK_PAUSED);
    rig_poll();
    guest_attach(&b);
    takes(&b, OFFLOAD_ALL);
    guest_post(&b, 30, 1500);
    assert_int_equal(1, rig_poll());
    for (uint32_t k = 10; k < 40; k++)
        expect_segment(&b, &sent, k, true);
    guest_forget_sent(&a);
    leg_check(leg);
}

// ---- taps ----

// Each monitor gets the frame as it takes it, once, when it has left the source;
// the same bytes as the receiver, though the guest rewrites them in between.
static void test_taps(void **state)
{
    static const uint8_t masks[] = {0, OFFLOAD_CSUM, OFFLOAD_ALL};
    static uint8_t other[TCP_FRAME_MAX];
    struct guest *const monitors[] = {&m1, &m2};

    (void)state;
    dice_open(&dice, "taps");
    for (unsigned round = 0; round < 100; round++) {
        uint8_t mask = masks[dice_below(&dice, 3)], mask1 = masks[dice_below(&dice, 3)],
                mask2 = masks[dice_below(&dice, 3)];
        unsigned taps = 1 + dice_below(&dice, 2);
        uint32_t count;
        uint64_t at;

        takes(&b, mask);
        takes(&m1, mask1);
        takes(&m2, mask2);
        if (taps == 1)
            WIRE(STEP_TAP(SLOT_M1), STEP_END(SLOT_B, true));
        else
            WIRE(STEP_TAP(SLOT_M1), STEP_TAP(SLOT_M2), STEP_END(SLOT_B, true));
        tcp_frame_random(&sent, &dice, 20 * 1000, 1000);
        sent.header[1] &= 0x7f;
        sent.bytes[sent.l4 + 13] &= 0x7f;
        count = tcp_frame_count(&sent);
        at = send_raw(&a, sent.header, sent.bytes, sent.len, 1 + dice_below(&dice, 5));
        for (unsigned i = 0; i < taps; i++) {
            uint8_t m = i == 0 ? mask1 : mask2;

            guest_post(monitors[i], m == OFFLOAD_ALL ? (sent.len + HEADER_LEN + 1499) / 1500 : count, 1500);
        }
        if (mask == OFFLOAD_ALL) {
            guest_post(&b, (sent.len + HEADER_LEN + 1499) / 1500, 1500);
            assert_int_equal(1, rig_poll());
            expect_whole(&b, &sent);
        } else {
            guest_post(&b, 7, 1500);
            assert_int_equal(0, rig_poll());
            for (uint32_t k = 0; k < 7; k++)
                expect_segment(&b, &sent, k, mask & OFFLOAD_CSUM);
            expect_nothing(&m1);
            dice_fill(&dice, other, sent.len);
            driver_write(&a.tx, at, other, sent.len);
            guest_post(&b, 13, 1500);
            assert_int_equal(1, rig_poll());
            for (uint32_t k = 7; k < count; k++)
                expect_segment(&b, &sent, k, mask & OFFLOAD_CSUM);
        }
        for (unsigned i = 0; i < taps; i++) {
            uint8_t m = i == 0 ? mask1 : mask2;

            if (m == OFFLOAD_ALL)
                expect_whole(monitors[i], &sent);
            for (uint32_t k = 0; m != OFFLOAD_ALL && k < count; k++)
                expect_segment(monitors[i], &sent, k, m & OFFLOAD_CSUM);
            expect_nothing(monitors[i]);
            assert_int_equal(1, leg_check(leg).steps[i].tap.copied.frames);
            assert_int_equal(sent.len, leg_check(leg).steps[i].tap.copied.bytes);
            assert_int_equal(m == OFFLOAD_ALL ? 0 : count, leg_check(leg).steps[i].tap.segmented.segments);
        }
        guest_forget_sent(&a);
    }
}

// A monitor with room for a part of the segments: the copy is dropped, what it got is
// counted apart, and the wire has lost nothing.
static void test_monitor_full(void **state)
{
    struct vif_count count;

    (void)state;
    dice_open(&dice, "monitor full");
    takes(&m1, 0);
    WIRE(STEP_TAP(SLOT_M1), STEP_END(SLOT_B, true));
    tcp_frame_random(&sent, &dice, 20 * 1000, 1000);
    send_sent();
    guest_post(&m1, 7, 1500);
    guest_post(&b, (sent.len + HEADER_LEN + 1499) / 1500, 1500);
    assert_int_equal(1, rig_poll());
    expect_whole(&b, &sent);
    for (uint32_t k = 0; k < 7; k++)
        expect_segment(&m1, &sent, k, false);
    expect_nothing(&m1);
    assert_int_equal(1, leg_check(leg).steps[0].tap.dropped[TAP_DROP_RING_FULL]);
    assert_int_equal(7, leg_check(leg).steps[0].tap.segmented.segments);
    assert_int_equal(0, leg_check(leg).steps[0].tap.segmented.frames);
    assert_true(vif_read_count(SLOT_M1, &count));
    assert_int_equal(7, count.transmitted.frames);
}

// ---- tags, NICs ----

// A receiver's tag moves what the header points to; a NIC gets segments.
static void test_tag_pushed(void **state)
{
    static uint8_t got[TCP_FRAME_MAX], want[TCP_FRAME_MAX];
    uint8_t header[OFFLOAD_HEADER_LEN];

    (void)state;
    dice_open(&dice, "tag pushed");
    for (unsigned i = 0; i < 50; i++) {
        bool whole = i % 2 == 0;
        uint32_t len;

        takes(&b, whole ? OFFLOAD_ALL : 0);
        WIRE({.kind = HOP_END, .vif = SLOT_B, .vlan = 7});
        tcp_frame_random(&sent, &dice, 5000, 1000);
        send_sent();
        guest_post(&b, whole ? (sent.len + 4 + HEADER_LEN + 1499) / 1500 : tcp_frame_count(&sent), 1500);
        assert_int_equal(1, rig_poll());
        for (uint32_t k = 0; k < (whole ? 1 : tcp_frame_count(&sent)); k++) {
            len = take(&b, header, got);
            assert_memory_equal(((uint8_t[]){0x81, 0, 0, 7}), got + 12, 4);
            memmove(got + 12, got + 16, len - 16);
            if (whole) {
                assert_int_equal(sent.len + 4, len);
                assert_memory_equal(sent.bytes, got, sent.len);
                assert_int_equal(sent.header[6] + 4, header[6]);
                assert_int_equal(sent.header[2] + 4, header[2]);
            } else {
                assert_int_equal(tcp_frame_segment(&sent, k, want) + 4, len);
                assert_memory_equal(want, got, len - 4);
            }
        }
        guest_forget_sent(&a);
        leg_check(leg);
    }
}

static void test_tag_popped(void **state)
{
    const uint8_t tag[] = {0x81, 0, 0, 7};
    static uint8_t tagged[TCP_FRAME_MAX];
    uint8_t header[OFFLOAD_HEADER_LEN];
    struct hop_program program = {.step_count = 1, .steps = {STEP_END(SLOT_B, true)}};

    (void)state;
    dice_open(&dice, "tag popped");
    leg = leg_create(&program);
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = 7, .leg = leg}, 1);
    for (unsigned i = 0; i < 50; i++) {
        bool whole = i % 2 == 0;

        takes(&b, whole ? OFFLOAD_ALL : OFFLOAD_CSUM);
        tcp_frame_random(&sent, &dice, 5000, 1000);
        memcpy(tagged, sent.bytes, 12);
        memcpy(tagged + 12, tag, 4);
        memcpy(tagged + 16, sent.bytes + 12, sent.len - 12);
        memcpy(header, sent.header, sizeof(header));
        header[6] += 4;
        header[2] += 4;
        send_raw(&a, header, tagged, sent.len + 4, 1 + dice_below(&dice, 5));
        guest_post(&b, whole ? (sent.len + HEADER_LEN + 1499) / 1500 : tcp_frame_count(&sent), 1500);
        assert_int_equal(1, rig_poll());
        if (whole)
            expect_whole(&b, &sent);
        else
            for (uint32_t k = 0; k < tcp_frame_count(&sent); k++)
                expect_segment(&b, &sent, k, true);
        guest_forget_sent(&a);
        leg_check(leg);
    }
}

// A leg that can't wait: the segments that find no room are lost with their frame.
static void test_nic_drops(void **state)
{
    static uint8_t got[TCP_FRAME_MAX], want[TCP_FRAME_MAX];

    (void)state;
    dice_open(&dice, "nic drops");
    WIRE(STEP_END(SLOT_NIC, false));
    tcp_frame_random(&sent, &dice, 20 * 1000, 1000);
    send_sent();
    nic.room = 12;
    assert_int_equal(1, rig_poll());
    for (uint32_t k = 0; k < 12; k++) {
        assert_int_equal(tcp_frame_segment(&sent, k, want), nic_take(&nic, got));
        assert_memory_equal(want, got, 1000);
    }
    assert_int_equal(1, leg_check(leg).dropped[DROP_FULL]);
    assert_int_equal(12, leg_check(leg).steps[0].segmented.segments);
    // All that left a has left: the next one begins at its front.
    nic.room = 100;
    guest_forget_sent(&a);
    send_sent();
    assert_int_equal(1, rig_poll());
    assert_int_equal(tcp_frame_segment(&sent, 0, want), nic_take(&nic, got));
    assert_memory_equal(want, got, 1000);
    leg_check(leg);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, offload_setup, offload_teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_replug),           CASE(test_stalled),    CASE(test_sender_detaches),
        CASE(test_receiver_changes), CASE(test_taps),       CASE(test_monitor_full),
        CASE(test_tag_pushed),       CASE(test_tag_popped), CASE(test_nic_drops),
    };

    return cmocka_run_group_tests_name("path: offload changes", tests, NULL, NULL);
}
