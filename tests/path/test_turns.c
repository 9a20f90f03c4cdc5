// SPDX-License-Identifier: BSD-3-Clause

// Sources whose frames go to one vif that has room for half of them: each gets
// its share of it, wherever it stands in the round.

#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SLOT_A, SLOT_B, SLOT_C, SLOT_MONITOR, SLOT_MANY };
enum { BURST = 32, LOOPS = 400, FRAME_LEN = 60, BUFFER_LEN = 100 };

static struct guest a, b, c, monitor;
static struct leg *legs[3];

static int setup(void **state)
{
    const struct guest_options plain = {.rx = {.mergeable = false}};

    (void)state;
    rig_start();
    guest_open(&a, SLOT_A, &plain);
    guest_open(&b, SLOT_B, &plain);
    guest_open(&c, SLOT_C, &plain);
    guest_open(&monitor, SLOT_MONITOR, &plain);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_publish(NULL, 0);
    for (unsigned i = 0; i < 3; i++) {
        leg_destroy(legs[i]);
        legs[i] = NULL;
    }
    guest_close(&a);
    guest_close(&b);
    guest_close(&c);
    guest_close(&monitor);
    rig_stop();
    return 0;
}

static struct leg *make(vif_slot to, bool tapped, bool wait)
{
    struct hop_program program = {.step_count = 0};
    struct leg *leg;

    if (tapped)
        program.steps[program.step_count++] = (struct hop_step){.kind = HOP_TAP, .vif = SLOT_MONITOR};
    program.steps[program.step_count++] = (struct hop_step){.kind = HOP_END, .vif = to, .wait = wait, .stall_ms = 100};
    leg = leg_create(&program);
    assert_non_null(leg);
    return leg;
}

static void send(struct guest *guest, unsigned count)
{
    guest_forget_sent(guest);
    for (unsigned i = 0; i < count; i++)
        guest_send(guest, i, FRAME_LEN, 0);
}

static void take_all(struct guest *guest)
{
    uint8_t bytes[LIMIT_FRAME_MAX + 64];

    while (guest_take(guest, bytes) > 0)
        ;
}

// Both directions of a wire are offered to a monitor that has room for one.
static void test_monitor(void **state)
{
    struct leg_count forth, back;

    (void)state;
    legs[0] = make(SLOT_B, true, true);
    legs[1] = make(SLOT_A, true, true);
    rig_publish((struct table_entry[]){{.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = legs[0]},
                                       {.vif = SLOT_B, .vlan = TABLE_ANY_VLAN, .leg = legs[1]}},
                2);
    for (unsigned i = 0; i < LOOPS; i++) {
        guest_post(&a, BURST, BUFFER_LEN);
        guest_post(&b, BURST, BUFFER_LEN);
        guest_post(&monitor, BURST, BUFFER_LEN);
        send(&a, BURST);
        send(&b, BURST);
        assert_int_equal(2 * BURST, rig_poll());
        take_all(&a);
        take_all(&b);
        take_all(&monitor);
    }
    forth = leg_check(legs[0]);
    back = leg_check(legs[1]);
    assert_int_equal(LOOPS * BURST, forth.steps[1].delivered.frames);
    assert_int_equal(LOOPS * BURST, back.steps[1].delivered.frames);
    assert_int_equal(LOOPS * BURST, forth.steps[0].tap.copied.frames + back.steps[0].tap.copied.frames);
    assert_int_equal(forth.steps[0].tap.copied.frames, back.steps[0].tap.copied.frames);
}

// Three wires into one vif, of which each must drop what there is no room for.
static void test_receiver(void **state)
{
    uint64_t delivered[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++)
        legs[i] = make(SLOT_MONITOR, false, false);
    rig_publish((struct table_entry[]){{.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = legs[0]},
                                       {.vif = SLOT_B, .vlan = TABLE_ANY_VLAN, .leg = legs[1]},
                                       {.vif = SLOT_C, .vlan = TABLE_ANY_VLAN, .leg = legs[2]}},
                3);
    for (unsigned i = 0; i < LOOPS; i++) {
        guest_post(&monitor, BURST + BURST / 2, BUFFER_LEN);
        send(&a, BURST);
        send(&b, BURST);
        send(&c, BURST);
        assert_int_equal(3 * BURST, rig_poll());
        take_all(&monitor);
    }
    for (unsigned i = 0; i < 3; i++)
        delivered[i] = leg_check(legs[i]).steps[0].delivered.frames;
    // Of each pair each is before the other in half of the rounds.
    assert_int_equal(LOOPS * (BURST + BURST / 2), delivered[0] + delivered[1] + delivered[2]);
    assert_int_equal(delivered[0], delivered[2]);
    assert_int_equal(LOOPS * BURST / 2, delivered[1]);
}

// A guest with many queues and one with a single queue that takes a burst a loop, which any of them could fill:
// none waits until its frames are dropped.
static void test_queues(void **state)
{
    enum { QUEUES = 4, EXPECTED = LOOPS / QUEUES * BURST };
    struct guest many;
    uint32_t sent[QUEUES] = {0};

    (void)state;
    guest_open(&many, SLOT_MANY, &(struct guest_options){.pairs = QUEUES});
    legs[0] = make(SLOT_MONITOR, false, true);
    rig_publish(&(struct table_entry){.vif = SLOT_MANY, .vlan = TABLE_ANY_VLAN, .leg = legs[0]}, 1);
    for (unsigned i = 0; i < LOOPS; i++) {
        guest_post(&monitor, BURST, BUFFER_LEN);
        for (uint16_t queue = 0; queue < QUEUES; queue++) {
            guest_forget_sent(&many);
            for (uint32_t unsent = guest_unsent_on(&many, queue); unsent < BURST; unsent++)
                guest_send_on(&many, queue, sent[queue]++, FRAME_LEN, 0);
        }
        rig_now += 1000000;
        rig_poll();
        take_all(&monitor);
    }
    assert_int_equal(0, leg_check(legs[0]).dropped[DROP_STALLED]);
    for (uint16_t queue = 0; queue < QUEUES; queue++) {
        struct queue_count count;

        assert_true(vif_read_queue(SLOT_MANY, queue, &count));
        assert_in_range(count.received.frames, EXPECTED - QUEUES * BURST, EXPECTED + QUEUES * BURST);
    }
    rig_publish(NULL, 0);
    guest_close(&many);
}

// Keeps a queue full of frames that are none.
static void send_runts(struct guest *guest, uint16_t queue)
{
    struct driver *driver = queue == 0 ? &guest->tx : &guest->more_tx[queue - 1];
    uint32_t len;
    uint16_t id;

    while (driver_take(driver, &id, &len))
        ;
    while (driver->free_count > 0)
        driver_add_one(driver, DRIVER_BUFFERS_AT, 12 + LIMIT_FRAME_MIN - 1, 0);
    driver_publish(driver);
}

// The same guest with nothing but bad chains on all of its queues has no more of the worker than one with good
// frames on one.
static void test_bad_queues(void **state)
{
    enum { QUEUES = 4 };
    struct guest many;
    struct vif_count count;
    uint64_t good;

    (void)state;
    guest_open(&many, SLOT_MANY, &(struct guest_options){.pairs = QUEUES});
    legs[0] = make(SLOT_MONITOR, false, true);
    legs[1] = make(SLOT_MONITOR, false, true);
    rig_publish((struct table_entry[]){{.vif = SLOT_MANY, .vlan = TABLE_ANY_VLAN, .leg = legs[0]},
                                       {.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = legs[1]}},
                2);
    for (unsigned i = 0; i < LOOPS; i++) {
        guest_post(&monitor, LIMIT_BURST_FRAMES, BUFFER_LEN);
        for (uint16_t queue = 0; queue < QUEUES; queue++)
            send_runts(&many, queue);
        send(&a, LIMIT_BURST_FRAMES);
        rig_now += 1000000;
        assert_int_equal(LIMIT_BURST_FRAMES, rig_poll());
        take_all(&monitor);
    }
    good = leg_check(legs[1]).steps[0].delivered.frames;
    assert_int_equal(LOOPS * LIMIT_BURST_FRAMES, good);
    assert_true(vif_read_count(SLOT_MANY, &count));
    assert_int_equal(0, count.received.frames);
    assert_in_range(count.discarded[VIF_DISCARD_RUNT], good * 9 / 10, good * 11 / 10);
    rig_publish(NULL, 0);
    guest_close(&many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_monitor, setup, teardown),
        cmocka_unit_test_setup_teardown(test_receiver, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queues, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_queues, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
