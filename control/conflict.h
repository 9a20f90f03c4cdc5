// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CONFLICT_H
#define PATCHBAY_CONFLICT_H

// Which steps have to wait for a drain: those that touch the wire, and those
// that want what it still uses (a vif, or the place of an arm in the table).

#include "command.h"
#include "plan.h"

struct wish_list {
    size_t count;
    size_t room;
    struct drain_wish *items;
};

// Must the step that began at mark wait, for a drain in progress or for one that an earlier step of the group asks for?
bool conflict_blocks(const struct model_change *change, struct model_mark mark, const struct wish_list *wishes);

// Notes which wires' bumps the step takes out or puts in. Returns 0 or -ENOMEM.
int conflict_note(const struct model_change *change, struct model_mark mark, const struct command *command,
                  struct wish_list *wishes);

const struct drain_wish *conflict_find(const struct wish_list *wishes, const struct wire_name *name);
void conflict_clear(struct wish_list *wishes);

#endif
