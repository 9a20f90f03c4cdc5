// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_WISHES_H
#define PATCHBAY_WISHES_H

// How the wires of a group of steps are to be drained: what their requests (or
// the operations of a transaction) say of those whose bumps they take out or
// put in. Control thread only.

#include "command.h"
#include "plan.h"

struct wish_list {
    size_t count;
    size_t room;
    size_t sorted; // so many of them, from the front, are in order and each of another wire
    struct drain_wish *items;
};

// Notes which wires' bumps the step takes out or puts in. Returns 0 or -ENOMEM.
int wishes_note(const struct model_change *change, struct model_mark mark, struct command *command,
                struct wish_list *wishes);

// The wish for a wire, or NULL. Of several the last counts that was asked for, else the last. O(log n) but for the
// first call after others were noted.
const struct drain_wish *wishes_find(struct wish_list *wishes, const struct wire_name *name);
void wishes_clear(struct wish_list *wishes);

#endif
