// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CONTROL_H
#define PATCHBAY_CONTROL_H

// What the parts of the acting half share. Only the control thread may touch it.

#include "model.h"
#include "options.h"
#include "store.h"

struct control {
    const struct options *options;
    struct model *model; // desired state; changed by apply.c only
    struct store *store;
    bool dataplane_runs;
};

extern struct control control;

#endif
