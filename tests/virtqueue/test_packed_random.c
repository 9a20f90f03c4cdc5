// SPDX-License-Identifier: BSD-3-Clause

// Packed rings full of random bytes: nothing is read or written elsewhere,
// whatever stands in them, changes meanwhile, or is to be resumed from.

#include "dataplane/copy.h"
#include "dataplane/virtqueue_packed_resume.h"
#include "model.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { AVAIL = 1 << VRING_PACKED_DESC_F_AVAIL, USED = 1 << VRING_PACKED_DESC_F_USED };

static _Atomic uint64_t discarded[VIF_DISCARD_REASON_COUNT];
static struct burst burst;

static void open_ring(struct driver *driver, struct driver_options options)
{
    options.ring = RING_PACKED;
    memset(discarded, 0, sizeof(discarded));
    driver_open(driver, &options);
}

static struct vring_packed_desc random_desc(struct dice *dice, bool wrap, uint16_t direction)
{
    struct vring_packed_desc desc = {
        .addr = DRIVER_BUFFERS_AT + dice_below(dice, (1 << 20) + (1 << 19)),
        .len = dice_below(dice, 4) ? dice_below(dice, 300) : (uint32_t)dice_u64(dice) >> dice_below(dice, 32),
        .id = (uint16_t)dice_u64(dice),
        .flags = direction | (wrap ? AVAIL : USED),
    };

    switch (dice_below(dice, 24)) {
    case 0:
        desc.addr = dice_u64(dice);
        break;
    case 1:
        desc.addr = DRIVER_RINGS_AT + dice_below(dice, 4096); // the ring itself
        break;
    case 2:
    case 3:
    case 4:
    case 5:
        desc.flags |= VRING_DESC_F_NEXT;
        break;
    case 6:
        desc.flags = (uint16_t)dice_u64(dice);
        break;
    case 7:
    case 8:
        desc.flags |= VRING_DESC_F_INDIRECT;
        desc.len = 16 * dice_below(dice, 20);
        break;
    case 9:
        desc.flags ^= VRING_DESC_F_WRITE;
        break;
    case 10:
        desc.flags ^= AVAIL | USED;
        break;
    }
    return desc;
}

static void random_ring(struct dice *dice, struct driver *driver, uint16_t direction)
{
    for (uint32_t i = 0; i < driver->size; i++) {
        bool behind = i < driver->vq.next;

        driver->packed.ring[i] = random_desc(dice, behind ? !driver->vq.wrap : driver->vq.wrap, direction);
    }
    *(uint32_t *)(void *)driver->packed.driver_event = (uint32_t)dice_u64(dice);
    for (unsigned i = 0; i < 64; i++) {
        struct vring_packed_desc desc = random_desc(dice, true, direction);

        driver_write(driver, DRIVER_BUFFERS_AT + dice_below(dice, 1 << 20), &desc, sizeof(desc));
    }
    driver->vq.broken = NULL;
    driver->vq.mergeable = dice_below(dice, 2);
    driver->vq.indirect = dice_below(dice, 4) > 0;
    driver->vq.hdr_len = dice_below(dice, 2) ? 12 : 10;
}

struct scribbler {
    struct driver *drivers[3];
    uint64_t seed;
    _Atomic bool over;
};

// Writes words of descriptors while they are read: flags, ids, lengths, addresses.
static void *scribble(void *argument)
{
    struct scribbler *scribbler = argument;
    struct dice dice = {scribbler->seed};

    while (!atomic_load_explicit(&scribbler->over, memory_order_relaxed)) {
        unsigned which = dice_below(&dice, 3);
        struct driver *driver = scribbler->drivers[which];
        struct vring_packed_desc desc = random_desc(&dice, dice_below(&dice, 2), which == 0 ? 0 : VRING_DESC_F_WRITE);
        volatile struct vring_packed_desc *at = &driver->packed.ring[dice_below(&dice, driver->size)];

        switch (dice_below(&dice, 4)) {
        case 0:
            at->addr = desc.addr;
            break;
        case 1:
            at->len = desc.len;
            break;
        case 2:
            at->id = desc.id;
            break;
        default:
            at->flags = desc.flags;
        }
        *(volatile uint16_t *)&driver->packed.driver_event->flags = desc.id;
    }
    return NULL;
}

static void random_rounds(struct dice *dice, struct driver drivers[3], unsigned rounds, bool fresh, uint64_t seen[2])
{
    static uint8_t bytes[LIMIT_BURST_FRAMES][LIMIT_FRAME_MAX];
    struct driver *from = &drivers[0], *to = &drivers[1], *tap = &drivers[2];

    for (unsigned round = 0; round < rounds; round++) {
        struct tap_count counts = {0};
        enum transmit_stop stop;
        uint16_t count, done;

        for (unsigned i = 0; i < 3; i++) {
            if (fresh || round % 8 == 0)
                random_ring(dice, &drivers[i], i == 0 ? 0 : VRING_DESC_F_WRITE);
            drivers[i].vq.broken = NULL;
            // What a worker knows of a ring is never what a guest writes.
            assert_true(drivers[i].vq.next < drivers[i].size);
        }
        count = virtqueue_packed_receive(&from->vq, &burst, discarded);
        driver_check_views(from, &burst);
        seen[0] += count;
        if (count > 0 && round % 3 == 0) {
            virtqueue_packed_complete(&from->vq, &burst, (uint16_t)dice_below(dice, count + 1u));
        } else {
            burst_clear(&burst);
            for (unsigned i = 0; i < 8; i++)
                burst_add(&burst, bytes[i], 14 + dice_below(dice, i % 4 ? 200 : LIMIT_FRAME_MAX - 13), 1 + i % 3);
            count = 8;
        }
        if (round % 2) {
            done = virtqueue_packed_transmit(&to->vq, &burst, 0, count, &stop);
        } else {
            uint64_t sum;

            done = virtqueue_packed_transmit_tapped(&to->vq, &tap->vq, &burst, 0, count, &stop, &counts);
            sum = counts.copied.frames;
            for (unsigned i = 0; i < TAP_DROP_REASON_COUNT; i++)
                sum += counts.dropped[i];
            assert_int_equal(counts.offered, done);
            assert_int_equal(counts.offered, sum);
        }
        assert_true(done <= count && (done == count) == (stop == TRANSMIT_ALL));
        seen[1] += done;
        (void)virtqueue_packed_notify(&to->vq);
        (void)virtqueue_packed_arm(&from->vq);
    }
}

static void random_run(const char *what, bool scribbled)
{
    static const uint16_t sizes[3] = {100, 256, 65};
    struct driver drivers[3];
    struct scribbler scribbler = {.drivers = {&drivers[0], &drivers[1], &drivers[2]}};
    uint64_t seen[2] = {0, 0};
    struct dice dice;
    pthread_t thread;

    dice_open(&dice, what);
    for (unsigned i = 0; i < 3; i++) {
        open_ring(&drivers[i], (struct driver_options){.size = sizes[i], .event_idx = i % 2});
        random_ring(&dice, &drivers[i], i == 0 ? 0 : VRING_DESC_F_WRITE);
    }
    scribbler.seed = dice_u64(&dice) | 1;
    if (scribbled) {
        assert_int_equal(0, pthread_create(&thread, NULL, scribble, &scribbler));
        random_rounds(&dice, drivers, 20000, false, seen);
        atomic_store(&scribbler.over, true);
        pthread_join(thread, NULL);
    } else {
        random_rounds(&dice, drivers, 5000, true, seen);
    }
    print_message("%llu frames seen, %llu sent\n", (unsigned long long)seen[0], (unsigned long long)seen[1]);
    assert_true(seen[0] > 100 && seen[1] > 100); // it was to the point
    for (unsigned i = 0; i < 3; i++)
        driver_close(&drivers[i]);
}

static void test_random_rings(void **state)
{
    (void)state;
    random_run("random rings", false);
}

static void test_scribbled_rings(void **state)
{
    (void)state;
#ifdef COPY_TSAN
    skip(); // guests that race with us by design
#endif
    random_run("scribbled rings", true);
}

// A ring of rubbish is never believed against its will, and none makes it read
// or write elsewhere.
static void test_resume_rubbish(void **state)
{
    struct dice dice;
    unsigned lost = 0;

    (void)state;
    dice_open(&dice, "resume rubbish");
    for (unsigned run = 0; run < 3000; run++) {
        struct driver driver;
        struct virtqueue *vq = &driver.vq;

        open_ring(&driver, (struct driver_options){.size = (uint16_t)(1 + dice_below(&dice, 70)),
                                                   .mergeable = dice_below(&dice, 2)});
        for (uint32_t i = 0; i < driver.size; i++)
            driver.packed.ring[i] = random_desc(&dice, dice_below(&dice, 2), VRING_DESC_F_WRITE);
        lost += !virtqueue_packed_resume(vq, (uint16_t)(dice_below(&dice, driver.size) | dice_below(&dice, 2) << 15),
                                         dice_below(&dice, 2), dice_below(&dice, 2));
        assert_true(vq->next < vq->size);
        driver_close(&driver);
    }
    assert_true(lost > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_rings),
        cmocka_unit_test(test_scribbled_rings),
        cmocka_unit_test(test_resume_rubbish),
    };

    return cmocka_run_group_tests_name("virtqueue: packed, random", tests, NULL, NULL);
}
