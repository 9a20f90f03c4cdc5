// SPDX-License-Identifier: BSD-3-Clause
// patchbay-line-ns: how long a cache line takes from one CPU's cache to another's. A virtual machine's CPUs may share a
// cache now and stand in different sockets a minute later; this tells, and takes a few milliseconds.
#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ROUNDS = 51, EXCHANGES = 100, SLOT = 128, EXIT_USAGE = 2, EXIT_SETUP = 3 };

static const char usage[] =
    "usage: patchbay-line-ns CPU CPU\n"
    "Prints how many nanoseconds a cache line takes from one CPU's cache to the other's: the median of 51 rounds\n"
    "of 100 exchanges of one word between two busy threads. About 20 within a core, 30 to 70 within a shared\n"
    "cache, over 100 between caches.\n"
    "Exit: 0 done, 2 usage, 3 a CPU isn't there or can't be used.\n";

// Odd: the peer's turn. Even: ours. Zero and below ends the peer.
static alignas(SLOT) _Atomic int64_t word = 2;

static void *peer(void *arg)
{
    int64_t value;

    (void)arg;
    while ((value = atomic_load_explicit(&word, memory_order_acquire)) > 0) {
        if ((value & 1) != 0)
            atomic_store_explicit(&word, value + 1, memory_order_release);
    }
    return NULL;
}

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static double round_ns(void)
{
    uint64_t begin = now_ns();

    for (unsigned i = 0; i < EXCHANGES; i++) {
        int64_t mine = atomic_load_explicit(&word, memory_order_relaxed);

        atomic_store_explicit(&word, mine + 1, memory_order_release);
        while (atomic_load_explicit(&word, memory_order_acquire) != mine + 2)
            ;
    }
    return (double)(now_ns() - begin) / (2 * EXCHANGES);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static cpu_set_t only(const char *text)
{
    char *end;
    unsigned long cpu = strtoul(text, &end, 10);
    cpu_set_t set;

    if (*text < '0' || *text > '9' || *end != '\0' || cpu >= CPU_SETSIZE) {
        fputs(usage, stderr);
        exit(EXIT_USAGE);
    }
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return set;
}

int main(int argc, char **argv)
{
    double rounds[ROUNDS];
    pthread_attr_t attr;
    cpu_set_t here, there;
    pthread_t thread;
    int r;

    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(usage, stdout);
        return EXIT_SUCCESS;
    }
    if (argc != 3) {
        fputs(usage, stderr);
        return EXIT_USAGE;
    }
    here = only(argv[1]);
    there = only(argv[2]);
    if (CPU_EQUAL(&here, &there)) // each would spin through its time while the other waits
        errx(EXIT_USAGE, "give two different CPUs");
    if (sched_setaffinity(0, sizeof(here), &here) != 0)
        err(EXIT_SETUP, "CPU %s", argv[1]);
    pthread_attr_init(&attr);
    r = pthread_attr_setaffinity_np(&attr, sizeof(there), &there);
    if (r == 0)
        r = pthread_create(&thread, &attr, peer, NULL);
    pthread_attr_destroy(&attr);
    if (r != 0) {
        errno = r;
        err(EXIT_SETUP, "CPU %s", argv[2]);
    }
    for (unsigned i = 0; i < ROUNDS; i++)
        rounds[i] = round_ns();
    atomic_store_explicit(&word, 0, memory_order_release);
    pthread_join(thread, NULL);
    qsort(rounds, ROUNDS, sizeof(rounds[0]), by_value);
    printf("%.1f\n", rounds[ROUNDS / 2]);
    return EXIT_SUCCESS;
}
