// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_RENDER_H
#define PATCHBAY_RENDER_H

// Objects as the API shows them: the configuration as request.c encodes it,
// and the status.

#include "model.h"

#include <jansson.h>

// A whole object of the model. New reference; NULL: no memory.
json_t *render_object(const struct object *object);
json_t *render_tee(const struct wire *wire, size_t position);

// Puts the status of the object as it is now into what was rendered of one of its
// versions (shown without status). Takes and returns the reference.
json_t *render_with_status(json_t *shown, const struct object *object);
json_t *render_tee_with_status(json_t *shown, const struct wire *wire, size_t position);

#endif
