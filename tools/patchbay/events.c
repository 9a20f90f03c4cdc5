// SPDX-License-Identifier: BSD-3-Clause

// events: what happens, as the daemon tells it; over its restarts too.

#include "command.h"
#include "field.h"
#include "output.h"
#include "text.h"
#include "verbs.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

// The daemon says something every 5 s, if only that it is there.
enum { SILENCE_S = 30 };

struct watch {
    struct call *call;
    char instance[64]; // of the last line; "": none came yet
    uint64_t seq;      // of the last line
    bool placed;       // seq says where to go on
    long long left;    // events to print; 0: no limit
    bool heard;        // anything at all
    bool enough;
};

static const char *clean(const json_t *event, const char *path)
{
    return text_clean(field_text(event, path, "?"));
}

static const char *reason_of(const json_t *event)
{
    const char *reason = field_text(event, "reason", "");
    return *reason == '\0' ? "" : text_format(": %s", text_clean(reason));
}

static const char *place_of(const json_t *event, const char *name)
{
    const char *network = field_text(event, "network", "");
    return *network == '\0' ? clean(event, name) : text_format("%s/%s", text_clean(network), clean(event, name));
}

static const char *state_of(const json_t *event)
{
    const char *state = clean(event, "state");
    return output_paint(state, output_state_color(state));
}

static const char *author_of(const json_t *event)
{
    if (field_get(event, "by") == NULL)
        return "patchbayd itself";
    return text_format("uid %llu, pid %llu", (unsigned long long)field_count(event, "by.uid"),
                       (unsigned long long)field_count(event, "by.pid"));
}

// Half a sentence. A type that this program doesn't know is shown as it is.
static const char *describe(const json_t *event, const char *line)
{
    const char *type = field_text(event, "type", "");
    if (strcmp(type, "vif_link") == 0)
        return text_format("vif %s is %s%s", clean(event, "vif"), state_of(event), reason_of(event));
    if (strcmp(type, "wire_state") == 0)
        return text_format("wire %s is %s%s", place_of(event, "wire"), state_of(event), reason_of(event));
    if (strcmp(type, "bump_failed") == 0)
        return text_format("wire %s: bump %s has %s, on_failure is %s%s", place_of(event, "wire"), clean(event, "tee"),
                           output_paint("failed", output_state_color("failed")), clean(event, "on_failure"),
                           reason_of(event));
    if (strcmp(type, "bump_recovered") == 0)
        return text_format("wire %s: bump %s has recovered", place_of(event, "wire"), clean(event, "tee"));
    if (strcmp(type, "tap_overloaded") == 0)
        return text_format("wire %s: tap %s %s, %s copies lost", place_of(event, "wire"), clean(event, "tee"),
                           strcmp(field_text(event, "phase", ""), "begin") == 0 ? "is overloaded"
                                                                                : "is not overloaded any more",
                           text_count(field_count(event, "lost")));
    if (strcmp(type, "config") == 0)
        return text_format("%s %s %s by %s, generation %llu", clean(event, "op"), clean(event, "kind"),
                           place_of(event, "name"), author_of(event),
                           (unsigned long long)field_count(event, "generation"));
    return text_clean(line);
}

// "2026-01-01T12:00:00.123Z" as the local "12:00:00.123".
static const char *clock_of(const json_t *event)
{
    const char *time = field_text(event, "time", "");
    struct tm utc = {0}, local;
    char text[16] = "";
    char *rest = strptime(time, "%Y-%m-%dT%H:%M:%S", &utc);
    time_t seconds = timegm(&utc);
    if (rest == NULL || localtime_r(&seconds, &local) == NULL)
        return text_clean(time);
    strftime(text, sizeof(text), "%H:%M:%S", &local);
    return text_format("%s%.4s", text, *rest == '.' ? rest : "");
}

static bool take_line(void *context, const char *line)
{
    struct watch *watch = context;
    size_t mark = text_mark();
    json_t *event = json_loads(line, 0, NULL);
    const char *type = field_text(event, "type", "");
    bool remark = strcmp(type, "heartbeat") == 0 || strcmp(type, "end") == 0;

    strlcpy(watch->instance, field_text(event, "instance", ""), sizeof(watch->instance));
    watch->seq = field_count(event, "seq");
    watch->placed = *watch->instance != '\0';
    watch->heard = true;
    // The gap is news for programs too; that the daemon is alive isn't.
    if (watch->call->json && !remark && json_is_object(event))
        output_json(event);
    else if (strcmp(type, "gap") == 0)
        printf("%s  events are missing here: see patchbay show\n", clock_of(event));
    else if (!remark && json_is_object(event))
        printf("%s  %s\n", clock_of(event), describe(event, line));
    if (!remark && strcmp(type, "gap") != 0 && watch->left > 0 && --watch->left == 0)
        watch->enough = true;
    json_decref(event);
    text_release(mark);
    // output_finish tells of what could not be written.
    return fflush(stdout) == 0 && !watch->enough;
}

static const char *path_of(const struct watch *watch)
{
    const char *path = client_path("events", NULL);
    if (!watch->placed)
        return path;
    path = client_query(path, "since", text_format("%llu", (unsigned long long)watch->seq));
    return *watch->instance == '\0' ? path : client_query(path, "instance", watch->instance);
}

static int read_since(struct call *call, struct watch *watch)
{
    const char *since = command_option(call, "since");
    const char *colon = since == NULL ? NULL : strrchr(since, ':');
    long long seq;
    if (since == NULL)
        return EXIT_DONE;
    if (command_number(call->command, "--since", colon == NULL ? since : colon + 1, 0, 999999999999999999, &seq) !=
        EXIT_DONE)
        return EXIT_USAGE;
    if (colon != NULL)
        strlcpy(watch->instance, text_slice(since, (size_t)(colon - since)), sizeof(watch->instance));
    watch->seq = (uint64_t)seq;
    watch->placed = true;
    return EXIT_DONE;
}

int events_run(struct call *call)
{
    struct watch watch = {.call = call};
    struct reply reply = {0};
    const char *count = command_option(call, "count");
    bool told = false;
    if (read_since(call, &watch) != EXIT_DONE)
        return EXIT_USAGE;
    if (count != NULL && command_number(call->command, "--count", count, 1, 1000000000, &watch.left) != EXIT_DONE)
        return EXIT_USAGE;
    for (;;) {
        int code = client_follow(&call->client, path_of(&watch), SILENCE_S, take_line, &watch, &reply);
        bool refused = code == EXIT_DONE && reply.status != 200;
        if (watch.enough || ferror(stdout))
            return EXIT_DONE;
        if (refused)
            code = client_refused(&call->client, &reply);
        client_clear(&reply);
        if (refused || (code != EXIT_DONE && !watch.heard))
            return code;
        // It was there, and is gone or has ended the stream: wait for it.
        if (code != EXIT_DONE && !told)
            fprintf(stderr, "patchbay: waiting for patchbayd to come back; Ctrl-C ends it\n");
        told = code != EXIT_DONE;
        call->client.quiet = true;
        nanosleep(&(struct timespec){.tv_nsec = 200000000}, NULL);
    }
}
