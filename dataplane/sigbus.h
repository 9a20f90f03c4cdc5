// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_SIGBUS_H
#define PATCHBAY_SIGBUS_H

// Guests' memory is mapped from files that their front ends own. When one
// truncates its file, or huge pages run out, an access raises SIGBUS in us: it
// must end in a broken vif, not in a dead daemon.

#include <stdbool.h>
#include <stddef.h>

// Installs the handler. Once, after EAL's start. Returns 0 or -errno.
int sigbus_install(void);

// From now on a SIGBUS at [start, start + size) puts a page of zeros at the
// place and calls hit(argument), from the signal's handler: it may only do
// what is safe there. Returns a handle ≥ 0 for sigbus_unwatch, or -ENOSPC. Any
// thread.
int sigbus_watch(const void *start, size_t size, void (*hit)(void *argument), void *argument);

// Any thread; no access to the range may be under way.
void sigbus_unwatch(int handle);

// The calling thread runs librte_vhost, which reads rings before we know where
// they are: from now on its every SIGBUS gets a page of zeros.
void sigbus_tolerate(void);

// True if that has happened on the calling thread since the last call.
bool sigbus_tolerated(void);

#endif
