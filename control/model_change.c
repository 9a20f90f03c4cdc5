// SPDX-License-Identifier: BSD-3-Clause
// Changes of the model: the undo log. Each record holds a version that came in
// and the one that it replaced, so that taking back is unlinking and linking.

#include "model_private.h"

#include <errno.h>
#include <stdlib.h>

void model_begin(struct model *model, struct model_change *change)
{
    *change = (struct model_change){.model = model, .generation = model_generation(model), .step_fresh = true};
}

struct model_mark model_step(struct model_change *change)
{
    change->step_fresh = true;
    return (struct model_mark){.record_count = change->record_count, .generation = change->generation};
}

static struct model_record *add_record(struct model_change *change)
{
    if (change->record_count == change->record_size) {
        size_t size = change->record_size != 0 ? 2 * change->record_size : 8;
        struct model_record *records = reallocarray(change->records, size, sizeof(*records));
        if (records == NULL)
            return NULL;
        change->records = records;
        change->record_size = size;
    }
    if (change->step_fresh) {
        change->step_fresh = false;
        change->generation++;
    }
    return &change->records[change->record_count++];
}

int model_put(struct model_change *change, struct object *object)
{
    struct model_record *record = model_prepare_version(object) == 0 ? add_record(change) : NULL;
    if (record == NULL) {
        object_destroy(object);
        return -ENOMEM;
    }
    struct model *model = change->model;
    record->old = (struct object *)model_find(model, object->kind, object->network, object->name);
    record->new = object;
    object->generation = change->generation;
    if (object->kind == OBJECT_WIRE) {
        struct wire *wire = (struct wire *)object;
        for (size_t i = 0; i < wire->tee_count; i++)
            wire->tees[i].object.generation = change->generation;
    }
    if (record->old != NULL)
        model_unlink_version(model, record->old);
    model_link_version(model, object);
    return 0;
}

int model_remove(struct model_change *change, enum object_kind kind, const char *network, const char *name)
{
    struct object *old = (struct object *)model_find(change->model, kind, network, name);
    if (old == NULL)
        return -ENOENT;
    struct model_record *record = add_record(change);
    if (record == NULL)
        return -ENOMEM;
    record->old = old;
    record->new = NULL;
    model_unlink_version(change->model, old);
    return 0;
}

void model_undo(struct model_change *change, struct model_mark mark)
{
    while (change->record_count > mark.record_count) {
        struct model_record *record = &change->records[--change->record_count];
        if (record->new != NULL) {
            model_unlink_version(change->model, record->new);
            object_destroy(record->new);
        }
        if (record->old != NULL)
            model_link_version(change->model, record->old);
    }
    change->generation = mark.generation;
    change->step_fresh = true;
}

bool model_change_is_empty(const struct model_change *change)
{
    return change->record_count == 0;
}

static void close_change(struct model_change *change)
{
    free(change->records);
    *change = (struct model_change){.model = change->model, .generation = model_generation(change->model)};
}

void model_commit(struct model_change *change)
{
    for (size_t i = 0; i < change->record_count; i++)
        object_destroy(change->records[i].old);
    model_set_generation(change->model, change->generation);
    close_change(change);
}

void model_rollback(struct model_change *change)
{
    model_undo(change, (struct model_mark){.record_count = 0, .generation = model_generation(change->model)});
    close_change(change);
}

int model_add_default(struct model_change *change)
{
    if (model_find_network(change->model, NETWORK_DEFAULT) != NULL)
        return 0;
    struct object *object = object_create(OBJECT_NETWORK, "", NETWORK_DEFAULT);
    return object != NULL ? model_put(change, object) : -ENOMEM;
}
