// SPDX-License-Identifier: BSD-3-Clause

// The worker's loop: table → sources → bursts → hops. Hot, but for rest.

#include "guest_call.h"
#include "worker_private.h"

#include <rte_branch_prediction.h>
#include <rte_cycles.h>
#include <rte_rcu_qsbr.h>
#include <string.h>

enum poll_result { POLL_EMPTY, POLL_WAITING, POLL_MOVED };

// A vif on no wire, or a monitor: its guest must not fill up, and what it
// sends goes nowhere.
static uint16_t discard(const struct source *source, const struct burst *burst)
{
    enum vif_discard_reason reason = source->monitor ? VIF_DISCARD_MONITOR : VIF_DISCARD_UNWIRED;
    struct vif_rxq *rxq = vif_rxq(source->vif, source->queue);

    counter_add(&rxq->discarded[reason], burst->count);
    rxq->cut = 0; // the frame that was under way leaves, too
    return burst->count;
}

// One tag's frames of a shared source.
static void run_tag(struct worker *worker, const struct source *source, int tag)
{
    const struct vlan_map *vlans = source->vlans;
    struct vif_rxq *rxq = vif_rxq(source->vif, source->queue);
    struct leg *leg = tag < 0 ? NULL : vlans->legs[tag];
    uint16_t count = worker->part.count;

    if (tag < 0) {
        counter_add(&rxq->discarded[VIF_DISCARD_RUNT], count);
    } else if (leg == NULL) {
        enum vif_discard_reason reason = vlans->monitor[tag] ? VIF_DISCARD_MONITOR : VIF_DISCARD_UNKNOWN_VLAN;

        counter_add(&rxq->discarded[reason], count);
    } else {
        struct hop_context context = {.now = worker->now,
                                      .rxq = rxq,
                                      .queue = source->queue,
                                      .measuring = worker->measuring,
                                      .shared = true,
                                      .scratch = &worker->scratch};

        // Where its wire is being drained, frames of the other wires are behind
        // these: they can't wait.
        if (vlans->held[tag])
            hop_drop(&context, leg, DROP_FULL, &worker->part);
        else
            hop_run(&context, leg, &worker->part);
    }
}

// A source that several wires share: the burst is taken apart by tag, each
// tag's frames in their order.
static uint16_t run_shared(struct worker *worker, const struct source *source)
{
    struct burst *burst = &worker->burst, *part = &worker->part;
    int tags[LIMIT_BURST_FRAMES];
    uint16_t from[LIMIT_BURST_FRAMES];
    uint64_t left = burst->count == 64 ? UINT64_MAX : (UINT64_C(1) << burst->count) - 1;

    for (uint16_t i = 0; i < burst->count; i++)
        tags[i] = vlan_pop(burst, i, worker->headers[i]);
    // Nothing that is done to a part changes the segments.
    memcpy(part->segments, burst->segments, burst->segment_count * sizeof(part->segments[0]));
    part->segment_count = burst->segment_count;
    part->owned = burst->owned;
    part->offloads = burst->offloads;
    while (left != 0) {
        int tag = tags[__builtin_ctzll(left)];

        part->count = 0;
        part->keep = false;
        for (uint64_t rest = left; rest != 0; rest &= rest - 1) {
            uint16_t i = (uint16_t)__builtin_ctzll(rest);

            if (tags[i] != tag)
                continue;
            left &= ~(UINT64_C(1) << i);
            from[part->count] = i;
            part->frames[part->count++] = burst->frames[i];
        }
        run_tag(worker, source, tag);
        for (uint16_t i = 0; i < part->count; i++)
            burst->frames[from[i]].mbuf = part->frames[i].mbuf; // NULL where it was taken over
    }
    return burst->count;
}

// A queue in which a guest had nothing but bad chains. To give them back is work like any other: it counts for the
// guest's share of the worker, for the queue's load and for the worker's.
__attribute__((noinline, cold)) static enum poll_result count_bad(struct worker *worker, struct vif_rxq *rxq,
                                                                  uint64_t began)
{
    worker->burst.worked = false;
    worker->loop_worked = true;
    stage_end(worker->measuring, WORKER_STAGE_RECEIVE, 0);
    if (worker->measuring != NULL)
        counter_add(&rxq->busy_cycles, (worker->measuring->mark - began) * STAGE_SAMPLE_EVERY);
    return POLL_MOVED;
}

static enum poll_result poll_source(struct worker *worker, const struct source *source)
{
    struct vif *vif = source->vif;
    struct vif_rxq *rxq = vif_rxq(vif, source->queue);
    struct burst *burst = &worker->burst;
    const uint64_t began = unlikely(worker->measuring != NULL) ? worker->measuring->mark : 0;
    uint64_t bytes;
    uint16_t taken;

    if (vif->ops->receive(vif, source->queue, burst) == 0) {
        if (unlikely(burst->worked))
            return count_bad(worker, rxq, began);
        stage_end(worker->measuring, WORKER_STAGE_POLL, 0);
        return POLL_EMPTY;
    }
    stage_end(worker->measuring, WORKER_STAGE_RECEIVE, burst->count);
    if (likely(source->leg != NULL)) {
        struct hop_context context = {.now = worker->now,
                                      .rxq = rxq,
                                      .queue = source->queue,
                                      .measuring = worker->measuring,
                                      .scratch = &worker->scratch};

        taken = hop_run(&context, source->leg, burst);
        bytes = burst_bytes(burst, 0, taken);
    } else if (source->vlans != NULL) {
        bytes = burst_bytes(burst, 0, burst->count); // with the tags, which are popped
        taken = run_shared(worker, source);
    } else {
        taken = discard(source, burst);
        bytes = burst_bytes(burst, 0, taken);
    }
    counter_add(&rxq->frames, taken);
    counter_add(&rxq->bytes, bytes);
    stage_end(worker->measuring, WORKER_STAGE_LOOKUP, taken);
    vif->ops->complete(vif, source->queue, burst, taken);
    stage_end(worker->measuring, WORKER_STAGE_COMPLETE, taken);
    // What each queue costs: as the stages, by samples. One that only waited counts
    // for nothing: loops in which all did so are measured again and again.
    if (unlikely(worker->measuring != NULL) && taken > 0)
        counter_add(&rxq->busy_cycles, (worker->measuring->mark - began) * STAGE_SAMPLE_EVERY);
    worker->loop_frames += taken;
    return taken > 0 || rxq->moved ? POLL_MOVED : POLL_WAITING;
}

// A vif with several queues at this worker has had its share: as many bursts in one turn
// as others get in the turns since.
static inline bool had_share(const struct worker *worker, const struct vif_rxq *rxq)
{
    const struct vif_rxq *share = rxq->share;

    return unlikely(share != NULL) && share->share_turn != worker->turn && share->share_until > worker->turn;
}

// The queue had something: a turn, of two rounds, is worth two bursts.
static void count_share(const struct worker *worker, struct vif_rxq *share)
{
    if (share->share_turn != worker->turn) {
        share->share_turn = worker->turn;
        share->share_count = 0;
    }
    share->share_count++;
    share->share_until = worker->turn + (share->share_count + 1) / 2;
}

// One round over the sources that aren't at rest. Those that have been empty
// for long go there.
//
// A guest chooses how many queues it has, so each vif gets the same share and not each
// queue: all of its queues are polled, and then none until the others have had as much.
// While nobody has anything, nobody waits for that.
//
// Of sources whose frames go to one vif with little room the first finds all of it. So
// rounds come in pairs, of which the second goes the other way: of any two sources each
// is before the other once. And the next pair begins behind the source that was the first
// to move something in this one: of many each has its turn, wherever the idle ones stand.
static enum poll_result poll_all(struct worker *worker)
{
    enum poll_result best = POLL_EMPTY;
    bool back = !worker->backwards;
    uint32_t at;

    worker->backwards = back;
    if (!back) {
        worker->first = worker->first_next;
        worker->first_found = false;
        worker->turn++;
    }
    at = worker->first;
    for (uint32_t left = worker->active_count; left > 0 && worker->active_count > 0; left--) {
        const struct source *source;
        enum poll_result result;
        struct vif_rxq *rxq;

        if (back)
            at = (at == 0 || at > worker->active_count ? worker->active_count : at) - 1;
        else if (at >= worker->active_count)
            at = 0;
        source = worker->active[at];
        rxq = vif_rxq(source->vif, source->queue);
        if (had_share(worker, rxq)) {
            at += !back;
            continue;
        }
        result = poll_source(worker, source);
        if (unlikely(rxq->share != NULL) && result != POLL_EMPTY)
            count_share(worker, rxq->share);
        if (result > best) {
            best = result;
            if (result == POLL_MOVED && !worker->first_found) {
                worker->first_found = true;
                worker->first_next = back ? at : at + 1;
            }
        }
        if (result != POLL_EMPTY) {
            rxq->empty_since = 0;
        } else if (rxq->empty_since == 0) {
            rxq->empty_since = worker->now;
            rxq->stall_since = 0; // no head frame waits, though one did that its guest took back
        } else if (worker->adaptive && worker->now - rxq->empty_since > worker->rest_after &&
                   worker_rest_source(worker, at)) {
            continue; // the last one took its place
        }
        at += !back;
    }
    if (best != POLL_MOVED)
        worker->turn += VIF_QUEUES_MAX + 1; // nobody is owed anything
    return best;
}

// A source that was at rest with this worker stays so if it was in the table
// before, too: it is armed, its descriptor is in the worker's set, and an event
// that came meanwhile is still to be taken or has ended the rest. Had it been
// in a table of another worker's, or of nobody's, an event might have been taken
// that found no source.
void worker_adopt(struct worker *worker, const struct wire_table *table)
{
    const struct worker_sources *mine = &table->workers[worker->index];
    uint64_t before = worker->table_serial;

    worker->table_serial = table->serial;
    worker->active_count = worker->resting_count = 0;
    for (uint32_t i = 0; i < mine->count && worker->active_count < WORKER_SOURCES_MAX; i++) {
        const struct source *source = &mine->sources[i];
        struct vif_rxq *rxq = vif_rxq(source->vif, source->queue);
        bool stays = rxq->adopted == before;

        rxq->share = i > 0 && source[-1].vif == source->vif ? vif_rxq(source->vif, source[-1].queue)->share
                     : i + 1 < mine->count && source[1].vif == source->vif ? rxq
                                                                           : NULL;
        rxq->share_turn = rxq->share_until = 0;
        rxq->adopted = table->serial;
        rxq->waits_for = NULL; // it may be gone
        if (stays && rxq->rested_by == worker->index + 1) {
            worker->resting_count++;
            continue;
        }
        if (worker->adaptive && (!stays || rxq->rested_by != 0) && source->vif->ops->disarm != NULL)
            source->vif->ops->disarm(source->vif, source->queue);
        rxq->rested_by = 0;
        rxq->empty_since = 0;
        if (!source->held)
            worker->active[worker->active_count++] = source;
    }
    atomic_store_explicit(&worker->source_count, mine->count, memory_order_relaxed);
}

static void account(struct worker *worker)
{
    uint64_t now = rte_rdtsc();

    counter_add(&worker->loops, 1);
    if (worker->loop_frames > 0 || unlikely(worker->loop_worked)) {
        counter_add(&worker->frames, worker->loop_frames);
        counter_add(&worker->busy_cycles, now - worker->now);
        stage_loop_end(&worker->stages, worker->measuring, now, worker->loop_frames);
        worker->loop_frames = 0;
        worker->loop_worked = false;
    } else {
        counter_add(&worker->empty_cycles, now - worker->now);
    }
    worker->now = now;
}

int worker_main(void *argument)
{
    struct worker *worker = argument;

    rte_rcu_qsbr_thread_register(publish_qsbr, worker->index);
    rte_rcu_qsbr_thread_online(publish_qsbr, worker->index);
    worker->now = rte_rdtsc();
    atomic_store_explicit(&worker->started, worker->now, memory_order_relaxed);
    while (!atomic_load_explicit(&worker->stop, memory_order_relaxed)) {
        // Acquire pairs with the publisher's release: the table's contents.
        const struct wire_table *table = atomic_load_explicit(&wire_table_current, memory_order_acquire);
        enum poll_result result;

        worker->table = table;
        if (unlikely(table->serial != worker->table_serial))
            worker_adopt(worker, table);
        worker->measuring = stage_loop(&worker->stages, worker->now);
        result = poll_all(worker);
        account(worker);
        if (worker->adaptive)
            worker_rest(worker, result == POLL_MOVED, result == POLL_WAITING);
        // Between two loops nothing of the table, of legs or of guests' memory
        // is held. The rest belongs to the loop: it looks at the table's sources
        // and arms their rings.
        rte_rcu_qsbr_quiescent(publish_qsbr, worker->index);
        if (unlikely(worker->yields) && result != POLL_MOVED)
            worker_yield();
    }
    rte_rcu_qsbr_thread_offline(publish_qsbr, worker->index);
    rte_rcu_qsbr_thread_unregister(publish_qsbr, worker->index);
    guest_call_close();
    atomic_store_explicit(&worker->ended, true, memory_order_release);
    return 0;
}
