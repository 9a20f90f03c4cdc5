// SPDX-License-Identifier: BSD-3-Clause
#include "totals.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#define KEY_REMOVED "removed"

// A wire of 16 Ts has at most 34 legs; above this, those of removed Ts become one.
enum { KEYS_KEPT = 64 };

void totals_init(struct totals *totals)
{
    TAILQ_INIT(&totals->legs);
    TAILQ_INIT(&totals->tees);
}

static void free_leg_total(struct leg_total *total)
{
    struct to_total *to;

    while ((to = TAILQ_FIRST(&total->to)) != NULL) {
        TAILQ_REMOVE(&total->to, to, entry);
        free(to);
    }
    free(total);
}

void totals_clear(struct totals *totals)
{
    struct leg_total *leg;
    struct tee_total *tee;

    while ((leg = TAILQ_FIRST(&totals->legs)) != NULL) {
        TAILQ_REMOVE(&totals->legs, leg, entry);
        free_leg_total(leg);
    }
    while ((tee = TAILQ_FIRST(&totals->tees)) != NULL) {
        TAILQ_REMOVE(&totals->tees, tee, entry);
        free(tee);
    }
}

static struct leg_total *get_leg(struct totals *totals, const char *key, enum leg_direction direction)
{
    struct leg_total *leg;

    TAILQ_FOREACH(leg, &totals->legs, entry)
    if (leg->direction == direction && strcmp(leg->key, key) == 0)
        return leg;
    leg = calloc(1, sizeof(*leg));
    if (leg == NULL)
        return NULL;
    strlcpy(leg->key, key, sizeof(leg->key));
    leg->direction = direction;
    TAILQ_INIT(&leg->to);
    TAILQ_INSERT_TAIL(&totals->legs, leg, entry);
    return leg;
}

static struct to_total *get_to(struct leg_total *leg, const char *key)
{
    struct to_total *to;

    TAILQ_FOREACH(to, &leg->to, entry)
    if (strcmp(to->key, key) == 0)
        return to;
    to = calloc(1, sizeof(*to));
    if (to == NULL)
        return NULL;
    strlcpy(to->key, key, sizeof(to->key));
    TAILQ_INSERT_TAIL(&leg->to, to, entry);
    return to;
}

struct tee_total *totals_find_tee(const struct totals *totals, const char *uid)
{
    struct tee_total *tee;

    TAILQ_FOREACH(tee, &totals->tees, entry)
    if (strcmp(tee->uid, uid) == 0)
        return tee;
    return NULL;
}

static struct tee_total *get_tee(struct totals *totals, const char *uid)
{
    struct tee_total *tee = totals_find_tee(totals, uid);

    if (tee != NULL)
        return tee;
    tee = calloc(1, sizeof(*tee));
    if (tee == NULL)
        return NULL;
    strlcpy(tee->uid, uid, sizeof(tee->uid));
    TAILQ_INSERT_TAIL(&totals->tees, tee, entry);
    return tee;
}

static bool open_step(struct totals *totals, const struct wire *wire, const struct compiled_leg *leg, uint16_t index,
                      struct leg_account *account)
{
    const struct hop_step *step = &leg->program.steps[index];
    struct step_account *entry = &account->steps[index];
    char key[COMPILE_KEY_SIZE];

    if (step->kind == HOP_BUMP || step->kind == HOP_END) {
        compile_step_name(wire, leg->direction, step, key);
        entry->to = get_to(account->total, key);
        if (entry->to == NULL)
            return false;
    }
    if ((step->kind == HOP_BUMP || step->kind == HOP_TAP) && step->tag < wire->tee_count) {
        entry->tee = get_tee(totals, wire->tees[step->tag].object.uid);
        if (entry->tee == NULL)
            return false;
        entry->tee->refs++;
    }
    return true;
}

struct leg_account *totals_open(struct totals *totals, const struct wire *wire, const struct compiled_leg *leg,
                                const char *source_uid, bool late)
{
    uint16_t count = leg->program.step_count;
    struct leg_account *account = calloc(1, sizeof(*account) + count * sizeof(account->steps[0]));

    if (account == NULL)
        return NULL;
    account->late = late;
    account->step_count = count;
    account->total = get_leg(totals, leg->key, leg->direction);
    if (account->total == NULL) {
        free(account);
        return NULL;
    }
    account->total->refs++;
    if (source_uid[0] != '\0') {
        account->source = get_tee(totals, source_uid);
        if (account->source == NULL)
            goto fail;
        account->source->refs++;
    }
    for (uint16_t i = 0; i < count; i++)
        if (!open_step(totals, wire, leg, i, account))
            goto fail;
    return account;
fail:
    totals_close(account);
    return NULL;
}

void totals_close(struct leg_account *account)
{
    if (account == NULL)
        return;
    account->total->refs--;
    if (account->source != NULL)
        account->source->refs--;
    for (uint16_t i = 0; i < account->step_count; i++)
        if (account->steps[i].tee != NULL)
            account->steps[i].tee->refs--;
    free(account);
}

static void add_frames(struct frame_count *sum, const struct frame_count *more)
{
    sum->frames += more->frames;
    sum->bytes += more->bytes;
}

static void add_segments(struct segment_count *sum, const struct segment_count *more)
{
    sum->frames += more->frames;
    sum->segments += more->segments;
}

static void add_tap(struct tap_count *sum, const struct tap_count *more)
{
    sum->offered += more->offered;
    add_frames(&sum->copied, &more->copied);
    add_segments(&sum->segmented, &more->segmented);
    for (size_t i = 0; i < TAP_DROP_REASON_COUNT; i++)
        sum->dropped[i] += more->dropped[i];
}

// The one sum, into base or into shown.
static void add_up(const struct leg_account *account, const struct leg_count *count, bool shown)
{
    struct leg_sum *leg = shown ? &account->total->shown : &account->total->base;
    struct tee_sum *source = account->source == NULL ? NULL : shown ? &account->source->shown : &account->source->base;

    add_frames(&leg->received, &count->received);
    for (size_t i = 0; i < DROP_REASON_COUNT; i++)
        leg->dropped[i] += count->dropped[i];
    if (source != NULL && account->late)
        source->late += count->dropped[DROP_LATE];
    else if (source != NULL)
        add_frames(&source->out, &count->received);
    for (uint16_t i = 0; i < account->step_count && i < count->step_count; i++) {
        const struct step_account *entry = &account->steps[i];
        const struct step_count *step = &count->steps[i];
        struct tee_sum *tee = entry->tee == NULL ? NULL : shown ? &entry->tee->shown : &entry->tee->base;

        if (entry->to != NULL) {
            add_frames(shown ? &entry->to->shown : &entry->to->base, &step->delivered);
            add_segments(shown ? &entry->to->segmented : &entry->to->segmented_base, &step->segmented);
        }
        if (tee != NULL && step->kind == HOP_BUMP)
            add_frames(&tee->into, &step->delivered);
        else if (tee != NULL)
            add_tap(&tee->tap, &step->tap);
    }
}

void totals_fold(const struct leg_account *account, const struct leg_count *count)
{
    add_up(account, count, false);
}

void totals_show(const struct leg_account *account, const struct leg_count *count)
{
    add_up(account, count, true);
}

void totals_reset(struct totals *totals)
{
    struct leg_total *leg;
    struct tee_total *tee;
    struct to_total *to;

    TAILQ_FOREACH(leg, &totals->legs, entry)
    {
        leg->shown = leg->base;
        TAILQ_FOREACH(to, &leg->to, entry)
        {
            to->shown = to->base;
            to->segmented = to->segmented_base;
        }
    }
    TAILQ_FOREACH(tee, &totals->tees, entry)
    tee->shown = tee->base;
}

uint64_t totals_late(const struct totals *totals)
{
    const struct leg_total *leg;
    uint64_t late = 0;

    TAILQ_FOREACH(leg, &totals->legs, entry)
    late += leg->shown.dropped[DROP_LATE];
    return late;
}

// Moves a leg's frames under the common key. Without memory it stays as it is.
static void merge_leg(struct totals *totals, struct leg_total *leg)
{
    struct leg_total *common = get_leg(totals, KEY_REMOVED, leg->direction);
    struct to_total *to, *into;

    if (common == NULL || common == leg)
        return;
    TAILQ_FOREACH(to, &leg->to, entry)
    if (get_to(common, to->key) == NULL)
        return;
    add_frames(&common->base.received, &leg->base.received);
    for (size_t i = 0; i < DROP_REASON_COUNT; i++)
        common->base.dropped[i] += leg->base.dropped[i];
    TAILQ_FOREACH(to, &leg->to, entry)
    {
        into = get_to(common, to->key);
        add_frames(&into->base, &to->base);
        add_segments(&into->segmented_base, &to->segmented_base);
    }
    TAILQ_REMOVE(&totals->legs, leg, entry);
    free_leg_total(leg);
}

// Only legs whose T is gone are asked, and none of them sends any more: all
// places but the ends and the arms of Ts that are there become one.
static void merge_places(struct leg_total *leg, const struct wire *wire)
{
    struct to_total *to, *next, *common;

    common = get_to(leg, KEY_REMOVED);
    if (common == NULL)
        return;
    TAILQ_FOREACH_SAFE(to, &leg->to, entry, next)
    {
        char name[COMPILE_KEY_SIZE];
        char *dot;

        strlcpy(name, to->key, sizeof(name));
        dot = strrchr(name, '.');
        if (to == common || dot == NULL)
            continue;
        *dot = '\0';
        if (wire_find_tee(wire, name) >= 0)
            continue;
        add_frames(&common->base, &to->base);
        add_segments(&common->segmented_base, &to->segmented_base);
        TAILQ_REMOVE(&leg->to, to, entry);
        free(to);
    }
}

static bool has_tee(const struct wire *wire, const char *uid)
{
    for (size_t i = 0; i < wire->tee_count; i++)
        if (strcmp(wire->tees[i].object.uid, uid) == 0)
            return true;
    return false;
}

void totals_prune(struct totals *totals, const struct wire *wire)
{
    struct leg_total *leg, *next_leg;
    struct tee_total *tee, *next_tee;
    size_t legs = 0;

    TAILQ_FOREACH_SAFE(tee, &totals->tees, entry, next_tee)
    {
        if (tee->refs > 0 || has_tee(wire, tee->uid))
            continue;
        TAILQ_REMOVE(&totals->tees, tee, entry);
        free(tee);
    }
    TAILQ_FOREACH_SAFE(leg, &totals->legs, entry, next_leg)
    {
        size_t places = 0;
        const struct to_total *to;

        if (++legs > KEYS_KEPT && leg->refs == 0) {
            merge_leg(totals, leg);
            continue;
        }
        TAILQ_FOREACH(to, &leg->to, entry)
        places++;
        if (places > KEYS_KEPT)
            merge_places(leg, wire);
    }
}
