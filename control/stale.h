// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_STALE_H
#define PATCHBAY_STALE_H

// Wires that are to be compiled anew although the model didn't change: a device
// came, or a transaction that would have done it failed. Control thread only.

#include "compile.h"
#include "devices.h"

// At start: all wires of the model.
void stale_start(void);
// A device came: the wires on its vif.
void stale_device_came(const struct device *device);
// Are there any that a transaction could take?
bool stale_pending(void);

// The wires of a change and the stale ones, but for those that are being drained: these are kept until that is over.
// Adds to the list, which is sorted then. Returns 0 or -ENOMEM.
int stale_collect(const struct model_change *change, struct wire_list *affected);
// The transaction that took them has failed: they are stale still.
void stale_return(const struct wire_list *affected);
// Drains end with a transaction: after it, wires that had to wait may be taken.
void stale_resume(void);

#endif
