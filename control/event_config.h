// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EVENT_CONFIG_H
#define PATCHBAY_EVENT_CONFIG_H

// Events about changes of the configuration: one for each version that came or went.

#include "command.h"

// To be called when the change is on disk and before it is committed to the
// model, which frees the old versions: tells what the group's commands did.
void event_config_tell(const struct model_change *change, const struct command_list *group);

#endif
