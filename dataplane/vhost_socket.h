// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VHOST_SOCKET_H
#define PATCHBAY_VHOST_SOCKET_H

// The Unix sockets of vhost-user vifs: what must be right before librte_vhost
// binds or connects, and what it leaves undone. Functions return 0, or -errno
// with a sentence that says what to do in reason (size bytes).

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

// Checks a path as such: absolute, short enough, in a directory that exists,
// not the name of something else than a socket.
int vhost_socket_check(const char *path, char *reason, size_t reason_size);

// Looks up a group's number; NULL: (gid_t)-1, "as it is".
int vhost_socket_group(const char *name, gid_t *gid, char *reason, size_t reason_size);

// Makes sure that binding to path will work: removes a socket on which nobody
// listens, and tries.
int vhost_socket_clear(const char *path, char *reason, size_t reason_size);

// Sets mode and group of the socket that was just bound to path.
int vhost_socket_own(const char *path, mode_t mode, gid_t gid, char *reason, size_t reason_size);

// True if a process has a socket at path, false for none and for a stale one.
// Doesn't disturb it: nothing is there to accept.
bool vhost_socket_is_bound(const char *path);

// Finds the descriptor of the library's newest connection at path: accepted
// there, or connected to it. Gives it timeouts, so that a front end that stops
// in the middle of a message, or reads no replies, can't hold up the thread
// that serves all of them. Returns it (the library's: don't close), or -1.
int vhost_socket_guard(const char *path, bool server);

// True if the other end of a connection has left so many replies unread that
// there is hardly room for another.
bool vhost_socket_is_stuck(int fd);

// True if the other end of a connection is gone.
bool vhost_socket_hung_up(int fd);

#endif
