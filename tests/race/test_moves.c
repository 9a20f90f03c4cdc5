// SPDX-License-Identifier: BSD-3-Clause

// Queues that change their worker while they are polled, sleep and get frames:
// by two tables, as control does it. No frame is lost, doubled or out of order, no
// queue is forgotten, and no two workers ever have one.

#include "race_vif.h"

#include "dataplane/publish.h"
#include "dataplane/worker.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

// As many moves as there should be, or what some seconds are good for.
enum { SECONDS = 6, MOVES_MIN = 200 };
#ifdef RACE_TSAN
enum { MOVES = 3000 };
#else
enum { MOVES = 20000 };
#endif
enum { SOURCES = 4, RECEIVERS = 2, FIRST_RECEIVER = SOURCES };

static uint32_t dice_state = 1;

static uint32_t dice(uint32_t limit)
{
    dice_state = dice_state * 1664525 + 1013904223;
    return (dice_state >> 8) % limit;
}

static struct race_vif *sources[SOURCES];
static struct leg *legs[SOURCES];
static uint64_t sent[SOURCES];

static bool is_done(void *argument)
{
    return publish_done(*(uint64_t *)argument);
}

static struct wire_table *build(void)
{
    struct table_entry entries[SOURCES];
    struct wire_table *table;

    for (unsigned i = 0; i < SOURCES; i++)
        entries[i] = (struct table_entry){.vif = i, .vlan = TABLE_ANY_VLAN, .leg = legs[i]};
    table = wire_table_build(entries, SOURCES, 1);
    assert_non_null(table);
    return table;
}

static unsigned worker_of(vif_slot slot)
{
    struct queue_count count;

    assert_true(vif_read_queue(slot, 0, &count));
    return count.worker;
}

// Some queues at once; both tables are built before the first is published.
static void move(const vif_slot *slots, unsigned count, unsigned workers)
{
    struct wire_table *without, *with;
    unsigned to[SOURCES];
    uint64_t token;

    for (unsigned i = 0; i < count; i++) {
        to[i] = (worker_of(slots[i]) + 1 + dice(workers - 1)) % workers;
        vif_place_queue(slots[i], 0, VIF_WORKER_NONE);
    }
    without = build();
    for (unsigned i = 0; i < count; i++)
        vif_place_queue(slots[i], 0, to[i]);
    with = build();
    token = publish_begin(without);
    assert_true(race_wait(is_done, &token));
    for (unsigned i = 0; i < count; i++)
        vif_queue_left(slots[i], 0);
    token = publish_begin(with);
    // The next change may come before all have seen this one, as long as it doesn't free it.
    if (dice(2))
        assert_true(race_wait(is_done, &token));
}

static void move_some(unsigned workers)
{
    vif_slot slots[SOURCES];
    unsigned count = 1 + dice(SOURCES), first = dice(SOURCES);

    for (unsigned i = 0; i < count; i++)
        slots[i] = (first + i) % SOURCES;
    move(slots, count, workers);
}

static void open_all(unsigned workers, enum poll_mode poll, bool endless)
{
    race_start(workers, poll);
    memset(sent, 0, sizeof(sent));
    for (unsigned i = 0; i < SOURCES; i++) {
        sources[i] = race_vif_open(i, i);
        atomic_store(&sources[i]->endless, endless);
    }
    for (unsigned i = 0; i < RECEIVERS; i++)
        race_vif_open(FIRST_RECEIVER + i, RACE_SOURCES);
    for (unsigned i = 0; i < SOURCES; i++) {
        const struct hop_program program = {
            .step_count = 2,
            .steps = {{.kind = HOP_TAP, .vif = FIRST_RECEIVER + (i + 1) % RECEIVERS},
                      {.kind = HOP_END, .vif = FIRST_RECEIVER + i % RECEIVERS, .wait = true, .stall_ms = 60000}}};

        legs[i] = leg_create(&program);
        assert_non_null(legs[i]);
    }
    {
        uint64_t token = publish_begin(build());

        assert_true(race_wait(is_done, &token));
    }
}

// Nobody polls any more: the sums hold exactly.
static uint64_t close_all(void)
{
    uint64_t sum = 0;

    race_unlist_all();
    for (unsigned i = 0; i < SOURCES; i++) {
        struct leg_count count = race_leg_check(legs[i]);

        assert_int_equal(count.received.frames, atomic_load(&race_sources[i].complete));
        assert_int_equal(count.received.frames, race_sources[i].expected);
        sum += count.received.frames;
        leg_destroy(legs[i]);
    }
    assert_int_equal(0, race_errors);
    race_close_all();
    race_stop();
    return sum;
}

static bool all_move(void *argument)
{
    const uint64_t *from = argument;

    for (unsigned i = 0; i < SOURCES; i++)
        if (atomic_load(&race_sources[i].complete) == from[i])
            return false;
    return true;
}

static void run_spinning(unsigned workers)
{
    const time_t end = time(NULL) + SECONDS;
    uint64_t from[SOURCES], sum;
    unsigned moves = 0;

    open_all(workers, POLL_BUSY, true);
    for (; moves < MOVES && atomic_load(&race_errors) == 0; moves++) {
        move_some(workers);
        if (moves > MOVES_MIN && time(NULL) > end)
            break;
        if (moves % 200 != 0)
            continue;
        for (unsigned i = 0; i < SOURCES; i++)
            from[i] = atomic_load(&race_sources[i].complete);
        assert_true(race_wait(all_move, from));
    }
    sum = close_all();
    assert_true(sum > 0);
    print_message("%u moves, %llu frames\n", moves, (unsigned long long)sum);
}

static void test_two_spinning_workers(void **state)
{
    (void)state;
    run_spinning(2);
}

static void test_three_spinning_workers(void **state)
{
    (void)state;
    run_spinning(3);
}

// ---- asleep ----

static _Atomic bool guest_stops;

// Each source sends a little, at any moment of a move, and waits until it is gone.
static void *be_guest(void *argument)
{
    uint32_t lcg = (uint32_t)(uintptr_t)argument;

    while (!atomic_load(&guest_stops)) {
        lcg = lcg * 1664525 + 1013904223;
        unsigned source = (lcg >> 8) % SOURCES;
        uint64_t count = 1 + (lcg >> 20) % 80;

        sent[source] += count;
        race_vif_send(sources[source], count);
        race_pause_us((lcg >> 16) % 300);
    }
    return NULL;
}

static bool all_arrived(void *argument)
{
    (void)argument;
    for (unsigned i = 0; i < SOURCES; i++)
        if (atomic_load(&race_sources[i].complete) != sent[i])
            return false;
    return true;
}

static void test_sleeping_workers(void **state)
{
    const time_t end = time(NULL) + SECONDS;
    unsigned moves = 0;
    uint64_t sum;

    (void)state;
    open_all(2, POLL_ADAPTIVE, false);
    while (moves < MOVES / 4 && atomic_load(&race_errors) == 0 && !(moves > MOVES_MIN && time(NULL) > end)) {
        pthread_t guest;

        atomic_store(&guest_stops, false);
        assert_int_equal(0, pthread_create(&guest, NULL, be_guest, (void *)(uintptr_t)(moves + 1)));
        for (unsigned i = 0; i < 50; i++, moves++) {
            move_some(2);
            if (dice(2))
                race_pause_us(dice(400));
        }
        atomic_store(&guest_stops, true);
        pthread_join(guest, NULL);
        // A queue that was forgotten stays full for ever.
        assert_true(race_wait(all_arrived, NULL));
    }
    sum = close_all();
    assert_true(sum > 0);
    print_message("%u moves, %llu frames\n", moves, (unsigned long long)sum);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_two_spinning_workers),
        cmocka_unit_test(test_three_spinning_workers),
        cmocka_unit_test(test_sleeping_workers),
    };

    return cmocka_run_group_tests_name("race: moves", tests, NULL, NULL);
}
