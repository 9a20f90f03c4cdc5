// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EAL_CORES_H
#define PATCHBAY_EAL_CORES_H

// Which CPU does what.

#include "patchbay/limits.h"

#include <sched.h>
#include <stdbool.h>
#include <stddef.h>

struct eal_cores {
    unsigned count; // of workers, ≥ 1
    unsigned cpus[LIMIT_WORKERS];
    cpu_set_t rest; // for all other threads; overlaps the workers' only with one_cpu
    bool one_cpu;   // all that we may use is one CPU
};

// What the machine and whoever started us leave to choose from.
struct eal_cpus {
    cpu_set_t online;
    cpu_set_t allowed;  // our affinity mask
    cpu_set_t isolated; // kept free of other processes (isolcpus=), online ones
};

// Reads them from the kernel. Returns 0 or -errno.
int eal_cores_read(struct eal_cpus *cpus);

// Chooses: list is the user's, "2,4-6", or NULL for one worker on the highest
// CPU, isolated ones first. Pure. Returns 0, or -EINVAL (malformed), -ENODEV
// (not online), -EPERM (not ours to use) with a reason that names the CPU and
// what there is.
int eal_cores_choose(const char *list, const struct eal_cpus *cpus, struct eal_cores *cores, char *reason,
                     size_t reason_size);

// Writes a set as "0-3,6" into text and returns text; "none" if it is empty.
const char *eal_cores_format(const cpu_set_t *set, char *text, size_t size);

// Parses "0-3,6" (what the kernel writes, too). Returns 0 or -EINVAL.
int eal_cores_parse(const char *list, cpu_set_t *set);

#endif
