// SPDX-License-Identifier: BSD-3-Clause
#include "handover.h"

#include "control.h"
#include "devices.h"
#include "status.h"

#include <string.h>

// Where the records of the batch begin whose step is being done. Steps of others in the group come before it: a device
// that one of these takes out is gone.
static size_t begin;

void handover_begin(const struct model_change *change)
{
    begin = change->record_count;
}

static bool is_removal(const struct model_record *record)
{
    return record->old != NULL && record->new == NULL && record->old->kind == OBJECT_VIF;
}

static bool is_creation(const struct model_record *record)
{
    return record->old == NULL && record->new->kind == OBJECT_VIF;
}

static bool has_slot(vif_slot slot, const char *name)
{
    const struct vif *vif = model_find_vif(control.model, name);

    return vif != NULL && vif->slot == slot;
}

vif_slot handover_find(const struct model_change *change, const struct vif *next)
{
    if (next->target == NULL)
        return VIF_SLOT_NONE;
    // Backwards: the last that had the target is the one whose slot is free.
    for (size_t i = change->record_count; i > begin; i--) {
        const struct vif *old = (const struct vif *)change->records[i - 1].old;
        const struct device *device;

        if (!is_removal(&change->records[i - 1]) || old->kind != next->kind || strcmp(old->target, next->target) != 0)
            continue;
        device = device_find(old->slot);
        // One that isn't whole has nothing to hand over, and the device thread may be at it.
        return device != NULL && device->state == DEVICE_THERE ? old->slot : VIF_SLOT_NONE;
    }
    return VIF_SLOT_NONE;
}

bool handover_kept(const struct model_change *change, size_t from, vif_slot slot)
{
    for (size_t i = change->record_count; i > from; i--) {
        const struct vif *next = (const struct vif *)change->records[i - 1].new;

        if (is_creation(&change->records[i - 1]) && next->slot == slot)
            return has_slot(slot, next->object.name);
    }
    return false;
}

void handover_commit(const struct model_change *change)
{
    for (size_t i = 0; i < change->record_count; i++) {
        const struct vif *old = (const struct vif *)change->records[i].old;
        struct device *device = is_removal(&change->records[i]) && old->target != NULL ? device_find(old->slot) : NULL;

        if (device == NULL)
            continue;
        // The vif that has it by now, if any has.
        for (size_t j = change->record_count; j > i; j--) {
            const struct vif *next = (const struct vif *)change->records[j - 1].new;

            if (!is_creation(&change->records[j - 1]) || next->slot != old->slot ||
                !has_slot(old->slot, next->object.name))
                continue;
            strlcpy(device->name, next->object.name, sizeof(device->name));
            vif_rename(device->slot, device->name);
            status_refresh_vif_alone(model_find_vif(control.model, device->name));
            break;
        }
    }
}
