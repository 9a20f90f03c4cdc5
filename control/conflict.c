// SPDX-License-Identifier: BSD-3-Clause
#include "conflict.h"

#include "control.h"

#include <errno.h>
#include <stdlib.h>
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

// Would the wire, as the step wants it, stand where the drained one still is?
static bool wants_place(const struct wire *wire, const struct live_set *used)
{
    compile_wire(control.model, wire, NULL, &compiled);
    for (size_t i = 0; i < compiled.leg_count; i++)
        if (live_set_names(used, compiled.legs[i].vif))
            return true;
    for (size_t i = 0; i < compiled.monitor_count; i++)
        if (live_set_names(used, compiled.monitors[i].vif))
            return true;
    return false;
}

static bool blocks(const struct live_wire *live, const struct model_change *step, const struct wire_list *affected)
{
    const struct live_set *next = live->drain->first;

    for (size_t i = 0; i < step->record_count; i++) {
        const struct object *old = step->records[i].old;

        if (old == NULL || step->records[i].new != NULL || old->kind != OBJECT_VIF)
            continue;
        if (live_set_names(live->now, ((const struct vif *)old)->slot) ||
            (next != NULL && live_set_names(next, ((const struct vif *)old)->slot)))
            return true;
    }
    for (size_t i = 0; i < affected->count; i++) {
        const struct wire_name *name = &affected->items[i];
        const struct wire *wire = model_find_wire(control.model, name->network, name->name);

        if (strcmp(live->name, name->name) == 0 && strcmp(live->network, name->network) == 0)
            return true;
        if (wire != NULL && wants_place(wire, live->now))
            return true;
    }
    return false;
}

const struct drain_wish *conflict_find(const struct wish_list *wishes, const struct wire_name *name)
{
    for (size_t i = 0; i < wishes->count; i++)
        if (strcmp(wishes->items[i].name, name->name) == 0 && strcmp(wishes->items[i].network, name->network) == 0)
            return &wishes->items[i];
    return NULL;
}

bool conflict_blocks(const struct model_change *change, struct model_mark mark, const struct wish_list *wishes)
{
    struct model_change step = step_alone(change, mark);
    struct wire_list affected = {0};
    const struct live_wire *live;
    bool blocked = false;

    if (drains_active() == 0 && wishes->count == 0)
        return false;
    // Without memory it waits: the next attempt has more, or fails where it can be told.
    blocked = compile_affected(&step, &affected) != 0;
    for (size_t i = 0; i < affected.count && !blocked; i++)
        blocked = conflict_find(wishes, &affected.items[i]) != NULL;
    if (drains_active() > 0)
        TAILQ_FOREACH(live, live_wires(), entry)
    blocked = blocked || (live->drain != NULL && blocks(live, &step, &affected));
    wire_list_clear(&affected);
    return blocked;
}

// ---- which bumps a step takes out or puts in ----

static bool refs_equal(const struct port_ref *one, const struct port_ref *other)
{
    return strcmp(one->network, other->network) == 0 && strcmp(one->port, other->port) == 0;
}

// Is the T still a bump with the same arms? Returns its position, or -1.
static int find_bump(const struct wire *wire, const struct tee *tee)
{
    int at = wire_find_tee(wire, tee->object.name);

    if (at < 0 || strcmp(wire->tees[at].object.uid, tee->object.uid) != 0 || wire->tees[at].mode != TEE_BUMP ||
        !refs_equal(&wire->tees[at].port, &tee->port) || !refs_equal(&wire->tees[at].out_port, &tee->out_port))
        return -1;
    return at;
}

// Does the new version have a bump that the old one hadn't, or with other arms?
static bool puts_in(const struct wire *old, const struct wire *new)
{
    for (size_t i = 0; i < new->tee_count; i++)
        if (new->tees[i].mode == TEE_BUMP && find_bump(old, &new->tees[i]) < 0)
            return true;
    return false;
}

static bool takes_out(const struct wire *old, const struct wire *new)
{
    int last = -1;

    for (size_t i = 0; i < old->tee_count; i++) {
        int at;

        if (old->tees[i].mode != TEE_BUMP)
            continue;
        at = find_bump(new, &old->tees[i]);
        if (at <= last) // gone, or overtaken by another
            return true;
        last = at;
    }
    return false;
}

static int add_wish(struct wish_list *wishes, const struct object *wire, const struct command *command)
{
    struct drain_wish *wish;

    if (wishes->count == wishes->room) {
        size_t room = wishes->room > 0 ? wishes->room * 2 : 8;
        struct drain_wish *larger = realloc(wishes->items, room * sizeof(*larger));

        if (larger == NULL)
            return -ENOMEM;
        wishes->items = larger;
        wishes->room = room;
    }
    wish = &wishes->items[wishes->count++];
    strlcpy(wish->network, wire->network, sizeof(wish->network));
    strlcpy(wish->name, wire->name, sizeof(wish->name));
    wish->quiet_ms = command->options.quiet_ms;
    wish->drain_ms = command->options.drain_ms;
    return 0;
}

int conflict_note(const struct model_change *change, struct model_mark mark, const struct command *command,
                  struct wish_list *wishes)
{
    for (size_t i = mark.record_count; i < change->record_count; i++) {
        const struct object *old = change->records[i].old, *new = change->records[i].new;

        if (old == NULL || new == NULL || old->kind != OBJECT_WIRE)
            continue;
        if ((takes_out((const struct wire *)old, (const struct wire *)new) ||
             puts_in((const struct wire *)old, (const struct wire *)new)) &&
            add_wish(wishes, old, command) != 0)
            return -ENOMEM;
    }
    return 0;
}

void conflict_clear(struct wish_list *wishes)
{
    free(wishes->items);
    *wishes = (struct wish_list){0};
}
