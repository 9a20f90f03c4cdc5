// SPDX-License-Identifier: BSD-3-Clause

// What is a packed ring's alone: chains that no driver builds, rings that can't
// be, and both event structures. What rings have in common is tested by the other
// programs, with guests of either kind.

#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

enum { BUFFERS_END = DRIVER_BUFFERS_AT + (1 << 20) + (1 << 19) };

static _Atomic uint64_t discarded[VIF_DISCARD_REASON_COUNT];
static struct burst burst;

static void open_ring(struct driver *driver, struct driver_options options)
{
    options.ring = RING_PACKED;
    memset(discarded, 0, sizeof(discarded));
    driver_open(driver, &options);
}

static void burst_of_one(uint32_t len)
{
    static uint8_t bytes[LIMIT_FRAME_MAX];

    burst_clear(&burst);
    burst_add(&burst, bytes, len, 1);
}

// ---- chains ----

struct bad_chain {
    const char *name;
    int reason; // of a frame; every one is a bad buffer
    bool no_indirect;
    unsigned count;
    enum driver_layout layout;
    struct driver_piece pieces[4]; // address 0: a good buffer's
    // What the head's descriptor is changed to: a length and more flags; 0: nothing.
    uint32_t len;
    uint16_t flags;
};

static const struct bad_chain bad_chains[] = {
    {"outside", VIF_DISCARD_BAD_CHAIN, false, 1, LAYOUT_DIRECT, {{0x123456789abc, 100, 0}}, 0, 0},
    {"beyond the end", VIF_DISCARD_BAD_CHAIN, false, 1, LAYOUT_DIRECT, {{BUFFERS_END - 50, 100, 0}}, 0, 0},
    {"around 2^64", VIF_DISCARD_BAD_CHAIN, false, 1, LAYOUT_DIRECT, {{UINT64_MAX - 49, 100, 0}}, 0, 0},
    {"second outside", VIF_DISCARD_BAD_CHAIN, false, 2, LAYOUT_DIRECT, {{0, 60, 0}, {1, 60, 0}}, 0, 0},
    {"third outside", VIF_DISCARD_BAD_CHAIN, false, 3, LAYOUT_DIRECT, {{0, 20, 0}, {0, 20, 0}, {1, 60, 0}}, 0, 0},
    {"middle outside", VIF_DISCARD_BAD_CHAIN, false, 3, LAYOUT_DIRECT, {{0, 20, 0}, {1, 20, 0}, {0, 60, 0}}, 0, 0},
    {"4 GiB", VIF_DISCARD_GIANT, false, 1, LAYOUT_DIRECT, {{DRIVER_BUFFERS_AT, UINT32_MAX, 0}}, 0, 0},
    {"no bytes", VIF_DISCARD_BAD_CHAIN, false, 2, LAYOUT_DIRECT, {{0, 0, 0}, {0, 0, 0}}, 0, 0},
    {"outside, indirect", VIF_DISCARD_BAD_CHAIN, false, 2, LAYOUT_INDIRECT, {{0, 60, 0}, {1, 60, 0}}, 0, 0},
    {"indirect unasked", VIF_DISCARD_BAD_CHAIN, true, 2, LAYOUT_INDIRECT, {{0, 12, 0}, {0, 60, 0}}, 0, 0},
    {"table of 31 bytes", VIF_DISCARD_BAD_CHAIN, false, 2, LAYOUT_INDIRECT, {{0, 12, 0}, {0, 60, 0}}, 31, 0},
    {"table of 8 bytes", VIF_DISCARD_BAD_CHAIN, false, 2, LAYOUT_INDIRECT, {{0, 12, 0}, {0, 60, 0}}, 8, 0},
    {"table of 4 GiB", VIF_DISCARD_BAD_CHAIN, false, 2, LAYOUT_INDIRECT, {{0, 12, 0}, {0, 60, 0}}, 0xfffffff0, 0},
    {"table outside", VIF_DISCARD_BAD_CHAIN, false, 1, LAYOUT_DIRECT, {{0x99999000, 32, VRING_DESC_F_INDIRECT}}, 0, 0},
    {"table across regions",
     VIF_DISCARD_BAD_CHAIN,
     false,
     1,
     LAYOUT_DIRECT,
     {{DRIVER_BUFFERS_AT + (1 << 20) - 16, 32, VRING_DESC_F_INDIRECT}},
     0,
     0},
    {"table in a chain",
     VIF_DISCARD_BAD_CHAIN,
     false,
     2,
     LAYOUT_DIRECT,
     {{0, 60, 0}, {DRIVER_BUFFERS_AT, 32, VRING_DESC_F_INDIRECT}},
     0,
     0},
    {"a chain behind a table",
     VIF_DISCARD_BAD_CHAIN,
     false,
     2,
     LAYOUT_DIRECT,
     {{DRIVER_BUFFERS_AT, 32, VRING_DESC_F_INDIRECT}, {0, 60, 0}},
     0,
     0},
    {"empty table",
     VIF_DISCARD_BAD_CHAIN,
     false,
     1,
     LAYOUT_DIRECT,
     {{DRIVER_BUFFERS_AT, 0, VRING_DESC_F_INDIRECT}},
     0,
     0},
};

static uint16_t offer_bad(struct driver *driver, const struct bad_chain *bad, uint16_t direction)
{
    struct driver_piece pieces[4];
    uint32_t head = driver->packed.next;
    uint16_t id;

    for (unsigned i = 0; i < bad->count; i++) {
        pieces[i] = bad->pieces[i];
        if (pieces[i].address == 0)
            pieces[i].address = driver_alloc(driver, pieces[i].len);
        if (!(pieces[i].flags & VRING_DESC_F_INDIRECT))
            pieces[i].flags |= direction;
    }
    id = driver_add(driver, pieces, bad->count, bad->layout);
    if (bad->len != 0)
        driver->packed.ring[head].len = bad->len;
    return id;
}

// Alone, and behind and before good ones; given back by its id and in its length.
static void test_bad_chains(void **state)
{
    (void)state;
    for (unsigned k = 0; k < sizeof(bad_chains) / sizeof(bad_chains[0]); k++)
        for (unsigned before = 0; before < 3; before++)
            for (unsigned size = 9; size < 300; size += 200) { // around the end, too
                const struct bad_chain *bad = &bad_chains[k];
                uint16_t ids[8], id;
                unsigned count = 0;
                struct driver driver;
                uint32_t len;

                open_ring(&driver, (struct driver_options){.size = (uint16_t)size,
                                                           .start = (uint16_t)(size - 2),
                                                           .no_indirect = bad->no_indirect});
                for (unsigned i = 0; i < before; i++)
                    ids[count++] = driver_add_one(&driver, driver_alloc(&driver, 100), 100, 0);
                ids[count++] = offer_bad(&driver, bad, 0);
                for (unsigned i = 0; i < 2; i++)
                    ids[count++] = driver_add_one(&driver, driver_alloc(&driver, 100), 100, 0);
                driver_publish(&driver);
                driver_shadow_sync(&driver);
                if (before > 0) { // completion is in order: those before it first
                    assert_int_equal(before, virtqueue_packed_receive(&driver.vq, &burst, discarded));
                    driver_shadow_check(&driver);
                    for (unsigned i = 0; i < before; i++)
                        driver_shadow_use(&driver, ids[i], 0);
                    virtqueue_packed_complete(&driver.vq, &burst, (uint16_t)before);
                    driver_shadow_check(&driver);
                }
                driver_shadow_use(&driver, ids[before], 0);
                if (virtqueue_packed_receive(&driver.vq, &burst, discarded) != 2)
                    fail_msg("%s: not given back before the good ones", bad->name);
                driver_shadow_check(&driver);
                driver_check_views(&driver, &burst);
                if (discarded[bad->reason] != 1)
                    fail_msg("%s: counted otherwise", bad->name);
                virtqueue_packed_complete(&driver.vq, &burst, 2);
                for (unsigned i = 0; i < count; i++) {
                    assert_true(driver_take(&driver, &id, &len));
                    assert_int_equal(ids[i], id);
                    assert_int_equal(0, len);
                }
                assert_null(driver.vq.broken);
                driver_close(&driver);
            }
}

static void test_bad_buffers(void **state)
{
    (void)state;
    for (unsigned k = 0; k < sizeof(bad_chains) / sizeof(bad_chains[0]); k++) {
        const struct bad_chain *bad = &bad_chains[k];
        struct driver driver;
        enum transmit_stop stop;
        uint16_t id, good;

        if (bad->reason == VIF_DISCARD_GIANT)
            continue; // a buffer may be as long as it likes
        open_ring(&driver, (struct driver_options){.size = 20, .no_indirect = bad->no_indirect});
        id = offer_bad(&driver, bad, VRING_DESC_F_WRITE);
        good = driver_add_one(&driver, driver_alloc(&driver, 200), 200, VRING_DESC_F_WRITE);
        driver_publish(&driver);
        burst_of_one(150);
        driver_shadow_sync(&driver);
        assert_int_equal(1, virtqueue_packed_transmit(&driver.vq, &burst, 0, 1, &stop));
        if (driver.vq.bad_chains != 1)
            fail_msg("%s: taken for a buffer", bad->name);
        assert_true(driver_take(&driver, &id, &(uint32_t){0}));
        assert_true(driver_take(&driver, &id, &(uint32_t){0}));
        assert_int_equal(good, id);
        driver_close(&driver);
    }
}

// ---- rings that can't be ----

static void expect_broken(struct driver *driver, uint16_t frames, uint16_t direction)
{
    enum transmit_stop stop;

    driver_publish(driver);
    if (direction == 0) {
        assert_int_equal(frames, virtqueue_packed_receive(&driver->vq, &burst, discarded));
        virtqueue_packed_complete(&driver->vq, &burst, frames);
    } else {
        burst_of_one(60);
        burst.frames[1] = burst.frames[2] = burst.frames[0];
        assert_int_equal(frames, virtqueue_packed_transmit(&driver->vq, &burst, 0, 3, &stop));
        assert_int_equal(TRANSMIT_DOWN, stop);
    }
    assert_non_null(driver->vq.broken);
    assert_true(driver->vq.next < driver->size);
    driver_close(driver);
}

static void test_broken_rings(void **state)
{
    struct driver_piece pieces[600];

    (void)state;
    for (uint16_t direction = 0; direction <= VRING_DESC_F_WRITE; direction += VRING_DESC_F_WRITE)
        for (uint16_t before = 0; before < 3; before++) {
            struct driver driver;

            // A chain that goes on where nothing is available.
            open_ring(&driver, (struct driver_options){.size = 64, .start = 62});
            for (unsigned i = 0; i < before; i++)
                driver_add_one(&driver, driver_alloc(&driver, 100), 100, direction);
            driver_add_one(&driver, driver_alloc(&driver, 100), 100, VRING_DESC_F_NEXT | direction);
            expect_broken(&driver, before, direction);

            // One that goes all around the ring.
            open_ring(&driver, (struct driver_options){.size = 16, .start = 5});
            for (unsigned i = 0; i < before; i++)
                driver_add_one(&driver, driver_alloc(&driver, 100), 100, direction);
            while (driver.free_count > 0)
                driver_add_one(&driver, DRIVER_BUFFERS_AT, 100, VRING_DESC_F_NEXT | direction);
            expect_broken(&driver, before, direction);

            // And one of more descriptors than any device allows.
            open_ring(&driver, (struct driver_options){.size = 1000, .start = 700});
            for (unsigned i = 0; i < before; i++)
                driver_add_one(&driver, driver_alloc(&driver, 100), 100, direction);
            for (unsigned i = 0; i < 600; i++)
                pieces[i] = (struct driver_piece){DRIVER_BUFFERS_AT, 1, direction};
            driver_add(&driver, pieces, 600, LAYOUT_DIRECT);
            expect_broken(&driver, before, direction);
        }
}

// ---- events ----

// Notifies if the driver's event structure names one of the descriptors that
// were used since the last time; step by step.
static bool should(uint32_t size, uint32_t at, bool wrap, uint32_t used, uint16_t off_wrap)
{
    for (uint32_t i = 0; i < used; i++) {
        if ((at | (uint32_t)wrap << 15) == off_wrap)
            return true;
        if (++at == size) {
            at = 0;
            wrap = !wrap;
        }
    }
    return false;
}

static void test_event_index(void **state)
{
    static const uint16_t sizes[] = {1, 2, 7, 64, 100};

    (void)state;
    for (unsigned s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        const uint32_t size = sizes[s];
        struct driver driver;

        open_ring(&driver, (struct driver_options){.size = sizes[s], .event_idx = true});
        driver.vq.call_fd = eventfd(0, EFD_NONBLOCK);
        driver.vq.signalled_valid = true;
        driver.packed.driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
        for (uint32_t start = 0; start < 2 * size; start += 1 + size / 9)
            for (uint32_t used = 1; used <= size; used += 1 + size / 7)
                for (uint32_t event = 0; event < 2 * size; event++) {
                    uint16_t off_wrap = (uint16_t)(event % size | (event / size) << 15);
                    uint32_t at = start % size;
                    bool wrap = start / size == 0, want = should(size, at, wrap, used, off_wrap);

                    driver.vq.next = (uint16_t)((at + used) % size);
                    driver.vq.wrap = at + used < size ? wrap : !wrap;
                    driver.vq.unsignalled = used;
                    driver.packed.driver_event->off_wrap = off_wrap;
                    // A whole ring may be told too much, never too little.
                    if (used < size || want)
                        assert_int_equal(want, virtqueue_packed_notify(&driver.vq));
                    driver.vq.unsignalled = 0;
                    assert_false(virtqueue_packed_notify(&driver.vq)); // nothing new
                }
        close(driver.vq.call_fd);
        driver_close(&driver);
    }
}

static void test_event_flags(void **state)
{
    (void)state;
    for (unsigned event_idx = 0; event_idx < 2; event_idx++)
        for (unsigned flags = 0; flags < 65536; flags += flags < 8 ? 1 : 997) {
            struct driver driver;

            open_ring(&driver, (struct driver_options){.size = 8, .event_idx = event_idx});
            driver.vq.call_fd = eventfd(0, EFD_NONBLOCK);
            driver.vq.unsignalled = 1;
            driver.vq.next = 1;
            driver.packed.driver_event->off_wrap = 5 | 1 << 15; // not yet
            driver.packed.driver_event->flags = (uint16_t)flags;
            // DESC without the feature, and what means nothing, is told too much.
            assert_int_equal((flags & 3) != VRING_PACKED_EVENT_FLAG_DISABLE &&
                                 !(event_idx && (flags & 3) == VRING_PACKED_EVENT_FLAG_DESC),
                             virtqueue_packed_notify(&driver.vq));
            // So is a descriptor that the ring doesn't have.
            driver.vq.unsignalled = 1;
            driver.packed.driver_event->off_wrap = 8;
            driver.packed.driver_event->flags = VRING_PACKED_EVENT_FLAG_DESC;
            assert_true(virtqueue_packed_notify(&driver.vq));
            close(driver.vq.call_fd);
            driver_close(&driver);
        }
}

static void test_arm(void **state)
{
    (void)state;
    for (unsigned event_idx = 0; event_idx < 2; event_idx++)
        for (unsigned start = 0; start < 6; start++) {
            const struct vring_packed_desc_event *event;
            struct driver driver;

            open_ring(&driver, (struct driver_options){.size = 5, .start = (uint16_t)start, .event_idx = event_idx});
            event = driver.packed.device_event;
            virtqueue_packed_disarm(&driver.vq);
            assert_int_equal(VRING_PACKED_EVENT_FLAG_DISABLE, event->flags);
            assert_true(virtqueue_packed_arm(&driver.vq));
            assert_true(driver.vq.armed);
            assert_int_equal(event_idx ? VRING_PACKED_EVENT_FLAG_DESC : VRING_PACKED_EVENT_FLAG_ENABLE, event->flags);
            if (event_idx)
                assert_int_equal(start % 5 | 1 << 15, event->off_wrap);
            driver_add_one(&driver, driver_alloc(&driver, 100), 100, 0);
            driver_publish(&driver);
            assert_false(virtqueue_packed_arm(&driver.vq)); // there is one
            assert_false(driver.vq.armed);
            assert_int_equal(VRING_PACKED_EVENT_FLAG_DISABLE, event->flags);
            driver_close(&driver);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_chains),  cmocka_unit_test(test_bad_buffers), cmocka_unit_test(test_broken_rings),
        cmocka_unit_test(test_event_index), cmocka_unit_test(test_event_flags), cmocka_unit_test(test_arm),
    };

    return cmocka_run_group_tests_name("virtqueue: packed", tests, NULL, NULL);
}
