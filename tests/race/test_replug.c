// SPDX-License-Identifier: BSD-3-Clause

// A publisher against workers that never stop: wires are replugged, taps come
// and go, receivers are made and destroyed, and no frame is lost, doubled or
// out of order. A leg's counters are exact once it is retired.

#include "race_vif.h"

#include "dataplane/worker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

// A case ends after as many generations as there should be, or after some
// seconds, so that a slow machine gets through.
enum { SECONDS = 25, GENERATIONS_MIN = 200 };
enum { SOURCES = 4, RECEIVERS = 5, FIRST_RECEIVER = SOURCES, SLOTS = 40 };

static unsigned generations(void)
{
    const char *wanted = getenv("PATCHBAY_TEST_GENERATIONS");

    if (wanted != NULL)
        return (unsigned)strtoul(wanted, NULL, 0);
#ifdef RACE_TSAN
    return 3000;
#else
    return 20000;
#endif
}

static uint32_t dice_state = 1;

static uint32_t dice(uint32_t limit)
{
    dice_state = dice_state * 1664525 + 1013904223;
    return (dice_state >> 8) % limit;
}

static vif_slot receivers[RECEIVERS];
static struct leg *legs[SOURCES];
static uint64_t folded[SOURCES]; // received by legs that are retired
static uint64_t folded_drops;

static struct leg *random_leg(bool may_drop)
{
    struct hop_program program = {0};
    unsigned taps = dice(3);

    for (unsigned i = 0; i < taps; i++)
        program.steps[program.step_count++] = (struct hop_step){.kind = HOP_TAP, .vif = receivers[dice(RECEIVERS)]};
    program.steps[program.step_count++] = (struct hop_step){
        .kind = HOP_END, .vif = receivers[dice(RECEIVERS)], .wait = !may_drop || dice(2), .stall_ms = 60000};
    return leg_create(&program);
}

static void publish_legs(void)
{
    struct table_entry entries[SOURCES];

    for (unsigned i = 0; i < SOURCES; i++)
        entries[i] = (struct table_entry){.vif = i, .vlan = TABLE_ANY_VLAN, .leg = legs[i]};
    race_publish(entries, SOURCES);
}

static void retire(unsigned source, struct leg *leg)
{
    struct leg_count count = race_leg_check(leg);

    folded[source] += count.received.frames;
    for (unsigned j = 0; j < DROP_REASON_COUNT; j++)
        folded_drops += count.dropped[j];
    leg_destroy(leg);
}

static bool all_move(void *argument)
{
    const uint64_t *from = argument;

    for (unsigned i = 0; i < SOURCES; i++)
        if (atomic_load(&race_sources[i].complete) == from[i])
            return false;
    return true;
}

static void run(unsigned workers, enum poll_mode poll, unsigned count)
{
    struct race_vif *sources[SOURCES];
    uint64_t from[SOURCES], sum = 0, reused = 0;
    static uintptr_t seen[64];
    vif_slot next_slot = FIRST_RECEIVER;
    unsigned moves = 0, generation = 0;
    const time_t end = time(NULL) + SECONDS;

    memset(folded, 0, sizeof(folded));
    folded_drops = 0;
    race_start(workers, poll);
    for (unsigned i = 0; i < SOURCES; i++) {
        sources[i] = race_vif_open(i, i);
        atomic_store(&sources[i]->endless, true);
    }
    for (unsigned i = 0; i < RECEIVERS; i++)
        race_vif_open(receivers[i] = next_slot++, RACE_SOURCES);
    for (unsigned i = 0; i < SOURCES; i++)
        legs[i] = random_leg(false);
    publish_legs();
    for (; generation < count && atomic_load(&race_errors) == 0; generation++) {
        unsigned source = dice(SOURCES);
        struct leg *old = legs[source];

        if (generation % 16 == 15) {
            // A receiver is replaced: a new vif, all wires off the old one, then destroy it.
            unsigned which = dice(RECEIVERS);
            vif_slot gone = receivers[which];
            struct leg *olds[SOURCES];

            if (vif_in_slot(next_slot) != NULL)
                next_slot = FIRST_RECEIVER;
            while (vif_in_slot(next_slot) != NULL)
                next_slot = FIRST_RECEIVER + (next_slot - FIRST_RECEIVER + 1) % SLOTS;
            race_vif_open(receivers[which] = next_slot, RACE_SOURCES);
            vif_list(gone, false);
            for (unsigned i = 0; i < SOURCES; i++) {
                olds[i] = legs[i];
                legs[i] = random_leg(false);
            }
            publish_legs();
            for (unsigned i = 0; i < SOURCES; i++)
                retire(i, olds[i]);
            race_vif_close(gone);
            moves++;
        } else {
            legs[source] = random_leg(false);
            publish_legs();
            retire(source, old);
        }
        for (unsigned i = 0; i < 64; i++)
            reused += seen[i] == (uintptr_t)atomic_load(&wire_table_current);
        seen[generation % 64] = (uintptr_t)atomic_load(&wire_table_current);
        if (generation > GENERATIONS_MIN && time(NULL) > end)
            break;
        if (generation % 500 == 0) {
            for (unsigned i = 0; i < SOURCES; i++)
                from[i] = atomic_load(&race_sources[i].complete);
            assert_true(race_wait(all_move, from));
        }
    }
    // The end: nobody polls any more, then the sums hold exactly.
    race_unlist_all();
    for (unsigned i = 0; i < SOURCES; i++) {
        struct vif_count vif_count;

        retire(i, legs[i]);
        assert_true(vif_read_count(i, &vif_count));
        assert_int_equal(folded[i], atomic_load(&race_sources[i].complete));
        assert_int_equal(folded[i], vif_count.received.frames);
        assert_int_equal(folded[i], race_sources[i].expected); // each was seen by a receiver, in order
        sum += folded[i];
    }
    assert_int_equal(0, race_errors);
    assert_int_equal(0, folded_drops);
    print_message("%u generations (%llu at an address used before), %u receivers replaced, %llu frames\n", generation,
                  (unsigned long long)reused, moves, (unsigned long long)sum);
#ifndef RACE_ASAN // whose allocator avoids it
    assert_true(reused > 0);
#endif
    assert_true(sum > 0);
    race_close_all();
    race_stop();
}

static void test_one_worker(void **state)
{
    (void)state;
    run(1, POLL_BUSY, generations());
}

static void test_two_workers(void **state)
{
    (void)state;
    run(2, POLL_BUSY, generations());
}

static void test_adaptive(void **state)
{
    (void)state;
    run(2, POLL_ADAPTIVE, generations() / 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_worker),
        cmocka_unit_test(test_two_workers),
        cmocka_unit_test(test_adaptive),
    };

    return cmocka_run_group_tests_name("race: replug", tests, NULL, NULL);
}
