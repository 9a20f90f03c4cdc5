// SPDX-License-Identifier: BSD-3-Clause
#include "metrics_snapshot.h"

#include "control.h"
#include "devices.h"
#include "metrics_text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const direction_names[] = {[LEG_A_TO_B] = "a_to_b", [LEG_B_TO_A] = "b_to_a"};

// Room for one more at the end of a list; its items move.
static bool grow(void **items, size_t count, size_t *room, size_t size)
{
    size_t larger = *room > 0 ? 2 * *room : 64;
    void *moved;

    if (count < *room)
        return true;
    moved = reallocarray(*items, larger, size);
    if (moved == NULL)
        return false;
    *items = moved;
    *room = larger;
    return true;
}

// The next item of a list, zeroed; NULL without memory.
#define ADD(list)                                                                        \
    (grow((void **)&(list)->items, (list)->count, &(list)->room, sizeof(*(list)->items)) \
         ? memset(&(list)->items[(list)->count++], 0, sizeof(*(list)->items))            \
         : NULL)

__attribute__((format(printf, 1, 2))) static char *format_labels(const char *format, ...)
{
    va_list args;
    char *labels;
    int len;

    va_start(args, format);
    len = vasprintf(&labels, format, args);
    va_end(args);
    return len < 0 ? NULL : labels;
}

static void add_leg(struct metrics_frames *frames, const struct leg_total *leg)
{
    const struct to_total *to;

    frames->received += leg->shown.received.frames;
    frames->received_bytes += leg->shown.received.bytes;
    TAILQ_FOREACH(to, &leg->to, entry)
    {
        frames->delivered += to->shown.frames;
        frames->delivered_bytes += to->shown.bytes;
        frames->segmented.frames += to->segmented.frames;
        frames->segmented.segments += to->segmented.segments;
    }
    for (size_t i = 0; i < DROP_REASON_COUNT; i++)
        frames->dropped[i] += leg->shown.dropped[i];
}

// The places that a leg delivers to; labels: the leg's.
static int add_places(struct metrics_snapshot *snapshot, const struct leg_total *leg, const char *labels)
{
    const struct to_total *to;

    TAILQ_FOREACH(to, &leg->to, entry)
    {
        struct metrics_to *shown = ADD(&snapshot->tos);

        if (shown == NULL)
            return -ENOMEM;
        shown->delivered = to->shown;
        shown->segmented = to->segmented;
        shown->labels = format_labels("%s,to=\"%s\"", labels, to->key);
        if (shown->labels == NULL)
            return -ENOMEM;
    }
    return 0;
}

static int add_legs(struct metrics_snapshot *snapshot, struct metrics_wire *entry, const struct wire *wire,
                    const struct totals *totals)
{
    const struct leg_total *leg;

    TAILQ_FOREACH(leg, &totals->legs, entry)
    {
        struct metrics_leg *shown;

        add_leg(&entry->directions[leg->direction], leg);
        if (!snapshot->detail || (leg->refs == 0 && leg->shown.received.frames == 0))
            continue;
        shown = ADD(&snapshot->legs);
        if (shown == NULL)
            return -ENOMEM;
        add_leg(&shown->frames, leg);
        shown->labels =
            format_labels("network=\"%s\",wire=\"%s\",uid=\"%s\",direction=\"%s\",from=\"%s\"", wire->object.network,
                          wire->object.name, wire->object.uid, direction_names[leg->direction], leg->key);
        if (shown->labels == NULL || add_places(snapshot, leg, shown->labels) != 0)
            return -ENOMEM;
    }
    return 0;
}

static int add_tee(struct metrics_snapshot *snapshot, const struct wire *wire, const struct tee *tee,
                   const struct totals *totals)
{
    const struct tee_total *total = totals != NULL ? totals_find_tee(totals, tee->object.uid) : NULL;
    struct metrics_tee *entry = ADD(&snapshot->tees);
    struct status status;

    if (entry == NULL)
        return -ENOMEM;
    status_of_tee(tee, &status);
    entry->mode = tee->mode;
    entry->up = status.state == STATUS_UP;
    if (total != NULL)
        entry->sum = total->shown;
    entry->labels = format_labels("network=\"%s\",wire=\"%s\",tee=\"%s\",uid=\"%s\"", wire->object.network,
                                  wire->object.name, tee->object.name, tee->object.uid);
    return entry->labels != NULL ? 0 : -ENOMEM;
}

int metrics_snapshot_wire(struct metrics_snapshot *snapshot, const struct wire *wire)
{
    struct live_wire *live = live_find(wire->object.network, wire->object.name);
    struct metrics_wire *entry = ADD(&snapshot->wires);
    struct status status;
    int error = 0;

    if (entry == NULL)
        return -ENOMEM;
    // One that is gone may have left a live wire of its name for a moment.
    if (live != NULL && strcmp(live->uid, wire->object.uid) != 0)
        live = NULL;
    status_of_wire(wire, &status);
    entry->up = status.state == STATUS_UP;
    entry->labels = format_labels("network=\"%s\",wire=\"%s\",uid=\"%s\"", wire->object.network, wire->object.name,
                                  wire->object.uid);
    if (entry->labels == NULL)
        return -ENOMEM;
    if (live != NULL) {
        live_read(live);
        error = add_legs(snapshot, entry, wire, &live->totals);
    }
    for (size_t i = 0; i < wire->tee_count && error == 0; i++)
        error = add_tee(snapshot, wire, &wire->tees[i], live != NULL ? &live->totals : NULL);
    return error;
}

int metrics_snapshot_vif(struct metrics_snapshot *snapshot, const struct vif *vif)
{
    struct metrics_vif *entry = ADD(&snapshot->vifs);
    struct status status;

    if (entry == NULL)
        return -ENOMEM;
    status_of_vif(vif, &status);
    entry->slot = vif->slot;
    entry->up = status.state == STATUS_UP;
    entry->labels = format_labels("vif=\"%s\",uid=\"%s\"", vif->object.name, vif->object.uid);
    // Without a device all are zero.
    if (device_usable(vif->slot))
        vif_read_count(vif->slot, &entry->count);
    return entry->labels != NULL ? 0 : -ENOMEM;
}

#define FREE(list)                                 \
    do {                                           \
        for (size_t i = 0; i < (list)->count; i++) \
            free((list)->items[i].labels);         \
        free((list)->items);                       \
    } while (0)

void metrics_snapshot_free(struct metrics_snapshot *snapshot)
{
    FREE(&snapshot->wires);
    FREE(&snapshot->tees);
    FREE(&snapshot->legs);
    FREE(&snapshot->tos);
    FREE(&snapshot->vifs);
}
