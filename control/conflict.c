// SPDX-License-Identifier: BSD-3-Clause
#include "conflict.h"

#include "control.h"

#include <string.h>

// Control thread only; 25 KB, so it isn't on the stack.
static struct compiled_wire compiled;

static struct model_change step_alone(const struct model_change *change, struct model_mark mark)
{
    struct model_change step = *change;

    step.records += mark.record_count;
    step.record_count -= mark.record_count;
    return step;
}

// Would what was compiled stand where a wire still is?
static bool wants_place(const struct live_set *used)
{
    for (size_t i = 0; i < compiled.leg_count; i++)
        if (live_set_names(used, compiled.legs[i].vif))
            return true;
    for (size_t i = 0; i < compiled.monitor_count; i++)
        if (live_set_names(used, compiled.monitors[i].vif))
            return true;
    return false;
}

static bool removes_vif_of(const struct live_wire *live, const struct model_change *step)
{
    const struct live_set *next = live->drain != NULL ? live->drain->first : NULL;

    for (size_t i = 0; i < step->record_count; i++) {
        const struct object *old = step->records[i].old;

        if (old == NULL || step->records[i].new != NULL || old->kind != OBJECT_VIF)
            continue;
        if (live_set_names(live->now, ((const struct vif *)old)->slot) ||
            (next != NULL && live_set_names(next, ((const struct vif *)old)->slot)))
            return true;
    }
    return false;
}

// The wire of a step that the group has taken already, if it is to be drained: it will have its places for that time.
static const struct live_wire *find_wished(const struct drain_wish *wish)
{
    const struct live_wire *live = wish->drain_ms > 0 ? live_find(wish->network, wish->name) : NULL;

    return live != NULL && live->drain == NULL ? live : NULL;
}

// Calls each(live, arg) for the wires that are being drained and those that the group will drain, until it is true.
static bool any_drained(const struct wish_list *wishes, bool (*each)(const struct live_wire *live, const void *arg),
                        const void *arg)
{
    const struct live_wire *live;

    if (drains_active() > 0)
        TAILQ_FOREACH(live, live_wires(), entry)
    if (live->drain != NULL && each(live, arg))
        return true;
    for (size_t i = 0; i < wishes->count; i++) {
        live = find_wished(&wishes->items[i]);
        if (live != NULL && each(live, arg))
            return true;
    }
    return false;
}

static bool stands_in_the_way(const struct live_wire *live, const void *arg)
{
    const struct wire_name *name = arg;

    return (strcmp(live->name, name->name) == 0 && strcmp(live->network, name->network) == 0) || wants_place(live->now);
}

static bool loses_a_vif(const struct live_wire *live, const void *arg)
{
    return removes_vif_of(live, arg);
}

bool conflict_blocks(const struct model_change *change, struct model_mark mark, struct wish_list *wishes)
{
    struct model_change step = step_alone(change, mark);
    struct wire_list affected = {0};
    bool blocked = false;

    if (drains_active() == 0 && wishes->count == 0)
        return false;
    // Without memory it waits: the next attempt has more, or fails where it can be told.
    blocked = compile_affected(&step, &affected) != 0 || any_drained(wishes, loses_a_vif, &step);
    for (size_t i = 0; i < affected.count && !blocked; i++) {
        const struct wire_name *name = &affected.items[i];
        const struct wire *wire = model_find_wire(control.model, name->network, name->name);

        compiled.leg_count = compiled.monitor_count = 0;
        if (wire != NULL)
            compile_wire(control.model, wire, NULL, &compiled);
        blocked = wishes_find(wishes, name) != NULL || any_drained(wishes, stands_in_the_way, name);
    }
    wire_list_clear(&affected);
    return blocked;
}
