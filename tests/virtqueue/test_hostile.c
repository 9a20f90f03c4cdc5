// SPDX-License-Identifier: BSD-3-Clause

// What no driver does and a hostile guest may: each kind of bad chain alone and
// behind good ones. Around every region of guest memory stand pages that nobody may
// touch.

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

// The end of the last region of buffers.
enum { BUFFERS_END = DRIVER_BUFFERS_AT + (1 << 20) + (1 << 19) };

struct bad_chain {
    const char *name;
    int reason;
    bool no_indirect; // without the feature
    // Offers the chain; returns its head.
    uint16_t (*offer)(struct driver *driver);
};

static uint16_t offer_two(struct driver *driver, struct driver_piece first, struct driver_piece second,
                          enum driver_layout layout)
{
    struct driver_piece pieces[] = {first, second};

    return driver_add(driver, pieces, 2, layout);
}

static struct driver_piece good(struct driver *driver, uint32_t len)
{
    return (struct driver_piece){driver_alloc(driver, len), len, 0};
}

static struct driver_piece with_flags(struct driver_piece piece, uint16_t flags)
{
    piece.flags = flags;
    return piece;
}

static uint16_t writable(struct driver *driver)
{
    return driver_add_one(driver, driver_alloc(driver, 100), 100, VRING_DESC_F_WRITE);
}

static uint16_t writable_second(struct driver *driver)
{
    return offer_two(driver, good(driver, 12), with_flags(good(driver, 60), VRING_DESC_F_WRITE), LAYOUT_DIRECT);
}

static uint16_t writable_in_indirect(struct driver *driver)
{
    return offer_two(driver, good(driver, 12), with_flags(good(driver, 60), VRING_DESC_F_WRITE), LAYOUT_INDIRECT);
}

static uint16_t outside(struct driver *driver)
{
    return driver_add_one(driver, 0x123456789abc, 100, 0);
}

static uint16_t below(struct driver *driver)
{
    return driver_add_one(driver, DRIVER_RINGS_AT - 1, 100, 0);
}

static uint16_t beyond_end(struct driver *driver)
{
    return driver_add_one(driver, BUFFERS_END - 99, 100, 0);
}

static uint16_t at_end(struct driver *driver)
{
    return driver_add_one(driver, BUFFERS_END, 100, 0);
}

static uint16_t outside_second(struct driver *driver)
{
    return offer_two(driver, good(driver, 60), (struct driver_piece){1, 60, 0}, LAYOUT_DIRECT);
}

static uint16_t wraps(struct driver *driver)
{
    return driver_add_one(driver, UINT64_MAX - 49, 100, 0);
}

static uint16_t wraps_from_region(struct driver *driver)
{
    return driver_add_one(driver, DRIVER_RINGS_AT, UINT32_MAX, 0);
}

static uint16_t huge(struct driver *driver)
{
    return driver_add_one(driver, DRIVER_BUFFERS_AT, UINT32_MAX, 0);
}

static uint16_t huge_sum(struct driver *driver)
{
    struct driver_piece pieces[200];

    for (unsigned i = 0; i < 200; i++)
        pieces[i] = (struct driver_piece){DRIVER_BUFFERS_AT, 1 << 20, 0};
    return driver_add(driver, pieces, 200, LAYOUT_INDIRECT);
}

static uint16_t next_is_size(struct driver *driver)
{
    uint16_t head = offer_two(driver, good(driver, 12), good(driver, 60), LAYOUT_DIRECT);

    driver->desc[head].next = driver->size;
    return head;
}

static uint16_t next_is_huge(struct driver *driver)
{
    uint16_t head = offer_two(driver, good(driver, 12), good(driver, 60), LAYOUT_DIRECT);

    driver->desc[head].next = 0xffff;
    return head;
}

// Changes the first entry of the head's indirect table.
static void table_patch(struct driver *driver, uint16_t head, unsigned entry, void (*patch)(struct vring_desc *desc))
{
    struct vring_desc desc;
    uint64_t at = driver->desc[head].addr + entry * sizeof(desc);

    driver_read(driver, at, &desc, sizeof(desc));
    patch(&desc);
    driver_write(driver, at, &desc, sizeof(desc));
}

static void patch_next_2(struct vring_desc *desc)
{
    desc->next = 2;
}

static uint16_t indirect_next_is_count(struct driver *driver)
{
    uint16_t head = offer_two(driver, good(driver, 12), good(driver, 60), LAYOUT_INDIRECT);

    table_patch(driver, head, 0, patch_next_2);
    return head;
}

static uint16_t loop_to_itself(struct driver *driver)
{
    uint16_t head = offer_two(driver, good(driver, 12), good(driver, 0), LAYOUT_DIRECT);

    driver->desc[head].len = 0;
    driver->desc[head].next = head;
    return head;
}

static uint16_t loop_of_two(struct driver *driver)
{
    uint16_t head = offer_two(driver, good(driver, 1), good(driver, 0), LAYOUT_DIRECT);
    uint16_t second = driver->desc[head].next;

    driver->desc[second].flags = VRING_DESC_F_NEXT;
    driver->desc[second].next = head;
    return head;
}

static uint16_t loop_of_bytes(struct driver *driver)
{
    uint16_t head = offer_two(driver, good(driver, 1000), good(driver, 1000), LAYOUT_DIRECT);

    driver->desc[head].next = head;
    return head;
}

static uint16_t indirect_unasked(struct driver *driver)
{
    return offer_two(driver, good(driver, 12), good(driver, 60), LAYOUT_INDIRECT);
}

static uint16_t indirect_with_len(struct driver *driver, uint32_t len)
{
    uint16_t head = offer_two(driver, good(driver, 12), good(driver, 60), LAYOUT_INDIRECT);

    driver->desc[head].len = len;
    return head;
}

static uint16_t indirect_empty(struct driver *driver)
{
    return indirect_with_len(driver, 0);
}

static uint16_t indirect_odd(struct driver *driver)
{
    return indirect_with_len(driver, 31);
}

static uint16_t indirect_two_and_a_half(struct driver *driver)
{
    return indirect_with_len(driver, 40);
}

static uint16_t indirect_tiny(struct driver *driver)
{
    return indirect_with_len(driver, 8);
}

static uint16_t indirect_huge(struct driver *driver)
{
    return indirect_with_len(driver, 0xfffffff0);
}

static uint16_t indirect_and_next(struct driver *driver)
{
    uint16_t head = offer_two(driver, good(driver, 12), good(driver, 60), LAYOUT_INDIRECT);

    driver->desc[head].flags |= VRING_DESC_F_NEXT;
    return head;
}

static uint16_t indirect_outside(struct driver *driver)
{
    return driver_add_one(driver, 0x999999999000, 32, VRING_DESC_F_INDIRECT);
}

static uint16_t indirect_partly_outside(struct driver *driver)
{
    return driver_add_one(driver, BUFFERS_END - 16, 32, VRING_DESC_F_INDIRECT);
}

static uint16_t indirect_across_regions(struct driver *driver)
{
    return driver_add_one(driver, DRIVER_BUFFERS_AT + (1 << 20) - 16, 32, VRING_DESC_F_INDIRECT);
}

static uint16_t nested_first(struct driver *driver)
{
    return offer_two(driver, with_flags(good(driver, 32), VRING_DESC_F_INDIRECT), good(driver, 60), LAYOUT_INDIRECT);
}

static uint16_t nested_second(struct driver *driver)
{
    return offer_two(driver, good(driver, 60), with_flags(good(driver, 32), VRING_DESC_F_INDIRECT), LAYOUT_INDIRECT);
}

// An indirect table that is the ring's own, with an indirect descriptor in it.
static uint16_t nested_in_own_ring(struct driver *driver)
{
    uint16_t inner = --driver->free_count, head;

    inner = driver->free[inner];
    head = driver_add_one(driver, DRIVER_RINGS_AT + inner * 16u, 16, VRING_DESC_F_INDIRECT);
    driver->desc[inner] = (struct vring_desc){DRIVER_RINGS_AT + inner * 16u, 16, VRING_DESC_F_INDIRECT, 0};
    return head;
}

static uint16_t no_bytes(struct driver *driver)
{
    return driver_add_one(driver, driver_alloc(driver, 10), 0, 0);
}

static uint16_t part_of_header(struct driver *driver)
{
    return driver_add_one(driver, driver_alloc(driver, 11), 11, 0);
}

static const struct bad_chain bad_chains[] = {
    {"writable", VIF_DISCARD_BAD_CHAIN, false, writable},
    {"second writable", VIF_DISCARD_BAD_CHAIN, false, writable_second},
    {"writable in an indirect table", VIF_DISCARD_BAD_CHAIN, false, writable_in_indirect},
    {"address outside", VIF_DISCARD_BAD_CHAIN, false, outside},
    {"address below a region", VIF_DISCARD_BAD_CHAIN, false, below},
    {"beyond the end", VIF_DISCARD_BAD_CHAIN, false, beyond_end},
    {"at the end", VIF_DISCARD_BAD_CHAIN, false, at_end},
    {"second outside", VIF_DISCARD_BAD_CHAIN, false, outside_second},
    {"wraps around 2^64", VIF_DISCARD_BAD_CHAIN, false, wraps},
    {"4 GiB from the rings", VIF_DISCARD_BAD_CHAIN, false, wraps_from_region},
    {"4 GiB", VIF_DISCARD_GIANT, false, huge},
    {"200 MiB in pieces", VIF_DISCARD_GIANT, false, huge_sum},
    {"next is the size", VIF_DISCARD_BAD_CHAIN, false, next_is_size},
    {"next is 65535", VIF_DISCARD_BAD_CHAIN, false, next_is_huge},
    {"next leaves the indirect table", VIF_DISCARD_BAD_CHAIN, false, indirect_next_is_count},
    {"loop to itself", VIF_DISCARD_BAD_CHAIN, false, loop_to_itself},
    {"loop of two", VIF_DISCARD_BAD_CHAIN, false, loop_of_two},
    {"loop with bytes", VIF_DISCARD_GIANT, false, loop_of_bytes},
    {"indirect without the feature", VIF_DISCARD_BAD_CHAIN, true, indirect_unasked},
    {"empty indirect table", VIF_DISCARD_BAD_CHAIN, false, indirect_empty},
    {"indirect table of 31 bytes", VIF_DISCARD_BAD_CHAIN, false, indirect_odd},
    {"indirect table of 40 bytes", VIF_DISCARD_BAD_CHAIN, false, indirect_two_and_a_half},
    {"indirect table of 8 bytes", VIF_DISCARD_BAD_CHAIN, false, indirect_tiny},
    {"indirect table of 4 GiB", VIF_DISCARD_BAD_CHAIN, false, indirect_huge},
    {"indirect and next", VIF_DISCARD_BAD_CHAIN, false, indirect_and_next},
    {"indirect table outside", VIF_DISCARD_BAD_CHAIN, false, indirect_outside},
    {"indirect table partly outside", VIF_DISCARD_BAD_CHAIN, false, indirect_partly_outside},
    {"indirect table across regions", VIF_DISCARD_BAD_CHAIN, false, indirect_across_regions},
    {"nested, first", VIF_DISCARD_BAD_CHAIN, false, nested_first},
    {"nested, second", VIF_DISCARD_BAD_CHAIN, false, nested_second},
    {"nested in the ring's own table", VIF_DISCARD_BAD_CHAIN, false, nested_in_own_ring},
    {"no bytes", VIF_DISCARD_BAD_CHAIN, false, no_bytes},
    {"part of a header", VIF_DISCARD_BAD_CHAIN, false, part_of_header},
};

// A bad chain, with `before` good frames before it and two behind.
static void one_bad_chain(const struct bad_chain *bad, unsigned before)
{
    struct driver driver;
    uint16_t heads[8], head;
    unsigned count = 0;
    uint32_t len;

    memset(discarded, 0, sizeof(discarded));
    driver_open(&driver, &(struct driver_options){.start = 65534, .no_indirect = bad->no_indirect});
    for (unsigned i = 0; i < before; i++)
        heads[count++] = driver_add_one(&driver, driver_alloc(&driver, 100), 100, 0);
    heads[count++] = bad->offer(&driver);
    for (unsigned i = 0; i < 2; i++)
        heads[count++] = driver_add_one(&driver, driver_alloc(&driver, 100), 100, 0);
    driver_publish(&driver);

    if (before > 0) {
        // First those before it; it stays in the ring, since completion is in order.
        driver_shadow_sync(&driver);
        assert_int_equal(before, virtqueue_receive(&driver.vq, &burst, discarded));
        driver_check_views(&driver, &burst);
        assert_int_equal(0, discarded_sum());
        driver_shadow_check(&driver);
        for (unsigned i = 0; i < before; i++)
            driver_shadow_use(&driver, heads[i], 0);
        virtqueue_complete(&driver.vq, &burst, (uint16_t)before);
        driver_shadow_check(&driver);
    }
    driver_shadow_sync(&driver);
    driver_shadow_use(&driver, heads[before], 0);
    // One that is as long as a burst may be has one of its own.
    if (virtqueue_receive(&driver.vq, &burst, discarded) != 2 && virtqueue_receive(&driver.vq, &burst, discarded) != 2)
        fail_msg("%s: not given back before the good ones", bad->name);
    driver_shadow_check(&driver); // it is back, and nothing else was written
    driver_check_views(&driver, &burst);
    if (discarded[bad->reason] != 1 || discarded_sum() != 1)
        fail_msg("%s: counted otherwise", bad->name);
    virtqueue_complete(&driver.vq, &burst, 2);
    for (unsigned i = 0; i < count; i++) {
        assert_true(driver_take(&driver, &head, &len));
        assert_int_equal(heads[i], head);
        assert_int_equal(0, len);
    }
    assert_null(driver.vq.broken);
    driver_close(&driver);
}

static void test_bad_chains(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(bad_chains) / sizeof(bad_chains[0]); i++)
        for (unsigned before = 0; before < 3; before++)
            one_bad_chain(&bad_chains[i], before);
}

// The same chains where buffers to write to are expected: nothing of a frame
// goes anywhere. (Most are bad for their direction alone, too.)
static void test_bad_chains_of_buffers(void **state)
{
    static uint8_t bytes[60];
    struct driver driver;
    enum transmit_stop stop;

    (void)state;
    for (unsigned i = 0; i < sizeof(bad_chains) / sizeof(bad_chains[0]); i++) {
        const struct bad_chain *bad = &bad_chains[i];
        uint16_t head;

        if (bad->offer == writable)
            continue; // that's a good one here
        driver_open(&driver, &(struct driver_options){.no_indirect = bad->no_indirect, .mergeable = i % 2});
        head = bad->offer(&driver);
        driver_publish(&driver);
        burst.count = 1;
        memset(&burst.frames[0], 0, sizeof(burst.frames[0]));
        frame_set_single(&burst.frames[0], bytes, sizeof(bytes));
        driver_shadow_sync(&driver);
        driver_shadow_use(&driver, head, 0);
        if (virtqueue_transmit(&driver.vq, &burst, 0, 1, &stop) != 0 || stop != TRANSMIT_FULL)
            fail_msg("%s: stop %u", bad->name, stop);
        driver_shadow_check(&driver);
        assert_int_equal(1, driver.vq.bad_chains);
        driver_close(&driver);
    }
}

// Loops and empty chains cost no more than a burst's descriptors a call.
static void test_bad_chains_are_bounded(void **state)
{
    struct driver driver;
    uint16_t head, calls = 0;
    uint32_t len, given_back = 0;

    (void)state;
    memset(discarded, 0, sizeof(discarded));
    driver_open(&driver, &(struct driver_options){0});
    for (unsigned i = 0; i < 256; i++)
        driver.desc[i] = (struct vring_desc){DRIVER_BUFFERS_AT, 0, VRING_DESC_F_NEXT, (uint16_t)((i + 1) % 256)};
    for (unsigned i = 0; i < 256; i++)
        driver_offer(&driver, (uint16_t)i);
    driver_publish(&driver);
    while (given_back < 256) {
        uint32_t now = 0;

        assert_true(calls++ < 256);
        assert_int_equal(0, virtqueue_receive(&driver.vq, &burst, discarded));
        while (driver_take(&driver, &head, &len))
            now++;
        assert_in_range(now, 1, LIMIT_BURST_DESCRIPTORS / LIMIT_FRAME_SEGMENTS);
        given_back += now;
    }
    assert_int_equal(256, discarded[VIF_DISCARD_BAD_CHAIN]);
    driver_close(&driver);
}

// Long chains of a packed ring that are bad at their first descriptor: the id
// stands in the last one, so all of them is walked, and counts.
static void test_long_bad_chains_are_bounded(void **state)
{
    enum { CHAIN = 200, CHAINS = 20 };
    struct driver driver;
    uint32_t given_back = 0, at = 0;

    (void)state;
    memset(discarded, 0, sizeof(discarded));
    driver_open(&driver, &(struct driver_options){.ring = RING_PACKED, .size = 4096});
    for (unsigned i = 0; i < CHAINS * CHAIN; i++, at++) {
        uint16_t lap = driver.vq.wrap ? 1 << VRING_PACKED_DESC_F_AVAIL : 1 << VRING_PACKED_DESC_F_USED;
        uint16_t next = i % CHAIN == CHAIN - 1 ? 0 : VRING_DESC_F_NEXT;

        driver.vq.ring[at] =
            (struct vring_packed_desc){DRIVER_BUFFERS_AT, 100, (uint16_t)(i / CHAIN),
                                       (uint16_t)(lap | next | (i % CHAIN == 0 ? VRING_DESC_F_WRITE : 0))};
    }
    for (unsigned calls = 0; given_back < CHAINS; calls++) {
        uint64_t before = discarded_sum();

        assert_true(calls < CHAINS);
        assert_int_equal(0, virtqueue_packed_receive(&driver.vq, &burst, discarded));
        assert_in_range(discarded_sum() - before, 1, LIMIT_BURST_DESCRIPTORS / CHAIN + 1);
        given_back = (uint32_t)discarded_sum();
    }
    assert_int_equal(CHAINS, discarded[VIF_DISCARD_BAD_CHAIN]);
    assert_null(driver.vq.broken);
    driver_close(&driver);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_chains),
        cmocka_unit_test(test_bad_chains_of_buffers),
        cmocka_unit_test(test_bad_chains_are_bounded),
        cmocka_unit_test(test_long_bad_chains_are_bounded),
    };

    return cmocka_run_group_tests_name("virtqueue: hostile", tests, NULL, NULL);
}
