// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CONFLICT_H
#define PATCHBAY_CONFLICT_H

// Which steps have to wait for a drain: those that touch the wire, and those
// that want what it still uses (a vif, or the place of an arm in the table).

#include "wishes.h"

// Must the step that began at mark wait, for a drain in progress or for one that an earlier step of the group asks for?
bool conflict_blocks(const struct model_change *change, struct model_mark mark, struct wish_list *wishes);

#endif
