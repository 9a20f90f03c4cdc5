// SPDX-License-Identifier: BSD-3-Clause

// Workers that go to sleep while something comes: frames, tables, the end. A
// wake-up that is missed is a wait that doesn't end.

#include "race_vif.h"

#include "dataplane/worker.h"
#include "tests/path/rig_eal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <rte_cycles.h>

#include <cmocka.h>

#ifdef RACE_TSAN
enum { FRAMES = 3000, TABLES = 1500 };
#else
enum { FRAMES = 15000, TABLES = 5000 };
#endif

static uint32_t dice_state = 1;

static uint32_t dice(uint32_t limit)
{
    dice_state = dice_state * 1664525 + 1013904223;
    return (dice_state >> 8) % limit;
}

// Waits without leaving the CPU: nanosleep would be too coarse.
static void spin_us(unsigned us)
{
    uint64_t until = rte_rdtsc() + rig_tsc_hz / 1000000 * us;

    while (rte_rdtsc() < until)
        ;
}

struct progress {
    const struct race_source *source;
    uint64_t complete;
};

static bool has_come(void *argument)
{
    const struct progress *progress = argument;

    return atomic_load(&progress->source->complete) >= progress->complete;
}

static uint64_t sleeps(void)
{
    struct worker_count count;
    uint64_t sum = 0;

    for (unsigned i = 0; worker_read(i, &count); i++)
        sum += count.sleeps;
    return sum;
}

static bool have_slept(void *argument)
{
    return sleeps() > *(uint64_t *)argument;
}

// The vif is armed and the worker makes no more loops.
static bool lies_still(void *argument)
{
    struct worker_count before, after;

    if (!atomic_load(&((struct race_vif *)argument)->armed))
        return false;
    worker_read(0, &before);
    race_pause_us(2000);
    worker_read(0, &after);
    return before.loops == after.loops;
}

static struct leg *wire_to(vif_slot slot)
{
    const struct hop_program program = {.step_count = 1,
                                        .steps = {{.kind = HOP_END, .vif = slot, .wait = true, .stall_ms = 60000}}};

    return leg_create(&program);
}

// Frames that come one by one, now and then just when the worker lies down.
static void frames(unsigned source_count)
{
    struct race_vif *sources[2], *receiver;
    struct table_entry entries[2];
    struct leg *legs[2];
    uint64_t before;

    race_start(1, POLL_ADAPTIVE);
    for (unsigned i = 0; i < source_count; i++)
        sources[i] = race_vif_open(i, i);
    receiver = race_vif_open(5, RACE_SOURCES);
    atomic_store(&receiver->never_full, true);
    for (unsigned i = 0; i < source_count; i++) {
        legs[i] = wire_to(5);
        entries[i] = (struct table_entry){.vif = i, .vlan = TABLE_ANY_VLAN, .leg = legs[i]};
    }
    race_publish(entries, source_count);
    before = sleeps();
    for (uint64_t i = 0; i < FRAMES; i++) {
        unsigned which = dice(source_count);
        struct progress progress = {&race_sources[which], 0};

        race_vif_send(sources[which], 1);
        progress.complete = atomic_load(&sources[which]->ready);
        if (!race_wait(has_come, &progress))
            fail_msg("frame %llu was slept over", (unsigned long long)i);
        // A queue rests after 100 µs: aim before, at and after that.
        spin_us(dice(4) == 0 ? dice(1000) : 80 + dice(60));
    }
    print_message("%u frames, %llu sleeps\n", FRAMES, (unsigned long long)(sleeps() - before));
    assert_true(sleeps() > before); // it was to the point
    race_unlist_all();
    assert_int_equal(0, race_errors);
    for (unsigned i = 0; i < source_count; i++)
        leg_destroy(legs[i]);
    race_close_all();
    race_stop();
}

static void test_frames(void **state)
{
    (void)state;
    frames(1);
}

static void test_frames_of_two(void **state)
{
    (void)state;
    frames(2);
}

// A source whose frames nobody may take yet is let go by a table: the worker
// sleeps by then, or is just about to.
static void test_tables(void **state)
{
    struct race_vif *source, *receiver;
    struct table_entry entry = {.vif = 0, .vlan = TABLE_ANY_VLAN};
    struct leg *leg;
    uint64_t before;

    (void)state;
    race_start(1, POLL_ADAPTIVE);
    source = race_vif_open(0, 0);
    receiver = race_vif_open(5, RACE_SOURCES);
    atomic_store(&receiver->never_full, true);
    leg = entry.leg = wire_to(5);
    before = sleeps();
    for (uint64_t i = 0; i < TABLES; i++) {
        struct progress progress = {&race_sources[0], i + 1};

        entry.held = true;
        race_publish(&entry, 1);
        race_vif_send(source, 1);
        spin_us(dice(3) == 0 ? dice(500) : dice(60));
        entry.held = false;
        race_publish(&entry, 1);
        if (!race_wait(has_come, &progress))
            fail_msg("table %llu was slept over", (unsigned long long)i);
    }
    print_message("%u tables, %llu sleeps\n", 2 * TABLES, (unsigned long long)(sleeps() - before));
    assert_true(sleeps() > before);
    race_unlist_all();
    leg_destroy(leg);
    race_close_all();
    race_stop();
}

// Tables come and go, and are freed, while queues lie down and get up and frames
// wait for a receiver that is stuck: what a worker does to rest must not touch
// what it has let go. (For AddressSanitizer and ThreadSanitizer, above all.)
static void test_tables_while_resting(void **state)
{
    enum { SOURCES = 4 };
    struct race_vif *sources[SOURCES], *receivers[2];
    struct table_entry entries[SOURCES];
    struct leg *legs[SOURCES];
    uint64_t before;

    (void)state;
    race_start(1, POLL_ADAPTIVE);
    for (unsigned i = 0; i < SOURCES; i++)
        sources[i] = race_vif_open(i, i);
    for (unsigned i = 0; i < 2; i++)
        receivers[i] = race_vif_open(5 + i, RACE_SOURCES);
    for (unsigned i = 0; i < SOURCES; i++) {
        legs[i] = wire_to(5 + i % 2);
        entries[i] = (struct table_entry){.vif = i, .vlan = TABLE_ANY_VLAN, .leg = legs[i]};
    }
    before = sleeps();
    for (unsigned i = 0; i < 2 * TABLES; i++) {
        race_vif_send(sources[dice(SOURCES)], 1 + dice(3));
        race_publish_eagerly(entries, SOURCES);
        if (dice(2) == 0)
            spin_us(90 + dice(dice(20) == 0 ? 1000 : 60));
        if (i % 50 == 0) {
            atomic_store(&receivers[0]->stuck, dice(2));
            atomic_store(&receivers[1]->stuck, dice(2));
        }
    }
    atomic_store(&receivers[0]->stuck, false);
    atomic_store(&receivers[1]->stuck, false);
    for (unsigned i = 0; i < SOURCES; i++) {
        struct progress progress = {&race_sources[i], atomic_load(&sources[i]->ready)};

        assert_true(race_wait(has_come, &progress));
    }
    print_message("%u tables, %llu sleeps\n", 2 * TABLES, (unsigned long long)(sleeps() - before));
    race_unlist_all();
    assert_int_equal(0, race_errors);
    for (unsigned i = 0; i < SOURCES; i++)
        leg_destroy(legs[i]);
    race_close_all();
    race_stop();
}

// A vif without a descriptor to wait on is looked at each millisecond.
static void test_no_descriptor(void **state)
{
    struct race_vif *source, *receiver;
    struct leg *leg;
    int fd;

    (void)state;
    race_start(1, POLL_ADAPTIVE);
    source = race_vif_open(0, 0);
    fd = source->wake_fd;
    source->wake_fd = -1;
    receiver = race_vif_open(5, RACE_SOURCES);
    atomic_store(&receiver->never_full, true);
    leg = wire_to(5);
    race_publish(&(struct table_entry){.vif = 0, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    for (uint64_t i = 0; i < 200; i++) {
        struct progress progress = {&race_sources[0], i + 1};
        uint64_t before = sleeps();

        if (i % 20 == 0)
            assert_true(race_wait(have_slept, &before));
        race_vif_send(source, 1);
        assert_true(race_wait(has_come, &progress));
    }
    race_unlist_all();
    leg_destroy(leg);
    source->wake_fd = fd;
    race_close_all();
    race_stop();
}

// The guest holds the same eventfd as we do: after ours is forgotten and closed,
// what it writes wakes nobody, and the number may be another one's.
static void test_forget_fd(void **state)
{
    struct race_vif *source;
    uint64_t before;
    int guests, ours;

    (void)state;
    race_start(1, POLL_ADAPTIVE);
    source = race_vif_open(0, 0);
    race_publish(NULL, 0);
    assert_true(race_wait(lies_still, source)); // it waits on it by now
    ours = source->wake_fd;
    guests = dup(ours);
    assert_true(guests >= 0);
    worker_forget_fd(ours);
    publish_quiesce();
    close(ours);
    before = sleeps();
    for (unsigned i = 0; i < 200; i++) {
        (void)eventfd_write(guests, 1);
        race_pause_us(50);
    }
    assert_true(sleeps() <= before + 20); // each write would have woken it; now and then it looks by itself
    source->wake_fd = guests;
    race_close_all();
    race_stop();
}

// Workers that sleep, and that are just about to, end when they are told to.
static void test_stop(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 300; i++) {
        race_start(2, POLL_ADAPTIVE);
        race_vif_open(0, 0);
        race_publish(NULL, 0);
        race_close_all();
        spin_us(dice(400));
        race_stop(); // hangs, and the test's time runs out, if it is slept over
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_frames),        cmocka_unit_test(test_frames_of_two),
        cmocka_unit_test(test_tables),        cmocka_unit_test(test_tables_while_resting),
        cmocka_unit_test(test_no_descriptor), cmocka_unit_test(test_forget_fd),
        cmocka_unit_test(test_stop),
    };

    return cmocka_run_group_tests_name("race: sleep", tests, NULL, NULL);
}
