// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_ACCESS_H
#define PATCHBAY_ACCESS_H

// Who may do what over the API's socket. The kernel says who connects
// (SO_PEERCRED, SO_PEERGROUPS), and lets only those connect whom the file's mode
// and its access list allow; here is decided whether they may change things.
// And how many places a user may take, so that one can't lock out the others.
// Control thread only.

#include "error.h"
#include "options.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

enum access { ACCESS_NONE, ACCESS_READ, ACCESS_WRITE };

// Takes the options, and lets the readers' group connect to the socket at the
// path, which exists. Returns 0, or -errno with the reason.
int access_start(const struct options *options, char *reason, size_t reason_size);

// What the process at the other end of a connection may do.
enum access access_of_socket(int fd);

// May it ask this? Returns 0, or -EINVAL with Forbidden, which says who may.
int access_check(enum access access, bool read_only, uid_t uid, struct error *error);

// A user's connection comes and goes. False: it has as many as it may have, so this one is to be refused, and not to be
// counted off. Root and the daemon's own user may always.
bool access_admit(uid_t uid);
void access_leave(uid_t uid);

#endif
