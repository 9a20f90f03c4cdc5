// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EAL_H
#define PATCHBAY_EAL_H

// EAL's start and end, the choice of cores, and the packet buffers.

#include "dataplane.h"

struct rte_mempool;

// Chooses the workers' cores, builds EAL's arguments (the user's own win),
// starts it, sends its log to options->log, and leaves the calling (main)
// thread on the CPUs that are no worker's; threads made after it (librte_vhost's
// too) inherit that. Worker lcores are then launched by rte_eal_remote_launch.
// Returns 0 or -errno with the reason.
int eal_start(const struct dataplane_options *options, char *reason, size_t reason_size);

// Ends EAL and removes what it left in its run directory.
void eal_stop(void);

// The workers' lcores in order, and how many.
unsigned eal_worker_count(void);
unsigned eal_worker_lcore(unsigned worker);

// True where all CPUs that we may use are one: the worker then yields when idle.
bool eal_one_cpu(void);

// The packet buffers for ethdevs: made when the first is asked for, since a
// host of vhost vifs needs none. Device thread. Returns NULL with rte_errno.
struct rte_mempool *eal_mempool(int socket);

// One line to options->log; format without newline. Any thread but workers.
void eal_log(enum log_level level, const char *component, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Guest- or peer-caused messages: at most one per kind and vif in 10 s, with
// the number suppressed. `kind` is a static string. Any thread but workers.
void eal_log_limited(enum log_level level, vif_slot slot, const char *kind, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
