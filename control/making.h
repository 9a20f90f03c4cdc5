// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_MAKING_H
#define PATCHBAY_MAKING_H

// Commands whose device is being made. They are in no group yet, so others go on.

#include "command.h"

// Has another command a device in the making with this name or target?
bool making_conflicts(const struct vif *vif);

// Has the device made for a vif that isn't in the model yet, in its slot. ready is called when it is there; if it
// can't be made the command is answered. Returns false without memory, the slot is then given back.
bool making_begin(struct command *command, const struct vif *vif, void (*ready)(struct command *command));

// Why a device can't be made, as a refusal of the vif.
void making_describe(const struct device *device, struct error *error);

// Lets go of a command: its device is removed as soon as it is decided.
void making_forget(struct command *command);

// Lets go of all, each with this error.
void making_stop(const struct error *error);

#endif
