// SPDX-License-Identifier: BSD-3-Clause
//
// GET /v1/config. The versions of one moment are held, not copied: a change
// that comes while the answer is on its way replaces them in the model, and
// the reader goes on with what it holds.

#include "config.h"

#include "control.h"
#include "event_log.h"
#include "held.h"
#include "read.h"
#include "request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { OBJECTS_A_SLICE = 64 };

struct snapshot {
    struct slices slices;
    struct held held;
    size_t next;
    enum object_kind kind; // that is being shown
    uint64_t generation;
    uint64_t seq; // of the last event before it
    bool begun, ended;
    char *piece; // owned
};

const char *const config_sections[OBJECT_KIND_COUNT] = {"networks", "vifs", "ports", "wires"};

int config_print_object(const struct object *object, FILE *out)
{
    json_t *shown = request_encode(object);
    int result = -ENOMEM;

    // Ports and wires lie in one list, whatever their network.
    if (shown != NULL && object->network[0] != '\0') {
        json_t *placed = json_pack("{ss}", "network", object->network);

        if (placed != NULL && json_object_update(placed, shown) != 0) {
            json_decref(placed);
            placed = NULL;
        }
        json_decref(shown);
        shown = placed;
    }
    if (shown != NULL && json_dumpf(shown, out, JSON_COMPACT) == 0)
        result = 0;
    json_decref(shown);
    return result;
}

static void print_piece(struct snapshot *snapshot, FILE *out)
{
    size_t printed = 0;

    if (!snapshot->begun)
        fprintf(out, "{\"generation\":%llu,\"instance\":\"%s\",\"seq\":%llu,\"networks\":[",
                (unsigned long long)snapshot->generation, store_instance(control.store),
                (unsigned long long)snapshot->seq);
    snapshot->begun = true;
    while (printed < OBJECTS_A_SLICE) {
        size_t first = snapshot->kind > 0 ? snapshot->held.ends[snapshot->kind - 1] : 0;

        if (snapshot->next < snapshot->held.ends[snapshot->kind]) {
            if (snapshot->next > first)
                fputc(',', out);
            config_print_object(snapshot->held.objects[snapshot->next++], out);
            printed++;
        } else if (snapshot->kind + 1 < OBJECT_KIND_COUNT) {
            fprintf(out, "],\"%s\":[", config_sections[++snapshot->kind]);
        } else {
            fputs("]}\n", out);
            snapshot->ended = true;
            return;
        }
    }
}

static const char *next_slice(struct slices *slices, size_t *size)
{
    struct snapshot *snapshot = (struct snapshot *)slices;
    FILE *out;

    free(snapshot->piece);
    snapshot->piece = NULL;
    if (snapshot->ended)
        return NULL;
    out = open_memstream(&snapshot->piece, size);
    if (out == NULL)
        return NULL;
    print_piece(snapshot, out);
    return fclose(out) == 0 ? snapshot->piece : NULL;
}

static void destroy_snapshot(struct slices *slices)
{
    struct snapshot *snapshot = (struct snapshot *)slices;

    held_drop(&snapshot->held);
    free(snapshot->piece);
    free(snapshot);
}

static struct snapshot *take_snapshot(void)
{
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot));

    if (snapshot == NULL || held_take(&snapshot->held) != 0) {
        free(snapshot);
        return NULL;
    }
    snapshot->slices = (struct slices){next_slice, destroy_snapshot};
    snapshot->generation = model_generation(control.model);
    snapshot->seq = event_log_seq();
    return snapshot;
}

void read_config(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    struct snapshot *snapshot;
    struct error error;

    (void)target;
    (void)parameters;
    if (read_refuses_body(exchange) || read_settles(exchange, model_generation(control.model)))
        return;
    snapshot = take_snapshot();
    if (snapshot == NULL) {
        error_set(&error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
        exchange_fail(exchange, &error);
        return;
    }
    exchange_set_etag(exchange, snapshot->generation);
    exchange_answer_slices(exchange, &snapshot->slices);
}
