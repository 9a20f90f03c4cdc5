// SPDX-License-Identifier: BSD-3-Clause
#include "event_config.h"

#include "control.h"
#include "event_log.h"
#include "server.h"
#include "status.h"

#include <stdio.h>
#include <string.h>

// Who asked for it: `{"uid":0,"pid":17},"request":"PUT /v1/…"`; Patchbay itself is null.
static void print_cause(const struct exchange *exchange, char *text, size_t size)
{
    char path[1024];

    if (exchange == NULL) {
        strlcpy(text, "null,\"request\":null", size);
        return;
    }
    event_log_escape(exchange->path, path, sizeof(path));
    snprintf(text, size, "{\"uid\":%u,\"pid\":%d},\"request\":\"%s %s\"", (unsigned)exchange->peer.uid,
             (int)exchange->peer.pid, exchange->method, path);
}

static void tell_record(const struct model_record *record, uint64_t generation, const char *cause)
{
    const struct object *object = record->new != NULL ? record->new : record->old;
    const char *op = record->old == NULL ? "create" : record->new == NULL ? "delete" : "change";
    bool in_network = object->kind == OBJECT_PORT || object->kind == OBJECT_WIRE;

    event_log_add(
        "config", "\"op\":\"%s\",\"kind\":\"%s\",%s%s%s\"name\":\"%s\",\"uid\":\"%s\",\"generation\":%llu,\"by\":%s",
        op, object_kind_name(object->kind), in_network ? "\"network\":\"" : "", in_network ? object->network : "",
        in_network ? "\"," : "", object->name, object->uid, (unsigned long long)generation, cause);
}

static void tell_link(const struct vif *vif)
{
    // Deleted again in the same group, it has nothing to say.
    if (vif != NULL)
        status_refresh_vif_alone(vif);
}

// A device that was up before its vif was in the model has had its news, and nobody could be told of which vif: what a
// new vif begins with is told here.
static void tell_links(const struct model_change *change)
{
    for (size_t i = 0; i < change->record_count; i++) {
        const struct object *object = change->records[i].new;

        if (change->records[i].old == NULL && object->kind == OBJECT_VIF)
            tell_link(model_find_vif(control.model, object->name));
    }
}

void event_config_tell(const struct model_change *change, const struct command_list *group)
{
    const struct command *command = TAILQ_FIRST(group);
    uint64_t generation = model_generation(control.model);
    char cause[1200];
    size_t step = 0; // record at which the current command's begin

    print_cause(command != NULL ? command->exchange : NULL, cause, sizeof(cause));
    for (size_t i = 0; i < change->record_count; i++) {
        const struct model_record *record = &change->records[i];

        while (command != NULL && i >= command->record_end) {
            step = i;
            command = TAILQ_NEXT(command, entry);
            print_cause(command != NULL ? command->exchange : NULL, cause, sizeof(cause));
        }
        // A version knows its generation; that of a removal is its step's.
        if (record->new != NULL)
            generation = record->new->generation;
        else if (i == step)
            generation++;
        tell_record(record, generation, cause);
    }
    tell_links(change);
}
