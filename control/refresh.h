// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_REFRESH_H
#define PATCHBAY_REFRESH_H

// Whose status is looked at anew when a change is done, so that "since" and the
// events are right also for objects that nobody reads. Control thread only.

#include "compile.h"

// Notes the vifs and ports that an open change makes or changes. Returns 0 or -ENOMEM.
int refresh_collect(const struct model_change *change);
// The change is done: looks at these and at the wires that it concerned; Ts that waited for their arms may go in.
void refresh_all(const struct wire_list *affected);
// Forgets them.
void refresh_clear(void);

#endif
