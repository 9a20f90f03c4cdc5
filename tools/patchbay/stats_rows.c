// SPDX-License-Identifier: BSD-3-Clause
#include "stats.h"

#include "field.h"
#include "output.h"
#include "text.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>

static const char *arrow(void)
{
    return output.utf8 ? "→" : "->";
}

// "12 full, 3 stalled" from {"total": 15, "full": 12, "stalled": 3}
static const char *describe_reasons(const json_t *drops)
{
    const char *reasons = "", *key;
    json_t *value;
    json_object_foreach((json_t *)drops, key, value)
    {
        if (strcmp(key, "total") == 0 || json_integer_value(value) <= 0)
            continue;
        reasons = text_format("%s%s%s %s", reasons, *reasons == '\0' ? "" : ", ",
                              text_count((uint64_t)json_integer_value(value)), key);
    }
    return reasons;
}

// Room for one more in an array of the text pool.
static void *grown(void *array, size_t count, size_t size)
{
    // Doubled at powers of two; the pool frees the smaller ones later.
    if (count != 0 && (count & (count - 1)) != 0)
        return array;
    char *larger = text_keep(calloc(count == 0 ? 1 : count * 2, size));
    if (count > 0)
        memcpy(larger, array, count * size);
    return larger;
}

static struct stats_row *add_row(struct stats *stats, const char *name, unsigned depth, const json_t *counters)
{
    stats->rows = grown(stats->rows, stats->row_count, sizeof(*stats->rows));
    struct stats_row *row = &stats->rows[stats->row_count++];
    *row = (struct stats_row){
        .name = name,
        .depth = depth,
        .uid = text_format("%s", field_text(counters, "uid", "")),
        .dropped = field_count(counters, "dropped.total"),
        .reasons = describe_reasons(field_get(counters, "dropped")),
    };
    return row;
}

static void set_in(struct stats_row *row, const json_t *counters, const char *key)
{
    row->in_frames = field_count(counters, text_format("%s.frames", key));
    row->in_bytes = field_count(counters, text_format("%s.bytes", key));
    row->in_has_bytes = true;
}

static void set_out(struct stats_row *row, const json_t *counters, const char *key)
{
    row->out_frames = field_count(counters, text_format("%s.frames", key));
    row->out_bytes = field_count(counters, text_format("%s.bytes", key));
}

static const char *describe_leg(const json_t *leg)
{
    const char *to = "";
    for (size_t i = 0; i < field_size(leg, "to"); i++)
        to = text_format("%s%s%s", to, i == 0 ? "" : ", ", field_text(field_item(leg, "to", i), "to", "?"));
    return text_format("%s %s %s", field_text(leg, "from", "?"), arrow(), *to == '\0' ? "nowhere" : to);
}

static void add_direction(struct stats *stats, const json_t *wire, const char *key, const char *name, bool summary)
{
    const json_t *direction = field_get(wire, key);
    struct stats_row *row = add_row(stats, name, 0, direction);
    row->uid = text_format("%s", field_text(wire, "uid", ""));
    set_in(row, direction, "received");
    set_out(row, direction, "delivered");
    // A single leg is the whole direction: it would say the same again.
    size_t legs = field_size(direction, "legs");
    for (size_t i = 0; i < legs && legs > 1 && !summary; i++) {
        const json_t *leg = field_item(direction, "legs", i);
        row = add_row(stats, describe_leg(leg), 1, leg);
        set_in(row, leg, "received");
        set_out(row, leg, "delivered");
    }
}

static void add_tee(struct stats *stats, const json_t *tee)
{
    const char *mode = field_text(tee, "mode", "?");
    struct stats_row *row = add_row(stats, text_format("%s %s", mode, field_text(tee, "name", "?")), 0, tee);
    if (strcmp(mode, "bump") == 0) {
        set_in(row, tee, "into");
        set_out(row, tee, "out");
        row->dropped = field_count(tee, "late");
        row->reasons = row->dropped == 0 ? "" : text_format("%s late", text_count(row->dropped));
    } else {
        row->in_frames = field_count(tee, "offered");
        set_out(row, tee, "copied");
    }
}

void stats_add_wire(struct stats *stats, const json_t *counters, bool summary)
{
    const char *prefix = summary ? text_format("%s ", field_text(counters, "wire", "?")) : "";
    add_direction(stats, counters, "a_to_b", text_format("%sa%sb", prefix, arrow()), summary);
    add_direction(stats, counters, "b_to_a", text_format("%sb%sa", prefix, arrow()), summary);
    for (size_t i = 0; i < field_size(counters, "tees") && !summary; i++)
        add_tee(stats, field_item(counters, "tees", i));
}

void stats_add_vif(struct stats *stats, const json_t *counters)
{
    struct stats_row *row = add_row(stats, text_format("vif %s", field_text(counters, "vif", "?")), 0, counters);
    set_in(row, counters, "received");
    set_out(row, counters, "transmitted");
    row->dropped = field_count(counters, "discarded.total");
    row->reasons = describe_reasons(field_get(counters, "discarded"));
    static const char *const others[] = {"rx_missed", "rx_errors", "notified", "announced", "reconnects", "pauses"};
    for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++) {
        uint64_t count = field_count(counters, others[i]);
        if (count > 0)
            row->reasons =
                text_format("%s%s%s %s", row->reasons, *row->reasons == '\0' ? "" : ", ", text_count(count), others[i]);
    }
}

static void add_stages(struct stats_worker *worker, const json_t *stages)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)stages, key, value)
    {
        if (worker->stage_count == STATS_STAGES_MAX)
            return;
        struct stats_stage *stage = &worker->stages[worker->stage_count++];
        strlcpy(stage->name, key, sizeof(stage->name));
        stage->cycles = field_count(value, "cycles");
        stage->frames = field_count(value, "frames");
    }
}

void stats_add_workers(struct stats *stats, const json_t *counters)
{
    for (size_t i = 0; i < field_size(counters, "workers"); i++) {
        const json_t *worker = field_item(counters, "workers", i);
        stats->workers = grown(stats->workers, stats->worker_count, sizeof(*stats->workers));
        stats->workers[stats->worker_count++] = (struct stats_worker){
            .worker = field_count(worker, "worker"),
            .core = field_count(worker, "core"),
            .loops = field_count(worker, "loops"),
            .frames = field_count(worker, "frames"),
            .busy_cycles = field_count(worker, "busy_cycles"),
            .empty_cycles = field_count(worker, "empty_cycles"),
            .cycles = field_count(worker, "cycles"),
            .sleeps = field_count(worker, "sleeps"),
            .sources = field_count(worker, "sources"),
            .sampled_loops = field_count(worker, "sampled.loops"),
            .sampled_frames = field_count(worker, "sampled.frames"),
        };
        add_stages(&stats->workers[stats->worker_count - 1], field_get(worker, "stages"));
    }
}

void stats_add_queues(struct stats *stats, const json_t *counters)
{
    for (size_t i = 0; i < field_size(counters, "queues"); i++) {
        const json_t *queue = field_item(counters, "queues", i);
        struct stats_queue *added;
        stats->queues = grown(stats->queues, stats->queue_count, sizeof(*stats->queues));
        added = &stats->queues[stats->queue_count++];
        *added = (struct stats_queue){
            .queue = field_count(queue, "queue"),
            .worker = field_count(queue, "worker"),
            .frames = field_count(queue, "received.frames"),
            .bytes = field_count(queue, "received.bytes"),
            .busy_cycles = field_count(queue, "busy_cycles"),
        };
        strlcpy(added->vif, field_text(queue, "vif", "?"), sizeof(added->vif));
    }
}

static char *own_text(const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL)
        errx(EXIT_REFUSED, "out of memory");
    return copy;
}

static void *own_array(const void *array, size_t count, size_t size)
{
    void *copy = calloc(count + 1, size);
    if (copy == NULL)
        errx(EXIT_REFUSED, "out of memory");
    if (count > 0)
        memcpy(copy, array, count * size);
    return copy;
}

void stats_own(struct stats *stats)
{
    stats->rows = own_array(stats->rows, stats->row_count, sizeof(*stats->rows));
    stats->workers = own_array(stats->workers, stats->worker_count, sizeof(*stats->workers));
    stats->queues = own_array(stats->queues, stats->queue_count, sizeof(*stats->queues));
    for (size_t i = 0; i < stats->row_count; i++) {
        struct stats_row *row = &stats->rows[i];
        row->name = own_text(row->name);
        row->uid = own_text(row->uid);
        row->reasons = own_text(row->reasons);
    }
}

void stats_disown(struct stats *stats)
{
    for (size_t i = 0; i < stats->row_count; i++) {
        struct stats_row *row = &stats->rows[i];
        free((char *)row->name);
        free((char *)row->uid);
        free((char *)row->reasons);
    }
    free(stats->rows);
    free(stats->workers);
    free(stats->queues);
    *stats = (struct stats){0};
}
