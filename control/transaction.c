// SPDX-License-Identifier: BSD-3-Clause
//
// POST /v1/transactions: a list of operations, each what a request by itself
// would be, done in order in one step. They are parsed when it is their turn,
// in every attempt anew: text is a tenth of what jansson makes of it.

#include "batch.h"

#include "conf_request.h"
#include "control.h"
#include "names.h"
#include "request.h"
#include "routes.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 1024 };

// ---- the body ----

struct reading {
    struct batch *batch;
    const char *body;
    struct error *error;
    bool any;
};

static int take_operation(void *arg, const struct slice *item)
{
    struct reading *reading = arg;

    if (reading->batch->count == LIMIT_OPERATIONS)
        return error_set(reading->error, PATCHBAY_ERROR_LIMIT_REACHED, "operations",
                         "a transaction has at most %d operations (LIMIT_OPERATIONS); send more of them, or PUT the "
                         "whole configuration to /v1/config",
                         LIMIT_OPERATIONS);
    if (batch_add(reading->batch, item) != 0)
        return error_set(reading->error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    return 0;
}

static int take_member(void *arg, const char *key, const struct slice *value)
{
    struct reading *reading = arg;

    if (strcmp(key, "operations") != 0)
        return error_set(reading->error, PATCHBAY_ERROR_UNKNOWN_FIELD, key,
                         "a transaction has no field \"%.80s\"; it has operations", key);
    if (reading->any || value->text[0] != '[')
        return error_set(reading->error, PATCHBAY_ERROR_BAD_VALUE, "operations",
                         "operations is an array of objects, given once");
    reading->any = true;
    return slicer_array(reading->body, value, take_operation, reading, reading->error);
}

int transaction_parse(struct batch *batch, const char *body, size_t size, struct error *error)
{
    struct reading reading = {.batch = batch, .body = body, .error = error};

    if (slicer_object(body, size, take_member, &reading, error) != 0)
        return -EINVAL;
    if (!reading.any)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "operations",
                         "a transaction needs operations: {\"operations\": [{\"method\", \"path\", \"body\"}, …]}");
    batch->results = calloc(batch->count > 0 ? batch->count : 1, sizeof(*batch->results));
    return batch->results != NULL ? 0 : error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
}

// ---- one operation ----

// The string of a member, or NULL; *error is set if it is something else.
static const char *take_text(const json_t *operation, const char *key, struct error *error)
{
    const json_t *value = json_object_get(operation, key);

    if (json_is_null(value) || value == NULL)
        return NULL;
    if (json_is_string(value))
        return json_string_value(value);
    error_set(error, PATCHBAY_ERROR_BAD_VALUE, key, "%s is a string", key);
    return NULL;
}

static int check_known(const json_t *operation, struct error *error)
{
    static const char *const known[] = {"method", "path", "body", "if_match", "if_none_match"};
    const char *key;
    json_t *ignored;

    json_object_foreach((json_t *)operation, key, ignored)
    {
        struct names_nearest nearest;
        bool found = false;

        names_nearest_init(&nearest, key);
        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
            found = found || strcmp(known[i], key) == 0;
            names_nearest_offer(&nearest, known[i]);
        }
        if (!found)
            return error_set(
                error, PATCHBAY_ERROR_UNKNOWN_FIELD, key,
                "an operation has no field \"%.80s\"; %s%s%sit has method, path, body, if_match and "
                "if_none_match, e.g. {\"method\": \"PUT\", \"path\": \"/v1/vifs/vm1\", \"body\": {\"kind\": "
                "\"none\"}}",
                key, nearest.best != NULL ? "did you mean \"" : "", nearest.best != NULL ? nearest.best : "",
                nearest.best != NULL ? "\"? " : "");
    }
    return 0;
}

// How a drain is done is said in the transaction's own query, and where an operation's says something else that counts.
static void inherit_drain(struct parameters *parameters, const struct command_options *whole)
{
    struct command_options *own = &parameters->options;

    if ((parameters->given & PARAMETER_QUIET_MS) == 0)
        own->quiet_ms = whole->quiet_ms;
    if ((parameters->given & PARAMETER_DRAIN_MS) == 0)
        own->drain_ms = whole->drain_ms;
    if ((parameters->given & PARAMETER_WAIT) == 0)
        own->wait_seconds = whole->wait_seconds;
    own->drain_given = own->drain_given || whole->drain_given;
}

static int read_path(struct command *command, const char *method, const char *path, const struct command_options *whole,
                     struct target *target, bool *says_how, struct error *error)
{
    struct parameters parameters;
    unsigned allowed;
    char text[PATH_SIZE];
    char *query;

    if (strlcpy(text, path, sizeof(text)) >= sizeof(text))
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "path", "a path has at most %d bytes", PATH_SIZE - 1);
    query = strchr(text, '?');
    if (query != NULL)
        *query++ = '\0';
    if (routes_find_change(method, text, target, &allowed, error) != 0)
        return -EINVAL;
    if (parameters_parse_query(query != NULL ? query : "", allowed, &parameters, error) != 0)
        return -EINVAL;
    inherit_drain(&parameters, whole);
    *says_how = (parameters.given & PARAMETERS_DRAIN) != 0;
    command->kind = target->kind;
    command->is_tee = target->is_tee;
    command->options = parameters.options;
    strlcpy(command->network, target->network, sizeof(command->network));
    strlcpy(command->name, target->name, sizeof(command->name));
    strlcpy(command->tee, target->tee, sizeof(command->tee));
    return 0;
}

// Takes the operation's body over, as a new reference. says_how: it has a word of its own on drains.
static int read_operation(struct command *command, const json_t *operation, const struct command_options *whole,
                          bool *says_how, struct error *error)
{
    const char *method, *path;
    struct target target;
    json_t *body;

    if (check_known(operation, error) != 0)
        return -EINVAL;
    error_clear(error);
    method = take_text(operation, "method", error);
    path = take_text(operation, "path", error);
    command->if_match = take_text(operation, "if_match", error);
    command->if_none_match = take_text(operation, "if_none_match", error);
    if (error->code != PATCHBAY_OK)
        return -EINVAL;
    if (method == NULL || path == NULL)
        return error_set(
            error, PATCHBAY_ERROR_BAD_VALUE, method == NULL ? "method" : "path",
            "an operation needs a method (\"PUT\", \"PATCH\" or \"DELETE\") and a path (\"/v1/vifs/vm1\")");
    if (read_path(command, method, path, whole, &target, says_how, error) != 0)
        return -EINVAL;
    command->verb = strcmp(method, "DELETE") == 0 ? COMMAND_DELETE
                    : strcmp(method, "PUT") == 0  ? COMMAND_PUT
                                                  : COMMAND_PATCH;
    body = json_object_get(operation, "body");
    if (command->verb == COMMAND_DELETE ? body != NULL : !json_is_object(body))
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "body",
                         command->verb == COMMAND_DELETE ? "DELETE takes no body" : "%s needs a body, an object",
                         method);
    if (target.key[0] != '\0')
        return conf_make_patch(&target, body, command, error);
    command->body = json_incref(body);
    return 0;
}

static int do_operation(struct command *command, const json_t *operation, struct model_change *change, size_t index,
                        struct error *error)
{
    struct batch *batch = command->batch;
    struct command one = {.removed = VIF_SLOT_NONE, .quiet = true};
    size_t before = change->record_count;
    bool says_how = false;
    int result = read_operation(&one, operation, &command->options, &says_how, error);

    if (one.kind == OBJECT_VIF && one.verb == COMMAND_PUT)
        one.device = batch_find_device(batch, one.name);
    if (result == 0)
        result = command_step(&one, change, error);
    json_decref(one.body);
    if (result != 0)
        return -EINVAL;
    for (size_t i = before; i < change->record_count; i++)
        if (change->records[i].old == NULL &&
            change->records[i].new->kind ==
                OBJECT_VIF &&batch_note_fresh(batch, (const struct vif *)change->records[i].new, index) != 0)
            return error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    if (one.kind == OBJECT_VIF && change->record_count > before && batch_note_owner(batch, change, index) != 0)
        return error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    if (says_how && change->record_count > before) {
        struct batch_options own = {.begin = before, .end = change->record_count, .options = one.options};

        if (batch_add_options(batch, &own) != 0)
            return error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    }
    batch->results[index] = one.verb == COMMAND_DELETE ? BATCH_DELETED : (uint8_t)one.result;
    batch->tally[batch->results[index]]++;
    return 0;
}

int transaction_step(struct command *command, struct model_change *change, struct error *error)
{
    const struct batch *batch = command->batch;

    for (size_t i = 0; i < batch->count; i++) {
        json_t *operation = request_parse(batch->items[i].text, batch->items[i].size, error);
        int result = operation != NULL ? do_operation(command, operation, change, i, error) : -EINVAL;

        json_decref(operation);
        if (result != 0) {
            batch_blame(batch, i, error);
            return -EINVAL;
        }
    }
    return 0;
}
