// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_DRAIN_H
#define PATCHBAY_DRAIN_H

// Taking a bump out without losing what is inside the appliance: the wire's
// ends are held, which keeps their frames in their rings, while what comes
// back is forwarded, until there is silence or time is up. Then the legs that
// were prepared go in.

#include "command.h"
#include "live.h"

struct drain {
    struct live_wire *live;
    struct live_set *first; // to publish at the end: with the return legs of bumps that enter, or the final set
    struct live_set *final; // NULL: first is the final one
    uint32_t quiet_ms, drain_ms;
    bool ready; // over: apply publishes first
    uint64_t until;
    uint64_t quiet_since;
    uint64_t frames; // received from arms when it was looked last
    struct timer timer;
    struct command_list waiting; // clients with ?wait
};

// Returns NULL without memory. The sets belong to the drain from here on.
struct drain *drain_create(struct live_wire *live, uint32_t quiet_ms, uint32_t drain_ms);
// Takes NULL. Releases the sets; nobody may be waiting.
void drain_destroy(struct drain *drain);

// The ends are held: begins to look for silence.
void drain_begin(struct drain *drain);

// The legs were swapped: tells those who wait, and frees the drain.
void drain_end(struct drain *drain);

// Lets a command wait for the end, for at most its wait_seconds.
void drain_wait(struct drain *drain, struct command *command);

// Drains in progress, drains that are over and wait for apply.
size_t drains_active(void);
bool drains_ready(void);

// Answers those who wait: the daemon stops.
void drains_stop(void);

// Arms of bumps that were taken out are listened to for so long, to count what is late.
enum { LATE_WATCH_MS = 1000 };

#endif
