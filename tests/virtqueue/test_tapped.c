// SPDX-License-Identifier: BSD-3-Clause

// One pass to a receiver and a monitor: every combination of their buffers. Both
// guests' memory is compared with the model's, and each frame is accounted for.

#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum buffers {
    PLAIN,     // one descriptor
    HEADER,    // the header in one of its own
    INDIRECT,  // the same, indirect
    MERGED,    // many small ones for a frame
    TOO_SMALL, // not mergeable and smaller than the frames
    FEW,       // plain, but not for all frames
    NONE,      // none at all
    BAD_FIRST, // some that are none before those that are
    MIXED,     // plain and others in turn
    BROKEN,    // a ring that can't be
    BUFFER_KINDS
};

struct guest {
    struct driver driver;
    struct model model;
    enum buffers kind;
};

static struct guest receiver, monitor;
static struct burst burst;
static uint8_t frame_bytes[LIMIT_BURST_FRAMES][LIMIT_FRAME_MAX];

static void post_chain(struct guest *guest, uint32_t len, enum driver_layout layout)
{
    uint64_t at = driver_alloc(&guest->driver, len);
    struct driver_piece pieces[] = {{at, 12, VRING_DESC_F_WRITE}, {at + 12, len - 12, VRING_DESC_F_WRITE}};

    model_post(&guest->model, pieces, 2, 2, layout);
}

static void guest_open(struct guest *guest, enum buffers kind, unsigned frames, uint32_t len, uint16_t start)
{
    guest->kind = kind;
    driver_open(&guest->driver, &(struct driver_options){.start = start, .mergeable = kind == MERGED});
    model_open(&guest->model, &guest->driver);
    if (kind == FEW)
        frames = frames / 2;
    if (kind == NONE || kind == BROKEN)
        frames = 0;
    for (unsigned i = 0; i < frames; i++) {
        struct driver_piece bad = {0xdead0000, 100, VRING_DESC_F_WRITE};

        switch (kind) {
        case HEADER:
            post_chain(guest, 12 + len, LAYOUT_DIRECT);
            break;
        case INDIRECT:
            post_chain(guest, 12 + len, LAYOUT_INDIRECT);
            break;
        case MERGED:
            for (unsigned j = 0; j < (12 + len + 499) / 500; j++)
                model_post_one(&guest->model, 500);
            break;
        case TOO_SMALL:
            model_post_one(&guest->model, 12 + len - 1);
            break;
        case MIXED:
            if (i % 3 == 2)
                post_chain(guest, 20 + len, LAYOUT_DIRECT);
            else
                model_post_one(&guest->model, 12 + len);
            break;
        case BAD_FIRST:
            if (i % 2 == 0)
                model_post(&guest->model, &bad, 1, 0, LAYOUT_DIRECT);
            model_post_one(&guest->model, 12 + len);
            break;
        default:
            model_post_one(&guest->model, 12 + len);
        }
    }
    if (kind == BROKEN && guest->driver.vq.packed) // a chain that doesn't end
        driver_add_one(&guest->driver, DRIVER_BUFFERS_AT, 10000, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT);
    else if (kind == BROKEN)
        driver_offer(&guest->driver, 0x7fff);
    driver_publish(&guest->driver);
    driver_shadow_sync(&guest->driver);
}

static void guest_close(struct guest *guest)
{
    model_close(&guest->model);
    driver_close(&guest->driver);
}

static enum transmit_stop model_guest_put(struct guest *guest, const uint8_t *bytes, uint32_t len)
{
    return guest->kind == BROKEN ? TRANSMIT_DOWN : model_put(&guest->model, bytes, len);
}

// What the counts should be, and both guests' memory; returns what transmit should.
static uint16_t expect_both(struct tap_count *counts, enum transmit_stop *stop)
{
    memset(counts, 0, sizeof(*counts));
    for (uint16_t i = 0; i < burst.count; i++) {
        uint32_t len = burst.frames[i].len;

        *stop = model_guest_put(&receiver, frame_bytes[i], len);
        if (*stop != TRANSMIT_ALL)
            return i;
        counts->offered++;
        switch (model_guest_put(&monitor, frame_bytes[i], len)) {
        case TRANSMIT_ALL:
            counts->copied.frames++;
            counts->copied.bytes += len;
            break;
        case TRANSMIT_TOO_BIG:
            counts->dropped[TAP_DROP_TOO_BIG]++;
            break;
        case TRANSMIT_DOWN:
            counts->dropped[TAP_DROP_DOWN]++;
            break;
        default:
            counts->dropped[TAP_DROP_RING_FULL]++;
        }
    }
    *stop = TRANSMIT_ALL;
    return burst.count;
}

static void check_sums(const struct tap_count *counts, uint16_t done)
{
    uint64_t sum = counts->copied.frames;

    for (unsigned i = 0; i < TAP_DROP_REASON_COUNT; i++)
        sum += counts->dropped[i];
    assert_int_equal(counts->offered, sum);
    assert_int_equal(counts->offered, done);
}

static void combination(enum buffers to, enum buffers tap, uint32_t len, unsigned segments)
{
    struct tap_count want, got = {0};
    enum transmit_stop want_stop, got_stop;
    uint16_t want_done, done;

    guest_open(&receiver, to, 12, len, 65530);
    guest_open(&monitor, tap, 12, len, 5);
    burst_clear(&burst);
    for (unsigned i = 0; i < 12; i++)
        burst_add(&burst, frame_bytes[i], i % 5 == 4 ? len - 1 : len, segments == 0 ? 1 + i % 3 : segments);
    want_done = expect_both(&want, &want_stop);
    done = virtqueue_transmit_tapped(&receiver.driver.vq, &monitor.driver.vq, &burst, 0, burst.count, &got_stop, &got);
    assert_int_equal(want_done, done);
    assert_int_equal(want_stop, got_stop);
    assert_memory_equal(&want, &got, sizeof(want));
    check_sums(&got, done);
    driver_shadow_check(&receiver.driver);
    driver_shadow_check(&monitor.driver);
    guest_close(&receiver);
    guest_close(&monitor);
}

static void test_combinations(void **state)
{
    static const uint32_t lens[] = {60, 64, 65, 1514, 9216};

    (void)state;
    for (unsigned to = 0; to < BUFFER_KINDS; to++)
        for (unsigned tap = 0; tap < BUFFER_KINDS; tap++)
            for (unsigned l = 0; l < sizeof(lens) / sizeof(lens[0]); l++)
                for (unsigned segments = 0; segments < 3; segments++)
                    combination(to, tap, lens[l], segments);
}

// Headers of different lengths on the two sides.
static void test_legacy_and_modern(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 4; k++)
        for (unsigned segments = 1; segments < 3; segments++) {
            struct tap_count want, got = {0};
            enum transmit_stop want_stop, got_stop;
            uint16_t want_done;

            guest_open(&receiver, PLAIN, 4, 60, 0);
            guest_open(&monitor, k < 2 ? PLAIN : HEADER, 4, 60, 0);
            receiver.driver.vq.hdr_len = k & 1 ? 10 : 12;
            monitor.driver.vq.hdr_len = k & 1 ? 12 : 10;
            burst_clear(&burst);
            for (unsigned i = 0; i < 4; i++)
                burst_add(&burst, frame_bytes[i], 60, segments);
            want_done = expect_both(&want, &want_stop);
            assert_int_equal(want_done, virtqueue_transmit_tapped(&receiver.driver.vq, &monitor.driver.vq, &burst, 0, 4,
                                                                  &got_stop, &got));
            assert_memory_equal(&want, &got, sizeof(want));
            driver_shadow_check(&receiver.driver);
            driver_shadow_check(&monitor.driver);
            guest_close(&receiver);
            guest_close(&monitor);
        }
}

// A burst that is given in two calls, because the receiver had no room, is
// offered to the monitor once.
static void test_in_two_calls(void **state)
{
    struct tap_count counts = {0};
    enum transmit_stop stop;
    uint16_t done;

    (void)state;
    guest_open(&receiver, FEW, 12, 60, 0);
    guest_open(&monitor, PLAIN, 12, 60, 0);
    burst_clear(&burst);
    for (unsigned i = 0; i < 12; i++)
        burst_add(&burst, frame_bytes[i], 60, 1);
    done = virtqueue_transmit_tapped(&receiver.driver.vq, &monitor.driver.vq, &burst, 0, 12, &stop, &counts);
    assert_int_equal(6, done);
    assert_int_equal(TRANSMIT_FULL, stop);
    for (unsigned i = 0; i < 6; i++)
        model_post_one(&receiver.model, 72);
    driver_publish(&receiver.driver);
    assert_int_equal(
        6, virtqueue_transmit_tapped(&receiver.driver.vq, &monitor.driver.vq, &burst, done, 6, &stop, &counts));
    assert_int_equal(TRANSMIT_ALL, stop);
    assert_int_equal(12, counts.offered);
    assert_int_equal(12, counts.copied.frames);
    assert_int_equal(12 * 60, counts.copied.bytes);
    guest_close(&receiver);
    guest_close(&monitor);
}

// A monitor whose buffers are chains of nothing but empty descriptors, too small
// at their end, is looked at no more often than a burst's descriptors allow.
static void test_costly_monitor(void **state)
{
    struct driver_piece pieces[LIMIT_FRAME_SEGMENTS];
    struct tap_count counts = {0};
    enum transmit_stop stop;

    (void)state;
    guest_open(&receiver, PLAIN, 64, 60, 0);
    guest_open(&monitor, NONE, 0, 60, 0);
    for (unsigned i = 0; i < LIMIT_FRAME_SEGMENTS; i++)
        pieces[i] =
            (struct driver_piece){DRIVER_BUFFERS_AT, i + 1 == LIMIT_FRAME_SEGMENTS ? 50 : 0, VRING_DESC_F_WRITE};
    driver_add(&monitor.driver, pieces, LIMIT_FRAME_SEGMENTS, LAYOUT_INDIRECT);
    driver_publish(&monitor.driver);
    burst_clear(&burst);
    for (unsigned i = 0; i < 64; i++)
        burst_add(&burst, frame_bytes[i], 60, 1);
    assert_int_equal(64,
                     virtqueue_transmit_tapped(&receiver.driver.vq, &monitor.driver.vq, &burst, 0, 64, &stop, &counts));
    check_sums(&counts, 64);
    assert_int_equal(LIMIT_BURST_DESCRIPTORS / LIMIT_FRAME_SEGMENTS, counts.dropped[TAP_DROP_TOO_BIG]);
    assert_int_equal(64 - LIMIT_BURST_DESCRIPTORS / LIMIT_FRAME_SEGMENTS, counts.dropped[TAP_DROP_RING_FULL]);
    guest_close(&receiver);
    guest_close(&monitor);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_combinations),
        cmocka_unit_test(test_legacy_and_modern),
        cmocka_unit_test(test_in_two_calls),
        cmocka_unit_test(test_costly_monitor),
    };

    return cmocka_run_group_tests_name("virtqueue: transmit, tapped", tests, NULL, NULL);
}
