// SPDX-License-Identifier: BSD-3-Clause

// stats --cycles: where the workers' cycles go.

#include "stats.h"

#include "output.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

enum { COLUMN_STAGE, COLUMN_CYCLES, COLUMN_SHARE, COLUMN_PASSED };

// A worker over an interval, or since its start.
struct span {
    double seconds; // 0: since its start
    uint64_t loops, frames, busy, empty, cycles;
    uint64_t sampled_loops, sampled_frames, stage_cycles;
    size_t stage_count;
    struct stats_stage stages[STATS_STAGES_MAX];
};

static const struct stats_worker nothing;

static const struct stats_stage *find_stage(const struct stats_worker *worker, const char *name)
{
    static const struct stats_stage none;
    for (size_t i = 0; i < worker->stage_count; i++)
        if (strcmp(worker->stages[i].name, name) == 0)
            return &worker->stages[i];
    return &none;
}

static struct span span_of(const struct stats *now, const struct stats *before, size_t i)
{
    const struct stats_worker *worker = &now->workers[i];
    bool known = before != NULL && i < before->worker_count;
    const struct stats_worker *was = known ? &before->workers[i] : &nothing;
    struct span span = {
        .seconds = known ? now->at_s - before->at_s : 0,
        .loops = stats_grown_by(worker->loops, was->loops),
        .frames = stats_grown_by(worker->frames, was->frames),
        .busy = stats_grown_by(worker->busy_cycles, was->busy_cycles),
        .empty = stats_grown_by(worker->empty_cycles, was->empty_cycles),
        .cycles = stats_grown_by(worker->cycles, was->cycles),
        .sampled_loops = stats_grown_by(worker->sampled_loops, was->sampled_loops),
        .sampled_frames = stats_grown_by(worker->sampled_frames, was->sampled_frames),
        .stage_count = worker->stage_count,
    };
    for (size_t j = 0; j < span.stage_count; j++) {
        const struct stats_stage *stage = &worker->stages[j], *earlier = find_stage(was, stage->name);
        span.stages[j] = *stage;
        span.stages[j].cycles = stats_grown_by(stage->cycles, earlier->cycles);
        span.stages[j].frames = stats_grown_by(stage->frames, earlier->frames);
        span.stage_cycles += span.stages[j].cycles;
    }
    return span;
}

static const char *percent(uint64_t part, uint64_t whole)
{
    // The parts of a moment are read one after the other: never more than all.
    double share = whole == 0 ? 0 : 100.0 * (double)part / (double)whole;
    return text_format("%.1f %%", share > 100 ? 100.0 : share);
}

static const char *each(uint64_t cycles, uint64_t frames)
{
    return text_format("%.1f", (double)cycles / (double)frames);
}

// "busy 97.3 %, empty polls 2.7 %, asleep 0.0 %"
static const char *describe_time(const struct span *span)
{
    uint64_t awake = span->busy + span->empty;
    uint64_t asleep = span->cycles > awake ? span->cycles - awake : 0;
    return text_format("busy %s, empty polls %s, asleep %s", percent(span->busy, span->cycles),
                       percent(span->empty, span->cycles), percent(asleep, span->cycles));
}

static const char *describe_frames(const struct span *span)
{
    const char *count = span->seconds > 0 ? text_rate((double)span->frames / span->seconds, "fps")
                                          : text_format("%s frames", text_count(span->frames));
    if (span->frames == 0)
        return count;
    return text_format("%s, %s cycles a frame", count, each(span->busy, span->frames));
}

static void print_stages(const struct span *span)
{
    static const struct output_column columns[] = {
        {"STAGE", 0}, {"CYCLES A FRAME", SCOLS_FL_RIGHT}, {"SHARE", SCOLS_FL_RIGHT}, {"FRAMES", SCOLS_FL_RIGHT}};
    struct libscols_table *table = output_table(columns, sizeof(columns) / sizeof(*columns));
    struct libscols_line *line;
    for (size_t i = 0; i < span->stage_count; i++) {
        const struct stats_stage *stage = &span->stages[i];
        if (stage->cycles == 0)
            continue;
        line = output_line(table, NULL);
        output_cell(line, COLUMN_STAGE, text_clean(stage->name), NULL);
        output_cell(line, COLUMN_CYCLES, each(stage->cycles, span->sampled_frames), NULL);
        output_cell(line, COLUMN_SHARE, percent(stage->cycles, span->stage_cycles), NULL);
        output_cell(line, COLUMN_PASSED, stage->frames == 0 ? "" : percent(stage->frames, span->sampled_frames), NULL);
    }
    line = output_line(table, NULL);
    output_cell(line, COLUMN_STAGE, "all", NULL);
    output_cell(line, COLUMN_CYCLES, each(span->stage_cycles, span->sampled_frames), NULL);
    output_cell(line, COLUMN_SHARE, "100.0 %", NULL);
    output_print_table(table);
    printf("measured: %s of %s loops\n", text_count(span->sampled_loops), text_count(span->loops));
}

void stats_print_cycles(const struct stats *now, const struct stats *before)
{
    for (size_t i = 0; i < now->worker_count; i++) {
        const struct stats_worker *worker = &now->workers[i];
        struct span span = span_of(now, before, i);
        printf("%sworker %llu on core %llu: %s; %s\n", i == 0 ? "" : "\n", (unsigned long long)worker->worker,
               (unsigned long long)worker->core, describe_frames(&span), describe_time(&span));
        if (span.sampled_frames == 0)
            printf("no loop with frames was measured yet\n");
        else
            print_stages(&span);
    }
}

void stats_print_cycles_lines(const struct stats *now, const struct stats *before)
{
    for (size_t i = 0; i < now->worker_count; i++) {
        struct span span = span_of(now, before, i);
        const char *stages = "";
        for (size_t j = 0; j < span.stage_count && span.sampled_frames > 0; j++)
            if (span.stages[j].cycles > 0)
                stages = text_format("%s%s %s %s", stages, *stages == '\0' ? ":" : ",", text_clean(span.stages[j].name),
                                     each(span.stages[j].cycles, span.sampled_frames));
        printf("%s  worker %llu  %s%s; %s\n", stats_clock(), (unsigned long long)now->workers[i].worker,
               describe_frames(&span), stages, describe_time(&span));
    }
}
