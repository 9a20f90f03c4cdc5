// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EAL_LOG_H
#define PATCHBAY_EAL_LOG_H

// DPDK's log, line by line into options->log, and what it said of a failure.

#include "dataplane.h"

// Sends messages to sink from now on, DPDK's too. Before rte_eal_init. Returns
// 0 or -errno.
int eal_log_open(void (*sink)(enum log_level level, const char *component, const char *message));

// Ends it: later messages go nowhere, DPDK's to stderr.
void eal_log_close(void);

// From here to eal_log_capture_end the calling thread's DPDK messages are kept
// as well: a driver says in its log alone why it failed. With quiet, they are
// logged as debug ones, for a call that is expected to fail.
void eal_log_capture_begin(bool quiet);

// Copies the last errors and warnings since eal_log_capture_begin, joined by
// "; ", into text (size bytes), and returns text; "" if there were none.
const char *eal_log_capture_end(char *text, size_t size);

// Hands on what DPDK said on workers, which may not wait for the sink. Any
// thread but workers.
void eal_log_drain(void);

#endif
