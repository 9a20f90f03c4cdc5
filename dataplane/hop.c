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

// Copies a frame's bytes out of the guest's hands. Returns the end of the copy.
static uint8_t *snapshot_frame(struct burst *burst, struct frame *frame, uint8_t *bounce)
{
    uint8_t *to = bounce;

    copy_bytes(to, frame->data, frame->data_len);
    to += frame->data_len;
    for (uint16_t j = 0; j + 1 < frame->segment_count; j++) {
        const struct frame_segment *segment = &burst->segments[frame->segment_first + j];

        copy_bytes(to, segment->data, segment->len);
        to += segment->len;
    }
    frame_set_single(frame, bounce, frame->len);
    return to;
}

// Those from first on, so that several readers see the same bytes.
static void snapshot(struct burst *burst, uint16_t first, uint8_t *bounce)
{
    for (uint16_t i = first; i < burst->count; i++)
        bounce = snapshot_frame(burst, &burst->frames[i], bounce);
}

// ---- the frame that is under way in segments ----

// The frame at the head was cut and part of it is out: the rest is of the bytes
// that were kept. Unless it is another frame by now.
static void cursor_resume(struct vif_rxq *rxq, struct burst *burst)
{
    const struct vif_cursor *cursor = &rxq->cursor;
    struct frame *frame = &burst->frames[0];

    // The length too: what a burst may have in bytes was reckoned with it.
    if (burst->offloads == 0 || frame->id != cursor->id || burst->epoch != cursor->epoch || frame->len != cursor->len) {
        rxq->cut = 0;
        return;
    }
    frame_set_single(frame, cursor->held, cursor->len);
    frame->offload = cursor->offload;
    burst->offloads |= cursor->offload.wants;
}

// Of the frame at `at`, which stays, `segment` segments are out. Returns false if it can't
// stay. resumed: it is the one that is held already.
static bool cursor_hold(struct vif_rxq *rxq, struct burst *burst, uint16_t at, uint32_t segment, bool resumed)
{
    struct vif_cursor *cursor = &rxq->cursor;
    struct frame copy = burst->frames[at];

    if (cursor->held == NULL || burst->owned)
        return false;
    if (!resumed) {
        cursor->epoch = burst->epoch;
        cursor->id = copy.id;
        cursor->offload = copy.offload;
        cursor->len = copy.len;
        snapshot_frame(burst, &copy, cursor->held);
    }
    rxq->cut = segment;
    return true;
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
static enum drop_reason refuse(const struct hop_context *context, const struct leg_step *end, uint16_t queue,
                               enum transmit_stop stop, bool wait, uint16_t *at, uint16_t count)
{
    struct vif_rxq *rxq = context->rxq;

    switch (stop) {
    case TRANSMIT_TOO_BIG:
        rxq->stall_since = 0; // the next head has a clock of its own
        *at += 1;
        return DROP_TOO_BIG;
    case TRANSMIT_BAD_OFFLOAD:
        rxq->stall_since = 0;
        *at += 1;
        return DROP_BAD_OFFLOAD;
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
    rxq->waits_queue = queue;
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

// A tap that is served in the pass that serves the receiver.
struct one_pass_tap {
    struct leg_step *step;
    uint16_t queue; // of its monitor; the caller has locked it
    struct tap_count count;
    struct frame_count given; // what it got otherwise: its own pass
};

// Frames [from, to) that it didn't get in that pass.
static void tap_late(const struct hop_context *context, struct one_pass_tap *tap, struct burst *burst, uint16_t from,
                     uint16_t to)
{
    const struct frame_count before = tap->count.copied;

    tap->count.offered += to - from;
    tap_copy(tap->step->vif, tap->queue, burst, from, to - from, context->scratch, &tap->count, &tap->given);
    // Here is but the difference to what is counted as copied.
    tap->given.frames -= tap->count.copied.frames - before.frames;
    tap->given.bytes -= tap->count.copied.bytes - before.bytes;
}

// Counts frames [from, to) as dropped by the leg. Nobody else gets them, so a
// one-pass tap, whose lock is held, may read them by itself.
static void drop(const struct hop_context *context, struct leg *leg, enum drop_reason reason, struct one_pass_tap *tap,
                 struct burst *burst, uint16_t from, uint16_t to)
{
    counter_add(&leg->dropped[reason], to - from);
    if (tap != NULL)
        tap_late(context, tap, burst, from, to);
}

static void flush(struct vif *vif, uint16_t queue, uint64_t frames, uint64_t bytes)
{
    txq_add(vif_txq(vif, queue), frames, bytes);
    if (vif->ops->flush != NULL && frames > 0)
        vif->ops->flush(vif, queue);
}

// What completing frames has come to in one deliver. Not looked at before the first is.
struct completing {
    struct complete_state state;
    struct frame_count whole; // frames that are out, as the leg counts them
};

// Completes frames from `at`, where the receiver's transmit stopped. Returns why it
// stops in turn; TRANSMIT_ALL: transmit may go on, behind the *done frames that are out.
__attribute__((noinline, cold)) static enum transmit_stop complete(const struct hop_context *context, struct vif *vif,
                                                                   uint16_t queue, struct burst *burst, uint16_t at,
                                                                   struct one_pass_tap *tap,
                                                                   struct completing *completing, uint16_t *done)
{
    const uint64_t sent = completing->state.sent.frames;
    uint16_t end = burst->count;
    enum transmit_stop stop;

    if (tap != NULL) {
        // The monitor gets its copy when the frame is out, and the same bytes.
        snapshot_frame(burst, &burst->frames[at], context->scratch->bounce);
        end = at + 1;
    }
    *done = complete_transmit(vif, queue, burst, at, end, &context->scratch->completion, &completing->state, &stop);
    if (completing->state.sent.frames != sent) {
        stall_reset(context->rxq);
        context->rxq->moved = true;
    }
    completing->whole.frames += *done;
    completing->whole.bytes += burst_bytes(burst, at, *done);
    if (tap != NULL && *done > 0)
        tap_late(context, tap, burst, at, at + *done);
    return stop;
}

// Gives the burst to the step's vif; with a tap (else NULL), whose monitor's queue the
// caller has locked, to its monitor in the same pass. Returns how many frames leave
// the source.
static uint16_t deliver(const struct hop_context *context, struct leg *leg, struct leg_step *end,
                        struct one_pass_tap *tap, struct burst *burst, bool wait)
{
    struct vif_rxq *rxq = context->rxq;
    struct vif *vif = end->vif;
    const uint16_t queue = vif_tx_queue(vif, context->queue);
    struct vif_txq *txq = vif_txq(vif, queue);
    struct completing completing;
    struct frame_count given; // to the vif: segments one by one
    uint64_t frames = 0, bytes = 0;
    const uint32_t resumed = rxq->cut;
    bool completes = false; // completing is valid
    uint16_t at = 0;

    if (unlikely(!txq_take(txq, !wait))) {
        if (wait)
            return 0; // next loop
        rxq->cut = 0;
        at = burst->count;
        drop(context, leg, DROP_FULL, tap, burst, 0, at);
        goto out;
    }
    rxq->cut = 0;
    while (at < burst->count) {
        enum transmit_stop stop = TRANSMIT_OFFLOAD;
        uint16_t left = burst->count - at, done = 0;

        // A frame of which a part is out must go on so.
        if (likely(resumed == 0 || at > 0)) {
            if (tap != NULL)
                done = vif->ops->transmit_tapped(vif, queue, tap->step->vif, tap->queue, burst, at, left, &stop,
                                                 &tap->count);
            else
                done = vif->ops->transmit(vif, queue, burst, at, left, &stop);
        }
        if (done > 0) {
            stall_reset(rxq);
            frames += done;
            bytes += burst_bytes(burst, at, done);
            at += done;
        }
        if (likely(stop == TRANSMIT_ALL))
            break;
        if (unlikely(complete_cures(burst, at, stop))) {
            if (!completes)
                completing =
                    (struct completing){.state = {.segment = at == 0 ? resumed : 0, .budget = LIMIT_BURST_SEGMENTS}};
            completes = true;
            stop = complete(context, vif, queue, burst, at, tap, &completing, &done);
            at += done;
            if (stop == TRANSMIT_ALL)
                continue;
            // Too many segments for one go of a leg that can't leave any behind.
            if (!wait && completing.state.budget == 0)
                stop = TRANSMIT_TOO_BIG;
        }
        uint16_t from = at;
        enum drop_reason reason = refuse(context, end, queue, stop, wait, &at, burst->count);

        if (at == from)
            break;
        drop(context, leg, reason, tap, burst, from, at);
        if (completes)
            completing.state.segment = 0;
    }
    given = (struct frame_count){frames, bytes};
    if (unlikely(completes)) {
        const struct complete_state *state = &completing.state;

        if (state->segment != 0 && !cursor_hold(rxq, burst, at, state->segment, resumed != 0 && at == 0)) {
            drop(context, leg, DROP_FULL, tap, burst, at, at + 1);
            at++;
        }
        counter_add(&end->counters.segmented_frames, state->count.frames);
        counter_add(&end->counters.segments, state->count.segments);
        given.frames += state->sent.frames;
        given.bytes += state->sent.bytes;
        frames += completing.whole.frames;
        bytes += completing.whole.bytes;
    }
    stage_end(context->measuring, tap != NULL ? WORKER_STAGE_COPY_TAPPED : WORKER_STAGE_COPY, frames);
    flush(vif, queue, given.frames, given.bytes);
    stage_end(context->measuring, WORKER_STAGE_NOTIFY, frames);
    rte_spinlock_unlock(&txq->lock);
    counter_add(&end->counters.frames, frames);
    // The leg counts a frame as it is on the wire, without its port's tag.
    counter_add(&end->counters.bytes, end->vlan == 0 ? bytes : bytes - VLAN_TAG_LEN * frames);
out:
    if (tap != NULL) {
        flush(tap->step->vif, tap->queue, tap->count.copied.frames + tap->given.frames,
              tap->count.copied.bytes + tap->given.bytes);
        stage_end(context->measuring, WORKER_STAGE_NOTIFY, 0); // its frames are counted above
        tap_add(tap->step, &tap->count);
    }
    return at;
}

// The frames of one guest to one guest with one tap: both copies in one pass.
static bool one_pass(const struct hop_context *context, const struct verdict *verdict, const struct burst *burst)
{
    const struct vif *vif = verdict->end->vif;
    struct vif *monitor = verdict->taps[0]->vif;

    if (verdict->tap_count != 1 || burst->owned || !vif->copies || monitor->ops != vif->ops || vif == monitor ||
        (verdict->taps[0]->vlan | verdict->end->vlan | verdict->taps[0]->limited) != 0)
        return false;
    // A monitor that takes fewer offloads gets frames of its own.
    return likely(burst->offloads == 0) ||
           (context->rxq->cut == 0 &&
            (burst->offloads & ~complete_takes(monitor, vif_tx_queue(monitor, context->queue))) == 0);
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
                     uint16_t first, uint16_t count)
{
    for (uint16_t i = 0; i < verdict->tap_count; i++)
        tap_run(context, verdict->taps[i], burst, first, count);
}

// With taps: the order that keeps what the receiver and each tap get the same
// bytes, and gives a tap each frame that leaves the source, once.
static uint16_t run_tapped(const struct hop_context *context, struct leg *leg, const struct verdict *verdict,
                           struct burst *burst, bool wait)
{
    uint16_t taken;

    if (one_pass(context, verdict, burst)) {
        const struct vif *monitor = verdict->taps[0]->vif;
        struct one_pass_tap tap = {.step = verdict->taps[0], .queue = vif_tx_queue(monitor, context->queue)};
        struct vif_txq *txq = vif_txq(monitor, tap.queue);

        if (rte_spinlock_trylock(&txq->lock)) {
            taken = deliver(context, leg, verdict->end, &tap, burst, wait);
            rte_spinlock_unlock(&txq->lock);
            return taken;
        }
    }
    if (!burst->owned) {
        snapshot(burst, 0, context->scratch->bounce);
        stage_end(context->measuring, WORKER_STAGE_TAPS, 0);
    }
    if (!wait) {
        // All of them leave, so the taps can come first: then the receiver may
        // take the memory over and change it (a tag).
        taps_run(context, verdict, burst, 0, burst->count);
        stage_end(context->measuring, WORKER_STAGE_TAPS, burst->count);
        return deliver_tagged(context, leg, verdict->end, burst, wait);
    }
    burst->keep = burst->owned;
    taken = deliver(context, leg, verdict->end, NULL, burst, wait);
    burst->keep = false;
    taps_run(context, verdict, burst, 0, taken);
    stage_end(context->measuring, WORKER_STAGE_TAPS, taken);
    return taken;
}

static uint16_t run_dropped(const struct hop_context *context, struct leg *leg, const struct verdict *verdict,
                            struct burst *burst)
{
    if (verdict->tap_count > 1 && !burst->owned)
        snapshot(burst, 0, context->scratch->bounce);
    if (verdict->tap_count > 0) {
        taps_run(context, verdict, burst, 0, burst->count);
        stage_end(context->measuring, WORKER_STAGE_TAPS, burst->count);
    }
    counter_add(&leg->dropped[verdict->reason], burst->count);
    stall_reset(context->rxq);
    context->rxq->cut = 0;
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

static uint16_t run(const struct hop_context *context, struct leg *leg, struct burst *burst)
{
    struct verdict verdict;
    uint16_t taken;

    context->rxq->moved = false;
    if (unlikely(context->rxq->cut != 0)) {
        // One that began before its vif was shared among wires begins anew there.
        if (context->shared)
            context->rxq->cut = 0;
        else
            cursor_resume(context->rxq, burst);
    }
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

// Frames from `first` on leave the source and are dropped. Taps see them, as all that leaves it.
static void drop_from(const struct hop_context *context, struct leg *leg, const struct verdict *verdict,
                      enum drop_reason reason, struct burst *burst, uint16_t first)
{
    uint16_t count = burst->count - first;

    if (verdict->tap_count > 1 && !burst->owned)
        snapshot(burst, first, context->scratch->bounce);
    if (verdict->tap_count > 0) {
        taps_run(context, verdict, burst, first, count);
        stage_end(context->measuring, WORKER_STAGE_TAPS, count);
    }
    if (verdict->absent_count > 0)
        count_absent(verdict, count);
    counter_add(&leg->dropped[reason], count);
    counter_add(&leg->received, count);
    counter_add(&leg->received_bytes, burst_bytes(burst, first, count));
    stall_reset(context->rxq); // there is another head frame
}

void hop_drop(const struct hop_context *context, struct leg *leg, enum drop_reason reason, struct burst *burst)
{
    struct verdict verdict;

    judge(leg, &verdict);
    context->rxq->cut = 0;
    drop_from(context, leg, &verdict, reason, burst, 0);
}

// A leg from or to a port with a rate. What fits goes as always; when all of it has left the source, what is above
// the rate is dropped. While it waits for the receiver, what is behind it waits, too: whether that is above the rate is
// asked when it is its turn. The source's bucket pays for what left, the receiver's for what it got.
__attribute__((noinline)) static uint16_t run_limited(const struct hop_context *context, struct leg *leg,
                                                      struct burst *burst)
{
    const struct rate *in = leg->ingress, *out;
    const uint16_t count = burst->count;
    const uint64_t received = counter_read(&leg->received), received_bytes = counter_read(&leg->received_bytes);
    uint64_t delivered, delivered_bytes;
    uint16_t fits = count, taken = 0;
    struct verdict verdict;

    judge(leg, &verdict);
    if (verdict.end == NULL)
        return run(context, leg, burst);
    out = verdict.end->rate;
    delivered = counter_read(&verdict.end->counters.frames);
    delivered_bytes = counter_read(&verdict.end->counters.bytes);
    if (in != NULL)
        fits = rate_fits(in, context->now, burst, 0, fits);
    if (out != NULL)
        fits = rate_fits(out, context->now, burst, 0, fits);
    if (fits == 0 && unlikely(context->rxq->cut != 0))
        fits = 1; // part of it is out as segments: the rest may leave a debt, but isn't torn off
    if (fits > 0) {
        burst->count = fits;
        taken = run(context, leg, burst);
        burst->count = count;
    }
    if (in != NULL)
        rate_charge(in, context->now, counter_read(&leg->received) - received,
                    counter_read(&leg->received_bytes) - received_bytes);
    if (out != NULL)
        rate_charge(out, context->now, counter_read(&verdict.end->counters.frames) - delivered,
                    counter_read(&verdict.end->counters.bytes) - delivered_bytes);
    if (taken < fits || fits == count)
        return taken;
    drop_from(context, leg, &verdict, DROP_RATE_LIMITED, burst, fits);
    return count;
}

uint16_t hop_run(const struct hop_context *context, struct leg *leg, struct burst *burst)
{
    return likely(!leg->limited) ? run(context, leg, burst) : run_limited(context, leg, burst);
}
