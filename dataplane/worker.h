// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_WORKER_H
#define PATCHBAY_WORKER_H

// The poll-mode workers: one a core, run to completion.

#include "dataplane.h"

// Launches a worker on each of eal's worker lcores; joins them.
int worker_start_all(enum poll_mode poll, char *reason, size_t reason_size);
void worker_stop_all(void);

// Takes a file descriptor out of every worker's epoll set. To be called before
// a kick fd that a worker may have waited on is closed: the guest holds the
// same open file, so that closing ours alone would leave it in the set. Any
// thread but workers.
void worker_forget_fd(int fd);

// Wakes the workers that sleep, so that they look at the wire table and all
// their queues again. Any thread.
void worker_wake_all(void);

// Which worker should poll a new queue: the one with the fewest, and it counts
// as its own from now on. Any thread but workers.
unsigned worker_choose(void);
// The same of a worker that is chosen already, and the opposite.
void worker_add(unsigned worker);
void worker_unchoose(unsigned worker);

#endif
