// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CONFIG_H
#define PATCHBAY_CONFIG_H

// The whole desired state as one document: how it is shown (config_read.c) and
// how a change of it is told (config_plan.c). What makes it so is config.c, see batch.h.

#include "model.h"
#include "routes.h"

#include <stdio.h>

// GET /v1/config: all versions of one generation, rendered in slices.
route_handler read_config;

// Prints one object as it stands in its section of the document. Any thread may, of a version that is held for it.
// Returns 0, or -ENOMEM (also for what out can't take).
int config_print_object(const struct object *object, FILE *out);
// The sections' names, by kind.
extern const char *const config_sections[];

// One line of the plan each, as JSON, with a comma before it but for the first. whole: with the object itself.
void config_plan_create(FILE *out, const struct object *next, bool replaces, bool whole);
void config_plan_delete(FILE *out, const struct object *old);
void config_plan_change(FILE *out, const struct object *old, const struct object *next);

#endif
