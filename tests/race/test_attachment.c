// SPDX-License-Identifier: BSD-3-Clause

// Guests come and go behind vifs that workers use all the time: an attachment
// is swapped out, publish_quiesce waits, and it is poisoned and freed at once.
// From several threads, as librte_vhost's callbacks do, while tables change too.

#include "race_vif.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SWAPPERS = 2, VIFS = 4, MAGIC_DEAD = 0 };

#define MAGIC UINT64_C(0x70617463686261)

#ifdef RACE_TSAN
enum { SWAPS = 2000 };
#else
enum { SWAPS = 10000 };
#endif

static struct race_vif *vifs[VIFS];
static _Atomic unsigned swappers_left;

static struct race_attachment *attachment_new(void)
{
    struct race_attachment *attachment = malloc(sizeof(*attachment));

    if (attachment != NULL)
        attachment->magic = MAGIC;
    return attachment;
}

static void *swapper_main(void *argument)
{
    const unsigned mine = (unsigned)(uintptr_t)argument;

    for (unsigned i = 0; i < SWAPS; i++) {
        struct vif *vif = vifs[mine + i % (VIFS / SWAPPERS) * SWAPPERS]->vif;
        struct race_attachment *old;

        vif_set_link(vif, VIF_LINK_PAUSED, "swap");
        old = (void *)atomic_exchange_explicit(&vif->attachment, NULL, memory_order_acq_rel);
        publish_quiesce();
        if (old != NULL)
            old->magic = MAGIC_DEAD;
        free(old);
        atomic_store_explicit(&vif->attachment, (void *)attachment_new(), memory_order_release);
        vif_set_link(vif, VIF_LINK_UP, "%s", "");
    }
    atomic_fetch_sub(&swappers_left, 1);
    return NULL;
}

static bool frames_move(void *argument)
{
    (void)argument;
    return atomic_load(&race_sources[0].complete) > 0 && atomic_load(&race_sources[1].complete) > 0;
}

static struct leg *wire(vif_slot to, vif_slot tap)
{
    const struct hop_program program = {
        .step_count = 2,
        .steps = {{.kind = HOP_TAP, .vif = tap}, {.kind = HOP_END, .vif = to, .wait = true, .stall_ms = 60000}}};

    return leg_create(&program);
}

static void run(unsigned workers, enum poll_mode poll)
{
    pthread_t swappers[SWAPPERS];
    struct leg *legs[2] = {NULL, NULL};
    uint64_t received = 0;
    unsigned published = 0;

    atomic_store(&race_attached, true);
    race_start(workers, poll);
    for (unsigned i = 0; i < VIFS; i++) {
        vifs[i] = race_vif_open(i, i < 2 ? i : RACE_SOURCES);
        atomic_store(&vifs[i]->endless, i < 2);
        atomic_store_explicit(&vifs[i]->vif->attachment, (void *)attachment_new(), memory_order_release);
    }
    atomic_store(&swappers_left, SWAPPERS);
    do {
        struct leg *old[2] = {legs[0], legs[1]};
        struct table_entry entries[2];

        for (unsigned i = 0; i < 2; i++) {
            legs[i] = wire(2 + (published + i) % 2, 2 + (published / 2) % 2);
            assert_non_null(legs[i]);
            entries[i] = (struct table_entry){.vif = i, .vlan = TABLE_ANY_VLAN, .leg = legs[i]};
        }
        race_publish(entries, 2);
        published++;
        for (unsigned i = 0; i < 2; i++) {
            if (old[i] != NULL)
                received += race_leg_check(old[i]).received.frames;
            leg_destroy(old[i]);
        }
        if (published > 1)
            continue;
        // A worker that has yet to start would miss it all.
        assert_true(race_wait(frames_move, NULL));
        for (unsigned i = 0; i < SWAPPERS; i++)
            assert_int_equal(0, pthread_create(&swappers[i], NULL, swapper_main, (void *)(uintptr_t)i));
    } while (atomic_load(&swappers_left) > 0 || published < 200);
    for (unsigned i = 0; i < SWAPPERS; i++)
        pthread_join(swappers[i], NULL);
    race_unlist_all();
    for (unsigned i = 0; i < 2; i++) {
        received += race_leg_check(legs[i]).received.frames;
        leg_destroy(legs[i]);
    }
    assert_int_equal(0, race_errors);
    assert_int_equal(received, race_sources[0].complete + race_sources[1].complete);
    // A wire whose receiver pauses waits.
    assert_int_equal(received, race_sources[0].expected + race_sources[1].expected);
    print_message("%u swaps, %u generations, %llu frames\n", SWAPPERS * SWAPS, published, (unsigned long long)received);
    assert_true(received > 0);
    race_close_all();
    race_stop();
    atomic_store(&race_attached, false);
}

static void test_busy(void **state)
{
    (void)state;
    run(1, POLL_BUSY);
}

static void test_adaptive(void **state)
{
    (void)state;
    run(2, POLL_ADAPTIVE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_adaptive),
    };

    return cmocka_run_group_tests_name("race: attachments", tests, NULL, NULL);
}
