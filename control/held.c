// SPDX-License-Identifier: BSD-3-Clause
#include "held.h"

#include "control.h"

#include <errno.h>
#include <stdlib.h>

int held_take(struct held *held)
{
    size_t count = 0;

    *held = (struct held){0};
    for (enum object_kind kind = 0; kind < OBJECT_KIND_COUNT; kind++)
        count += model_count(control.model, kind);
    held->objects = calloc(count > 0 ? count : 1, sizeof(struct object *));
    if (held->objects == NULL)
        return -ENOMEM;
    for (enum object_kind kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
        const struct object *object;

        for (object = model_first(control.model, kind, NULL, "", false); object != NULL; object = model_next(object))
            held->objects[held->count++] = object_hold(object);
        held->ends[kind] = held->count;
    }
    return 0;
}

void held_drop(struct held *held)
{
    for (size_t i = 0; i < held->count; i++)
        object_destroy(held->objects[i]);
    free(held->objects);
    *held = (struct held){0};
}
