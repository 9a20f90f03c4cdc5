// SPDX-License-Identifier: BSD-3-Clause
#include "live.h"

#include "devices.h"

#include <stdlib.h>
#include <string.h>

RB_HEAD(live_tree, live_wire);
static struct live_tree tree = RB_INITIALIZER(&tree);
static struct live_list list = TAILQ_HEAD_INITIALIZER(list);

static int compare_wires(const struct live_wire *a, const struct live_wire *b)
{
    int order = strcmp(a->network, b->network);

    return order != 0 ? order : strcmp(a->name, b->name);
}

RB_GENERATE_INTERNAL(live_tree, live_wire, node, compare_wires, static __attribute__((unused)))

// The same wires as an array, in no order.
static struct live_wire **vector;
static size_t vector_count, vector_room;

const struct live_list *live_wires(void)
{
    return &list;
}

struct live_wire *const *live_vector(size_t *count)
{
    *count = vector_count;
    return vector;
}

static bool add_to_vector(struct live_wire *live)
{
    if (vector_count == vector_room) {
        size_t room = vector_room > 0 ? vector_room * 2 : 64;
        struct live_wire **larger = reallocarray(vector, room, sizeof(*larger));

        if (larger == NULL)
            return false;
        vector = larger;
        vector_room = room;
    }
    live->index = vector_count;
    vector[vector_count++] = live;
    return true;
}

static void remove_from_vector(const struct live_wire *live)
{
    vector[live->index] = vector[--vector_count];
    vector[live->index]->index = live->index;
}

struct live_wire *live_find(const char *network, const char *name)
{
    struct live_wire key;

    strlcpy(key.network, network, sizeof(key.network));
    strlcpy(key.name, name, sizeof(key.name));
    return RB_FIND(live_tree, &tree, &key);
}

struct live_wire *live_create(const struct wire *wire)
{
    struct live_wire *live = calloc(1, sizeof(*live));

    if (live == NULL)
        return NULL;
    live->now = live_empty();
    if (live->now == NULL || !add_to_vector(live)) {
        free(live->now);
        free(live);
        return NULL;
    }
    strlcpy(live->network, wire->object.network, sizeof(live->network));
    strlcpy(live->name, wire->object.name, sizeof(live->name));
    strlcpy(live->uid, wire->object.uid, sizeof(live->uid));
    LIST_INIT(&live->legs);
    totals_init(&live->totals);
    RB_INSERT(live_tree, &tree, live);
    TAILQ_INSERT_TAIL(&list, live, entry);
    return live;
}

void live_hide(struct live_wire *live)
{
    RB_REMOVE(live_tree, &tree, live);
    live->hidden = true;
}

void live_unhide(struct live_wire *live)
{
    live->hidden = false;
    RB_INSERT(live_tree, &tree, live);
}

void live_destroy(struct live_wire *live)
{
    timer_cancel(&live->late_end);
    live_release(live, live->now);
    totals_clear(&live->totals);
    if (!live->hidden)
        RB_REMOVE(live_tree, &tree, live);
    TAILQ_REMOVE(&list, live, entry);
    remove_from_vector(live);
    free(live);
}

// ---- sets ----

struct live_set *live_empty(void)
{
    return live_open(0, 0, 0);
}

static void destroy_leg(struct live_leg *leg)
{
    struct leg_count count;

    if (leg->leg != NULL && leg->account != NULL) {
        leg_read(leg->leg, &count);
        totals_fold(leg->account, &count);
    }
    leg_destroy(leg->leg);
    totals_close(leg->account);
    LIST_REMOVE(leg, entry);
    free(leg->program);
    free(leg);
}

static void unref_leg(struct live_leg *leg)
{
    if (--leg->refs == 0)
        destroy_leg(leg);
}

void live_release(struct live_wire *live, struct live_set *set)
{
    (void)live;
    if (set == NULL)
        return;
    for (size_t i = 0; i < set->count; i++)
        unref_leg(set->items[i].leg);
    free(set);
}

// One block: the arrays stand behind the set, so that building a table, which
// visits every wire's set, finds both in the same place.
struct live_set *live_open(size_t items, size_t monitors, size_t bumps)
{
    struct live_set *set = calloc(1, sizeof(*set) + items * sizeof(set->items[0]) +
                                         monitors * sizeof(set->monitors[0]) + bumps * sizeof(set->bumps[0]));

    if (set == NULL)
        return NULL;
    set->items = (struct live_item *)(set + 1);
    set->monitors = (struct compiled_monitor *)(set->items + items);
    set->bumps = (struct live_bump *)(set->monitors + monitors);
    return set;
}

void live_add(struct live_set *set, struct live_leg *leg, bool held)
{
    leg->refs++;
    set->items[set->count++] = (struct live_item){
        .leg = leg, .handle = leg->leg, .vif = leg->vif, .vlan = leg->vlan, .held = held, .late = leg->late};
}

static struct live_set *copy_set(const struct live_set *from, bool hold, bool late)
{
    struct live_set *set = live_open(from->count, from->monitor_count, from->bump_count);

    if (set == NULL)
        return NULL;
    for (size_t i = 0; i < from->count; i++) {
        struct live_leg *leg = from->items[i].leg;

        if (late || !leg->late)
            live_add(set, leg, hold && leg->source[0] == '\0');
    }
    if (from->monitor_count > 0)
        memcpy(set->monitors, from->monitors, from->monitor_count * sizeof(set->monitors[0]));
    if (from->bump_count > 0)
        memcpy(set->bumps, from->bumps, from->bump_count * sizeof(set->bumps[0]));
    set->monitor_count = from->monitor_count;
    set->bump_count = from->bump_count;
    return set;
}

struct live_set *live_hold(const struct live_wire *live)
{
    return copy_set(live->now, true, true);
}

struct live_set *live_without_late(const struct live_wire *live)
{
    return copy_set(live->now, false, false);
}

bool live_sets_equal(const struct live_set *one, const struct live_set *other)
{
    if (one->count != other->count || one->monitor_count != other->monitor_count ||
        one->bump_count != other->bump_count)
        return false;
    for (size_t i = 0; i < one->count; i++)
        if (one->items[i].leg != other->items[i].leg || one->items[i].held != other->items[i].held)
            return false;
    for (size_t i = 0; i < one->monitor_count; i++)
        if (one->monitors[i].vif != other->monitors[i].vif || one->monitors[i].vlan != other->monitors[i].vlan)
            return false;
    return true;
}

// ---- bumps ----

static bool arms_equal(const struct live_bump *one, const struct live_bump *other)
{
    for (int i = 0; i < 2; i++)
        if (one->arms[i].vif != other->arms[i].vif || one->arms[i].vlan != other->arms[i].vlan)
            return false;
    return true;
}

static int find_bump(const struct live_set *set, const struct live_bump *bump)
{
    for (size_t i = 0; i < set->bump_count; i++)
        if (strcmp(set->bumps[i].uid, bump->uid) == 0 && arms_equal(&set->bumps[i], bump))
            return (int)i;
    return -1;
}

bool live_bump_stays(const struct live_bump *bump, const struct live_set *to)
{
    return find_bump(to, bump) >= 0;
}

bool live_has_entering(const struct live_set *from, const struct live_set *to)
{
    for (size_t i = 0; i < to->bump_count; i++)
        if (!live_bump_stays(&to->bumps[i], from))
            return true;
    return false;
}

bool live_has_leaving(const struct live_set *from, const struct live_set *to)
{
    int last = -1;

    for (size_t i = 0; i < from->bump_count; i++) {
        int at = find_bump(to, &from->bumps[i]);

        if (at < last) // gone (-1), or overtaken
            return true;
        last = at;
        if (at < 0)
            return true;
    }
    return false;
}

bool live_set_names(const struct live_set *set, vif_slot vif)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct hop_program *program = set->items[i].leg->program;

        if (set->items[i].leg->vif == vif)
            return true;
        for (uint16_t j = 0; j < program->step_count; j++) {
            const struct hop_step *step = &program->steps[j];

            if (step->kind != HOP_DROP && (step->vif == vif || (step->kind == HOP_BUMP && step->other == vif)))
                return true;
        }
    }
    for (size_t i = 0; i < set->monitor_count; i++)
        if (set->monitors[i].vif == vif)
            return true;
    return false;
}

// ---- reading ----

void live_read(struct live_wire *live)
{
    const struct live_leg *leg;
    struct leg_count count;

    totals_reset(&live->totals);
    LIST_FOREACH(leg, &live->legs, entry)
    {
        leg_read(leg->leg, &count);
        totals_show(leg->account, &count);
    }
}

// What a vif sent that no leg got.
static uint64_t count_discarded(vif_slot vif)
{
    struct vif_count count;

    if (vif == VIF_SLOT_NONE || !device_usable(vif) || !vif_read_count(vif, &count))
        return 0;
    return count.discarded[VIF_DISCARD_MONITOR] + count.discarded[VIF_DISCARD_UNWIRED];
}

uint64_t live_received_from_arms(const struct live_wire *live, const struct live_set *next)
{
    uint64_t frames = 0;

    for (size_t i = 0; next != NULL && i < next->bump_count; i++)
        if (!live_bump_stays(&next->bumps[i], live->now))
            frames += count_discarded(next->bumps[i].arms[0].vif) + count_discarded(next->bumps[i].arms[1].vif);

    for (size_t i = 0; i < live->now->count; i++) {
        const struct live_leg *leg = live->now->items[i].leg;
        struct leg_count count;

        if (leg->source[0] == '\0' || leg->late)
            continue;
        leg_read(leg->leg, &count);
        frames += count.received.frames;
    }
    return frames;
}

bool live_has_late(const struct live_set *set, vif_slot vif)
{
    for (size_t i = 0; i < set->count; i++)
        if (set->items[i].late && (vif == VIF_SLOT_NONE || set->items[i].vif == vif))
            return true;
    return false;
}

bool live_must_settle(const struct live_wire *live, const struct live_set *to)
{
    for (size_t i = 0; i < to->bump_count; i++) {
        if (live_bump_stays(&to->bumps[i], live->now))
            continue;
        for (int arm = 0; arm < 2; arm++) {
            vif_slot vif = to->bumps[i].arms[arm].vif;
            const struct device *device = vif != VIF_SLOT_NONE && device_usable(vif) ? device_find(vif) : NULL;

            if (device == NULL)
                continue;
            if (device->monitors > 0 || clock_now() < device->monitor_until)
                return true;
            if (live->unreturned > 0 && live_has_late(live->now, vif))
                return true;
        }
    }
    return false;
}

static void note_monitors(const struct live_set *set, int by)
{
    for (size_t i = 0; i < set->monitor_count; i++) {
        struct device *device = device_find(set->monitors[i].vif);

        if (device == NULL)
            continue;
        device->monitors += by;
        if (by < 0)
            device->monitor_until = clock_now() + (uint64_t)LATE_WATCH_MS * 1000000;
    }
}

void live_note_monitors(const struct live_set *from, const struct live_set *to)
{
    note_monitors(from, -1);
    note_monitors(to, 1);
}

void live_note_entering(struct live_wire *live, const struct live_set *to)
{
    bool read = false;

    for (size_t i = 0; i < to->bump_count; i++) {
        struct tee_total *tee = totals_find_tee(&live->totals, to->bumps[i].uid);

        if (tee == NULL || live_bump_stays(&to->bumps[i], live->now))
            continue;
        if (!read)
            live_read(live);
        read = true;
        tee->into_before = tee->shown.into.frames;
        tee->out_before = tee->shown.out.frames;
    }
}

uint64_t live_unreturned(struct live_wire *live, const struct live_set *from)
{
    uint64_t unreturned = 0;

    live_read(live);
    for (size_t i = 0; i < from->bump_count; i++) {
        const struct tee_total *tee = totals_find_tee(&live->totals, from->bumps[i].uid);
        uint64_t into, out;

        if (tee == NULL || live_bump_stays(&from->bumps[i], live->now))
            continue;
        into = tee->shown.into.frames - tee->into_before;
        out = tee->shown.out.frames - tee->out_before;
        unreturned += into > out ? into - out : 0;
    }
    return unreturned;
}
