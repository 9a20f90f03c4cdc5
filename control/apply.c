// SPDX-License-Identifier: BSD-3-Clause
#include "apply.h"

#include "adjust.h"
#include "balance.h"
#include "batch.h"
#include "control.h"
#include "event_config.h"
#include "events.h"
#include "export.h"
#include "handover.h"
#include "leaving.h"
#include "live_table.h"
#include "log.h"
#include "plan.h"
#include "queue.h"
#include "refresh.h"
#include "stale.h"
#include "status.h"
#include "times.h"
#include "trail.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNSTORED_NS (10 * (uint64_t)1000000000)

enum { POLL_FIRST_NS = 20000, POLL_LAST_NS = 1000000, RETRY_NS = 100000000, SLOW_COMMIT_NS = 1000000000 };

static struct timer retry;
static bool retrying;
static bool first_table = true;
static bool vifs_changed; // since the last table
static bool queues_grown; // vifs are listed with more queues than the last table has
static bool running;      // apply_start was called

// The transaction.
static enum { IDLE, FIRST, SECOND } phase;
static struct command_list group = TAILQ_HEAD_INITIALIZER(group);
static struct model_change change;
static struct wish_list wishes;
static struct wire_list affected;
static struct plan_list plans;
static struct wire_table *tables[2];
static uint64_t token, began, published_at, poll_at, poll_step;

void apply_submit(struct command *command)
{
    queue_add(command);
}

bool apply_is_idle(void)
{
    return phase == IDLE;
}

// What Patchbay itself wants, whether or not a client asks for something.
static bool has_own_work(void)
{
    return !retrying && (first_table || queues_grown || stale_pending() || devices_restored() || drains_ready() ||
                         plan_late_pending() || balance_pending());
}

uint64_t apply_deadline(void)
{
    if (!running)
        return LOOP_NEVER;
    if (phase != IDLE)
        return poll_at;
    return queue_stirred() || has_own_work() ? 0 : LOOP_NEVER;
}

// ---- preparing: may fail ----

// From here on tables poll the new vifs and not the deleted ones; the other way round to undo it.
static void list_devices(bool forward)
{
    const struct command *command;

    TAILQ_FOREACH(command, &group, entry)
    {
        struct device *gone = command->removed != VIF_SLOT_NONE ? device_find(command->removed) : NULL;

        if (command->device != NULL) {
            device_list(command->device, forward);
            vifs_changed = true;
        }
        if (gone != NULL) {
            device_list(gone, !forward);
            plan_late_vif(gone->slot);
            vifs_changed = true;
        }
        if (command->batch != NULL && batch_list_devices(command->batch, forward))
            vifs_changed = true;
    }
}

static int make_plans(void)
{
    struct live_wire *live;
    int error = 0;

    for (size_t i = 0; i < affected.count && error == 0; i++)
        error = plan_wire(&plans, &affected.items[i], wishes_find(&wishes, &affected.items[i]), first_table);
    if (drains_ready())
        TAILQ_FOREACH(live, live_wires(), entry)
    if (error == 0 && live->drain != NULL && live->drain->ready)
        error = plan_drained(&plans, live);
    if (error == 0)
        error = plan_yield(&plans);
    return error == 0 ? plan_late_over(&plans) : error;
}

static int make_tables(void)
{
    int moving = balance_lift(&change);
    bool two = plan_needs_two(&plans) || moving > 0;

    if (moving < 0)
        return moving;
    // A change of labels alone needs no table.
    if (plans.count == 0 && !vifs_changed && !queues_grown && !first_table && moving == 0)
        return 0;
    queues_grown = false;
    plan_select(&plans, false);
    tables[0] = live_table_build(change.generation);
    balance_place();
    if (two && tables[0] != NULL) {
        plan_select(&plans, true);
        tables[1] = live_table_build(change.generation);
    }
    if (tables[0] != NULL && (!two || tables[1] != NULL))
        return 0;
    if (errno != ENOMEM)
        log_message(LOG_LEVEL_ERROR, "apply", "the dataplane refused a wire table: %s", strerror(errno));
    return errno == ENOMEM ? -ENOMEM : -EIO;
}

static int prepare(struct error *error)
{
    uint64_t since = times_cpu();
    int result = refresh_collect(&change);

    times_begin();
    if (devices_list_restored() > 0)
        vifs_changed = true;
    list_devices(true);
    if (result == 0)
        result = stale_collect(&change, &affected);
    if (result == 0)
        result = make_plans();
    times_take(&times_last.compile_ns, &since);
    if (result == 0)
        result = make_tables();
    times_take(&times_last.build_ns, &since);
    if (result == -ENOMEM)
        error_set(error, PATCHBAY_ERROR_INTERNAL, NULL,
                  "Memory is out; nothing was changed. Give DPDK more memory (--hugepages, or -- -m MB).");
    else if (result != 0)
        error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "The dataplane refused the change; nothing was changed.");
    return result;
}

// A disk that is full, and clients that try again and again, would fill the log: it is told when it begins, each ten
// seconds, and when it is over.
static void log_storage(const char *reason)
{
    static uint64_t told_at;
    static unsigned failures; // since it was well
    uint64_t now = clock_now();

    if (reason == NULL) {
        if (failures > 0)
            log_message(LOG_LEVEL_NOTICE, "apply", "the state is written again, after %u attempts that failed",
                        failures);
        failures = 0;
        return;
    }
    if (failures++ > 0 && now - told_at < UNSTORED_NS)
        return;
    told_at = now;
    if (failures == 1)
        log_message(LOG_LEVEL_ERROR, "apply", "the state could not be written: %s", reason);
    else
        log_message(LOG_LEVEL_ERROR, "apply", "the state could not be written, %u times by now: %s", failures, reason);
}

static int commit(struct error *error)
{
    uint64_t start = clock_now();
    struct audit_entry *entries;
    char reason[512];
    int result, count;

    if (model_change_is_empty(&change))
        return 0;
    count = trail_collect(&group, &change, &entries);
    if (count < 0)
        return error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out; nothing was changed.");
    result = store_commit(control.store, &change, entries, (size_t)count, reason, sizeof(reason));
    times_last.store_ns = clock_now() - start;
    if (clock_now() - start > SLOW_COMMIT_NS)
        log_message(LOG_LEVEL_WARNING, "apply", "the disk took %llu ms to store a change; everybody waited for it",
                    (unsigned long long)((clock_now() - start) / 1000000));
    log_storage(result != 0 ? reason : NULL);
    if (result != 0)
        error_set(error, PATCHBAY_ERROR_STORAGE_FULL, NULL, "The state could not be stored: %s", reason);
    return result;
}

// ---- undoing ----

static void set_stirred(void *arg)
{
    (void)arg;
    retrying = false;
    queue_stir();
}

static void clear_lists(void)
{
    wire_list_clear(&affected);
    refresh_clear();
    wishes_clear(&wishes);
}

static void undo(const struct error *error)
{
    struct command *command;

    wire_table_free(tables[0]);
    wire_table_free(tables[1]);
    tables[0] = tables[1] = NULL;
    plan_abandon(&plans);
    balance_undo(&change);
    adjust_back(&change, 0);
    list_devices(false);
    model_rollback(&change);
    while ((command = TAILQ_FIRST(&group)) != NULL) {
        TAILQ_REMOVE(&group, command, entry);
        if (command->device != NULL)
            device_remove(command->device);
        if (command->batch != NULL)
            batch_drop_devices(command->batch);
        command_fail(command, error);
    }
    queues_grown = true; // perhaps; one table too many does no harm
    // What Patchbay itself wanted (a drain's end, a device that came) is wanted still.
    stale_return(&affected);
    clear_lists();
    retrying = true;
    timer_arm(&retry, clock_now() + RETRY_NS, set_stirred, NULL);
}

// ---- publishing: can't fail ----

static void publish(bool second)
{
    uint64_t since = times_cpu();

    token = publish_begin(tables[second]);
    times_take(&times_last.publish_ns, &since);
    times_last.published++;
    published_at = clock_now();
    tables[second] = NULL;
    phase = second ? SECOND : FIRST;
    vifs_changed = false;
    plan_published(&plans, second);
    poll_step = POLL_FIRST_NS;
    poll_at = clock_now() + poll_step;
}

static void forget_statuses(void)
{
    for (size_t i = 0; i < change.record_count; i++)
        if (change.records[i].old != NULL)
            status_forget(change.records[i].old, change.records[i].new);
}

// Deleted vifs lose their device: no table and no leg names it any more.
static void remove_devices(void)
{
    struct command *command;

    TAILQ_FOREACH(command, &group, entry)
    {
        struct device *device = command->removed != VIF_SLOT_NONE ? device_find(command->removed) : NULL;

        if (command->batch != NULL)
            batch_remove_devices(command->batch);
        if (device != NULL)
            device_remove(device);
        else
            command->removed = VIF_SLOT_NONE;
    }
}

static void answer_group(void)
{
    struct command *command;

    while ((command = TAILQ_FIRST(&group)) != NULL) {
        TAILQ_REMOVE(&group, command, entry);
        if (command->removed != VIF_SLOT_NONE || (command->batch != NULL && !batch_all_gone(command->batch)))
            leaving_add(command);
        else if (!drain_wait(command))
            command_succeed(command);
    }
}

static void finish(void)
{
    phase = IDLE;
    first_table = false;
    plan_finish(&plans);
    balance_done();
    stale_resume();
    remove_devices();
    refresh_all(&affected);
    times_last.wires = affected.count;
    log_message(LOG_LEVEL_DEBUG, "apply", "generation %llu: %zu wires looked at, %llu us",
                (unsigned long long)model_generation(control.model), affected.count,
                (unsigned long long)((clock_now() - began) / 1000));
    clear_lists();
    answer_group();
    export_changed();
    queue_stir();
}

// ---- the course of a transaction ----

static void begin(void)
{
    struct command *command;
    struct error error;

    began = clock_now();
    model_begin(control.model, &change);
    queue_collect(&change, &group, &wishes);
    if (TAILQ_EMPTY(&group) && !has_own_work()) {
        model_rollback(&change);
        return;
    }
    if (prepare(&error) != 0 || commit(&error) != 0) {
        undo(&error);
        return;
    }
    TAILQ_FOREACH(command, &group, entry)
    {
        command->device = NULL; // the model's from here on
        if (command->batch != NULL)
            batch_keep_devices(command->batch);
    }
    event_config_tell(&change, &group);
    handover_commit(&change);
    forget_statuses();
    if (tables[0] != NULL)
        publish(false);
    model_commit(&change);
    if (phase == IDLE && (!TAILQ_EMPTY(&group) || affected.count > 0))
        finish();
    else if (phase == IDLE)
        clear_lists();
}

static void poll_publish(void)
{
    if (clock_now() < poll_at)
        return;
    if (!publish_done(token)) {
        poll_step = poll_step * 2 < POLL_LAST_NS ? poll_step * 2 : POLL_LAST_NS;
        poll_at = clock_now() + poll_step;
        return;
    }
    times_last.wait_ns += clock_now() - published_at;
    plan_settled(&plans);
    if (tables[1] == NULL) {
        finish();
        return;
    }
    balance_left();
    publish(true);
}

void apply_run(void)
{
    if (phase != IDLE)
        poll_publish();
    // finish stirs the queue: what arrived meanwhile is the next group.
    while (running && phase == IDLE && (queue_stirred() || has_own_work()))
        begin();
}

void apply_start(void)
{
    stale_start();
    running = true;
    balance_start();
}

void apply_device_came(struct device *device)
{
    if (running)
        stale_device_came(device);
}

void apply_queues_grown(vif_slot slot)
{
    vif_list(slot, true);
    balance_grown(slot);
    queues_grown = true;
}

void apply_device_gone(void)
{
    leaving_look();
    queue_stir();
}

// ---- the end ----

static bool wait_for_workers(uint64_t deadline)
{
    while (!publish_done(token)) {
        if (clock_now() >= deadline)
            return false;
        usleep(50);
    }
    return true;
}

static bool publish_nothing(uint64_t deadline)
{
    struct wire_table *table;
    struct live_wire *live;

    devices_unlist();
    table = wire_table_build(NULL, 0, model_generation(control.model));
    if (table == NULL)
        return false;
    token = publish_begin(table);
    if (!wait_for_workers(deadline))
        return false;
    while ((live = TAILQ_FIRST(live_wires())) != NULL)
        live_destroy(live);
    return true;
}

bool apply_stop(uint64_t deadline)
{
    struct error error;

    running = false;
    while (phase != IDLE) {
        if (!wait_for_workers(deadline))
            return false;
        poll_at = 0;
        poll_publish();
    }
    error_set(&error, PATCHBAY_ERROR_UNAVAILABLE, NULL, "The daemon is stopping; nothing was changed.");
    queue_stop(&error);
    drains_stop();
    balance_stop();
    timer_cancel(&retry);
    return publish_nothing(deadline);
}

void apply_stop_waiting(void)
{
    leaving_stop();
}
