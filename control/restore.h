// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_RESTORE_H
#define PATCHBAY_RESTORE_H

#include <stdbool.h>
#include <stddef.h>

// Opens the state and loads the model, into `control`. Returns 0, or -errno with the reason.
int restore_load(const char *path, char *reason, size_t reason_size);

// Nothing was left out or mended by restore_load.
bool restore_is_whole(void);

// Has each vif's device made, on its own: one that fails is tried again while
// the rest serves. Waits for the first attempts, but not long for slow ones,
// and not when *stop becomes true. Returns 0, or -errno with the reason.
int restore_devices(const bool *stop, char *reason, size_t reason_size);

#endif
