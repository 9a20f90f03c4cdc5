// SPDX-License-Identifier: BSD-3-Clause
#include "status.h"

#include "compile.h"
#include "control.h"
#include "devices.h"
#include "error.h"
#include "event_state.h"
#include "live.h"
#include "loop.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *const names[] = {
    [STATUS_UP] = "up",   [STATUS_DOWN] = "down", [STATUS_FAILED] = "failed", [STATUS_DRAINING] = "draining",
    [STATUS_OFF] = "off",
};

const char *status_name(enum status_state state)
{
    return names[state];
}

void status_format_time(uint64_t wall, char text[static STATUS_TIME_SIZE])
{
    time_t seconds = (time_t)(wall / 1000000000);
    struct tm utc;
    char date[24];

    gmtime_r(&seconds, &utc);
    strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &utc);
    snprintf(text, STATUS_TIME_SIZE, "%.19s.%03uZ", date, (unsigned)(wall / 1000000 % 1000));
}

// ---- since when ----

struct seen {
    RB_ENTRY(seen) node;
    char uid[37];
    enum status_state state;
    uint64_t since;
};

RB_HEAD(seen_tree, seen);
static struct seen_tree seen_tree = RB_INITIALIZER(&seen_tree);

static int compare_seen(const struct seen *a, const struct seen *b)
{
    return strcmp(a->uid, b->uid);
}

RB_GENERATE_INTERNAL(seen_tree, seen, node, compare_seen, static __attribute__((unused)))

// Remembers the state of an object and tells since when it is in it.
static uint64_t see(const char *uid, enum status_state state)
{
    struct seen key, *seen;

    memcpy(key.uid, uid, sizeof(key.uid));
    seen = RB_FIND(seen_tree, &seen_tree, &key);
    if (seen == NULL) {
        seen = calloc(1, sizeof(*seen));
        // Without memory only the time stamp is less right.
        if (seen == NULL)
            return clock_wall();
        memcpy(seen->uid, uid, sizeof(seen->uid));
        RB_INSERT(seen_tree, &seen_tree, seen);
    } else if (seen->state == state) {
        return seen->since;
    }
    seen->state = state;
    seen->since = clock_wall();
    return seen->since;
}

// The same for one whose device tells since when it is in its state: that counts unless Patchbay has put it into
// another meanwhile.
static uint64_t see_also(const char *uid, enum status_state state, uint64_t since)
{
    struct seen key;
    uint64_t seen;

    memcpy(key.uid, uid, sizeof(key.uid));
    if (RB_FIND(seen_tree, &seen_tree, &key) == NULL)
        return since;
    seen = see(uid, state);
    return seen > since ? seen : since;
}

static void forget(const char *uid)
{
    struct seen key, *seen;

    event_state_forget(uid);
    memcpy(key.uid, uid, sizeof(key.uid));
    seen = RB_FIND(seen_tree, &seen_tree, &key);
    if (seen == NULL)
        return;
    RB_REMOVE(seen_tree, &seen_tree, seen);
    free(seen);
}

static bool has_tee(const struct wire *wire, const char *uid)
{
    for (size_t i = 0; wire != NULL && i < wire->tee_count; i++)
        if (strcmp(wire->tees[i].object.uid, uid) == 0)
            return true;
    return false;
}

void status_forget(const struct object *old, const struct object *new)
{
    if (new == NULL || strcmp(old->uid, new->uid) != 0)
        forget(old->uid);
    if (old->kind != OBJECT_WIRE)
        return;
    for (size_t i = 0; i < ((const struct wire *)old)->tee_count; i++) {
        const char *uid = ((const struct wire *)old)->tees[i].object.uid;

        if (!has_tee((const struct wire *)new, uid))
            forget(uid);
    }
}

// ---- states ----

// Reasons name files and devices, may have been cut inside of a character, and go into JSON.
static void set(struct status *status, enum status_state state, const char *reason)
{
    status->state = state;
    strlcpy(status->reason, reason, sizeof(status->reason));
    error_make_printable(status->reason);
}

// Names are long and a reason is cut where it has no more room.
__attribute__((format(printf, 3, 4))) static void set_down(struct status *status, enum status_state state,
                                                           const char *format, ...)
{
    va_list args;

    status->state = state;
    va_start(args, format);
    vsnprintf(status->reason, sizeof(status->reason), format, args);
    va_end(args);
    error_make_printable(status->reason);
}

void status_of_vif(const struct vif *vif, struct status *status)
{
    const struct device *device = device_find(vif->slot);
    struct vif_state state;

    if (device == NULL || device->state != DEVICE_THERE || !vif_read_state(vif->slot, &state)) {
        bool failed = device != NULL && device->state == DEVICE_FAILED;

        set(status, failed ? STATUS_FAILED : STATUS_DOWN, failed ? device->reason : "its device is being made");
        status->since = failed ? device->since : see(vif->object.uid, STATUS_DOWN);
        return;
    }
    if (vif->admin == ADMIN_DOWN) {
        set(status, STATUS_DOWN, "admin is down");
        status->since = see(vif->object.uid, STATUS_DOWN);
        return;
    }
    switch (state.link) {
    case VIF_LINK_UP:
    case VIF_LINK_PAUSED: // for the length of a message; frames wait
        set(status, STATUS_UP, "");
        break;
    case VIF_LINK_BROKEN:
        set(status, STATUS_FAILED, state.reason);
        break;
    case VIF_LINK_DOWN:
        set(status, STATUS_DOWN, state.reason[0] != '\0' ? state.reason : "its link is down");
        break;
    }
    status->since = see_also(vif->object.uid, status->state, state.changed_ns);
}

// Without since.
static void look_at_port(const struct port *port, struct status *status)
{
    const struct vif *vif;
    struct status under;

    if (port->vif[0] == '\0') {
        set(status, STATUS_DOWN, "no vif");
        return;
    }
    vif = model_find_vif(control.model, port->vif);
    if (vif == NULL) {
        set_down(status, STATUS_DOWN, "vif %s: it does not exist", port->vif);
        return;
    }
    if (port->admin == ADMIN_DOWN) {
        set(status, STATUS_DOWN, "admin is down");
        return;
    }
    status_of_vif(vif, &under);
    if (under.state == STATUS_UP)
        set(status, STATUS_UP, "");
    else
        set_down(status, STATUS_DOWN, "vif %s: %s", port->vif, under.reason);
}

void status_of_port(const struct port *port, struct status *status)
{
    look_at_port(port, status);
    status->since = see(port->object.uid, status->state);
}

// The state of the port that a wire's end or a T's arm names, with its name in front of the reason.
static bool look_at_ref(const char *network, const char *name, struct status *status)
{
    const struct port *port = model_find_port(control.model, network, name);
    struct status under;

    if (port == NULL) {
        set_down(status, STATUS_DOWN, "port %s: it does not exist", name);
        return false;
    }
    look_at_port(port, &under);
    if (under.state == STATUS_UP)
        return true;
    set_down(status, STATUS_DOWN, "port %s: %s", name, under.reason);
    return false;
}

bool status_arms_up(const struct tee *tee)
{
    struct status ignored;

    return look_at_ref(tee->port.network, tee->port.port, &ignored) &&
           look_at_ref(tee->out_port.network, tee->out_port.port, &ignored);
}

static void look_at_tee(const struct tee *tee, struct status *status)
{
    if (tee->mode == TEE_OFF) {
        set(status, STATUS_OFF, tee->when_ready ? "becomes a bump when both its arms are up" : "");
        return;
    }
    if (tee->port.port[0] != '\0' && !look_at_ref(tee->port.network, tee->port.port, status))
        return;
    if (tee->out_port.port[0] != '\0' && !look_at_ref(tee->out_port.network, tee->out_port.port, status))
        return;
    set(status, STATUS_UP, "");
}

void status_of_tee(const struct tee *tee, struct status *status)
{
    look_at_tee(tee, status);
    status->since = see(tee->object.uid, status->state);
}

static bool look_at_end(const struct wire *wire, const char *which, const char *port, struct status *status)
{
    if (port[0] != '\0')
        return look_at_ref(wire->object.network, port, status);
    set_down(status, STATUS_DOWN, "end %s is unplugged", which);
    return false;
}

// In the order in which one would look for the cause.
static void look_at_wire(const struct wire *wire, struct status *status)
{
    const struct live_wire *live = live_find(wire->object.network, wire->object.name);
    struct status under;

    if (wire->admin == ADMIN_DOWN) {
        set(status, STATUS_DOWN, "admin is down");
        return;
    }
    if (live != NULL && live->drain != NULL) {
        set(status, STATUS_DRAINING, "waiting for an appliance to be empty, to take it out or put it in");
        return;
    }
    if (!look_at_end(wire, "a", wire->a, status) || !look_at_end(wire, "b", wire->b, status))
        return;
    for (size_t i = 0; i < wire->tee_count; i++) {
        const struct tee *tee = &wire->tees[i];

        if (tee->mode != TEE_BUMP || tee->on_failure != FAIL_CLOSED)
            continue;
        look_at_tee(tee, &under);
        if (under.state != STATUS_UP) {
            set_down(status, STATUS_DOWN, "bump %s: %s", tee->object.name, under.reason);
            return;
        }
    }
    set(status, STATUS_UP, "");
}

void status_of_wire(const struct wire *wire, struct status *status)
{
    look_at_wire(wire, status);
    status->since = see(wire->object.uid, status->state);
}

bool status_vif_is_up(void *context, const struct vif *vif)
{
    struct status status;

    (void)context;
    status_of_vif(vif, &status);
    return status.state == STATUS_UP;
}

// ---- refreshing ----

void status_refresh_wire(const struct wire *wire)
{
    struct status status;

    // The cause goes first: a bump, then the wire that it cuts.
    for (size_t i = 0; i < wire->tee_count; i++) {
        status_of_tee(&wire->tees[i], &status);
        event_state_tee(wire, &wire->tees[i], &status);
    }
    status_of_wire(wire, &status);
    event_state_wire(wire, &status);
}

void status_refresh_vif_alone(const struct vif *vif)
{
    struct status status;

    status_of_vif(vif, &status);
    event_state_vif(vif, &status);
}

void status_refresh_port(const struct port *port)
{
    struct status status;

    status_of_port(port, &status);
}

void status_refresh_vif(const char *vif)
{
    struct wire_list wires = {0};
    const struct vif *object = model_find_vif(control.model, vif);
    const struct use *use;

    if (object != NULL)
        status_refresh_vif_alone(object);
    for (use = model_first_use(control.model, OBJECT_VIF, "", vif); use != NULL; use = model_next_use(use))
        status_refresh_port((const struct port *)use->user);
    if (compile_wires_of_vif(control.model, vif, &wires) == 0) {
        wire_list_sort(&wires);
        for (size_t i = 0; i < wires.count; i++) {
            const struct wire *wire = model_find_wire(control.model, wires.items[i].network, wires.items[i].name);

            if (wire != NULL)
                status_refresh_wire(wire);
        }
    }
    wire_list_clear(&wires);
}
