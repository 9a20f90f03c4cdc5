// SPDX-License-Identifier: BSD-3-Clause
#include "batch.h"

#include "check.h"
#include "control.h"
#include "handover.h"
#include "log.h"
#include "trail.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void batch_destroy(struct batch *batch)
{
    if (batch == NULL)
        return;
    free(batch->items);
    free(batch->results);
    free(batch->plan);
    free(batch->fresh.items);
    free(batch->removed);
    free(batch->owners);
    free(batch->options);
    wire_list_clear(&batch->waits);
    free(batch->devices.items);
    free(batch);
}

int batch_add(struct batch *batch, const struct slice *item)
{
    if (batch->count == batch->room) {
        size_t room = batch->room > 0 ? batch->room * 2 : 64;
        struct slice *larger = reallocarray(batch->items, room, sizeof(*larger));

        if (larger == NULL)
            return -ENOMEM;
        batch->items = larger;
        batch->room = room;
    }
    batch->items[batch->count++] = *item;
    return 0;
}

// ---- whose records ----

int batch_note_owner(struct batch *batch, const struct model_change *change, size_t item)
{
    if (batch->owner_count == batch->owner_room) {
        size_t room = batch->owner_room > 0 ? batch->owner_room * 2 : 16;
        struct batch_owner *larger = reallocarray(batch->owners, room, sizeof(*larger));

        if (larger == NULL)
            return -ENOMEM;
        batch->owners = larger;
        batch->owner_room = room;
    }
    batch->owners[batch->owner_count++] = (struct batch_owner){.end = change->record_count, .item = item};
    return 0;
}

void batch_blame_record(const struct batch *batch, size_t record, struct error *error)
{
    for (size_t i = 0; i < batch->owner_count; i++) {
        if (batch->owners[i].end <= record)
            continue;
        batch_blame(batch, batch->owners[i].item, error);
        return;
    }
}

// ---- how to drain ----

int batch_add_options(struct batch *batch, const struct batch_options *options)
{
    if (batch->option_count == batch->option_room) {
        size_t room = batch->option_room > 0 ? batch->option_room * 2 : 16;
        struct batch_options *larger = reallocarray(batch->options, room, sizeof(*larger));

        if (larger == NULL)
            return -ENOMEM;
        batch->options = larger;
        batch->option_room = room;
    }
    batch->options[batch->option_count++] = *options;
    return 0;
}

const struct command_options *batch_options(const struct batch *batch, size_t record, size_t *cursor,
                                            const struct command_options *whole)
{
    while (*cursor < batch->option_count && batch->options[*cursor].end <= record)
        ++*cursor;
    return *cursor < batch->option_count && batch->options[*cursor].begin <= record ? &batch->options[*cursor].options
                                                                                    : whole;
}

int batch_note_wait(struct batch *batch, const struct object *wire)
{
    struct wire_list *waits = &batch->waits;

    if (waits->count == waits->size) {
        size_t size = waits->size > 0 ? waits->size * 2 : 16;
        struct wire_name *larger = reallocarray(waits->items, size, sizeof(*larger));

        if (larger == NULL)
            return -ENOMEM;
        waits->items = larger;
        waits->size = size;
    }
    strlcpy(waits->items[waits->count].network, wire->network, LIMIT_NAME_LEN + 1);
    strlcpy(waits->items[waits->count].name, wire->name, LIMIT_NAME_LEN + 1);
    waits->count++;
    return 0;
}

// ---- the step ----

static void forget_step(struct batch *batch)
{
    memset(batch->tally, 0, sizeof(batch->tally));
    batch->fresh.count = 0;
    batch->removed_count = 0;
    batch->removed_gone = 0;
    batch->owner_count = 0;
    batch->option_count = 0;
    wire_list_clear(&batch->waits);
    free(batch->plan);
    batch->plan = NULL;
}

// If-Match of a batch is about the whole: its tag is the generation.
static int check_generation(const struct command *command, const struct model_change *change, struct error *error)
{
    const struct object whole = {.kind = OBJECT_NETWORK, .generation = change->generation};

    if (command->if_none_match != NULL)
        return error_set(error, PATCHBAY_ERROR_MALFORMED, NULL,
                         "The state as a whole takes If-Match alone; If-None-Match can stand in an operation.");
    if (command->if_match == NULL && command->batch->kind == BATCH_CONFIG && !command->options.force &&
        !command->batch->dry_run)
        return error_set(error, PATCHBAY_ERROR_PRECONDITION_REQUIRED, NULL,
                         "A whole configuration undoes what others have changed meanwhile. Send If-Match with the "
                         "ETag of GET /v1/config, or ?force=1.");
    // force says that it doesn't matter what was changed meanwhile.
    return command->if_match == NULL ? 0 : check_match(&whole, command->if_match, NULL, error);
}

int batch_step(struct command *command, struct model_change *change, struct error *error)
{
    struct batch *batch = command->batch;
    struct model_mark mark = {.record_count = change->record_count, .generation = change->generation};
    int result;

    forget_step(batch);
    handover_begin(change);
    result = check_generation(command, change, error);
    if (result != 0)
        return -EINVAL;
    result =
        batch->kind == BATCH_CONFIG ? config_step(command, change, error) : transaction_step(command, change, error);
    if (result == 0)
        result = batch_settle_devices(batch, change, mark, error);
    command->generation = change->generation;
    if (result == 0)
        return 0;
    batch_undo(change, mark);
    return -EINVAL;
}

void batch_undo(struct model_change *change, struct model_mark mark)
{
    for (size_t i = mark.record_count; i < change->record_count; i++) {
        const struct model_record *record = &change->records[i];
        const struct vif *vif = (const struct vif *)record->new;

        // A slot with a device is given back when that is gone.
        if (record->old == NULL && record->new->kind == OBJECT_VIF &&device_find(vif->slot) == NULL)
            model_slot_release(control.model, vif->slot);
    }
    model_undo(change, mark);
}

// ---- the answer ----

static void print_results(const struct batch *batch, FILE *out)
{
    static const char *const words[] = {
        [BATCH_SAME] = "same", [BATCH_UPDATED] = "changed", [BATCH_CREATED] = "created", [BATCH_DELETED] = "deleted"};

    fputs(",\"results\":[", out);
    for (size_t i = 0; i < batch->count; i++)
        fprintf(out, "%s\"%s\"", i > 0 ? "," : "", words[batch->results[i]]);
    fputc(']', out);
}

static void print_answer(const struct command *command, FILE *out)
{
    const struct batch *batch = command->batch;

    // What a dry run would have made never was.
    fprintf(out, "{\"generation\":%llu,\"dry_run\":%s,\"created\":%zu,\"changed\":%zu,\"deleted\":%zu,\"same\":%zu",
            (unsigned long long)(batch->dry_run ? model_generation(control.model) : command->generation),
            batch->dry_run ? "true" : "false", batch->tally[BATCH_CREATED], batch->tally[BATCH_UPDATED],
            batch->tally[BATCH_DELETED], batch->tally[BATCH_SAME]);
    if (batch->kind == BATCH_TRANSACTION) {
        print_results(batch, out);
    } else {
        fputs(",\"changes\":[", out);
        fwrite(batch->plan != NULL ? batch->plan : "", 1, batch->plan_size, out);
        fputc(']', out);
    }
    fputs("}\n", out);
}

void batch_answer(struct command *command)
{
    const struct batch *batch = command->batch;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    if (out != NULL) {
        print_answer(command, out);
        fclose(out);
    }
    log_message(LOG_LEVEL_DEBUG, "apply", "%s %s%s: %zu created, %zu changed, %zu deleted", command->exchange->method,
                command->exchange->path, batch->dry_run ? " (dry run)" : "", batch->tally[BATCH_CREATED],
                batch->tally[BATCH_UPDATED], batch->tally[BATCH_DELETED]);
    if (!batch->dry_run)
        trail_log_change(command, command_status(command));
    exchange_answer_text(command->exchange, 200, text, size,
                         batch->dry_run ? model_generation(control.model) : command->generation);
}

void batch_blame(const struct batch *batch, size_t item, struct error *error)
{
    static const char *const sections[OBJECT_KIND_COUNT] = {"networks", "vifs", "ports", "wires"};
    size_t kind = 0;

    if (batch->kind == BATCH_TRANSACTION) {
        error->index = (int)item;
        return;
    }
    while (kind + 1 < OBJECT_KIND_COUNT && item >= batch->sections[kind + 1])
        kind++;
    // In a configuration the network is a field like any other.
    if (error->code == PATCHBAY_ERROR_NOT_FOUND) {
        error->code = PATCHBAY_ERROR_NO_SUCH_REF;
        snprintf(error->field, sizeof(error->field), "network");
    }
    error_prefix(error, error->field[0] != '\0' ? "%s[%zu]." : "%s[%zu]", sections[kind], item - batch->sections[kind]);
}
