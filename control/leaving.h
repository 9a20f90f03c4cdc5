// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_LEAVING_H
#define PATCHBAY_LEAVING_H

// Commands that have taken vifs out: published and settled, and answered once
// the vifs' devices are gone too. Control thread only.

#include "command.h"

// Takes a command whose devices are on their way out.
void leaving_add(struct command *command);
// A device is gone: answers those that waited for no other.
void leaving_look(void);
// Answers all; the daemon stops.
void leaving_stop(void);

#endif
