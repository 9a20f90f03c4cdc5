// SPDX-License-Identifier: BSD-3-Clause

// Frames with offloads through the real worker: as they are to who takes them,
// completed and segmented for who doesn't, however few buffers there are.

#include "offload_case.h"

#include "dataplane/offload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// ---- headers ----

static void test_headers(void **state)
{
    static const struct {
        uint8_t header[OFFLOAD_HEADER_LEN];
        uint32_t len;
        uint8_t agreed;
        int reason;
    } cases[] = {
        {{0}, 60, OFFLOAD_ALL, 0},
        {{2}, 60, OFFLOAD_ALL, 0},                               // DATA_VALID
        {{4, 0, 0, 0, 0, 0, 3, 0, 9}, 60, OFFLOAD_ALL, 0},       // RSC_INFO
        {{0xfe, 0, 0xff, 0xff, 0xff, 0xff}, 60, OFFLOAD_ALL, 0}, // nothing of it is asked
        {{0}, 9216, OFFLOAD_ALL, 0},
        {{0}, 9217, OFFLOAD_ALL, VIF_DISCARD_GIANT},
        {{1, 0, 0, 0, 0, 0, 34, 0, 16}, 9217, OFFLOAD_ALL, VIF_DISCARD_GIANT},
        {{1, 0, 0, 0, 0, 0, 34, 0, 16}, 60, OFFLOAD_CSUM, 0},
        {{1, 0, 0, 0, 0, 0, 34, 0, 24}, 60, OFFLOAD_ALL, 0}, // the last two bytes
        {{1, 0, 0, 0, 0, 0, 34, 0, 25}, 60, OFFLOAD_ALL, VIF_DISCARD_BAD_HEADER},
        {{1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, 60, OFFLOAD_ALL, VIF_DISCARD_BAD_HEADER},
        {{1, 0, 0, 0, 0, 0, 13, 0, 0}, 60, OFFLOAD_ALL, VIF_DISCARD_BAD_HEADER}, // over the Ethernet header
        {{1, 0, 0xff, 0xff, 0, 0, 34, 0, 16}, 60, OFFLOAD_ALL, 0},               // hdr_len is about segments
        {{1, 1, 60, 0, 1, 0, 34, 0, 16}, 60, OFFLOAD_ALL, 0},
        {{1, 1, 61, 0, 1, 0, 34, 0, 16}, 60, OFFLOAD_ALL, VIF_DISCARD_BAD_HEADER},
        {{1, 1, 54, 0, 0, 0, 34, 0, 16}, 60, OFFLOAD_ALL, VIF_DISCARD_BAD_HEADER},    // gso_size 0
        {{0, 1, 54, 0, 1, 0, 34, 0, 16}, 60, OFFLOAD_ALL, VIF_DISCARD_BAD_HEADER},    // no checksum
        {{1, 3, 54, 0, 1, 0, 34, 0, 16}, 60, OFFLOAD_ALL, VIF_DISCARD_BAD_HEADER},    // UFO
        {{1, 5, 54, 0, 1, 0, 34, 0, 16}, 60, OFFLOAD_ALL, VIF_DISCARD_BAD_HEADER},    // USO
        {{1, 2, 54, 0, 1, 0, 34, 0, 16}, 60, OFFLOAD_ALL, VIF_DISCARD_BAD_HEADER},    // nothing known
        {{1, 0x80, 54, 0, 1, 0, 34, 0, 16}, 60, OFFLOAD_ALL, VIF_DISCARD_BAD_HEADER}, // ECN of nothing
        {{1, 0x81, 54, 0, 1, 0, 34, 0, 16}, 60, OFFLOAD_ALL, 0},
        {{1, 0x81, 54, 0, 1, 0, 34, 0, 16}, 60, OFFLOAD_CSUM | OFFLOAD_TSO4, VIF_DISCARD_BAD_HEADER},
        {{1, 4, 54, 0, 1, 0, 34, 0, 16}, 60, OFFLOAD_CSUM | OFFLOAD_TSO4, VIF_DISCARD_BAD_HEADER},
        {{1, 4, 54, 0, 1, 0, 34, 0, 16}, 60, OFFLOAD_CSUM | OFFLOAD_TSO6, 0},
        {{1, 1, 54, 0, 1, 0, 34, 0, 16}, 60, OFFLOAD_CSUM, VIF_DISCARD_BAD_HEADER},
        {{1, 1, 54, 0, 1, 0, 34, 0, 16}, 65600, OFFLOAD_ALL, 0},
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct frame frame = {.len = cases[i].len};
        int reason = offload_check(&frame, cases[i].header, cases[i].agreed);

        if (reason != cases[i].reason)
            fail_msg("case %u: %d instead of %d", i, reason, cases[i].reason);
        if (reason == 0 && cases[i].header[0] != 1)
            assert_memory_equal(&frame.offload, &(struct frame_offload){0}, sizeof(frame.offload));
    }
    // What is negotiated.
    assert_int_equal(0, offload_from_guest(1ULL << VIRTIO_NET_F_HOST_TSO4));
    assert_int_equal(OFFLOAD_CSUM, offload_to_guest(1ULL << VIRTIO_NET_F_GUEST_CSUM | 1ULL << VIRTIO_NET_F_GUEST_ECN));
    assert_int_equal(OFFLOAD_CSUM | OFFLOAD_TSO6,
                     offload_to_guest(1ULL << VIRTIO_NET_F_GUEST_CSUM | 1ULL << VIRTIO_NET_F_GUEST_TSO6 |
                                      1ULL << VIRTIO_NET_F_HOST_TSO4 | 1ULL << VIRTIO_NET_F_CSUM));
}

// Lying headers among sound ones, in front and behind: only they are discarded,
// and the sound ones keep their order.
static void test_lying_headers(void **state)
{
    static uint8_t got[TCP_FRAME_MAX];
    uint8_t header[OFFLOAD_HEADER_LEN], bytes[100];
    struct vif_count count;
    uint64_t bad = 0, number = 0, next = 0;

    (void)state;
    dice_open(&dice, "lying headers");
    WIRE(STEP_END(SLOT_B, true));
    for (unsigned round = 0; round < 200; round++) {
        unsigned frames = 1 + dice_below(&dice, 60);

        for (unsigned i = 0; i < frames; i++) {
            uint32_t len = 60 + dice_below(&dice, 40);
            struct frame frame = {.len = len};

            dice_fill(&dice, header, sizeof(header));
            header[0] &= 3;
            header[1] = dice_below(&dice, 2) ? 0 : header[1] % 5;
            for (unsigned k = 3; k < sizeof(header); k += 2)
                header[k] = 0;
            frame_make(bytes, len, 0, (uint32_t)number);
            if (offload_check(&frame, header, OFFLOAD_ALL) != 0)
                bad++;
            else
                number++;
            send_raw(&a, header, bytes, len, 1 + dice_below(&dice, 3));
        }
        guest_post(&b, (unsigned)(number - next), 200);
        for (unsigned loops = 0; guest_unsent(&a) > 0; loops++) {
            assert_true(loops < 300);
            rig_poll();
        }
        guest_forget_sent(&a);
        for (uint32_t len; (len = take(&b, header, got)) > 0; next++)
            frame_expect(got, len, len, 0, (uint32_t)next);
    }
    assert_int_equal(number, next);
    assert_true(bad > 100 && number > 100);
    assert_true(vif_read_count(SLOT_A, &count));
    assert_int_equal(bad, count.discarded[VIF_DISCARD_BAD_HEADER]);
    leg_check(leg);
}

// ---- as they are ----

static void test_whole(void **state)
{
    (void)state;
    dice_open(&dice, "whole");
    WIRE(STEP_END(SLOT_B, true));
    for (unsigned i = 0; i < 50; i++) {
        tcp_frame_random(&sent, &dice, 1 + dice_below(&dice, 65000), 500 + dice_below(&dice, 1000));
        send_sent();
        guest_post(&b, (sent.len + HEADER_LEN + 1525) / 1526, 1526); // all of them
        assert_int_equal(1, poll_all(NULL, 0));
        expect_whole(&b, &sent);
        expect_nothing(&b);
    }
    assert_int_equal(0, leg_check(leg).steps[0].segmented.segments);
}

// ---- segmented ----

// Receivers that take less, buffers that come a few at a time, bursts in which frames
// of all kinds follow each other.
static void test_segmented(void **state)
{
    static const uint8_t masks[] = {0, OFFLOAD_CSUM, OFFLOAD_CSUM | OFFLOAD_TSO4, OFFLOAD_CSUM | OFFLOAD_TSO6};
    static struct tcp_frame frames[3];
    uint64_t segments = 0, whole = 0, given = 0;
    unsigned waited = 0;
    struct vif_count count;

    (void)state;
    dice_open(&dice, "segmented");
    WIRE(STEP_END(SLOT_B, true));
    for (unsigned round = 0; round < 300; round++) {
        uint8_t mask = masks[dice_below(&dice, 4)];
        unsigned many = 1 + dice_below(&dice, 3), loops;

        takes(&b, mask);
        for (unsigned i = 0; i < many; i++) {
            uint32_t payload = dice_below(&dice, 8) ? dice_below(&dice, many > 1 ? 20000 : 42000) : 0;
            uint32_t size = dice_below(&dice, 4) ? 1200 : 100 + dice_below(&dice, 1400);

            // All of a round's segments find room in the ring.
            tcp_frame_random(&frames[i], &dice, payload, size < payload / 30 + 1 ? payload / 30 + 1 : size);
            send_raw(&a, frames[i].header, frames[i].bytes, frames[i].len, 1 + dice_below(&dice, 20));
        }
        loops = poll_all(&b, 1 + dice_below(&dice, 20));
        waited += loops > 1;
        for (unsigned i = 0; i < many; i++) {
            const uint8_t own = frames[i].ip6 ? OFFLOAD_TSO6 : OFFLOAD_TSO4;

            if ((mask & own) && !(frames[i].header[1] & 0x80)) {
                expect_whole(&b, &frames[i]);
                given++;
                continue;
            }
            for (uint32_t k = 0; k < tcp_frame_count(&frames[i]); k++)
                expect_segment(&b, &frames[i], k, mask & OFFLOAD_CSUM);
            segments += tcp_frame_count(&frames[i]);
            whole++;
        }
        expect_nothing(&b);
        // Posted buffers pile up: as many as fit are used up before the next round.
        while (b.rx.free_count < 64) {
            uint8_t small[60] = {0};

            send_raw(&a, small, small, 60, 1);
            poll_all(NULL, 0);
            given++;
            take(&b, small, small);
        }
    }
    assert_true(waited > 50);
    assert_int_equal(whole, leg_check(leg).steps[0].segmented.frames);
    assert_int_equal(segments, leg_check(leg).steps[0].segmented.segments);
    assert_true(vif_read_count(SLOT_B, &count));
    assert_int_equal(given + segments, count.transmitted.frames);
}

// More segments than the worker makes in one go.
static void test_many_segments(void **state)
{
    (void)state;
    dice_open(&dice, "many segments");
    takes(&b, 0);
    WIRE(STEP_END(SLOT_NIC, true));
    tcp_frame_random(&sent, &dice, 60000, 20);
    send_sent();
    assert_int_equal(3, poll_all(NULL, 0)); // 3,000 of them
    assert_int_equal(1, leg_check(leg).steps[0].delivered.frames);
    assert_int_equal(3000, leg_check(leg).steps[0].segmented.segments);
    assert_int_equal(3000, nic.out_next - nic.out_first);
    // Where nothing may wait they are too many.
    WIRE(STEP_END(SLOT_NIC, false));
    send_sent();
    poll_all(NULL, 0);
    assert_int_equal(1, leg_check(leg).dropped[DROP_TOO_BIG]);
    assert_int_equal(LIMIT_BURST_SEGMENTS, leg_check(leg).steps[0].segmented.segments);
}

// Segments as small and as large as a header may ask for.
static void test_sizes(void **state)
{
    static const struct {
        uint32_t payload, size;
    } cases[] = {{0, 1}, {1, 1}, {200, 1}, {200, 2}, {200, 199}, {200, 200}, {200, 201}, {200, UINT16_MAX}};

    (void)state;
    dice_open(&dice, "sizes");
    WIRE(STEP_END(SLOT_B, true));
    for (unsigned i = 0; i < 4 * sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t mask = i % 2 ? OFFLOAD_CSUM : 0;

        takes(&b, mask);
        tcp_frame_random(&sent, &dice, cases[i / 4].payload, cases[i / 4].size);
        send_sent();
        guest_post(&b, tcp_frame_count(&sent), 500);
        poll_all(NULL, 0);
        for (uint32_t k = 0; k < tcp_frame_count(&sent); k++)
            expect_segment(&b, &sent, k, mask);
        expect_nothing(&b);
    }
    leg_check(leg);
}

// A checksum alone, anywhere in the frame.
static void test_checksums(void **state)
{
    static uint8_t bytes[LIMIT_FRAME_MAX], got[TCP_FRAME_MAX];
    uint8_t header[OFFLOAD_HEADER_LEN];

    (void)state;
    dice_open(&dice, "checksums");
    takes(&b, 0);
    WIRE(STEP_END(SLOT_B, true));
    for (unsigned i = 0; i < 2000; i++) {
        uint32_t len = 60 + dice_below(&dice, dice_below(&dice, 2) ? 300 : 9000);
        uint32_t start = 14 + dice_below(&dice, len - 15), offset = dice_below(&dice, len - start - 1);

        if (dice_below(&dice, 2))
            offset %= 32;
        dice_fill(&dice, bytes, len);
        memcpy(header,
               (uint8_t[]){1, 0, 0, 0, 0, 0, (uint8_t)start, (uint8_t)(start >> 8), (uint8_t)offset,
                           (uint8_t)(offset >> 8)},
               sizeof(header));
        send_raw(&a, header, bytes, len, 1 + dice_below(&dice, 5));
        guest_post(&b, (len + HEADER_LEN + 1999) / 2000, 2000);
        assert_int_equal(1, poll_all(NULL, 0));
        checksum_complete(bytes, len, start, start + offset);
        assert_int_equal(len, take(&b, header, got));
        assert_memory_equal(bytes, got, len);
        assert_memory_equal(((uint8_t[OFFLOAD_HEADER_LEN]){0}), header, sizeof(header));
    }
    assert_int_equal(0, leg_check(leg).steps[0].segmented.segments);
}

// Not what its header says: it can't be segmented, and says why it is dropped.
static void test_bad_offload(void **state)
{
    unsigned bad = 0;

    (void)state;
    dice_open(&dice, "bad offload");
    WIRE(STEP_TAP(SLOT_NIC), STEP_END(SLOT_B, true));
    takes(&b, 0);
    for (unsigned i = 0; i < 8; i++) {
        tcp_frame_random(&sent, &dice, 3000, 1000);
        switch (i) {
        case 0: // another family than its type
            sent.header[1] = sent.ip6 ? 1 : 4;
            break;
        case 1: // UDP
            sent.bytes[sent.ip6 ? sent.l3 + 6 : sent.l3 + 9] = 17;
            break;
        case 2: // the checksum elsewhere
            sent.header[6]++;
            break;
        case 3:
            sent.header[8] = 6;
            break;
        case 4: // no length for TCP's header
            sent.bytes[sent.l4 + 12] = 0x40;
            break;
        case 5:
            sent.bytes[sent.l3] = 0xff;
            break;
        case 6: // the type of nothing
            sent.bytes[sent.l3 - 1] ^= 0x55;
            break;
        case 7: // its header alone, cut
            sent.len = sent.l4 + 19;
            sent.header[2] = 0;
            sent.header[3] = 0;
            break;
        }
        send_sent();
        poll_all(&b, 5);
        bad++;
    }
    expect_nothing(&b);
    assert_int_equal(bad, leg_check(leg).dropped[DROP_BAD_OFFLOAD]);
    assert_int_equal(bad, leg_check(leg).steps[0].tap.dropped[TAP_DROP_BAD_OFFLOAD]);
}

// It agreed to whole frames, but its ring is too small for one.
static void test_small_ring(void **state)
{
    struct guest small;
    const struct guest_options options = {.rx = {.size = 16, .offloads = OFFLOAD_ALL, .mergeable = true}};

    (void)state;
    dice_open(&dice, "small ring");
    guest_open(&small, SLOT_M2 + 5, &options);
    for (unsigned tapped = 0; tapped < 2; tapped++) {
        if (tapped)
            WIRE(STEP_TAP(SLOT_M1), STEP_END(SLOT_M2 + 5, true));
        else
            WIRE(STEP_END(SLOT_M2 + 5, true));
        guest_post(&m1, 50, 1526);
        tcp_frame_random(&sent, &dice, 60000, 1400);
        send_sent();
        for (uint32_t k = 0, loops = 0; k < tcp_frame_count(&sent); loops++) {
            uint32_t room = small.rx.free_count;

            assert_true(loops < 100);
            guest_post(&small, room, 1700);
            rig_poll();
            for (uint32_t i = 0; i < 16 && k < tcp_frame_count(&sent); i++)
                expect_segment(&small, &sent, k++, true);
        }
        guest_forget_sent(&a);
        if (tapped)
            expect_whole(&m1, &sent);
        leg_check(leg);
        rig_publish(NULL, 0);
    }
    guest_close(&small);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, offload_setup, offload_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers), CASE(test_lying_headers), CASE(test_whole),
        CASE(test_segmented),           CASE(test_sizes),         CASE(test_many_segments),
        CASE(test_checksums),           CASE(test_bad_offload),   CASE(test_small_ring),
    };

    return cmocka_run_group_tests_name("path: offload", tests, NULL, NULL);
}
