// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_LISTENER_H
#define PATCHBAY_LISTENER_H

// The API's Unix socket, and that of the metrics.

#include <stddef.h>
#include <sys/types.h>

// Binds and listens, with the given mode, owner and group (NULL: ours). A socket at
// the path on which nobody listens is replaced; anything else that is there is
// left alone. Returns the descriptor, or -errno with the reason, in a sentence
// that says what to do.
int listener_open(const char *path, mode_t mode, const char *owner, const char *group, char *reason,
                  size_t reason_size);

// Removes the socket files, if they are still those that listener_open bound.
// The descriptors are their users' to close.
void listener_remove(void);

// Finds a group by name or number. Returns 0, or -errno with the reason.
int group_find(const char *name, gid_t *gid, char *reason, size_t reason_size);

#endif
