// SPDX-License-Identifier: BSD-3-Clause

// Workers come and go; and what others ask of them.

#include "eal.h"
#include "worker_private.h"

#include <errno.h>
#include <rte_cycles.h>
#include <rte_launch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

// An empty queue is polled this long before it rests: longer than the gap
// between two bursts of a guest that is busy, shorter than anyone's patience.
enum { REST_AFTER_US = 100 };

static struct worker *workers[LIMIT_WORKERS];
static unsigned count;

static void worker_free(struct worker *worker)
{
    if (worker == NULL)
        return;
    if (worker->epoll_fd >= 0)
        close(worker->epoll_fd);
    if (worker->wake_fd >= 0)
        close(worker->wake_fd);
    free(worker->active);
    free(worker);
}

static struct worker *worker_alloc(unsigned index, enum poll_mode poll)
{
    struct epoll_event wake = {.events = EPOLLIN | EPOLLET, .data.u64 = UINT64_MAX};
    struct worker *worker = NULL;

    if (posix_memalign((void **)&worker, _Alignof(struct worker), sizeof(*worker)) != 0)
        return NULL;
    memset(worker, 0, sizeof(*worker));
    worker->index = index;
    worker->lcore = eal_worker_lcore(index);
    worker->adaptive = poll == POLL_ADAPTIVE;
    worker->yields = eal_one_cpu();
    worker->rest_after = rte_get_tsc_hz() / 1000000 * REST_AFTER_US;
    stage_init(&worker->stages, rte_rdtsc());
    worker->active = calloc(WORKER_SOURCES_MAX, sizeof(*worker->active));
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (worker->active == NULL || worker->epoll_fd < 0 || worker->wake_fd < 0 ||
        epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, worker->wake_fd, &wake) != 0) {
        worker_free(worker);
        return NULL;
    }
    return worker;
}

int worker_start_all(enum poll_mode poll, char *reason, size_t reason_size)
{
    for (unsigned i = 0; i < eal_worker_count(); i++) {
        int rc;

        workers[i] = worker_alloc(i, poll);
        if (workers[i] == NULL) {
            snprintf(reason, reason_size, "worker %u can't be made: %s", i, strerror(errno));
            return -ENOMEM;
        }
        rc = rte_eal_remote_launch(worker_main, workers[i], workers[i]->lcore);
        if (rc != 0) {
            snprintf(reason, reason_size, "worker %u can't be launched on lcore %u: %s", i, workers[i]->lcore,
                     strerror(-rc));
            worker_free(workers[i]);
            return rc;
        }
        count = i + 1;
    }
    return 0;
}

void worker_stop_all(void)
{
    for (unsigned i = 0; i < count; i++)
        atomic_store(&workers[i]->stop, true);
    worker_wake_all();
    for (unsigned i = 0; i < count; i++) {
        rte_eal_wait_lcore(workers[i]->lcore);
        (void)atomic_load_explicit(&workers[i]->ended, memory_order_acquire);
    }
    for (unsigned i = 0; i < count; i++)
        worker_free(workers[i]);
    count = 0;
}

void worker_forget_fd(int fd)
{
    // ENOENT where it isn't in the set, which is the usual case.
    for (unsigned i = 0; i < count; i++)
        (void)epoll_ctl(workers[i]->epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

void worker_wake_all(void)
{
    // What the caller changed may not move below the loads of sleeping; see
    // sleep_for in worker_rest.c for the other side.
    atomic_thread_fence(memory_order_seq_cst);
    for (unsigned i = 0; i < count; i++)
        if (atomic_load_explicit(&workers[i]->sleeping, memory_order_relaxed))
            (void)eventfd_write(workers[i]->wake_fd, 1);
}

unsigned worker_choose(void)
{
    unsigned best = 0;

    for (unsigned i = 1; i < count; i++)
        if (atomic_load(&workers[i]->queue_count) < atomic_load(&workers[best]->queue_count))
            best = i;
    atomic_fetch_add(&workers[best]->queue_count, 1);
    return best;
}

void worker_add(unsigned worker)
{
    atomic_fetch_add(&workers[worker]->queue_count, 1);
}

void worker_unchoose(unsigned worker)
{
    atomic_fetch_sub(&workers[worker]->queue_count, 1);
}

unsigned worker_count(void)
{
    return count;
}

bool worker_read(unsigned index, struct worker_count *to)
{
    const struct worker *worker;
    uint64_t started;

    if (index >= count)
        return false;
    worker = workers[index];
    started = counter_read(&worker->started);
    *to = (struct worker_count){
        .core = worker->lcore,
        .numa_node = (int)rte_lcore_to_socket_id(worker->lcore),
        .loops = counter_read(&worker->loops),
        .frames = counter_read(&worker->frames),
        .busy_cycles = counter_read(&worker->busy_cycles),
        .empty_cycles = counter_read(&worker->empty_cycles),
        .cycles = started == 0 ? 0 : rte_rdtsc() - started,
        .sleeps = counter_read(&worker->sleeps),
        .sources = atomic_load_explicit((_Atomic uint32_t *)&worker->source_count, memory_order_relaxed),
    };
    stage_read(&worker->stages, to);
    return true;
}

void workers_wake(void)
{
    worker_wake_all();
}

uint64_t dataplane_tsc_hz(void)
{
    return rte_get_tsc_hz();
}
