// SPDX-License-Identifier: BSD-3-Clause
#include "event_tap.h"

#include "control.h"
#include "event_log.h"
#include "live.h"
#include "loop.h"

#include <string.h>

// A round a second; it ends sooner with few wires, later with very many.
#define ROUND_NS ((uint64_t)1000000000)
#define SLICE_NS ((uint64_t)20000000)

enum { WIRES_A_SLICE = 256, QUIET_ROUNDS = 5 };

static struct timer timer;
static uint64_t round_began;
static size_t next_wire;    // of the round
static uint64_t frames;     // of all workers, when the round began
static unsigned overloaded; // taps, so far in this round or in all of the last

// What a monitor loses because it, or what leads to it, is too slow. What it
// doesn't get because it is down, or isn't meant to get, is no overload.
static uint64_t count_lost(const struct tap_count *tap)
{
    return tap->dropped[TAP_DROP_RING_FULL] + tap->dropped[TAP_DROP_CONTENDED] + tap->dropped[TAP_DROP_NO_MBUF];
}

static void tell(const struct wire *wire, const struct tee *tee, const char *phase, uint64_t lost)
{
    event_log_add("tap_overloaded",
                  "\"phase\":\"%s\",\"network\":\"%s\",\"wire\":\"%s\",\"tee\":\"%s\",\"uid\":\"%s\",\"lost\":%llu",
                  phase, wire->object.network, wire->object.name, tee->object.name, tee->object.uid,
                  (unsigned long long)lost);
}

static void look_at_tap(const struct wire *wire, const struct tee *tee, struct tee_total *total)
{
    uint64_t lost = count_lost(&total->shown.tap);
    struct tap_watch *watch = &total->watch;

    if (lost != watch->lost && !watch->overloaded) {
        watch->overloaded = true;
        watch->lost_before = watch->lost;
        tell(wire, tee, "begin", lost - watch->lost);
    }
    watch->quiet = lost != watch->lost ? 0 : watch->quiet + 1;
    watch->lost = lost;
    if (watch->overloaded && watch->quiet >= QUIET_ROUNDS) {
        watch->overloaded = false;
        tell(wire, tee, "end", lost - watch->lost_before);
    }
    overloaded += watch->overloaded;
}

static void look_at_wire(struct live_wire *live)
{
    const struct wire *wire;

    if (TAILQ_EMPTY(&live->totals.tees))
        return;
    wire = model_find_wire(control.model, live->network, live->name);
    if (wire == NULL || strcmp(wire->object.uid, live->uid) != 0)
        return;
    live_read(live);
    for (size_t i = 0; i < wire->tee_count; i++) {
        const struct tee *tee = &wire->tees[i];
        struct tee_total *total = tee->mode == TEE_TAP ? totals_find_tee(&live->totals, tee->object.uid) : NULL;

        if (total != NULL)
            look_at_tap(wire, tee, total);
    }
}

static uint64_t count_frames(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < worker_count(); i++) {
        struct worker_count count;

        if (worker_read(i, &count))
            sum += count.frames;
    }
    return sum;
}

static void run(void *arg);

static void begin_round(void *arg)
{
    uint64_t now = count_frames();

    next_wire = 0;
    round_began = clock_now();
    // What has come since the last round began, the wires may have been looked at before.
    if (now == frames && overloaded == 0) {
        timer_arm(&timer, round_began + ROUND_NS, begin_round, NULL);
        return;
    }
    frames = now;
    overloaded = 0;
    run(arg);
}

static void run(void *arg)
{
    struct live_wire *const *wires;
    size_t count;

    (void)arg;
    // Wires that come and go between two slices are looked at twice, or a round later.
    wires = live_vector(&count);
    for (unsigned i = 0; i < WIRES_A_SLICE && next_wire < count; i++)
        look_at_wire(wires[next_wire++]);
    if (next_wire < count)
        timer_arm(&timer, clock_now() + SLICE_NS, run, NULL);
    else
        timer_arm(&timer, round_began + ROUND_NS, begin_round, NULL);
}

void event_tap_start(void)
{
    begin_round(NULL);
}

void event_tap_stop(void)
{
    timer_cancel(&timer);
}
