// SPDX-License-Identifier: BSD-3-Clause

// Vifs that several wires share by VLAN: tags popped and pushed to the byte,
// each wire's order, frames that no port wants, and drains.

#include "rig.h"

#include "dataplane/vlan.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SLOT_NIC, SLOT_NIC2, SLOT_TRUNK, SLOT_A, SLOT_B, SLOT_C, SLOT_M };

static struct nic nic, nic2;
static struct guest trunk, a, b, c, m;
static struct guest *const guests[] = {&trunk, &a, &b, &c, &m};

static int setup(void **state)
{
    const struct guest_options plain = {0};

    (void)state;
    rig_start();
    nic_open(&nic, SLOT_NIC);
    nic_open(&nic2, SLOT_NIC2);
    for (unsigned i = 0; i < 5; i++)
        guest_open(guests[i], SLOT_TRUNK + i, &plain);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_publish(NULL, 0);
    for (unsigned i = 0; i < 5; i++)
        guest_close(guests[i]);
    nic_close(&nic);
    nic_close(&nic2);
    assert_int_equal(0, nic_buffers);
    rig_stop();
    return 0;
}

static struct leg *leg_to(vif_slot to, uint16_t vlan, bool wait)
{
    const struct hop_program program = {
        .step_count = 1, .steps = {{.kind = HOP_END, .vif = to, .vlan = vlan, .wait = wait, .stall_ms = 100}}};
    struct leg *leg = leg_create(&program);

    assert_non_null(leg);
    return leg;
}

static struct leg *leg_tapped(vif_slot tap, uint16_t tap_vlan, vif_slot to, uint16_t vlan, bool wait)
{
    const struct hop_program program = {
        .step_count = 2,
        .steps = {{.kind = HOP_TAP, .vif = tap, .vlan = tap_vlan},
                  {.kind = HOP_END, .vif = to, .vlan = vlan, .wait = wait, .stall_ms = 100}}};
    struct leg *leg = leg_create(&program);

    assert_non_null(leg);
    return leg;
}

static uint64_t discarded(vif_slot slot, enum vif_discard_reason reason)
{
    struct vif_count count;

    assert_true(vif_read_count(slot, &count));
    return count.discarded[reason];
}

// A source that is shared: each of its frames goes by its tag.
static void shared_source(bool is_nic)
{
    const vif_slot from = is_nic ? SLOT_NIC : SLOT_TRUNK;
    // Priorities don't matter; 0x2000 is a priority tag, which is payload.
    static const uint16_t tags[] = {10, 0, 20 | 0x6000, 30, 10 | 0x1000, 40, 50, 0x2000, 4094, 20};
    struct leg *ten = leg_to(SLOT_A, 0, true), *twenty = leg_to(SLOT_B, 0, true), *untagged = leg_to(SLOT_C, 0, true);
    struct leg *highest = leg_to(SLOT_NIC2, 0, true);
    struct leg *held = leg_tapped(SLOT_M, 0, SLOT_A, 0, true);
    const struct table_entry entries[] = {
        {.vif = from, .vlan = 10, .leg = ten},
        {.vif = from, .vlan = 20, .leg = twenty},
        {.vif = from, .vlan = TABLE_UNTAGGED, .leg = untagged},
        {.vif = from, .vlan = 30, .monitor = true},
        {.vif = from, .vlan = 40, .leg = held, .held = true},
        {.vif = from, .vlan = 4094, .leg = highest},
    };
    uint32_t lens[60], number[4] = {0};
    uint64_t bytes_sent = 0;
    uint8_t bytes[LIMIT_FRAME_MAX + 64];
    struct vif_count vif_count;
    struct leg_count count;

    rig_publish(entries, sizeof(entries) / sizeof(entries[0]));
    guest_post(&a, 20, 2000);
    guest_post(&b, 20, 2000);
    guest_post(&c, 20, 2000);
    guest_post(&m, 20, 2000);
    for (uint32_t i = 0; i < 60; i++) {
        lens[i] = 60 + i * 17;
        bytes_sent += lens[i];
        if (is_nic)
            nic_send(&nic, i, lens[i], tags[i % 10], 1 + i % 4);
        else
            guest_send(&trunk, i, lens[i], tags[i % 10]);
    }
    assert_int_equal(60, rig_poll());
    assert_int_equal(0, is_nic ? nic_unsent(&nic) : guest_unsent(&trunk));
    for (uint32_t i = 0; i < 60; i++) {
        switch (i % 10) {
        case 0:
        case 4:
            frame_expect(bytes, guest_take(&a, bytes), lens[i] - 4, 0, i);
            number[0]++;
            break;
        case 2:
        case 9:
            frame_expect(bytes, guest_take(&b, bytes), lens[i] - 4, 0, i);
            number[1]++;
            break;
        case 1:
            frame_expect(bytes, guest_take(&c, bytes), lens[i], 0, i);
            number[2]++;
            break;
        case 7:
            frame_expect(bytes, guest_take(&c, bytes), lens[i], 0x2000, i);
            number[2]++;
            break;
        case 8:
            frame_expect(bytes, nic_take(&nic2, bytes), lens[i] - 4, 0, i);
            number[3]++;
            break;
        case 5: // dropped, but the tap has seen it
            frame_expect(bytes, guest_take(&m, bytes), lens[i] - 4, 0, i);
            break;
        }
    }
    assert_int_equal(0, guest_take(&a, bytes));
    assert_int_equal(0, nic_take(&nic2, bytes));
    assert_int_equal(6, discarded(from, VIF_DISCARD_UNKNOWN_VLAN));
    assert_int_equal(6, discarded(from, VIF_DISCARD_MONITOR));
    assert_int_equal(number[0], leg_check(ten).received.frames);
    assert_int_equal(number[1], leg_check(twenty).received.frames);
    assert_int_equal(number[2], leg_check(untagged).received.frames);
    assert_int_equal(number[3], leg_check(highest).received.frames);
    count = leg_check(held);
    assert_int_equal(6, count.received.frames);
    assert_int_equal(6, count.dropped[DROP_FULL]);
    assert_int_equal(6, count.steps[0].tap.offered);
    // The vif's own counters are of what it received, tags included.
    assert_true(vif_read_count(from, &vif_count));
    assert_int_equal(60, vif_count.received.frames);
    assert_int_equal(bytes_sent, vif_count.received.bytes);
    rig_publish(NULL, 0);
    leg_destroy(ten);
    leg_destroy(twenty);
    leg_destroy(untagged);
    leg_destroy(highest);
    leg_destroy(held);
}

static void test_shared_nic(void **state)
{
    (void)state;
    shared_source(true);
}

static void test_shared_guest(void **state)
{
    (void)state;
    shared_source(false);
}

// What an untagged port of a shared NIC gives to another NIC changes hands.
static void test_shared_nic_to_nic(void **state)
{
    struct leg *leg = leg_to(SLOT_NIC2, 0, true), *tagged = leg_to(SLOT_A, 0, true);
    const struct table_entry entries[] = {{.vif = SLOT_NIC, .vlan = TABLE_UNTAGGED, .leg = leg},
                                          {.vif = SLOT_NIC, .vlan = 10, .leg = tagged}};
    uint8_t bytes[2000];

    (void)state;
    rig_publish(entries, 2);
    guest_post(&a, 30, 200);
    nic2.room = 15;
    for (uint32_t i = 0; i < 40; i++)
        nic_send(&nic, i, 64, i % 2 ? 10 : 0, 1 + i % 3);
    assert_int_equal(40, rig_poll());
    for (uint32_t i = 0; i < 30; i += 2)
        frame_expect(bytes, nic_take(&nic2, bytes), 64, 0, i);
    assert_int_equal(0, nic_take(&nic2, bytes));
    for (uint32_t i = 1; i < 40; i += 2)
        frame_expect(bytes, guest_take(&a, bytes), 60, 0, i);
    assert_int_equal(15, nic2.taken_over);
    assert_int_equal(5, leg_check(leg).dropped[DROP_FULL]);
    leg_check(tagged);
    rig_publish(NULL, 0);
    leg_destroy(leg);
    leg_destroy(tagged);
}

// Frames that are too short with their tag, or only just long enough.
static void test_short_frames(void **state)
{
    (void)state;
    for (unsigned is_nic = 0; is_nic < 2; is_nic++) {
        const vif_slot from = is_nic ? SLOT_NIC : SLOT_TRUNK;
        struct leg *leg = leg_to(SLOT_A, 0, true), *untagged = leg_to(SLOT_C, 0, true);
        const struct table_entry entries[] = {{.vif = from, .vlan = 10, .leg = leg},
                                              {.vif = from, .vlan = TABLE_UNTAGGED, .leg = untagged}};
        uint8_t bytes[2000], want[2000];

        rig_publish(entries, 2);
        guest_post(&a, 10, 200);
        guest_post(&c, 10, 200);
        for (uint32_t len = 14; len < 22; len++) {
            if (is_nic)
                nic_send(&nic, len, len, 10, 1);
            else
                guest_send(&trunk, len, len, 10);
        }
        rig_poll();
        // Without all of tag and type behind it a frame has no tag.
        for (uint32_t len = 14; len < 18; len++) {
            frame_make(want, len, 10, len);
            assert_int_equal(len, guest_take(&c, bytes));
            assert_memory_equal(want, bytes, len);
        }
        for (uint32_t len = 18; len < 22; len++) {
            frame_make(want, len - 4, 0, len);
            assert_int_equal(len - 4, guest_take(&a, bytes));
            assert_memory_equal(want, bytes, len - 4);
        }
        leg_check(leg);
        leg_check(untagged);
        rig_publish(NULL, 0);
        leg_destroy(leg);
        leg_destroy(untagged);
    }
}

// A receiver that is shared: the port's tag is pushed.
static void test_push(void **state)
{
    (void)state;
    for (unsigned is_nic = 0; is_nic < 2; is_nic++)
        for (unsigned tapped = 0; tapped < 2; tapped++) {
            const vif_slot from = is_nic ? SLOT_NIC2 : SLOT_A;
            struct leg *leg = tapped ? leg_tapped(SLOT_NIC, 200, SLOT_NIC, 100, true) : leg_to(SLOT_NIC, 100, true);
            uint8_t bytes[LIMIT_FRAME_MAX + 64];
            struct leg_count count;
            uint64_t sum = 0;

            rig_publish(&(struct table_entry){.vif = from, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
            for (uint32_t i = 0; i < 40; i++) {
                uint32_t len = i < 4 ? 14 + i : i == 39 ? 9216 : 60 + i * 31;

                sum += len;
                if (is_nic)
                    nic_send(&nic2, i, len, 0, i < 4 ? 1 : 1 + i % 5);
                else
                    guest_send(&a, i, len, 0);
            }
            assert_int_equal(40, rig_poll());
            for (unsigned which = tapped ? 0 : 1; which < 2; which++) // the tap's copies come first
                for (uint32_t i = 0; i < 40; i++) {
                    uint32_t len = i < 4 ? 14 + i : i == 39 ? 9216 : 60 + i * 31;
                    uint8_t want[LIMIT_FRAME_MAX + 64];

                    assert_int_equal(len + 4, nic_take(&nic, bytes));
                    frame_make(want, len, 0, i);
                    assert_memory_equal(want, bytes, 12);
                    assert_int_equal(0x81, bytes[12]);
                    assert_int_equal(0, bytes[13]);
                    assert_int_equal(which == 0 ? 200 : 100, bytes[14] << 8 | bytes[15]);
                    assert_memory_equal(want + 12, bytes + 16, len - 12);
                }
            count = leg_check(leg);
            assert_int_equal(sum, count.received.bytes);
            // A leg counts frames without its ports' tags.
            assert_int_equal(sum, count.steps[tapped].delivered.bytes);
            if (tapped)
                assert_int_equal(sum, count.steps[0].tap.copied.bytes);
            rig_publish(NULL, 0);
            leg_destroy(leg);
        }
}

// From one VLAN to another, NIC to NIC and guest to guest, and a tag that was
// there before.
static void test_retag(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 4; k++) {
        const vif_slot from = k & 1 ? SLOT_NIC : SLOT_TRUNK, to = k & 2 ? SLOT_NIC2 : SLOT_B;
        struct leg *leg = leg_tapped(SLOT_M, 300, to, 7, true);
        uint8_t bytes[2000], want[2000];

        rig_publish(&(struct table_entry){.vif = from, .vlan = 9, .leg = leg}, 1);
        guest_post(&b, k & 2 ? 0 : 20, 2000);
        guest_post(&m, 20, 2000);
        for (uint32_t i = 0; i < 20; i++) {
            if (k & 1)
                nic_send(&nic, i, 60 + i * 50, 9, 1 + i % 3);
            else
                guest_send(&trunk, i, 60 + i * 50, 9);
        }
        rig_poll();
        for (uint32_t i = 0; i < 20; i++) {
            uint32_t len = 60 + i * 50;

            frame_make(want, len, 7, i);
            assert_int_equal(len, k & 2 ? nic_take(&nic2, bytes) : guest_take(&b, bytes));
            assert_memory_equal(want, bytes, len);
            frame_make(want, len, 300, i);
            assert_int_equal(len, guest_take(&m, bytes));
            assert_memory_equal(want, bytes, len);
        }
        leg_check(leg);
        rig_publish(NULL, 0);
        leg_destroy(leg);
    }
}

// One wire of a shared source can't hold up another.
static void test_full_receiver_of_a_shared_source(void **state)
{
    struct leg *ten = leg_to(SLOT_A, 0, true), *twenty = leg_to(SLOT_B, 0, true);
    const struct table_entry entries[] = {{.vif = SLOT_TRUNK, .vlan = 10, .leg = ten},
                                          {.vif = SLOT_TRUNK, .vlan = 20, .leg = twenty}};
    uint8_t bytes[2000];
    struct leg_count count;

    (void)state;
    rig_publish(entries, 2);
    guest_post(&b, 20, 200);
    for (uint32_t i = 0; i < 20; i++)
        guest_send(&trunk, i, 64, i % 2 ? 20 : 10);
    assert_int_equal(20, rig_poll());
    for (uint32_t i = 1; i < 20; i += 2)
        frame_expect(bytes, guest_take(&b, bytes), 60, 0, i);
    count = leg_check(ten);
    assert_int_equal(10, count.dropped[DROP_FULL]);
    assert_int_equal(10, leg_check(twenty).received.frames);
    rig_publish(NULL, 0);
    leg_destroy(ten);
    leg_destroy(twenty);
}

// Into a shared vif nothing waits, whatever the leg says.
static void test_full_shared_receiver(void **state)
{
    struct leg *leg = leg_to(SLOT_NIC, 5, true);
    uint8_t bytes[2000];
    struct leg_count count;

    (void)state;
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    nic.room = 3;
    for (uint32_t i = 0; i < 10; i++)
        guest_send(&a, i, 60, 0);
    assert_int_equal(10, rig_poll());
    for (uint32_t i = 0; i < 3; i++)
        frame_expect(bytes, nic_take(&nic, bytes), 64, 5, i);
    count = leg_check(leg);
    assert_int_equal(7, count.dropped[DROP_FULL]);
    rig_publish(NULL, 0);
    leg_destroy(leg);
}

// As many pieces as a burst may have, all of them tagged and cut everywhere:
// the lists stay within their arrays, and the bytes are right, popped and pushed.
static void test_most_segments(void **state)
{
    static struct burst burst;
    static struct hop_scratch scratch;
    static uint8_t headers[LIMIT_BURST_FRAMES][18];
    static uint8_t frames[LIMIT_BURST_FRAMES][200];
    const unsigned capacity = sizeof(burst.segments) / sizeof(burst.segments[0]);

    (void)state;
    for (unsigned owned = 0; owned < 2; owned++)
        for (unsigned first = 1; first < 30; first++) {
            struct burst *out;

            memset(&burst, 0, sizeof(burst));
            burst.owned = owned;
            burst.count = LIMIT_BURST_FRAMES;
            for (unsigned i = 0; i < LIMIT_BURST_FRAMES; i++) {
                struct frame *frame = &burst.frames[i];

                frame_make(frames[i], 200, 77, i);
                frame_set_single(frame, frames[i], first);
                frame->len = first + 15 + 16;
                frame->segment_first = burst.segment_count;
                frame->segment_count = 17;
                for (unsigned j = 0; j < 16; j++)
                    burst.segments[burst.segment_count++] =
                        (struct frame_segment){frames[i] + first + j, j == 15 ? 16 : 1};
            }
            assert_int_equal(LIMIT_BURST_SEGMENTS, burst.segment_count);
            for (uint16_t i = 0; i < LIMIT_BURST_FRAMES; i++)
                assert_int_equal(77, vlan_pop(&burst, i, headers[i]));
            assert_true(burst.segment_count <= capacity);
            out = vlan_push(&burst, 0, burst.count, 78, &scratch);
            assert_true(out->segment_count <= capacity);
            for (uint16_t i = 0; i < LIMIT_BURST_FRAMES; i++) {
                uint8_t got[300], want[300];

                frame_make(want, 200, 78, i);
                assert_int_equal(first + 31, out->frames[i].len);
                frame_gather(out, &out->frames[i], got);
                assert_memory_equal(want, got, first + 31);
                frame_make(want, 196, 0, i);
                frame_gather(&burst, &burst.frames[i], got);
                assert_memory_equal(want, got, first + 27);
            }
        }
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_shared_nic),
        CASE(test_shared_guest),
        CASE(test_shared_nic_to_nic),
        CASE(test_short_frames),
        CASE(test_push),
        CASE(test_retag),
        CASE(test_full_receiver_of_a_shared_source),
        CASE(test_full_shared_receiver),
        cmocka_unit_test(test_most_segments),
    };

    return cmocka_run_group_tests_name("path: VLANs", tests, NULL, NULL);
}
