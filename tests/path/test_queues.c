// SPDX-License-Identifier: BSD-3-Clause

// Guests with many queues: which queue of the receiver, of a tap and of a bump's
// arm takes what a queue received, also where they have more or fewer; queues
// that are switched off with frames in them; counters of each.

#include "rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { SLOT_A, SLOT_B, SLOT_M, SLOT_IN, SLOT_OUT, GUESTS };
enum { LEN = 100, BUFFERS = 64 };

static struct guest guests[GUESTS];
static struct guest *const a = &guests[SLOT_A], *const b = &guests[SLOT_B], *const m = &guests[SLOT_M];

static void open_guests(const uint16_t pairs[GUESTS])
{
    rig_start();
    for (unsigned i = 0; i < GUESTS; i++) {
        guest_open(&guests[i], i, &(struct guest_options){.pairs = pairs[i]});
        for (uint16_t queue = 0; queue < guests[i].pairs; queue++)
            guest_post_on(&guests[i], queue, BUFFERS, 12 + 256);
    }
}

static void close_guests(void)
{
    rig_publish(NULL, 0);
    for (unsigned i = 0; i < GUESTS; i++)
        guest_close(&guests[i]);
    rig_stop();
}

static struct leg *leg_to(vif_slot tap, vif_slot end)
{
    struct hop_program program = {0};

    if (tap != VIF_SLOT_NONE)
        program.steps[program.step_count++] = (struct hop_step){.kind = HOP_TAP, .vif = tap};
    program.steps[program.step_count++] =
        (struct hop_step){.kind = HOP_END, .vif = end, .wait = true, .stall_ms = 60000};
    return leg_create(&program);
}

// The frames from `first` on, one in so many, stand in the queue and no others.
static void expect(struct guest *guest, uint16_t queue, uint32_t first, uint32_t step, unsigned count)
{
    uint8_t bytes[LIMIT_FRAME_MAX];

    for (unsigned i = 0; i < count; i++)
        frame_expect(bytes, guest_take_on(guest, queue, bytes), LEN, 0, first + i * step);
    assert_int_equal(0, guest_take_on(guest, queue, bytes));
}

// Queue i sends frames i, i + 10, i + 20.
static void send_on_all(struct guest *guest)
{
    for (uint16_t queue = 0; queue < guest->pairs; queue++)
        for (unsigned i = 0; i < 3; i++)
            guest_send_on(guest, queue, queue + 10 * i, LEN, 0);
}

static void check_queue(const struct guest *guest, uint16_t queue, uint64_t received, uint64_t transmitted)
{
    struct queue_count count;

    assert_true(vif_read_queue(guest->slot, queue, &count));
    assert_int_equal(received, count.received.frames);
    assert_int_equal(received * LEN, count.received.bytes);
    assert_int_equal(transmitted, count.transmitted.frames);
    assert_int_equal(transmitted * LEN, count.transmitted.bytes);
}

static void test_same_number(void **state)
{
    struct leg *leg;

    (void)state;
    open_guests((uint16_t[]){4, 4, 4, 1, 1});
    leg = leg_to(SLOT_M, SLOT_B);
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    send_on_all(a);
    assert_int_equal(12, rig_poll());
    for (uint16_t queue = 0; queue < 4; queue++) {
        expect(b, queue, queue, 10, 3);
        expect(m, queue, queue, 10, 3);
        check_queue(a, queue, 3, 0);
        check_queue(b, queue, 0, 3);
        check_queue(m, queue, 0, 3);
    }
    assert_false(vif_read_queue(SLOT_A, 4, &(struct queue_count){0}));
    assert_int_equal(12, leg_check(leg).received.frames);
    close_guests();
    leg_destroy(leg);
}

// A receiver with three, a monitor with two: queue i goes to i mod n, whatever the
// others do.
static void test_fewer(void **state)
{
    struct leg *leg;

    (void)state;
    open_guests((uint16_t[]){4, 3, 2, 1, 1});
    leg = leg_to(SLOT_M, SLOT_B);
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    for (unsigned i = 0; i < 8; i++)
        guest_send_on(a, 3, 3 + 10 * i, LEN, 0);
    assert_int_equal(8, rig_poll());
    expect(b, 0, 3, 10, 8);
    expect(m, 1, 3, 10, 8);
    for (unsigned i = 0; i < 8; i++)
        guest_send_on(a, 2, 2 + 10 * i, LEN, 0);
    assert_int_equal(8, rig_poll());
    expect(b, 2, 2, 10, 8);
    expect(m, 0, 2, 10, 8);
    assert_int_equal(16, leg_check(leg).received.frames);
    close_guests();
    leg_destroy(leg);
}

static void test_more(void **state)
{
    struct leg *leg;

    (void)state;
    open_guests((uint16_t[]){1, 4, 4, 1, 1});
    leg = leg_to(SLOT_M, SLOT_B);
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    send_on_all(a);
    assert_int_equal(3, rig_poll());
    expect(b, 0, 0, 10, 3);
    expect(m, 0, 0, 10, 3);
    for (uint16_t queue = 1; queue < 4; queue++)
        expect(b, queue, 0, 0, 0);
    close_guests();
    leg_destroy(leg);
}

// Several taps and arms: by way of a snapshot, not in one pass.
static void test_bump_and_taps(void **state)
{
    struct hop_program program = {
        .step_count = 4,
        .steps = {{.kind = HOP_TAP, .vif = SLOT_M},
                  {.kind = HOP_TAP, .vif = SLOT_OUT},
                  {.kind = HOP_BUMP, .vif = SLOT_IN, .other = SLOT_OUT, .wait = true, .stall_ms = 1000},
                  {.kind = HOP_END, .vif = SLOT_B, .wait = true, .stall_ms = 1000}}};
    struct leg *leg;

    (void)state;
    open_guests((uint16_t[]){4, 4, 3, 2, 4});
    leg = leg_create(&program);
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    for (unsigned i = 0; i < 5; i++)
        guest_send_on(a, 3, i, LEN, 0);
    assert_int_equal(5, rig_poll());
    expect(&guests[SLOT_IN], 1, 0, 1, 5);
    expect(m, 0, 0, 1, 5);
    expect(&guests[SLOT_OUT], 3, 0, 1, 5);
    leg_check(leg);
    close_guests();
    leg_destroy(leg);
}

// One queue's receiver is full: the others go on, and its own clock runs.
static void test_full_queue(void **state)
{
    struct leg *leg;

    (void)state;
    open_guests((uint16_t[]){4, 4, 1, 1, 1});
    leg = leg_to(VIF_SLOT_NONE, SLOT_B);
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    for (unsigned i = 0; i < BUFFERS + 5; i++)
        guest_send_on(a, 2, i, LEN, 0);
    while (rig_poll() > 0)
        ;
    assert_int_equal(5, guest_unsent_on(a, 2));
    send_on_all(a);
    assert_int_equal(9, rig_poll());
    assert_int_equal(8, guest_unsent_on(a, 2));
    expect(b, 2, 0, 1, BUFFERS);
    guest_post_on(b, 2, BUFFERS, 12 + 256);
    assert_int_equal(8, rig_poll());
    leg_check(leg);
    close_guests();
    leg_destroy(leg);
}

// A guest goes on with fewer queues (ethtool -L). What it had sent on the others is
// forwarded, what it sends there later is not; on again, all is as it was.
static void test_queue_off(void **state)
{
    struct leg *leg;
    struct vif_count count;
    time_t until;

    (void)state;
    open_guests((uint16_t[]){4, 4, 1, 1, 1});
    leg = leg_to(VIF_SLOT_NONE, SLOT_B);
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    send_on_all(a);
    guest_detach(a, VIF_LINK_PAUSED);
    a->in_use = 2;
    guest_attach(a);
    assert_int_equal(12, rig_poll());
    for (uint16_t queue = 0; queue < 4; queue++)
        expect(b, queue, queue, 10, 3);
    rig_poll(); // now they were empty
    // Frames that are there when it is on again aren't lost.
    guest_send_on(a, 3, 7, LEN, 0);
    assert_int_equal(0, rig_poll());
    guest_detach(a, VIF_LINK_PAUSED);
    a->in_use = 4;
    guest_attach(a);
    assert_int_equal(1, rig_poll());
    expect(b, 3, 7, 0, 1);
    guest_detach(a, VIF_LINK_PAUSED);
    a->in_use = 2;
    guest_attach(a);
    rig_poll();
    // That it was empty isn't forgotten by the next message.
    guest_detach(a, VIF_LINK_PAUSED);
    guest_attach(a);
    send_on_all(a);
    assert_int_equal(6, rig_poll());
    assert_int_equal(3, guest_unsent_on(a, 3)); // not yet given up
    until = time(NULL) + 60;
    while ((guest_unsent_on(a, 2) > 0 || guest_unsent_on(a, 3) > 0) && time(NULL) < until)
        rig_poll();
    for (uint16_t queue = 0; queue < 4; queue++) {
        assert_int_equal(0, guest_unsent_on(a, queue));
        expect(b, queue, queue, 10, queue < 2 ? 3 : 0);
    }
    assert_true(vif_read_count(SLOT_A, &count));
    assert_int_equal(6, count.discarded[VIF_DISCARD_QUEUE_OFF]);
    assert_int_equal(19, count.received.frames);
    guest_detach(a, VIF_LINK_PAUSED);
    a->in_use = 4;
    guest_attach(a);
    send_on_all(a);
    assert_int_equal(12, rig_poll());
    for (uint16_t queue = 0; queue < 4; queue++)
        expect(b, queue, queue, 10, 3);
    assert_int_equal(31, leg_check(leg).received.frames);
    close_guests();
    leg_destroy(leg);
}

// The receiver goes on with fewer: frames that waited for a queue that is off go
// to another, none is lost.
static void test_receiver_queue_off(void **state)
{
    struct leg *leg;

    (void)state;
    open_guests((uint16_t[]){4, 4, 4, 1, 1});
    leg = leg_to(SLOT_M, SLOT_B);
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    for (unsigned i = 0; i < BUFFERS + 5; i++)
        guest_send_on(a, 3, i, LEN, 0);
    while (rig_poll() > 0)
        ;
    assert_int_equal(5, guest_unsent_on(a, 3));
    expect(b, 3, 0, 1, BUFFERS);
    guest_detach(b, VIF_LINK_PAUSED);
    assert_int_equal(0, rig_poll());
    b->in_use = 2;
    guest_attach(b);
    assert_int_equal(5, rig_poll());
    expect(b, 1, BUFFERS, 1, 5);
    leg_check(leg);
    close_guests();
    leg_destroy(leg);
}

// A queue that nobody polls is left alone until it has somebody; its counters go on.
static void test_moved(void **state)
{
    struct table_entry entry = {.vif = SLOT_A, .vlan = TABLE_ANY_VLAN};
    struct vif_state vif_state;

    (void)state;
    open_guests((uint16_t[]){4, 4, 1, 1, 1});
    entry.leg = leg_to(VIF_SLOT_NONE, SLOT_B);
    rig_publish(&entry, 1);
    send_on_all(a);
    assert_int_equal(12, rig_poll());
    vif_place_queue(SLOT_A, 2, VIF_WORKER_NONE);
    rig_publish(&entry, 1);
    assert_true(vif_read_state(SLOT_A, &vif_state));
    assert_int_equal(4, vif_state.queue_count);
    assert_int_equal(VIF_WORKER_NONE, vif_state.workers[2]);
    send_on_all(a);
    assert_int_equal(9, rig_poll());
    assert_int_equal(3, guest_unsent_on(a, 2));
    vif_queue_left(SLOT_A, 2);
    vif_place_queue(SLOT_A, 2, 0);
    rig_publish(&entry, 1);
    assert_int_equal(0, guest_unsent_on(a, 2));
    check_queue(a, 2, 6, 0);
    assert_int_equal(24, leg_check(entry.leg).received.frames);
    close_guests();
    leg_destroy(entry.leg);
}

// More queues than the vif was listed with: they wait until it is listed again.
static void test_grown(void **state)
{
    struct table_entry entry = {.vif = SLOT_A, .vlan = TABLE_ANY_VLAN};
    uint32_t slot;

    (void)state;
    open_guests((uint16_t[]){1, 1, 1, 1, 1});
    while (dataplane_next_event(&slot))
        ;
    entry.leg = leg_to(VIF_SLOT_NONE, SLOT_B);
    rig_publish(&entry, 1);
    assert_false(vif_has_grown(SLOT_A));
    assert_int_equal(0, vif_grow(a->vif, 3));
    assert_true(vif_has_grown(SLOT_A));
    assert_true(dataplane_next_event(&slot));
    assert_int_equal(SLOT_A, slot);
    rig_publish(&entry, 1);
    assert_true(vif_has_grown(SLOT_A));
    vif_list(SLOT_A, true);
    assert_false(vif_has_grown(SLOT_A));
    rig_publish(&entry, 1);
    assert_int_equal(3, atomic_load(&wire_table_current)->workers[0].count - (GUESTS - 1));
    assert_int_equal(0, vif_grow(a->vif, 100));
    assert_int_equal(VIF_QUEUES_MAX, a->vif->queue_count);
    close_guests();
    leg_destroy(entry.leg);
}

// A monitor's and an unwired vif's queues are all drained.
static void test_unwired(void **state)
{
    struct vif_count count;

    (void)state;
    open_guests((uint16_t[]){4, 1, 4, 1, 1});
    rig_publish(&(struct table_entry){.vif = SLOT_M, .vlan = TABLE_ANY_VLAN, .monitor = true}, 1);
    send_on_all(a);
    send_on_all(m);
    rig_poll();
    assert_true(vif_read_count(SLOT_A, &count));
    assert_int_equal(12, count.discarded[VIF_DISCARD_UNWIRED]);
    assert_true(vif_read_count(SLOT_M, &count));
    assert_int_equal(12, count.discarded[VIF_DISCARD_MONITOR]);
    close_guests();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_same_number), cmocka_unit_test(test_fewer),
        cmocka_unit_test(test_more),        cmocka_unit_test(test_bump_and_taps),
        cmocka_unit_test(test_full_queue),  cmocka_unit_test(test_queue_off),
        cmocka_unit_test(test_moved),       cmocka_unit_test(test_receiver_queue_off),
        cmocka_unit_test(test_grown),       cmocka_unit_test(test_unwired),
    };

    return cmocka_run_group_tests_name("path: queues", tests, NULL, NULL);
}
