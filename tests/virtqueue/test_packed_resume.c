// SPDX-License-Identifier: BSD-3-Clause

// What a packed ring says of where its device stands: a batch is visible whole or
// not at all, and after a restart, when nobody says it, the ring itself does.

#include "dataplane/virtqueue_packed_resume.h"
#include "model.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static _Atomic uint64_t discarded[VIF_DISCARD_REASON_COUNT];
static struct burst burst;

static void open_ring(struct driver *driver, struct driver_options options)
{
    options.ring = RING_PACKED;
    memset(discarded, 0, sizeof(discarded));
    driver_open(driver, &options);
}

// ---- visibility ----

// The driver's thread: as soon as the first frame of a batch is there, all are.
struct reader {
    struct driver driver;
    _Atomic uint32_t posted; // batches
    _Atomic uint32_t read;
    _Atomic bool failed;
};

enum { BATCH = 16, BATCHES = 30000 };

static void *read_batches(void *argument)
{
    struct reader *reader = argument;
    struct driver *driver = &reader->driver;
    uint16_t id;
    uint32_t len;

    for (uint32_t batch = 0; batch < BATCHES; batch++) {
        for (unsigned i = 0; i < BATCH; i++)
            driver_add_one(driver, DRIVER_BUFFERS_AT + i * 128, 100, VRING_DESC_F_WRITE);
        driver_publish(driver);
        atomic_store_explicit(&reader->posted, batch + 1, memory_order_release);
        while (!driver_take(driver, &id, &len) && !atomic_load_explicit(&reader->failed, memory_order_relaxed))
            ;
        for (unsigned i = 1; i < BATCH; i++) {
            if (!driver_take(driver, &id, &len) || len != 72) {
                atomic_store(&reader->failed, true);
                return NULL;
            }
        }
        // The bytes came before the flags.
        for (unsigned i = 0; i < BATCH; i++) {
            if (*driver_at(driver, DRIVER_BUFFERS_AT + i * 128 + 12) != (uint8_t)(batch + 1))
                atomic_store(&reader->failed, true);
        }
    }
    return NULL;
}

static void test_batch_is_whole(void **state)
{
    static struct reader reader;
    static uint8_t bytes[BATCH][60];
    enum transmit_stop stop;
    pthread_t thread;

    (void)state;
    memset(&reader, 0, sizeof(reader));
    open_ring(&reader.driver, (struct driver_options){.size = 37});
    assert_int_equal(0, pthread_create(&thread, NULL, read_batches, &reader));
    for (uint32_t batch = 0; batch < BATCHES && !atomic_load(&reader.failed); batch++) {
        uint32_t spins = 0;

        while (atomic_load_explicit(&reader.posted, memory_order_acquire) <= batch && !atomic_load(&reader.failed))
            if (++spins % 4096 == 0)
                sched_yield();
        burst_clear(&burst);
        for (unsigned i = 0; i < BATCH; i++)
            burst_add(&burst, bytes[i], 60, 1);
        for (unsigned i = 0; i < BATCH; i++)
            memset(bytes[i], (uint8_t)(batch + 1), 60);
        if (virtqueue_packed_transmit(&reader.driver.vq, &burst, 0, BATCH, &stop) != BATCH)
            atomic_store(&reader.failed, true);
    }
    pthread_join(thread, NULL);
    assert_false(reader.failed);
    driver_close(&reader.driver);
}

// ---- where a ring stands ----

// After any history without chains the ring itself tells, whatever the front end says.
static void test_resume(void **state)
{
    static const uint16_t sizes[] = {1, 2, 3, 8, 33, 64};
    struct dice dice;
    unsigned checked = 0;

    (void)state;
    dice_open(&dice, "resume");
    for (unsigned run = 0; run < 300; run++) {
        uint16_t size = sizes[dice_below(&dice, 6)];
        struct driver driver;

        open_ring(&driver, (struct driver_options){.size = size});
        for (unsigned round = 0; round < 60; round++) {
            struct virtqueue found = driver.vq;
            uint16_t base = 0x8000, count, id;
            uint32_t len;

            for (unsigned some = dice_below(&dice, size + 1u); some > 0 && driver.free_count > 0; some--)
                driver_add_one(&driver, DRIVER_BUFFERS_AT, 72, 0);
            driver_publish(&driver);
            count = virtqueue_packed_receive(&driver.vq, &burst, discarded);
            virtqueue_packed_complete(&driver.vq, &burst, (uint16_t)dice_below(&dice, count + 1u));
            for (unsigned some = dice_below(&dice, size + 1u); some > 0 && driver_take(&driver, &id, &len); some--)
                ;
            driver_shadow_sync(&driver);
            if (round % 3 == 1)
                base = (uint16_t)(dice_below(&dice, size) | dice_below(&dice, 2) << 15);
            if (round % 3 == 2)
                base = (uint16_t)(driver.vq.next | driver.vq.wrap << 15);
            assert_true(virtqueue_packed_resume(&found, base, false, true));
            assert_int_equal(driver.vq.next, found.next);
            assert_int_equal(driver.vq.wrap, found.wrap);
            driver_shadow_check(&driver); // looking writes nothing
            checked++;
        }
        driver_close(&driver);
    }
    assert_true(checked > 1000);
}

// A driver's history with chains of up to three descriptors, and what is made of its ring after each step if the front
// end says the beginning, since it has lost its back end: never a place where the device doesn't stand. One that knows
// the place is believed, but for the beginning itself.
struct told {
    unsigned right, lost, misled;
};

static struct told tell(struct dice *dice, uint16_t size, enum driver_ids ids, bool floods)
{
    struct told told = {0};
    struct driver driver;

    open_ring(&driver, (struct driver_options){.size = size, .no_indirect = true, .ids = ids});
    virtqueue_packed_disarm(&driver.vq); // as an attach does
    for (unsigned round = 0; round < 60; round++) {
        struct virtqueue found = driver.vq;
        uint16_t count, id, truth, stale;
        uint32_t len, used;

        while (driver.free_count >= 3 && (floods || dice_below(dice, 8) > 0)) {
            struct driver_piece pieces[3] = {
                {DRIVER_BUFFERS_AT, 40, 0}, {DRIVER_BUFFERS_AT, 40, 0}, {DRIVER_BUFFERS_AT, 40, 0}};

            driver_add(&driver, pieces, 1 + dice_below(dice, 3), LAYOUT_DIRECT);
        }
        driver_publish(&driver);
        count = virtqueue_packed_receive(&driver.vq, &burst, discarded);
        virtqueue_packed_complete(&driver.vq, &burst, (uint16_t)dice_below(dice, count + 1u));
        for (used = dice_below(dice, size + 1u); (floods || used > 0) && driver_take(&driver, &id, &len); used--)
            ;
        if (floods) // the device died when the driver had just filled its ring anew
            while (driver.free_count > 0)
                driver_add_one(&driver, DRIVER_BUFFERS_AT, 72, 0);
        driver_publish(&driver);
        truth = (uint16_t)(driver.vq.next | driver.vq.wrap << 15);
        found = driver.vq;
        if (virtqueue_packed_resume(&found, truth, false, true)) {
            assert_int_equal(driver.vq.next, found.next);
            assert_int_equal(driver.vq.wrap, found.wrap);
        } else {
            assert_int_equal(0x8000, truth);
        }
        // One that knew it once, and not since, says a place that may be as good as the right one in a ring that
        // doesn't tell.
        found = driver.vq;
        stale = (uint16_t)(dice_below(dice, size) | dice_below(dice, 2) << 15);
        if (virtqueue_packed_resume(&found, stale, false, true) &&
            (found.next != driver.vq.next || found.wrap != driver.vq.wrap)) {
            assert_int_equal(stale, found.next | found.wrap << 15);
            told.misled++;
        }
        found = driver.vq;
        if (virtqueue_packed_resume(&found, 0x8000, false, true)) {
            assert_int_equal(driver.vq.next, found.next);
            assert_int_equal(driver.vq.wrap, found.wrap);
            told.right++;
        } else {
            told.lost++;
        }
    }
    driver_close(&driver);
    return told;
}

static void test_resume_with_chains(void **state)
{
    static const uint16_t sizes[] = {4, 8, 16, 33, 64, 256};
    struct dice dice;

    (void)state;
    dice_open(&dice, "resume with chains");
    for (unsigned kind = 0; kind < 6; kind++) {
        static const char *const names[] = {"any", "last first", "first first"};
        static const unsigned right[] = {6, 40, 6}; // at least so many for each that is lost
        enum driver_ids ids = kind % 3;
        bool floods = kind / 3;
        struct told told = {0};

        for (unsigned run = 0; run < 60; run++) {
            uint16_t size = sizes[dice_below(&dice, 6)];
            struct told one = tell(&dice, size, ids, floods);

            told.right += one.right;
            told.lost += one.lost;
            told.misled += one.misled;
        }
        print_message("%s, %s: %u found, %u said to be lost, %u by a stale place misled\n", names[ids],
                      floods ? "full rings" : "any fill", told.right, told.lost, told.misled);
        assert_true(told.misled <= told.lost);
        // Behind the last of a full ring there may be the rest of a chain.
        if (!floods)
            assert_true(told.right > right[ids] * told.lost);
    }
}

// A ring that no device has seen is taken from its beginning, however full it is, whatever its chains are and
// whatever the driver is writing just now; so is one that a device has seen and used nothing of, unless it has come
// to its end.
static void test_new_ring(void **state)
{
    static const uint16_t sizes[] = {1, 2, 4, 33, 256};
    struct dice dice;

    (void)state;
    dice_open(&dice, "new ring");
    for (unsigned run = 0; run < 400; run++) {
        uint16_t size = sizes[dice_below(&dice, 5)], posted = 0, wanted = (uint16_t)dice_below(&dice, size + 1u);
        bool seen = run % 2;
        struct driver driver;
        struct virtqueue found;

        if (run % 3 == 0)
            wanted = size;
        open_ring(&driver, (struct driver_options){.size = size, .no_indirect = true});
        if (seen)
            virtqueue_packed_disarm(&driver.vq);
        while (posted < wanted) {
            struct driver_piece pieces[3] = {
                {DRIVER_BUFFERS_AT, 40, 0}, {DRIVER_BUFFERS_AT, 40, 0}, {DRIVER_BUFFERS_AT, 40, 0}};
            unsigned left = wanted - posted, count = 1 + dice_below(&dice, left < 3 ? left : 3);

            driver_add(&driver, pieces, count, LAYOUT_DIRECT);
            posted = (uint16_t)(posted + count);
        }
        if (dice_below(&dice, 2)) // else the heads are yet to be written
            driver_publish(&driver);
        found = driver.vq;
        if (!seen || posted < size) {
            assert_true(virtqueue_packed_resume(&found, 0x8000, false, true));
            assert_int_equal(0, found.next);
            assert_true(found.wrap);
        }
        driver_close(&driver);
    }
}

// A device that died between the first and the last store of a batch: what it had
// written stays, the first is made up for.
static void test_resume_half_published(void **state)
{
    (void)state;
    for (uint16_t size = 4; size < 40; size += 5)
        for (uint16_t start = 0; start < 2 * size; start++)
            for (unsigned batch = 2; batch < 4; batch++)
                for (unsigned kind = 0; kind < 4; kind++) {
                    const unsigned more = kind % 2, chain = 1 + kind / 2;
                    struct driver_piece pieces[] = {{DRIVER_BUFFERS_AT, 40, 0}, {DRIVER_BUFFERS_AT, 32, 0}};
                    struct driver driver;
                    struct virtqueue found;
                    struct vring_packed_desc first;
                    uint32_t len, next;
                    uint16_t id, head;

                    if (chain > 1 && (batch + more) * chain >= size)
                        continue; // full: can't be told
                    open_ring(&driver, (struct driver_options){.size = size,
                                                               .start = (uint16_t)(start % size | (start / size) << 15),
                                                               .no_indirect = chain > 1});
                    virtqueue_packed_disarm(&driver.vq); // as an attach does
                    next = driver.packed.next;
                    head = driver_add(&driver, pieces, chain, LAYOUT_DIRECT);
                    for (unsigned i = 1; i < batch + more; i++)
                        driver_add(&driver, pieces, chain, LAYOUT_DIRECT);
                    driver_publish(&driver);
                    first = driver.packed.ring[next];
                    found = driver.vq;
                    assert_int_equal(batch + more, virtqueue_packed_receive(&driver.vq, &burst, discarded));
                    virtqueue_packed_complete(&driver.vq, &burst, (uint16_t)batch);
                    driver.packed.ring[next] = first;
                    assert_true(virtqueue_packed_resume(&found, 0x8000, false, true));
                    assert_int_equal(driver.vq.next, found.next);
                    assert_int_equal(driver.vq.wrap, found.wrap);
                    assert_true(driver_take(&driver, &id, &len));
                    assert_int_equal(head, id);
                    for (unsigned i = 1; i < batch; i++)
                        assert_true(driver_take(&driver, &id, &len));
                    assert_false(driver_take(&driver, &id, &len));
                    driver_close(&driver);
                }
}

// The device died when of a frame's buffers only some were used: the driver sees it as too short, and none of another
// frame's buffers as its.
static void test_resume_cut_frame(void **state)
{
    (void)state;
    for (unsigned cut = 1; cut < 7; cut++) {
        static const uint16_t buffers[] = {1, 3, 1, 2}; // of the frames
        static const unsigned begins[] = {0, 1, 4, 5, 7};
        struct driver driver;
        struct virtqueue found;
        struct vring_packed_desc posted[10];
        enum transmit_stop stop;
        static uint8_t bytes[4][400];
        unsigned frame = 0, taken = 0;
        uint32_t len;
        uint16_t id;

        open_ring(&driver, (struct driver_options){.size = 10, .mergeable = true});
        virtqueue_packed_disarm(&driver.vq);
        for (unsigned i = 0; i < 10; i++)
            driver_add_one(&driver, DRIVER_BUFFERS_AT + 256 * i, 140, VRING_DESC_F_WRITE);
        driver_publish(&driver);
        memcpy(posted, driver.packed.ring, sizeof(posted));
        burst_clear(&burst);
        for (unsigned i = 0; i < 4; i++)
            burst_add(&burst, bytes[i], 140 * buffers[i] - 12 - 20, 1);
        found = driver.vq;
        assert_int_equal(4, virtqueue_packed_transmit(&driver.vq, &burst, 0, 4, &stop));
        assert_int_equal(7, driver.vq.next);
        // Stores 1 to cut - 1 had been made, the first one would have been the last.
        driver.packed.ring[0] = posted[0];
        memcpy(driver.packed.ring + cut, posted + cut, (7 - cut) * sizeof(posted[0]));
        if (cut == 1)
            driver.packed.ring[0] = posted[0];
        assert_true(virtqueue_packed_resume(&found, 0x8000, true, true));
        assert_int_equal(cut > 1 ? cut : 0, found.next);
        while (driver_take(&driver, &id, &len)) {
            while (taken >= begins[frame + 1])
                frame++;
            // The first one's length is lost.
            if (begins[frame + 1] > cut || taken == 0)
                assert_int_equal(0, len);
            else
                assert_int_equal(taken + 1 < begins[frame + 1] ? 140 : 120, len);
            taken++;
        }
        assert_int_equal(cut > 1 ? cut : 0, taken);
        driver_close(&driver);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_is_whole),        cmocka_unit_test(test_resume),
        cmocka_unit_test(test_resume_with_chains),    cmocka_unit_test(test_new_ring),
        cmocka_unit_test(test_resume_half_published), cmocka_unit_test(test_resume_cut_frame),
    };

    return cmocka_run_group_tests_name("virtqueue: packed, resume", tests, NULL, NULL);
}
