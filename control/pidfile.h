// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_PIDFILE_H
#define PATCHBAY_PIDFILE_H

// The file that says that a daemon runs here: locked while it does, so that a
// second one on the same socket is refused and one that was killed is not in the way.

#include <stddef.h>

// Makes the directories that the path needs, opens and locks the file and
// writes our pid. path may be NULL: patchbayd.pid beside the socket. Returns 0,
// or -errno with the reason, in a sentence that says what to do.
int pidfile_acquire(const char *path, const char *socket_path, char *reason, size_t reason_size);

// Removes the file. Does nothing when none is held.
void pidfile_release(void);

// Makes the directory in which the file path is to lie, and those above it,
// with the given mode. Returns 0, or -errno with the reason.
int directory_make(const char *path, unsigned mode, char *reason, size_t reason_size);

#endif
