// SPDX-License-Identifier: BSD-3-Clause

#include "sigbus.h"

#include "patchbay/limits.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { WATCHES = LIMIT_VHOST * 9 }; // 8 regions and a dirty log a guest

// Written under the lock; read by the handler, which must not take one. sequence
// is odd while the others change, so the handler never acts on a mixture.
static struct watch {
    _Atomic unsigned sequence;
    _Atomic uintptr_t start; // 0: free
    _Atomic uintptr_t end;
    void (*_Atomic hit)(void *argument);
    void *_Atomic argument;
} watches[WATCHES];
static _Atomic unsigned watches_used; // none at or above it was ever in use
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static _Thread_local volatile bool tolerates;
static _Thread_local volatile bool tolerated;

// All in sequential order: nothing here is hot, and a reader may be anywhere.
static void watch_set(struct watch *watch, uintptr_t start, uintptr_t end, void (*hit)(void *), void *argument)
{
    atomic_fetch_add(&watch->sequence, 1);
    atomic_store(&watch->start, start);
    atomic_store(&watch->end, end);
    atomic_store(&watch->hit, hit);
    atomic_store(&watch->argument, argument);
    atomic_fetch_add(&watch->sequence, 1);
}

int sigbus_watch(const void *start, size_t size, void (*hit)(void *argument), void *argument)
{
    int handle = -ENOSPC;

    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < WATCHES; i++) {
        if (atomic_load(&watches[i].start) == 0) {
            watch_set(&watches[i], (uintptr_t)start, (uintptr_t)start + size, hit, argument);
            if (i >= atomic_load(&watches_used))
                atomic_store(&watches_used, i + 1);
            handle = (int)i;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return handle;
}

void sigbus_unwatch(int handle)
{
    pthread_mutex_lock(&lock);
    watch_set(&watches[handle], 0, 0, NULL, NULL);
    pthread_mutex_unlock(&lock);
}

void sigbus_tolerate(void)
{
    tolerates = true;
}

bool sigbus_tolerated(void)
{
    bool happened = tolerated;

    tolerated = false;
    return happened;
}

// Calls the hit function of the watch that covers address. An entry that
// changes right now can't be it: no access to its range may be under way then.
static bool tell_watch(uintptr_t address)
{
    unsigned used = atomic_load(&watches_used);

    for (unsigned i = 0; i < used; i++) {
        struct watch *watch = &watches[i];
        unsigned sequence = atomic_load(&watch->sequence);
        uintptr_t start = atomic_load(&watch->start);
        uintptr_t end = atomic_load(&watch->end);
        void (*hit)(void *) = atomic_load(&watch->hit);
        void *argument = atomic_load(&watch->argument);

        if (sequence % 2 != 0 || atomic_load(&watch->sequence) != sequence)
            continue;
        if (start != 0 && address >= start && address < end) {
            hit(argument);
            return true;
        }
    }
    return false;
}

static uintptr_t page_size = 4096; // set before the handler

// Maps zeros over the hole. A mapping of huge pages can only be cut at their
// size, which the kernel says by EINVAL; after any other error a larger piece
// would hit what lies beside it.
static bool fill_hole(uintptr_t address)
{
    const uintptr_t sizes[] = {page_size, 2 << 20, 1 << 30};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        void *page = (void *)(address & ~(sizes[i] - 1));

        if (mmap(page, sizes[i], PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
                 0) != MAP_FAILED)
            return true;
        if (errno != EINVAL)
            return false;
    }
    return false;
}

static void handle(int number, siginfo_t *info, void *context)
{
    int saved = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    bool ours = false;

    (void)context;
    // Only accesses count: kill(2) has no address.
    if (info->si_code == BUS_ADRERR || info->si_code == BUS_MCEERR_AR) {
        if (tell_watch(address)) {
            ours = true;
        } else if (tolerates) {
            tolerated = true;
            ours = true;
        }
    }
    if (!ours || !fill_hole(address)) {
        struct sigaction action;

        // As if we hadn't been here: with the default action in place the
        // access, when it is tried again, ends the process and leaves a core;
        // what was sent by kill(2) isn't tried again and is raised anew.
        memset(&action, 0, sizeof(action));
        action.sa_handler = SIG_DFL;
        sigaction(number, &action, NULL);
        if (info->si_code <= 0)
            raise(number);
    }
    errno = saved;
}

int sigbus_install(void)
{
    struct sigaction action;

    page_size = (uintptr_t)sysconf(_SC_PAGESIZE);
    memset(&action, 0, sizeof(action));
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, NULL) == 0 ? 0 : -errno;
}
