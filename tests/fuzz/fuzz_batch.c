// SPDX-License-Identifier: BSD-3-Clause

// Transactions and whole configurations as the daemon takes them, on a model
// without devices. What must be so:
//
// - cutting a body and parsing its items finds what jansson finds in the whole;
// - what is refused changes nothing, and takes no slot;
// - a step that is taken back and done anew, as the daemon does it for every
//   batch that has to wait, comes to the same;
// - what is exported decodes to the same.

#include "fuzz_batch.h"

#include "control/check.h"
#include "control/config.h"
#include "control/control.h"
#include "control/request.h"
#include "model_check.h"

#include <stdio.h>
#include <string.h>

static const struct options options = {.vhost_dir = "/run/patchbay-vhost"};
struct control control = {.options = &options}; // main.c's

// ---- the slicer against jansson ----

// One array of a body.
struct found {
    const char *key;
    const json_t *whole; // what jansson made of it; NULL: it read no body
    size_t count;
};

struct comparison {
    const char *body;
    struct found *found;
    size_t found_count;
    struct found *now;
    bool sound; // all items could be parsed
};

static int compare_item(void *arg, const struct slice *item)
{
    struct comparison *comparison = arg;
    json_t *json = json_loadb(item->text, item->size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);

    // jansson has read the whole, so it must read the part, and as the same.
    if (comparison->now->whole != NULL)
        must(json != NULL && json_equal(json, json_array_get(comparison->now->whole, comparison->now->count)));
    comparison->sound = comparison->sound && json != NULL;
    comparison->now->count++;
    json_decref(json);
    return 0;
}

static int compare_member(void *arg, const char *key, const struct slice *value)
{
    struct comparison *comparison = arg;
    json_t *scalar;
    struct error error;

    for (size_t i = 0; i < comparison->found_count; i++) {
        if (strcmp(comparison->found[i].key, key) != 0 || value->text[0] != '[')
            continue;
        comparison->now = &comparison->found[i];
        if (comparison->now->count > 0 || slicer_array(comparison->body, value, compare_item, comparison, &error) != 0)
            comparison->sound = false;
        return 0;
    }
    scalar = json_loadb(value->text, value->size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
    comparison->sound = comparison->sound && scalar != NULL;
    json_decref(scalar);
    return 0;
}

static void compare(struct found *found, size_t found_count, const char *body, size_t size)
{
    struct comparison comparison = {.body = body, .found = found, .found_count = found_count, .sound = true};
    json_t *whole = json_loadb(body, size, JSON_REJECT_DUPLICATES, NULL);
    struct error error;
    int result;

    for (size_t i = 0; json_is_object(whole) && i < found_count; i++)
        found[i].whole = json_object_get(whole, found[i].key);
    result = slicer_object(body, size, compare_member, &comparison, &error);
    if (result != 0)
        fuzz_check_error(&error);
    if (json_is_object(whole)) {
        must(result == 0 && comparison.sound);
        for (size_t i = 0; i < found_count; i++)
            must(found[i].count == (json_is_array(found[i].whole) ? json_array_size(found[i].whole) : 0));
    }
    json_decref(whole);
}

static void compare_slicer(enum batch_kind kind, const char *body, size_t size)
{
    struct found operations = {.key = "operations"};
    struct found sections[OBJECT_KIND_COUNT] = {
        {.key = "networks"}, {.key = "vifs"}, {.key = "ports"}, {.key = "wires"}};

    if (kind == BATCH_TRANSACTION)
        compare(&operations, 1, body, size);
    else
        compare(sections, OBJECT_KIND_COUNT, body, size);
}

// The same of what the daemon does with a body: it takes no other JSON than jansson does, and calls nothing else
// malformed. batch is NULL where it was refused, with error.
static void compare_parse(const struct batch *batch, const struct error *error, const char *body, size_t size)
{
    json_t *whole = json_loadb(body, size, JSON_REJECT_DUPLICATES, NULL);
    bool sound = batch != NULL;

    for (size_t i = 0; sound && i < batch->count; i++) {
        json_t *item =
            json_loadb(batch->items[i].text, batch->items[i].size, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);

        sound = item != NULL;
        json_decref(item);
    }
    must(!sound || json_is_object(whole));
    must(batch != NULL || !json_is_object(whole) || error->code != PATCHBAY_ERROR_MALFORMED);
    json_decref(whole);
}

// ---- the state, to be compared ----

static void mix(uint64_t *hash, uint64_t value)
{
    *hash = (*hash ^ value) * UINT64_C(0x100000001b3);
    *hash ^= *hash >> 29;
}

// Of the versions themselves: another version of the same content is another state.
static uint64_t fingerprint(const struct model *model, const struct model_change *changes)
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);

    for (size_t kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
        const struct object *object = model_first(model, (enum object_kind)kind, NULL, "", false);

        for (; object != NULL; object = model_next(object)) {
            mix(&hash, (uintptr_t)object);
            mix(&hash, object->generation);
        }
    }
    mix(&hash, model_slots_taken(model));
    mix(&hash, changes->record_count);
    mix(&hash, changes->generation);
    return hash;
}

// As GET /v1/config shows it; to be freed.
static char *export_state(const struct model *model, size_t *size)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, size);

    must(out != NULL);
    fprintf(out, "{\"generation\":%llu,\"instance\":\"x\",\"seq\":1", (unsigned long long)model_generation(model));
    for (size_t kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
        const struct object *object = model_first(model, (enum object_kind)kind, NULL, "", false);
        const char *comma = "";

        fprintf(out, ",\"%s\":[", config_sections[kind]);
        for (; object != NULL; object = model_next(object)) {
            fputs(comma, out);
            must(config_print_object(object, out) == 0);
            comma = ",";
        }
        fputc(']', out);
    }
    fputs("}\n", out);
    must(fclose(out) == 0);
    return text;
}

// Without what is another in every incarnation.
static json_t *load_export(const struct model *model)
{
    size_t size = 0;
    char *text = export_state(model, &size);
    json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL), *items, *item, *tee;
    const char *key;
    size_t i, j;

    must(json != NULL);
    json_object_del(json, "generation");
    json_object_foreach(json, key, items) json_array_foreach(items, i, item)
    {
        json_object_del(item, "uid");
        json_array_foreach(json_object_get(item, "tees"), j, tee) json_object_del(tee, "uid");
    }
    free(text);
    return json;
}

// ---- a batch ----

static struct command *create(enum batch_kind kind, const char *body, size_t size, struct error *error)
{
    struct command *command = command_create(NULL, COMMAND_BATCH, NULL);

    must(command != NULL);
    command->batch = calloc(1, sizeof(*command->batch));
    must(command->batch != NULL);
    command->batch->kind = kind;
    if ((kind == BATCH_CONFIG ? config_parse(command->batch, body, size, error)
                              : transaction_parse(command->batch, body, size, error)) == 0)
        return command;
    command_destroy(command);
    return NULL;
}

// What the last step came to, in words.
static json_t *describe(const struct batch *batch)
{
    json_t *said = json_array(), *plan;
    char *text = NULL;

    for (size_t i = 0; i < BATCH_RESULT_COUNT; i++)
        json_array_append_new(said, json_integer((json_int_t)batch->tally[i]));
    for (size_t i = 0; batch->results != NULL && i < batch->count; i++)
        json_array_append_new(said, json_integer(batch->results[i]));
    must(asprintf(&text, "[%.*s]", (int)batch->plan_size, batch->plan != NULL ? batch->plan : "") > 0);
    plan = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    must(plan != NULL);
    json_array_append_new(said, plan);
    free(text);
    return said;
}

// One step in the open change; a refused one must leave no trace. Returns 0 or -EINVAL.
static int step(struct command *command, struct model *model, struct model_change *changes)
{
    uint64_t before = fingerprint(model, changes);
    struct error error;
    int result;

    model_step(changes);
    result = batch_step(command, changes, &error);
    if (result != 0) {
        fuzz_check_error(&error);
        must(error.index < 0 || (size_t)error.index < command->batch->count);
        must(fingerprint(model, changes) == before);
    }
    return result;
}

// Taken back, it leaves no trace; done anew, it comes to the same.
static void repeat(struct command *command, struct model *model, struct model_change *changes, struct model_mark mark,
                   uint64_t before)
{
    json_t *first = describe(command->batch), *second;

    batch_undo(changes, mark);
    must(fingerprint(model, changes) == before);
    must(step(command, model, changes) == 0);
    second = describe(command->batch);
    must(json_equal(first, second));
    json_decref(first);
    json_decref(second);
}

void fuzz_batch(struct model *model, struct model_change *changes, enum batch_kind kind, const char *body, size_t size)
{
    struct command *command;
    struct model_mark mark;
    struct error error;
    uint64_t before;

    compare_slicer(kind, body, size);
    command = create(kind, body, size, &error);
    compare_parse(command != NULL ? command->batch : NULL, &error, body, size);
    if (command == NULL) {
        fuzz_check_error(&error);
        return;
    }
    command->batch->dry_run = size % 4 == 0; // its plan shows whole objects
    command->options.force = size % 2 == 0;
    command->if_match = size % 8 == 7 ? "\"1\"" : "*";
    control.model = model;
    mark = model_step(changes);
    before = fingerprint(model, changes);
    if (step(command, model, changes) == 0)
        repeat(command, model, changes, mark, before);
    command_destroy(command);
}

// Puts the export of one model into another. Returns how many objects were made, changed or deleted.
static size_t put_export(const struct model *from, struct model *into, struct model_change *changes)
{
    size_t size = 0, count;
    char *text = export_state(from, &size);
    struct error error;
    struct command *command = create(BATCH_CONFIG, text, size, &error);
    const size_t *tally;

    must(command != NULL);
    command->options.force = true;
    control.model = into;
    must(step(command, into, changes) == 0);
    tally = command->batch->tally;
    count = tally[BATCH_CREATED] + tally[BATCH_UPDATED] + tally[BATCH_DELETED];
    command_destroy(command);
    free(text);
    return count;
}

void fuzz_batch_round_trip(struct model *model, struct model_change *changes)
{
    uint64_t before = fingerprint(model, changes);
    struct model *empty = model_create();
    struct model_change fresh;
    json_t *was, *is;

    must(put_export(model, model, changes) == 0);
    must(fingerprint(model, changes) == before);
    model_begin(empty, &fresh);
    put_export(model, empty, &fresh);
    was = load_export(model);
    is = load_export(empty);
    must(json_equal(was, is));
    json_decref(was);
    json_decref(is);
    model_check(empty);
    model_rollback(&fresh);
    model_destroy(empty);
}
