// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_DRAIN_H
#define PATCHBAY_DRAIN_H

// Waiting for an appliance to be empty, before the legs that were prepared go
// in: until there is silence or time is up.
//
// A bump leaves: the wire's ends are held, which keeps their frames in their
// rings, while what comes back is forwarded; nothing that is inside is lost.
// A bump enters that was a tap a moment ago: the wire goes on without it,
// nothing is copied to its arms, and what they still send is discarded; no copy
// gets onto the wire.

#include "command.h"
#include "live.h"

struct drain {
    struct live_wire *live;
    struct live_set *first; // to publish at the end: with the return legs of bumps that enter, or the final set
    struct live_set *final; // NULL: first is the final one
    uint32_t quiet_ms, drain_ms;
    bool settles; // no bump leaves: one enters
    bool ready;   // over: apply publishes first
    uint64_t until;
    uint64_t quiet_since; // time that didn't count as silence left out
    uint64_t looked_at;
    uint64_t frames; // received from arms when it was looked last
    struct timer timer;
    struct command_list waiting; // clients with ?wait
};

// Returns NULL without memory. The sets belong to the drain from here on.
struct drain *drain_create(struct live_wire *live, uint32_t quiet_ms, uint32_t drain_ms);
// Takes NULL. Releases the sets; nobody may be waiting.
void drain_destroy(struct drain *drain);

// The table in which the ends are held, or the bump gets nothing, is in use: begins to look for silence.
void drain_begin(struct drain *drain);

// The legs were swapped: tells those who wait, and frees the drain.
void drain_end(struct drain *drain);

// Lets a command wait for the end of a drain that its request wants to see over, for at most its wait_seconds; one of
// many, if it is a transaction: it waits for the next one then. False: there is none.
bool drain_wait(struct command *command);

// Drains in progress, drains that are over and wait for apply.
size_t drains_active(void);
bool drains_ready(void);

// Answers those who wait: the daemon stops.
void drains_stop(void);

#endif
