// SPDX-License-Identifier: BSD-3-Clause
#include "wishes.h"

#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

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

// ---- the list ----

static int add_wish(struct wish_list *wishes, const struct object *wire, const struct command_options *options)
{
    struct drain_wish *wish;

    if (wishes->count == wishes->room) {
        size_t room = wishes->room > 0 ? wishes->room * 2 : 8;
        struct drain_wish *larger = reallocarray(wishes->items, room, sizeof(*larger));

        if (larger == NULL)
            return -ENOMEM;
        wishes->items = larger;
        wishes->room = room;
    }
    wish = &wishes->items[wishes->count];
    strlcpy(wish->network, wire->network, sizeof(wish->network));
    strlcpy(wish->name, wire->name, sizeof(wish->name));
    wish->order = wishes->count++;
    wish->quiet_ms = options->quiet_ms;
    wish->drain_ms = options->drain_ms;
    wish->given = options->drain_given;
    return 0;
}

// Does the step put a bump in or take one out? Of a new wire that matters only if the request says how: its bumps wait
// for silence where an arm was a monitor.
static bool is_concerned(const struct wire *old, const struct wire *new, const struct command_options *options)
{
    if (new == NULL || (old == NULL && !options->drain_given))
        return false;
    for (size_t i = 0; old == NULL && i < new->tee_count; i++)
        if (new->tees[i].mode == TEE_BUMP)
            return true;
    return old != NULL && (takes_out(old, new) || puts_in(old, new));
}

int wishes_note(const struct model_change *change, struct model_mark mark, struct command *command,
                struct wish_list *wishes)
{
    size_t cursor = 0;

    for (size_t i = mark.record_count; i < change->record_count; i++) {
        const struct object *old = change->records[i].old, *new = change->records[i].new;
        const struct command_options *options =
            command->batch != NULL ? batch_options(command->batch, i, &cursor, &command->options) : &command->options;

        if ((old != NULL ? old : new)->kind != OBJECT_WIRE ||
            !is_concerned((const struct wire *)old, (const struct wire *)new, options))
            continue;
        if (add_wish(wishes, new, options) != 0)
            return -ENOMEM;
        if (command->batch != NULL && options->wait_seconds > 0 && batch_note_wait(command->batch, new) != 0)
            return -ENOMEM;
    }
    return 0;
}

static int compare(const void *one, const void *other)
{
    const struct drain_wish *x = one, *y = other;
    int order = strcmp(x->name, y->name);

    return order != 0 ? order : strcmp(x->network, y->network);
}

// What counts comes last.
static int compare_all(const void *one, const void *other)
{
    const struct drain_wish *x = one, *y = other;
    int order = compare(one, other);

    if (order == 0 && x->given != y->given)
        order = x->given ? 1 : -1;
    return order != 0 ? order : x->order < y->order ? -1 : 1;
}

static void sort(struct wish_list *wishes)
{
    size_t kept = 0;

    qsort(wishes->items, wishes->count, sizeof(wishes->items[0]), compare_all);
    for (size_t i = 0; i < wishes->count; i++) {
        if (i + 1 < wishes->count && compare(&wishes->items[i], &wishes->items[i + 1]) == 0)
            continue;
        wishes->items[kept] = wishes->items[i];
        // Later ones have higher numbers.
        wishes->items[kept].order = kept;
        kept++;
    }
    wishes->count = wishes->sorted = kept;
}

const struct drain_wish *wishes_find(struct wish_list *wishes, const struct wire_name *name)
{
    struct drain_wish key;

    if (wishes->count == 0)
        return NULL;
    if (wishes->sorted < wishes->count)
        sort(wishes);
    strlcpy(key.network, name->network, sizeof(key.network));
    strlcpy(key.name, name->name, sizeof(key.name));
    return bsearch(&key, wishes->items, wishes->count, sizeof(key), compare);
}

void wishes_clear(struct wish_list *wishes)
{
    free(wishes->items);
    *wishes = (struct wish_list){0};
}
