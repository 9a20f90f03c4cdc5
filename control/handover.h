// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_HANDOVER_H
#define PATCHBAY_HANDOVER_H

// A vif that is deleted and another with the same kind and target that is made
// in the same transaction: the new one takes the old one's slot with the device
// in it. So its guest notices nothing, no frame is lost, and there is nothing
// to undo but the model if the transaction fails later. Control thread only.

#include "model.h"

// Records of a change from here on are the batch's.
void handover_begin(const struct model_change *change);

// The slot that a new vif of the batch takes over; VIF_SLOT_NONE: it needs a device of its own. Its target is complete.
vif_slot handover_find(const struct model_change *change, const struct vif *next);

// Does a vif that is there at the end of the change have the slot of one that the change removes?
bool handover_kept(const struct model_change *change, size_t from, vif_slot slot);

// The change is on disk: devices that were handed over are called as their new vifs are.
void handover_commit(const struct model_change *change);

#endif
