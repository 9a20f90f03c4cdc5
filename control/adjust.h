// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_ADJUST_H
#define PATCHBAY_ADJUST_H

// What a device is told while it runs: its MTU. It may refuse, so it is told
// before the change is committed, and told the old one again if that fails.
// Control thread only.

#include "model.h"

// Tells the devices of the vifs that a step has changed what they are to have by now. Returns 0, or -EINVAL with the
// error and the record that it is about; then none has changed.
int adjust_devices(const struct model_change *change, struct model_mark mark, size_t *record, struct error *error);

// The records from here on are about to be undone: tells the devices what they had before.
void adjust_back(const struct model_change *change, size_t from);

#endif
