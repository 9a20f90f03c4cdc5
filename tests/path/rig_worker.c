// SPDX-License-Identifier: BSD-3-Clause

// The worker in the test's own thread, one loop at a time.

#include "rig.h"
#include "rig_eal.h"

#include "dataplane/copy.h"
#include "dataplane/event.h"
#include "dataplane/publish.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

// The worker's own file, for its loop's parts.
#include "dataplane/worker.c"

uint64_t rig_now;
static struct worker *worker;

// What worker_start.c has for real workers.
void worker_wake_all(void)
{
}

void worker_forget_fd(int fd)
{
    (void)fd;
}

unsigned worker_choose(void)
{
    return 0;
}

void worker_add(unsigned index)
{
    (void)index;
}

void worker_unchoose(unsigned index)
{
    (void)index;
}

static void say_quiescent(void)
{
    rte_rcu_qsbr_quiescent(publish_qsbr, 0);
}

void rig_start(void)
{
    rig_quiesce_with = say_quiescent;
    copy_init();
    rig_tsc_hz = 1000000000;
    rig_now = 1000000;
    assert_int_equal(0, event_start());
    assert_int_equal(0, publish_start(1));
    assert_int_equal(0, posix_memalign((void **)&worker, 64, sizeof(*worker)));
    memset(worker, 0, sizeof(*worker));
    worker->active = calloc(WORKER_SOURCES_MAX, sizeof(*worker->active));
    assert_non_null(worker->active);
    rte_rcu_qsbr_thread_register(publish_qsbr, 0);
    rte_rcu_qsbr_thread_online(publish_qsbr, 0);
}

void rig_stop(void)
{
    rte_rcu_qsbr_thread_offline(publish_qsbr, 0);
    rte_rcu_qsbr_thread_unregister(publish_qsbr, 0);
    publish_stop();
    event_stop();
    free(worker->active);
    free(worker);
    worker = NULL;
}

void rig_publish(const struct table_entry *entries, size_t count)
{
    static uint64_t generation;
    struct wire_table *table = wire_table_build(entries, count, ++generation);
    uint64_t token;

    assert_non_null(table);
    token = publish_begin(table);
    assert_false(publish_done(token)); // the worker hasn't said anything yet
    rig_poll();
    assert_true(publish_done(token));
}

uint64_t rig_poll(void)
{
    const struct wire_table *table = atomic_load(&wire_table_current);
    uint64_t moved;

    worker->now = rig_now;
    worker->table = table;
    if (table->serial != worker->table_serial)
        worker_adopt(worker, table);
    (void)poll_all(worker);
    moved = worker->loop_frames;
    worker->loop_frames = 0;
    say_quiescent();
    return moved;
}

void rig_measure(uint64_t seed)
{
    atomic_store(&worker->loops, 0);
    atomic_store(&worker->frames, 0);
    atomic_store(&worker->busy_cycles, 0);
    atomic_store(&worker->empty_cycles, 0);
    stage_init(&worker->stages, seed);
}

uint64_t rig_loop(void)
{
    uint64_t before = atomic_load(&worker->frames);

    worker->now = rte_rdtsc(); // what the test did meanwhile is no work of the worker
    worker->measuring = stage_loop(&worker->stages, worker->now);
    (void)poll_all(worker);
    account(worker);
    worker->measuring = NULL; // of rig_poll nothing is measured
    say_quiescent();
    return atomic_load(&worker->frames) - before;
}

void rig_worker_read(struct worker_count *count)
{
    *count = (struct worker_count){
        .loops = atomic_load(&worker->loops),
        .frames = atomic_load(&worker->frames),
        .busy_cycles = atomic_load(&worker->busy_cycles),
        .empty_cycles = atomic_load(&worker->empty_cycles),
    };
    stage_read(&worker->stages, count);
}
