// SPDX-License-Identifier: BSD-3-Clause

// A guest that rewrites its frames while they are on their way: the receiver and
// all monitors get the same bytes, and what was judged by its tag is what is
// delivered.

#include "rig.h"

#include "dataplane/copy.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { SLOT_A, SLOT_B, SLOT_C, SLOT_M1, SLOT_M2, GUESTS };
enum { LEN = 400, ROUNDS = 20000, SECONDS = 20 };

static struct guest guests[GUESTS];

struct flipper {
    uint8_t *bytes; // of the frame
    bool tags;      // only between two tags and none
    _Atomic bool over;
    _Atomic uint64_t rounds;
};

static void *flip(void *argument)
{
    static const uint8_t types[][4] = {{0x81, 0, 0, 10}, {0x81, 0, 0, 20}, {0x88, 0xb5, 0, 10}, {0x81, 0, 0, 0}};
    struct flipper *flipper = argument;
    volatile uint8_t *bytes = flipper->bytes;

    for (uint8_t value = 0; !atomic_load_explicit(&flipper->over, memory_order_relaxed); value++) {
        if (flipper->tags)
            for (unsigned i = 0; i < 4; i++)
                bytes[12 + i] = types[value % 4][i];
        else
            for (unsigned i = 0; i < LEN; i++)
                bytes[i] = value;
        atomic_fetch_add_explicit(&flipper->rounds, 1, memory_order_relaxed);
    }
    return NULL;
}

static int setup(void **state)
{
    (void)state;
    rig_start();
    for (unsigned i = 0; i < GUESTS; i++)
        guest_open(&guests[i], i, &(struct guest_options){0});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_publish(NULL, 0);
    for (unsigned i = 0; i < GUESTS; i++)
        guest_close(&guests[i]);
    rig_stop();
    return 0;
}

// Sends the same buffer once more, in one or three descriptors.
static void send_again(struct guest *guest, uint64_t at, unsigned round)
{
    struct driver_piece pieces[] = {{at, 12 + 9, 0}, {at + 12 + 9, 5, 0}, {at + 12 + 14, LEN - 14, 0}};

    if (round % 2)
        driver_add(&guest->tx, pieces, 3, LAYOUT_DIRECT);
    else
        driver_add_one(&guest->tx, at, 12 + LEN, 0);
    driver_publish(&guest->tx);
}

static struct leg *leg_with_taps(unsigned taps, bool wait)
{
    struct hop_program program = {0};

    for (unsigned i = 0; i < taps; i++)
        program.steps[program.step_count++] = (struct hop_step){.kind = HOP_TAP, .vif = SLOT_M1 + i};
    program.steps[program.step_count++] =
        (struct hop_step){.kind = HOP_END, .vif = SLOT_B, .wait = wait, .stall_ms = 1000};
    return leg_create(&program);
}

static void same_bytes(unsigned taps, bool wait)
{
    struct guest *a = &guests[SLOT_A];
    uint64_t at = driver_alloc(&a->tx, 12 + LEN), mixed = 0;
    struct flipper flipper = {.bytes = driver_at(&a->tx, at + 12)};
    struct leg *leg = leg_with_taps(taps, wait);
    const time_t end = time(NULL) + SECONDS;
    pthread_t thread;
    unsigned round;

    assert_non_null(leg);
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    assert_int_equal(0, pthread_create(&thread, NULL, flip, &flipper));
    for (round = 0; round < ROUNDS || (mixed < 50 && time(NULL) < end); round++) {
        uint8_t got[3][LIMIT_FRAME_MAX + 64];
        bool same = true;

        for (unsigned i = 0; i <= taps; i++)
            guest_post(&guests[i == 0 ? SLOT_B : SLOT_M1 + i - 1], 1, 12 + LEN);
        send_again(a, at, round);
        assert_int_equal(1, rig_poll());
        guest_forget_sent(a);
        for (unsigned i = 0; i <= taps; i++)
            assert_int_equal(LEN, guest_take(&guests[i == 0 ? SLOT_B : SLOT_M1 + i - 1], got[i]));
        for (unsigned i = 1; i <= taps; i++)
            assert_memory_equal(got[0], got[i], LEN);
        for (unsigned i = 1; i < LEN; i++)
            same &= got[0][i] == got[0][0];
        mixed += !same;
    }
    atomic_store(&flipper.over, true);
    pthread_join(thread, NULL);
    leg_check(leg);
    print_message("%u taps: %llu of %u frames changed meanwhile\n", taps, (unsigned long long)mixed, round);
    assert_true(mixed > 0); // it was to the point
    rig_publish(NULL, 0);
    leg_destroy(leg);
}

static void test_one_tap(void **state)
{
    (void)state;
    same_bytes(1, true);
}

static void test_two_taps_wait(void **state)
{
    (void)state;
    same_bytes(2, true);
}

static void test_two_taps_drop(void **state)
{
    (void)state;
    same_bytes(2, false);
}

// Tagged 10 it goes to B, tagged 20 to M1, untagged to C: and none of them ever
// sees what another one was judged by.
static void test_judged_is_delivered(void **state)
{
    static const vif_slot to[] = {SLOT_B, SLOT_M1, SLOT_C};
    static const uint16_t vlans[] = {10, 20, TABLE_UNTAGGED};
    struct guest *a = &guests[SLOT_A];
    uint64_t at = driver_alloc(&a->tx, 12 + LEN), got[3] = {0};
    struct flipper flipper = {.bytes = driver_at(&a->tx, at + 12), .tags = true};
    struct table_entry entries[3];
    struct leg *legs[3];
    const time_t end = time(NULL) + SECONDS;
    pthread_t thread;

    (void)state;
    memset(flipper.bytes, 0x33, LEN);
    for (unsigned i = 0; i < 3; i++) {
        legs[i] = leg_create(
            &(struct hop_program){.step_count = 1, .steps = {{.kind = HOP_END, .vif = to[i], .stall_ms = 1000}}});
        entries[i] = (struct table_entry){.vif = SLOT_A, .vlan = vlans[i], .leg = legs[i]};
    }
    rig_publish(entries, 3);
    assert_int_equal(0, pthread_create(&thread, NULL, flip, &flipper));
    for (unsigned round = 0; round < ROUNDS || ((got[0] == 0 || got[1] == 0 || got[2] == 0) && time(NULL) < end);
         round++) {
        for (unsigned i = 0; i < 3; i++)
            while (guests[to[i]].rx.free_count > 0)
                guest_post(&guests[to[i]], 1, 12 + LEN);
        send_again(a, at, round);
        assert_int_equal(1, rig_poll());
        guest_forget_sent(a);
        for (unsigned i = 0; i < 3; i++) {
            uint8_t bytes[LIMIT_FRAME_MAX + 64];
            uint32_t len = guest_take(&guests[to[i]], bytes);

            if (len == 0)
                continue;
            got[i]++;
            if (vlans[i] == TABLE_UNTAGGED) {
                bool tagged = bytes[12] == 0x81 && bytes[13] == 0;

                assert_int_equal(LEN, len);
                // Only a priority tag is left in.
                assert_true(!tagged || ((bytes[14] & 0xf) == 0 && bytes[15] == 0));
            } else {
                assert_int_equal(LEN - 4, len);
                for (unsigned k = 12; k < len; k++)
                    assert_int_equal(0x33, bytes[k]); // nothing of any tag is left
            }
        }
    }
    atomic_store(&flipper.over, true);
    pthread_join(thread, NULL);
    print_message("%llu with tag 10, %llu with 20, %llu without\n", (unsigned long long)got[0],
                  (unsigned long long)got[1], (unsigned long long)got[2]);
    assert_true(got[0] > 0 && got[1] > 0 && got[2] > 0); // it was to the point
    rig_publish(NULL, 0);
    for (unsigned i = 0; i < 3; i++)
        leg_destroy(legs[i]);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_one_tap),
        CASE(test_two_taps_wait),
        CASE(test_two_taps_drop),
        CASE(test_judged_is_delivered),
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
    return cmocka_run_group_tests_name("path: changing frames", tests, NULL, NULL);
}
