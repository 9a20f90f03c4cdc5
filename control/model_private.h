// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_MODEL_PRIVATE_H
#define PATCHBAY_MODEL_PRIVATE_H

// Versions in and out of the model's indices, shared by model.c (the indices)
// and model_change.c (the undo log).

#include "model.h"

// Everything about linking a version that can fail. Returns 0 or -ENOMEM.
int model_prepare_version(struct object *object);

// Neither can fail. A version is linked once it is prepared, and where no other
// of its name is.
void model_link_version(struct model *model, struct object *object);
void model_unlink_version(struct model *model, struct object *object);

#endif
