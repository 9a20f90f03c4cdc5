// SPDX-License-Identifier: BSD-3-Clause

// Frames from a guest: every layout that a driver may choose, the bounds of a
// burst, and completion in ring order.

#include "driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static _Atomic uint64_t discarded[VIF_DISCARD_REASON_COUNT];
static struct burst burst;

static uint64_t discarded_sum(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < VIF_DISCARD_REASON_COUNT; i++)
        sum += discarded[i];
    return sum;
}

static int reset(void **state)
{
    (void)state;
    memset(discarded, 0, sizeof(discarded));
    memset(&burst, 0x5a, sizeof(burst));
    return 0;
}

// The payload of frame n: all bytes differ from their neighbours'.
static void payload_fill(uint8_t *to, uint32_t len, uint32_t n)
{
    for (uint32_t i = 0; i < len; i++)
        to[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + n * 31 + 1);
}

// Cuts [address, address + len) into pieces at the given places.
static unsigned cut(uint64_t address, uint32_t len, const uint32_t *places, unsigned count, struct driver_piece *pieces)
{
    uint32_t from = 0;
    unsigned made = 0;

    for (unsigned i = 0; i < count && places[i] <= len; i++) {
        pieces[made++] = (struct driver_piece){address + from, places[i] - from, 0};
        from = places[i];
    }
    pieces[made++] = (struct driver_piece){address + from, len - from, 0};
    return made;
}

static uint64_t frame_write(struct driver *driver, uint32_t len, uint32_t n)
{
    uint8_t bytes[12 + LIMIT_FRAME_MAX + 16];
    uint8_t hdr_len = driver->vq.hdr_len;
    uint64_t at = driver_alloc(driver, hdr_len + len);

    memset(bytes, 0xee, hdr_len); // nothing of a header is believed
    payload_fill(bytes + hdr_len, len, n);
    driver_write(driver, at, bytes, hdr_len + len);
    return at;
}

static void expect_frame(const struct frame *frame, uint32_t len, uint32_t n)
{
    uint8_t got[LIMIT_FRAME_MAX], want[LIMIT_FRAME_MAX];

    assert_int_equal(len, frame->len);
    frame_gather(&burst, frame, got);
    payload_fill(want, len, n);
    assert_memory_equal(want, got, len);
}

// Gives everything back and expects just that in the guest's memory.
static void complete_and_check(struct driver *driver, uint16_t taken)
{
    driver_shadow_sync(driver);
    for (uint16_t i = 0; i < taken; i++)
        driver_shadow_use(driver, burst.frames[i].id, 0);
    virtqueue_complete(&driver->vq, &burst, taken);
    driver_shadow_check(driver);
}

static void expect_taken(struct driver *driver, uint16_t head, uint32_t len)
{
    uint16_t got_head;
    uint32_t got_len;

    assert_true(driver_take(driver, &got_head, &got_len));
    assert_int_equal(head, got_head);
    assert_int_equal(len, got_len);
}

static void one_frame(struct driver *driver, const struct driver_piece *pieces, unsigned count,
                      enum driver_layout layout, uint32_t len, uint32_t n)
{
    uint16_t head = driver_add(driver, pieces, count, layout);

    driver_publish(driver);
    driver_shadow_sync(driver);
    assert_int_equal(1, virtqueue_receive(&driver->vq, &burst, discarded));
    driver_shadow_check(driver); // looking writes nothing
    driver_check_views(driver, &burst);
    assert_int_equal(1, burst.count);
    assert_false(burst.owned);
    assert_int_equal(head, burst.frames[0].id);
    expect_frame(&burst.frames[0], len, n);
    complete_and_check(driver, 1);
    expect_taken(driver, head, 0);
    assert_int_equal(0, virtqueue_receive(&driver->vq, &burst, discarded));
    assert_int_equal(0, discarded_sum());
}

static void test_layouts(void **state)
{
    static const uint32_t lens[] = {14, 15, 60, 64, 65, 127, 508, 1514, 9216};
    static const uint8_t headers[] = {10, 12};
    static const enum driver_layout layouts[] = {LAYOUT_DIRECT, LAYOUT_INDIRECT, LAYOUT_MIXED};
    struct driver driver;

    (void)state;
    for (unsigned h = 0; h < 2; h++) {
        const uint8_t hdr = headers[h];
        // Where a driver may cut header and payload; 0 and twins are descriptors of no length.
        const uint32_t cuts[][6] = {
            {UINT32_MAX},
            {hdr, UINT32_MAX},
            {0, UINT32_MAX},
            {hdr, hdr, hdr, UINT32_MAX},
            {1, UINT32_MAX},
            {5, 7, hdr - 1u, UINT32_MAX},
            {hdr + 1u, UINT32_MAX},
            {hdr - 1u, hdr + 1u, hdr + 6u, hdr + 12u, hdr + 14u, UINT32_MAX},
            {0, 0, hdr, hdr + 13u, hdr + 13u, UINT32_MAX},
        };

        driver_open(&driver, &(struct driver_options){.hdr_len = hdr, .start = 65530});
        for (unsigned l = 0; l < sizeof(lens) / sizeof(lens[0]); l++)
            for (unsigned c = 0; c < sizeof(cuts) / sizeof(cuts[0]); c++)
                for (unsigned k = 0; k < 3; k++) {
                    struct driver_piece pieces[8];
                    uint64_t at = frame_write(&driver, lens[l], l * 100 + c);
                    unsigned count = 0;

                    while (cuts[c][count] != UINT32_MAX && count < 6)
                        count++;
                    count = cut(at, hdr + lens[l], cuts[c], count, pieces);
                    if (layouts[k] == LAYOUT_MIXED && count < 2)
                        continue;
                    one_frame(&driver, pieces, count, layouts[k], lens[l], l * 100 + c);
                }
        driver_close(&driver);
    }
}

// As many descriptors as a frame may have, and one more.
static void test_long_chains(void **state)
{
    struct driver_piece pieces[LIMIT_FRAME_SEGMENTS + 1];
    struct driver driver;

    (void)state;
    driver_open(&driver, &(struct driver_options){.size = 512});
    for (unsigned k = 0; k < 2; k++) {
        unsigned count = LIMIT_FRAME_SEGMENTS;
        uint16_t head;
        uint64_t at = frame_write(&driver, 2 * count, 5);

        pieces[0] = (struct driver_piece){at, 12 + 2, 0};
        for (unsigned i = 1; i < count; i++)
            pieces[i] = (struct driver_piece){at + 12 + 2 * i, 2, 0};
        if (!driver.vq.packed) {
            driver.free_count = 512;
            for (unsigned i = 0; i < 512; i++)
                driver.free[i] = (uint16_t)i;
        }
        one_frame(&driver, pieces, count, k == 0 ? LAYOUT_DIRECT : LAYOUT_INDIRECT, 2 * count, 5);

        pieces[count] = (struct driver_piece){at, 0, 0};
        if (!driver.vq.packed)
            driver.free_count = 512;
        head = driver_add(&driver, pieces, count + 1, k == 0 ? LAYOUT_DIRECT : LAYOUT_INDIRECT);
        driver_publish(&driver);
        assert_int_equal(0, virtqueue_receive(&driver.vq, &burst, discarded));
        assert_int_equal(1, discarded[VIF_DISCARD_BAD_CHAIN]);
        expect_taken(&driver, head, 0);
        driver_shadow_catch_up(&driver);
        reset(NULL);
    }
    driver_close(&driver);
}

static void test_across_regions(void **state)
{
    struct driver driver;

    (void)state;
    // 64 KiB and then small ones, so that one buffer lies in four.
    driver_open(&driver, &(struct driver_options){.buffers = {65536, 40, 3, 100, 65536, 1, 65536}});
    for (unsigned back = 0; back < 400; back++)
        for (unsigned k = 0; k < 2; k++) {
            uint64_t at = DRIVER_BUFFERS_AT + 65536 - back;
            uint8_t bytes[12 + 300];

            memset(bytes, 0xee, 12);
            payload_fill(bytes + 12, 300, back);
            driver_write(&driver, at, bytes, sizeof(bytes));
            driver.alloc_next = DRIVER_BUFFERS_AT + 65536 + 40 + 3 + 100 + 1000;
            one_frame(&driver, &(struct driver_piece){at, sizeof(bytes), 0}, 1,
                      k == 0 ? LAYOUT_DIRECT : LAYOUT_INDIRECT, 300, back);
        }
    driver_close(&driver);
}

static const uint32_t sizes[] = {1,    2,    3,    4,    5,    7,    8,    16,    31,    32,
                                 33,   63,   64,   65,   127,  128,  200,  256,   511,   512,
                                 1024, 1025, 2048, 4096, 5000, 8192, 9999, 16384, 32767, 32768};

// A split ring must have a power of 2, a packed one needn't.
static enum driver_ring ring_for(uint32_t size)
{
    return (size & (size - 1)) != 0 ? RING_PACKED : RING_DEFAULT;
}

static void test_sizes_and_wrap(void **state)
{
    static uint16_t order[32768];
    struct driver driver;

    (void)state;
    for (unsigned k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        uint32_t size = sizes[k];
        uint32_t total = size < 300 ? 2 * size + 70 : size + 100;
        uint32_t sent = 0, got = 0;
        uint64_t at;

        driver_open(&driver, &(struct driver_options){.ring = ring_for(size),
                                                      .size = (uint16_t)size,
                                                      .start = (uint16_t)(65536 - size / 2)});
        at = frame_write(&driver, 60, 0);
        while (got < total) {
            uint16_t heads[LIMIT_BURST_FRAMES];
            uint16_t count;

            while (driver.free_count > 0 && sent < total) {
                // The numbers go around: a wrong one is seen all the same, the
                // heads are shuffled by the free list.
                order[sent++ % 32768] = driver_add_one(&driver, at, 72, 0);
            }
            driver_publish(&driver);
            count = virtqueue_receive(&driver.vq, &burst, discarded);
            assert_int_equal(sent - got < LIMIT_BURST_FRAMES ? sent - got : LIMIT_BURST_FRAMES, count);
            for (uint16_t i = 0; i < count; i++) {
                heads[i] = burst.frames[i].id;
                assert_int_equal(order[(got + i) % 32768], heads[i]);
                expect_frame(&burst.frames[i], 60, 0);
            }
            virtqueue_complete(&driver.vq, &burst, count);
            for (uint16_t i = 0; i < count; i++)
                expect_taken(&driver, heads[i], 0);
            got += count;
        }
        assert_int_equal(0, discarded_sum());
        assert_null(driver.vq.broken);
        driver_close(&driver);
    }
}

// What isn't taken is seen again, from its first frame on.
static void test_partly_taken(void **state)
{
    struct driver driver;
    uint16_t heads[10], next = 0;

    (void)state;
    driver_open(&driver, &(struct driver_options){.start = 65533});
    for (unsigned i = 0; i < 10; i++)
        heads[i] = driver_add_one(&driver, frame_write(&driver, 60 + i, i), 72 + i, 0);
    driver_publish(&driver);
    for (uint16_t taken = 0; next < 10; taken = (taken + 1) % 4) {
        uint16_t count = virtqueue_receive(&driver.vq, &burst, discarded);
        uint16_t take = taken < count ? taken : count;

        assert_int_equal(10 - next, count);
        for (uint16_t i = 0; i < count; i++) {
            assert_int_equal(heads[next + i], burst.frames[i].id);
            expect_frame(&burst.frames[i], 60 + next + i, next + i);
        }
        complete_and_check(&driver, take);
        for (uint16_t i = 0; i < take; i++)
            expect_taken(&driver, heads[next + i], 0);
        next += take;
    }
    driver_close(&driver);
}

static void test_burst_bounds(void **state)
{
    struct driver driver;
    struct driver_piece pieces[200];
    uint32_t seen = 0;

    (void)state;
    // Bytes: a burst ends with the frame that reaches 64 KiB.
    driver_open(&driver, &(struct driver_options){0});
    for (unsigned i = 0; i < 20; i++)
        driver_add_one(&driver, frame_write(&driver, 9216, i), 12 + 9216, 0);
    driver_publish(&driver);
    assert_int_equal(8, virtqueue_receive(&driver.vq, &burst, discarded));
    virtqueue_complete(&driver.vq, &burst, 8);
    assert_int_equal(8, virtqueue_receive(&driver.vq, &burst, discarded));
    expect_frame(&burst.frames[7], 9216, 15);
    virtqueue_complete(&driver.vq, &burst, 8);
    assert_int_equal(4, virtqueue_receive(&driver.vq, &burst, discarded));
    driver_close(&driver);

    // Segments: frames of 200 pieces; five of them have 5 × 199 further ones.
    driver_open(&driver, &(struct driver_options){0});
    for (unsigned n = 0; n < 12; n++) {
        uint64_t at = frame_write(&driver, 200, n);

        pieces[0] = (struct driver_piece){at, 13, 0};
        for (unsigned i = 1; i < 200; i++)
            pieces[i] = (struct driver_piece){at + 12 + i, 1, 0};
        driver_add(&driver, pieces, 200, LAYOUT_INDIRECT);
    }
    driver_publish(&driver);
    while (seen < 12) {
        uint16_t count = virtqueue_receive(&driver.vq, &burst, discarded);

        assert_in_range(count, 1, 6);
        driver_check_views(&driver, &burst);
        for (uint16_t i = 0; i < count; i++)
            expect_frame(&burst.frames[i], 200, seen + i);
        complete_and_check(&driver, count);
        seen += count;
    }
    assert_int_equal(0, discarded_sum());
    driver_close(&driver);
}

static void test_lengths(void **state)
{
    static const struct {
        uint32_t len; // of the frame
        int reason;   // -1: it is one
    } cases[] = {
        {0, VIF_DISCARD_RUNT},     {1, VIF_DISCARD_RUNT},      {13, VIF_DISCARD_RUNT},      {14, -1}, {9216, -1},
        {9217, VIF_DISCARD_GIANT}, {65536, VIF_DISCARD_GIANT}, {1 << 18, VIF_DISCARD_GIANT}};
    static const uint8_t headers[] = {10, 12};
    struct driver driver;

    (void)state;
    for (unsigned h = 0; h < 2; h++)
        for (unsigned c = 0; c < sizeof(cases) / sizeof(cases[0]); c++)
            for (unsigned k = 0; k < 4; k++) {
                const uint32_t len = cases[c].len;
                struct driver_piece pieces[2];
                unsigned count = 1;
                uint64_t at;

                reset(NULL);
                driver_open(&driver, &(struct driver_options){.hdr_len = headers[h]});
                at = driver_alloc(&driver, len + headers[h]);
                pieces[0] = (struct driver_piece){at, len + headers[h], 0};
                if (k & 1) {
                    pieces[1] = (struct driver_piece){at + headers[h], len, 0};
                    pieces[0].len = headers[h];
                    count = 2;
                }
                driver_add(&driver, pieces, count, k & 2 ? LAYOUT_INDIRECT : LAYOUT_DIRECT);
                driver_publish(&driver);
                assert_int_equal(cases[c].reason < 0, virtqueue_receive(&driver.vq, &burst, discarded));
                assert_int_equal(cases[c].reason < 0 ? 0 : 1, discarded_sum());
                if (cases[c].reason >= 0)
                    assert_int_equal(1, discarded[cases[c].reason]);
                assert_null(driver.vq.broken);
                driver_close(&driver);
            }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_layouts, reset),        cmocka_unit_test_setup(test_long_chains, reset),
        cmocka_unit_test_setup(test_across_regions, reset), cmocka_unit_test_setup(test_sizes_and_wrap, reset),
        cmocka_unit_test_setup(test_partly_taken, reset),   cmocka_unit_test_setup(test_burst_bounds, reset),
        cmocka_unit_test_setup(test_lengths, reset),
    };

    return cmocka_run_group_tests_name("virtqueue: receive", tests, NULL, NULL);
}
