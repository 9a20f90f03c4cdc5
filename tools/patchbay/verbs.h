// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_VERBS_H
#define PATCHBAY_CLI_VERBS_H

// What the commands run, each an exit code. Named after the file that has it.

#include "command.h"

int plug_run(struct call *call);
int plug_unplug(struct call *call);
int qemu_run(struct call *call);

int vif_add(struct call *call);
int vif_set(struct call *call);
int vif_rm(struct call *call);
int vif_ls(struct call *call);
int vif_show(struct call *call);

int port_add(struct call *call);
int port_set(struct call *call);
int port_rm(struct call *call);
int port_ls(struct call *call);
int port_show(struct call *call);

int network_add(struct call *call);
int network_set(struct call *call);
int network_rm(struct call *call);
int network_ls(struct call *call);
int network_show(struct call *call);

int wire_add(struct call *call);
int wire_replug(struct call *call);
int wire_unplug(struct call *call);
int wire_up(struct call *call);
int wire_down(struct call *call);
int wire_set(struct call *call);
int wire_rm(struct call *call);
int wire_ls(struct call *call);

int tee_add_tap(struct call *call);
int tee_rm_tap(struct call *call);
int tee_add_bump(struct call *call);
int tee_rm_bump(struct call *call);
int tee_set(struct call *call);
int tee_move(struct call *call);
int tee_ls(struct call *call);
int tee_show(struct call *call);

int conf_list(struct call *call);
int conf_get(struct call *call);
int conf_set(struct call *call);
int conf_unset(struct call *call);

int state_export(struct call *call);
int state_apply(struct call *call);

int show_run(struct call *call);
int stats_run(struct call *call);
int audit_run(struct call *call);
int events_run(struct call *call);
int top_run(struct call *call);
int version_run(struct call *call);

#endif
