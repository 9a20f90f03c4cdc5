// SPDX-License-Identifier: BSD-3-Clause
//
// One change may take a bump out of a wire, which is then drained with all
// that it had, and give an end or arm of it to another wire. Between requests
// the second would wait for the drain (conflict.c); within one they come
// together, and two wires can't have one source. Then the first gives way: its
// bump leaves at once, as with drain_ms=0, and what is late is counted.

#include "plan.h"

#include <errno.h>
#include <stdlib.h>

// A source that a wire has for the time of its drain; chained by vif.
struct holding {
    size_t plan;
    vif_slot vif;
    uint32_t next; // index + 1, 0 ends
    uint16_t vlan;
};

static uint32_t heads[LIMIT_VIFS];

static bool holds(const struct plan *plan)
{
    return plan->drain != NULL && !plan->drain->settles;
}

static void give_way(struct plan *plan)
{
    struct drain *drain = plan->drain;

    live_release(plan->live, plan->first);
    plan->first = drain->first;
    plan->final = drain->final;
    drain->first = drain->final = NULL;
    drain_destroy(drain);
    plan->drain = NULL;
    plan->leaves = true;
}

static void look(struct plan_list *plans, size_t own, const struct live_set *set, const struct holding *holdings)
{
    for (size_t i = 0; set != NULL && i < set->count; i++) {
        const struct live_item *item = &set->items[i];

        for (uint32_t at = heads[item->vif]; at != 0; at = holdings[at - 1].next) {
            const struct holding *holding = &holdings[at - 1];

            if (holding->plan != own && holds(&plans->items[holding->plan]) && !item->late &&
                (holding->vlan == item->vlan || holding->vlan == TABLE_ANY_VLAN || item->vlan == TABLE_ANY_VLAN))
                give_way(&plans->items[holding->plan]);
        }
    }
}

int plan_yield(struct plan_list *plans)
{
    struct holding *holdings;
    size_t count = 0, wires = 0;

    for (size_t i = 0; i < plans->count; i++)
        if (holds(&plans->items[i])) {
            count += plans->items[i].first->count;
            wires++;
        }
    if (wires == 0 || plans->count < 2)
        return 0;
    holdings = calloc(count > 0 ? count : 1, sizeof(*holdings));
    if (holdings == NULL)
        return -ENOMEM;
    count = 0;
    for (size_t i = 0; i < plans->count; i++) {
        const struct live_set *held = holds(&plans->items[i]) ? plans->items[i].first : NULL;

        for (size_t j = 0; held != NULL && j < held->count; j++) {
            if (held->items[j].late)
                continue;
            holdings[count] = (struct holding){
                .plan = i, .vif = held->items[j].vif, .next = heads[held->items[j].vif], .vlan = held->items[j].vlan};
            heads[held->items[j].vif] = (uint32_t)++count;
        }
    }
    for (size_t i = 0; i < plans->count; i++) {
        struct plan *plan = &plans->items[i];

        // Who is drained itself has its own old places now, and wants the new ones when that is over.
        look(plans, i, holds(plan) ? plan->drain->first : plan->first, holdings);
        look(plans, i, plan->drain != NULL ? plan->drain->final : plan->final, holdings);
    }
    for (size_t i = 0; i < count; i++)
        heads[holdings[i].vif] = 0;
    free(holdings);
    return 0;
}
