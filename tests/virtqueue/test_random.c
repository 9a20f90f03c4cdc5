// SPDX-License-Identifier: BSD-3-Clause

// Random chains, right and wrong, of every layout, against simple models in both
// directions: which frames come out with which bytes, and what all of the
// guest's memory looks like afterwards. PATCHBAY_TEST_SEED repeats a run.

#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    PIECES_MAX = 30,
    // Bytes that may wait in a ring, so that no buffer or table is given out twice.
    OUTSTANDING = 150000,
};

static struct burst burst;

static struct driver_options random_options(struct dice *dice)
{
    static const uint16_t sizes[2][5] = {{1, 2, 8, 64, 256}, {1, 3, 7, 64, 255}};
    enum driver_ring ring = driver_ring_next();

    return (struct driver_options){
        .ring = ring,
        .size = sizes[ring == RING_PACKED][dice_below(dice, 5)],
        .hdr_len = dice_below(dice, 2) ? 12 : 10,
        .start = (uint16_t)dice_u64(dice),
        .mergeable = dice_below(dice, 2),
        // Small ones among them, so that buffers lie in several.
        .buffers = {1 << 18, 1 + dice_below(dice, 100), 1 + dice_below(dice, 5), 1 << 17},
    };
}

static uint32_t random_len(struct dice *dice)
{
    switch (dice_below(dice, 8)) {
    case 0:
        return 14 + dice_below(dice, 3);
    case 1:
        return LIMIT_FRAME_MAX - dice_below(dice, 3);
    case 2:
        return 14 + dice_below(dice, LIMIT_FRAME_MAX - 13);
    default:
        return 14 + dice_below(dice, 1600);
    }
}

// Cuts [at, at + len) anywhere into at most max pieces, empty ones among them.
static unsigned random_cut(struct dice *dice, uint64_t at, uint32_t len, uint16_t flags, unsigned max,
                           struct driver_piece *pieces)
{
    unsigned count = 0;

    if (max > PIECES_MAX)
        max = PIECES_MAX;
    while (count + 1 < max && dice_below(dice, 3) > 0) {
        uint32_t some =
            dice_below(dice, 4) == 0 ? dice_below(dice, len + 1) : dice_below(dice, len < 30 ? len + 1 : 30);

        pieces[count++] = (struct driver_piece){at, some, flags};
        at += some;
        len -= some;
    }
    pieces[count++] = (struct driver_piece){at, len, flags};
    return count;
}

static enum driver_layout random_layout(struct dice *dice, unsigned count)
{
    static const enum driver_layout layouts[] = {LAYOUT_DIRECT, LAYOUT_DIRECT, LAYOUT_INDIRECT, LAYOUT_MIXED};
    enum driver_layout layout = layouts[dice_below(dice, 4)];

    return layout == LAYOUT_MIXED && count < 2 ? LAYOUT_INDIRECT : layout;
}

// Spoils one piece; returns which.
static unsigned spoil(struct dice *dice, struct driver_piece *pieces, unsigned count)
{
    unsigned at = dice_below(dice, count);

    if (pieces[at].len == 0)
        pieces[at].len = 1;
    switch (dice_below(dice, 3)) {
    case 0:
        pieces[at].flags ^= VRING_DESC_F_WRITE;
        break;
    case 1:
        pieces[at].address = dice_u64(dice) | UINT64_C(1) << 62;
        break;
    default:
        pieces[at].address = 0;
    }
    return at;
}

// ---- from the guest ----

struct sent {
    uint16_t head;
    bool bad;
    uint32_t len;
    uint32_t descs;
    uint8_t bytes[LIMIT_FRAME_MAX];
};

static struct sent sent[256];

static bool send_one(struct dice *dice, struct driver *driver, uint16_t index)
{
    struct driver_piece pieces[PIECES_MAX];
    struct sent *frame = &sent[index % 256];
    uint8_t header[12];
    uint8_t hdr_len = driver->vq.hdr_len;
    enum driver_layout layout;
    unsigned count;
    uint64_t at;

    if (driver->free_count == 0)
        return false;
    frame->len = random_len(dice);
    dice_fill(dice, frame->bytes, frame->len);
    dice_fill(dice, header, sizeof(header));
    at = driver_alloc(driver, hdr_len + frame->len);
    driver_write(driver, at, header, hdr_len);
    driver_write(driver, at + hdr_len, frame->bytes, frame->len);
    count = random_cut(dice, at, hdr_len + frame->len, 0, PIECES_MAX, pieces);
    layout = random_layout(dice, count);
    if (driver_descs_needed(count, layout) > driver->free_count) {
        pieces[0] = (struct driver_piece){at, hdr_len + frame->len, 0};
        count = 1;
        layout = LAYOUT_DIRECT;
    }
    frame->descs = count;
    frame->bad = dice_below(dice, 20) == 0;
    if (frame->bad)
        spoil(dice, pieces, count);
    frame->head = driver_add(driver, pieces, count, layout);
    return true;
}

static uint64_t receive_run(struct dice *dice, unsigned rounds)
{
    static _Atomic uint64_t discarded[VIF_DISCARD_REASON_COUNT];
    static uint8_t got[LIMIT_FRAME_MAX];
    const struct driver_options options = random_options(dice);
    struct driver driver;
    uint16_t tail, first; // of what is sent and not given back
    uint64_t bad_expected = 0, frames = 0;

    memset(discarded, 0, sizeof(discarded));
    driver_open(&driver, &options);
    tail = first = options.start;
    for (unsigned round = 0; round < rounds; round++) {
        unsigned some = dice_below(dice, driver.size < 8 ? driver.size + 1u : 12);
        uint16_t count, head;
        uint32_t bytes = 0, len;

        for (uint16_t i = first; i != tail; i++)
            bytes += sent[i % 256].len;

        for (unsigned i = 0; i < some && (uint16_t)(tail - first) < driver.size && bytes < OUTSTANDING; i++) {
            if (!send_one(dice, &driver, tail))
                break;
            bytes += sent[tail % 256].len;
            tail++;
        }
        driver_publish(&driver);
        driver_shadow_sync(&driver);
        while (first != tail && sent[first % 256].bad) {
            driver_shadow_use(&driver, sent[first % 256].head, 0);
            bad_expected++;
            first++;
        }
        count = virtqueue_receive(&driver.vq, &burst, discarded);
        driver_shadow_check(&driver);
        driver_check_views(&driver, &burst);
        if (first == tail)
            assert_int_equal(0, count);
        else
            assert_true(count > 0);
        assert_true(count <= (uint16_t)(tail - first));
        for (uint16_t i = 0; i < count; i++) {
            const struct sent *frame = &sent[(uint16_t)(first + i) % 256];

            assert_false(frame->bad);
            assert_int_equal(frame->head, burst.frames[i].id);
            assert_int_equal(frame->len, burst.frames[i].len);
            frame_gather(&burst, &burst.frames[i], got);
            assert_memory_equal(frame->bytes, got, frame->len);
        }
        // A burst ends for a reason: its bounds or a bad chain.
        if (count > 0 && count < (uint16_t)(tail - first) && count < LIMIT_BURST_FRAMES) {
            uint32_t sum = 0, descs = 0;

            for (uint16_t i = 0; i < count; i++) {
                sum += burst.frames[i].len;
                descs += sent[(uint16_t)(first + i) % 256].descs;
            }
            // Bad chains before them count, too.
            assert_true(sent[(uint16_t)(first + count) % 256].bad || sum >= LIMIT_BURST_BYTES ||
                        descs > LIMIT_BURST_DESCRIPTORS / 2);
        }
        if (count > 0) {
            count = (uint16_t)dice_below(dice, count + 1u);
            for (uint16_t i = 0; i < count; i++)
                driver_shadow_use(&driver, burst.frames[i].id, 0);
            virtqueue_complete(&driver.vq, &burst, count);
            driver_shadow_check(&driver);
            first += count;
            frames += count;
        }
        while (driver_take(&driver, &head, &len))
            assert_int_equal(0, len);
    }
    assert_int_equal(bad_expected, discarded[VIF_DISCARD_BAD_CHAIN]);
    assert_null(driver.vq.broken);
    driver_close(&driver);
    return frames;
}

static void test_receive(void **state)
{
    struct dice dice;
    uint64_t frames = 0;

    (void)state;
    dice_open(&dice, "receive");
    for (unsigned run = 0; run < 60; run++)
        frames += receive_run(&dice, 100);
    print_message("%llu frames\n", (unsigned long long)frames);
    assert_true(frames > 1000);
}

// ---- to the guest ----

struct receiver {
    struct driver driver;
    struct model model;
};

static void post_some(struct dice *dice, struct receiver *to, unsigned some)
{
    while (some-- > 0 && model_posted(&to->model) < to->driver.size && to->driver.free_count > 0 &&
           model_posted_bytes(&to->model) < OUTSTANDING) {
        struct driver_piece pieces[PIECES_MAX];
        uint32_t len = dice_below(dice, 3) == 0 ? 1 + dice_below(dice, 100) : 10 + random_len(dice);
        uint64_t at = driver_alloc(&to->driver, len);
        unsigned count = random_cut(dice, at, len, VRING_DESC_F_WRITE, PIECES_MAX, pieces), bad_at;
        enum driver_layout layout = random_layout(dice, count);

        if (driver_descs_needed(count, layout) > to->driver.free_count) {
            pieces[0] = (struct driver_piece){at, len, VRING_DESC_F_WRITE};
            count = 1;
            layout = LAYOUT_DIRECT;
        }
        bad_at = dice_below(dice, 20) == 0 ? spoil(dice, pieces, count) : count;
        model_post(&to->model, pieces, count, bad_at, layout);
    }
    driver_publish(&to->driver);
}

static unsigned random_frames(struct dice *dice, uint8_t (*bytes)[LIMIT_FRAME_MAX])
{
    unsigned count = 1 + dice_below(dice, 12);

    burst_clear(&burst);
    for (unsigned i = 0; i < count; i++)
        burst_add(&burst, bytes[i], random_len(dice), 1 + dice_below(dice, 4) % 3);
    return count;
}

static void forget_taken(struct receiver *to)
{
    uint16_t head;
    uint32_t len;

    while (driver_take(&to->driver, &head, &len))
        ;
}

static void receiver_open(struct dice *dice, struct receiver *to)
{
    const struct driver_options options = random_options(dice);

    driver_open(&to->driver, &options);
    model_open(&to->model, &to->driver);
}

static void receiver_close(struct receiver *to)
{
    model_close(&to->model);
    driver_close(&to->driver);
}

static uint64_t transmit_run(struct dice *dice, unsigned rounds)
{
    static uint8_t bytes[LIMIT_BURST_FRAMES][LIMIT_FRAME_MAX];
    struct receiver to;
    uint64_t frames = 0;

    receiver_open(dice, &to);
    for (unsigned round = 0; round < rounds; round++) {
        enum transmit_stop stop, want_stop = TRANSMIT_ALL;
        unsigned count = random_frames(dice, bytes);
        uint16_t want;

        post_some(dice, &to, dice_below(dice, 25));
        driver_shadow_sync(&to.driver);
        to.model.walked = 0;
        for (want = 0; want < count; want++) {
            if (to.model.walked >= LIMIT_BURST_DESCRIPTORS)
                count = want; // the call may end here
            if (want == count)
                break;
            want_stop = model_put(&to.model, bytes[want], burst.frames[want].len);
            if (want_stop != TRANSMIT_ALL)
                break;
        }
        assert_int_equal(want, virtqueue_transmit(&to.driver.vq, &burst, 0, (uint16_t)count, &stop));
        assert_int_equal(want_stop, stop);
        driver_shadow_check(&to.driver);
        forget_taken(&to);
        frames += want;
    }
    receiver_close(&to);
    return frames;
}

static void test_transmit(void **state)
{
    struct dice dice;
    uint64_t frames = 0;

    (void)state;
    dice_open(&dice, "transmit");
    for (unsigned run = 0; run < 200; run++)
        frames += transmit_run(&dice, 50);
    print_message("%llu frames\n", (unsigned long long)frames);
    assert_true(frames > 1000);
}

static void count_tap(struct tap_count *counts, enum transmit_stop stop, uint32_t len)
{
    counts->offered++;
    if (stop == TRANSMIT_ALL) {
        counts->copied.frames++;
        counts->copied.bytes += len;
    } else {
        counts->dropped[stop == TRANSMIT_TOO_BIG ? TAP_DROP_TOO_BIG : TAP_DROP_RING_FULL]++;
    }
}

static uint64_t tapped_run(struct dice *dice, unsigned rounds)
{
    static uint8_t bytes[LIMIT_BURST_FRAMES][LIMIT_FRAME_MAX];
    struct receiver to, tap;
    uint64_t copied = 0;

    receiver_open(dice, &to);
    receiver_open(dice, &tap);
    for (unsigned round = 0; round < rounds; round++) {
        enum transmit_stop stop, want_stop = TRANSMIT_ALL;
        struct tap_count want_counts = {0}, counts = {0};
        unsigned count = random_frames(dice, bytes);
        uint16_t want;

        post_some(dice, &to, dice_below(dice, 25));
        post_some(dice, &tap, dice_below(dice, 25));
        driver_shadow_sync(&to.driver);
        driver_shadow_sync(&tap.driver);
        to.model.walked = tap.model.walked = 0;
        for (want = 0; want < count; want++) {
            if (to.model.walked >= LIMIT_BURST_DESCRIPTORS || tap.model.walked >= LIMIT_BURST_DESCRIPTORS)
                count = want;
            if (want == count)
                break;

            uint32_t len = burst.frames[want].len;

            want_stop = model_put(&to.model, bytes[want], len);
            if (want_stop != TRANSMIT_ALL)
                break;
            count_tap(&want_counts, model_put(&tap.model, bytes[want], len), len);
        }
        assert_int_equal(
            want, virtqueue_transmit_tapped(&to.driver.vq, &tap.driver.vq, &burst, 0, (uint16_t)count, &stop, &counts));
        assert_int_equal(want_stop, stop);
        assert_memory_equal(&want_counts, &counts, sizeof(counts));
        driver_shadow_check(&to.driver);
        driver_shadow_check(&tap.driver);
        forget_taken(&to);
        forget_taken(&tap);
        copied += counts.copied.frames;
    }
    receiver_close(&to);
    receiver_close(&tap);
    return copied;
}

static void test_tapped(void **state)
{
    struct dice dice;
    uint64_t copied = 0;

    (void)state;
    dice_open(&dice, "tapped");
    for (unsigned run = 0; run < 200; run++)
        copied += tapped_run(&dice, 50);
    print_message("%llu copies\n", (unsigned long long)copied);
    assert_true(copied > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_receive),
        cmocka_unit_test(test_transmit),
        cmocka_unit_test(test_tapped),
    };

    return cmocka_run_group_tests_name("virtqueue: random", tests, NULL, NULL);
}
