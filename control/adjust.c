// SPDX-License-Identifier: BSD-3-Clause
#include "adjust.h"

#include "control.h"
#include "devices.h"
#include "log.h"

#include <errno.h>

// The device of a vif if it must be told something else than it was; NULL: not.
static struct device *find_other(const struct vif *vif)
{
    struct device *device = vif != NULL ? device_find(vif->slot) : NULL;

    return device != NULL && device->state == DEVICE_THERE && device->mtu != vif->mtu ? device : NULL;
}

static enum patchbay_error map_error(int result)
{
    switch (result) {
    case -ERANGE:
        return PATCHBAY_ERROR_BAD_VALUE;
    case -ENOTSUP:
    case -EBUSY:
        return PATCHBAY_ERROR_CAP_NOT_SUPPORTED;
    default:
        return PATCHBAY_ERROR_DEVICE_FAILED;
    }
}

int adjust_devices(const struct model_change *change, struct model_mark mark, size_t *record, struct error *error)
{
    char reason[LIMIT_REASON_LEN + 1];

    for (size_t i = mark.record_count; i < change->record_count; i++) {
        const struct object *new = change->records[i].new;
        // Its last version: the step may have made several.
        const struct vif *vif = new != NULL &&new->kind == OBJECT_VIF ? model_find_vif(control.model, new->name) : NULL;
        struct device *device = find_other(vif);
        int result = device != NULL ? vif_set_mtu(device->slot, vif->mtu, reason, sizeof(reason)) : 0;

        if (result != 0) {
            error_set(error, map_error(result), "mtu", "vif \"%s\": %s%s", vif->object.name, reason,
                      result == -EBUSY ? "; delete the vif and make it again with this MTU" : "");
            adjust_back(change, mark.record_count);
            *record = i;
            return -EINVAL;
        }
        if (device != NULL)
            device->mtu = vif->mtu;
    }
    return 0;
}

void adjust_back(const struct model_change *change, size_t from)
{
    char reason[LIMIT_REASON_LEN + 1];

    // Newest first: what was before all of it stays.
    for (size_t i = change->record_count; i > from; i--) {
        const struct object *old = change->records[i - 1].old;
        const struct vif *vif = old != NULL && old->kind == OBJECT_VIF ? (const struct vif *)old : NULL;
        struct device *device = find_other(vif);

        if (device == NULL)
            continue;
        if (vif_set_mtu(device->slot, vif->mtu, reason, sizeof(reason)) == 0)
            device->mtu = vif->mtu;
        else
            log_message(LOG_LEVEL_WARNING, "devices", "vif %s keeps an MTU that it isn't to have: %s", vif->object.name,
                        reason);
    }
}
