// SPDX-License-Identifier: BSD-3-Clause
#include "stats.h"

#include "change.h"
#include "draw.h"
#include "field.h"
#include "output.h"
#include "text.h"
#include "verbs.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int sample_vif(struct call *call, struct stats_sample *sample)
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

static int sample_wire(struct call *call, struct stats_sample *sample)
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

static int sample_all(struct call *call, struct stats_sample *sample)
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

static int sample_cycles(struct call *call, struct stats_sample *sample)
{
    struct reply reply = {0};
    int code = client_do(&call->client, "GET", client_path("stats", NULL), NULL, 0, &reply);
    if (code == EXIT_DONE) {
        stats_add_workers(&sample->stats, reply.body);
        sample->json = json_incref(reply.body);
    }
    client_clear(&reply);
    for (size_t i = 0; code == EXIT_DONE && i < sample->stats.worker_count; i++) {
        if (sample->stats.workers[i].stage_count > 0)
            continue;
        output_complain("this daemon doesn't measure its cycles by stage: upgrade patchbayd");
        code = EXIT_UNSUPPORTED;
    }
    return code;
}

static int sample_queues(struct call *call, struct stats_sample *sample)
{
    struct reply reply = {0};
    int code =
        client_do(&call->client, "GET", client_query(client_path("stats", NULL), "queues", "1"), NULL, 0, &reply);
    if (code == EXIT_DONE) {
        stats_add_workers(&sample->stats, reply.body);
        stats_add_queues(&sample->stats, reply.body);
        sample->json = json_incref(reply.body);
    }
    client_clear(&reply);
    return code;
}

// Which run of the daemon answers: its counters are of this run alone.
static int sample_instance(struct call *call, struct stats_sample *sample)
{
    struct reply reply = {0};
    int code = client_do(&call->client, "GET", client_path("version", NULL), NULL, 0, &reply);
    if (code == EXIT_DONE)
        strlcpy(sample->instance, field_text(reply.body, "instance", ""), sizeof(sample->instance));
    client_clear(&reply);
    return code;
}

static const struct stats_kind counters = {stats_print, stats_print_lines};
static const struct stats_kind cycles = {stats_print_cycles, stats_print_cycles_lines};
static const struct stats_kind queues = {stats_print_queues, stats_print_queues_lines};

static int take_counters(struct call *call, struct stats_sample *sample)
{
    if (command_has(call, "cycles"))
        return sample_cycles(call, sample);
    if (command_has(call, "queues"))
        return sample_queues(call, sample);
    if (command_has(call, "vif"))
        return sample_vif(call, sample);
    return command_argument(call, 0) != NULL ? sample_wire(call, sample) : sample_all(call, sample);
}

int stats_take(struct call *call, struct stats_sample *sample)
{
    *sample = (struct stats_sample){.title = "",
                                    .kind = command_has(call, "cycles")   ? &cycles
                                            : command_has(call, "queues") ? &queues
                                                                          : &counters};
    int code = take_counters(call, sample);
    sample->stats.at_s = now_s();
    // After the counters: if the daemon was restarted in between, this sample
    // passes for one of the new run, whose next one then only counts too little.
    if (code == EXIT_DONE && command_has(call, "watch"))
        code = sample_instance(call, sample);
    return code;
}

void stats_drop(struct stats_sample *sample)
{
    json_decref(sample->json);
    stats_disown(&sample->stats);
}

void stats_print_sample(const struct stats_sample *now, const struct stats_sample *before)
{
    if (*now->title != '\0')
        printf("%s\n\n", now->title);
    now->kind->print(&now->stats, before == NULL ? NULL : &before->stats);
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
    if (command_has(call, "cycles") && (vif != NULL || command_argument(call, 0) != NULL))
        return command_misused(call->command, "--cycles is of the workers, which serve all wires and vifs");
    if (command_has(call, "queues") &&
        (vif != NULL || command_argument(call, 0) != NULL || command_has(call, "cycles")))
        return command_misused(call->command, "--queues is of all vifs, and goes without --cycles");
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
        return stats_watch(call, seconds, rounds);
    struct stats_sample sample;
    int code = stats_take(call, &sample);
    if (code == EXIT_DONE && call->json)
        output_json(sample.json);
    else if (code == EXIT_DONE)
        stats_print_sample(&sample, NULL);
    json_decref(sample.json);
    return code;
}
