// SPDX-License-Identifier: BSD-3-Clause
#include "stats.h"

#include "change.h"
#include "draw.h"
#include "field.h"
#include "output.h"
#include "text.h"
#include "verbs.h"

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// What is counted, once: the rows, and the JSON that they are made of.
struct sample {
    struct stats stats;
    json_t *json;      // owned
    const char *title; // "" for none
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int sample_vif(struct call *call, struct sample *sample)
{
    struct reply reply = {0};
    const char *path = client_path("vifs", command_option(call, "vif"), "stats", NULL);
    int code = client_do(&call->client, "GET", path, NULL, 0, &reply);
    if (code == EXIT_DONE) {
        stats_add_vif(&sample->stats, reply.body);
        sample->json = json_incref(reply.body);
    }
    client_clear(&reply);
    return code;
}

static int sample_wire(struct call *call, struct sample *sample)
{
    const char *wire = command_argument(call, 0);
    struct reply reply = {0};
    int code = change_read_wire(call, call->network, wire, &reply);
    if (code == EXIT_DONE)
        sample->title = text_format("%s  %s  %s", wire, draw_path(reply.body), draw_state(reply.body));
    if (code == EXIT_DONE)
        code = client_do(&call->client, "GET", client_path("networks", call->network, "wires", wire, "stats", NULL),
                         NULL, 0, &reply);
    if (code == EXIT_DONE) {
        stats_add_wire(&sample->stats, reply.body, false);
        sample->json = json_incref(reply.body);
    }
    client_clear(&reply);
    return code;
}

static int sample_all(struct call *call, struct sample *sample)
{
    struct reply reply = {0};
    json_t *wires = NULL, *counters = json_array(), *wire;
    size_t i;
    if (counters == NULL)
        errx(EXIT_REFUSED, "out of memory");
    int code = client_list(&call->client, client_path("networks", call->network, "wires", NULL), &wires, NULL);
    json_array_foreach(wires, i, wire)
    {
        const char *path = client_path("networks", call->network, "wires", field_text(wire, "name", ""), "stats", NULL);
        code = client_send(&call->client, "GET", path, NULL, 0, &reply);
        if (code != EXIT_DONE)
            break;
        // One that was removed since the list was read is no fault.
        if (reply.status == 404)
            continue;
        if (!client_ok(&reply)) {
            code = client_refused(&call->client, &reply);
            break;
        }
        stats_add_wire(&sample->stats, reply.body, true);
        json_array_append(counters, reply.body);
    }
    if (code == EXIT_DONE)
        code = client_do(&call->client, "GET", client_path("stats", NULL), NULL, 0, &reply);
    if (code == EXIT_DONE) {
        stats_add_workers(&sample->stats, reply.body);
        sample->json = field_object();
        field_set(sample->json, "daemon", json_incref(reply.body));
        field_set(sample->json, "wires", json_incref(counters));
    }
    client_clear(&reply);
    json_decref(wires);
    json_decref(counters);
    return code;
}

static int take_sample(struct call *call, struct sample *sample)
{
    *sample = (struct sample){.title = ""};
    int code = command_has(call, "vif")            ? sample_vif(call, sample)
               : command_argument(call, 0) != NULL ? sample_wire(call, sample)
                                                   : sample_all(call, sample);
    sample->stats.at_s = now_s();
    return code;
}

static void print_sample(const struct call *call, const struct sample *now, const struct sample *before)
{
    if (call->json) {
        output_json(now->json);
        return;
    }
    if (before != NULL && !output.terminal) {
        stats_print_lines(&now->stats, &before->stats);
        return;
    }
    // Home, and clear all: what is drawn over itself must not leave rests of
    // rows that are gone.
    if (before != NULL)
        printf("\033[H\033[2J");
    if (*now->title != '\0')
        printf("%s\n\n", now->title);
    stats_print(&now->stats, before == NULL ? NULL : &before->stats);
}

static void sleep_s(double seconds)
{
    struct timespec rest = {.tv_sec = (time_t)seconds};
    rest.tv_nsec = (long)((seconds - (double)rest.tv_sec) * 1e9);
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
        continue;
}

// Rates again and again; rounds 0: until interrupted.
static int watch(struct call *call, double seconds, long long rounds)
{
    struct sample before = {0}, now;
    int code = take_sample(call, &before);
    stats_own(&before.stats);
    for (long long round = 1; code == EXIT_DONE; round++) {
        // What a round needs of the text pool is gone with it; only the
        // counters themselves live until the next.
        size_t mark = text_mark();
        sleep_s(seconds);
        code = take_sample(call, &now);
        if (code == EXIT_DONE)
            print_sample(call, &now, &before);
        json_decref(before.json);
        stats_disown(&before.stats);
        before = now;
        stats_own(&before.stats);
        text_release(mark);
        // output_finish tells of what could not be written.
        if (round == rounds || fflush(stdout) != 0)
            break;
    }
    json_decref(before.json);
    stats_disown(&before.stats);
    return code;
}

int stats_run(struct call *call)
{
    const char *vif = command_option(call, "vif"), *interval = command_option(call, "watch");
    const char *count = command_option(call, "count");
    double seconds = 1;
    long long rounds = 0;
    if (vif != NULL && !text_is_name(vif))
        return command_misused(call->command, "\"%s\" can't be the name of a vif", text_clean(vif));
    if (vif != NULL && command_argument(call, 0) != NULL)
        return command_misused(call->command, "of a wire or of a vif, not of both");
    if (command_argument(call, 0) != NULL && change_name(call, 0, "wire") == NULL)
        return EXIT_USAGE;
    if (count != NULL && !command_has(call, "watch"))
        return command_misused(call->command, "--count goes with --watch");
    if (count != NULL && command_number(call->command, "--count", count, 1, 1000000000, &rounds) != EXIT_DONE)
        return EXIT_USAGE;
    if (interval != NULL) {
        char *end;
        seconds = strtod(interval, &end);
        if (end == interval || *end != '\0' || !(seconds >= 0.01 && seconds <= 86400))
            return command_misused(call->command, "--watch takes seconds, from 0.01 to 86400, not \"%s\"",
                                   text_clean(interval));
    }
    if (command_has(call, "watch"))
        return watch(call, seconds, rounds);
    struct sample sample;
    int code = take_sample(call, &sample);
    if (code == EXIT_DONE)
        print_sample(call, &sample, NULL);
    json_decref(sample.json);
    return code;
}
