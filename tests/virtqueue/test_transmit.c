// SPDX-License-Identifier: BSD-3-Clause

// Frames to a guest: every layout of buffers, mergeable and not, and why a
// frame isn't taken. All of the guest's memory is compared with the model's.

#include "model.h"

#include "dataplane/copy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct burst burst;
static struct driver driver;
static struct model model;
static uint8_t frame_bytes[LIMIT_BURST_FRAMES][LIMIT_FRAME_MAX];

static void begin(const struct driver_options *options)
{
    driver_open(&driver, options);
    model_open(&model, &driver);
    burst_clear(&burst);
}

static void end(void)
{
    model_close(&model);
    driver_close(&driver);
}

static void frame_add(uint32_t len, unsigned segments)
{
    burst_add(&burst, frame_bytes[burst.count], len, segments);
}

// Transmits all of the burst and expects what the model says.
static void transmit_and_check(void)
{
    enum transmit_stop want = TRANSMIT_ALL, stop = TRANSMIT_DOWN;
    uint16_t want_done = 0, done;

    driver_publish(&driver);
    driver_shadow_sync(&driver);
    model.walked = 0;
    while (want_done < burst.count) {
        if (model.walked >= LIMIT_BURST_DESCRIPTORS) {
            want = TRANSMIT_FULL; // the next burst goes on
            break;
        }
        want = model_put(&model, frame_bytes[want_done], burst.frames[want_done].len);
        if (want != TRANSMIT_ALL)
            break;
        want_done++;
    }
    done = virtqueue_transmit(&driver.vq, &burst, 0, burst.count, &stop);
    assert_int_equal(want_done, done);
    assert_int_equal(want, stop);
    driver_shadow_check(&driver);
    burst.count = burst.segment_count = 0;
}

static void expect(enum transmit_stop stop, uint16_t done)
{
    enum transmit_stop got;

    driver_publish(&driver);
    assert_int_equal(done, virtqueue_transmit(&driver.vq, &burst, 0, burst.count, &got));
    assert_int_equal(stop, got);
    burst.count = burst.segment_count = 0;
}

static void test_plain(void **state)
{
    static const uint32_t lens[] = {14,  15,  16,  17,  20,  23,  31,  32,  33,  47,   48,   49,   60,   63,  64,
                                    65,  66,  79,  80,  95,  96,  97,  127, 128, 129,  255,  256,  257,  508, 512,
                                    700, 960, 990, 991, 992, 993, 994, 995, 996, 1024, 1514, 4096, 9215, 9216};
    static const uint8_t headers[] = {10, 12};

    (void)state;
    for (unsigned large = 0; large < 2; large++) {
        if (large)
            copy_init();
        for (unsigned h = 0; h < 2; h++)
            for (unsigned l = 0; l < sizeof(lens) / sizeof(lens[0]); l++)
                for (unsigned slack = 0; slack < 3; slack++) {
                    begin(&(struct driver_options){.hdr_len = headers[h], .start = 65530});
                    for (unsigned i = 0; i < 20; i++) {
                        model_post_one(&model, headers[h] + lens[l] + slack * 7);
                        frame_add(lens[l], 1 + (slack == 1));
                    }
                    transmit_and_check();
                    frame_add(60, 1);
                    transmit_and_check(); // FULL
                    end();
                }
    }
}

// One frame, its buffer cut wherever a driver may cut it.
static void test_chain_layouts(void **state)
{
    static const enum driver_layout layouts[] = {LAYOUT_DIRECT, LAYOUT_INDIRECT, LAYOUT_MIXED};
    static const uint32_t cuts[][6] = {
        {12}, {10}, {0}, {1}, {11}, {13}, {0, 0, 12}, {5, 7, 12, 12}, {12, 26}, {3, 12, 14, 30, 60}, {72, 80}, {71, 72},
    };

    (void)state;
    for (unsigned h = 10; h <= 12; h += 2)
        for (unsigned c = 0; c < sizeof(cuts) / sizeof(cuts[0]); c++)
            for (unsigned k = 0; k < 3; k++)
                for (unsigned segments = 1; segments < 4; segments++) {
                    begin(&(struct driver_options){.hdr_len = (uint8_t)h});
                    for (unsigned n = 0; n < 3; n++) {
                        struct driver_piece pieces[8];
                        uint64_t at = driver_alloc(&driver, 100);
                        unsigned count = 0;
                        uint32_t from = 0;

                        for (; count < 6 && (count == 0 || cuts[c][count] != 0); count++) {
                            pieces[count] = (struct driver_piece){at + from, cuts[c][count] - from, VRING_DESC_F_WRITE};
                            from = cuts[c][count];
                        }
                        pieces[count++] = (struct driver_piece){at + from, 100 - from, VRING_DESC_F_WRITE};
                        model_post(&model, pieces, count, count, layouts[k]);
                        frame_add(60, segments);
                    }
                    transmit_and_check();
                    end();
                }
}

static void test_mergeable(void **state)
{
    static const uint32_t buffers[] = {1, 2, 11, 12, 13, 40, 64, 1526, 2048};
    static const uint32_t lens[] = {14, 60, 243, 244, 245, 1514, 9216};

    (void)state;
    for (unsigned b = 0; b < sizeof(buffers) / sizeof(buffers[0]); b++)
        for (unsigned l = 0; l < sizeof(lens) / sizeof(lens[0]); l++)
            for (unsigned mergeable = 0; mergeable < 2; mergeable++) {
                begin(&(struct driver_options){.size = 1024, .mergeable = mergeable, .start = 65000});
                for (unsigned i = 0; i < 1024; i++)
                    model_post_one(&model, buffers[b]);
                for (unsigned i = 0; i < 5; i++)
                    frame_add(lens[l], 1 + i % 2);
                transmit_and_check();
                end();
            }
}

// A whole ring that is too small is never enough; part of one may become so.
static void test_short_and_too_big(void **state)
{
    (void)state;
    begin(&(struct driver_options){.size = 8, .mergeable = true});
    for (unsigned i = 0; i < 7; i++)
        model_post_one(&model, 100);
    frame_add(700, 1);
    expect(TRANSMIT_SHORT, 0);
    model_post_one(&model, 100);
    frame_add(700, 1);
    expect(TRANSMIT_ALL, 1);
    end();

    begin(&(struct driver_options){.size = 8, .mergeable = true});
    for (unsigned i = 0; i < 8; i++)
        model_post_one(&model, 80);
    frame_add(700, 1);
    expect(TRANSMIT_TOO_BIG, 0);
    frame_add(600, 1);
    expect(TRANSMIT_ALL, 1);
    frame_add(14, 1);
    expect(TRANSMIT_FULL, 0);
    end();

    begin(&(struct driver_options){.mergeable = false});
    model_post_one(&model, 71);
    model_post_one(&model, 2000);
    frame_add(60, 1);
    expect(TRANSMIT_TOO_BIG, 0);
    frame_add(59, 1);
    frame_add(60, 1);
    expect(TRANSMIT_ALL, 2);
    end();
}

// Frames up to the first that doesn't fit; the rest later, in order.
static void test_stops_and_goes_on(void **state)
{
    (void)state;
    begin(&(struct driver_options){.start = 65535});
    for (unsigned i = 0; i < 5; i++)
        model_post_one(&model, 80);
    for (unsigned i = 0; i < 9; i++)
        frame_add(60 + i, 1);
    transmit_and_check();
    for (unsigned i = 0; i < 9; i++)
        model_post_one(&model, 80);
    for (unsigned i = 0; i < 9; i++)
        frame_add(60 + i, 1);
    transmit_and_check();
    end();
}

static void test_across_regions(void **state)
{
    (void)state;
    for (unsigned back = 1; back < 330; back += back < 100 ? 1 : 17)
        for (unsigned mergeable = 0; mergeable < 2; mergeable++) {
            struct driver_piece piece = {DRIVER_BUFFERS_AT + 65536 - back, 400, VRING_DESC_F_WRITE};

            begin(&(struct driver_options){.mergeable = mergeable, .buffers = {65536, 40, 3, 100, 65536, 1, 65536}});
            model_post(&model, &piece, 1, 1, LAYOUT_DIRECT);
            frame_add(300, 1 + back % 3);
            transmit_and_check();
            end();
        }
}

static void test_sizes_and_wrap(void **state)
{
    static const uint32_t sizes[] = {1,   2,   3,   4,    5,    7,    8,    16,   31,   32,    33,    64,   65,
                                     128, 200, 256, 1000, 1024, 2048, 4095, 4096, 8192, 16384, 32767, 32768};

    (void)state;
    for (unsigned k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        uint32_t size = sizes[k];
        uint32_t total = size + 200;

        // A split ring must have a power of 2, a packed one needn't.
        begin(&(struct driver_options){.ring = (size & (size - 1)) != 0 ? RING_PACKED : RING_DEFAULT,
                                       .size = (uint16_t)size,
                                       .start = (uint16_t)(65536 - size / 2)});
        for (uint32_t sent = 0; sent < total;) {
            uint32_t some = size < 13 ? size : 13;
            uint16_t head;
            uint32_t len;

            for (uint32_t i = 0; i < some; i++) {
                model_post_one(&model, 72);
                frame_add(60, 1);
            }
            if (size <= 1024 || sent % 1300 == 0) {
                transmit_and_check();
            } else { // comparing all of a big ring is slow
                driver_shadow_sync(&driver);
                for (uint32_t i = 0; i < some; i++)
                    assert_int_equal(TRANSMIT_ALL, model_put(&model, frame_bytes[i], 60));
                expect(TRANSMIT_ALL, (uint16_t)some);
            }
            sent += some;
            for (uint32_t i = 0; i < some; i++) {
                assert_true(driver_take(&driver, &head, &len));
                assert_int_equal(72, len);
            }
            assert_false(driver_take(&driver, &head, &len));
        }
        end();
    }
}

// A chain that is none goes back empty, the frame goes into the next one, and
// no byte of it anywhere else.
static void test_bad_chains(void **state)
{
    (void)state;
    for (unsigned kind = 0; kind < 7; kind++)
        for (unsigned before = 0; before < 3; before++)
            for (unsigned mergeable = 0; mergeable < 2; mergeable++) {
                struct driver_piece pieces[3];
                unsigned count = 2, bad_at = 1;
                uint16_t head;

                begin(&(struct driver_options){.mergeable = mergeable});
                if (driver.vq.packed && kind >= 5) { // no next fields, and no flags in tables
                    end();
                    continue;
                }
                for (unsigned i = 0; i < before; i++)
                    model_post_one(&model, 80);
                for (unsigned i = 0; i < 3; i++)
                    pieces[i] = (struct driver_piece){driver_alloc(&driver, 20), 20, VRING_DESC_F_WRITE};
                switch (kind) {
                case 0: // the second piece is nowhere
                    pieces[1].address = 0x1234567890;
                    break;
                case 1: // the second piece is to be read
                    pieces[1].flags = 0;
                    break;
                case 2: // the first piece is to be read
                    pieces[0].flags = 0;
                    bad_at = 0;
                    break;
                case 3: // no bytes at all
                    pieces[0].len = pieces[1].len = 0;
                    break;
                case 4: // it runs out of the last region
                    pieces[1].address = DRIVER_BUFFERS_AT + (1 << 20) + (1 << 19) - 5;
                    count = 3;
                    bad_at = 1;
                    break;
                case 5: // next leaves the table
                    count = 3;
                    bad_at = 2;
                    break;
                case 6: // nested indirect
                    pieces[1].flags = VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT;
                    break;
                }
                head = model_post(&model, pieces, count, bad_at, kind == 6 ? LAYOUT_INDIRECT : LAYOUT_DIRECT);
                if (kind == 5) {
                    uint16_t second = driver.desc[head].next;

                    driver.desc[second].next = driver.size;
                }
                for (unsigned i = 0; i < 4; i++)
                    model_post_one(&model, 80);
                for (unsigned i = 0; i < before + 5; i++)
                    frame_add(60, 1 + i % 2);
                transmit_and_check();
                assert_int_equal(1, driver.vq.bad_chains);
                assert_null(driver.vq.broken);
                end();
            }
}

// A ring full of chains that are none: all of them go back, but a call looks at
// no more descriptors than a burst may have, so that nobody else has to wait.
static void test_bad_chains_are_bounded(void **state)
{
    struct driver_piece pieces[256] = {0};
    uint32_t len, given_back = 0, chains;
    uint16_t head;

    (void)state;
    begin(&(struct driver_options){.size = 32768});
    // A packed ring has no loops, but long chains.
    chains = driver.vq.packed ? 32768 / 256 : 32768;
    for (unsigned i = 0; i < 256; i++)
        pieces[i] = (struct driver_piece){DRIVER_BUFFERS_AT, 0, VRING_DESC_F_WRITE};
    // One loop of descriptors without bytes, offered as often as there is room.
    for (unsigned i = 0; i < 256 && !driver.vq.packed; i++)
        driver.desc[i] = (struct vring_desc){DRIVER_BUFFERS_AT, 0, VRING_DESC_F_WRITE | VRING_DESC_F_NEXT,
                                             (uint16_t)((i + 1) % 256)};
    for (unsigned i = 0; i < chains; i++) {
        if (driver.vq.packed)
            driver_add(&driver, pieces, 256, LAYOUT_DIRECT);
        else
            driver_offer(&driver, (uint16_t)(i % 256));
    }
    for (unsigned calls = 0; given_back < chains; calls++) {
        uint32_t now = 0;

        assert_true(calls < chains);
        frame_add(60, 1);
        expect(TRANSMIT_FULL, 0);
        while (driver_take(&driver, &head, &len)) {
            assert_int_equal(0, len);
            now++;
        }
        assert_true(now > 0);
        assert_in_range(now, 1, LIMIT_BURST_DESCRIPTORS / LIMIT_FRAME_SEGMENTS + 1);
        given_back += now;
    }
    assert_int_equal(chains, driver.vq.bad_chains);
    end();
}

// Mergeable buffers of many empty descriptors each: a frame may not make us
// walk more of them than one chain has.
static void test_descriptors_of_a_frame_are_bounded(void **state)
{
    struct driver_piece pieces[200];

    (void)state;
    begin(&(struct driver_options){.size = 1024, .mergeable = true});
    for (unsigned n = 0; n < 4; n++) {
        for (unsigned i = 0; i < 200; i++)
            pieces[i] = (struct driver_piece){driver_alloc(&driver, 10), i == 199 ? 10 : 0, VRING_DESC_F_WRITE};
        driver_add(&driver, pieces, 200, LAYOUT_INDIRECT);
    }
    frame_add(14, 1);
    expect(TRANSMIT_TOO_BIG, 0);
    end();
}

// Tiny mergeable buffers cost a burst no more than its descriptors, either, in
// however many calls; the next one goes on. (Bursts end at 64 KiB, so that
// buffers of a sensible size never come near.)
static void test_tiny_buffers_are_bounded(void **state)
{
    const unsigned each = 14 + 12, most = LIMIT_BURST_DESCRIPTORS / each + 1;
    enum transmit_stop stop;
    unsigned done = 0;

    (void)state;
    begin(&(struct driver_options){.size = 4096, .mergeable = true});
    for (unsigned i = 0; i < 64 * each; i++)
        model_post_one(&model, 1);
    driver_publish(&driver);
    for (unsigned i = 0; i < 64; i++)
        frame_add(14, 1);
    driver_shadow_sync(&driver);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(TRANSMIT_ALL, model_put(&model, frame_bytes[i], 14));
    while (done < 64) {
        uint16_t now = virtqueue_transmit(&driver.vq, &burst, 0, (uint16_t)(64 - done), &stop);

        done += now;
        assert_in_range(now, 1, most);
        if (done == 64)
            break;
        assert_int_equal(TRANSMIT_FULL, stop);
        // The same burst's next call, as after a frame that was dropped: no more.
        assert_int_equal(0, virtqueue_transmit(&driver.vq, &burst, now, 1, &stop));
        assert_int_equal(TRANSMIT_FULL, stop);
        memmove(burst.frames, burst.frames + now, (64 - done) * sizeof(burst.frames[0]));
    }
    assert_int_equal(TRANSMIT_ALL, stop);
    driver_shadow_check(&driver); // as if it had been one call
    burst.count = 0;
    end();
}

static void test_broken_rings(void **state)
{
    (void)state;
    begin(&(struct driver_options){.ring = RING_SPLIT});
    driver_offer(&driver, 256);
    frame_add(60, 1);
    expect(TRANSMIT_DOWN, 0);
    assert_non_null(driver.vq.broken);
    end();

    // Frames before it are given, the ring stops after.
    begin(&(struct driver_options){.ring = RING_SPLIT});
    model_post_one(&model, 80);
    driver_offer(&driver, 0xffff);
    frame_add(60, 1);
    frame_add(60, 1);
    expect(TRANSMIT_DOWN, 1);
    assert_non_null(driver.vq.broken);
    assert_int_equal(1, driver.used->idx);
    end();

    begin(&(struct driver_options){.ring = RING_SPLIT, .start = 10});
    driver.avail_idx = (uint16_t)(10 + 257);
    frame_add(60, 1);
    driver_publish(&driver);
    enum transmit_stop stop;

    assert_int_equal(0, virtqueue_transmit(&driver.vq, &burst, 0, 1, &stop));
    assert_int_not_equal(TRANSMIT_ALL, stop);
    assert_non_null(driver.vq.broken);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_chain_layouts),
        cmocka_unit_test(test_mergeable),
        cmocka_unit_test(test_short_and_too_big),
        cmocka_unit_test(test_stops_and_goes_on),
        cmocka_unit_test(test_across_regions),
        cmocka_unit_test(test_sizes_and_wrap),
        cmocka_unit_test(test_bad_chains),
        cmocka_unit_test(test_bad_chains_are_bounded),
        cmocka_unit_test(test_descriptors_of_a_frame_are_bounded),
        cmocka_unit_test(test_tiny_buffers_are_bounded),
        cmocka_unit_test(test_broken_rings),
    };

    return cmocka_run_group_tests_name("virtqueue: transmit", tests, NULL, NULL);
}
