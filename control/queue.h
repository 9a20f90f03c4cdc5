// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_QUEUE_H
#define PATCHBAY_QUEUE_H

// Commands in the order of their arrival, and which of them can go into the
// next group: one that conflicts with a drain, or whose vif is just being made
// or removed, waits; those behind it don't wait for it.

#include "conflict.h"

void queue_add(struct command *command);

// Does each command's step in the open change, as far as it can be done now:
// done ones go to the group, with their wishes for drains; refused ones are answered.
void queue_collect(struct model_change *change, struct command_list *group, struct wish_list *wishes);

// Has something happened since queue_collect, so that it is worth another try? queue_stir makes it so.
bool queue_stirred(void);
void queue_stir(void);

// Answers all, those whose devices are being made too.
void queue_stop(const struct error *error);

#endif
