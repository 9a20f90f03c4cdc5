// SPDX-License-Identifier: BSD-3-Clause
//
// One scrape: family by family, some objects at a time. Wires and vifs are read
// while the first family that is about them is printed.

#include "metrics.h"

#include "control.h"
#include "metrics_families.h"
#include "read.h"

#include <stdlib.h>
#include <string.h>

// Objects and bytes a slice: so much is read and printed before others have their turn.
enum { OBJECTS_A_SLICE = 256, SLICE_BYTES = 16 * 1024 };

// Each holds a few megabytes with very many wires.
enum { SCRAPES_MAX = 8 };
static unsigned scrape_count;

struct scrape {
    struct slices slices;
    struct metrics_text text;
    struct metrics_snapshot snapshot;
    const struct metrics_family *family; // to be printed next; one without name: the end
    size_t at;                           // of its objects
    bool begun;                          // its head is printed
    // How far the model is read. Objects that come or go meanwhile are in the text or not.
    char network[LIMIT_NAME_LEN + 1];
    char name[LIMIT_NAME_LEN + 1];
    bool wires_read, vifs_read;
    bool ended;
};

static size_t count_objects(const struct scrape *scrape, enum metrics_source source)
{
    switch (source) {
    case METRICS_HOST:
        return 1;
    case METRICS_WORKER:
        return worker_count();
    case METRICS_WIRE:
        return scrape->snapshot.wires.count;
    case METRICS_TEE:
        return scrape->snapshot.tees.count;
    case METRICS_LEG:
        return scrape->snapshot.legs.count;
    case METRICS_TO:
        return scrape->snapshot.tos.count;
    case METRICS_VIF:
    case METRICS_QUEUE:
        return scrape->snapshot.vifs.count;
    }
    return 0;
}

// Reads more of the model: up to a slice of objects. True: that was all.
static bool read_more(struct scrape *scrape, enum object_kind kind)
{
    const struct object *object = scrape->name[0] == '\0'
                                      ? model_first(control.model, kind, NULL, "", false)
                                      : model_after(control.model, kind, scrape->network, scrape->name);

    for (int i = 0; i < OBJECTS_A_SLICE && object != NULL; i++, object = model_next(object)) {
        int error = kind == OBJECT_WIRE ? metrics_snapshot_wire(&scrape->snapshot, (const struct wire *)object)
                                        : metrics_snapshot_vif(&scrape->snapshot, (const struct vif *)object);

        if (error != 0)
            scrape->text.failed = true;
        strlcpy(scrape->network, object->network, sizeof(scrape->network));
        strlcpy(scrape->name, object->name, sizeof(scrape->name));
    }
    if (object == NULL)
        scrape->name[0] = '\0';
    return object == NULL;
}

// Has all been read that the family is about?
static bool read_for(struct scrape *scrape)
{
    if (scrape->family->source == METRICS_WIRE && !scrape->wires_read)
        return scrape->wires_read = read_more(scrape, OBJECT_WIRE);
    if (scrape->family->source == METRICS_VIF && !scrape->vifs_read)
        return scrape->vifs_read = read_more(scrape, OBJECT_VIF);
    return true;
}

// Prints the family for some of its objects, and goes on to the next at the end.
static void print_slice(struct scrape *scrape)
{
    const struct metrics_family *family = scrape->family;
    bool whole = read_for(scrape);
    size_t count = count_objects(scrape, family->source), end = scrape->at + OBJECTS_A_SLICE;

    if (scrape->at == 0 && !scrape->begun)
        metrics_text_family(&scrape->text, family->name, family->type, family->unit, family->help);
    scrape->begun = true;
    end = end < count ? end : count;
    for (; scrape->at < end; scrape->at++)
        family->print(&scrape->text, family, &scrape->snapshot, scrape->at);
    if (!whole || scrape->at < count)
        return;
    scrape->at = 0;
    scrape->begun = false;
    do
        scrape->family++;
    while (scrape->family->name != NULL && scrape->family->detail && !scrape->snapshot.detail);
}

static const char *next_slice(struct slices *slices, size_t *size)
{
    struct scrape *scrape = (struct scrape *)slices;

    if (scrape->ended)
        return NULL;
    metrics_text_clear(&scrape->text);
    while (scrape->text.size < SLICE_BYTES && !scrape->ended) {
        if (scrape->family->name == NULL) {
            metrics_text_end(&scrape->text);
            scrape->ended = true;
        } else {
            print_slice(scrape);
        }
    }
    *size = scrape->text.size;
    // A text that isn't whole ends without its end, which a scraper notices.
    if (scrape->text.failed)
        scrape->ended = true;
    return scrape->text.failed || scrape->text.size == 0 ? NULL : scrape->text.bytes;
}

static void destroy(struct slices *slices)
{
    struct scrape *scrape = (struct scrape *)slices;

    metrics_text_free(&scrape->text);
    metrics_snapshot_free(&scrape->snapshot);
    scrape_count--;
    free(scrape);
}

struct slices *metrics_render(bool openmetrics, bool detail)
{
    struct scrape *scrape = scrape_count < SCRAPES_MAX ? calloc(1, sizeof(*scrape)) : NULL;

    if (scrape == NULL)
        return NULL;
    scrape_count++;
    scrape->slices = (struct slices){next_slice, destroy};
    scrape->text.openmetrics = openmetrics;
    scrape->snapshot.detail = detail;
    scrape->family = metrics_families;
    return &scrape->slices;
}

void metrics_get(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    bool openmetrics = metrics_text_prefers_openmetrics(exchange_header(exchange, "Accept"));
    struct slices *slices;
    struct error error;

    (void)target;
    if (read_refuses_body(exchange))
        return;
    slices = metrics_render(openmetrics, parameters->detail);
    if (slices == NULL) {
        error_set(&error, PATCHBAY_ERROR_UNAVAILABLE, NULL, "%d clients read the metrics already; try again.",
                  (int)SCRAPES_MAX);
        exchange_fail(exchange, &error);
        return;
    }
    exchange_answer_slices(exchange, slices);
    exchange->type = metrics_text_type(openmetrics);
}
