// SPDX-License-Identifier: BSD-3-Clause

// What stands around the path: tables and legs that can't be, slots, news of
// vifs, and the waiting for workers.

#include "rig.h"

#include "dataplane/publish.h"

#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SLOT_A, SLOT_B, SLOT_NIC, SLOT_NONE };

static struct guest a, b;
static struct nic nic;

static int setup(void **state)
{
    const struct vif_config none = {.slot = SLOT_NONE, .name = "none", .kind = VIF_NONE};
    const struct guest_options plain = {0};
    char reason[100];

    (void)state;
    rig_start();
    guest_open(&a, SLOT_A, &plain);
    guest_open(&b, SLOT_B, &plain);
    nic_open(&nic, SLOT_NIC);
    assert_int_equal(0, vif_create(&none, reason, sizeof(reason)));
    vif_list(SLOT_NONE, true);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_publish(NULL, 0);
    guest_close(&a);
    guest_close(&b);
    nic_close(&nic);
    vif_list(SLOT_NONE, false);
    vif_destroy(SLOT_NONE);
    rig_stop();
    return 0;
}

static struct leg *leg_of(const struct hop_step *steps, uint16_t count)
{
    struct hop_program program = {.step_count = count};

    for (uint16_t i = 0; i < count && i < HOP_STEPS_MAX; i++)
        program.steps[i] = steps[i];
    return leg_create(&program);
}

#define LEG(...)                                   \
    leg_of((const struct hop_step[]){__VA_ARGS__}, \
           sizeof((const struct hop_step[]){__VA_ARGS__}) / sizeof(struct hop_step))

static void refuse_leg(struct leg *leg)
{
    assert_null(leg);
    assert_int_equal(EINVAL, errno);
    errno = 0;
}

static void test_legs(void **state)
{
    const struct hop_step end = {.kind = HOP_END, .vif = SLOT_B};
    struct hop_program longest = {.step_count = HOP_STEPS_MAX};
    struct hop_program program = {0};
    struct leg *leg;

    (void)state;
    refuse_leg(leg_create(&program)); // nothing
    program.step_count = HOP_STEPS_MAX + 1;
    refuse_leg(leg_create(&program));
    refuse_leg(LEG({.kind = HOP_TAP, .vif = SLOT_B})); // no end
    refuse_leg(LEG(end, end));                         // two
    refuse_leg(LEG({.kind = HOP_DROP}, {.kind = HOP_TAP, .vif = SLOT_B}));
    refuse_leg(LEG({.kind = HOP_END, .vif = 17})); // no such vif
    refuse_leg(LEG({.kind = HOP_END, .vif = VIF_SLOT_NONE}));
    refuse_leg(LEG({.kind = HOP_END, .vif = LIMIT_VIFS}));
    refuse_leg(LEG({.kind = HOP_TAP, .vif = 17}, end));
    refuse_leg(LEG({.kind = HOP_BUMP, .vif = SLOT_A, .other = 17}, end));
    refuse_leg(LEG({.kind = HOP_BUMP, .vif = 17, .other = SLOT_A}, end));
    refuse_leg(LEG({.kind = HOP_END, .vif = SLOT_B, .vlan = 4095}));
    refuse_leg(LEG({.kind = HOP_DROP, .reason = DROP_REASON_COUNT}));
    leg = LEG({.kind = HOP_TAP, .vif = VIF_SLOT_NONE}, {.kind = HOP_END, .vif = SLOT_B, .vlan = 4094});
    assert_non_null(leg);
    leg_destroy(leg);
    for (unsigned i = 0; i < HOP_STEPS_MAX - 1; i++)
        longest.steps[i] = (struct hop_step){.kind = HOP_TAP, .vif = SLOT_NONE, .tag = 100 + i};
    longest.steps[HOP_STEPS_MAX - 1] = end;
    leg = leg_create(&longest);
    assert_non_null(leg);
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    guest_post(&b, 5, 200);
    for (unsigned i = 0; i < 5; i++)
        guest_send(&a, i, 60, 0);
    assert_int_equal(5, rig_poll());
    struct leg_count count = leg_check(leg);

    assert_int_equal(HOP_STEPS_MAX, count.step_count);
    for (unsigned i = 0; i < HOP_STEPS_MAX - 1; i++) {
        assert_int_equal(100 + i, count.steps[i].tag);
        assert_int_equal(5, count.steps[i].tap.copied.frames);
    }
    rig_publish(NULL, 0);
    leg_destroy(leg);
    leg_destroy(NULL);
}

static void refuse_table(const struct table_entry *entries, size_t count)
{
    assert_null(wire_table_build(entries, count, 1));
    assert_int_equal(EINVAL, errno);
    errno = 0;
}

#define ENTRIES(...)                           \
    (const struct table_entry[]){__VA_ARGS__}, \
        sizeof((const struct table_entry[]){__VA_ARGS__}) / sizeof(struct table_entry)

static void test_tables(void **state)
{
    struct leg *leg = LEG({.kind = HOP_END, .vif = SLOT_B}), *other = LEG({.kind = HOP_END, .vif = SLOT_B});
    const struct table_entry whole = {.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg};
    const struct table_entry ten = {.vif = SLOT_A, .vlan = 10, .leg = leg};
    const struct table_entry monitor = {.vif = SLOT_A, .vlan = 10, .monitor = true};
    struct wire_table *table;

    (void)state;
    refuse_table(ENTRIES(whole, whole));
    refuse_table(ENTRIES(whole, ten));
    refuse_table(ENTRIES(ten, whole));
    refuse_table(ENTRIES(ten, ten));
    refuse_table(ENTRIES(ten, monitor));
    refuse_table(ENTRIES(monitor, ten));
    refuse_table(ENTRIES({.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .monitor = true}, ten));
    refuse_table(ENTRIES({.vif = SLOT_A, .vlan = 4095, .leg = leg}));
    refuse_table(ENTRIES({.vif = SLOT_A, .vlan = TABLE_ANY_VLAN}));                              // neither
    refuse_table(ENTRIES({.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg, .monitor = true})); // both
    refuse_table(ENTRIES({.vif = 17, .vlan = TABLE_ANY_VLAN, .leg = leg}));
    refuse_table(ENTRIES({.vif = VIF_SLOT_NONE, .vlan = TABLE_ANY_VLAN, .leg = leg}));
    vif_list(SLOT_A, false);
    refuse_table(ENTRIES(whole));
    vif_list(SLOT_A, true);
    // A kind that never sends may have an entry, and isn't polled.
    table = wire_table_build(ENTRIES(ten, {.vif = SLOT_A, .vlan = 4094, .leg = other},
                                     {.vif = SLOT_A, .vlan = TABLE_UNTAGGED, .monitor = true},
                                     {.vif = SLOT_NONE, .vlan = TABLE_ANY_VLAN, .leg = leg}),
                             7);
    assert_non_null(table);
    assert_int_equal(7, table->generation);
    assert_int_equal(3, table->workers[0].count); // a, b and the NIC
    wire_table_free(table);
    wire_table_free(NULL);
    leg_destroy(leg);
    leg_destroy(other);
}

static void test_slots(void **state)
{
    char reason[100] = "";
    struct vif_state vif_state;
    struct vif_count count;

    (void)state;
    assert_int_equal(-EINVAL, vif_create(&(struct vif_config){.slot = SLOT_A, .name = "x", .kind = VIF_NONE}, reason,
                                         sizeof(reason)));
    assert_true(strlen(reason) > 0);
    assert_int_equal(-EINVAL, vif_create(&(struct vif_config){.slot = LIMIT_VIFS, .name = "x", .kind = VIF_NONE},
                                         reason, sizeof(reason)));
    assert_false(vif_read_state(17, &vif_state));
    assert_false(vif_read_state(VIF_SLOT_NONE, &vif_state));
    assert_false(vif_read_count(LIMIT_VIFS, &count));
    assert_true(vif_read_state(SLOT_NONE, &vif_state));
    assert_int_equal(VIF_LINK_UP, vif_state.link);
    // Nothing happens for what isn't there.
    vif_destroy(17);
    vif_list(17, true);
    vif_list(VIF_SLOT_NONE, true);
    rig_publish(NULL, 0);
    // Also where the order was wrong: a table names no vif that is gone.
    nic_close(&nic);
    vif_list(SLOT_NIC, false);
    rig_publish(NULL, 0);
    nic_open(&nic, SLOT_NIC);
    rig_publish(NULL, 0);
    assert_true(vif_create(&(struct vif_config){.slot = 9, .name = "x", .kind = VIF_DEV}, reason, sizeof(reason)) == 0);
    vif_list(9, true);
    vif_destroy(9);
    vif_list(9, false);
    rig_publish(NULL, 0);
}

static bool is_readable(int fd)
{
    return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) == 1;
}

static void test_news(void **state)
{
    uint32_t slot;

    (void)state;
    while (dataplane_next_event(&slot))
        ;
    assert_false(is_readable(dataplane_event_fd()));
    // Several changes of one vif are one event.
    vif_set_link(a.vif, VIF_LINK_DOWN, "one");
    vif_set_link(a.vif, VIF_LINK_DOWN, "two");
    vif_set_link(nic.vif, VIF_LINK_DOWN, "three");
    assert_true(is_readable(dataplane_event_fd()));
    assert_true(dataplane_next_event(&slot));
    assert_int_equal(SLOT_A, slot);
    assert_true(dataplane_next_event(&slot));
    assert_int_equal(SLOT_NIC, slot);
    assert_false(dataplane_next_event(&slot));
    assert_false(is_readable(dataplane_event_fd()));
    // No change, no event; one that comes while they are taken isn't lost.
    vif_set_link(a.vif, VIF_LINK_DOWN, "two");
    assert_false(is_readable(dataplane_event_fd()));
    vif_set_link(a.vif, VIF_LINK_UP, "%s", "");
    assert_true(dataplane_next_event(&slot));
    vif_mark_broken(a.vif, "a reason");
    vif_mark_broken(a.vif, "another"); // at most once
    assert_true(is_readable(dataplane_event_fd()));
    assert_true(dataplane_next_event(&slot));
    assert_int_equal(SLOT_A, slot);
    assert_false(dataplane_next_event(&slot));

    struct vif_state vif_state;

    assert_true(vif_read_state(SLOT_A, &vif_state));
    assert_int_equal(VIF_LINK_BROKEN, vif_state.link);
    assert_string_equal("a reason", vif_state.reason);
}

// A token is done when the worker has been seen since, not before; tables wait
// for theirs, in any number.
static void test_waiting(void **state)
{
    uint64_t tokens[5];

    (void)state;
    for (unsigned i = 0; i < 5; i++) {
        struct wire_table *table = wire_table_build(NULL, 0, i);

        assert_non_null(table);
        tokens[i] = publish_begin(table);
    }
    for (unsigned i = 0; i < 5; i++)
        assert_false(publish_done(tokens[i]));
    rig_poll();
    assert_true(publish_done(tokens[4]));
    for (unsigned i = 0; i < 5; i++)
        assert_true(publish_done(tokens[i]));
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(test_legs), CASE(test_tables), CASE(test_slots), CASE(test_news), CASE(test_waiting),
    };

    return cmocka_run_group_tests_name("path: tables and what is around", tests, NULL, NULL);
}
