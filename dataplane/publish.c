// SPDX-License-Identifier: BSD-3-Clause

// Publishing a table and waiting for its readers: unlink → wait → free.
//
// rte_rcu_qsbr does the waiting. Each worker reports a quiescent state between
// two loops, and is offline while it sleeps. A swapped-out table is unlinked at
// once and freed when all have reported since.

#include "publish.h"
#include "worker.h"

#include <errno.h>
#include <pthread.h>
#include <rte_malloc.h>
#include <rte_rcu_qsbr.h>
#include <stdlib.h>
#include <time.h>

_Atomic(struct wire_table *) wire_table_current;
struct rte_rcu_qsbr *publish_qsbr;

// Tables that wait for their readers, oldest first. Control thread only.
static struct wire_table *retired_first;
static struct wire_table **retired_last = &retired_first;

// One checker at a time. rte_rcu_qsbr_check remembers what the last one saw,
// and believes it without a barrier: who returns by that alone isn't ordered
// after the workers' last accesses. Never held for longer than one look.
static pthread_mutex_t check_lock = PTHREAD_MUTEX_INITIALIZER;

static bool check(uint64_t token)
{
    bool done;

    pthread_mutex_lock(&check_lock);
    done = rte_rcu_qsbr_check(publish_qsbr, token, false) == 1;
    pthread_mutex_unlock(&check_lock);
    return done;
}

int publish_start(unsigned workers)
{
    void *memory = NULL;

    if (posix_memalign(&memory, RTE_CACHE_LINE_SIZE, rte_rcu_qsbr_get_memsize(workers)) != 0)
        return -ENOMEM;
    publish_qsbr = memory;
    if (rte_rcu_qsbr_init(publish_qsbr, workers) != 0)
        return -EINVAL;
    atomic_store(&wire_table_current, wire_table_build(NULL, 0, 0));
    return atomic_load(&wire_table_current) == NULL ? -ENOMEM : 0;
}

void publish_stop(void)
{
    while (retired_first != NULL) {
        struct wire_table *table = retired_first;

        retired_first = table->next_retired;
        wire_table_free(table);
    }
    retired_last = &retired_first;
    wire_table_free(atomic_exchange(&wire_table_current, NULL));
    free(publish_qsbr);
    publish_qsbr = NULL;
}

uint64_t publish_begin(struct wire_table *table)
{
    // Release: a worker that sees the new pointer sees the whole table.
    struct wire_table *old = atomic_exchange_explicit(&wire_table_current, table, memory_order_acq_rel);
    uint64_t token = rte_rcu_qsbr_start(publish_qsbr);

    old->retired_token = token;
    old->next_retired = NULL;
    *retired_last = old;
    retired_last = &old->next_retired;
    worker_wake_all();
    return token;
}

bool publish_done(uint64_t token)
{
    if (!check(token))
        return false;
    while (retired_first != NULL && retired_first->retired_token <= token) {
        struct wire_table *table = retired_first;

        retired_first = table->next_retired;
        if (retired_first == NULL)
            retired_last = &retired_first;
        wire_table_free(table);
    }
    return true;
}

void publish_quiesce(void)
{
    const struct timespec pause = {.tv_nsec = 20000};
    uint64_t token;

    if (publish_qsbr == NULL)
        return;
    token = rte_rcu_qsbr_start(publish_qsbr);
    // Workers that share their CPU with this thread need it to go on.
    while (!check(token))
        nanosleep(&pause, NULL);
}
