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

// How many of a row's changes are told in it, and their size as JSON.
enum { CHANGES_TOLD = 8, CHANGE_SIZE = 2 * LIMIT_NAME_LEN + 64, CHANGES_SIZE = CHANGES_TOLD * CHANGE_SIZE + 3 };

// ---- entries ----

// What entries point to.
struct texts {
    char own_path[OWN_PATH_SIZE]; // of Patchbay's own changes, which no request names
    char changes[CHANGES_SIZE];
};

// Grown as groups grow, and kept.
static struct audit_entry *collected;
static struct texts *texts;
static size_t room;

static int make_room(void)
{
    size_t size = room > 0 ? room * 2 : 64;
    struct audit_entry *entries = reallocarray(collected, size, sizeof(*entries));
    struct texts *larger;

    if (entries == NULL)
        return -ENOMEM;
    collected = entries;
    larger = reallocarray(texts, size, sizeof(*larger));
    if (larger == NULL)
        return -ENOMEM;
    texts = larger;
    room = size;
    return 0;
}

static void print_own_path(const struct command *command, char *path)
{
    snprintf(path, OWN_PATH_SIZE, "/v1/networks/%s/wires/%s/tees/%s", command->network, command->name, command->tee);
}

// {"op":"create","kind":"wire","network":"default","name":"w1"}; names need no escapes.
static void print_change(const struct model_record *record, char *text)
{
    const struct object *object = record->new != NULL ? record->new : record->old;
    bool in_network = object->kind == OBJECT_PORT || object->kind == OBJECT_WIRE;

    snprintf(text, CHANGE_SIZE, "{\"op\":\"%s\",\"kind\":\"%s\",%s%s%s\"name\":\"%s\"}",
             record->old == NULL   ? "create"
             : record->new == NULL ? "delete"
                                   : "change",
             object_kind_name(object->kind), in_network ? "\"network\":\"" : "", in_network ? object->network : "",
             in_network ? "\"," : "", object->name);
}

static void print_changes(const struct model_record *records, size_t count, char *text)
{
    char *at = text;

    *at++ = '[';
    for (size_t i = 0; i < count && i < CHANGES_TOLD; i++) {
        if (i > 0)
            *at++ = ',';
        print_change(&records[i], at);
        at += strlen(at);
    }
    strlcpy(at, "]", 2);
}

static void fill(struct audit_entry *entry, struct texts *own, const struct command *command)
{
    const struct exchange *exchange = command->exchange;

    if (exchange != NULL) {
        entry->uid = exchange->peer.uid;
        entry->gid = exchange->peer.gid;
        entry->pid = exchange->peer.pid;
        entry->client = exchange->peer.command;
        entry->method = exchange->method;
        entry->path = exchange->path;
        return;
    }
    entry->uid = geteuid();
    entry->gid = getegid();
    entry->pid = getpid();
    entry->client = "patchbayd";
    entry->method = "PROMOTE";
    print_own_path(command, own->own_path);
    entry->path = own->own_path;
}

int trail_collect(const struct command_list *group, const struct model_change *change, struct audit_entry **entries)
{
    int64_t now = (int64_t)(clock_wall() / 1000000);
    const struct command *command;
    size_t count = 0, begin = 0;

    // First the room, since entries point into it.
    TAILQ_FOREACH(command, group, entry)
    {
        if (command->changed && count++ == room && make_room() != 0)
            return -ENOMEM;
    }
    count = 0;
    TAILQ_FOREACH(command, group, entry)
    {
        if (command->changed) {
            collected[count] = (struct audit_entry){.time_ms = now,
                                                    .generation = command->step_generation,
                                                    .status = command_status(command),
                                                    .changes = texts[count].changes,
                                                    .change_count = command->record_end - begin};
            fill(&collected[count], &texts[count], command);
            print_changes(&change->records[begin], command->record_end - begin, texts[count].changes);
            count++;
        }
        begin = command->record_end;
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
    free(texts);
    collected = NULL;
    texts = NULL;
    room = 0;
}

// ---- GET /v1/audit ----

struct page {
    json_t *items;
    uint64_t last;
};

static void add_item(void *arg, const struct audit_entry *entry)
{
    json_t *changes = json_loads(entry->changes, 0, NULL);
    struct page *page = arg;
    char time[STATUS_TIME_SIZE];

    // Somebody may have written into the file.
    if (!json_is_array(changes)) {
        json_decref(changes);
        changes = json_array();
    }

    status_format_time((uint64_t)entry->time_ms * 1000000, time);
    page->last = entry->seq;
    json_array_append_new(
        page->items, json_pack("{sI ss sI sI sI ss ss ss sI si so sI}", "seq", (json_int_t)entry->seq, "time", time,
                               "uid", (json_int_t)entry->uid, "gid", (json_int_t)entry->gid, "pid",
                               (json_int_t)entry->pid, "client", entry->client, "method", entry->method, "path",
                               entry->path, "generation", (json_int_t)entry->generation, "status", (int)entry->status,
                               "changes", changes, "change_count", (json_int_t)entry->change_count));
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
