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

void rate_set(struct rate *rate, _Atomic uint64_t *full_at, uint64_t bps, uint32_t burst, uint64_t hz)
{
    // What one burst may put into debt, by each worker that looked before another had paid; and a second, since their
    // clocks are read at different moments.
    const uint64_t debt = (uint64_t)LIMIT_WORKERS * (LIMIT_BURST_BYTES + LIMIT_FRAME_GSO_MAX);

    rate->full_at = full_at;
    rate->cost = (uint64_t)(((rate_wide)hz * 8 << (RATE_TIME_SHIFT + RATE_COST_SHIFT)) / bps);
    rate->depth = rate_cost(rate, burst);
    rate->horizon = rate->depth + rate_cost(rate, debt) + (hz << RATE_TIME_SHIFT);
}
