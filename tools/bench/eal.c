// SPDX-License-Identifier: BSD-3-Clause
// DPDK's start and end: lcore 0 is the main thread and floats over the affinity mask, lcore 1 is the worker and is
// pinned. Nothing is probed; each port is added later by itself.
#include <dirent.h>
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bsd/string.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_log.h>

#include "ring.h"
#include "traffic.h"

#define PREFIX "patchbay-traffic-"

enum {
    MIB = 1024 * 1024,
    BASE_MIB = 48, // DPDK itself, rings and slack
};

static char runtime_dir[PATH_MAX];

static uint64_t read_number(const char *path)
{
    uint64_t value = 0;
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%" SCNu64, &value) != 1)
        value = 0;
    fclose(file);
    return value;
}

static uint64_t free_huge_mib(void)
{
    const char *root = "/sys/kernel/mm/hugepages";
    uint64_t mib = 0, kib;
    char path[PATH_MAX];
    struct dirent *entry;
    DIR *dir = opendir(root);

    if (dir == NULL)
        return 0;
    while ((entry = readdir(dir)) != NULL) {
        if (sscanf(entry->d_name, "hugepages-%" SCNu64 "kB", &kib) != 1)
            continue;
        snprintf(path, sizeof(path), "%s/%s/free_hugepages", root, entry->d_name);
        mib += read_number(path) * kib / 1024;
    }
    closedir(dir);
    return mib;
}

// An upper bound of what ports_open will take; nothing grows afterwards, because each growth would send the back ends
// a new memory table in the middle of the traffic.
static uint64_t needed_mib(const struct config *config)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < config->port_count; i++) {
        if (port_is_ring(config, i))
            continue;
        uint64_t buffers = 8 * (uint64_t)config->ports[i].queue_size * config->ports[i].queues + 4096;
        if (config->mode == TRAFFIC_RATE)
            buffers += 3 * (uint64_t)config->pool;
        uint64_t size = config->sizes.max > 1536 ? FRAME_MAX + 1024 : 2560;
        bytes += buffers * size;
    }
    return BASE_MIB + bytes / MIB;
}

static int choose_core(struct traffic *t, char *lcores, size_t size)
{
    cpu_set_t set;
    size_t at = 0;
    int last = -1;

    if (sched_getaffinity(0, sizeof(set), &set) != 0)
        return -errno;
    at = (size_t)snprintf(lcores, size, "0@(");
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &set))
            continue;
        at += (size_t)snprintf(lcores + at, size - at, "%s%d", last < 0 ? "" : ",", cpu);
        if (at >= size)
            return -E2BIG;
        last = cpu;
    }
    t->core = t->config->core >= 0 ? t->config->core : last;
    if (t->core >= CPU_SETSIZE || !CPU_ISSET(t->core, &set)) {
        warnx("--core %d: we may not run on this CPU; our affinity mask is %s)", t->core, lcores + 2);
        return -EINVAL;
    }
    t->lcore = 1;
    at += (size_t)snprintf(lcores + at, size - at, "),1@%d", t->core);
    return at < size ? 0 : -E2BIG;
}

// DPDK leaves its run directory behind; with our prefix and a process number it is ours alone.
static void runtime_dir_remove(const char *dir_path)
{
    char path[PATH_MAX + NAME_MAX + 2];
    struct dirent *entry;
    DIR *dir = opendir(dir_path);

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", dir_path, entry->d_name);
        unlink(path);
    }
    closedir(dir);
    rmdir(dir_path);
}

// Removes what killed processes of this program left.
static void runtime_dirs_sweep(void)
{
    char root[PATH_MAX], path[PATH_MAX + NAME_MAX + 2];
    struct dirent *entry;
    char *slash;
    DIR *dir;

    strlcpy(root, runtime_dir, sizeof(root));
    slash = strrchr(root, '/');
    if (slash == NULL)
        return;
    *slash = '\0';
    dir = opendir(root);
    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        long pid;
        int end = 0;

        if (sscanf(entry->d_name, PREFIX "%ld%n", &pid, &end) != 1 || entry->d_name[end] != '\0' || pid <= 0)
            continue;
        if (kill((pid_t)pid, 0) == 0 || errno != ESRCH)
            continue;
        snprintf(path, sizeof(path), "%s/%s", root, entry->d_name);
        runtime_dir_remove(path);
    }
    closedir(dir);
}

int eal_start(struct traffic *t, const char *program)
{
    const struct config *config = t->config;
    char prefix[64], lcores[6000], memory[32];
    uint64_t need = needed_mib(config), rings = ring_memory_size(config) / MIB, have = free_huge_mib();
    bool huge = config->huge == HUGE_ON || (config->huge == HUGE_AUTO && have >= need + rings);
    sigset_t block, old;
    char *argv[16];
    int argc = 0, r;

    if (config->huge == HUGE_AUTO && !huge)
        fprintf(stderr,
                "patchbay-traffic: %" PRIu64 " MiB of free huge pages, %" PRIu64
                " wanted: running without, which is slower\n",
                have, need + rings);
    t->memory = huge ? "huge" : "no-huge";
    r = choose_core(t, lcores, sizeof(lcores));
    if (r < 0)
        return r;
    snprintf(prefix, sizeof(prefix), "--file-prefix=" PREFIX "%ld", (long)getpid());
    snprintf(memory, sizeof(memory), "%" PRIu64, need);
    const char *args[] = {program,
                          prefix,
                          "--lcores",
                          lcores,
                          "-m",
                          memory,
                          "--no-pci",
                          "--no-telemetry",
                          "--main-lcore=0",
                          "--iova-mode=va",
                          "--log-level=*:error",
                          huge ? "--in-memory" : "--no-huge",
                          huge ? "--single-file-segments" : "--no-shconf"};
    for (size_t i = 0; i < sizeof(args) / sizeof(args[0]); i++)
        argv[argc++] = (char *)(uintptr_t)args[i];
    argv[argc] = NULL;

    // DPDK logs to stdout by default, where our JSON goes.
    rte_openlog_stream(stderr);
    // Its threads inherit the mask: the main thread alone handles signals.
    sigfillset(&block);
    pthread_sigmask(SIG_BLOCK, &block, &old);
    r = rte_eal_init(argc, argv);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (r < 0) {
        warnx("DPDK did not start: %s%s", rte_strerror(rte_errno), huge ? "; --huge off runs without huge pages" : "");
        return -rte_errno;
    }
    strlcpy(runtime_dir, rte_eal_get_runtime_dir(), sizeof(runtime_dir));
    runtime_dirs_sweep();
    return 0;
}

void eal_stop(void)
{
    rte_eal_cleanup();
    runtime_dir_remove(runtime_dir);
}
