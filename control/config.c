// SPDX-License-Identifier: BSD-3-Clause
//
// PUT /v1/config: the state becomes what the document says, in one step. What
// stands in no document goes, what differs is changed, all else is left alone.
//
// The order of the document doesn't matter, and there may be no order in which
// each change by itself would be allowed (two wires that exchange their ends).
// So all versions are put first, and ports and wires judged in the state
// that comes of it.

#include "batch.h"

#include "check.h"
#include "config.h"
#include "control.h"
#include "handover.h"
#include "request.h"
#include "status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const sections[OBJECT_KIND_COUNT] = {"networks", "vifs", "ports", "wires"};

// ---- the body ----

enum { IGNORED = 3 };
static const char *const ignored[IGNORED] = {"generation", "instance", "seq"};

struct reading {
    struct batch *batch;
    const char *body;
    struct error *error;
    struct slice arrays[OBJECT_KIND_COUNT];
    bool seen[IGNORED];
};

static int take_item(void *arg, const struct slice *item)
{
    struct reading *reading = arg;

    if (batch_add(reading->batch, item) != 0)
        return error_set(reading->error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    return 0;
}

// A member that GET shows besides, so that its answer can be put: it means nothing, but the body is JSON only if it is.
static int take_ignored(struct reading *reading, const char *key, const struct slice *value, bool *seen)
{
    bool nested = value->text[0] == '{' || value->text[0] == '[';
    json_t *json = nested || *seen ? NULL : json_loadb(value->text, value->size, JSON_DECODE_ANY, NULL);

    if (json == NULL)
        return error_set(reading->error, PATCHBAY_ERROR_BAD_VALUE, key,
                         "%s is what GET /v1/config shows, a number or a string, given once; it may be left out", key);
    json_decref(json);
    *seen = true;
    return 0;
}

static int take_member(void *arg, const char *key, const struct slice *value)
{
    struct reading *reading = arg;

    for (size_t i = 0; i < IGNORED; i++)
        if (strcmp(key, ignored[i]) == 0)
            return take_ignored(reading, key, value, &reading->seen[i]);
    for (size_t kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
        if (strcmp(key, sections[kind]) != 0)
            continue;
        if (value->text[0] != '[' || reading->arrays[kind].text != NULL)
            return error_set(reading->error, PATCHBAY_ERROR_BAD_VALUE, key, "%s is an array of objects, given once",
                             key);
        reading->arrays[kind] = *value;
        return 0;
    }
    return error_set(reading->error, PATCHBAY_ERROR_UNKNOWN_FIELD, key,
                     "a configuration has no field \"%.80s\"; it has networks, vifs, ports and wires", key);
}

int config_parse(struct batch *batch, const char *body, size_t size, struct error *error)
{
    static const size_t limits[OBJECT_KIND_COUNT] = {LIMIT_NETWORKS, LIMIT_VIFS, LIMIT_PORTS, LIMIT_WIRES};
    struct reading reading = {.batch = batch, .body = body, .error = error};

    if (slicer_object(body, size, take_member, &reading, error) != 0)
        return -EINVAL;
    for (size_t kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
        // One that was forgotten would delete them all.
        if (reading.arrays[kind].text == NULL)
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, sections[kind],
                             "a configuration is whole: it needs %s, which may be []", sections[kind]);
        batch->sections[kind] = batch->count;
        if (slicer_array(body, &reading.arrays[kind], take_item, &reading, error) != 0)
            return -EINVAL;
        if (batch->count - batch->sections[kind] > limits[kind])
            return error_set(error, PATCHBAY_ERROR_LIMIT_REACHED, sections[kind], "there may be %zu %s, not %zu",
                             limits[kind], sections[kind], batch->count - batch->sections[kind]);
    }
    batch->sections[OBJECT_KIND_COUNT] = batch->count;
    return 0;
}

// ---- what is wanted ----

struct wanted {
    struct object *object; // the step's until it is put, then the model's
    size_t item;
    bool replaces; // a vif that is deleted and made anew
};

struct making {
    struct command *command;
    struct model_change *change;
    struct error *error;
    struct wanted *wanted; // of each kind by network and name
    size_t ends[OBJECT_KIND_COUNT];
    FILE *plan;
};

static size_t begin_of(const struct making *making, size_t kind)
{
    return kind > 0 ? making->ends[kind - 1] : 0;
}

static struct object *decode(enum object_kind kind, const struct slice *item, struct error *error)
{
    json_t *body = request_parse(item->text, item->size, error);
    const json_t *name = json_object_get(body, "name"), *network = json_object_get(body, "network");
    bool placed = kind == OBJECT_PORT || kind == OBJECT_WIRE;
    char where[LIMIT_NAME_LEN + 2] = "";
    struct object *object = NULL;

    if (body == NULL)
        return NULL;
    if (placed)
        strlcpy(where, network != NULL && json_is_string(network) ? json_string_value(network) : NETWORK_DEFAULT,
                sizeof(where));
    if (!json_is_string(name)) {
        error_set(error, PATCHBAY_ERROR_BAD_VALUE, "name", "a %s needs a name", object_kind_name(kind));
    } else if (placed && network != NULL && !json_is_string(network)) {
        error_set(error, PATCHBAY_ERROR_BAD_VALUE, "network", "network is the name of one");
    } else {
        char *copy = strdup(json_string_value(name));

        if (placed)
            json_object_del(body, "network");
        if (copy != NULL)
            object = request_decode(kind, where, copy, body, error);
        else
            error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
        free(copy);
    }
    json_decref(body);
    if (object != NULL && (command_place_target(object, error) != 0 || command_check_worker(object, error) != 0)) {
        object_destroy(object);
        return NULL;
    }
    return object;
}

static int compare_wanted(const void *one, const void *other)
{
    const struct object *a = ((const struct wanted *)one)->object, *b = ((const struct wanted *)other)->object;
    int order = strcmp(a->network, b->network);

    return order != 0 ? order : strcmp(a->name, b->name);
}

static struct wanted *find_wanted(const struct making *making, enum object_kind kind, const struct object *object)
{
    const struct wanted key = {.object = (struct object *)object};
    size_t begin = begin_of(making, kind);

    return bsearch(&key, making->wanted + begin, making->ends[kind] - begin, sizeof(key), compare_wanted);
}

// Returns 0, or -EINVAL with the error; what was decoded stays in making->wanted.
static int decode_kind(struct making *making, enum object_kind kind)
{
    const struct batch *batch = making->command->batch;
    size_t begin = begin_of(making, kind), end = begin;

    for (size_t i = batch->sections[kind]; i < batch->sections[kind + 1]; i++) {
        struct object *object = decode(kind, &batch->items[i], making->error);

        if (object == NULL) {
            batch_blame(batch, i, making->error);
            return -EINVAL;
        }
        making->wanted[end++] = (struct wanted){.object = object, .item = i};
        making->ends[kind] = end;
    }
    making->ends[kind] = end;
    qsort(making->wanted + begin, end - begin, sizeof(*making->wanted), compare_wanted);
    for (size_t i = begin + 1; i < end; i++) {
        const struct wanted *wanted = &making->wanted[i];

        if (compare_wanted(wanted, wanted - 1) != 0)
            continue;
        error_set(making->error, PATCHBAY_ERROR_BAD_VALUE, "name", "there are two %s \"%s\"", sections[kind],
                  wanted->object->name);
        batch_blame(batch, wanted->item > wanted[-1].item ? wanted->item : wanted[-1].item, making->error);
        return -EINVAL;
    }
    return 0;
}

// The network `default` is always there, also where a document doesn't name it.
static int add_default(struct making *making)
{
    struct object *object = object_create(OBJECT_NETWORK, "", NETWORK_DEFAULT);
    size_t end = making->ends[OBJECT_NETWORK];

    if (object == NULL)
        return error_set(making->error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    if (find_wanted(making, OBJECT_NETWORK, object) != NULL) {
        object_destroy(object);
        return 0;
    }
    making->wanted[end] = (struct wanted){.object = object};
    making->ends[OBJECT_NETWORK] = end + 1;
    qsort(making->wanted, end + 1, sizeof(*making->wanted), compare_wanted);
    return 0;
}

// ---- the change ----

// A vif's kind and target can't change: it is made anew.
static bool is_other_device(const struct object *old, const struct object *next)
{
    const struct vif *was = (const struct vif *)old, *is = (const struct vif *)next;

    if (old->kind != OBJECT_VIF)
        return false;
    if (was->kind != is->kind || (was->target == NULL) != (is->target == NULL))
        return true;
    return was->target != NULL && strcmp(was->target, is->target) != 0;
}

static int delete_kind(struct making *making, enum object_kind kind)
{
    struct batch *batch = making->command->batch;
    const struct object *object, *next;

    for (object = model_first(control.model, kind, NULL, "", false); object != NULL; object = next) {
        struct wanted *wanted = find_wanted(making, kind, object);

        next = model_next(object);
        if (wanted != NULL)
            wanted->replaces = is_other_device(object, wanted->object);
        if (wanted != NULL && !wanted->replaces)
            continue;
        if (wanted == NULL) {
            batch->tally[BATCH_DELETED]++;
            config_plan_delete(making->plan, object);
        }
        if (model_remove(making->change, kind, object->network, object->name) != 0)
            return error_set(making->error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    }
    return 0;
}

static int put(struct making *making, struct wanted *wanted)
{
    const struct command *command = making->command;
    struct batch *batch = command->batch;
    struct change_options options = CHANGE_OPTIONS_DEFAULT;
    struct object *next = wanted->object;
    const struct object *old = model_find(control.model, next->kind, next->network, next->name);
    const struct device *device = next->kind == OBJECT_VIF ? batch_find_device(batch, next->name) : NULL;
    int result;

    options.force = command->options.force;
    options.when_ready = command->options.when_ready;
    options.vif_is_up = status_vif_is_up;
    if (device != NULL)
        options.slot = device->slot;
    else if (old == NULL && next->kind == OBJECT_VIF)
        options.slot = handover_find(making->change, (const struct vif *)next);
    wanted->object = NULL;
    result = next->kind == OBJECT_PORT || next->kind == OBJECT_WIRE
                 ? change_put_unchecked(making->change, next, &options, making->error)
                 : change_put(making->change, next, &options, making->error);
    if (result < 0)
        return -EINVAL;
    wanted->object = result == CHANGE_SAME ? (struct object *)old : next;
    batch->tally[result]++;
    if (result == CHANGE_UPDATED)
        config_plan_change(making->plan, old, next);
    else if (result == CHANGE_CREATED)
        config_plan_create(making->plan, next, wanted->replaces, batch->dry_run);
    if (result != CHANGE_SAME && next->kind == OBJECT_VIF && batch_note_owner(batch, making->change, wanted->item) != 0)
        return error_set(making->error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    if (result == CHANGE_CREATED && next->kind == OBJECT_VIF &&
        batch_note_fresh(batch, (const struct vif *)next, wanted->item) != 0)
        return error_set(making->error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    return 0;
}

// From here on wanted[at…] are the model's, or not put yet.
static int put_all(struct making *making, size_t *at)
{
    const struct batch *batch = making->command->batch;

    for (; *at < making->ends[OBJECT_WIRE]; (*at)++) {
        if (put(making, &making->wanted[*at]) == 0)
            continue;
        batch_blame(batch, making->wanted[*at].item, making->error);
        (*at)++;
        return -EINVAL;
    }
    for (size_t i = begin_of(making, OBJECT_PORT); i < making->ends[OBJECT_WIRE]; i++) {
        const struct object *object = making->wanted[i].object;

        // It is there already, so it isn't counted against the limits again: config_parse has done that.
        if (check_put(control.model, object, object, making->error) == 0)
            continue;
        batch_blame(batch, making->wanted[i].item, making->error);
        return -EINVAL;
    }
    return 0;
}

static int make(struct making *making, size_t *put_count)
{
    static const enum object_kind order[] = {OBJECT_WIRE, OBJECT_PORT, OBJECT_VIF, OBJECT_NETWORK};

    for (enum object_kind kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
        for (size_t later = kind; later < OBJECT_KIND_COUNT; later++)
            making->ends[later] = begin_of(making, kind);
        if (decode_kind(making, kind) != 0 || (kind == OBJECT_NETWORK && add_default(making) != 0))
            return -EINVAL;
    }
    for (size_t i = 0; i < OBJECT_KIND_COUNT; i++)
        if (delete_kind(making, order[i]) != 0)
            return -EINVAL;
    return put_all(making, put_count);
}

int config_step(struct command *command, struct model_change *change, struct error *error)
{
    struct batch *batch = command->batch;
    struct making making = {.command = command, .change = change, .error = error};
    size_t put_count = 0;
    int result;

    making.wanted = calloc(batch->count + 1, sizeof(*making.wanted));
    making.plan = open_memstream(&batch->plan, &batch->plan_size);
    if (making.wanted == NULL || making.plan == NULL)
        result = error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    else
        result = make(&making, &put_count);
    if (making.plan != NULL && fclose(making.plan) != 0 && result == 0)
        result = error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    for (size_t i = put_count; making.wanted != NULL && i < batch->count + 1; i++)
        object_destroy(making.wanted[i].object);
    free(making.wanted);
    return result;
}
