// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EAL_MEMORY_H
#define PATCHBAY_EAL_MEMORY_H

// Huge pages: what there is and what we take. (eal_mempool is in eal.h.)

#include <stdbool.h>
#include <stddef.h>

enum {
    EAL_NODES = 32,     // NUMA nodes that DPDK knows
    EAL_AUTO_MB = 256,  // a node, when nobody said how much
    EAL_SMALL_MB = 256, // in all, of ordinary pages; only what is touched takes memory
};

// What a NUMA node with CPUs has.
struct eal_node {
    bool present;
    unsigned free_mb; // in huge pages that nobody has reserved
};

struct eal_memory {
    bool huge;
    unsigned mb[EAL_NODES]; // of huge pages, to reserve on each node
};

// Reads the nodes from sysfs (root is "/sys", another in tests).
void eal_memory_read(const char *root, struct eal_node nodes[EAL_NODES]);

// Decides. wanted_mb: HUGEPAGES_AUTO, HUGEPAGES_OFF or MB a node. Returns 0,
// with a warning for the log in reason if AUTO found too little (else ""), or
// -ENOMEM with free and wanted in reason. Pure.
int eal_memory_choose(int wanted_mb, const struct eal_node nodes[EAL_NODES], struct eal_memory *memory, char *reason,
                      size_t reason_size);

// Whether a huge page can really be had: a cgroup may forbid what sysfs shows.
bool eal_memory_try(void);

#endif
