// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_LOOP_H
#define PATCHBAY_LOOP_H

// The control thread's loop: file descriptors, timers and the wait between
// turns. There is one, and only the control thread may use it.

#include <stdbool.h>
#include <stdint.h>
#include <sys/tree.h>

// A point in time that doesn't come: no timer, no need to wake.
#define LOOP_NEVER UINT64_MAX

// CLOCK_MONOTONIC, nanoseconds: decides. CLOCK_REALTIME: only labels.
uint64_t clock_now(void);
uint64_t clock_wall(void);

int loop_start(void);
void loop_stop(void);

// Calls ready(arg) from loop_wait whenever fd is readable (level-triggered).
// The watcher belongs to the caller and stays valid until loop_unwatch.
struct watcher {
    int fd;
    void (*ready)(void *arg);
    void *arg;
};

int loop_watch(struct watcher *watcher);
void loop_unwatch(struct watcher *watcher);

// Calls fire(arg) once from loop_wait when its time has come. Belongs to the
// caller, who zeroes it before first use and cancels it before it goes.
struct timer {
    RB_ENTRY(timer) entry;
    uint64_t at; // clock_now
    bool armed;
    void (*fire)(void *arg);
    void *arg;
};

// Sets, or moves, the timer.
void timer_arm(struct timer *timer, uint64_t at, void (*fire)(void *arg), void *arg);
void timer_cancel(struct timer *timer);

// Waits for a descriptor or a timer, until at the latest; then runs what is due.
void loop_wait(uint64_t until);

#endif
