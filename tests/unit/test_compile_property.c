// SPDX-License-Identifier: BSD-3-Clause
// Random wires and Ts: frames that are walked through the compiled hops visit
// what the model says, in order, both ways. The oracle (`model_walk`) reads
// only the model: it knows ports and Ts, and nothing of legs and steps. The
// walker (`hop_walk`) reads only what was compiled, as a worker does, with an
// appliance behind every bump that gives back on one arm what it got on the other.

#include "control/compile.h"
#include "model_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VIFS = 60, EVENTS_MAX = 64 };

enum event_kind { EVENT_COPY, EVENT_INTO, EVENT_DELIVERED, EVENT_DROPPED };

struct event {
    enum event_kind kind;
    vif_slot vif;
    uint16_t vlan;
    enum drop_reason reason;
};

struct trace {
    size_t count;
    struct event events[EVENTS_MAX];
};

struct world {
    struct fixture f;
    bool down[LIMIT_VIFS]; // by slot
    const struct wire *wire;
    struct compile_options options;
};

static struct compiled_wire compiled;
static uint64_t seed;

static void add_event(struct trace *trace, enum event_kind kind, vif_slot vif, uint16_t vlan, enum drop_reason reason)
{
    if (trace->count == EVENTS_MAX)
        fail_msg("seed %llu: a frame goes round in circles", (unsigned long long)seed);
    trace->events[trace->count++] = (struct event){kind, vif, vlan, reason};
}

// ---- the oracle ----

struct place {
    bool plugged;
    bool off; // administratively down: the port, or its vif
    vif_slot vif;
    uint16_t vlan;
};

static struct place place_of(const struct world *world, const char *network, const char *name)
{
    struct place place = {.vif = VIF_SLOT_NONE};
    const struct port *port = name[0] != '\0' ? model_find_port(world->f.model, network, name) : NULL;
    if (port == NULL)
        return place;
    place.plugged = true;
    place.vlan = port->vlan;
    const struct vif *vif = port->vif[0] != '\0' ? model_find_vif(world->f.model, port->vif) : NULL;
    if (vif != NULL)
        place.vif = vif->slot;
    place.off = port->admin == ADMIN_DOWN || (vif != NULL && vif->admin == ADMIN_DOWN);
    return place;
}

static struct place place_of_ref(const struct world *world, const struct port_ref *ref)
{
    return place_of(world, ref->network, ref->port);
}

static bool is_up(const struct world *world, struct place place)
{
    return place.vif != VIF_SLOT_NONE && !world->down[place.vif] && !place.off;
}

// What happens to a frame that is on the wire just before the T at `position` (just behind it in the other direction).
static void model_walk(const struct world *world, struct place source, bool a_to_b, int position, struct trace *trace)
{
    const struct wire *wire = world->wire;
    if (wire->admin == ADMIN_DOWN || source.off) {
        add_event(trace, EVENT_DROPPED, VIF_SLOT_NONE, 0, DROP_ADMIN_DOWN);
        return;
    }
    for (int i = position; i >= 0 && i < (int)wire->tee_count; i += a_to_b ? 1 : -1) {
        const struct tee *tee = &wire->tees[i];
        struct place port = place_of_ref(world, &tee->port);
        struct place out_port = place_of_ref(world, &tee->out_port);
        if (tee->mode == TEE_TAP) {
            if (tee->direction == TEE_BOTH || (tee->direction == TEE_A_TO_B) == a_to_b) {
                struct place to = !a_to_b && out_port.plugged ? out_port : port;
                add_event(trace, EVENT_COPY, to.off ? VIF_SLOT_NONE : to.vif, to.vlan, 0);
            }
        } else if (tee->mode == TEE_BUMP && world->options.phases[i] == PHASE_STEADY) {
            if (is_up(world, port) && is_up(world, out_port)) {
                struct place into = a_to_b ? port : out_port;
                add_event(trace, EVENT_INTO, into.vif, into.vlan, 0);
            } else if (tee->on_failure == FAIL_CLOSED) {
                add_event(trace, EVENT_DROPPED, VIF_SLOT_NONE, 0, DROP_BUMP_DOWN);
                return;
            }
        }
    }
    struct place end = place_of(world, wire->object.network, a_to_b ? wire->b : wire->a);
    if (end.vif == VIF_SLOT_NONE) {
        add_event(trace, EVENT_DROPPED, VIF_SLOT_NONE, 0, end.plugged ? DROP_DOWN : DROP_UNPLUGGED);
    } else if (end.off) {
        add_event(trace, EVENT_DROPPED, VIF_SLOT_NONE, 0, DROP_ADMIN_DOWN);
    } else {
        add_event(trace, EVENT_DELIVERED, end.vif, end.vlan, 0);
    }
}

// ---- the walker ----

// The entry of the wire table that takes a frame of this vif and tag.
static const struct compiled_leg *find_leg(vif_slot vif, uint16_t vlan)
{
    for (size_t i = 0; i < compiled.leg_count; i++) {
        const struct compiled_leg *leg = &compiled.legs[i];
        if (leg->vif == vif && (leg->vlan == TABLE_ANY_VLAN || leg->vlan == vlan))
            return leg;
    }
    return NULL;
}

// The appliance knows its cables: what comes in here goes out there.
static struct place other_arm(const struct world *world, vif_slot vif, uint16_t vlan)
{
    for (size_t i = 0; i < world->wire->tee_count; i++) {
        const struct tee *tee = &world->wire->tees[i];
        if (tee->mode != TEE_BUMP)
            continue;
        struct place port = place_of_ref(world, &tee->port);
        struct place out_port = place_of_ref(world, &tee->out_port);
        if (port.vif == vif && port.vlan == vlan)
            return out_port;
        if (out_port.vif == vif && out_port.vlan == vlan)
            return port;
    }
    fail_msg("seed %llu: a frame was sent into vif %u tag %u, which is no arm", (unsigned long long)seed, (unsigned)vif,
             vlan);
    return (struct place){0};
}

static void hop_walk(const struct world *world, vif_slot vif, uint16_t vlan, struct trace *trace)
{
    for (;;) {
        const struct compiled_leg *leg = find_leg(vif, vlan);
        if (leg == NULL)
            fail_msg("seed %llu: no leg takes what comes from vif %u tag %u", (unsigned long long)seed, (unsigned)vif,
                     vlan);
        bool goes_on = false;
        for (uint16_t i = 0; i < leg->program.step_count && !goes_on; i++) {
            const struct hop_step *step = &leg->program.steps[i];
            switch (step->kind) {
            case HOP_TAP:
                add_event(trace, EVENT_COPY, step->vif, step->vlan, 0);
                break;
            case HOP_BUMP:
                if (world->down[step->vif] || world->down[step->other]) {
                    if (step->fail_open)
                        break;
                    add_event(trace, EVENT_DROPPED, VIF_SLOT_NONE, 0, DROP_BUMP_DOWN);
                    return;
                }
                add_event(trace, EVENT_INTO, step->vif, step->vlan, 0);
                struct place back = other_arm(world, step->vif, step->vlan);
                if (back.vif != step->other)
                    fail_msg("seed %llu: the other arm is vif %u, not %u", (unsigned long long)seed, (unsigned)back.vif,
                             (unsigned)step->other);
                vif = back.vif;
                vlan = back.vlan;
                goes_on = true;
                break;
            case HOP_END:
                add_event(trace, EVENT_DELIVERED, step->vif, step->vlan, 0);
                return;
            case HOP_DROP:
                add_event(trace, EVENT_DROPPED, VIF_SLOT_NONE, 0, step->reason);
                return;
            }
        }
        if (!goes_on)
            fail_msg("seed %llu: a program ends without END or DROP", (unsigned long long)seed);
    }
}

static void expect_same(const char *from, const struct trace *model, const struct trace *hops)
{
    for (size_t i = 0; i < model->count || i < hops->count; i++) {
        const struct event *m = &model->events[i];
        const struct event *h = &hops->events[i];
        if (i >= model->count || i >= hops->count || m->kind != h->kind || m->vif != h->vif || m->vlan != h->vlan ||
            m->reason != h->reason)
            fail_msg(
                "seed %llu, from %s, event %zu: the model says %zu events, here kind %d vif %u tag %u reason %d; the "
                "hops made %zu, here kind %d vif %u tag %u reason %d",
                (unsigned long long)seed, from, i, model->count, (int)m->kind, (unsigned)m->vif, m->vlan,
                (int)m->reason, hops->count, (int)h->kind, (unsigned)h->vif, h->vlan, (int)h->reason);
    }
}

static void expect_walk(const struct world *world, const char *from, struct place source, bool a_to_b, int position)
{
    if (source.vif == VIF_SLOT_NONE)
        return;
    struct trace model = {0};
    struct trace hops = {0};
    model_walk(world, source, a_to_b, position, &model);
    hop_walk(world, source.vif, source.vlan, &hops);
    expect_same(from, &model, &hops);
}

// ---- random worlds ----

// Ports in random order; each is handed out once, but monitors.
struct deck {
    char names[VIFS * 3][16];
    size_t count;
    size_t next;
};

static const char *deal(struct deck *deck)
{
    assert_true(deck->next < deck->count);
    return deck->names[deck->next++];
}

static void add_port(struct world *world, struct deck *deck, const char *json)
{
    char path[64];
    snprintf(deck->names[deck->count], sizeof(deck->names[0]), "p%zu", deck->count);
    snprintf(path, sizeof(path), "ports/default/%s", deck->names[deck->count]);
    fixture_put(&world->f, path, json);
    deck->count++;
}

static void make_ports(struct world *world, struct rng *rng, struct deck *deck)
{
    char path[64];
    char json[128];
    for (unsigned i = 0; i < VIFS; i++) {
        snprintf(path, sizeof(path), "vifs/v%u", i);
        snprintf(json, sizeof(json), "{'kind':'none','admin':'%s'}", rng_below(rng, 12) == 0 ? "down" : "up");
        fixture_put(&world->f, path, json);
        world->down[i] = rng_below(rng, 8) == 0;
        // Alone, alone with a tag, or a few on one vif.
        unsigned kind = rng_below(rng, 6);
        snprintf(json, sizeof(json), "{'vif':'v%u','admin':'%s'}", i, rng_below(rng, 12) == 0 ? "down" : "up");
        if (kind != 1)
            add_port(world, deck, json);
        for (unsigned vlan = 1; kind <= 1 && vlan <= 1 + kind; vlan++) {
            snprintf(json, sizeof(json), "{'vif':'v%u','vlan':%u}", i, vlan);
            add_port(world, deck, json);
        }
        if (kind == 5 && rng_below(rng, 2) == 0)
            add_port(world, deck, "{}");
    }
    for (size_t i = deck->count - 1; i > 0; i--) {
        size_t j = rng_below(rng, (unsigned)i + 1);
        char swap[16];
        memcpy(swap, deck->names[i], sizeof(swap));
        memcpy(deck->names[i], deck->names[j], sizeof(swap));
        memcpy(deck->names[j], swap, sizeof(swap));
    }
}

static void make_wire(struct world *world, struct rng *rng, struct deck *deck)
{
    static const char *const directions[] = {"both", "a-to-b", "b-to-a"};
    char json[4096];
    const char *monitors[3];
    for (size_t i = 0; i < 3; i++)
        monitors[i] = deal(deck);
    size_t len = (size_t)snprintf(json, sizeof(json), "{'admin':'%s','on_full':'%s','stall_ms':%u",
                                  rng_below(rng, 20) == 0 ? "down" : "up", rng_below(rng, 4) == 0 ? "drop" : "wait",
                                  1 + rng_below(rng, 500));
    for (char end = 'a'; end <= 'b'; end++) {
        if (rng_below(rng, 10) != 0)
            len += (size_t)snprintf(json + len, sizeof(json) - len, ",'%c':'%s'", end, deal(deck));
    }
    len += (size_t)snprintf(json + len, sizeof(json) - len, ",'tees':[");
    unsigned tees = rng_below(rng, 4) == 0 ? rng_below(rng, LIMIT_TEES + 1) : rng_below(rng, 6);
    for (unsigned i = 0; i < tees; i++) {
        len += (size_t)snprintf(json + len, sizeof(json) - len, "%s{'name':'t%u','stall_ms':%u", i > 0 ? "," : "", i,
                                1 + rng_below(rng, 50));
        unsigned mode = rng_below(rng, 5);
        if (mode == 0) {
            len += (size_t)snprintf(json + len, sizeof(json) - len, ",'mode':'off','port':'%s'}", monitors[0]);
        } else if (mode <= 2) {
            unsigned monitor = rng_below(rng, 3);
            len += (size_t)snprintf(json + len, sizeof(json) - len, ",'port':'%s','direction':'%s'", monitors[monitor],
                                    directions[rng_below(rng, 3)]);
            if (rng_below(rng, 3) == 0)
                len +=
                    (size_t)snprintf(json + len, sizeof(json) - len, ",'out_port':'%s'", monitors[(monitor + 1) % 3]);
            len += (size_t)snprintf(json + len, sizeof(json) - len, "}");
        } else {
            len += (size_t)snprintf(json + len, sizeof(json) - len,
                                    ",'mode':'bump','on_failure':'%s','port':'%s','out_port':'%s'}",
                                    rng_below(rng, 2) == 0 ? "open" : "closed", deal(deck), deal(deck));
        }
    }
    snprintf(json + len, sizeof(json) - len, "]}");
    fixture_put(&world->f, "wires/default/w", json);
    world->wire = fixture_wire(&world->f, "w");
}

static void make_options(struct world *world, struct rng *rng)
{
    world->options = (struct compile_options){.held = rng_below(rng, 4) == 0};
    if (rng_below(rng, 3) != 0)
        return;
    for (size_t i = 0; i < world->wire->tee_count; i++) {
        if (world->wire->tees[i].mode == TEE_BUMP)
            world->options.phases[i] = (enum tee_phase)rng_below(rng, 4);
    }
}

// ---- what must hold of the legs by themselves ----

static unsigned ports_on(const struct world *world, vif_slot slot)
{
    unsigned count = 0;
    for (const struct object *o = model_first(world->f.model, OBJECT_PORT, NULL, NULL, false); o != NULL;
         o = model_next(o)) {
        const struct port *port = (const struct port *)o;
        const struct vif *vif = port->vif[0] != '\0' ? model_find_vif(world->f.model, port->vif) : NULL;
        count += vif != NULL && vif->slot == slot;
    }
    return count;
}

// Nobody waits for a vif that others use too, nor makes one wait.
static bool is_shared(const struct world *world, vif_slot slot, bool tagged)
{
    return tagged || ports_on(world, slot) > 1;
}

static void expect_step(const struct world *world, const struct compiled_leg *leg, const struct hop_step *step)
{
    const struct wire *wire = world->wire;
    bool source_shared = is_shared(world, leg->vif, leg->vlan != TABLE_ANY_VLAN && leg->vlan != TABLE_UNTAGGED);
    if (step->kind == HOP_BUMP || step->kind == HOP_END) {
        bool wait = wire->on_full == ON_FULL_WAIT && !source_shared && !is_shared(world, step->vif, step->vlan != 0);
        assert_int_equal(step->wait, wait);
        assert_int_equal(step->stall_ms, step->kind == HOP_END ? wire->stall_ms : wire->tees[step->tag].stall_ms);
    }
    if (step->kind == HOP_TAP)
        assert_int_equal(wire->tees[step->tag].mode, TEE_TAP);
    if (step->kind == HOP_BUMP) {
        assert_int_equal(wire->tees[step->tag].mode, TEE_BUMP);
        assert_int_equal(step->fail_open, wire->tees[step->tag].on_failure == FAIL_OPEN);
    }
    if (step->kind == HOP_END)
        assert_int_equal(step->tag, COMPILE_TAG_NONE);
}

static void expect_whole(const struct world *world)
{
    for (size_t i = 0; i < compiled.leg_count; i++) {
        const struct compiled_leg *leg = &compiled.legs[i];
        const struct hop_program *program = &leg->program;
        assert_in_range(program->step_count, 1, HOP_STEPS_MAX);
        for (uint16_t j = 0; j < program->step_count; j++) {
            const struct hop_step *step = &program->steps[j];
            bool last = step->kind == HOP_END || step->kind == HOP_DROP;
            assert_int_equal(last, j + 1 == program->step_count);
            expect_step(world, leg, step);
        }
        bool end = strcmp(leg->key, "a") == 0 || strcmp(leg->key, "b") == 0;
        assert_int_equal(leg->held, end && world->options.held);
        assert_int_equal(leg->tag == COMPILE_TAG_NONE, end);
        bool alone = ports_on(world, leg->vif) == 1;
        assert_true(leg->vlan == TABLE_ANY_VLAN ? alone : leg->vlan != TABLE_UNTAGGED || !alone);
        for (size_t j = 0; j < i; j++) {
            assert_string_not_equal(leg->key, compiled.legs[j].key);
            assert_false(leg->vif == compiled.legs[j].vif && leg->vlan == compiled.legs[j].vlan);
        }
    }
}

static bool is_monitor(struct place arm)
{
    for (size_t i = 0; i < compiled.monitor_count; i++)
        if (compiled.monitors[i].vif == arm.vif)
            return true;
    return false;
}

static void run_seed(void)
{
    static struct world world;
    struct rng rng = {seed};
    struct deck deck = {.count = 0};
    memset(&world, 0, sizeof(world));
    fixture_open(&world.f);
    make_ports(&world, &rng, &deck);
    make_wire(&world, &rng, &deck);
    make_options(&world, &rng);
    compile_wire(world.f.model, world.wire, &world.options, &compiled);
    expect_whole(&world);

    const struct wire *wire = world.wire;
    size_t sources = 0;
    struct place a = place_of(&world, "default", wire->a);
    struct place b = place_of(&world, "default", wire->b);
    sources += (a.vif != VIF_SLOT_NONE) + (b.vif != VIF_SLOT_NONE);
    expect_walk(&world, "a", a, true, 0);
    expect_walk(&world, "b", b, false, (int)wire->tee_count - 1);
    for (size_t i = 0; i < wire->tee_count; i++) {
        if (wire->tees[i].mode != TEE_BUMP)
            continue;
        struct place arms[2] = {place_of_ref(&world, &wire->tees[i].port),
                                place_of_ref(&world, &wire->tees[i].out_port)};
        for (size_t j = 0; j < 2; j++) {
            if (arms[j].vif == VIF_SLOT_NONE)
                continue;
            if (world.options.phases[i] == PHASE_SETTLING) {
                assert_true(is_monitor(arms[j]));
                continue;
            }
            sources++;
            if (world.options.phases[i] == PHASE_LEAVING) {
                struct trace hops = {0};
                hop_walk(&world, arms[j].vif, arms[j].vlan, &hops);
                assert_int_equal(hops.count, 1);
                assert_int_equal(hops.events[0].reason, DROP_LATE);
            } else {
                expect_walk(&world, wire->tees[i].object.name, arms[j], j == 1, (int)i + (j == 1 ? 1 : -1));
            }
        }
    }
    assert_int_equal(compiled.leg_count, sources);
    fixture_close(&world.f);
}

static void test_property(void **state)
{
    (void)state;
    const char *given = getenv("PATCHBAY_SEED");
    uint64_t first = given != NULL ? strtoull(given, NULL, 10) : 1;
    uint64_t count = given != NULL ? 1 : 4000;
    for (seed = first; seed < first + count; seed++)
        run_seed();
    print_message("# %llu seeds from %llu; PATCHBAY_SEED=N repeats one\n", (unsigned long long)count,
                  (unsigned long long)first);
}

// assert_… name no seed; this does.
static int teardown(void **state)
{
    (void)state;
    if (seed != 0)
        print_message("# the last seed was %llu\n", (unsigned long long)seed);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_property, teardown)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
