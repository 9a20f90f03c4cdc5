// SPDX-License-Identifier: BSD-3-Clause

// Guests that change their memory while it is looked at: another thread writes
// to frames, rings and descriptors all the time. Receiver and monitor must get
// the same bytes, views must lie inside of the guest's memory, and nothing but
// what was offered may be written to.

#include "driver.h"

#include "dataplane/copy.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

static struct burst burst;
static _Atomic bool over;

// ---- frames ----

struct flipper {
    uint8_t *bytes;
    size_t len;
    _Atomic uint64_t rounds;
};

// Every byte of the frame gets the round's number: what is read is a mixture of
// two rounds, and it would be another mixture the next time.
static void *flip_frames(void *argument)
{
    struct flipper *flipper = argument;
    uint8_t value = 0;

    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        volatile uint8_t *bytes = flipper->bytes;

        value++;
        for (size_t i = 0; i < flipper->len; i++)
            bytes[i] = value;
        atomic_fetch_add_explicit(&flipper->rounds, 1, memory_order_relaxed);
    }
    return NULL;
}

enum shape { SHAPE_PLAIN, SHAPE_TWO, SHAPE_SMALL, SHAPES };

static void post(struct driver *driver, enum shape shape, uint32_t len)
{
    uint64_t at = driver_alloc(driver, len + 12);

    switch (shape) {
    case SHAPE_PLAIN:
        driver_add_one(driver, at, len + 12, VRING_DESC_F_WRITE);
        break;
    case SHAPE_TWO:
        driver_add(driver, (struct driver_piece[]){{at, 12, VRING_DESC_F_WRITE}, {at + 12, len, VRING_DESC_F_WRITE}}, 2,
                   LAYOUT_DIRECT);
        break;
    default: // mergeable, in pieces of 256
        for (uint32_t i = 0; i < len + 12; i += 256)
            driver_add_one(driver, driver_alloc(driver, 256), 256, VRING_DESC_F_WRITE);
    }
    driver_publish(driver);
}

// The frame that the guest got, without its header.
static uint32_t collect(struct driver *driver, uint8_t *to)
{
    uint8_t bytes[12 + LIMIT_FRAME_MAX];
    uint32_t have = 0, len;
    uint16_t head;

    while (__atomic_load_n(&driver->used->idx, __ATOMIC_ACQUIRE) != driver->used_idx) {
        uint16_t entry = driver->used_idx & (driver->size - 1);
        uint16_t chain = (uint16_t)driver->used->ring[entry].id;
        uint32_t left = driver->used->ring[entry].len;

        for (uint16_t desc = chain; left > 0; desc = driver->desc[desc].next) {
            uint32_t part = left < driver->desc[desc].len ? left : driver->desc[desc].len;

            driver_read(driver, driver->desc[desc].addr, bytes + have, part);
            have += part;
            left -= part;
        }
        assert_true(driver_take(driver, &head, &len));
    }
    assert_true(have >= 12);
    memcpy(to, bytes + 12, have - 12);
    return have - 12;
}

static void test_same_bytes(void **state)
{
    static const uint32_t lens[] = {14, 23, 40, 60, 64, 65, 200, 508, 1514, 9216};
    static uint8_t first[LIMIT_FRAME_MAX], second[LIMIT_FRAME_MAX];
    struct driver from, to, tap;
    struct flipper flipper;
    uint64_t mixed = 0;
    unsigned round;
    const time_t end = time(NULL) + 20;
    pthread_t thread;

    (void)state;
    driver_open(&from, &(struct driver_options){0});
    driver_open(&to, &(struct driver_options){.mergeable = true});
    driver_open(&tap, &(struct driver_options){.mergeable = true});
    flipper = (struct flipper){.bytes = driver_at(&from, DRIVER_BUFFERS_AT), .len = LIMIT_FRAME_MAX};
    atomic_store(&over, false);
    assert_int_equal(0, pthread_create(&thread, NULL, flip_frames, &flipper));
    // Until enough of them have changed meanwhile, or that takes too long.
    for (round = 0; round < 20000 || (mixed < 500 && time(NULL) < end); round++) {
        uint32_t len = lens[round % 10];
        enum shape to_shape = (enum shape)(round / 10 % SHAPES), tap_shape = (enum shape)(round / 30 % SHAPES);
        unsigned pieces = 1 + round / 90 % 3;
        struct tap_count counts = {0};
        enum transmit_stop stop;

        if (round == 10000)
            copy_init(); // from here on with the CPU's own copies
        post(&to, to_shape, len);
        post(&tap, tap_shape, len);
        burst.count = 1;
        burst.segment_count = 2;
        burst.frames[0] = (struct frame){.data = flipper.bytes, .len = len, .segment_count = (uint16_t)pieces};
        burst.frames[0].data_len = len - (pieces - 1);
        for (unsigned i = 1; i < pieces; i++)
            burst.segments[i - 1] = (struct frame_segment){flipper.bytes + len - pieces + i, 1};
        assert_int_equal(1, virtqueue_transmit_tapped(&to.vq, &tap.vq, &burst, 0, 1, &stop, &counts));
        assert_int_equal(1, counts.copied.frames);
        assert_int_equal(len, collect(&to, first));
        assert_int_equal(len, collect(&tap, second));
        assert_memory_equal(first, second, len);
        for (uint32_t i = 1; i < len; i++)
            if (first[i] != first[0]) {
                mixed++;
                break;
            }
    }
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    print_message("%llu of %u frames changed while they were copied\n", (unsigned long long)mixed, round);
    assert_true(mixed > 0); // it was to the point
    driver_close(&from);
    driver_close(&to);
    driver_close(&tap);
}

// ---- descriptors ----

struct scribbler {
    struct driver *drivers[3];
    uint64_t seed;
};

// Writes numbers that are nearly right all over rings and tables.
static void *scribble(void *argument)
{
    struct scribbler *scribbler = argument;
    struct dice dice = {scribbler->seed};

    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        struct driver *driver = scribbler->drivers[dice_below(&dice, 3)];
        volatile struct vring_desc *desc = &driver->desc[dice_below(&dice, driver->size)];

        if (dice_below(&dice, 4) == 0) // a table in the buffers
            desc = (volatile struct vring_desc *)(void *)driver_at(driver,
                                                                   DRIVER_BUFFERS_AT + 16 * dice_below(&dice, 1 << 10));
        switch (dice_below(&dice, 8)) {
        case 0:
            desc->addr = DRIVER_BUFFERS_AT + dice_below(&dice, 1 << 20);
            break;
        case 1:
            desc->addr = DRIVER_BUFFERS_AT + (1 << 20) + (1 << 19) - dice_below(&dice, 100);
            break;
        case 2:
            desc->addr = dice_below(&dice, 2) ? dice_u64(&dice) : DRIVER_BUFFERS_AT + 16 * dice_below(&dice, 1 << 10);
            break;
        case 3:
            desc->len = dice_below(&dice, 200);
            break;
        case 4:
            desc->len = dice_below(&dice, 2) ? (uint32_t)dice_u64(&dice) : 16 * dice_below(&dice, 10);
            break;
        case 5:
            desc->flags = (uint16_t)dice_below(&dice, 8);
            break;
        case 6:
            desc->next = (uint16_t)dice_below(&dice, dice_below(&dice, 50) ? driver->size : 65536);
            break;
        default:
            ((volatile struct vring_avail *)driver->avail)->ring[dice_below(&dice, driver->size)] =
                (uint16_t)dice_below(&dice, dice_below(&dice, 2000) ? driver->size : 65536);
        }
    }
    return NULL;
}

static void test_scribbled_rings(void **state)
{
    static _Atomic uint64_t discarded[VIF_DISCARD_REASON_COUNT];
    static uint8_t bytes[LIMIT_FRAME_MAX];
    struct driver from, to, tap;
    struct scribbler scribbler = {{&from, &to, &tap}, 1};
    struct dice dice;
    uint64_t seen = 0, sent = 0;
    const time_t end = time(NULL) + 30;
    pthread_t thread;

    (void)state;
    dice_open(&dice, "scribbled rings");
    scribbler.seed = dice_u64(&dice) | 1;
    driver_open(&from, &(struct driver_options){.size = 64});
    driver_open(&to, &(struct driver_options){.size = 64, .mergeable = true});
    driver_open(&tap, &(struct driver_options){.size = 64});
    for (unsigned i = 0; i < 64; i++) {
        from.desc[i] = (struct vring_desc){DRIVER_BUFFERS_AT, 100, 0, 0};
        to.desc[i] = tap.desc[i] = (struct vring_desc){DRIVER_BUFFERS_AT, 100, VRING_DESC_F_WRITE, 0};
    }
    atomic_store(&over, false);
    assert_int_equal(0, pthread_create(&thread, NULL, scribble, &scribbler));
    // Until there was enough of it, or that takes too long: on a busy machine the
    // other thread may leave all in one bad state for a while.
    for (unsigned round = 0; round < 100000 || ((seen <= 1000 || sent <= 1000) && time(NULL) < end); round++) {
        struct tap_count counts = {0};
        enum transmit_stop stop;
        uint16_t count, done;

        from.vq.broken = to.vq.broken = tap.vq.broken = NULL;
        for (unsigned i = 0; i < 3; i++) {
            struct driver *driver = scribbler.drivers[i];

            driver->avail_idx = (uint16_t)(driver->vq.last_avail + dice_below(&dice, 65));
            driver_publish(driver);
        }
        count = virtqueue_receive(&from.vq, &burst, discarded);
        driver_check_views(&from, &burst);
        seen += count;
        if (count == 0) {
            burst.frames[0] = (struct frame){0};
            frame_set_single(&burst.frames[0], bytes, 60 + round % 2000);
            done = virtqueue_transmit_tapped(&to.vq, &tap.vq, &burst, 0, 1, &stop, &counts);
        } else {
            done = virtqueue_transmit_tapped(&to.vq, &tap.vq, &burst, 0, count, &stop, &counts);
            virtqueue_complete(&from.vq, &burst, done);
        }
        assert_int_equal(counts.offered, done);
        sent += done;
    }
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    print_message("%llu frames seen, %llu sent\n", (unsigned long long)seen, (unsigned long long)sent);
    assert_true(seen > 1000 && sent > 1000); // it was to the point
    driver_close(&from);
    driver_close(&to);
    driver_close(&tap);
}

// The same with packed rings, whose flags say what is available.
static void *scribble_packed(void *argument)
{
    struct scribbler *scribbler = argument;
    struct dice dice = {scribbler->seed};

    while (!atomic_load_explicit(&over, memory_order_relaxed)) {
        struct driver *driver = scribbler->drivers[dice_below(&dice, 3)];
        volatile struct vring_packed_desc *desc = &driver->vq.ring[dice_below(&dice, driver->vq.size)];

        if (dice_below(&dice, 4) == 0) // a table in the buffers
            desc = (volatile struct vring_packed_desc *)(void *)driver_at(driver, DRIVER_BUFFERS_AT +
                                                                                      16 * dice_below(&dice, 1 << 10));
        switch (dice_below(&dice, 6)) {
        case 0:
            desc->addr = DRIVER_BUFFERS_AT + 16 * dice_below(&dice, 1 << (10 + dice_below(&dice, 7)));
            break;
        case 1:
            desc->addr = dice_below(&dice, 2) ? dice_u64(&dice)
                                              : DRIVER_BUFFERS_AT + (1 << 20) + (1 << 19) - dice_below(&dice, 100);
            break;
        case 2:
            desc->len = dice_below(&dice, 2) ? dice_below(&dice, 200) : 16 * dice_below(&dice, 10);
            break;
        case 3:
            desc->len = (uint32_t)dice_u64(&dice);
            break;
        case 4:
            desc->id = (uint16_t)dice_below(&dice, 65536);
            break;
        default: // NEXT, WRITE and INDIRECT, available or used, in this lap or the last
            desc->flags = (uint16_t)(dice_below(&dice, 8) | dice_below(&dice, 2) << VRING_PACKED_DESC_F_AVAIL |
                                     dice_below(&dice, 2) << VRING_PACKED_DESC_F_USED);
        }
    }
    return NULL;
}

// A sound descriptor where the engine looks next, which the other thread may
// spoil at once.
static void offer_packed(struct driver *driver, unsigned count, uint16_t flags)
{
    struct virtqueue *vq = &driver->vq;
    uint32_t at = vq->next;
    bool wrap = vq->wrap;

    for (unsigned i = 0; i < count; i++) {
        uint16_t lap = wrap ? 1 << VRING_PACKED_DESC_F_AVAIL : 1 << VRING_PACKED_DESC_F_USED;

        vq->ring[at].addr = DRIVER_BUFFERS_AT;
        vq->ring[at].len = 100;
        __atomic_store_n(&vq->ring[at].flags, (uint16_t)(flags | lap), __ATOMIC_RELEASE);
        if (++at == vq->size) {
            at = 0;
            wrap = !wrap;
        }
    }
}

static void test_scribbled_packed_rings(void **state)
{
    static _Atomic uint64_t discarded[VIF_DISCARD_REASON_COUNT];
    struct driver from, to, tap;
    struct scribbler scribbler = {{&from, &to, &tap}, 1};
    struct dice dice;
    uint64_t seen = 0, sent = 0;
    const time_t end = time(NULL) + 30;
    pthread_t thread;

    (void)state;
    dice_open(&dice, "scribbled packed rings");
    scribbler.seed = dice_u64(&dice) | 1;
    driver_open(&from, &(struct driver_options){.ring = RING_PACKED, .size = 63});
    driver_open(&to, &(struct driver_options){.ring = RING_PACKED, .size = 64, .mergeable = true});
    driver_open(&tap, &(struct driver_options){.ring = RING_PACKED, .size = 17});
    atomic_store(&over, false);
    assert_int_equal(0, pthread_create(&thread, NULL, scribble_packed, &scribbler));
    for (unsigned round = 0; round < 100000 || ((seen <= 1000 || sent <= 1000) && time(NULL) < end); round++) {
        struct tap_count counts = {0};
        enum transmit_stop stop;
        uint16_t count, done;

        from.vq.broken = to.vq.broken = tap.vq.broken = NULL;
        offer_packed(&from, dice_below(&dice, 8), 0);
        offer_packed(&to, dice_below(&dice, 8), VRING_DESC_F_WRITE);
        offer_packed(&tap, dice_below(&dice, 8), VRING_DESC_F_WRITE);
        count = virtqueue_receive(&from.vq, &burst, discarded);
        driver_check_views(&from, &burst);
        seen += count;
        if (count > 0) {
            done = virtqueue_transmit_tapped(&to.vq, &tap.vq, &burst, 0, count, &stop, &counts);
            virtqueue_complete(&from.vq, &burst, done);
            assert_int_equal(counts.offered, done);
            sent += done;
        }
        assert_true(from.vq.next < 63 && to.vq.next < 64 && tap.vq.next < 17);
    }
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    print_message("%llu frames seen, %llu sent\n", (unsigned long long)seen, (unsigned long long)sent);
    assert_true(seen > 1000 && sent > 1000); // it was to the point
    driver_close(&from);
    driver_close(&to);
    driver_close(&tap);
}

// Buffers that change between two good ones: only these are written to.
struct chooser {
    struct driver *driver;
    uint64_t a, b;
};

enum { CHOICE_LEN = 200 };

static void *choose(void *argument)
{
    struct chooser *chooser = argument;
    volatile struct vring_desc *desc = chooser->driver->desc;

    for (unsigned i = 0; !atomic_load_explicit(&over, memory_order_relaxed); i++) {
        // Short and at a, or long and at b: an address of one with the length of
        // the other is too long for it.
        desc[i % 64].addr = i / 64 % 2 ? chooser->a : chooser->b;
        desc[i % 64].len = i / 64 % 2 ? 72 : CHOICE_LEN;
        desc[i % 64].flags = VRING_DESC_F_WRITE;
    }
    return NULL;
}

static void test_only_what_was_offered(void **state)
{
    static uint8_t bytes[LIMIT_FRAME_MAX];
    struct driver to, tap;
    struct chooser chooser;
    pthread_t thread;

    (void)state;
    memset(bytes, 0x77, sizeof(bytes));
    driver_open(&to, &(struct driver_options){.size = 64});
    driver_open(&tap, &(struct driver_options){.size = 64});
    chooser = (struct chooser){&to, DRIVER_BUFFERS_AT + 4096, DRIVER_BUFFERS_AT + 8192};
    for (unsigned i = 0; i < 64; i++)
        to.desc[i] = (struct vring_desc){chooser.a, 72, VRING_DESC_F_WRITE, 0};
    atomic_store(&over, false);
    assert_int_equal(0, pthread_create(&thread, NULL, choose, &chooser));
    for (unsigned round = 0; round < 50000; round++) {
        static const uint32_t lens[] = {60, 61, 100, 188, 189, 300};
        struct tap_count counts = {0};
        enum transmit_stop stop;

        to.avail_idx = (uint16_t)(to.vq.last_avail + 32);
        driver_publish(&to);
        burst.count = 8;
        for (unsigned i = 0; i < 8; i++) {
            burst.frames[i] = (struct frame){0};
            frame_set_single(&burst.frames[i], bytes, lens[(round + i) % 6]);
        }
        (void)virtqueue_transmit_tapped(&to.vq, &tap.vq, &burst, 0, 8, &stop, &counts);
    }
    atomic_store(&over, true);
    pthread_join(thread, NULL);
    for (uint64_t i = 0; i < 1 << 20; i++) {
        bool offered = (i >= 4096 && i < 4096 + CHOICE_LEN) || (i >= 8192 && i < 8192 + CHOICE_LEN);

        if (!offered && *driver_at(&to, DRIVER_BUFFERS_AT + i) != 0xa5)
            fail_msg("byte %#llx was written to", (unsigned long long)i);
    }
    driver_close(&to);
    driver_close(&tap);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_bytes),
        cmocka_unit_test(test_scribbled_rings),
        cmocka_unit_test(test_scribbled_packed_rings),
        cmocka_unit_test(test_only_what_was_offered),
    };
#ifdef COPY_TSAN
    const bool with_tsan = true;
#else
    const bool with_tsan = false;
#endif

    if (with_tsan) {
        puts("SKIP: guests that race with us by design are no case for ThreadSanitizer");
        return 77;
    }
    return cmocka_run_group_tests_name("virtqueue: changing memory", tests, NULL, NULL);
}
