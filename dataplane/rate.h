// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_RATE_H
#define PATCHBAY_RATE_H

// Token buckets: how many bytes, and how many frames, a port may send or be sent.
//
// A bucket is one word: the time at which it is full again (as in ATM's
// generic cell rate algorithm). It is a time and not a number of bytes, so
// legs of different tables that give the same port different rates, as they do
// during a publish, and one that replaces another, share it without conversion;
// nothing has to be filled while there is no traffic.
//
// Time is in units of 2^-10 TSC cycles, modulo 2^64: 40 days at 5 GHz. Only
// what lies ahead of now, at most the horizon, means that the bucket isn't
// full; everything else is the past, however long ago. No sum can overflow.
//
// A frame passes if the bucket isn't empty, and may leave it in debt, which
// the next ones pay: so frames of every length are treated alike, and the rate
// holds exactly in the long run. A burst may be longer than the bucket is deep by one
// frame.
//
// The word's writers are the workers that deliver to the port or poll it; it is
// changed by compare-and-swap, relaxed: it orders nothing else.

#include "dataplane.h"
#include "frame.h"

#include <stdatomic.h>

enum { RATE_TIME_SHIFT = 10, RATE_COST_SHIFT = 20 };

__extension__ typedef unsigned __int128 rate_wide;

struct rate_bucket {
    _Atomic uint64_t *full_at; // of its port and direction; the vif's. NULL: no limit
    uint64_t cost;             // units of time a byte (or frame), << RATE_COST_SHIFT
    uint64_t depth;            // units of time that an empty bucket takes to be full
    uint64_t horizon;          // more than that can't be owed
};

struct rate {
    struct rate_bucket bytes;
    struct rate_bucket frames;
};

// The words of one port: a vif, or one of its VLANs. Control makes them when a leg needs them; they go with the vif.
struct rate_words {
    struct rate_words *next;
    uint16_t vlan;
    _Alignas(64) _Atomic uint64_t in; // from the port into its wire
    _Alignas(64) _Atomic uint64_t out;
    _Alignas(64) _Atomic uint64_t in_frames;
    _Alignas(64) _Atomic uint64_t out_frames;
};

struct vif;

// Control: the words of a vif's port, made if they aren't there. NULL: no memory.
struct rate_words *rate_words_of(struct vif *vif, uint16_t vlan);
void rate_words_free(struct rate_words *words);

// Works out the constants for bps bits a second (1 to LIMIT_RATE_BPS) and a bucket of burst bytes, at hz cycles a
// second. The limit of frames stays as it is.
void rate_set(struct rate *rate, _Atomic uint64_t *full_at, uint64_t bps, uint32_t burst, uint64_t hz);
// The same for pps frames a second (1 to LIMIT_RATE_PPS) and a bucket of burst frames.
void rate_set_frames(struct rate *rate, _Atomic uint64_t *full_at, uint32_t pps, uint32_t burst, uint64_t hz);

static inline uint64_t rate_cost(const struct rate_bucket *bucket, uint64_t amount)
{
    return (uint64_t)((rate_wide)amount * bucket->cost >> RATE_COST_SHIFT);
}

// What is missing to a full bucket, at `now` (TSC).
static inline uint64_t rate_owed(const struct rate_bucket *bucket, uint64_t full_at, uint64_t now)
{
    uint64_t ahead = full_at - (now << RATE_TIME_SHIFT);

    return ahead > bucket->horizon ? 0 : ahead;
}

static inline uint64_t rate_owed_now(const struct rate_bucket *bucket, uint64_t now)
{
    return rate_owed(bucket, atomic_load_explicit(bucket->full_at, memory_order_relaxed), now);
}

// How many of the frames, from the front, may pass now. Takes nothing.
static inline uint16_t rate_fits(const struct rate *rate, uint64_t now, const struct burst *burst, uint16_t first,
                                 uint16_t count)
{
    if (rate->frames.full_at != NULL) {
        uint64_t owed = rate_owed_now(&rate->frames, now), cost = rate_cost(&rate->frames, 1);
        uint16_t fits = 0;

        // Frames are alike: none needs a debt to pass.
        for (; fits < count && owed + cost <= rate->frames.depth; fits++)
            owed += cost;
        count = fits;
    }
    if (rate->bytes.full_at != NULL) {
        uint64_t owed = rate_owed_now(&rate->bytes, now);

        for (uint16_t i = 0; i < count; i++) {
            if (owed >= rate->bytes.depth)
                return i;
            owed += rate_cost(&rate->bytes, burst->frames[first + i].len);
        }
    }
    return count;
}

// So much has passed. Others may charge at the same time: tried as often as there can be others, and once more
// without looking, which is wrong only if the bucket was full.
static inline void rate_charge_bucket(const struct rate_bucket *bucket, uint64_t now, uint64_t amount)
{
    uint64_t cost = rate_cost(bucket, amount), old;

    if (amount == 0)
        return;
    old = atomic_load_explicit(bucket->full_at, memory_order_relaxed);
    for (unsigned tries = 0; tries <= LIMIT_WORKERS; tries++) {
        uint64_t next = (now << RATE_TIME_SHIFT) + rate_owed(bucket, old, now) + cost;

        if (atomic_compare_exchange_strong_explicit(bucket->full_at, &old, next, memory_order_relaxed,
                                                    memory_order_relaxed))
            return;
    }
    atomic_fetch_add_explicit(bucket->full_at, cost, memory_order_relaxed);
}

// These frames, of so many bytes together, have passed.
static inline void rate_charge(const struct rate *rate, uint64_t now, uint64_t frames, uint64_t bytes)
{
    if (rate->frames.full_at != NULL)
        rate_charge_bucket(&rate->frames, now, frames);
    if (rate->bytes.full_at != NULL)
        rate_charge_bucket(&rate->bytes, now, bytes);
}

#endif
