// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_APPLY_H
#define PATCHBAY_APPLY_H

// Where changes take effect. Commands queue up (queue.h); those that can go
// when a transaction begins form its group:
//
//   each alone: check and put into the open model_change (or be refused)
//   together:   compile the affected wires, make legs and tables   may fail, undone whole
//               store COMMIT                                       may fail, undone whole
//               publish                                            can't fail
//               wait until no worker uses the old table            doesn't block
//               fold and destroy what retired, answer
//
// A new vif's device is made before its command joins a group, so that a slow
// device keeps nobody else waiting.

#include "command.h"

// Queues a command, to be answered when it has taken effect or was refused.
void apply_submit(struct command *command);

// Compiles all wires: the first table. The model is loaded, the devices' first attempts are made.
void apply_start(void);

// A device came or was given up at start: the wires on it are compiled anew.
void apply_device_came(struct device *device);

// A device is gone: who waits for that is answered.
void apply_device_gone(void);

// A listed vif has more queues than tables poll: the next one polls them all.
void apply_queues_grown(vif_slot slot);

// Goes on as far as it can without blocking. To be called each turn of the loop.
void apply_run(void);

// When apply_run has to be called at the latest (clock_now, or LOOP_NEVER).
uint64_t apply_deadline(void);

// Nothing is published that isn't settled.
bool apply_is_idle(void);

// Answers with 503 all that isn't published, and takes all wires out of the
// dataplane. False: the workers did not leave an old table before the deadline.
bool apply_stop(uint64_t deadline);

// Answers those whose device is on its way out; the daemon stops.
void apply_stop_waiting(void);

#endif
