// SPDX-License-Identifier: BSD-3-Clause
#include "command.h"

#include "batch.h"
#include "check.h"
#include "conf_request.h"
#include "control.h"
#include "handover.h"
#include "log.h"
#include "render.h"
#include "request.h"
#include "status.h"
#include "trail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char *const verbs[] = {"PUT", "PATCH", "DELETE", "promote", "batch"};

struct command *command_create(struct exchange *exchange, enum command_verb verb, json_t *body)
{
    struct command *command = calloc(1, sizeof(*command));

    if (command == NULL)
        return NULL;
    command->exchange = exchange;
    command->verb = verb;
    command->body = body;
    command->removed = VIF_SLOT_NONE;
    command->options =
        (struct command_options){.when_ready = -1, .quiet_ms = DEFAULT_QUIET_MS, .drain_ms = DEFAULT_DRAIN_MS};
    return command;
}

void command_destroy(struct command *command)
{
    timer_cancel(&command->timeout);
    json_decref(command->body);
    json_decref(command->shown);
    batch_destroy(command->batch);
    free(command);
}

bool command_needs_device(const struct command *command)
{
    return command->verb == COMMAND_PUT && command->kind == OBJECT_VIF && command->device == NULL &&
           model_find_vif(control.model, command->name) == NULL;
}

// ---- steps ----

static struct change_options make_options(const struct command *command)
{
    struct change_options options = CHANGE_OPTIONS_DEFAULT;

    options.detach = command->options.detach;
    options.force = command->options.force;
    options.when_ready = command->options.when_ready;
    options.vif_is_up = status_vif_is_up;
    if (command->device != NULL)
        options.slot = command->device->slot;
    return options;
}

static int check_preconditions(const struct command *command, const struct object *object, struct error *error)
{
    return check_match(object, command->if_match, command->if_none_match, error);
}

// A relative path of a vhost socket is taken under --vhost-dir, once, here:
// what is kept and shown is absolute, so the same PUT stays identical.
int command_place_target(struct object *object, struct error *error)
{
    struct vif *vif = (struct vif *)object;
    const char *dir = control.options->vhost_dir;
    char *path;

    if (object->kind != OBJECT_VIF || (vif->kind != VIF_VHOST && vif->kind != VIF_VHOST_SERVER) ||
        vif->target == NULL || vif->target[0] == '/' || vif->target[0] == '\0')
        return 0;
    if (strlen(dir) + 1 + strlen(vif->target) > LIMIT_SOCKET_PATH_LEN)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "path",
                         "A relative path is taken under %s, and together they have more than %d bytes. Give a "
                         "shorter one.",
                         dir, LIMIT_SOCKET_PATH_LEN);
    path = malloc(strlen(dir) + 1 + strlen(vif->target) + 1);
    if (path == NULL)
        return error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    strcpy(path, dir);
    strcat(path, "/");
    strcat(path, vif->target);
    free(vif->target);
    vif->target = path;
    return 0;
}

int command_check_worker(const struct object *object, struct error *error)
{
    const struct vif *vif = (const struct vif *)object;
    const struct vif *old = object->kind == OBJECT_VIF ? model_find_vif(control.model, object->name) : NULL;

    if (object->kind != OBJECT_VIF || vif->pin <= worker_count() || (old != NULL && old->pin == vif->pin))
        return 0;
    return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "worker",
                     "There is no worker %u: this daemon has %u, counted from 0 (patchbayd --workers).", vif->pin - 1u,
                     worker_count());
}

// The version that the command asks for. NULL with the error.
static struct object *make_version(const struct command *command, const struct object *old, struct error *error)
{
    struct object *next;
    json_t *body;

    if (command->verb != COMMAND_PATCH)
        return request_decode(command->kind, command->network, command->name, command->body, error);
    if (command->conf == NULL)
        return request_patch(old, command->body, error);
    body = conf_patch(command->conf, old, command->body);
    if (body == NULL) {
        error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
        return NULL;
    }
    next = request_patch(old, body, error);
    json_decref(body);
    return next;
}

static int put_object(struct command *command, struct model_change *change, struct error *error)
{
    struct change_options options = make_options(command);
    const struct object *old = model_find(control.model, command->kind, command->network, command->name);
    struct object *next;

    if (check_preconditions(command, old, error) != 0)
        return -EINVAL;
    if (command->verb == COMMAND_PATCH && old == NULL)
        return check_find(control.model, command->kind, command->network, command->name, error) == NULL ? -EINVAL : 0;
    next = make_version(command, old, error);
    if (next == NULL)
        return -EINVAL;
    if (command_place_target(next, error) != 0 || command_check_worker(next, error) != 0) {
        object_destroy(next);
        return -EINVAL;
    }
    if (command->quiet && old == NULL && next->kind == OBJECT_VIF && options.slot == VIF_SLOT_NONE)
        options.slot = handover_find(change, (const struct vif *)next);
    return change_put(change, next, &options, error);
}

static const struct wire *find_wire(const struct command *command, struct error *error)
{
    return (const struct wire *)check_find(control.model, OBJECT_WIRE, command->network, command->name, error);
}

static int put_tee(struct command *command, struct model_change *change, struct error *error)
{
    struct change_options options = make_options(command);
    const struct wire *old = find_wire(command, error);
    struct wire *next;
    int position;

    if (old == NULL)
        return -EINVAL;
    position = wire_find_tee(old, command->tee);
    if (check_preconditions(command, position >= 0 ? &old->tees[position].object : NULL, error) != 0) {
        // A T is no object of its own to those conditions: they would call it a wire.
        if (error->code == PATCHBAY_ERROR_EXISTS)
            error_set(error, PATCHBAY_ERROR_EXISTS, NULL, "wire \"%s\" has a T \"%s\" already, %s", command->name,
                      command->tee,
                      strcmp(command->if_none_match, "*") == 0 ? "and If-None-Match: * only creates"
                                                               : "at the version that If-None-Match excludes");
        return -EINVAL;
    }
    if (command->verb == COMMAND_PATCH && position < 0 && check_find_tee(old, command->tee, error) < 0)
        return -EINVAL;
    next = command->verb == COMMAND_PATCH ? request_patch_tee(old, command->tee, command->body, error)
                                          : request_decode_tee(old, command->tee, command->body, error);
    if (next == NULL)
        return -EINVAL;
    return change_put_tee(change, next, command->tee, &options, error);
}

static int delete_object(struct command *command, struct model_change *change, struct error *error)
{
    struct change_options options = make_options(command);
    const struct object *old = check_find(control.model, command->kind, command->network, command->name, error);
    vif_slot slot = VIF_SLOT_NONE;
    json_t *shown;
    int result;

    if (old == NULL || check_preconditions(command, old, error) != 0)
        return -EINVAL;
    shown = command->quiet ? NULL : render_object(old);
    if (command->kind == OBJECT_VIF)
        slot = ((const struct vif *)old)->slot;
    command->generation = old->generation;
    result = change_delete(change, command->kind, command->network, command->name, &options, error);
    json_decref(command->shown);
    command->shown = shown;
    command->removed = result == 0 ? slot : VIF_SLOT_NONE;
    return result;
}

static int delete_tee(struct command *command, struct model_change *change, struct error *error)
{
    struct change_options options = make_options(command);
    const struct wire *wire = find_wire(command, error);
    int position = wire != NULL ? check_find_tee(wire, command->tee, error) : -1;

    if (position < 0 || check_preconditions(command, &wire->tees[position].object, error) != 0)
        return -EINVAL;
    json_decref(command->shown);
    command->shown = command->quiet ? NULL : render_tee(wire, (size_t)position);
    command->generation = wire->object.generation;
    return change_delete_tee(change, command->network, command->name, command->tee, &options, error);
}

// Keeps the version that the step made: a later command of the group may replace it before the answer goes out.
static void keep_version(struct command *command)
{
    const struct object *object = model_find(control.model, command->kind, command->network, command->name);
    const struct wire *wire = (const struct wire *)object;

    command->generation = object->generation;
    if (command->quiet)
        return;
    json_decref(command->shown);
    command->shown =
        command->is_tee ? request_encode_tee(&wire->tees[wire_find_tee(wire, command->tee)]) : request_encode(object);
}

// Its arms were up when it was asked for. If they aren't any more it goes on waiting: the next news of them asks again.
static int promote(const struct command *command, struct model_change *change, struct error *error)
{
    const struct wire *wire = find_wire(command, error);
    int position = wire != NULL ? check_find_tee(wire, command->tee, error) : -1;

    if (position < 0)
        return -EINVAL;
    if (!status_arms_up(&wire->tees[position]))
        return error_set(error, PATCHBAY_ERROR_BUMP_DOWN, NULL, "An arm of T \"%s\" went down again.", command->tee);
    return change_promote(change, command->network, command->name, command->tee, error);
}

int command_step(struct command *command, struct model_change *change, struct error *error)
{
    int result;

    error_clear(error);
    if (command->batch != NULL)
        return batch_step(command, change, error);
    if (command->verb == COMMAND_PROMOTE)
        return promote(command, change, error);
    if (command->verb == COMMAND_DELETE)
        return command->is_tee ? delete_tee(command, change, error) : delete_object(command, change, error);
    result = command->is_tee ? put_tee(command, change, error) : put_object(command, change, error);
    if (result < 0)
        return result;
    command->result = (enum change_result)result;
    keep_version(command);
    return 0;
}

// ---- answers ----

unsigned command_status(const struct command *command)
{
    return command->verb == COMMAND_PUT && command->result == CHANGE_CREATED ? 201 : 200;
}

// The version that was made, with the status as it is by now.
static json_t *show(struct command *command)
{
    json_t *shown = command->shown;
    const struct object *object = model_find(control.model, command->kind, command->network, command->name);
    const char *uid = json_string_value(json_object_get(shown, "uid"));

    command->shown = NULL;
    if (command->conf != NULL)
        return conf_answer(command, shown);
    if (command->verb == COMMAND_DELETE || object == NULL || uid == NULL)
        return shown;
    if (command->is_tee) {
        const struct wire *wire = (const struct wire *)object;
        int position = wire_find_tee(wire, command->tee);

        return position >= 0 ? render_tee_with_status(shown, wire, (size_t)position) : shown;
    }
    return strcmp(object->uid, uid) == 0 ? render_with_status(shown, object) : shown;
}

void command_succeed(struct command *command)
{
    if (command->batch != NULL) {
        batch_answer(command);
        command_destroy(command);
        return;
    }
    trail_log_change(command, command_status(command));
    if (command->exchange != NULL)
        exchange_answer(command->exchange, command_status(command), show(command), command->generation);
    command_destroy(command);
}

void command_fail(struct command *command, const struct error *error)
{
    if (command->exchange != NULL) {
        trail_log_refusal(command->exchange, error);
        exchange_fail(command->exchange, error);
    } else {
        log_message(LOG_LEVEL_DEBUG, "apply", "%s %s/%s: %s", verbs[command->verb], command->network, command->name,
                    error->message);
    }
    command_destroy(command);
}
