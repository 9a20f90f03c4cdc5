// SPDX-License-Identifier: BSD-3-Clause
#include "queue.h"

#include "control.h"
#include "live.h"
#include "making.h"

#include <stdlib.h>
#include <string.h>

static struct command_list queue = TAILQ_HEAD_INITIALIZER(queue);
static bool stirred;

void queue_add(struct command *command)
{
    TAILQ_INSERT_TAIL(&queue, command, entry);
    stirred = true;
}

bool queue_stirred(void)
{
    return stirred;
}

void queue_stir(void)
{
    stirred = true;
}

static void answer_error(struct command *command, const struct error *error)
{
    TAILQ_REMOVE(&queue, command, entry);
    if (command->device != NULL)
        device_remove(command->device);
    command_fail(command, error);
}

// ---- commands that make a vif ----

// Its device is there: it goes on, first in line, since it has waited.
static void on_ready(struct command *command)
{
    TAILQ_INSERT_HEAD(&queue, command, entry);
    stirred = true;
}

static void time_out(void *arg)
{
    struct command *command = arg;
    struct error error;

    error_set(&error, PATCHBAY_ERROR_UNAVAILABLE, NULL,
              "The device of vif %s was not there within %d seconds; nothing was changed. Try again, and look at the "
              "daemon's log.",
              command->name, LIMIT_REQUEST_SECONDS);
    if (command->device != NULL)
        making_forget(command);
    else
        TAILQ_REMOVE(&queue, command, entry);
    command_fail(command, &error);
}

static bool removes_vifs(const struct command_list *group)
{
    const struct command *command;

    TAILQ_FOREACH(command, group, entry)
    if (command->removed != VIF_SLOT_NONE)
        return true;
    return false;
}

// Checks the command in a step that is undone again, and has the device made.
static void make_device(struct command *command, struct model_change *change, const struct command_list *group)
{
    struct model_mark mark;
    const struct vif *vif;
    struct error error;

    if (!command->timeout.armed)
        timer_arm(&command->timeout, clock_now() + (uint64_t)LIMIT_REQUEST_SECONDS * 1000000000, time_out, command);
    // A vif on its way out may hold the path or interface that this one wants.
    if (devices_going() > 0 || removes_vifs(group))
        return;
    mark = model_step(change);
    if (command_step(command, change, &error) != 0) {
        answer_error(command, &error);
        return;
    }
    vif = model_find_vif(control.model, command->name);
    if (making_conflicts(vif)) {
        vif_slot slot = vif->slot;

        model_undo(change, mark);
        model_slot_release(control.model, slot);
        return;
    }
    TAILQ_REMOVE(&queue, command, entry);
    if (!making_begin(command, vif, on_ready)) {
        error_set(&error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
        command_fail(command, &error);
    }
    model_undo(change, mark);
}

// ---- the others, and those whose device is there ----

// A wire that is made anew under the name of one that is still in the dataplane has to wait.
static bool name_is_taken(const struct command *command)
{
    return command->kind == OBJECT_WIRE && !command->is_tee && command->verb == COMMAND_PUT &&
           command->result == CHANGE_CREATED && live_find(command->network, command->name) != NULL;
}

static void take(struct command *command, struct model_change *change, struct command_list *group,
                 struct wish_list *wishes)
{
    struct model_mark mark = model_step(change);
    struct error error;

    if (command_step(command, change, &error) != 0) {
        answer_error(command, &error);
        return;
    }
    if (name_is_taken(command) || conflict_blocks(change, mark, wishes) ||
        conflict_note(change, mark, command, wishes) != 0) {
        model_undo(change, mark);
        command->removed = VIF_SLOT_NONE;
        return;
    }
    if (command->device != NULL) {
        const struct vif *vif = model_find_vif(control.model, command->name);

        // Somebody else has made the vif meanwhile: this device is of no use.
        if (vif == NULL || vif->slot != command->device->slot) {
            device_remove(command->device);
            command->device = NULL;
        }
    }
    TAILQ_REMOVE(&queue, command, entry);
    TAILQ_INSERT_TAIL(group, command, entry);
}

void queue_collect(struct model_change *change, struct command_list *group, struct wish_list *wishes)
{
    struct command *command, *next;

    stirred = false;
    TAILQ_FOREACH_SAFE(command, &queue, entry, next)
    {
        if (command_needs_device(command))
            make_device(command, change, group);
        else
            take(command, change, group, wishes);
    }
}

void queue_stop(const struct error *error)
{
    struct command *command;

    making_stop(error);
    while ((command = TAILQ_FIRST(&queue)) != NULL)
        answer_error(command, error);
}
