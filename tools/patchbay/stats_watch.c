// SPDX-License-Identifier: BSD-3-Clause

// stats --watch: rates again and again, over restarts of the daemon too.

#include "stats.h"

#include "field.h"
#include "output.h"
#include "text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

// What a watch knows from round to round.
struct watch {
    struct stats_sample before;
    char last_gap[128]; // shown on a terminal, whose earlier lines are gone; "" for none
};

static void sleep_s(double seconds)
{
    struct timespec rest = {.tv_sec = (time_t)seconds};
    rest.tv_nsec = (long)((seconds - (double)rest.tv_sec) * 1e9);
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
        continue;
}

static void keep(struct watch *watch, struct stats_sample *now)
{
    stats_drop(&watch->before);
    watch->before = *now;
    stats_own(&watch->before.stats);
}

// Between the two samples the daemon was started anew: its counters begin at 0,
// so no rate can be told of the time between.
static void mark_gap(struct call *call, struct watch *watch, const struct stats_sample *now)
{
    double seconds = now->stats.at_s - watch->before.stats.at_s;
    const char *text = text_format("%s  patchbayd was restarted: no rates for %.1f s", stats_clock(), seconds);
    strlcpy(watch->last_gap, text, sizeof(watch->last_gap));
    if (call->json) {
        json_t *gap = json_object(), *marker = field_object();
        field_set(gap, "seconds", json_real(seconds));
        field_set_text(gap, "instance", now->instance);
        field_set(marker, "gap", gap);
        output_json(marker);
        json_decref(marker);
    } else {
        printf("%s\n", text);
    }
}

static void print(struct call *call, const struct watch *watch, const struct stats_sample *now)
{
    if (call->json) {
        output_json(now->json);
    } else if (!output.terminal) {
        now->kind->print_lines(&now->stats, &watch->before.stats);
    } else {
        // Home, and clear all: what is drawn over itself must not leave rests
        // of rows that are gone.
        printf("\033[H\033[2J");
        if (*watch->last_gap != '\0')
            printf("%s\n\n", watch->last_gap);
        stats_print_sample(now, &watch->before);
    }
}

// Takes a sample, waiting for a daemon that is gone: it says so once, and why.
static int take(struct call *call, double seconds, struct stats_sample *now)
{
    int code = stats_take(call, now);
    if (code != EXIT_UNREACHED)
        return code;
    json_decref(now->json);
    fprintf(stderr, "patchbay: waiting for patchbayd to come back; Ctrl-C ends it\n");
    fflush(stdout);
    call->client.quiet = true;
    do {
        size_t mark = text_mark();
        sleep_s(seconds < 1 ? seconds : 1);
        code = stats_take(call, now);
        if (code == EXIT_UNREACHED) {
            json_decref(now->json);
            text_release(mark);
        }
    } while (code == EXIT_UNREACHED);
    call->client.quiet = false;
    return code;
}

int stats_watch(struct call *call, double seconds, long long rounds)
{
    struct watch watch = {.last_gap = ""};
    struct stats_sample now;
    int code = stats_take(call, &watch.before);
    stats_own(&watch.before.stats);
    for (long long round = 1; code == EXIT_DONE;) {
        // What a round needs of the text pool is gone with it; only the
        // counters themselves live until the next.
        size_t mark = text_mark();
        sleep_s(seconds);
        code = take(call, seconds, &now);
        bool gap = code == EXIT_DONE && strcmp(now.instance, watch.before.instance) != 0;
        if (gap)
            mark_gap(call, &watch, &now);
        else if (code == EXIT_DONE)
            print(call, &watch, &now);
        keep(&watch, &now);
        text_release(mark);
        // output_finish tells of what could not be written.
        if ((!gap && round++ == rounds) || fflush(stdout) != 0)
            break;
    }
    stats_drop(&watch.before);
    return code;
}
