// SPDX-License-Identifier: BSD-3-Clause

// librte_eal's functions that the workers call, defined here, so that the
// linker takes these: threads instead of lcores, and no rte_eal_init.

#include "rig_eal.h"

#include "dataplane/eal.h"
#include "dataplane/vif.h"

#include <errno.h>
#include <pthread.h>
#include <rte_cycles.h>
#include <rte_launch.h>
#include <time.h>

uint64_t rig_tsc_hz = 1000000000;
unsigned rig_worker_count = 1;
void (*rig_quiesce_with)(void);

static pthread_t threads[LIMIT_WORKERS];
static struct {
    lcore_function_t *function;
    void *argument;
} launches[LIMIT_WORKERS];

uint64_t rte_get_tsc_hz(void)
{
    return rig_tsc_hz;
}

unsigned eal_worker_count(void)
{
    return rig_worker_count;
}

unsigned eal_worker_lcore(unsigned worker)
{
    return worker;
}

bool eal_one_cpu(void)
{
    return false;
}

static void *launch(void *argument)
{
    unsigned lcore = (unsigned)(uintptr_t)argument;

    launches[lcore].function(launches[lcore].argument);
    return NULL;
}

int rte_eal_remote_launch(lcore_function_t *function, void *argument, unsigned lcore)
{
    launches[lcore].function = function;
    launches[lcore].argument = argument;
    return -pthread_create(&threads[lcore], NULL, launch, (void *)(uintptr_t)lcore);
}

int rte_eal_wait_lcore(unsigned lcore)
{
    return -pthread_join(threads[lcore], NULL);
}

static uint64_t clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void rig_tsc_measure(void)
{
    uint64_t ns = clock_ns(), tsc = rte_rdtsc();

    while (clock_ns() - ns < 20000000)
        ;
    rig_tsc_hz = (rte_rdtsc() - tsc) * 1000 / ((clock_ns() - ns) / 1000000);
}

void rig_quiesce(void)
{
    if (rig_quiesce_with != NULL)
        rig_quiesce_with();
    else
        publish_quiesce();
}
