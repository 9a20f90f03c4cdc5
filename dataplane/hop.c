// SPDX-License-Identifier: BSD-3-Clause

// The hop: taps, bumps, the end. Hot: runs once per burst of a wired source.

#include "hop.h"
#include "copy.h"
#include "vlan.h"

#include <rte_branch_prediction.h>
#include <rte_pause.h>

// What a program comes to for this burst.
struct verdict {
    struct leg_step *end;    // takes the frames; NULL: they are dropped
    enum drop_reason reason; // then why
    uint16_t tap_count;
    uint16_t absent_count;
    struct leg_step *taps[LIMIT_TEES];
    // Monitors that are down or paused: what leaves is counted, and nothing is
    // done for them, so that they cost the wire less than healthy ones.
    struct leg_step *absent[LIMIT_TEES];
};

// A vif that is there, if only for the time of a protocol message not quite.
static inline bool vif_is_sound(const struct vif *vif)
{
    enum vif_link link = vif_link(vif);

    return link == VIF_LINK_UP || link == VIF_LINK_PAUSED;
}

// Walks the program. A failed bump is seen here, by the worker itself, in the
// first burst after an arm's health word says so.
static void judge(struct leg *leg, struct verdict *verdict)
{
    verdict->end = NULL;
    verdict->tap_count = verdict->absent_count = 0;
    for (uint16_t i = 0;; i++) {
        struct leg_step *step = &leg->steps[i];

        switch ((enum hop_step_kind)step->kind) {
        case HOP_TAP:
            if (likely(step->vif != NULL && vif_link(step->vif) == VIF_LINK_UP))
                verdict->taps[verdict->tap_count++] = step;
            else
                verdict->absent[verdict->absent_count++] = step;
            continue;
        case HOP_BUMP:
            if (vif_is_sound(step->vif) && vif_is_sound(step->other)) {
                verdict->end = step;
                return;
            }
            if (step->fail_open)
                continue;
            verdict->reason = DROP_BUMP_DOWN;
            return;
        case HOP_END:
            verdict->end = step;
            return;
        case HOP_DROP:
            verdict->reason = (enum drop_reason)step->reason;
            return;
        }
    }
}

// Copies the burst's bytes out of the guest's hands, so that several readers
// see the same ones.
static void snapshot(struct burst *burst, uint8_t *bounce)
{
    for (uint16_t i = 0; i < burst->count; i++) {
        struct frame *frame = &burst->frames[i];
        uint8_t *to = bounce;

        copy_bytes(to, frame->data, frame->data_len);
        to += frame->data_len;
        for (uint16_t j = 0; j + 1 < frame->segment_count; j++) {
            const struct frame_segment *segment = &burst->segments[frame->segment_first + j];

            copy_bytes(to, segment->data, segment->len);
            to += segment->len;
        }
        frame_set_single(frame, bounce, frame->len);
        bounce = to;
    }
}

// A transmit queue is taken by trylock. A leg that can't leave its frames
// behind tries for as long as another worker's burst may take; the count
// bounds it.
static bool txq_take(struct vif_txq *txq, bool insist)
{
    unsigned tries = insist ? 2000 : 1;

    while (!rte_spinlock_trylock(&txq->lock)) {
        if (--tries == 0)
            return false;
        rte_pause();
    }
    return true;
}

static inline void stall_reset(struct vif_rxq *rxq)
{
    rxq->stall_since = 0;
    rxq->stalled = false;
    rxq->waits_for = NULL;
}

// What happens to frames [*at, count) that the receiver didn't take. Moves *at
// over those that are dropped, which may be none: then they wait. Returns the reason.
static enum drop_reason refuse(const struct hop_context *context, const struct leg_step *end, enum transmit_stop stop,
                               bool wait, uint16_t *at, uint16_t count)
{
    struct vif_rxq *rxq = context->rxq;

    switch (stop) {
    case TRANSMIT_TOO_BIG:
        rxq->stall_since = 0; // the next head has a clock of its own
        *at += 1;
        return DROP_TOO_BIG;
    case TRANSMIT_DOWN:
        stall_reset(rxq); // when it comes back it is as a new one
        *at = count;
        return DROP_DOWN;
    case TRANSMIT_NO_MBUF:
        if (wait)
            break;
        *at = count;
        return DROP_NO_MBUF;
    default:
        if (wait)
            break;
        *at = count;
        return DROP_FULL;
    }
    // The stall clock belongs to the head frame and to whom it waits for: it is
    // reset with every frame that goes. Once it has run out there is no room for
    // those behind the head either.
    rxq->waits_for = end->vif;
    if (rxq->stalled_by != end->vif) {
        stall_reset(rxq);
        rxq->stalled_by = rxq->waits_for = end->vif;
    }
    if (rxq->stall_since == 0)
        rxq->stall_since = context->now;
    if (rxq->stalled || context->now - rxq->stall_since > end->stall_cycles) {
        rxq->stalled = true;
        *at = stop == TRANSMIT_SHORT ? *at + 1 : count;
        return stop == TRANSMIT_SHORT ? DROP_TOO_BIG : DROP_STALLED;
    }
    return DROP_STALLED;
}

// Counts frames [from, to) as dropped by the leg. Nobody else gets them, so a
// one-pass tap, whose lock is held, may read them by itself.
static void drop(struct leg *leg, enum drop_reason reason, struct leg_step *tap, struct burst *burst, uint16_t from,
                 uint16_t to, struct tap_count *tap_count)
{
    counter_add(&leg->dropped[reason], to - from);
    if (tap != NULL) {
        tap_count->offered += to - from;
        tap_copy(tap->vif, burst, from, to - from, tap_count);
    }
}

static void flush(struct vif *vif, uint64_t frames, uint64_t bytes)
{
    txq_add(&vif->txq[0], frames, bytes);
    if (vif->ops->flush != NULL && frames > 0)
        vif->ops->flush(vif, 0);
}

// Gives the burst to the step's vif; with tap, whose monitor's lock the caller
// holds, to its monitor in the same pass. Returns how many frames leave the source.
static uint16_t deliver(const struct hop_context *context, struct leg *leg, struct leg_step *end, struct leg_step *tap,
                        struct burst *burst, bool wait)
{
    struct vif *vif = end->vif;
    struct tap_count tap_count = {0};
    uint64_t frames = 0, bytes = 0;
    uint16_t at = 0;

    if (unlikely(!txq_take(&vif->txq[0], !wait))) {
        if (wait)
            return 0; // next loop
        at = burst->count;
        drop(leg, DROP_FULL, tap, burst, 0, at, &tap_count);
        goto out;
    }
    while (at < burst->count) {
        enum transmit_stop stop;
        uint16_t left = burst->count - at, done;

        if (tap != NULL)
            done = vif->ops->transmit_tapped(vif, 0, tap->vif, 0, burst, at, left, &stop, &tap_count);
        else
            done = vif->ops->transmit(vif, 0, burst, at, left, &stop);
        if (done > 0) {
            stall_reset(context->rxq);
            frames += done;
            bytes += burst_bytes(burst, at, done);
            at += done;
        }
        if (likely(stop == TRANSMIT_ALL))
            break;
        uint16_t from = at;
        enum drop_reason reason = refuse(context, end, stop, wait, &at, burst->count);

        if (at == from)
            break;
        drop(leg, reason, tap, burst, from, at, &tap_count);
    }
    stage_end(context->measuring, tap != NULL ? WORKER_STAGE_COPY_TAPPED : WORKER_STAGE_COPY, frames);
    flush(vif, frames, bytes);
    stage_end(context->measuring, WORKER_STAGE_NOTIFY, frames);
    rte_spinlock_unlock(&vif->txq[0].lock);
    counter_add(&end->counters.frames, frames);
    // The leg counts a frame as it is on the wire, without its port's tag.
    counter_add(&end->counters.bytes, end->vlan == 0 ? bytes : bytes - VLAN_TAG_LEN * frames);
out:
    if (tap != NULL) {
        flush(tap->vif, tap_count.copied.frames, tap_count.copied.bytes);
        stage_end(context->measuring, WORKER_STAGE_NOTIFY, 0); // its frames are counted above
        tap_add(tap, &tap_count);
    }
    return at;
}

// The frames of one guest to one guest with one tap: both copies in one pass.
static bool one_pass(const struct verdict *verdict, const struct burst *burst)
{
    const struct vif *vif = verdict->end->vif;
    const struct vif *monitor = verdict->taps[0]->vif;

    return verdict->tap_count == 1 && !burst->owned && vif->copies && monitor->ops == vif->ops && vif != monitor &&
           (verdict->taps[0]->vlan | verdict->end->vlan) == 0;
}

// With the tag of the receiver's port, if it has one: as views, so that what the
// source owns stays as it is.
static uint16_t deliver_tagged(const struct hop_context *context, struct leg *leg, struct leg_step *end,
                               struct burst *burst, bool wait)
{
    if (unlikely(end->vlan != 0))
        burst = vlan_push(burst, 0, burst->count, end->vlan, context->scratch);
    return deliver(context, leg, end, NULL, burst, wait);
}

static void taps_run(const struct hop_context *context, const struct verdict *verdict, struct burst *burst,
                     uint16_t count)
{
    for (uint16_t i = 0; i < verdict->tap_count; i++)
        tap_run(context, verdict->taps[i], burst, 0, count);
}

// With taps: the order that keeps what the receiver and each tap get the same
// bytes, and gives a tap each frame that leaves the source, once.
static uint16_t run_tapped(const struct hop_context *context, struct leg *leg, const struct verdict *verdict,
                           struct burst *burst, bool wait)
{
    struct leg_step *tap = verdict->taps[0];
    uint16_t taken;

    if (one_pass(verdict, burst) && rte_spinlock_trylock(&tap->vif->txq[0].lock)) {
        taken = deliver(context, leg, verdict->end, tap, burst, wait);
        rte_spinlock_unlock(&tap->vif->txq[0].lock);
        return taken;
    }
    if (!burst->owned) {
        snapshot(burst, context->scratch->bounce);
        stage_end(context->measuring, WORKER_STAGE_TAPS, 0);
    }
    if (!wait) {
        // All of them leave, so the taps can come first: then the receiver may
        // take the memory over and change it (a tag).
        taps_run(context, verdict, burst, burst->count);
        stage_end(context->measuring, WORKER_STAGE_TAPS, burst->count);
        return deliver_tagged(context, leg, verdict->end, burst, wait);
    }
    burst->keep = burst->owned;
    taken = deliver(context, leg, verdict->end, NULL, burst, wait);
    burst->keep = false;
    taps_run(context, verdict, burst, taken);
    stage_end(context->measuring, WORKER_STAGE_TAPS, taken);
    return taken;
}

static uint16_t run_dropped(const struct hop_context *context, struct leg *leg, const struct verdict *verdict,
                            struct burst *burst)
{
    if (verdict->tap_count > 1 && !burst->owned)
        snapshot(burst, context->scratch->bounce);
    if (verdict->tap_count > 0) {
        taps_run(context, verdict, burst, burst->count);
        stage_end(context->measuring, WORKER_STAGE_TAPS, burst->count);
    }
    counter_add(&leg->dropped[verdict->reason], burst->count);
    stall_reset(context->rxq);
    return burst->count;
}

// `taken` frames left, of which these monitors got no copy.
static void count_absent(const struct verdict *verdict, uint16_t taken)
{
    for (uint16_t i = 0; i < verdict->absent_count; i++) {
        struct leg_step *step = verdict->absent[i];
        bool paused = step->vif != NULL && vif_link(step->vif) == VIF_LINK_PAUSED;

        counter_add(&step->counters.offered, taken);
        counter_add(&step->counters.tap_dropped[paused ? TAP_DROP_PAUSED : TAP_DROP_DOWN], taken);
    }
}

uint16_t hop_run(const struct hop_context *context, struct leg *leg, struct burst *burst)
{
    struct verdict verdict;
    uint16_t taken;

    judge(leg, &verdict);
    stage_end(context->measuring, WORKER_STAGE_LOOKUP, 0); // its frames are counted by the worker, at its other end
    if (unlikely(verdict.end == NULL)) {
        taken = run_dropped(context, leg, &verdict, burst);
    } else {
        bool wait = verdict.end->wait && !context->shared && verdict.end->vlan == 0;

        if (verdict.tap_count > 0)
            taken = run_tapped(context, leg, &verdict, burst, wait);
        else
            taken = deliver_tagged(context, leg, verdict.end, burst, wait);
    }
    if (unlikely(verdict.absent_count > 0))
        count_absent(&verdict, taken);
    counter_add(&leg->received, taken);
    counter_add(&leg->received_bytes, burst_bytes(burst, 0, taken));
    return taken;
}
