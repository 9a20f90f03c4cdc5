// SPDX-License-Identifier: BSD-3-Clause
#include "event_state.h"

#include "control.h"
#include "event_log.h"
#include "loop.h"

#include <stdlib.h>
#include <string.h>
#include <sys/tree.h>

enum { PAUSE_NS = 100000000 };

enum what { WHAT_VIF, WHAT_WIRE, WHAT_BUMP };

// What was told last of one object.
struct told {
    RB_ENTRY(told) node;
    enum what what;
    char uid[37];
    char network[LIMIT_NAME_LEN + 1]; // "" of a vif
    char name[LIMIT_NAME_LEN + 1];    // of the vif or the wire
    char tee[LIMIT_NAME_LEN + 1];     // "" but of a bump
    enum status_state state;
    uint32_t reason;  // its hash: the text is told, not kept
    bool known;       // its first state was told
    uint64_t at;      // when news of it was told last, clock_now; 0: never
    unsigned skipped; // changes since that were not told
    struct timer pause;
};

RB_HEAD(told_tree, told);
static struct told_tree told_tree = RB_INITIALIZER(&told_tree);

static int compare_told(const struct told *a, const struct told *b)
{
    return strcmp(a->uid, b->uid);
}

RB_GENERATE_INTERNAL(told_tree, told, node, compare_told, static __attribute__((unused)))

// FNV-1a.
static uint32_t hash(const char *text)
{
    uint32_t value = 2166136261u;

    for (; *text != '\0'; text++)
        value = (value ^ (unsigned char)*text) * 16777619u;
    return value;
}

static struct told *find(const char *uid)
{
    struct told key;

    strlcpy(key.uid, uid, sizeof(key.uid));
    return RB_FIND(told_tree, &told_tree, &key);
}

static struct told *find_or_add(const char *uid, enum what what, const char *network, const char *name, const char *tee)
{
    struct told *told = find(uid);

    if (told != NULL)
        return told;
    told = calloc(1, sizeof(*told));
    // Without memory the event is late: the next look tries again.
    if (told == NULL)
        return NULL;
    told->what = what;
    strlcpy(told->uid, uid, sizeof(told->uid));
    strlcpy(told->network, network, sizeof(told->network));
    strlcpy(told->name, name, sizeof(told->name));
    strlcpy(told->tee, tee, sizeof(told->tee));
    // Of a bump only the failure is news, not that it is sound from the first.
    told->state = what == WHAT_BUMP ? STATUS_UP : STATUS_OFF;
    told->known = what == WHAT_BUMP;
    told->reason = hash("");
    RB_INSERT(told_tree, &told_tree, told);
    return told;
}

static void tell(struct told *told, const struct status *status, const char *on_failure)
{
    char reason[2 * LIMIT_REASON_LEN];
    const char *state = status_name(status->state);

    event_log_escape(status->reason, reason, sizeof(reason));
    switch (told->what) {
    case WHAT_VIF:
        event_log_add("vif_link", "\"vif\":\"%s\",\"uid\":\"%s\",\"state\":\"%s\",\"reason\":\"%s\",\"skipped\":%u",
                      told->name, told->uid, state, reason, told->skipped);
        break;
    case WHAT_WIRE:
        event_log_add("wire_state",
                      "\"network\":\"%s\",\"wire\":\"%s\",\"uid\":\"%s\",\"state\":\"%s\",\"reason\":\"%s\","
                      "\"skipped\":%u",
                      told->network, told->name, told->uid, state, reason, told->skipped);
        break;
    case WHAT_BUMP:
        event_log_add(status->state == STATUS_UP ? "bump_recovered" : "bump_failed",
                      "\"network\":\"%s\",\"wire\":\"%s\",\"tee\":\"%s\",\"uid\":\"%s\",\"on_failure\":\"%s\","
                      "\"reason\":\"%s\",\"skipped\":%u",
                      told->network, told->name, told->tee, told->uid, on_failure, reason, told->skipped);
        break;
    }
    told->state = status->state;
    told->reason = hash(status->reason);
    // What a new object begins with is no change: the first of these is told at once, in the order of causes.
    told->at = told->known ? clock_now() : 0;
    told->known = true;
    told->skipped = 0;
}

// The pause is over: what is the state by now?
static void look_again(void *arg)
{
    const struct told *told = arg;
    const struct vif *vif;
    const struct wire *wire;

    if (told->what == WHAT_VIF) {
        vif = model_find_vif(control.model, told->name);
        if (vif != NULL && strcmp(vif->object.uid, told->uid) == 0)
            status_refresh_vif_alone(vif);
        return;
    }
    wire = model_find_wire(control.model, told->network, told->name);
    if (wire != NULL)
        status_refresh_wire(wire);
}

static void look(struct told *told, const struct status *status, const char *on_failure)
{
    uint64_t now = clock_now();

    if (told == NULL)
        return;
    // Of a bump that has failed, another reason is no news.
    if (told->state == status->state && (told->what == WHAT_BUMP || told->reason == hash(status->reason)))
        return;
    if (told->at != 0 && now - told->at < PAUSE_NS) {
        told->skipped++;
        if (!told->pause.armed)
            timer_arm(&told->pause, told->at + PAUSE_NS, look_again, told);
        return;
    }
    tell(told, status, on_failure);
}

void event_state_vif(const struct vif *vif, const struct status *status)
{
    look(find_or_add(vif->object.uid, WHAT_VIF, "", vif->object.name, ""), status, NULL);
}

void event_state_wire(const struct wire *wire, const struct status *status)
{
    look(find_or_add(wire->object.uid, WHAT_WIRE, wire->object.network, wire->object.name, ""), status, NULL);
}

void event_state_tee(const struct wire *wire, const struct tee *tee, const struct status *status)
{
    struct told *told;

    if (tee->mode != TEE_BUMP) {
        event_state_forget(tee->object.uid);
        return;
    }
    told = find_or_add(tee->object.uid, WHAT_BUMP, wire->object.network, wire->object.name, tee->object.name);
    look(told, status, tee->on_failure == FAIL_CLOSED ? "closed" : "open");
}

static void free_told(struct told *told)
{
    timer_cancel(&told->pause);
    RB_REMOVE(told_tree, &told_tree, told);
    free(told);
}

void event_state_forget(const char *uid)
{
    struct told *told = find(uid);

    if (told != NULL)
        free_told(told);
}

void event_state_stop(void)
{
    struct told *told;

    while ((told = RB_MIN(told_tree, &told_tree)) != NULL)
        free_told(told);
}
