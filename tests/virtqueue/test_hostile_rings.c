// SPDX-License-Identifier: BSD-3-Clause

// Split rings that no driver writes: indices that can't be, and rings full of
// random bytes.

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

static void test_index_jump(void **state)
{
    struct driver driver;

    (void)state;
    for (unsigned jump = 257; jump < 65536; jump += 1013) {
        driver_open(&driver, &(struct driver_options){.start = 65000});
        driver.avail_idx = (uint16_t)(65000 + jump);
        driver_publish(&driver);
        driver_shadow_sync(&driver);
        assert_int_equal(0, virtqueue_receive(&driver.vq, &burst, discarded));
        driver_shadow_check(&driver);
        assert_non_null(driver.vq.broken);
        driver_close(&driver);
    }
    // As many as the ring has is no jump.
    driver_open(&driver, &(struct driver_options){0});
    while (driver.free_count > 0)
        driver_add_one(&driver, driver_alloc(&driver, 100), 100, 0);
    driver_publish(&driver);
    assert_int_equal(64, virtqueue_receive(&driver.vq, &burst, discarded));
    assert_null(driver.vq.broken);
    driver_close(&driver);
}

static void test_head_beyond(void **state)
{
    static const uint16_t heads[] = {256, 257, 32768, 65535};
    struct driver driver;

    (void)state;
    for (unsigned i = 0; i < 4; i++)
        for (unsigned before = 0; before < 3; before++) {
            driver_open(&driver, &(struct driver_options){0});
            for (unsigned j = 0; j < before; j++)
                driver_add_one(&driver, driver_alloc(&driver, 100), 100, 0);
            driver_offer(&driver, heads[i]);
            driver_publish(&driver);
            assert_int_equal(before, virtqueue_receive(&driver.vq, &burst, discarded));
            virtqueue_complete(&driver.vq, &burst, (uint16_t)before);
            assert_int_equal(before, driver.used->idx);
            assert_non_null(driver.vq.broken);
            driver_close(&driver);
        }
}

// ---- random rings ----

// A descriptor that is more often nearly right than not.
static struct vring_desc random_desc(struct dice *dice, uint16_t size)
{
    static const uint32_t lens[] = {0, 1, 12, 13, 26, 72, 100, 1526, 9228, 65536, 1 << 20, UINT32_MAX};
    struct vring_desc desc = {
        .addr = DRIVER_BUFFERS_AT + dice_below(dice, (1 << 20) + (1 << 19)),
        .len = dice_below(dice, 3) == 0 ? lens[dice_below(dice, 12)] : dice_below(dice, 200),
        .flags = (uint16_t)dice_below(dice, 4),
        .next = (uint16_t)dice_below(dice, size),
    };

    switch (dice_below(dice, 40)) {
    case 0:
        desc.addr = dice_u64(dice);
        break;
    case 1:
        desc.addr = DRIVER_RINGS_AT + dice_below(dice, 8192); // the rings themselves
        break;
    case 2:
        desc.next = (uint16_t)dice_u64(dice);
        break;
    case 3:
    case 4:
    case 5:
        desc.flags |= VRING_DESC_F_INDIRECT;
        desc.flags &= (uint16_t)~VRING_DESC_F_NEXT;
        desc.len = 16 * dice_below(dice, 20);
        break;
    case 6:
        desc.flags = (uint16_t)dice_u64(dice);
        break;
    case 7:
        desc.addr = DRIVER_BUFFERS_AT + (1 << 20) - dice_below(dice, 100);
        break;
    case 8:
        desc.addr = UINT64_MAX - dice_below(dice, 100);
        break;
    }
    return desc;
}

static void random_rings(struct dice *dice, struct driver *driver)
{
    for (uint32_t i = 0; i < driver->size; i++)
        driver->desc[i] = random_desc(dice, driver->size);
    for (uint32_t i = 0; i < driver->size; i++)
        driver->avail->ring[i] = (uint16_t)dice_below(dice, dice_below(dice, 200) == 0 ? 65536 : driver->size);
    // Tables, too, wherever one may be pointed to.
    for (unsigned i = 0; i < 64; i++) {
        struct vring_desc desc = random_desc(dice, 20);

        driver_write(driver, DRIVER_BUFFERS_AT + dice_below(dice, 1 << 20), &desc, sizeof(desc));
    }
    driver->avail->idx =
        (uint16_t)(driver->vq.last_avail + dice_below(dice, dice_below(dice, 100) == 0 ? 65536 : driver->size + 1u));
    driver->vq.broken = NULL;
    driver->vq.mergeable = dice_below(dice, 2);
    driver->vq.indirect = dice_below(dice, 4) > 0;
    driver->vq.hdr_len = dice_below(dice, 2) ? 12 : 10;
}

static void test_random_rings(void **state)
{
    static uint8_t frames[LIMIT_BURST_FRAMES][LIMIT_FRAME_MAX];
    struct driver from, to, tap;
    struct dice dice;
    uint64_t seen = 0, sent = 0;

    (void)state;
    dice_open(&dice, "random rings");
    driver_open(&from, &(struct driver_options){.size = 128});
    driver_open(&to, &(struct driver_options){.size = 256});
    driver_open(&tap, &(struct driver_options){.size = 64});
    dice_fill(&dice, frames, sizeof(frames));
    memset(discarded, 0, sizeof(discarded));
    for (unsigned round = 0; round < 3000; round++) {
        uint16_t count, done;
        struct tap_count counts = {0};
        enum transmit_stop stop;

        random_rings(&dice, &from);
        random_rings(&dice, &to);
        random_rings(&dice, &tap);
        count = virtqueue_receive(&from.vq, &burst, discarded);
        driver_check_views(&from, &burst);
        seen += count;
        if (count == 0) { // frames of our own, then
            for (count = 0; count < LIMIT_BURST_FRAMES; count++) {
                memset(&burst.frames[count], 0, sizeof(burst.frames[count]));
                frame_set_single(&burst.frames[count], frames[count],
                                 14 + dice_below(&dice, count % 8 ? 100 : LIMIT_FRAME_MAX - 13));
            }
        }
        if (round % 2)
            done = virtqueue_transmit(&to.vq, &burst, 0, count, &stop);
        else
            done = virtqueue_transmit_tapped(&to.vq, &tap.vq, &burst, 0, count, &stop, &counts);
        assert_true(done <= count);
        assert_true((done == count) == (stop == TRANSMIT_ALL));
        if (round % 2 == 0) {
            uint64_t sum = counts.copied.frames;

            for (unsigned i = 0; i < TAP_DROP_REASON_COUNT; i++)
                sum += counts.dropped[i];
            assert_int_equal(counts.offered, done);
            assert_int_equal(counts.offered, sum);
        }
        sent += done;
        if (burst.count > 0 && burst.count == count)
            virtqueue_complete(&from.vq, &burst, (uint16_t)dice_below(&dice, count + 1u));
        burst.count = 0;
        assert_int_equal(from.vq.last_avail, from.vq.last_used);
        assert_int_equal(to.vq.last_avail, to.vq.last_used);
        assert_int_equal(tap.vq.last_avail, tap.vq.last_used);
    }
    print_message("%llu frames seen, %llu sent, %llu bad chains\n", (unsigned long long)seen, (unsigned long long)sent,
                  (unsigned long long)(to.vq.bad_chains + discarded_sum()));
    assert_true(seen > 100 && sent > 100 && discarded_sum() > 100); // it was to the point
    driver_close(&from);
    driver_close(&to);
    driver_close(&tap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_jump),
        cmocka_unit_test(test_head_beyond),
        cmocka_unit_test(test_random_rings),
    };

    return cmocka_run_group_tests_name("virtqueue: hostile rings", tests, NULL, NULL);
}
