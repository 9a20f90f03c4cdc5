// SPDX-License-Identifier: BSD-3-Clause

// How a worker sleeps (--poll adaptive).
//
// A queue that stayed empty is armed (its driver will notify us) and leaves
// the polled ones; its fd is in the worker's epoll set, edge-triggered and for one
// event, with its vif's slot and its number: what these mean is looked up in the
// table that is used when the event is taken. A rest outlives tables as long as
// they leave the queue with its worker (worker_adopt), so no event may be thrown
// away. A worker with nothing to poll sleeps in epoll_wait:
//
//   arm each queue → fence → look at the ring again      (ops->arm)
//   sleeping = true → fence → look at the table again    (here)
//   QSBR offline → epoll_wait → QSBR online → sleeping = false → load the table
//
// The other side: a guest publishes a frame, fences, looks whether we asked to be notified;
// publish_begin swaps the table, fences, looks whether we sleep.

#include "worker_private.h"

#include <errno.h>
#include <rte_cycles.h>
#include <rte_rcu_qsbr.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

enum { EVENTS = 64, NAP_MS = 1 };

// epoll data: which queue. All ones: the worker's own eventfd.
#define EVENT_WAKE UINT64_MAX
enum { EVENT_QUEUE_BITS = 16 };

static uint64_t event_of(const struct source *source)
{
    return (uint64_t)source->slot << EVENT_QUEUE_BITS | source->queue;
}

static int watch(const struct worker *worker, int fd, uint64_t data)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET | EPOLLONESHOT, .data.u64 = data};

    if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_MOD, fd, &event) == 0)
        return 0;
    if (errno == ENOENT && epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, fd, &event) == 0)
        return 0;
    return -errno;
}

bool worker_rest_source(struct worker *worker, uint32_t i)
{
    const struct source *source = worker->active[i];
    struct vif *vif = source->vif;
    int fd = vif->ops->wake_fd != NULL ? vif->ops->wake_fd(vif, source->queue) : -1;

    if (fd < 0 || watch(worker, fd, event_of(source)) != 0)
        return false;
    if (!vif->ops->arm(vif, source->queue))
        return false;
    vif_rxq(vif, source->queue)->rested_by = (uint16_t)(worker->index + 1);
    worker->active[i] = worker->active[--worker->active_count];
    worker->resting_count++;
    return true;
}

static const struct source *find_source(const struct worker *worker, uint64_t data)
{
    const struct worker_sources *mine = &worker->table->workers[worker->index];
    uint32_t from = 0, to = mine->count;

    while (from < to) {
        uint32_t middle = from + (to - from) / 2;

        if (event_of(&mine->sources[middle]) < data)
            from = middle + 1;
        else
            to = middle;
    }
    return from < mine->count && event_of(&mine->sources[from]) == data ? &mine->sources[from] : NULL;
}

static void wake_source(struct worker *worker, uint64_t data)
{
    const struct source *source = find_source(worker, data);
    struct vif_rxq *rxq;

    if (source == NULL)
        return; // another worker's by now, or gone
    rxq = vif_rxq(source->vif, source->queue);
    if (rxq->rested_by != worker->index + 1)
        return; // it is polled; what it waited for may have come
    if (source->vif->ops->disarm != NULL)
        source->vif->ops->disarm(source->vif, source->queue);
    rxq->rested_by = 0;
    rxq->empty_since = 0;
    worker->resting_count--;
    // A held one is polled from the table on that lets it go.
    if (!source->held)
        worker->active[worker->active_count++] = source;
}

// Takes what epoll has, waiting at most timeout_ms (-1: for ever).
static void take_events(struct worker *worker, int timeout_ms)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(worker->epoll_fd, events, EVENTS, timeout_ms);

    for (int i = 0; i < count; i++) {
        eventfd_t wakes;

        if (events[i].data.u64 == EVENT_WAKE)
            (void)eventfd_read(worker->wake_fd, &wakes);
        else
            wake_source(worker, events[i].data.u64);
    }
}

static void sleep_for(struct worker *worker, int timeout_ms)
{
    const struct wire_table *table = worker->table;

    atomic_store_explicit(&worker->sleeping, true, memory_order_relaxed);
    // Our store of sleeping may not move below the loads of the table and of
    // stop: worker_wake_all loads sleeping after the swap and a fence. Without
    // it we could see the old table and it a worker that is awake.
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&wire_table_current, memory_order_relaxed) == table &&
        !atomic_load_explicit(&worker->stop, memory_order_relaxed)) {
        struct epoll_event events[EVENTS];
        int count;

        rte_rcu_qsbr_thread_offline(publish_qsbr, worker->index);
        counter_add(&worker->sleeps, 1);
        count = epoll_wait(worker->epoll_fd, events, EVENTS, timeout_ms);
        // Online before anything of a table is touched again. The one that we
        // slept on may be gone, and even another be in its place. What came is
        // about queues that may rest in the new one, too.
        rte_rcu_qsbr_thread_online(publish_qsbr, worker->index);
        worker->table = atomic_load_explicit(&wire_table_current, memory_order_acquire);
        if (worker->table->serial != worker->table_serial)
            worker_adopt(worker, worker->table);
        for (int i = 0; i < count; i++)
            if (events[i].data.u64 != EVENT_WAKE)
                wake_source(worker, events[i].data.u64);
        (void)eventfd_read(worker->wake_fd, &(eventfd_t){0});
    }
    atomic_store_explicit(&worker->sleeping, false, memory_order_relaxed);
}

void worker_yield(void)
{
    sched_yield();
}

// Frames wait for room: the receivers are asked to notify us of buffers.
static void arm_receivers(struct worker *worker)
{
    for (uint32_t i = 0; i < worker->active_count; i++) {
        const struct source *source = worker->active[i];
        const struct vif_rxq *rxq = vif_rxq(source->vif, source->queue);
        struct vif *receiver = rxq->waits_for;
        struct vif_txq *txq = receiver != NULL ? vif_txq(receiver, rxq->waits_queue) : NULL;
        int fd;

        if (receiver == NULL || receiver->ops->arm_transmit == NULL || !rte_spinlock_trylock(&txq->lock))
            continue;
        fd = receiver->ops->arm_transmit(receiver, rxq->waits_queue);
        if (fd >= 0)
            (void)watch(worker, fd, event_of(source));
        rte_spinlock_unlock(&txq->lock);
    }
}

void worker_rest(struct worker *worker, bool moved, bool waiting)
{
    uint64_t glance = worker->rest_after / 4;

    if (moved) {
        worker->waiting_since = 0;
        // The busy ones must not starve those whose driver notified us.
        if (worker->resting_count > 0 && worker->now - worker->last_glance > glance) {
            worker->last_glance = worker->now;
            take_events(worker, 0);
        }
        return;
    }
    if (worker->waiting_since == 0) {
        worker->waiting_since = worker->now;
        return;
    }
    if (worker->active_count == 0) {
        sleep_for(worker, -1);
        worker->waiting_since = 0;
    } else if (worker->now - worker->waiting_since > 2 * worker->rest_after) {
        // What is left has frames that wait, or can't notify us.
        if (waiting)
            arm_receivers(worker);
        sleep_for(worker, NAP_MS);
    } else if (worker->resting_count > 0 && worker->now - worker->last_glance > glance) {
        worker->last_glance = worker->now;
        take_events(worker, 0);
    }
    worker->now = rte_rdtsc(); // sleep isn't work
}
