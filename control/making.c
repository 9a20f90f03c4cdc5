// SPDX-License-Identifier: BSD-3-Clause
#include "making.h"

#include "batch.h"
#include "control.h"

#include <errno.h>
#include <string.h>

static struct command_list making = TAILQ_HEAD_INITIALIZER(making);
static void (*on_ready)(struct command *command);

bool making_conflicts(const struct vif *vif)
{
    const struct command *command;

    TAILQ_FOREACH(command, &making, entry)
    {
        const struct device *device = command->device;

        if (strcmp(device->name, vif->object.name) == 0 ||
            (device->target != NULL && vif->target != NULL && strcmp(device->target, vif->target) == 0))
            return true;
    }
    return batch_making_conflicts(vif);
}

static const char *target_field(enum vif_kind kind)
{
    switch (kind) {
    case VIF_VHOST:
    case VIF_VHOST_SERVER:
        return "path";
    case VIF_DEV:
        return "devargs";
    case VIF_KERNEL_NEW:
        return "interface";
    default:
        return "kind";
    }
}

static enum patchbay_error map_error(int result, enum vif_kind kind)
{
    bool vhost = kind == VIF_VHOST || kind == VIF_VHOST_SERVER;

    switch (result) {
    case -EADDRINUSE:
    case -EEXIST:
        return vhost ? PATCHBAY_ERROR_PATH_IN_USE : PATCHBAY_ERROR_TARGET_IN_USE;
    case -ENOTSOCK:
        return PATCHBAY_ERROR_NOT_A_SOCKET;
    case -ENOSPC:
        return PATCHBAY_ERROR_LIMIT_REACHED;
    case -EINVAL:
    case -ERANGE:
        return PATCHBAY_ERROR_BAD_VALUE;
    case -ECANCELED:
        return PATCHBAY_ERROR_UNAVAILABLE;
    default:
        return PATCHBAY_ERROR_DEVICE_FAILED;
    }
}

void making_describe(const struct device *device, struct error *error)
{
    enum vif_kind kind = device->make.config.kind;

    // The device itself is good, but it doesn't take the MTU.
    bool is_mtu = device->make.config.mtu != 0 && device->make.result == -ERANGE;

    error_set(error, map_error(device->make.result, kind), is_mtu ? "mtu" : target_field(kind), "%s",
              device->make.reason);
}

static void on_made(struct device *device, void *arg)
{
    struct command *command = arg;
    struct error error;

    TAILQ_REMOVE(&making, command, entry);
    timer_cancel(&command->timeout);
    if (device->state == DEVICE_THERE) {
        on_ready(command);
        return;
    }
    making_describe(device, &error);
    device_remove(device);
    command->device = NULL;
    command_fail(command, &error);
}

bool making_begin(struct command *command, const struct vif *vif, void (*ready)(struct command *command))
{
    on_ready = ready;
    command->device = device_make(vif->slot, vif, on_made, command);
    if (command->device == NULL) {
        model_slot_release(control.model, vif->slot);
        return false;
    }
    TAILQ_INSERT_TAIL(&making, command, entry);
    return true;
}

void making_forget(struct command *command)
{
    TAILQ_REMOVE(&making, command, entry);
    device_remove(command->device);
    command->device = NULL;
}

void making_stop(const struct error *error)
{
    struct command *command;

    while ((command = TAILQ_FIRST(&making)) != NULL) {
        making_forget(command);
        command_fail(command, error);
    }
}
