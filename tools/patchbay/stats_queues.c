// SPDX-License-Identifier: BSD-3-Clause

// stats --queues: which worker polls which queue, and how much of its time that takes.

#include "stats.h"

#include "output.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

enum { COLUMN_VIF, COLUMN_QUEUE, COLUMN_WORKER, COLUMN_LOAD, COLUMN_FRAMES, COLUMN_BYTES };

// A queue over an interval, or since the daemon's start.
struct span {
    double seconds; // 0: since the start
    double frames, bits;
    const char *load; // of its worker's time
};

static const struct stats_queue *find_queue(const struct stats *stats, const struct stats_queue *like, size_t at)
{
    // Queues keep their places unless a vif came or went.
    for (size_t i = 0; i < stats->queue_count; i++) {
        const struct stats_queue *queue = &stats->queues[(at + i) % stats->queue_count];
        if (queue->queue == like->queue && strcmp(queue->vif, like->vif) == 0)
            return queue;
    }
    return NULL;
}

// Cycles that went by; all workers count the same ones.
static uint64_t cycles_between(const struct stats *now, const struct stats *before)
{
    if (now->worker_count == 0)
        return 0;
    return stats_grown_by(now->workers[0].cycles,
                          before != NULL && before->worker_count > 0 ? before->workers[0].cycles : 0);
}

static struct span span_of(const struct stats *now, const struct stats *before, size_t i)
{
    static const struct stats_queue nothing;
    const struct stats_queue *queue = &now->queues[i];
    const struct stats_queue *was = before != NULL ? find_queue(before, queue, i) : NULL;
    uint64_t cycles = cycles_between(now, was != NULL ? before : NULL);
    struct span span = {.seconds = was != NULL ? now->at_s - before->at_s : 0};
    if (was == NULL)
        was = &nothing;
    span.frames = (double)stats_grown_by(queue->frames, was->frames);
    span.bits = (double)stats_grown_by(queue->bytes, was->bytes) * 8;
    // An estimate by samples: now and then a little more than all.
    double share =
        cycles == 0 ? 0 : 100.0 * (double)stats_grown_by(queue->busy_cycles, was->busy_cycles) / (double)cycles;
    span.load = text_format("%.1f %%", share > 100 ? 100.0 : share);
    if (span.seconds > 0) {
        span.frames /= span.seconds;
        span.bits /= span.seconds;
    }
    return span;
}

void stats_print_queues(const struct stats *now, const struct stats *before)
{
    static const struct output_column columns[] = {
        {"VIF", 0},
        {"QUEUE", SCOLS_FL_RIGHT},
        {"WORKER", SCOLS_FL_RIGHT},
        {"LOAD", SCOLS_FL_RIGHT},
        {"RECEIVED", SCOLS_FL_RIGHT},
        {"BYTES", SCOLS_FL_RIGHT},
    };
    struct libscols_table *table = output_table(columns, sizeof(columns) / sizeof(*columns));
    for (size_t i = 0; i < now->queue_count; i++) {
        const struct stats_queue *queue = &now->queues[i];
        struct span span = span_of(now, before, i);
        struct libscols_line *line = output_line(table, NULL);
        output_cell(line, COLUMN_VIF, text_clean(queue->vif), NULL);
        output_cell(line, COLUMN_QUEUE, text_format("%llu", (unsigned long long)queue->queue), NULL);
        output_cell(line, COLUMN_WORKER, text_format("%llu", (unsigned long long)queue->worker), NULL);
        output_cell(line, COLUMN_LOAD, span.load, NULL);
        output_cell(line, COLUMN_FRAMES, span.seconds > 0 ? text_rate(span.frames, "fps") : text_count(queue->frames),
                    NULL);
        output_cell(line, COLUMN_BYTES, span.seconds > 0 ? text_rate(span.bits, "bit/s") : text_bytes(queue->bytes),
                    NULL);
    }
    if (now->queue_count > 0)
        output_print_table(table);
    else
        printf("no queues yet\n");
    printf("\n");
    stats_print_workers(now, before);
}

void stats_print_queues_lines(const struct stats *now, const struct stats *before)
{
    for (size_t i = 0; i < now->queue_count; i++) {
        const struct stats_queue *queue = &now->queues[i];
        struct span span = span_of(now, before, i);
        printf("%s  %s queue %llu  worker %llu, %s of it  %s %s\n", stats_clock(), text_clean(queue->vif),
               (unsigned long long)queue->queue, (unsigned long long)queue->worker, span.load,
               text_rate(span.frames, "fps"), text_rate(span.bits, "bit/s"));
    }
}
