// SPDX-License-Identifier: BSD-3-Clause
#include "restore.h"

#include "control.h"
#include "devices.h"
#include "log.h"
#include "loop.h"

#include <errno.h>
#include <stdio.h>

// A slow device must not keep the others' guests waiting: it joins when it is there.
#define RESTORE_NS 1500000000ull

static bool whole = true;

static void report(void *context, enum object_kind kind, const char *network, const char *name, const char *message)
{
    (void)context;
    whole = false;
    log_message(LOG_LEVEL_WARNING, "restore", "%s %s%s%s: %s", object_kind_name(kind), network,
                network[0] != '\0' ? "/" : "", name, message);
}

int restore_load(const char *path, char *reason, size_t reason_size)
{
    int error = store_open(path, &control.store, reason, reason_size);

    if (error != 0)
        return error;
    if (store_version_before(control.store) != 0 && store_version_before(control.store) != STORE_SCHEMA)
        log_message(LOG_LEVEL_NOTICE, "restore", "%s was migrated from state schema %d to %d; %s.v%d is how it was",
                    path, store_version_before(control.store), STORE_SCHEMA, path, store_version_before(control.store));
    control.model = model_create();
    if (control.model == NULL) {
        snprintf(reason, reason_size, "Memory is out.");
        return -ENOMEM;
    }
    return store_load(control.store, control.model, report, NULL, reason, reason_size);
}

bool restore_is_whole(void)
{
    return whole;
}

int restore_devices(const bool *stop, char *reason, size_t reason_size)
{
    uint64_t began = clock_now();
    const struct object *vif;

    for (vif = model_first(control.model, OBJECT_VIF, NULL, "", false); vif != NULL; vif = model_next(vif)) {
        if (device_restore((const struct vif *)vif) != 0) {
            snprintf(reason, reason_size, "Memory is out.");
            return -ENOMEM;
        }
    }
    while (devices_restoring() > 0 && !*stop && clock_now() < began + RESTORE_NS)
        loop_wait(began + RESTORE_NS);
    if (devices_restoring() > 0)
        log_message(LOG_LEVEL_WARNING, "restore", "%zu devices take long; their wires are down until they are there",
                    devices_restoring());
    log_message(LOG_LEVEL_INFO, "restore", "%zu vifs, %zu ports, %zu wires, generation %llu, in %llu ms",
                model_count(control.model, OBJECT_VIF), model_count(control.model, OBJECT_PORT),
                model_count(control.model, OBJECT_WIRE), (unsigned long long)model_generation(control.model),
                (unsigned long long)((clock_now() - began) / 1000000));
    return 0;
}
