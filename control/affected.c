// SPDX-License-Identifier: BSD-3-Clause
// Which wires are to be compiled anew: the other half of compile.h.

#include "compile.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void wire_list_clear(struct wire_list *list)
{
    free(list->items);
    *list = (struct wire_list){0};
}

static int add_name(struct wire_list *list, const char *network, const char *name)
{
    if (list->count == list->size) {
        size_t size = list->size != 0 ? 2 * list->size : 16;
        struct wire_name *items = reallocarray(list->items, size, sizeof(*items));
        if (items == NULL)
            return -ENOMEM;
        list->items = items;
        list->size = size;
    }
    struct wire_name *item = &list->items[list->count++];
    strlcpy(item->network, network, sizeof(item->network));
    strlcpy(item->name, name, sizeof(item->name));
    return 0;
}

static int add_wire(struct wire_list *list, const struct object *wire)
{
    return add_name(list, wire->network, wire->name);
}

static int compare_names(const void *one, const void *other)
{
    const struct wire_name *x = one;
    const struct wire_name *y = other;
    int order = strcmp(x->network, y->network);
    return order != 0 ? order : strcmp(x->name, y->name);
}

void wire_list_sort(struct wire_list *list)
{
    if (list->count < 2)
        return;
    qsort(list->items, list->count, sizeof(*list->items), compare_names);
    size_t kept = 1;
    for (size_t i = 1; i < list->count; i++) {
        if (compare_names(&list->items[i], &list->items[kept - 1]) != 0)
            list->items[kept++] = list->items[i];
    }
    list->count = kept;
}

int compile_wires_of_port(const struct model *model, const char *network, const char *port, struct wire_list *list)
{
    for (const struct use *use = model_first_use(model, OBJECT_PORT, network, port); use != NULL;
         use = model_next_use(use)) {
        int ret = add_wire(list, use->user);
        if (ret != 0)
            return ret;
    }
    return 0;
}

int compile_wires_of_vif(const struct model *model, const char *vif, struct wire_list *list)
{
    for (const struct use *use = model_first_use(model, OBJECT_VIF, "", vif); use != NULL; use = model_next_use(use)) {
        int ret = compile_wires_of_port(model, use->user->network, use->user->name, list);
        if (ret != 0)
            return ret;
    }
    return 0;
}

// A port came to the vif or left it. That concerns the others on it only where one of them becomes, or was,
// alone: its vif is then shared or is so no longer. Two that the change hasn't touched share it before and after.
static int add_neighbours(const struct model *model, const char *vif, struct wire_list *list)
{
    const struct object *untouched = NULL;
    for (const struct use *use = model_first_use(model, OBJECT_VIF, "", vif); use != NULL; use = model_next_use(use)) {
        // Versions of the open change have generations that aren't committed yet.
        if (use->user->generation > model_generation(model))
            continue;
        if (untouched != NULL)
            return 0;
        untouched = use->user;
    }
    return untouched != NULL ? compile_wires_of_port(model, untouched->network, untouched->name, list) : 0;
}

// A version came or went. vifs: those on which a port did, as a list of names.
static int add_affected(const struct model *model, const struct object *version, struct wire_list *list,
                        struct wire_list *vifs)
{
    int ret = 0;
    switch (version->kind) {
    case OBJECT_WIRE:
        return add_wire(list, version);
    case OBJECT_PORT:
        ret = compile_wires_of_port(model, version->network, version->name, list);
        if (ret == 0)
            ret = add_name(vifs, "", ((const struct port *)version)->vif);
        return ret;
    case OBJECT_VIF:
        return compile_wires_of_vif(model, version->name, list);
    default:
        return 0;
    }
}

// Labels, owners and pins are in no leg.
static bool is_concerned(const struct object *old, const struct object *next)
{
    if (old == NULL || next == NULL || next->kind == OBJECT_WIRE)
        return true;
    if (next->kind == OBJECT_VIF)
        return ((const struct vif *)old)->admin != ((const struct vif *)next)->admin;
    const struct port *was = (const struct port *)old;
    const struct port *now = (const struct port *)next;
    return next->kind == OBJECT_PORT &&
           (was->vlan != now->vlan || was->admin != now->admin || strcmp(was->vif, now->vif) != 0 ||
            !port_rates_equal(&was->ingress, &now->ingress) || !port_rates_equal(&was->egress, &now->egress));
}

int compile_affected(const struct model_change *change, struct wire_list *list)
{
    struct wire_list vifs = {0};
    int ret = 0;
    for (size_t i = 0; i < change->record_count && ret == 0; i++) {
        const struct object *old = change->records[i].old;
        const struct object *next = change->records[i].new;
        if (!is_concerned(old, next))
            continue;
        ret = old != NULL ? add_affected(change->model, old, list, &vifs) : 0;
        if (ret == 0 && next != NULL)
            ret = add_affected(change->model, next, list, &vifs);
    }
    // Once a vif: 4,000 ports that come to one at once would each look at all the others.
    wire_list_sort(&vifs);
    for (size_t i = 0; i < vifs.count && ret == 0; i++)
        ret = add_neighbours(change->model, vifs.items[i].name, list);
    wire_list_clear(&vifs);
    wire_list_sort(list);
    return ret;
}
