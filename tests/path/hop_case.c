// SPDX-License-Identifier: BSD-3-Clause
#include "hop_case.h"

#include <string.h>

struct guest a, b, in, out, in2, out2, m1, m2;
struct nic nic, nic2, nic3;
struct leg *leg;

bool dropped_seen[DROP_REASON_COUNT];
bool tap_dropped_seen[TAP_DROP_REASON_COUNT];
bool discarded_seen[VIF_DISCARD_REASON_COUNT];

int hop_setup(void **state)
{
    const struct guest_options plain = {.rx = {.mergeable = false}};
    const struct vif_config none = {.slot = SLOT_NONE, .name = "none", .kind = VIF_NONE};
    char reason[100];

    (void)state;
    rig_start();
    guest_open(&a, SLOT_A, &plain);
    guest_open(&b, SLOT_B, &plain);
    guest_open(&in, SLOT_IN, &plain);
    guest_open(&out, SLOT_OUT, &plain);
    guest_open(&in2, SLOT_IN2, &plain);
    guest_open(&out2, SLOT_OUT2, &plain);
    guest_open(&m1, SLOT_M1, &plain);
    guest_open(&m2, SLOT_M2, &plain);
    nic_open(&nic, SLOT_NIC);
    nic_open(&nic2, SLOT_NIC2);
    nic_open(&nic3, SLOT_NIC3);
    assert_int_equal(0, vif_create(&none, reason, sizeof(reason)));
    vif_list(SLOT_NONE, true);
    return 0;
}

static struct guest *const guests[] = {&a, &b, &in, &out, &in2, &out2, &m1, &m2};
static struct nic *const nics[] = {&nic, &nic2, &nic3};

int hop_teardown(void **state)
{
    (void)state;
    for (unsigned i = 0; i < sizeof(guests) / sizeof(guests[0]); i++) {
        struct vif_count count;

        assert_true(vif_read_count(guests[i]->slot, &count));
        for (unsigned j = 0; j < VIF_DISCARD_REASON_COUNT; j++)
            discarded_seen[j] |= count.discarded[j] > 0;
        // No lock was forgotten.
        assert_false(txq_is_locked(guests[i]->vif));
    }
    rig_publish(NULL, 0);
    leg_destroy(leg);
    leg = NULL;
    for (unsigned i = 0; i < sizeof(guests) / sizeof(guests[0]); i++)
        guest_close(guests[i]);
    for (unsigned i = 0; i < sizeof(nics) / sizeof(nics[0]); i++) {
        assert_false(txq_is_locked(nics[i]->vif));
        nic_close(nics[i]);
    }
    vif_destroy(SLOT_NONE);
    assert_int_equal(0, nic_buffers); // neither lost nor freed twice
    rig_stop();
    return 0;
}

void wire_steps(vif_slot from, const struct hop_step *steps, uint16_t count)
{
    struct hop_program program = {.step_count = count};
    struct leg *old = leg;

    memcpy(program.steps, steps, count * sizeof(steps[0]));
    leg = leg_create(&program);
    assert_non_null(leg);
    rig_publish(&(struct table_entry){.vif = from, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    leg_destroy(old);
}

struct leg_count check(uint64_t received, uint64_t delivered, enum drop_reason reason, uint64_t dropped)
{
    struct leg_count count = leg_check(leg);

    assert_int_equal(received, count.received.frames);
    assert_int_equal(dropped, count.dropped[reason]);
    assert_int_equal(delivered, received - dropped);
    for (unsigned i = 0; i < DROP_REASON_COUNT; i++)
        dropped_seen[i] |= count.dropped[i] > 0;
    for (uint16_t i = 0; i < count.step_count; i++) {
        if (count.steps[i].kind != HOP_TAP)
            continue;
        for (unsigned j = 0; j < TAP_DROP_REASON_COUNT; j++)
            tap_dropped_seen[j] |= count.steps[i].tap.dropped[j] > 0;
    }
    return count;
}

void send_some(struct guest *guest, uint32_t first, unsigned count, uint32_t len)
{
    for (unsigned i = 0; i < count; i++)
        guest_send(guest, first + i, len, 0);
}

void expect_some(struct guest *guest, uint32_t first, unsigned count, uint32_t len)
{
    uint8_t bytes[LIMIT_FRAME_MAX + 64];

    for (unsigned i = 0; i < count; i++)
        frame_expect(bytes, guest_take(guest, bytes), len, 0, first + i);
}

void expect_none(struct guest *guest)
{
    uint8_t bytes[LIMIT_FRAME_MAX + 64];

    assert_int_equal(0, guest_take(guest, bytes));
}

void nic_send_some(struct nic *from, uint32_t first, unsigned count, uint32_t len)
{
    for (unsigned i = 0; i < count; i++)
        nic_send(from, first + i, len, 0, 1 + i % 3);
}

void nic_expect_some(struct nic *to, uint32_t first, unsigned count, uint32_t len)
{
    uint8_t bytes[LIMIT_FRAME_MAX + 64];

    for (unsigned i = 0; i < count; i++)
        frame_expect(bytes, nic_take(to, bytes), len, 0, first + i);
}
