// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_STORE_COPY_H
#define PATCHBAY_STORE_COPY_H

// A copy of a state file as a kill at some instant would have left it, taken
// by reading alone: also while a daemon has the file locked and writes to it.
//
// Two files belong together, the database and its write-ahead log. The log only
// grows until it is begun anew, with another salt in its header; a frame of it
// that was read half is found by its checksum. The database is written to by
// checkpoints alone. So the copy is of one instant if the database read twice, before
// the log and after it, is the same, and the log's header is, too. Else it is tried again.

#include <stddef.h>
#include <sys/types.h>

// Copies the state file at path, and its log, into a directory made for it; copy becomes the path of the copy of the
// database. holder becomes the process that has the file locked, 0 if none. Returns 0; -ENOENT, there is no file;
// -EAGAIN, it changed all the time; or another -errno with a reason.
int store_copy_make(const char *path, char *copy, size_t copy_size, pid_t *holder, char *reason, size_t reason_size);

// Removes the copy with its directory and all that was made beside it. Takes "".
void store_copy_remove(const char *copy);

#endif
