// SPDX-License-Identifier: BSD-3-Clause
#include "compile.h"

#include <stdio.h>
#include <string.h>

// A port as the dataplane sees it.
struct plug {
    bool plugged; // the reference names a port
    bool has_vif;
    bool shared; // others use its vif too
    bool down;   // the port or its vif is administratively down
    vif_slot vif;
    uint16_t port_vlan;  // tag to push towards it, 0: none
    uint16_t entry_vlan; // as source
    struct hop_rate in;  // of what comes from the port
    struct hop_rate out; // of what is given to it
};

// A wire with its references looked up once; legs are then cut from it.
struct plan {
    const struct wire *wire;
    const struct compile_options *options;
    struct plug a;
    struct plug b;
    struct plug ports[LIMIT_TEES];
    struct plug out_ports[LIMIT_TEES];
};

static const struct compile_options steady;

bool compile_source(const struct model *model, const struct port *port, vif_slot *vif, uint16_t *vlan, bool *shared)
{
    const struct vif *on = port->vif[0] != '\0' ? model_find_vif(model, port->vif) : NULL;
    if (on == NULL)
        return false;
    const struct use *first = model_first_use(model, OBJECT_VIF, "", port->vif);
    bool alone = first == NULL || model_next_use(first) == NULL;
    *vif = on->slot;
    // A tag makes the vif a shared one even while its port is the only one: its other frames aren't this port's.
    *shared = port->vlan != 0 || !alone;
    *vlan = port->vlan != 0 ? port->vlan : alone ? TABLE_ANY_VLAN : TABLE_UNTAGGED;
    return true;
}

static uint32_t default_frames(uint32_t pps)
{
    uint64_t frames = (uint64_t)pps * DEFAULT_RATE_BURST_MS / 1000;

    if (frames < DEFAULT_RATE_BURST_FRAMES)
        return DEFAULT_RATE_BURST_FRAMES;
    return frames < LIMIT_RATE_BURST_FRAMES ? (uint32_t)frames : LIMIT_RATE_BURST_FRAMES;
}

static void fill_rate(struct hop_rate *to, const struct port_rate *from)
{
    uint64_t burst = from->bps / 8 * DEFAULT_RATE_BURST_MS / 1000;

    if (burst < DEFAULT_RATE_BURST_BYTES)
        burst = DEFAULT_RATE_BURST_BYTES;
    if (burst > LIMIT_RATE_BURST)
        burst = LIMIT_RATE_BURST;
    to->bps = from->bps;
    // So that programs of ports without a rate are equal.
    to->burst = from->bps == 0 ? 0 : from->burst != 0 ? from->burst : burst;
    to->pps = from->pps;
    to->frame_burst = from->pps == 0 ? 0 : from->frame_burst != 0 ? from->frame_burst : default_frames(from->pps);
}

static void find_plug(const struct model *model, const char *network, const char *name, struct plug *plug)
{
    memset(plug, 0, sizeof(*plug));
    plug->vif = VIF_SLOT_NONE;
    const struct port *port = name[0] != '\0' ? model_find_port(model, network, name) : NULL;
    if (port == NULL)
        return;
    plug->plugged = true;
    plug->port_vlan = port->vlan;
    fill_rate(&plug->in, &port->ingress);
    fill_rate(&plug->out, &port->egress);
    plug->has_vif = compile_source(model, port, &plug->vif, &plug->entry_vlan, &plug->shared);
    plug->down = port->admin == ADMIN_DOWN || (plug->has_vif && model_find_vif(model, port->vif)->admin == ADMIN_DOWN);
}

// ---- steps ----

static void begin_program(struct hop_program *program)
{
    program->step_count = 0;
    program->source = VIF_SLOT_NONE;
    program->source_vlan = 0;
    program->ingress = (struct hop_rate){0};
}

// Every byte of a step is defined, so that two programs can be compared.
static struct hop_step *add_step(struct hop_program *program, enum hop_step_kind kind, uint32_t tag)
{
    struct hop_step *step = &program->steps[program->step_count++];
    memset(step, 0, sizeof(*step));
    step->kind = kind;
    step->tag = tag;
    step->vif = VIF_SLOT_NONE;
    step->other = VIF_SLOT_NONE;
    return step;
}

static void add_drop(struct hop_program *program, enum drop_reason reason, uint32_t tag)
{
    add_step(program, HOP_DROP, tag)->reason = reason;
}

// The port that copies of this direction go to; NULL: none do.
static const struct plug *tap_target(const struct plan *plan, size_t position, enum leg_direction direction)
{
    const struct tee *tee = &plan->wire->tees[position];
    if ((tee->direction == TEE_A_TO_B && direction == LEG_B_TO_A) ||
        (tee->direction == TEE_B_TO_A && direction == LEG_A_TO_B))
        return NULL;
    bool split = tee->out_port.port[0] != '\0';
    return split && direction == LEG_B_TO_A ? &plan->out_ports[position] : &plan->ports[position];
}

static void add_tap(const struct plan *plan, size_t position, enum leg_direction direction, struct hop_program *program)
{
    const struct plug *target = tap_target(plan, position, direction);
    if (target == NULL)
        return;
    struct hop_step *step = add_step(program, HOP_TAP, (uint32_t)position);
    step->vif = target->down ? VIF_SLOT_NONE : target->vif; // none: copies count as down
    step->vlan = target->port_vlan;
    step->rate = target->out;
}

static bool may_wait(const struct plan *plan, const struct plug *source, const struct plug *target)
{
    return plan->wire->on_full == ON_FULL_WAIT && !source->shared && !target->shared;
}

// Returns false if the program ends here.
static bool add_bump(const struct plan *plan, size_t position, enum leg_direction direction, const struct plug *source,
                     struct hop_program *program)
{
    if (plan->options->phases[position] != PHASE_STEADY)
        return true;
    const struct tee *tee = &plan->wire->tees[position];
    bool forward = direction == LEG_A_TO_B;
    const struct plug *into = forward ? &plan->ports[position] : &plan->out_ports[position];
    const struct plug *back = forward ? &plan->out_ports[position] : &plan->ports[position];
    if (!into->has_vif || !back->has_vif || into->down || back->down) {
        if (tee->on_failure == FAIL_OPEN)
            return true;
        add_drop(program, DROP_BUMP_DOWN, (uint32_t)position);
        return false;
    }
    struct hop_step *step = add_step(program, HOP_BUMP, (uint32_t)position);
    step->vif = into->vif;
    step->other = back->vif;
    step->vlan = into->port_vlan;
    step->rate = into->out;
    step->fail_open = tee->on_failure == FAIL_OPEN;
    step->wait = may_wait(plan, source, into);
    step->stall_ms = tee->stall_ms;
    return true;
}

static void add_end(const struct plan *plan, const struct plug *source, const struct plug *end,
                    struct hop_program *program)
{
    if (!end->has_vif) {
        add_drop(program, end->plugged ? DROP_DOWN : DROP_UNPLUGGED, COMPILE_TAG_NONE);
        return;
    }
    if (end->down) {
        add_drop(program, DROP_ADMIN_DOWN, COMPILE_TAG_NONE);
        return;
    }
    struct hop_step *step = add_step(program, HOP_END, COMPILE_TAG_NONE);
    step->vif = end->vif;
    step->vlan = end->port_vlan;
    step->rate = end->out;
    step->wait = may_wait(plan, source, end);
    step->stall_ms = plan->wire->stall_ms;
}

// ---- legs ----

// All that frames meet which set out at position `from` (the first T to look at) in this direction.
static void cut_program(const struct plan *plan, enum leg_direction direction, size_t from, const struct plug *source,
                        struct hop_program *program)
{
    const struct wire *wire = plan->wire;
    begin_program(program);
    if (hop_rate_is_set(&source->in)) {
        program->source = source->vif;
        program->source_vlan = source->port_vlan;
        program->ingress = source->in;
    }
    if (wire->admin == ADMIN_DOWN || source->down) {
        add_drop(program, DROP_ADMIN_DOWN, COMPILE_TAG_NONE);
        return;
    }
    size_t count = direction == LEG_A_TO_B ? wire->tee_count - from : from;
    for (size_t i = 0; i < count; i++) {
        size_t position = direction == LEG_A_TO_B ? from + i : from - 1 - i;
        enum tee_mode mode = wire->tees[position].mode;
        if (mode == TEE_TAP) {
            add_tap(plan, position, direction, program);
        } else if (mode == TEE_BUMP && !add_bump(plan, position, direction, source, program)) {
            return;
        }
    }
    add_end(plan, source, direction == LEG_A_TO_B ? &plan->b : &plan->a, program);
}

static struct compiled_leg *add_leg(struct compiled_wire *out, const struct plug *source, enum leg_direction direction,
                                    uint32_t tag)
{
    struct compiled_leg *leg = &out->legs[out->leg_count++];
    leg->direction = direction;
    leg->tag = tag;
    leg->vif = source->vif;
    leg->vlan = source->entry_vlan;
    leg->held = false;
    return leg;
}

static void add_end_leg(const struct plan *plan, const char *key, enum leg_direction direction,
                        const struct plug *source, struct compiled_wire *out)
{
    if (!source->has_vif)
        return;
    struct compiled_leg *leg = add_leg(out, source, direction, COMPILE_TAG_NONE);
    strlcpy(leg->key, key, sizeof(leg->key));
    leg->held = plan->options->held;
    size_t from = direction == LEG_A_TO_B ? 0 : plan->wire->tee_count;
    cut_program(plan, direction, from, source, &leg->program);
}

// What comes back from an arm goes on at the far side of the bump.
static void add_arm_leg(const struct plan *plan, size_t position, enum leg_direction direction,
                        const struct plug *source, struct compiled_wire *out)
{
    if (!source->has_vif)
        return;
    struct compiled_leg *leg = add_leg(out, source, direction, (uint32_t)position);
    snprintf(leg->key, sizeof(leg->key), "%s.%s", plan->wire->tees[position].object.name,
             direction == LEG_A_TO_B ? "out_port" : "port");
    if (plan->options->phases[position] == PHASE_LEAVING) {
        compile_late(&leg->program);
        return;
    }
    cut_program(plan, direction, direction == LEG_A_TO_B ? position + 1 : position, source, &leg->program);
}

static void add_monitor(const struct plug *target, struct compiled_wire *out)
{
    if (target == NULL || !target->has_vif)
        return;
    for (size_t i = 0; i < out->monitor_count; i++) {
        if (out->monitors[i].vif == target->vif && out->monitors[i].vlan == target->entry_vlan)
            return;
    }
    out->monitors[out->monitor_count++] = (struct compiled_monitor){target->vif, target->entry_vlan};
}

void compile_wire(const struct model *model, const struct wire *wire, const struct compile_options *options,
                  struct compiled_wire *out)
{
    struct plan plan = {.wire = wire, .options = options != NULL ? options : &steady};
    const char *network = wire->object.network;
    find_plug(model, network, wire->a, &plan.a);
    find_plug(model, network, wire->b, &plan.b);
    for (size_t i = 0; i < wire->tee_count; i++) {
        const struct tee *tee = &wire->tees[i];
        if (tee->mode == TEE_OFF)
            continue;
        find_plug(model, tee->port.network, tee->port.port, &plan.ports[i]);
        find_plug(model, tee->out_port.network, tee->out_port.port, &plan.out_ports[i]);
    }

    out->leg_count = 0;
    out->monitor_count = 0;
    add_end_leg(&plan, "a", LEG_A_TO_B, &plan.a, out);
    add_end_leg(&plan, "b", LEG_B_TO_A, &plan.b, out);
    for (size_t i = 0; i < wire->tee_count; i++) {
        bool absent = plan.options->phases[i] == PHASE_SETTLING;
        if (wire->tees[i].mode == TEE_BUMP && !absent) {
            add_arm_leg(&plan, i, LEG_B_TO_A, &plan.ports[i], out);
            add_arm_leg(&plan, i, LEG_A_TO_B, &plan.out_ports[i], out);
        } else if (wire->tees[i].mode != TEE_OFF) {
            // Both targets are monitors, also the one that the direction leaves idle: what it sends is nobody's.
            add_monitor(&plan.ports[i], out);
            add_monitor(&plan.out_ports[i], out);
        }
    }
}

void compile_late(struct hop_program *program)
{
    begin_program(program);
    add_drop(program, DROP_LATE, COMPILE_TAG_NONE);
}

bool compile_program_equal(const struct hop_program *one, const struct hop_program *other)
{
    return one->step_count == other->step_count && one->source == other->source &&
           one->source_vlan == other->source_vlan &&
           memcmp(&one->ingress, &other->ingress, sizeof(one->ingress)) == 0 &&
           memcmp(one->steps, other->steps, one->step_count * sizeof(one->steps[0])) == 0;
}

// ---- names ----

void compile_step_name(const struct wire *wire, enum leg_direction direction, const struct hop_step *step,
                       char name[static COMPILE_KEY_SIZE])
{
    if (step->tag == COMPILE_TAG_NONE || step->tag >= wire->tee_count) {
        strlcpy(name, direction == LEG_A_TO_B ? "b" : "a", COMPILE_KEY_SIZE);
        return;
    }
    snprintf(name, COMPILE_KEY_SIZE, "%s.%s", wire->tees[step->tag].object.name,
             direction == LEG_A_TO_B ? "port" : "out_port");
}

size_t compile_path(const struct wire *wire, char path[static COMPILE_PATH_MAX][COMPILE_PATH_SIZE])
{
    size_t count = 0;
    strlcpy(path[count++], wire->a, COMPILE_PATH_SIZE);
    for (size_t i = 0; i < wire->tee_count; i++) {
        const struct tee *tee = &wire->tees[i];
        if (tee->mode != TEE_OFF)
            snprintf(path[count++], COMPILE_PATH_SIZE, "%s %s", tee_mode_names[tee->mode], tee->object.name);
    }
    strlcpy(path[count++], wire->b, COMPILE_PATH_SIZE);
    return count;
}

bool compile_is_monitor(const struct model *model, const struct port *port)
{
    for (const struct use *use = model_first_use(model, OBJECT_PORT, port->object.network, port->object.name);
         use != NULL && use->role <= ROLE_TAP; use = model_next_use(use)) {
        if (use->role == ROLE_TAP)
            return true;
    }
    return false;
}
