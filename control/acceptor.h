// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_ACCEPTOR_H
#define PATCHBAY_ACCEPTOR_H

// Takes connections from a listening socket, up to a limit; those above it
// wait in the backlog until somebody leaves. (libmicrohttpd's own limit counts
// all connections alike, streams too.)

#include "loop.h"

// Belongs to the user, who zeroes it.
struct acceptor {
    struct watcher watcher;
    struct timer again; // after accept failed
    unsigned limit;
    unsigned count; // connections that count against the limit
    bool watching;
    void (*take)(int fd); // owns the descriptor, which doesn't block; calls acceptor_came if it keeps it
};

// Begins to accept; the listening descriptor belongs to the acceptor. Returns 0 or -errno.
int acceptor_start(struct acceptor *acceptor, int listen_fd, unsigned limit, void (*take)(int fd));

// Accepts no more and closes the listener. Does nothing if it wasn't started.
void acceptor_stop(struct acceptor *acceptor);

void acceptor_came(struct acceptor *acceptor);
// It left, or doesn't count any more.
void acceptor_left(struct acceptor *acceptor);

#endif
