// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EVENT_STATE_H
#define PATCHBAY_EVENT_STATE_H

// Events about states: a vif's link, a wire, a bump that fails or recovers.
// Told when a state, or its reason, isn't what was told last. A guest can make
// its link flap as fast as it likes: of one object at most ten events a second
// are told, and the state in which it ends always is.
//
// Control thread only; called where the status of what a change or an event
// may concern is looked at again (status_refresh_…).

#include "status.h"

void event_state_vif(const struct vif *vif, const struct status *status);
void event_state_wire(const struct wire *wire, const struct status *status);
// Of a T that isn't a bump nothing is told.
void event_state_tee(const struct wire *wire, const struct tee *tee, const struct status *status);

// The object is gone. Of a wire: its Ts are forgotten one by one.
void event_state_forget(const char *uid);

void event_state_stop(void);

#endif
