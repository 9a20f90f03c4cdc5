// SPDX-License-Identifier: BSD-3-Clause
#include "plan.h"

#include "control.h"
#include "devices.h"
#include "log.h"
#include "status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct plan *add_plan(struct plan_list *plans, struct live_wire *live)
{
    if (plans->count == plans->room) {
        size_t room = plans->room > 0 ? plans->room * 2 : 16;
        struct plan *larger = realloc(plans->items, room * sizeof(*larger));

        if (larger == NULL)
            return NULL;
        plans->items = larger;
        plans->room = room;
    }
    plans->items[plans->count] = (struct plan){.live = live};
    return &plans->items[plans->count++];
}

static void drop_plan(struct plan_list *plans)
{
    struct plan *plan = &plans->items[--plans->count];

    drain_destroy(plan->drain);
    live_release(plan->live, plan->first);
    live_release(plan->live, plan->final);
    // The one that took its name was planned after it, and is gone by now.
    if (plan->hides)
        live_unhide(plan->live);
    if (plan->created)
        live_destroy(plan->live);
}

// Everything that the published set names must stay while its ends are held.
static bool can_hold(const struct live_set *set)
{
    // A tap of a direction without source is in no program, but its monitor is in the table.
    for (size_t i = 0; i < set->monitor_count; i++)
        if (!device_usable(set->monitors[i].vif))
            return false;
    for (size_t i = 0; i < set->count; i++) {
        const struct hop_program *program = set->items[i].leg->program;

        if (!device_usable(set->items[i].leg->vif))
            return false;
        for (uint16_t j = 0; j < program->step_count; j++) {
            const struct hop_step *step = &program->steps[j];

            if (step->kind == HOP_DROP || step->vif == VIF_SLOT_NONE)
                continue;
            if (!device_usable(step->vif) || (step->kind == HOP_BUMP && !device_usable(step->other)))
                return false;
        }
    }
    return true;
}

// Turns a plan into one that publishes this set for the time of a drain; what it would have published is for the
// drain's end. Takes the set over; NULL: memory is out.
static int drain_first(struct plan *plan, struct live_set *meanwhile, const struct drain_wish *wish)
{
    plan->drain = drain_create(plan->live, wish != NULL ? wish->quiet_ms : DEFAULT_QUIET_MS,
                               wish != NULL ? wish->drain_ms : DEFAULT_DRAIN_MS);
    if (meanwhile == NULL || plan->drain == NULL) {
        live_release(plan->live, meanwhile);
        return -ENOMEM;
    }
    plan->drain->first = plan->first;
    plan->drain->final = plan->final;
    plan->first = meanwhile;
    plan->final = NULL;
    return 0;
}

static int fill_plan(struct plan *plan, const struct wire *wire, const struct drain_wish *wish, bool at_start)
{
    struct live_wire *live = plan->live;
    struct live_set *final = live_build(live, wire, LIVE_STEADY);
    bool may_drain = wish == NULL || wish->drain_ms > 0;

    plan->first = final;
    if (final == NULL)
        return -ENOMEM;
    if (at_start)
        return 0;
    if (live_has_entering(live->now, final)) {
        plan->final = final;
        plan->first = live_build(live, wire, LIVE_ENTERING);
        if (plan->first == NULL)
            return -ENOMEM;
    }
    if (live_has_leaving(live->now, final)) {
        plan->leaves = !may_drain || !can_hold(live->now);
        return plan->leaves ? 0 : drain_first(plan, live_hold(live), wish);
    }
    if (!may_drain || !live_must_settle(live, final))
        return 0;
    if (drain_first(plan, live_build(live, wire, LIVE_SETTLING), wish) != 0)
        return -ENOMEM;
    plan->drain->settles = true;
    return 0;
}

static int plan_removal(struct plan_list *plans, struct live_wire *live, bool hide)
{
    struct plan *plan = add_plan(plans, live);

    if (plan == NULL)
        return -ENOMEM;
    plan->removed = true;
    plan->first = live_empty();
    if (plan->first == NULL)
        return -ENOMEM;
    plan->hides = hide;
    if (hide)
        live_hide(live);
    return 0;
}

int plan_wire(struct plan_list *plans, const struct wire_name *name, const struct drain_wish *wish, bool at_start)
{
    const struct wire *wire = model_find_wire(control.model, name->network, name->name);
    struct live_wire *live = live_find(name->network, name->name);
    bool created;
    struct plan *plan;
    int error;

    if (wire == NULL)
        return live != NULL ? plan_removal(plans, live, false) : 0;
    // Deleted and made again in one transaction: another wire, with counters of its own.
    if (live != NULL && strcmp(live->uid, wire->object.uid) != 0) {
        if (plan_removal(plans, live, true) != 0)
            return -ENOMEM;
        live = NULL;
    }
    created = live == NULL;
    if (created && (live = live_create(wire)) == NULL)
        return -ENOMEM;
    plan = add_plan(plans, live);
    if (plan == NULL) {
        if (created)
            live_destroy(live);
        return -ENOMEM;
    }
    plan->created = created;
    error = fill_plan(plan, wire, wish, at_start);
    if (error == 0 && !created && plan->final == NULL && plan->drain == NULL && live_sets_equal(live->now, plan->first))
        drop_plan(plans);
    return error;
}

int plan_drained(struct plan_list *plans, struct live_wire *live)
{
    struct plan *plan = add_plan(plans, live);

    if (plan == NULL)
        return -ENOMEM;
    plan->ends_drain = true;
    plan->first = live->drain->first;
    plan->final = live->drain->final;
    live->drain->first = NULL;
    live->drain->final = NULL;
    return 0;
}

bool plan_needs_two(const struct plan_list *plans)
{
    for (size_t i = 0; i < plans->count; i++)
        if (plans->items[i].final != NULL)
            return true;
    return false;
}

void plan_select(struct plan_list *plans, bool second)
{
    for (size_t i = 0; i < plans->count; i++) {
        struct plan *plan = &plans->items[i];

        plan->live->next = second && plan->final != NULL ? plan->final : plan->first;
    }
}

static void swap(struct live_wire *live, struct live_set **set)
{
    struct live_set *old = live->now;

    live_note_monitors(old, *set);
    live->now = *set;
    *set = old;
}

// A bump leaves with the plan's first table: what comes back after it is late.
static bool takes_out(const struct plan *plan)
{
    return plan->leaves || (plan->ends_drain && !plan->live->drain->settles);
}

void plan_published(struct plan_list *plans, bool second)
{
    for (size_t i = 0; i < plans->count; i++) {
        struct plan *plan = &plans->items[i];
        struct live_wire *live = plan->live;

        live->next = NULL;
        if (second) {
            if (plan->final != NULL)
                swap(live, &plan->final);
            continue;
        }
        if (takes_out(plan)) {
            live_read(live);
            live->late_before = totals_late(&live->totals);
        }
        live_note_entering(live, plan->first);
        swap(live, &plan->first);
    }
}

void plan_settled(struct plan_list *plans)
{
    for (size_t i = 0; i < plans->count; i++) {
        struct plan *plan = &plans->items[i];

        // After the swap `first` is what was published before; what its arms received is final now.
        if (plan->first != NULL && takes_out(plan))
            plan->unreturned = live_unreturned(plan->live, plan->first);
        live_release(plan->live, plan->first);
        plan->first = NULL;
    }
}

// ---- late legs ----

static size_t late_over;

static void set_late_over(struct live_wire *live)
{
    if (!live->late_over)
        late_over++;
    live->late_over = true;
}

static void on_late_end(void *arg)
{
    struct live_wire *live = arg;

    // A drain shows its own sets; the late legs wait until it is over.
    if (live->drain == NULL)
        set_late_over(live);
}

bool plan_late_pending(void)
{
    return late_over > 0;
}

static void watch_late(struct live_wire *live)
{
    if (live->late_over && (live->drain != NULL || !live_has_late(live->now, VIF_SLOT_NONE))) {
        live->late_over = false;
        late_over--;
    }
    if (!live->late_end.armed && !live->late_over && live_has_late(live->now, VIF_SLOT_NONE))
        timer_arm(&live->late_end, clock_now() + (uint64_t)LATE_WATCH_MS * 1000000, on_late_end, live);
}

void plan_late_vif(vif_slot vif)
{
    struct live_wire *live;

    TAILQ_FOREACH(live, live_wires(), entry)
    if (live->late_end.armed && live_has_late(live->now, vif))
        set_late_over(live);
}

int plan_late_over(struct plan_list *plans)
{
    size_t planned = plans->count;
    struct live_wire *live;

    if (late_over == 0)
        return 0;
    TAILQ_FOREACH(live, live_wires(), entry)
    {
        struct plan *plan;
        bool busy = live->drain != NULL;

        for (size_t i = 0; i < planned; i++)
            busy = busy || plans->items[i].live == live;
        if (!live->late_over || busy)
            continue;
        plan = add_plan(plans, live);
        if (plan == NULL || (plan->first = live_without_late(live)) == NULL)
            return -ENOMEM;
    }
    return 0;
}

// ---- the end of a transaction ----

static void finish_drain(struct plan *plan)
{
    struct live_wire *live = plan->live;

    if (takes_out(plan)) {
        live->drained = true;
        live->unreturned = plan->unreturned;
    }
    if (live->drain != NULL)
        drain_end(live->drain);
}

void plan_finish(struct plan_list *plans)
{
    for (size_t i = 0; i < plans->count; i++) {
        struct plan *plan = &plans->items[i];
        struct live_wire *live = plan->live;
        const struct wire *wire = model_find_wire(control.model, live->network, live->name);

        live_release(live, plan->first);
        live_release(live, plan->final);
        if (plan->removed) {
            if (live->late_over)
                late_over--;
            live_destroy(live);
            continue;
        }
        if (plan->drain != NULL)
            drain_begin(plan->drain);
        if (plan->leaves || plan->ends_drain)
            finish_drain(plan);
        watch_late(live);
        if (wire != NULL && live->drain == NULL)
            totals_prune(&live->totals, wire);
        // Nothing in the model has changed with the end of a drain: nobody else would look.
        if (wire != NULL && plan->ends_drain)
            status_refresh_wire(wire);
    }
    free(plans->items);
    *plans = (struct plan_list){0};
}

void plan_abandon(struct plan_list *plans)
{
    while (plans->count > 0) {
        struct plan *plan = &plans->items[plans->count - 1];

        plan->live->next = NULL;
        if (plan->ends_drain) {
            // It will be tried again: the drain keeps what it prepared.
            plan->live->drain->first = plan->first;
            plan->live->drain->final = plan->final;
            plan->first = NULL;
            plan->final = NULL;
        }
        drop_plan(plans);
    }
    free(plans->items);
    *plans = (struct plan_list){0};
}
