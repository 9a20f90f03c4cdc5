// SPDX-License-Identifier: BSD-3-Clause
//
// From a wire of the model to the set of legs that the dataplane is to run.
// compile.c knows the model alone; here what it made meets the devices that
// are there, and the legs that run already.

#include "control.h"
#include "devices.h"
#include "live.h"

#include <stdlib.h>
#include <string.h>

// Control thread only; 25 KB, so it isn't on the stack.
static struct compiled_wire compiled;

static bool arm_usable(vif_slot vif)
{
    return vif != VIF_SLOT_NONE && device_usable(vif);
}

static void end_with_drop(struct hop_program *program, uint16_t at, enum drop_reason reason)
{
    program->steps[at] = (struct hop_step){.kind = HOP_DROP,
                                           .vif = VIF_SLOT_NONE,
                                           .other = VIF_SLOT_NONE,
                                           .reason = reason,
                                           .tag = program->steps[at].tag};
    program->step_count = at + 1;
}

// A device that could not be made at start is like a port without vif, see
// compile.h: a leg may only name what is there.
static void resolve(struct hop_program *program)
{
    uint16_t kept = 0;

    if (hop_rate_is_set(&program->ingress) && !arm_usable(program->source)) {
        program->source = VIF_SLOT_NONE;
        program->source_vlan = 0;
        program->ingress = (struct hop_rate){0};
    }
    for (uint16_t i = 0; i < program->step_count; i++) {
        struct hop_step *step = &program->steps[i];

        if (step->kind == HOP_TAP && !arm_usable(step->vif))
            step->vif = VIF_SLOT_NONE;
        if (step->kind == HOP_END && !arm_usable(step->vif)) {
            end_with_drop(program, i, DROP_DOWN);
            step->tag = COMPILE_TAG_NONE;
        }
        if (step->kind == HOP_BUMP && (!arm_usable(step->vif) || !arm_usable(step->other))) {
            if (step->fail_open)
                continue;
            end_with_drop(program, i, DROP_BUMP_DOWN);
        }
        program->steps[kept++] = *step;
    }
    program->step_count = kept;
}

static struct hop_program *copy_program(const struct hop_program *program)
{
    size_t size = offsetof(struct hop_program, steps) + program->step_count * sizeof(program->steps[0]);
    struct hop_program *copy = malloc(size);

    if (copy != NULL)
        memcpy(copy, program, size);
    return copy;
}

// Do the steps belong to the same Ts? One that was deleted and made again has counters of its own.
static bool same_tees(const struct live_leg *leg, const struct wire *wire, const struct hop_program *program)
{
    for (uint16_t i = 0; i < program->step_count; i++) {
        const struct tee_total *tee = leg->account->steps[i].tee;

        if (tee != NULL && (program->steps[i].tag >= wire->tee_count ||
                            strcmp(wire->tees[program->steps[i].tag].object.uid, tee->uid) != 0))
            return false;
    }
    return true;
}

static struct live_leg *find_leg(const struct live_wire *live, const struct wire *wire,
                                 const struct compiled_leg *wanted, const char *source, bool late)
{
    struct live_leg *leg;

    LIST_FOREACH(leg, &live->legs, entry)
    {
        if (leg->late == late && leg->direction == wanted->direction && leg->vif == wanted->vif &&
            leg->vlan == wanted->vlan && strcmp(leg->key, wanted->key) == 0 && strcmp(leg->source, source) == 0 &&
            compile_program_equal(leg->program, &wanted->program) && same_tees(leg, wire, &wanted->program))
            return leg;
    }
    return NULL;
}

static struct live_leg *make_leg(struct live_wire *live, const struct wire *wire, const struct compiled_leg *wanted,
                                 const char *source, bool late)
{
    struct live_leg *leg = calloc(1, sizeof(*leg));

    if (leg == NULL)
        return NULL;
    leg->wire = live;
    strlcpy(leg->key, wanted->key, sizeof(leg->key));
    strlcpy(leg->source, source, sizeof(leg->source));
    leg->direction = wanted->direction;
    leg->vif = wanted->vif;
    leg->vlan = wanted->vlan;
    leg->late = late;
    leg->program = copy_program(&wanted->program);
    leg->account = totals_open(&live->totals, wire, wanted, source, late);
    leg->leg = leg->program != NULL && leg->account != NULL ? leg_create(&wanted->program) : NULL;
    if (leg->leg == NULL) {
        totals_close(leg->account);
        free(leg->program);
        free(leg);
        return NULL;
    }
    LIST_INSERT_HEAD(&live->legs, leg, entry);
    return leg;
}

static bool add_leg(struct live_set *set, struct live_wire *live, const struct wire *wire,
                    const struct compiled_leg *wanted, const char *source, bool late)
{
    struct live_leg *leg = find_leg(live, wire, wanted, source, late);

    if (leg == NULL)
        leg = make_leg(live, wire, wanted, source, late);
    if (leg == NULL)
        return false;
    live_add(set, leg, wanted->held);
    return true;
}

static bool has_source(const struct live_set *set, vif_slot vif, uint16_t vlan)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct live_leg *leg = set->items[i].leg;

        if (leg->vif == vif && (leg->vlan == vlan || leg->vlan == TABLE_ANY_VLAN || vlan == TABLE_ANY_VLAN))
            return true;
    }
    return false;
}

// Arms of bumps that leave, and those that left a moment ago: what still comes
// from them is counted as late, so that nothing disappears.
static bool add_late_legs(struct live_set *set, struct live_wire *live, const struct wire *wire)
{
    for (size_t i = 0; i < live->now->count; i++) {
        const struct live_leg *leg = live->now->items[i].leg;
        struct compiled_leg *late = &compiled.legs[0]; // read already

        if (leg->source[0] == '\0' || has_source(set, leg->vif, leg->vlan) || !device_usable(leg->vif))
            continue;
        strlcpy(late->key, leg->key, sizeof(late->key));
        late->direction = leg->direction;
        late->tag = COMPILE_TAG_NONE;
        late->vif = leg->vif;
        late->vlan = leg->vlan;
        late->held = false;
        compile_late(&late->program);
        if (!add_leg(set, live, wire, late, leg->source, true))
            return false;
    }
    return true;
}

// ---- bumps ----

static struct live_arm find_arm(const struct port_ref *ref)
{
    const struct port *port = model_find_port(control.model, ref->network, ref->port);
    struct live_arm arm = {.vif = VIF_SLOT_NONE};
    bool shared;

    if (port == NULL || !compile_source(control.model, port, &arm.vif, &arm.vlan, &shared))
        return (struct live_arm){.vif = VIF_SLOT_NONE};
    return arm;
}

static size_t list_bumps(const struct wire *wire, struct live_bump bumps[static LIMIT_TEES])
{
    size_t count = 0;

    for (size_t i = 0; i < wire->tee_count; i++) {
        const struct tee *tee = &wire->tees[i];
        struct live_bump *bump = &bumps[count];

        if (tee->mode != TEE_BUMP)
            continue;
        strlcpy(bump->uid, tee->object.uid, sizeof(bump->uid));
        strlcpy(bump->name, tee->object.name, sizeof(bump->name));
        bump->arms[0] = find_arm(&tee->port);
        bump->arms[1] = find_arm(&tee->out_port);
        count++;
    }
    return count;
}

// Bumps that the published set doesn't have get the phase; in PHASE_SETTLING
// they leave the list. Returns how many bumps the list has then.
static size_t set_phases(const struct live_wire *live, const struct wire *wire, struct live_bump *bumps,
                         enum tee_phase phase, struct compile_options *options)
{
    size_t kept = 0;

    for (size_t i = 0, bump = 0; i < wire->tee_count; i++) {
        bool stays;

        if (wire->tees[i].mode != TEE_BUMP)
            continue;
        stays = live_bump_stays(&bumps[bump], live->now);
        if (!stays)
            options->phases[i] = phase;
        if (stays || phase != PHASE_SETTLING)
            bumps[kept++] = bumps[bump];
        bump++;
    }
    return kept;
}

struct live_set *live_build(struct live_wire *live, const struct wire *wire, enum live_shape shape)
{
    struct live_bump bumps[LIMIT_TEES];
    size_t bump_count = list_bumps(wire, bumps);
    struct compile_options options = {.held = false};
    struct live_set *set;
    bool whole = true;

    if (shape != LIVE_STEADY)
        bump_count = set_phases(live, wire, bumps, shape == LIVE_SETTLING ? PHASE_SETTLING : PHASE_ENTERING, &options);
    compile_wire(control.model, wire, &options, &compiled);
    set = live_open(compiled.leg_count + live->now->count, compiled.monitor_count, bump_count);
    if (set == NULL)
        return NULL;
    if (bump_count > 0)
        memcpy(set->bumps, bumps, bump_count * sizeof(bumps[0]));
    for (size_t i = 0; i < compiled.monitor_count; i++)
        if (device_usable(compiled.monitors[i].vif))
            set->monitors[set->monitor_count++] = compiled.monitors[i];
    set->bump_count = bump_count;
    for (size_t i = 0; i < compiled.leg_count && whole; i++) {
        struct compiled_leg *leg = &compiled.legs[i];
        const char *source = leg->tag < wire->tee_count ? wire->tees[leg->tag].object.uid : "";

        if (!device_usable(leg->vif))
            continue;
        resolve(&leg->program);
        whole = add_leg(set, live, wire, leg, source, false);
    }
    if (!whole || !add_late_legs(set, live, wire)) {
        live_release(live, set);
        return NULL;
    }
    return set;
}
