// SPDX-License-Identifier: BSD-3-Clause
#include "trail.h"

#include "control.h"
#include "log.h"
#include "loop.h"
#include "read.h"
#include "status.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LINE_NS ((uint64_t)1000000000)

// "/v1/networks/NET/wires/WIRE/tees/TEE"
enum { OWN_PATH_SIZE = 3 * LIMIT_NAME_LEN + 40, LINE_SIZE = 512 };

// ---- entries ----

// Grown as groups grow, and kept.
static struct audit_entry *collected;
static char (*own_paths)[OWN_PATH_SIZE]; // of Patchbay's own changes, which no request names
static size_t room;

static int make_room(void)
{
    size_t size = room > 0 ? room * 2 : 64;
    struct audit_entry *entries = reallocarray(collected, size, sizeof(*entries));
    char(*paths)[OWN_PATH_SIZE];

    if (entries == NULL)
        return -ENOMEM;
    collected = entries;
    paths = reallocarray(own_paths, size, sizeof(*paths));
    if (paths == NULL)
        return -ENOMEM;
    own_paths = paths;
    room = size;
    return 0;
}

static void print_own_path(const struct command *command, char *path)
{
    snprintf(path, OWN_PATH_SIZE, "/v1/networks/%s/wires/%s/tees/%s", command->network, command->name, command->tee);
}

int trail_collect(const struct command_list *group, struct audit_entry **entries)
{
    int64_t now = (int64_t)(clock_wall() / 1000000);
    const struct command *command;
    size_t count = 0;

    TAILQ_FOREACH(command, group, entry)
    {
        if (!command->changed)
            continue;
        if (count == room && make_room() != 0)
            return -ENOMEM;
        collected[count] = (struct audit_entry){
            .time_ms = now, .generation = command->step_generation, .status = command_status(command)};
        if (command->exchange != NULL) {
            const struct exchange *exchange = command->exchange;

            collected[count].uid = exchange->peer.uid;
            collected[count].gid = exchange->peer.gid;
            collected[count].pid = exchange->peer.pid;
            collected[count].client = exchange->peer.command;
            collected[count].method = exchange->method;
            collected[count].path = exchange->path;
        } else {
            collected[count].uid = geteuid();
            collected[count].gid = getegid();
            collected[count].pid = getpid();
            collected[count].client = "patchbayd";
            collected[count].method = "PROMOTE";
        }
        count++;
    }
    // Now that the array of paths moves no more.
    count = 0;
    TAILQ_FOREACH(command, group, entry)
    {
        if (!command->changed)
            continue;
        if (command->exchange == NULL) {
            print_own_path(command, own_paths[count]);
            collected[count].path = own_paths[count];
        }
        count++;
    }
    *entries = collected;
    return (int)count;
}

// ---- the log ----

static struct {
    struct timer timer;
    bool wrote;             // a line, at written_at
    uint64_t written_at;    //
    uint64_t changes;       // since then
    uint64_t refusals;      //
    char last[LINE_SIZE];   // the last of them
    uint64_t refused_total; // since the start
} lines;

static void write_line(const char *line)
{
    log_message(LOG_LEVEL_INFO, "apply", "%s", line);
    lines.wrote = true;
    lines.written_at = clock_now();
    lines.changes = lines.refusals = 0;
}

static void write_summary(void *arg)
{
    char line[LINE_SIZE + 160];

    (void)arg;
    if (lines.changes + lines.refusals == 0)
        return;
    if (lines.changes + lines.refusals == 1)
        snprintf(line, sizeof(line), "%s", lines.last);
    else
        snprintf(line, sizeof(line), "%llu changes, %llu refused, now generation %llu; the last: %s",
                 (unsigned long long)lines.changes, (unsigned long long)lines.refusals,
                 (unsigned long long)model_generation(control.model), lines.last);
    write_line(line);
}

// Tells of one at once if the log was quiet, else with others at the end of the second. The log at its most detailed
// has each.
static void note(uint64_t *counter, const char *line)
{
    bool quiet = !lines.timer.armed && (!lines.wrote || clock_now() - lines.written_at >= LINE_NS);

    if (quiet) {
        write_line(line);
        return;
    }
    log_message(LOG_LEVEL_DEBUG, "apply", "%s", line);
    ++*counter;
    strlcpy(lines.last, line, sizeof(lines.last));
    if (!lines.timer.armed)
        timer_arm(&lines.timer, lines.written_at + LINE_NS, write_summary, NULL);
}

// "by pid 17 uid 0 (patchbay)"
static void print_client(const struct exchange *exchange, char *text, size_t size)
{
    snprintf(text, size, "by pid %d uid %u (%s)", (int)exchange->peer.pid, (unsigned)exchange->peer.uid,
             exchange->peer.command);
}

void trail_log_change(const struct command *command, unsigned status)
{
    char line[LINE_SIZE], client[64], path[OWN_PATH_SIZE];

    if (command->exchange != NULL && command->verb != COMMAND_DELETE && !command->changed)
        return;
    if (command->exchange != NULL) {
        print_client(command->exchange, client, sizeof(client));
        snprintf(line, sizeof(line), "%s %.350s: %u, generation %llu, %s", command->exchange->method,
                 command->exchange->path, status, (unsigned long long)model_generation(control.model), client);
    } else {
        print_own_path(command, path);
        snprintf(line, sizeof(line), "PROMOTE %s: generation %llu", path,
                 (unsigned long long)model_generation(control.model));
    }
    note(&lines.changes, line);
}

void trail_log_refusal(const struct exchange *exchange, const struct error *error)
{
    char line[LINE_SIZE], client[64];

    print_client(exchange, client, sizeof(client));
    snprintf(line, sizeof(line), "%s %.150s: refused, %s: %.200s, %s", exchange->method, exchange->path,
             error_code_name(error->code), error->message, client);
    lines.refused_total++;
    note(&lines.refusals, line);
}

void trail_stop(void)
{
    timer_cancel(&lines.timer);
    write_summary(NULL);
    free(collected);
    free(own_paths);
    collected = NULL;
    own_paths = NULL;
    room = 0;
}

// ---- GET /v1/audit ----

struct page {
    json_t *items;
    uint64_t last;
};

static void add_item(void *arg, const struct audit_entry *entry)
{
    struct page *page = arg;
    char time[STATUS_TIME_SIZE];

    status_format_time((uint64_t)entry->time_ms * 1000000, time);
    page->last = entry->seq;
    json_array_append_new(
        page->items, json_pack("{sI ss sI sI sI ss ss ss sI si}", "seq", (json_int_t)entry->seq, "time", time, "uid",
                               (json_int_t)entry->uid, "gid", (json_int_t)entry->gid, "pid", (json_int_t)entry->pid,
                               "client", entry->client, "method", entry->method, "path", entry->path, "generation",
                               (json_int_t)entry->generation, "status", (int)entry->status));
}

void trail_read(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    struct page page = {.items = json_array()};
    uint64_t first, last, after = 0;
    struct error error;
    char *end;

    (void)target;
    if (read_refuses_body(exchange)) {
        json_decref(page.items);
        return;
    }
    errno = 0;
    if (parameters->after[0] != '\0')
        after = strtoull(parameters->after, &end, 10);
    if (parameters->after[0] != '\0' && (errno != 0 || *end != '\0')) {
        json_decref(page.items);
        error_set(&error, PATCHBAY_ERROR_BAD_VALUE, "after",
                  "The parameter after takes the number of a row here, as \"next\" has it: ?after=120.");
        exchange_fail(exchange, &error);
        return;
    }
    if (audit_read(store_audit(control.store), after, parameters->limit, add_item, &page) != 0) {
        json_decref(page.items);
        error_set(&error, PATCHBAY_ERROR_INTERNAL, NULL, "The audit trail can't be read; see the daemon's log.");
        log_message(LOG_LEVEL_ERROR, "audit", "the audit trail can't be read");
        exchange_fail(exchange, &error);
        return;
    }
    audit_ends(store_audit(control.store), &first, &last);
    exchange_answer(exchange, 200,
                    json_pack("{so so sI sI sI sI}", "items", page.items, "next",
                              page.last != 0 && page.last < last ? json_sprintf("%llu", (unsigned long long)page.last)
                                                                 : json_null(),
                              "generation", (json_int_t)model_generation(control.model), "first", (json_int_t)first,
                              "last", (json_int_t)last, "refused", (json_int_t)lines.refused_total),
                    EXCHANGE_NO_ETAG);
}
