// SPDX-License-Identifier: BSD-3-Clause
#include "queue.h"

#include "adjust.h"
#include "batch.h"
#include "control.h"
#include "live.h"
#include "making.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH_DEVICE_NS = 50000000 }; // more time for each device of a batch

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
    if (command->batch != NULL)
        batch_drop_devices(command->batch);
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
    if (command->removed != VIF_SLOT_NONE || (command->batch != NULL && command->batch->removed_count > 0))
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

// ---- batches ----

static void time_out_batch(void *arg)
{
    struct command *command = arg;
    struct error error;

    error_set(&error, PATCHBAY_ERROR_UNAVAILABLE, NULL,
              "Not all devices were there in time; nothing was changed. Try again, and look at the daemon's log.");
    if (batch_is_making(command))
        batch_making_stop();
    else
        TAILQ_REMOVE(&queue, command, entry);
    batch_drop_devices(command->batch);
    command_fail(command, &error);
    stirred = true;
}

static void on_batch_ready(struct command *command)
{
    on_ready(command);
}

static void on_batch_failed(struct command *command, const struct error *error)
{
    command_fail(command, error);
    // Another batch may wait for its turn.
    stirred = true;
}

// Its step is done: undone again, whatever becomes of it here.
static void make_devices(struct command *command, struct model_change *change, struct model_mark mark,
                         const struct command_list *group)
{
    struct batch *batch = command->batch;
    uint64_t limit = (uint64_t)LIMIT_REQUEST_SECONDS * 1000000000 + batch->fresh.count * (uint64_t)BATCH_DEVICE_NS;
    struct error error;
    int result = 0;

    if (!command->timeout.armed)
        timer_arm(&command->timeout, clock_now() + limit, time_out_batch, command);
    if (!removes_vifs(group) && !batch_must_wait(batch)) {
        TAILQ_REMOVE(&queue, command, entry);
        result = batch_make(command, on_batch_ready, on_batch_failed);
    }
    batch_undo(change, mark);
    if (result == 0)
        return;
    error_set(&error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    command_fail(command, &error);
}

static void take_batch(struct command *command, struct model_change *change, struct command_list *group,
                       struct wish_list *wishes)
{
    struct model_mark mark = model_step(change);
    struct error error;
    size_t record;

    if (command_step(command, change, &error) != 0) {
        answer_error(command, &error);
    } else if (command->batch->dry_run) {
        batch_undo(change, mark);
        TAILQ_REMOVE(&queue, command, entry);
        command_succeed(command);
    } else if (command->batch->fresh.count > 0) {
        make_devices(command, change, mark, group);
    } else if (conflict_blocks(change, mark, wishes) || wishes_note(change, mark, command, wishes) != 0) {
        batch_undo(change, mark);
    } else if (adjust_devices(change, mark, &record, &error) != 0) {
        batch_blame_record(command->batch, record, &error);
        batch_undo(change, mark);
        answer_error(command, &error);
    } else {
        timer_cancel(&command->timeout);
        command->changed = change->record_count > mark.record_count;
        command->step_generation = change->generation;
        command->record_end = change->record_count;
        TAILQ_REMOVE(&queue, command, entry);
        TAILQ_INSERT_TAIL(group, command, entry);
    }
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
    size_t record;

    if (command_step(command, change, &error) != 0) {
        answer_error(command, &error);
        return;
    }
    command->changed = change->record_count > mark.record_count;
    command->step_generation = change->generation;
    if (name_is_taken(command) || conflict_blocks(change, mark, wishes) ||
        wishes_note(change, mark, command, wishes) != 0) {
        model_undo(change, mark);
        command->removed = VIF_SLOT_NONE;
        return;
    }
    if (adjust_devices(change, mark, &record, &error) != 0) {
        model_undo(change, mark);
        answer_error(command, &error);
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
    command->record_end = change->record_count;
    TAILQ_REMOVE(&queue, command, entry);
    TAILQ_INSERT_TAIL(group, command, entry);
}

void queue_collect(struct model_change *change, struct command_list *group, struct wish_list *wishes)
{
    struct command *command, *next;

    stirred = false;
    TAILQ_FOREACH_SAFE(command, &queue, entry, next)
    {
        if (command->batch != NULL)
            take_batch(command, change, group, wishes);
        else if (command_needs_device(command))
            make_device(command, change, group);
        else
            take(command, change, group, wishes);
    }
}

void queue_stop(const struct error *error)
{
    struct command *command;

    making_stop(error);
    if ((command = batch_making_stop()) != NULL)
        command_fail(command, error);
    while ((command = TAILQ_FIRST(&queue)) != NULL)
        answer_error(command, error);
}
