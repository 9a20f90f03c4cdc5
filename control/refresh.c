// SPDX-License-Identifier: BSD-3-Clause
#include "refresh.h"

#include "control.h"
#include "events.h"
#include "status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// What is kept of an object until its version may be gone.
struct item {
    enum object_kind kind;
    struct wire_name name;
};

static struct item *items;
static size_t count, room;

static int note(const struct object *object)
{
    if (count == room) {
        size_t larger = room > 0 ? room * 2 : 16;
        struct item *more = reallocarray(items, larger, sizeof(*more));

        if (more == NULL)
            return -ENOMEM;
        items = more;
        room = larger;
    }
    items[count].kind = object->kind;
    strlcpy(items[count].name.network, object->network, sizeof(items[count].name.network));
    strlcpy(items[count].name.name, object->name, sizeof(items[count].name.name));
    count++;
    return 0;
}

// A vif's own state is known by its device's events; only what it is told to be is in the model.
static bool switches_vif(const struct model_record *record)
{
    return record->old != NULL && record->new != NULL && record->new->kind == OBJECT_VIF &&
           ((const struct vif *)record->old)->admin != ((const struct vif *)record->new)->admin;
}

int refresh_collect(const struct model_change *change)
{
    int error = 0;

    for (size_t i = 0; i < change->record_count && error == 0; i++) {
        const struct model_record *record = &change->records[i];

        if ((record->new != NULL && record->new->kind == OBJECT_PORT) || switches_vif(record))
            error = note(record->new);
    }
    return error;
}

static void refresh_vif(const char *name)
{
    const struct vif *vif = model_find_vif(control.model, name);
    const struct use *use;

    if (vif != NULL)
        status_refresh_vif_alone(vif);
    for (use = model_first_use(control.model, OBJECT_VIF, "", name); use != NULL; use = model_next_use(use))
        status_refresh_port((const struct port *)use->user);
}

void refresh_all(const struct wire_list *affected)
{
    for (size_t i = 0; i < count; i++) {
        const struct wire_name *name = &items[i].name;
        const struct port *port =
            items[i].kind == OBJECT_PORT ? model_find_port(control.model, name->network, name->name) : NULL;

        if (items[i].kind == OBJECT_VIF)
            refresh_vif(name->name);
        if (port != NULL)
            status_refresh_port(port);
    }
    for (size_t i = 0; i < affected->count; i++) {
        const struct wire_name *name = &affected->items[i];
        const struct wire *wire = model_find_wire(control.model, name->network, name->name);

        if (wire == NULL)
            continue;
        status_refresh_wire(wire);
        events_promote(wire);
    }
}

void refresh_clear(void)
{
    free(items);
    items = NULL;
    count = room = 0;
}
