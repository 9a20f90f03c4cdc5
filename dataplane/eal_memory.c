// SPDX-License-Identifier: BSD-3-Clause

// Memory: huge pages and packet buffers.

#include "eal_memory.h"
#include "eal.h"

#include <errno.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_mbuf.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

static const struct {
    unsigned kb;
    unsigned mb;
} page_sizes[] = {{2048, 2}, {1048576, 1024}};

// A file of sysfs with one number; 0 if it isn't there.
static unsigned long read_number(const char *path)
{
    unsigned long number = 0;
    FILE *file = fopen(path, "re");

    if (file == NULL)
        return 0;
    if (fscanf(file, "%lu", &number) != 1)
        number = 0;
    fclose(file);
    return number;
}

// A node that has memory but no CPU is nobody's near one.
static bool node_has_cpus(const char *root, unsigned node)
{
    char path[256];
    char first = '\n';
    FILE *file;

    snprintf(path, sizeof(path), "%s/devices/system/node/node%u/cpulist", root, node);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    if (fread(&first, 1, 1, file) != 1)
        first = '\n';
    fclose(file);
    return first != '\n';
}

void eal_memory_read(const char *root, struct eal_node nodes[EAL_NODES])
{
    char path[256];
    bool any = false;

    memset(nodes, 0, sizeof(nodes[0]) * EAL_NODES);
    for (unsigned node = 0; node < EAL_NODES; node++) {
        nodes[node].present = node_has_cpus(root, node);
        any = any || nodes[node].present;
    }
    if (!any)
        nodes[0].present = true; // a kernel without NUMA

    for (size_t i = 0; i < sizeof(page_sizes) / sizeof(page_sizes[0]); i++) {
        unsigned long reserved;

        // Reserved pages (a VM's memory that it hasn't touched yet) count as
        // free but can't be had; the kernel doesn't say of which node they are.
        snprintf(path, sizeof(path), "%s/kernel/mm/hugepages/hugepages-%ukB/resv_hugepages", root, page_sizes[i].kb);
        reserved = read_number(path);
        for (unsigned node = 0; node < EAL_NODES; node++) {
            unsigned long pages;

            if (!nodes[node].present)
                continue;
            if (any)
                snprintf(path, sizeof(path), "%s/devices/system/node/node%u/hugepages/hugepages-%ukB/free_hugepages",
                         root, node, page_sizes[i].kb);
            else
                snprintf(path, sizeof(path), "%s/kernel/mm/hugepages/hugepages-%ukB/free_hugepages", root,
                         page_sizes[i].kb);
            pages = read_number(path);
            if (pages > reserved)
                nodes[node].free_mb += (unsigned)(pages - reserved) * page_sizes[i].mb;
        }
    }
}

int eal_memory_choose(int wanted_mb, const struct eal_node nodes[EAL_NODES], struct eal_memory *memory, char *reason,
                      size_t reason_size)
{
    memset(memory, 0, sizeof(*memory));
    reason[0] = '\0';
    if (wanted_mb == HUGEPAGES_OFF)
        return 0;
    for (unsigned node = 0; node < EAL_NODES; node++) {
        unsigned mb = wanted_mb == HUGEPAGES_AUTO ? (unsigned)EAL_AUTO_MB : (unsigned)wanted_mb;

        if (!nodes[node].present)
            continue;
        if (nodes[node].free_mb >= mb) {
            memory->huge = true;
            memory->mb[node] = mb;
        } else if (wanted_mb != HUGEPAGES_AUTO) {
            snprintf(reason, reason_size,
                     "--hugepages %d: NUMA node %u has %u MB of free huge pages and %u MB are wanted; reserve more "
                     "(sysctl vm.nr_hugepages=%u for 2 MB pages), ask for less, or start with --hugepages off",
                     wanted_mb, node, nodes[node].free_mb, mb, (mb + 1) / 2);
            return -ENOMEM;
        }
    }
    if (!memory->huge)
        snprintf(reason, reason_size,
                 "no NUMA node has %d MB of free huge pages: going on without (--hugepages off says so for good; "
                 "physical NICs and virtio-user peers are faster with them)",
                 EAL_AUTO_MB);
    return 0;
}

bool eal_memory_try(void)
{
    // Any size will do: what we ask is whether we may.
    static const int sizes[] = {21 << MAP_HUGE_SHIFT, 30 << MAP_HUGE_SHIFT};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t size = (size_t)page_sizes[i].mb << 20;
        void *page =
            mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | sizes[i], -1, 0);
        int error;

        if (page == MAP_FAILED)
            continue;
        // Fails where a store would raise SIGBUS. A kernel before 5.14 doesn't know it and can't be asked.
        error = madvise(page, size, MADV_POPULATE_WRITE) == 0 || errno == EINVAL ? 0 : errno;
        munmap(page, size);
        if (error == 0)
            return true;
    }
    return false;
}

// ---- packet buffers ----

enum {
    POOL_BUFFERS = 16383,      // 2^n − 1 suits the ring behind it; 39 MB
    POOL_BUFFERS_SMALL = 8191, // without huge pages: DPDK then lays one on each page; 33 MB
    POOL_BUFFERS_MIN = 2047,
    POOL_CACHE = 256,
    POOLS = 16,
};

static struct rte_mempool *pools[POOLS]; // device thread only
static int pool_sockets[POOLS];

// A pool serves as many devices as its receive rings leave 60 % of it: what
// the devices' transmit rings and the workers' caches may hold fits beside.
static bool pool_has_room(struct rte_mempool *pool)
{
    return rte_mempool_avail_count(pool) * 10 >= pool->size * 6;
}

static struct rte_mempool *pool_create(unsigned number, int socket)
{
    char name[RTE_MEMPOOL_NAMESIZE];
    struct rte_mempool *pool = NULL;

    snprintf(name, sizeof(name), "patchbay-%u", number);
    for (unsigned count = rte_eal_has_hugepages() ? POOL_BUFFERS : POOL_BUFFERS_SMALL;
         pool == NULL && count >= POOL_BUFFERS_MIN; count = (count + 1) / 2 - 1)
        pool = rte_pktmbuf_pool_create(name, count, POOL_CACHE, 0, RTE_MBUF_DEFAULT_BUF_SIZE, socket);
    return pool;
}

struct rte_mempool *eal_mempool(int socket)
{
    struct rte_mempool *last = NULL;
    unsigned i;

    for (i = 0; i < POOLS && pools[i] != NULL; i++) {
        if (socket != SOCKET_ID_ANY && pool_sockets[i] != socket)
            continue;
        last = pools[i];
        if (pool_has_room(last))
            return last;
    }
    if (i < POOLS) {
        pools[i] = pool_create(i, socket);
        if (pools[i] == NULL && socket != SOCKET_ID_ANY)
            pools[i] = pool_create(i, SOCKET_ID_ANY);
        pool_sockets[i] = socket;
        if (pools[i] != NULL)
            return pools[i];
    }
    // Rather a crowded pool than none.
    if (last == NULL)
        rte_errno = ENOMEM;
    return last;
}
