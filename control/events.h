// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EVENTS_H
#define PATCHBAY_EVENTS_H

// News of vifs from the dataplane: the status of what stands on them is
// looked at again, and Ts that waited for their arms are promoted.

#include "model.h"

// Watches the dataplane's event descriptor. Returns 0 or -errno.
int events_start(void);
void events_stop(void);

// Looks whether Ts of the wire that wait to become bumps can.
void events_promote(const struct wire *wire);

// What stands on a vif may be different now.
void events_look_at(const char *vif);

#endif
