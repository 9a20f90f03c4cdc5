// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TRAIL_H
#define PATCHBAY_TRAIL_H

// Who changed what: the entries of the audit trail that go with a group's
// commit, what GET /v1/audit shows of it, and the log's line about changes, of
// which there is at most one a second.

#include "audit.h"
#include "command.h"
#include "routes.h"

// The entries of the commands of a group that changed something, in order, with the first of what each changed. They
// are good until the next call. Returns their number, or -ENOMEM.
int trail_collect(const struct command_list *group, const struct model_change *change, struct audit_entry **entries);

// The command took effect, or was refused: it is counted and, now or within a second, logged.
void trail_log_change(const struct command *command, unsigned status);
void trail_log_refusal(const struct exchange *exchange, const struct error *error);

// Writes what the log still waits for; the daemon ends.
void trail_stop(void);

route_handler trail_read;

#endif
