// SPDX-License-Identifier: BSD-3-Clause

// The tap: copies to a monitor, and an account of each that wasn't made. Hot.

#include "hop.h"
#include "vlan.h"

#include <rte_branch_prediction.h>
#include <string.h>

// The frames' mbufs stay the burst's: an ethdev takes references.
static uint16_t copy_some(struct vif *monitor, uint16_t queue, struct burst *burst, uint16_t first, uint16_t count,
                          enum transmit_stop *stop)
{
    bool keep = burst->keep;
    uint16_t done;

    burst->keep = true;
    done = monitor->ops->transmit(monitor, queue, burst, first, count, stop);
    burst->keep = keep;
    return done;
}

// Counts why `left` frames, or the first of them, got no copy. Returns how
// many that settles.
static uint16_t refuse(struct tap_count *counts, enum transmit_stop stop, uint16_t left)
{
    switch (stop) {
    case TRANSMIT_TOO_BIG:
        counts->dropped[TAP_DROP_TOO_BIG]++;
        return 1;
    case TRANSMIT_BAD_OFFLOAD:
        counts->dropped[TAP_DROP_BAD_OFFLOAD]++;
        return 1;
    case TRANSMIT_SHORT: // a smaller one may fit
        counts->dropped[TAP_DROP_RING_FULL]++;
        return 1;
    case TRANSMIT_DOWN:
        counts->dropped[TAP_DROP_DOWN] += left;
        return left;
    case TRANSMIT_PAUSED:
        counts->dropped[TAP_DROP_PAUSED] += left;
        return left;
    case TRANSMIT_NO_MBUF:
        counts->dropped[TAP_DROP_NO_MBUF] += left;
        return left;
    default:
        counts->dropped[TAP_DROP_RING_FULL] += left;
        return left;
    }
}

static void count_copied(struct tap_count *counts, const struct burst *burst, uint16_t first, uint16_t count)
{
    counts->copied.frames += count;
    counts->copied.bytes += burst_bytes(burst, first, count);
}

void tap_copy(struct vif *monitor, uint16_t queue, struct burst *burst, uint16_t first, uint16_t count,
              struct hop_scratch *scratch, struct tap_count *counts, struct frame_count *given)
{
    struct complete_state state = {.budget = LIMIT_BURST_SEGMENTS};
    const struct frame_count before = counts->copied;
    struct frame_count completed = {0}; // of what was copied: not as it was

    for (uint16_t at = 0; at < count;) {
        enum transmit_stop stop;
        uint16_t done = copy_some(monitor, queue, burst, first + at, count - at, &stop);

        count_copied(counts, burst, first + at, done);
        at += done;
        if (likely(stop == TRANSMIT_ALL))
            break;
        if (unlikely(complete_cures(burst, first + at, stop))) {
            done = complete_transmit(monitor, queue, burst, first + at, first + count, &scratch->completion, &state,
                                     &stop);
            count_copied(counts, burst, first + at, done);
            completed.frames += done;
            completed.bytes += burst_bytes(burst, first + at, done);
            at += done;
            state.segment = 0; // what has found no room of a frame is lost
            if (stop == TRANSMIT_ALL)
                continue;
        }
        at += refuse(counts, stop, count - at);
    }
    counts->segmented.frames += state.count.frames;
    counts->segmented.segments += state.count.segments;
    given->frames += counts->copied.frames - before.frames - completed.frames + state.sent.frames;
    given->bytes += counts->copied.bytes - before.bytes - completed.bytes + state.sent.bytes;
}

void tap_run(const struct hop_context *context, struct leg_step *step, struct burst *burst, uint16_t first,
             uint16_t count)
{
    struct vif *monitor = step->vif;
    uint16_t queue = vif_tx_queue(monitor, context->queue);
    struct vif_txq *txq = vif_txq(monitor, queue);
    struct tap_count counts = {.offered = count};
    struct frame_count given = {0};

    if (count == 0)
        return;
    if (!rte_spinlock_trylock(&txq->lock)) {
        counts.dropped[TAP_DROP_CONTENDED] = count;
    } else {
        struct burst *out = burst;

        if (unlikely(step->limited)) {
            uint16_t fits = rate_fits(step->rate, context->now, burst, first, count);

            counts.dropped[TAP_DROP_RATE_LIMITED] = count - fits;
            count = fits;
        }

        if (step->vlan != 0) {
            out = vlan_push(burst, first, count, step->vlan, context->scratch);
            first = 0;
        }
        tap_copy(monitor, queue, out, first, count, context->scratch, &counts, &given);
        txq_add(txq, given.frames, given.bytes);
        if (monitor->ops->flush != NULL && given.frames > 0)
            monitor->ops->flush(monitor, queue);
        rte_spinlock_unlock(&txq->lock);
        if (step->vlan != 0)
            counts.copied.bytes -= VLAN_TAG_LEN * counts.copied.frames;
        if (unlikely(step->limited))
            rate_charge(step->rate, context->now, counts.copied.frames, counts.copied.bytes);
    }
    tap_add(step, &counts);
}

void tap_add(struct leg_step *step, const struct tap_count *count)
{
    struct leg_step_counters *to = &step->counters;

    counter_add(&to->offered, count->offered);
    counter_add(&to->frames, count->copied.frames);
    counter_add(&to->bytes, count->copied.bytes);
    if (unlikely(count->segmented.segments > 0)) {
        counter_add(&to->segmented_frames, count->segmented.frames);
        counter_add(&to->segments, count->segmented.segments);
    }
    if (count->copied.frames == count->offered)
        return;
    for (unsigned i = 0; i < TAP_DROP_REASON_COUNT; i++)
        counter_add(&to->tap_dropped[i], count->dropped[i]);
}
