// SPDX-License-Identifier: BSD-3-Clause
#include "events.h"

#include "apply.h"
#include "compile.h"
#include "control.h"
#include "devices.h"
#include "log.h"
#include "status.h"

#include <string.h>

#define LOG_PAUSE_NS (10 * (uint64_t)1000000000)

static const char *const link_names[] = {"down", "up", "paused", "broken"};

static struct watcher watcher = {.fd = -1};

void events_promote(const struct wire *wire)
{
    for (size_t i = 0; i < wire->tee_count; i++) {
        const struct tee *tee = &wire->tees[i];
        struct command *command;

        if (!tee->when_ready || !status_arms_up(tee))
            continue;
        command = command_create(NULL, COMMAND_PROMOTE, NULL);
        // Without memory the next event tries again.
        if (command == NULL)
            return;
        command->kind = OBJECT_WIRE;
        command->is_tee = true;
        strlcpy(command->network, wire->object.network, sizeof(command->network));
        strlcpy(command->name, wire->object.name, sizeof(command->name));
        strlcpy(command->tee, tee->object.name, sizeof(command->tee));
        apply_submit(command);
    }
}

static void promote_on(const char *vif)
{
    struct wire_list wires = {0};

    if (compile_wires_of_vif(control.model, vif, &wires) == 0) {
        wire_list_sort(&wires);
        for (size_t i = 0; i < wires.count; i++) {
            const struct wire *wire = model_find_wire(control.model, wires.items[i].network, wires.items[i].name);

            if (wire != NULL)
                events_promote(wire);
        }
    }
    wire_list_clear(&wires);
}

void events_look_at(const char *vif)
{
    status_refresh_vif(vif);
    promote_on(vif);
}

// A guest can make its link flap as fast as it likes: one line per vif and
// while, and how many were left out.
static void log_link(struct device *device, const struct vif_state *state)
{
    uint64_t now = clock_now();

    // The first news of a device is that it was made, which is logged elsewhere.
    if (!device->noticed && state->link == VIF_LINK_UP) {
        device->noticed = true;
        return;
    }
    device->noticed = true;
    if (device->logged != 0 && now - device->logged < LOG_PAUSE_NS) {
        device->unlogged++;
        return;
    }
    log_message(state->link == VIF_LINK_BROKEN ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "events", "vif %s is %s%s%s",
                device->name, link_names[state->link], state->reason[0] != '\0' ? ": " : "", state->reason);
    if (device->unlogged > 0)
        log_message(LOG_LEVEL_INFO, "events", "vif %s changed %u times more since the last message", device->name,
                    device->unlogged);
    device->logged = now;
    device->unlogged = 0;
}

static void take_news(void *arg)
{
    vif_slot slot;

    (void)arg;
    while (dataplane_next_event(&slot)) {
        struct device *device = device_find(slot);
        struct vif_state state;

        if (device == NULL || !vif_read_state(slot, &state))
            continue;
        if (device->listed && vif_has_grown(slot))
            apply_queues_grown(slot);
        log_link(device, &state);
        events_look_at(device->name);
    }
}

int events_start(void)
{
    watcher = (struct watcher){.fd = dataplane_event_fd(), .ready = take_news};
    return loop_watch(&watcher);
}

void events_stop(void)
{
    loop_unwatch(&watcher);
}
