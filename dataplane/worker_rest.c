// SPDX-License-Identifier: BSD-3-Clause

// How a worker sleeps (--poll adaptive).
//
// A queue that stayed empty is armed (its driver will notify us) and leaves
// the polled ones; its fd is in the worker's epoll set, edge-triggered, with
// the table's generation, so that an event from before a change is told apart. A
// worker with nothing to poll sleeps in epoll_wait:
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

// epoll data: which source of which table. All ones: the worker's own eventfd.
#define EVENT_WAKE UINT64_MAX
enum { EVENT_SOURCE_BITS = 20 };

static uint64_t event_of(const struct worker *worker, const struct source *source)
{
    uint64_t index = (uint64_t)(source - worker->table->workers[worker->index].sources);

    return (worker->table_serial << EVENT_SOURCE_BITS | index) & ~(UINT64_C(1) << 63);
}

static int watch(const struct worker *worker, int fd, uint64_t data)
{
    struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.u64 = data};

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

    if (fd < 0 || watch(worker, fd, event_of(worker, source)) != 0)
        return false;
    if (!vif->ops->arm(vif, source->queue))
        return false;
    worker->active[i] = worker->active[--worker->active_count];
    worker->resting_count++;
    return true;
}

static void wake_source(struct worker *worker, uint64_t data)
{
    const struct worker_sources *mine = &worker->table->workers[worker->index];
    uint32_t index = data & ((1u << EVENT_SOURCE_BITS) - 1);
    const struct source *source;

    if (index >= mine->count)
        return;
    source = &mine->sources[index];
    if (data != event_of(worker, source) || source->held)
        return; // of an older table: with the new one everything was polled
    for (uint32_t i = 0; i < worker->active_count; i++)
        if (worker->active[i] == source)
            return;
    if (source->vif->ops->disarm != NULL)
        source->vif->ops->disarm(source->vif, source->queue);
    source->vif->rxq[source->queue].empty_since = 0;
    worker->active[worker->active_count++] = source;
    if (worker->resting_count > 0)
        worker->resting_count--;
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
        // slept on may be gone, and even another be in its place: what then
        // came is looked at anyway, since a new table begins with a round over
        // all its sources.
        rte_rcu_qsbr_thread_online(publish_qsbr, worker->index);
        table = atomic_load_explicit(&wire_table_current, memory_order_acquire);
        if (table->serial == worker->table_serial) {
            for (int i = 0; i < count; i++)
                if (events[i].data.u64 != EVENT_WAKE)
                    wake_source(worker, events[i].data.u64);
        }
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
        struct vif *receiver = source->vif->rxq[source->queue].waits_for;
        int fd;

        if (receiver == NULL || receiver->ops->arm_transmit == NULL || !rte_spinlock_trylock(&receiver->txq[0].lock))
            continue;
        fd = receiver->ops->arm_transmit(receiver, 0);
        if (fd >= 0)
            (void)watch(worker, fd, event_of(worker, source));
        rte_spinlock_unlock(&receiver->txq[0].lock);
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
