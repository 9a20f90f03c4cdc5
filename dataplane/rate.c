// SPDX-License-Identifier: BSD-3-Clause

// Making buckets: control's side of rate.h.

#include "rate.h"
#include "vif.h"

#include <stdlib.h>
#include <string.h>

struct rate_words *rate_words_of(struct vif *vif, uint16_t vlan)
{
    struct rate_words *words;

    for (words = vif->rates; words != NULL; words = words->next)
        if (words->vlan == vlan)
            return words;
    if (posix_memalign((void **)&words, 64, sizeof(*words)) != 0)
        return NULL;
    // A time that is long past: full.
    memset(words, 0, sizeof(*words));
    words->vlan = vlan;
    words->next = vif->rates;
    vif->rates = words;
    return words;
}

void rate_words_free(struct rate_words *words)
{
    while (words != NULL) {
        struct rate_words *next = words->next;

        free(words);
        words = next;
    }
}

static void set(struct rate_bucket *bucket, _Atomic uint64_t *full_at, rate_wide cost, uint32_t burst, uint64_t debt,
                uint64_t hz)
{
    bucket->full_at = full_at;
    bucket->cost = (uint64_t)cost;
    bucket->depth = rate_cost(bucket, burst);
    bucket->horizon = bucket->depth + rate_cost(bucket, debt) + (hz << RATE_TIME_SHIFT);
}

// The debt is what one burst may put into it, by each worker that looked before another had paid; and a second is
// added, since their clocks are read at different moments.

void rate_set(struct rate *rate, _Atomic uint64_t *full_at, uint64_t bps, uint32_t burst, uint64_t hz)
{
    set(&rate->bytes, full_at, ((rate_wide)hz * 8 << (RATE_TIME_SHIFT + RATE_COST_SHIFT)) / bps, burst,
        (uint64_t)LIMIT_WORKERS * (LIMIT_BURST_BYTES + LIMIT_FRAME_GSO_MAX), hz);
}

void rate_set_frames(struct rate *rate, _Atomic uint64_t *full_at, uint32_t pps, uint32_t burst, uint64_t hz)
{
    set(&rate->frames, full_at, ((rate_wide)hz << (RATE_TIME_SHIFT + RATE_COST_SHIFT)) / pps, burst,
        (uint64_t)LIMIT_WORKERS * LIMIT_BURST_FRAMES, hz);
}
