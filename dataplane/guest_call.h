// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_GUEST_CALL_H
#define PATCHBAY_GUEST_CALL_H

// Interrupts a guest by the eventfd that its front end gave us, and never waits
// for either.

#include <stdbool.h>

// Adds one to the eventfd fd, from any thread. A front end holds the same open
// file description: it may fill the counter and clear O_NONBLOCK at any
// moment, so that a plain write would wait for ever. Here the kernel signals
// the eventfd as the completion of a request, which stops at the largest count
// instead. fd may be anything: what is no eventfd isn't touched.
void guest_call(int fd);

// Frees what the calling thread needed for it; a later call makes it anew.
void guest_call_close(void);

// True if the kernel lets us do so. If not, guest_call is a plain write.
bool guest_call_never_blocks(void);

#endif
