// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_HELD_H
#define PATCHBAY_HELD_H

// All objects of one moment, held and not copied: a change replaces them in the
// model, and a reader that takes its time goes on with what it holds.

#include "model.h"

struct held {
    struct object **objects; // by kind
    size_t count;
    size_t ends[OBJECT_KIND_COUNT]; // of each kind, in objects
};

// Holds all objects of control.model. Returns 0 or -ENOMEM, with nothing held.
int held_take(struct held *held);

// Lets them go. Control thread, whoever has read them.
void held_drop(struct held *held);

#endif
