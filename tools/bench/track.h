// SPDX-License-Identifier: BSD-3-Clause
// Which numbers of a sequence were seen, exactly: one bit each.
#ifndef BENCH_TRACK_H
#define BENCH_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct track {
    uint8_t *bits; // a private mapping, populated as numbers are seen
    size_t size;   // bytes of it
    uint64_t unique;
    uint64_t duplicate;
};

struct track_range {
    uint64_t first, last;
};

// Makes room for numbers 0…limit-1; 0 or -errno. track_close frees it.
int track_open(struct track *track, uint64_t limit);
// NULL bits are fine.
void track_close(struct track *track);

// Notes number `seq`, which is below the limit. Returns whether it is new.
static inline bool track_add(struct track *track, uint64_t seq)
{
    uint8_t bit = (uint8_t)(1u << (seq & 7));
    uint8_t *byte = &track->bits[seq >> 3];
    bool fresh = (*byte & bit) == 0;

    *byte |= bit;
    // One writer, the worker; the progress line reads.
    __atomic_store_n(&track->unique, track->unique + fresh, __ATOMIC_RELAXED);
    __atomic_store_n(&track->duplicate, track->duplicate + !fresh, __ATOMIC_RELAXED);
    return fresh;
}

// Finds the numbers below `end` that were not seen: fills up to `max` ranges in ascending order and returns how many
// ranges there are in all.
uint64_t track_missing(const struct track *track, uint64_t end, struct track_range *ranges, unsigned max);

#endif
