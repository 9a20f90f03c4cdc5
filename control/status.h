// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_STATUS_H
#define PATCHBAY_STATUS_H

// What is, as opposed to what is wanted: computed from the model, the devices
// and the dataplane whenever it is asked for. Only since when it is so has to
// be remembered, for which the objects that an event or a change may concern
// are refreshed.

#include "model.h"

enum status_state {
    STATUS_UP,
    STATUS_DOWN,
    STATUS_FAILED,   // vifs: the device can't be made, or is broken
    STATUS_DRAINING, // wires: a bump leaves or enters, and waits for its appliance to be empty
    STATUS_OFF       // Ts: mode off
};

struct status {
    enum status_state state;
    char reason[LIMIT_REASON_LEN + 1]; // the first cause; "" when up
    uint64_t since;                    // wall clock, nanoseconds since the epoch
};

const char *status_name(enum status_state state);

void status_of_vif(const struct vif *vif, struct status *status);
void status_of_port(const struct port *port, struct status *status);
void status_of_tee(const struct tee *tee, struct status *status);
void status_of_wire(const struct wire *wire, struct status *status);

// Is the vif up? As change_options wants it.
bool status_vif_is_up(void *context, const struct vif *vif);
// Are both arms of the T up?
bool status_arms_up(const struct tee *tee);

// Looks again, so that `since` is right and events are told: one wire with its Ts, one vif, one port, all that stands
// on a vif (and it).
void status_refresh_wire(const struct wire *wire);
void status_refresh_vif_alone(const struct vif *vif);
void status_refresh_port(const struct port *port);
void status_refresh_vif(const char *vif);

// Forgets what a replaced or removed version leaves behind; new may be NULL.
void status_forget(const struct object *old, const struct object *new);

// "2026-01-01T12:00:00.123Z"
enum { STATUS_TIME_SIZE = 25 };
void status_format_time(uint64_t wall, char text[static STATUS_TIME_SIZE]);

#endif
