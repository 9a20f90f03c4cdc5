// SPDX-License-Identifier: BSD-3-Clause
#include "devices.h"

#include "balance.h"
#include "control.h"
#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BACKOFF_FIRST = 1, BACKOFF_LAST = 30 }; // seconds

static struct device *slots[LIMIT_VIFS];
static struct devices_events hooks;
static size_t going, restoring;
static size_t unlisted; // came by themselves and wait for the next table

void devices_start(const struct devices_events *events)
{
    hooks = *events;
}

struct device *device_find(vif_slot slot)
{
    return slot < LIMIT_VIFS ? slots[slot] : NULL;
}

bool device_usable(vif_slot slot)
{
    const struct device *device = device_find(slot);

    return device != NULL && device->listed;
}

size_t devices_going(void)
{
    return going;
}

size_t devices_restoring(void)
{
    return restoring;
}

void device_list(struct device *device, bool listed)
{
    if (device->listed == listed || device->state != DEVICE_THERE)
        return;
    vif_list(device->slot, listed);
    device->listed = listed;
}

bool devices_restored(void)
{
    return unlisted > 0;
}

size_t devices_list_restored(void)
{
    size_t count = unlisted;

    for (vif_slot slot = 0; slot < LIMIT_VIFS && unlisted > 0; slot++) {
        if (slots[slot] == NULL || !slots[slot]->came)
            continue;
        device_list(slots[slot], true);
        slots[slot]->came = false;
        unlisted--;
    }
    return count;
}

void devices_unlist(void)
{
    for (vif_slot slot = 0; slot < LIMIT_VIFS; slot++)
        if (slots[slot] != NULL)
            device_list(slots[slot], false);
}

static void free_device(struct device *device)
{
    slots[device->slot] = NULL;
    free(device->target);
    free(device);
}

static void on_removed(struct device_job *job)
{
    struct device *device = job->arg;
    vif_slot slot = device->slot;

    going--;
    free_device(device);
    balance_forget(slot);
    model_slot_release(control.model, slot);
    hooks.gone();
}

void device_remove(struct device *device)
{
    // A first attempt that is still running is finished by then: the device thread takes jobs in order.
    if (device->state == DEVICE_GOING)
        return;
    if (device->came)
        unlisted--;
    device->came = false;
    timer_cancel(&device->retry);
    device->state = DEVICE_GOING;
    device->remove.verb = DEVICE_DESTROY;
    device->remove.config.slot = device->slot;
    device->remove.done = on_removed;
    device->remove.arg = device;
    going++;
    device_submit(&device->remove);
}

static struct device *create_device(vif_slot slot, const struct vif *vif)
{
    struct device *device = calloc(1, sizeof(*device));

    if (device == NULL)
        return NULL;
    device->slot = slot;
    strlcpy(device->name, vif->object.name, sizeof(device->name));
    if (vif->target != NULL && (device->target = strdup(vif->target)) == NULL) {
        free(device);
        return NULL;
    }
    device->make.verb = DEVICE_CREATE;
    device->make.arg = device;
    device->make.config = (struct vif_config){
        .slot = slot,
        .name = device->name,
        .kind = vif->kind,
        .target = device->target,
        .pin = vif->pin,
        .mtu = vif->mtu,
        .socket_group = control.options->vhost_group,
        .socket_mode = control.options->vhost_mode,
    };
    device->mtu = vif->mtu;
    slots[slot] = device;
    return device;
}

static void on_made(struct device_job *job)
{
    struct device *device = job->arg;

    // Asked to go meanwhile: the removal follows.
    if (device->state == DEVICE_GOING)
        return;
    device->state = job->result == 0 ? DEVICE_THERE : DEVICE_FAILED;
    device->made(device, device->arg);
}

struct device *device_make(vif_slot slot, const struct vif *vif, void (*made)(struct device *device, void *arg),
                           void *arg)
{
    struct device *device = create_device(slot, vif);

    if (device == NULL)
        return NULL;
    device->state = DEVICE_MAKING;
    device->made = made;
    device->arg = arg;
    device->make.done = on_made;
    device_submit(&device->make);
    return device;
}

// ---- from disk ----

static void try_again(void *arg)
{
    struct device *device = arg;

    // FAILED stays what is shown while the next attempt runs.
    device_submit(&device->make);
}

static void on_restored(struct device_job *job)
{
    struct device *device = job->arg;
    bool first = device->backoff == 0;

    if (first)
        restoring--;
    if (device->state == DEVICE_GOING)
        return;
    if (job->result == 0) {
        if (!first)
            log_message(LOG_LEVEL_NOTICE, "devices", "vif %s: its device is there now", device->name);
        device->state = DEVICE_THERE;
        device->came = true;
        unlisted++;
        hooks.came(device);
        return;
    }
    if (first || strncmp(device->reason, job->reason, sizeof(device->reason) - 1) != 0)
        log_message(LOG_LEVEL_WARNING, "devices", "vif %s: %s Tried again until it works.", device->name, job->reason);
    if (device->state != DEVICE_FAILED)
        device->since = clock_wall();
    device->state = DEVICE_FAILED;
    strlcpy(device->reason, job->reason, sizeof(device->reason));
    device->backoff = first ? BACKOFF_FIRST : device->backoff * 2 < BACKOFF_LAST ? device->backoff * 2 : BACKOFF_LAST;
    timer_arm(&device->retry, clock_now() + (uint64_t)device->backoff * 1000000000, try_again, device);
    if (first)
        hooks.came(device);
}

int device_restore(const struct vif *vif)
{
    struct device *device = create_device(vif->slot, vif);

    if (device == NULL)
        return -ENOMEM;
    device->state = DEVICE_MAKING;
    device->make.done = on_restored;
    restoring++;
    device_submit(&device->make);
    return 0;
}

// ---- the end ----

void devices_stop(void)
{
    for (vif_slot slot = 0; slot < LIMIT_VIFS; slot++)
        if (slots[slot] != NULL)
            device_remove(slots[slot]);
}

void devices_free(void)
{
    for (vif_slot slot = 0; slot < LIMIT_VIFS; slot++)
        if (slots[slot] != NULL)
            free_device(slots[slot]);
}
