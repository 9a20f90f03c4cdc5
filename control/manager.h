// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_MANAGER_H
#define PATCHBAY_MANAGER_H

// What a service manager and we tell each other, by systemd's documented
// protocols (sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)), which are
// environment variables and datagrams: no library is needed. Without a manager
// nothing here does anything. Control thread only.

#include <stddef.h>

// Takes what the environment says and clears it. To be called once, first.
void manager_start(void);

// The socket that the manager listens on for us, ready to be served: it must
// be a Unix stream socket at the path. Returns the descriptor; -ENOENT if there
// is none; else -errno with the reason.
int manager_listen_fd(const char *path, char *reason, size_t reason_size);

// Says that we serve, and from then on how things stand, each few seconds if
// that changed; and, where the unit has a watchdog, that we are alive: only as
// long as every worker goes round its loop when it is asked to.
void manager_ready(void);

// Says that we end.
void manager_stopping(void);

#endif
