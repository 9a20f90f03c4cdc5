// SPDX-License-Identifier: BSD-3-Clause

// A write to an eventfd has no flag of its own against blocking: it goes by
// O_NONBLOCK of the open file description (pwritev2 with RWF_NOWAIT isn't
// supported on them), and every check before it races with whoever shares that.
// What the kernel does when a request of asynchronous I/O completes has no such
// wait (io_submit(2), IOCB_FLAG_RESFD). So each thread has a context, and a
// call is an empty read of /dev/null, which is complete at once, with the
// guest's eventfd as the one to signal.

#include "guest_call.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <rte_branch_prediction.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// Completions are of no interest but fill the context's ring, so they are
// taken out now and then.
enum { CONTEXT_EVENTS = 64, EVENTS_PER_REAP = 32 };

static _Thread_local aio_context_t context; // 0: none yet
static _Thread_local bool unavailable;
static _Thread_local unsigned unreaped;
static _Atomic int null_fd = -1; // /dev/null; every thread's, never closed

static int null_open(void)
{
    int fd = atomic_load_explicit(&null_fd, memory_order_acquire);
    int expected = -1;

    if (fd >= 0)
        return fd;
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && !atomic_compare_exchange_strong(&null_fd, &expected, fd)) {
        close(fd);
        fd = expected;
    }
    return fd;
}

// Once a thread.
__attribute__((noinline)) static bool context_open(void)
{
    if (!unavailable && (null_open() < 0 || syscall(SYS_io_setup, CONTEXT_EVENTS, &context) != 0)) {
        context = 0;
        unavailable = true;
    }
    return !unavailable;
}

static void reap(void)
{
    struct io_event events[EVENTS_PER_REAP];
    struct timespec at_once = {0};

    while (syscall(SYS_io_getevents, context, 0, EVENTS_PER_REAP, events, &at_once) == EVENTS_PER_REAP)
        continue;
    unreaped = 0;
}

void guest_call(int fd)
{
    struct iocb request = {
        .aio_lio_opcode = IOCB_CMD_PREAD,
        .aio_fildes = (uint32_t)atomic_load_explicit(&null_fd, memory_order_relaxed),
        .aio_flags = IOCB_FLAG_RESFD,
        .aio_resfd = (uint32_t)fd,
    };
    struct iocb *requests[] = {&request};

    if (unlikely(context == 0)) {
        if (!context_open()) {
            // Where a sandbox has no asynchronous I/O. The descriptor was made
            // non-blocking when it came.
            (void)eventfd_write(fd, 1);
            return;
        }
        request.aio_fildes = (uint32_t)atomic_load_explicit(&null_fd, memory_order_relaxed);
    }
    if (unlikely(++unreaped >= EVENTS_PER_REAP))
        reap();
    // EAGAIN: no memory just now, or the ring is full, which it can't be. A
    // guest that isn't called may sleep for ever, so a plain write is better.
    if (unlikely(syscall(SYS_io_submit, context, 1, requests) != 1) && errno != EINVAL)
        (void)eventfd_write(fd, 1);
}

void guest_call_close(void)
{
    if (context != 0)
        syscall(SYS_io_destroy, context);
    context = 0;
    unavailable = false;
    unreaped = 0;
}

bool guest_call_never_blocks(void)
{
    bool had = context != 0;
    bool can = had || context_open();

    if (!had)
        guest_call_close();
    return can;
}
