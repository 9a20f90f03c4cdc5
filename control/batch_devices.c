// SPDX-License-Identifier: BSD-3-Clause
//
// The devices of a batch: all are made before it joins a group, by the device
// thread while others go on; one that fails takes all with it. Only one batch
// has devices made at a time, the next waits for its turn.

#include "batch.h"

#include "control.h"
#include "handover.h"
#include "making.h"
#include "plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct command *maker; // whose devices are being made
static void (*on_ready)(struct command *command);
static void (*on_failed)(struct command *command, const struct error *error);

static int compare_names(const void *one, const void *other)
{
    return strcmp(((const struct batch_vif *)one)->name, ((const struct batch_vif *)other)->name);
}

static struct batch_vif *add_vif(struct batch_vifs *vifs)
{
    if (vifs->count == vifs->room) {
        size_t room = vifs->room > 0 ? vifs->room * 2 : 16;
        struct batch_vif *larger = reallocarray(vifs->items, room, sizeof(*larger));

        if (larger == NULL)
            return NULL;
        vifs->items = larger;
        vifs->room = room;
    }
    return &vifs->items[vifs->count++];
}

int batch_note_fresh(struct batch *batch, const struct vif *vif, size_t item)
{
    struct batch_vif *fresh = add_vif(&batch->fresh);

    if (fresh == NULL)
        return -ENOMEM;
    *fresh = (struct batch_vif){.slot = vif->slot, .item = item};
    strlcpy(fresh->name, vif->object.name, sizeof(fresh->name));
    return 0;
}

struct device *batch_find_device(const struct batch *batch, const char *name)
{
    struct batch_vif key;
    const struct batch_vif *found;

    if (batch->devices.count == 0)
        return NULL;
    strlcpy(key.name, name, sizeof(key.name));
    found = bsearch(&key, batch->devices.items, batch->devices.count, sizeof(key), compare_names);
    return found != NULL ? found->device : NULL;
}

// ---- after a step ----

static int add_removed(struct batch *batch, vif_slot slot)
{
    if (batch->removed_count == batch->removed_room) {
        size_t room = batch->removed_room > 0 ? batch->removed_room * 2 : 16;
        vif_slot *larger = reallocarray(batch->removed, room, sizeof(*larger));

        if (larger == NULL)
            return -ENOMEM;
        batch->removed = larger;
        batch->removed_room = room;
    }
    batch->removed[batch->removed_count++] = slot;
    return 0;
}

static bool is_current(const char *name, vif_slot slot)
{
    const struct vif *vif = model_find_vif(control.model, name);

    return vif != NULL && vif->slot == slot;
}

// What goes still has its path, device or interface while the new devices are made.
static int check_handover(const struct batch *batch, const struct vif *old, struct error *error)
{
    const struct vif *holder = old->target != NULL ? model_find_target(control.model, old->kind, old->target) : NULL;

    if (holder == NULL)
        return 0;
    for (size_t i = 0; i < batch->fresh.count; i++) {
        if (batch->fresh.items[i].slot != holder->slot)
            continue;
        error_set(error, PATCHBAY_ERROR_TARGET_IN_USE, vif_target_field(holder->kind),
                  "vif \"%s\" has %.200s until this is done, and the new device of vif \"%s\" is made before, so that "
                  "all can be undone; a vif of the same kind and %s can take the old device over: make it one, or "
                  "delete the old vif in a request of its own first",
                  old->object.name, old->target, holder->object.name, vif_target_field(holder->kind));
        batch_blame(batch, batch->fresh.items[i].item, error);
        return -EINVAL;
    }
    return 0;
}

// Those that somebody else has made meanwhile, or that nobody wants any more.
static void drop_unused(struct batch *batch)
{
    size_t kept = 0;

    for (size_t i = 0; i < batch->devices.count; i++) {
        if (is_current(batch->devices.items[i].name, batch->devices.items[i].slot))
            batch->devices.items[kept++] = batch->devices.items[i];
        else
            device_remove(batch->devices.items[i].device);
    }
    batch->devices.count = kept;
}

// Of the vifs that the step made: those that are still there at its end, and have no device.
static void keep_fresh(struct batch *batch)
{
    size_t kept = 0;

    for (size_t i = 0; i < batch->fresh.count; i++) {
        const struct batch_vif *fresh = &batch->fresh.items[i];

        if (device_find(fresh->slot) != NULL)
            continue;
        if (is_current(fresh->name, fresh->slot))
            batch->fresh.items[kept++] = *fresh;
        else
            model_slot_release(control.model, fresh->slot); // made and deleted in one breath
    }
    batch->fresh.count = kept;
}

int batch_settle_devices(struct batch *batch, const struct model_change *change, struct model_mark mark,
                         struct error *error)
{
    keep_fresh(batch);
    for (size_t i = mark.record_count; i < change->record_count; i++) {
        const struct model_record *record = &change->records[i];
        const struct vif *old = (const struct vif *)record->old;
        const struct device *device;

        if (record->old == NULL || record->new != NULL || record->old->kind != OBJECT_VIF)
            continue;
        if (check_handover(batch, old, error) != 0)
            return -EINVAL;
        device = device_find(old->slot);
        if (old->target != NULL && handover_kept(change, mark.record_count, old->slot))
            continue;
        if (device != NULL && batch_find_device(batch, old->object.name) != device &&
            add_removed(batch, old->slot) != 0)
            return error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    }
    drop_unused(batch);
    return 0;
}

// ---- making ----

bool batch_making_conflicts(const struct vif *vif)
{
    if (maker == NULL)
        return false;
    for (size_t i = 0; i < maker->batch->devices.count; i++) {
        const struct device *device = maker->batch->devices.items[i].device;

        if (strcmp(device->name, vif->object.name) == 0 ||
            (device->target != NULL && vif->target != NULL && strcmp(device->target, vif->target) == 0))
            return true;
    }
    return false;
}

bool batch_must_wait(const struct batch *batch)
{
    if (maker != NULL || devices_going() > 0)
        return true;
    for (size_t i = 0; i < batch->fresh.count; i++)
        if (making_conflicts(model_find_vif(control.model, batch->fresh.items[i].name)))
            return true;
    return false;
}

bool batch_is_making(const struct command *command)
{
    return maker == command;
}

void batch_drop_devices(struct batch *batch)
{
    for (size_t i = 0; i < batch->devices.count; i++)
        device_remove(batch->devices.items[i].device);
    batch->devices.count = 0;
    batch->pending = 0;
}

struct command *batch_making_stop(void)
{
    struct command *command = maker;

    maker = NULL;
    if (command != NULL)
        batch_drop_devices(command->batch);
    return command;
}

static void fail(struct command *command, const struct device *device)
{
    struct batch *batch = command->batch;
    struct error error;
    size_t item = 0;

    for (size_t i = 0; i < batch->devices.count; i++)
        if (batch->devices.items[i].device == device)
            item = batch->devices.items[i].item;
    making_describe(device, &error);
    batch_blame(batch, item, &error);
    batch_making_stop();
    on_failed(command, &error);
}

static void on_made(struct device *device, void *arg)
{
    struct command *command = arg;

    if (device->state != DEVICE_THERE) {
        fail(command, device);
        return;
    }
    if (--command->batch->pending > 0)
        return;
    maker = NULL;
    on_ready(command);
}

int batch_make(struct command *command, void (*ready)(struct command *command),
               void (*failed)(struct command *command, const struct error *error))
{
    struct batch *batch = command->batch;

    on_ready = ready;
    on_failed = failed;
    maker = command;
    for (size_t i = 0; i < batch->fresh.count; i++) {
        const struct batch_vif *fresh = &batch->fresh.items[i];
        struct batch_vif *made = add_vif(&batch->devices);

        if (made != NULL) {
            *made = *fresh;
            made->device = device_make(fresh->slot, model_find_vif(control.model, fresh->name), on_made, command);
            if (made->device == NULL)
                batch->devices.count--;
        }
        if (made == NULL || made->device == NULL) {
            batch_making_stop();
            return -ENOMEM;
        }
        batch->pending++;
    }
    qsort(batch->devices.items, batch->devices.count, sizeof(batch->devices.items[0]), compare_names);
    return 0;
}

// ---- in a transaction of apply.c ----

void batch_keep_devices(struct batch *batch)
{
    batch->devices.count = 0;
}

bool batch_list_devices(struct batch *batch, bool forward)
{
    for (size_t i = 0; i < batch->devices.count; i++)
        device_list(batch->devices.items[i].device, forward);
    for (size_t i = 0; i < batch->removed_count; i++) {
        struct device *device = device_find(batch->removed[i]);

        if (device == NULL)
            continue;
        device_list(device, !forward);
        plan_late_vif(device->slot);
    }
    return batch->devices.count > 0 || batch->removed_count > 0;
}

bool batch_remove_devices(struct batch *batch)
{
    for (size_t i = 0; i < batch->removed_count; i++) {
        struct device *device = device_find(batch->removed[i]);

        if (device != NULL)
            device_remove(device);
    }
    return batch->removed_count > 0;
}

bool batch_all_gone(struct batch *batch)
{
    // They go in this order, and a slot may be another vif's as soon as it was given back.
    while (batch->removed_gone < batch->removed_count && device_find(batch->removed[batch->removed_gone]) == NULL)
        batch->removed_gone++;
    return batch->removed_gone == batch->removed_count;
}
