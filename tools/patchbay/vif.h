// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_VIF_H
#define PATCHBAY_CLI_VIF_H

#include "command.h"

#include <jansson.h>

// Reads KIND[:TARGET] into a vif's fields. Returns an exit code.
int vif_parse_target(const struct call *call, const char *text, json_t *body);

// Reads the vif once its device had a moment to come up, and prints it or how
// it stands: "vm1 up", "vm1 waiting: …". Returns an exit code.
int vif_print_outcome(struct call *call, const char *name, struct reply *reply);

#endif
