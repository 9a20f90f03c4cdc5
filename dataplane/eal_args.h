// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EAL_ARGS_H
#define PATCHBAY_EAL_ARGS_H

// EAL's command line: ours, then the user's own, which win.

#include "dataplane.h"
#include "eal_cores.h"
#include "eal_memory.h"

#include <stdarg.h>

// What the user's own arguments decide instead of us.
struct eal_user {
    bool cores;      // -l, -c, --lcores
    bool main_core;  // --main-lcore
    bool devices;    // -a, -b, --no-pci
    bool prefix;     // --file-prefix
    bool iova;       // --iova-mode
    bool no_huge;    // --no-huge
    bool files;      // --huge-dir, --huge-unlink, --legacy-mem: huge pages in files
    bool in_memory;  // --in-memory
    bool memory;     // -m
    bool socket_mem; // --socket-mem
    bool no_shconf;  // --no-shconf
    bool help;       // -h, --help, -v, --version: EAL would print and exit
};

void eal_args_read_user(const char *const *args, size_t count, struct eal_user *user);

struct eal_args {
    int count;
    char **values; // count, then NULL; EAL permutes them
};

// Builds the arguments. cores and memory are used where the user didn't
// decide. Returns 0 or -ENOMEM; the caller frees by eal_args_free.
int eal_args_build(const struct dataplane_options *options, const struct eal_user *user, const struct eal_cores *cores,
                   const struct eal_memory *memory, struct eal_args *args);

void eal_args_free(struct eal_args *args);

// Gives each worker its lcore, and returns the main lcore.
unsigned eal_args_lcores(const struct eal_cores *cores, unsigned lcores[LIMIT_WORKERS]);

#endif
