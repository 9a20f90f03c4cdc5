// SPDX-License-Identifier: BSD-3-Clause
#include "write.h"

#include "apply.h"
#include "batch.h"
#include "request.h"
#include "trail.h"

#include <stdlib.h>
#include <string.h>

void write_object(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    bool is_delete = strcmp(exchange->method, "DELETE") == 0;
    enum command_verb verb = is_delete                              ? COMMAND_DELETE
                             : strcmp(exchange->method, "PUT") == 0 ? COMMAND_PUT
                                                                    : COMMAND_PATCH;
    struct command *command;
    struct error error;
    json_t *body = NULL;

    if (is_delete && exchange->body_size > 0) {
        error_set(&error, PATCHBAY_ERROR_MALFORMED, NULL, "DELETE takes no body.");
        trail_log_refusal(exchange, &error);
        exchange_fail(exchange, &error);
        return;
    }
    if (!is_delete) {
        body = request_parse(exchange->body != NULL ? exchange->body : "", exchange->body_size, &error);
        if (body == NULL) {
            trail_log_refusal(exchange, &error);
            exchange_fail(exchange, &error);
            return;
        }
    }
    command = command_create(exchange, verb, body);
    if (command == NULL) {
        json_decref(body);
        error_set(&error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
        exchange_fail(exchange, &error);
        return;
    }
    command->kind = target->kind;
    command->is_tee = target->is_tee;
    command->options = parameters->options;
    command->if_match = exchange->if_match;
    command->if_none_match = exchange->if_none_match;
    strlcpy(command->network, target->network, sizeof(command->network));
    strlcpy(command->name, target->name, sizeof(command->name));
    strlcpy(command->tee, target->tee, sizeof(command->tee));
    apply_submit(command);
}

static void write_batch(struct exchange *exchange, const struct parameters *parameters, bool is_config)
{
    const char *body = exchange->body != NULL ? exchange->body : "";
    struct command *command = command_create(exchange, COMMAND_BATCH, NULL);
    struct error error;
    int result;

    if (command != NULL)
        command->batch = calloc(1, sizeof(*command->batch));
    if (command == NULL || command->batch == NULL) {
        result = error_set(&error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    } else {
        command->batch->kind = is_config ? BATCH_CONFIG : BATCH_TRANSACTION;
        command->batch->dry_run = parameters->dry_run;
        command->options = parameters->options;
        command->if_match = exchange->if_match;
        command->if_none_match = exchange->if_none_match;
        result = is_config ? config_parse(command->batch, body, exchange->body_size, &error)
                           : transaction_parse(command->batch, body, exchange->body_size, &error);
    }
    if (result == 0) {
        apply_submit(command);
        return;
    }
    trail_log_refusal(exchange, &error);
    exchange_fail(exchange, &error);
    if (command != NULL)
        command_destroy(command);
}

void write_transaction(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    (void)target;
    write_batch(exchange, parameters, false);
}

void write_config(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    (void)target;
    write_batch(exchange, parameters, true);
}
