// SPDX-License-Identifier: BSD-3-Clause
#include "drain.h"

#include "batch.h"
#include "log.h"

#include <stdlib.h>
#include <string.h>

enum { LOOK_NS = 1000000 };

static size_t active, ready;

size_t drains_active(void)
{
    return active;
}

bool drains_ready(void)
{
    return ready > 0;
}

struct drain *drain_create(struct live_wire *live, uint32_t quiet_ms, uint32_t drain_ms)
{
    struct drain *drain = calloc(1, sizeof(*drain));

    if (drain == NULL)
        return NULL;
    drain->live = live;
    drain->quiet_ms = quiet_ms;
    drain->drain_ms = drain_ms;
    TAILQ_INIT(&drain->waiting);
    return drain;
}

void drain_destroy(struct drain *drain)
{
    if (drain == NULL)
        return;
    timer_cancel(&drain->timer);
    live_release(drain->live, drain->first);
    live_release(drain->live, drain->final);
    free(drain);
}

static uint64_t received(const struct drain *drain)
{
    return live_received_from_arms(drain->live, drain->final);
}

static void look(void *arg)
{
    struct drain *drain = arg;
    uint64_t now = clock_now();
    uint64_t frames = received(drain);
    uint64_t quiet = (uint64_t)drain->quiet_ms * 1000000, most = quiet / 4 > LOOK_NS ? quiet / 4 : LOOK_NS;

    // Where this thread stood still workers and appliances did too, maybe: of a pause between two looks no more than a
    // quarter of the silence that is wanted counts, so that they have the rest of it to go on.
    if (now - drain->looked_at > most)
        drain->quiet_since += now - drain->looked_at - most;
    drain->looked_at = now;
    if (frames != drain->frames) {
        drain->frames = frames;
        drain->quiet_since = now;
    }
    if (now >= drain->until || now - drain->quiet_since >= quiet) {
        drain->ready = true;
        ready++;
        return;
    }
    timer_arm(&drain->timer, now + LOOK_NS, look, drain);
}

void drain_begin(struct drain *drain)
{
    uint64_t now = clock_now();

    active++;
    drain->live->drain = drain;
    drain->until = now + (uint64_t)drain->drain_ms * 1000000;
    drain->quiet_since = drain->looked_at = now;
    drain->frames = received(drain);
    timer_arm(&drain->timer, now + LOOK_NS, look, drain);
}

static void stop_waiting(void *arg)
{
    struct command *command = arg;
    struct drain *drain = command->drain;

    TAILQ_REMOVE(&drain->waiting, command, entry);
    command_succeed(command);
}

static struct drain *find_drain(const char *network, const char *name)
{
    const struct live_wire *live = live_find(network, name);

    return live != NULL ? live->drain : NULL;
}

// A drain that the command's answer has to wait for, and how long at most. NULL: none.
static struct drain *awaited(const struct command *command, uint32_t *seconds)
{
    const struct batch *batch = command->batch;
    struct drain *drain = NULL;

    *seconds = command->options.wait_seconds;
    if (batch == NULL)
        return command->kind == OBJECT_WIRE && *seconds > 0 ? find_drain(command->network, command->name) : NULL;
    for (size_t i = 0; i < batch->waits.count && drain == NULL; i++)
        drain = find_drain(batch->waits.items[i].network, batch->waits.items[i].name);
    for (size_t i = 0; i < batch->option_count; i++)
        if (batch->options[i].options.wait_seconds > *seconds)
            *seconds = batch->options[i].options.wait_seconds;
    return drain;
}

bool drain_wait(struct command *command)
{
    uint32_t seconds;
    struct drain *drain = awaited(command, &seconds);

    if (drain == NULL)
        return false;
    command->drain = drain;
    TAILQ_INSERT_TAIL(&drain->waiting, command, entry);
    if (!command->timeout.armed)
        timer_arm(&command->timeout, clock_now() + (uint64_t)seconds * 1000000000, stop_waiting, command);
    return true;
}

void drain_end(struct drain *drain)
{
    struct command *command;

    active--;
    if (drain->ready)
        ready--;
    drain->live->drain = NULL;
    while ((command = TAILQ_FIRST(&drain->waiting)) != NULL) {
        TAILQ_REMOVE(&drain->waiting, command, entry);
        // A transaction may wait for others.
        if (!drain_wait(command))
            command_succeed(command);
    }
    drain_destroy(drain);
}

void drains_stop(void)
{
    struct live_wire *live;

    TAILQ_FOREACH(live, live_wires(), entry)
    if (live->drain != NULL)
        drain_end(live->drain);
}
