// SPDX-License-Identifier: BSD-3-Clause
#include "read.h"

#include "check.h"
#include "control.h"
#include "render.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { ITEMS_A_SLICE = 32 };

bool read_refuses_body(struct exchange *exchange)
{
    struct error error;

    if (exchange->body_size == 0)
        return false;
    error_set(&error, PATCHBAY_ERROR_MALFORMED, NULL, "GET takes no body.");
    exchange_fail(exchange, &error);
    return true;
}

bool read_settles(struct exchange *exchange, uint64_t generation)
{
    const struct object shown = {.kind = OBJECT_NETWORK, .generation = generation};
    struct error error;
    bool fresh;

    if ((exchange->if_match != NULL && check_match(&shown, exchange->if_match, NULL, &error) != 0) ||
        check_fresh(&shown, exchange->if_none_match, &fresh, &error) != 0) {
        exchange_fail(exchange, &error);
        return true;
    }
    if (fresh)
        exchange_answer_text(exchange, 304, strdup(""), 0, generation);
    return fresh;
}

void read_version(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    (void)target;
    (void)parameters;
    if (read_refuses_body(exchange))
        return;
    exchange_answer(exchange, 200,
                    json_pack("{ss ss ss si si ss}", "daemon", PATCHBAY_VERSION, "api", PATCHBAY_API_VERSION, "dpdk",
                              dataplane_dpdk_version(), "state_schema", (int)STORE_SCHEMA, "pid", (int)getpid(),
                              "instance", store_instance(control.store)),
                    EXCHANGE_NO_ETAG);
}

void read_object(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    struct error error;
    const struct object *object;

    (void)parameters;
    if (read_refuses_body(exchange))
        return;
    object = check_find(control.model, target->kind, target->network, target->name, &error);
    if (object == NULL)
        exchange_fail(exchange, &error);
    else if (!read_settles(exchange, object->generation))
        exchange_answer(exchange, 200, render_object(object), object->generation);
}

static const struct wire *find_wire(struct exchange *exchange, const struct target *target)
{
    struct error error;
    const struct object *wire;

    if (read_refuses_body(exchange))
        return NULL;
    wire = check_find(control.model, OBJECT_WIRE, target->network, target->name, &error);
    if (wire == NULL)
        exchange_fail(exchange, &error);
    return (const struct wire *)wire;
}

void read_tee(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    const struct wire *wire = find_wire(exchange, target);
    struct error error;
    int position;

    (void)parameters;
    if (wire == NULL)
        return;
    position = check_find_tee(wire, target->tee, &error);
    if (position < 0)
        exchange_fail(exchange, &error);
    else if (!read_settles(exchange, wire->object.generation))
        exchange_answer(exchange, 200, render_tee(wire, (size_t)position), wire->object.generation);
}

void read_tees(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    const struct wire *wire = find_wire(exchange, target);
    json_t *items;

    (void)parameters;
    if (wire == NULL || read_settles(exchange, wire->object.generation))
        return;
    items = json_array();
    for (size_t i = 0; i < wire->tee_count; i++)
        json_array_append_new(items, render_tee(wire, i));
    exchange_answer(
        exchange, 200,
        json_pack("{so sn sI}", "items", items, "next", "generation", (json_int_t)model_generation(control.model)),
        wire->object.generation);
}

// ---- lists ----

// A page, rendered as it is sent. Each item is whole and of one moment; a list
// that is sent slowly may show later items later than earlier ones.
struct list {
    struct slices slices;
    enum object_kind kind;
    char network[LIMIT_NAME_LEN + 1];
    char last[LIMIT_NAME_LEN + 1]; // name of the last item
    uint32_t left;                 // items of the page
    uint64_t generation;           // when it began
    bool any;
    bool ended;
    char *piece; // owned
};

static const struct object *next_object(const struct list *list)
{
    return model_first(control.model, list->kind, list->network, list->last, list->any || list->last[0] != '\0');
}

static void print_end(const struct list *list, FILE *out)
{
    bool more = list->left == 0 && next_object(list) != NULL;

    fprintf(out, "],\"next\":%s%s%s,\"generation\":%llu}\n", more ? "\"" : "", more ? list->last : "null",
            more ? "\"" : "", (unsigned long long)list->generation);
}

static void print_items(struct list *list, FILE *out)
{
    for (int i = 0; i < ITEMS_A_SLICE; i++) {
        const struct object *object = list->left > 0 ? next_object(list) : NULL;
        json_t *shown;

        if (object == NULL) {
            print_end(list, out);
            list->ended = true;
            return;
        }
        if (list->any)
            fputc(',', out);
        shown = render_object(object);
        json_dumpf(shown, out, JSON_COMPACT);
        json_decref(shown);
        strlcpy(list->last, object->name, sizeof(list->last));
        list->any = true;
        list->left--;
    }
}

static const char *next_slice(struct slices *slices, size_t *size)
{
    struct list *list = (struct list *)slices;
    bool first = list->piece == NULL;
    FILE *out;

    free(list->piece);
    list->piece = NULL;
    if (list->ended)
        return NULL;
    out = open_memstream(&list->piece, size);
    if (out == NULL)
        return NULL;
    if (first)
        fputs("{\"items\":[", out);
    print_items(list, out);
    if (fclose(out) != 0)
        return NULL;
    return list->piece;
}

static void destroy_list(struct slices *slices)
{
    struct list *list = (struct list *)slices;

    free(list->piece);
    free(list);
}

void read_list(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    struct list *list;
    struct error error;

    if (read_refuses_body(exchange))
        return;
    if (target->network[0] != '\0' && check_find(control.model, OBJECT_NETWORK, "", target->network, &error) == NULL) {
        exchange_fail(exchange, &error);
        return;
    }
    list = calloc(1, sizeof(*list));
    if (list == NULL) {
        error_set(&error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
        exchange_fail(exchange, &error);
        return;
    }
    list->slices = (struct slices){next_slice, destroy_list};
    list->kind = target->kind;
    strlcpy(list->network, target->network, sizeof(list->network));
    strlcpy(list->last, parameters->after, sizeof(list->last));
    list->left = parameters->limit;
    list->generation = model_generation(control.model);
    exchange_answer_slices(exchange, &list->slices);
}
