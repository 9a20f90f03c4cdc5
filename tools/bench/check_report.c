// SPDX-License-Identifier: BSD-3-Clause
// What a check run found, as JSON, and whether that is what was expected.
#include "check.h"

#include <stdarg.h>
#include <stdio.h>

#include <rte_cycles.h>

enum { RANGES_MAX = 16 }; // ranges of missing numbers that are listed

static json_t *integer(uint64_t value)
{
    return json_integer((json_int_t)value);
}

static void stream_name(const struct check *check, const struct check_stream *stream, char *name, size_t size)
{
    int at = snprintf(name, size, "%s>", stream->tx->spec->name);
    const char *comma = "";

    for (unsigned i = 0; i < check->t->config->port_count && (size_t)at < size; i++) {
        if ((stream->spec->rx_mask & 1u << i) == 0)
            continue;
        at += snprintf(name + at, size - (size_t)at, "%s%s", comma, check->t->config->ports[i].name);
        comma = ",";
    }
}

void check_progress(const struct check *check)
{
    static const char *const phases[] = {"sending", "settling", "over"};
    json_t *streams = json_array(), *root;
    uint64_t sent = 0, received = 0, copies = 0, reflected = 0;
    enum check_phase phase = __atomic_load_n(&check->phase, __ATOMIC_RELAXED);

    for (unsigned i = 0; i < check->stream_count; i++) {
        const struct check_stream *stream = &check->streams[i];
        char name[TRAFFIC_PORTS_MAX * TRAFFIC_NAME_SIZE];
        uint64_t stream_copies = 0;

        stream_name(check, stream, name, sizeof(name));
        for (unsigned j = 0; j < check->t->config->port_count; j++)
            stream_copies += counter_read(&stream->copies[j].unique);
        json_array_append_new(streams, json_pack("{s:s, s:o, s:o, s:o}", "stream", name, "sent",
                                                 integer(counter_read(&stream->sent)), "received",
                                                 integer(counter_read(&stream->received.unique)), "copies",
                                                 integer(stream_copies)));
        sent += counter_read(&stream->sent);
        received += counter_read(&stream->received.unique);
        copies += stream_copies;
    }
    for (unsigned i = 0; i < check->t->config->reflect_count; i++)
        reflected +=
            counter_read(&check->t->reflects[i].arm[0].frames) + counter_read(&check->t->reflects[i].arm[1].frames);
    root = json_pack("{s:s, s:s, s:f, s:o, s:o, s:o, s:o, s:o}", "event", "progress", "phase", phases[phase], "seconds",
                     (double)(rte_rdtsc() - check->start_tsc) / (double)rte_get_tsc_hz(), "sent", integer(sent),
                     "received", integer(received), "copies", integer(copies), "reflected", integer(reflected),
                     "streams", streams);
    json_dumpf(root, stderr, JSON_REAL_PRECISION(6));
    fputc('\n', stderr);
    json_decref(root);
}

// What was found wrong, as sentences.
struct problems {
    json_t *list;
};

static void problem(struct problems *problems, const char *format, ...)
{
    char text[512];
    va_list args;

    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    json_array_append_new(problems->list, json_string(text));
}

static json_t *ranges_json(const struct track *track, uint64_t end, uint64_t *count)
{
    struct track_range ranges[RANGES_MAX];
    json_t *list = json_array();

    *count = track_missing(track, end, ranges, RANGES_MAX);
    for (uint64_t i = 0; i < *count && i < RANGES_MAX; i++)
        json_array_append_new(list, json_pack("[o, o]", integer(ranges[i].first), integer(ranges[i].last)));
    return list;
}

static json_t *view_json(const struct check *check, unsigned port, const struct check_view *view)
{
    return json_pack("{s:s, s:o, s:o, s:o}", "port", check->t->config->ports[port].name, "frames",
                     integer(view->frames), "duplicate", integer(view->duplicate), "reordered",
                     integer(view->reordered));
}

static json_t *stream_json(const struct check *check, const struct check_stream *stream, struct problems *problems)
{
    json_t *receivers = json_array(), *monitors = json_array(), *ranges, *monitor;
    char name[TRAFFIC_PORTS_MAX * TRAFFIC_NAME_SIZE];
    uint64_t lost = 0, gaps = 0, reordered = 0;

    stream_name(check, stream, name, sizeof(name));
    for (unsigned i = 0; i < check->t->config->port_count; i++) {
        const char *port = check->t->config->ports[i].name;
        const struct check_view *view = &stream->views[i];

        if ((stream->spec->rx_mask & 1u << i) != 0) {
            json_array_append_new(receivers, view_json(check, i, view));
            reordered += view->reordered;
        }
        if ((check->t->config->monitor_mask & 1u << i) == 0)
            continue;
        monitor = view_json(check, i, view);
        ranges = ranges_json(&stream->copies[i], stream->sent, &gaps);
        json_object_set_new(monitor, "unique", integer(stream->copies[i].unique));
        json_object_set_new(monitor, "missing", integer(stream->sent - stream->copies[i].unique));
        json_object_set_new(monitor, "gaps", integer(gaps));
        json_object_set_new(monitor, "missing_ranges", ranges);
        json_array_append_new(monitors, monitor);
        if (view->duplicate != 0)
            problem(problems, "%s: monitor %s got %ju frames twice", name, port, (uintmax_t)view->duplicate);
        if (view->reordered != 0)
            problem(problems, "%s: monitor %s got %ju frames out of order", name, port, (uintmax_t)view->reordered);
    }
    ranges = stream->spec->rx_mask != 0 ? ranges_json(&stream->received, stream->sent, &gaps) : json_array();
    if (stream->spec->rx_mask != 0)
        lost = stream->sent - stream->received.unique;
    if (lost != 0)
        problem(problems, "%s: %ju of %ju frames were lost, in %ju gaps", name, (uintmax_t)lost,
                (uintmax_t)stream->sent, (uintmax_t)gaps);
    if (stream->received.duplicate != 0)
        problem(problems, "%s: %ju frames arrived twice", name, (uintmax_t)stream->received.duplicate);
    if (reordered != 0)
        problem(problems, "%s: %ju frames arrived out of order", name, (uintmax_t)reordered);
    if (check->t->config->duration_s == 0 && stream->sent != check->t->config->count)
        problem(problems, "%s: %ju of %ju frames were sent", name, (uintmax_t)stream->sent,
                (uintmax_t)check->t->config->count);
    return json_pack("{s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "stream", name, "sent",
                     integer(stream->sent), "received", integer(stream->received.unique), "lost", integer(lost),
                     "duplicate", integer(stream->received.duplicate), "reordered", integer(reordered), "gaps",
                     integer(stream->spec->rx_mask != 0 ? gaps : 0), "missing_ranges", ranges, "receivers", receivers,
                     "monitors", monitors);
}

int check_report(const struct check *check)
{
    const struct config *config = check->t->config;
    struct problems problems = {json_array()};
    json_t *streams = json_array(), *ports = json_array(), *root;
    uint64_t sent = 0;
    double seconds = (double)(check->end_tsc - check->start_tsc) / (double)rte_get_tsc_hz();
    bool ok;

    for (unsigned i = 0; i < check->stream_count; i++) {
        json_array_append_new(streams, stream_json(check, &check->streams[i], &problems));
        sent += check->streams[i].sent;
    }
    for (unsigned i = 0; i < config->port_count; i++) {
        const struct port *port = &check->t->ports[i];

        json_array_append_new(ports, ports_json(port));
        if (port->corrupt != 0)
            problem(&problems, "port %s: %ju corrupt frames", port->spec->name, (uintmax_t)port->corrupt);
        if (port->misdelivered != 0)
            problem(&problems, "port %s: %ju frames of streams that don't end there", port->spec->name,
                    (uintmax_t)port->misdelivered);
        if (port->foreign != 0 && !config->allow_foreign)
            problem(&problems, "port %s: %ju foreign frames", port->spec->name, (uintmax_t)port->foreign);
    }
    if (reflect_pending(check->t) != 0)
        problem(&problems, "%ju frames are still inside the appliance", (uintmax_t)reflect_pending(check->t));
    if (check->stalled)
        problem(&problems, "nothing moved for %g s while sending", config->stall_s);
    ok = json_array_size(problems.list) == 0;
    root = json_pack("{s:s, s:b, s:o, s:f, s:f, s:f, s:f, s:b, s:b, s:b, s:s, s:o, s:o, s:o}", "mode", "check", "ok",
                     ok, "problems", problems.list, "seconds", seconds, "sent_mpps",
                     seconds > 0 ? (double)sent / seconds / 1e6 : 0.0, "pause_ms",
                     1e3 * (double)check->pause_max / (double)rte_get_tsc_hz(), "off_cpu_ms",
                     1e3 * (double)check->off_max / (double)rte_get_tsc_hz(), "stalled", check->stalled, "unsettled",
                     check->unsettled, "interrupted", traffic_stop != 0, "memory", check->t->memory, "streams", streams,
                     "ports", ports, "reflect", reflect_json(check->t));
    json_dumpf(root, stdout, JSON_REAL_PRECISION(8));
    putchar('\n');
    fflush(stdout);
    json_decref(root);
    return config->lossless && !ok ? EXIT_CHECK : EXIT_DONE;
}
