// SPDX-License-Identifier: BSD-3-Clause
// A two-armed appliance between two of our ports: what comes in at one goes out at the other, in order, and waits for
// room instead of being dropped.
#include "traffic.h"

#include <rte_ethdev.h>

void reflect_setup(struct traffic *t)
{
    for (unsigned i = 0; i < t->config->reflect_count; i++) {
        const struct reflect_spec *spec = &t->config->reflects[i];
        struct reflect *r = &t->reflects[i];

        r->arm[0] = (struct reflect_arm){.from = &t->ports[spec->in], .to = &t->ports[spec->out]};
        r->arm[1] = (struct reflect_arm){.from = &t->ports[spec->out], .to = &t->ports[spec->in]};
    }
}

static unsigned arm_run(struct reflect_arm *arm, uint16_t burst)
{
    unsigned moved = 0;
    uint64_t bytes = 0;
    uint16_t count;

    if (arm->pending_count == 0) {
        arm->pending_at = 0;
        arm->pending_count = rte_eth_rx_burst(arm->from->id, 0, arm->pending, burst);
        counter_add(&arm->from->rx_polls, 1);
        if (arm->pending_count == 0) {
            counter_add(&arm->from->rx_empty, 1);
            return 0;
        }
        for (uint16_t i = 0; i < arm->pending_count; i++)
            bytes += arm->pending[i]->pkt_len;
        counter_add(&arm->from->rx_bursts_full, arm->pending_count == burst);
        counter_add(&arm->from->rx_frames, arm->pending_count);
        counter_add(&arm->from->rx_bytes, bytes);
        moved = arm->pending_count;
    }
    count = rte_eth_tx_burst(arm->to->id, 0, arm->pending + arm->pending_at, arm->pending_count);
    counter_add(&arm->to->tx_full, count < arm->pending_count);
    counter_add(&arm->to->tx_frames, count);
    counter_add(&arm->frames, count);
    arm->pending_at = (uint16_t)(arm->pending_at + count);
    arm->pending_count = (uint16_t)(arm->pending_count - count);
    return moved + count;
}

unsigned reflect_run(struct reflect *r, uint16_t burst)
{
    return arm_run(&r->arm[0], burst) + arm_run(&r->arm[1], burst);
}

uint64_t reflect_pending(const struct traffic *t)
{
    uint64_t pending = 0;

    for (unsigned i = 0; i < t->config->reflect_count; i++)
        pending += t->reflects[i].arm[0].pending_count + t->reflects[i].arm[1].pending_count;
    return pending;
}

json_t *reflect_json(const struct traffic *t)
{
    json_t *list = json_array();

    for (unsigned i = 0; i < t->config->reflect_count; i++) {
        const struct reflect *r = &t->reflects[i];
        json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:I, s:i, s:i}", "in", r->arm[0].from->spec->name, "out",
                                              r->arm[0].to->spec->name, "in_to_out",
                                              (json_int_t)counter_read(&r->arm[0].frames), "out_to_in",
                                              (json_int_t)counter_read(&r->arm[1].frames), "in_to_out_pending",
                                              r->arm[0].pending_count, "out_to_in_pending", r->arm[1].pending_count));
    }
    return list;
}
