// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_GUEST_MEMORY_H
#define PATCHBAY_GUEST_MEMORY_H

// A guest's memory as the front end shared it: a few regions, immutable while
// the attachment lives. Addresses in rings are guest physical ones.

#include <rte_branch_prediction.h>
#include <stddef.h>
#include <stdint.h>

enum { GUEST_MEMORY_REGIONS = 8 }; // as many as librte_vhost takes

struct guest_region {
    uint64_t guest;  // physical address of its first byte
    uint64_t size;   // bytes
    uint64_t offset; // host address − guest address, modulo 2^64
};

struct guest_memory {
    uint32_t count;
    struct guest_region regions[GUEST_MEMORY_REGIONS]; // the largest first
};

// Translates the guest physical range [address, address + *len). Returns its
// host address, and in *len how much of it is contiguous here (the caller goes
// on with the rest: a buffer that crosses regions is two segments). Returns
// NULL, *len = 0, if the first byte lies in no region. *len must be > 0.
static inline uint8_t *guest_memory_at(const struct guest_memory *memory, uint64_t address, uint32_t *len)
{
    for (uint32_t i = 0; i < memory->count; i++) {
        const struct guest_region *region = &memory->regions[i];
        uint64_t into = address - region->guest; // wraps to a huge value when below

        if (likely(into < region->size)) {
            uint64_t left = region->size - into;

            if (unlikely(*len > left))
                *len = (uint32_t)left;
            return (uint8_t *)(uintptr_t)(address + region->offset);
        }
    }
    *len = 0;
    return NULL;
}

#endif
