// SPDX-License-Identifier: BSD-3-Clause
#include "loop.h"

#include "log.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS_A_TURN = 16 };

static int epoll_fd = -1;

RB_HEAD(timer_tree, timer);
static struct timer_tree timers = RB_INITIALIZER(&timers);

// Equal times are told apart by address, since a tree takes each key once.
static int compare_timers(const struct timer *a, const struct timer *b)
{
    if (a->at != b->at)
        return a->at < b->at ? -1 : 1;
    return a == b ? 0 : (uintptr_t)a < (uintptr_t)b ? -1 : 1;
}

RB_GENERATE_INTERNAL(timer_tree, timer, entry, compare_timers, static __attribute__((unused)))

static uint64_t read_clock(clockid_t id)
{
    struct timespec now;

    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

uint64_t clock_now(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t clock_wall(void)
{
    return read_clock(CLOCK_REALTIME);
}

int loop_start(void)
{
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    return epoll_fd < 0 ? -errno : 0;
}

void loop_stop(void)
{
    if (epoll_fd >= 0)
        close(epoll_fd);
    epoll_fd = -1;
}

int loop_watch(struct watcher *watcher)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = watcher};

    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, watcher->fd, &event) != 0 ? -errno : 0;
}

void loop_unwatch(struct watcher *watcher)
{
    epoll_ctl(epoll_fd, EPOLL_CTL_DEL, watcher->fd, NULL);
}

void timer_arm(struct timer *timer, uint64_t at, void (*fire)(void *arg), void *arg)
{
    timer_cancel(timer);
    timer->at = at;
    timer->fire = fire;
    timer->arg = arg;
    timer->armed = true;
    RB_INSERT(timer_tree, &timers, timer);
}

void timer_cancel(struct timer *timer)
{
    if (!timer->armed)
        return;
    RB_REMOVE(timer_tree, &timers, timer);
    timer->armed = false;
}

// Only what was due when the turn began: a timer that arms itself anew for now
// can't keep the loop from its descriptors.
static void run_timers(void)
{
    uint64_t now = clock_now();
    struct timer *timer;

    while ((timer = RB_MIN(timer_tree, &timers)) != NULL && timer->at <= now) {
        timer_cancel(timer);
        timer->fire(timer->arg);
    }
}

void loop_wait(uint64_t until)
{
    struct epoll_event events[EVENTS_A_TURN];
    const struct timer *next = RB_MIN(timer_tree, &timers);
    struct timespec wait = {0};
    uint64_t now = clock_now();
    int count;

    if (next != NULL && next->at < until)
        until = next->at;
    if (until > now && until != LOOP_NEVER) {
        wait.tv_sec = (time_t)((until - now) / 1000000000);
        wait.tv_nsec = (long)((until - now) % 1000000000);
    }
    // Nanoseconds, since the wait for the workers is far below a millisecond.
    count = epoll_pwait2(epoll_fd, events, EVENTS_A_TURN, until == LOOP_NEVER ? NULL : &wait, NULL);
    if (count < 0 && errno != EINTR)
        log_message(LOG_LEVEL_ERROR, "loop", "epoll_pwait2: %s", strerror(errno));
    for (int i = 0; i < count; i++) {
        struct watcher *watcher = events[i].data.ptr;

        watcher->ready(watcher->arg);
    }
    run_timers();
}
