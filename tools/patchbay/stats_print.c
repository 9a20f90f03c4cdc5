// SPDX-License-Identifier: BSD-3-Clause
#include "stats.h"

#include "output.h"
#include "text.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

enum { COLUMN_NAME, COLUMN_IN, COLUMN_IN_BYTES, COLUMN_OUT, COLUMN_OUT_BYTES, COLUMN_DROPPED, COLUMN_REASONS };

struct rates {
    double in_frames, in_bits, out_frames, out_bits, dropped;
};

uint64_t stats_grown_by(uint64_t now, uint64_t before)
{
    return now >= before ? now - before : now;
}

static const struct stats_row *find_row(const struct stats *stats, const struct stats_row *like, size_t at)
{
    // Rows keep their places unless something was added or removed.
    for (size_t i = 0; i < stats->row_count; i++) {
        const struct stats_row *row = &stats->rows[(at + i) % stats->row_count];
        if (row->depth == like->depth && strcmp(row->name, like->name) == 0 && strcmp(row->uid, like->uid) == 0)
            return row;
    }
    return NULL;
}

// Returns false for a row that wasn't there before.
static bool rates_of(const struct stats *now, const struct stats *before, size_t at, struct rates *rates)
{
    const struct stats_row *row = &now->rows[at];
    const struct stats_row *was = find_row(before, row, at);
    double seconds = now->at_s - before->at_s;
    if (was == NULL || seconds <= 0)
        return false;
    rates->in_frames = (double)stats_grown_by(row->in_frames, was->in_frames) / seconds;
    rates->in_bits = (double)stats_grown_by(row->in_bytes, was->in_bytes) / seconds * 8;
    rates->out_frames = (double)stats_grown_by(row->out_frames, was->out_frames) / seconds;
    rates->out_bits = (double)stats_grown_by(row->out_bytes, was->out_bytes) / seconds * 8;
    rates->dropped = (double)stats_grown_by(row->dropped, was->dropped) / seconds;
    return true;
}

static void set_rates(struct libscols_line *line, const struct stats_row *row, const struct rates *rates)
{
    output_cell(line, COLUMN_IN, text_rate(rates->in_frames, "fps"), NULL);
    output_cell(line, COLUMN_IN_BYTES, row->in_has_bytes ? text_rate(rates->in_bits, "bit/s") : "", NULL);
    output_cell(line, COLUMN_OUT, text_rate(rates->out_frames, "fps"), NULL);
    output_cell(line, COLUMN_OUT_BYTES, text_rate(rates->out_bits, "bit/s"), NULL);
    output_cell(line, COLUMN_DROPPED, text_rate(rates->dropped, "fps"), rates->dropped > 0 ? "red" : NULL);
}

static void set_sums(struct libscols_line *line, const struct stats_row *row)
{
    output_cell(line, COLUMN_IN, text_count(row->in_frames), NULL);
    output_cell(line, COLUMN_IN_BYTES, row->in_has_bytes ? text_bytes(row->in_bytes) : "", NULL);
    output_cell(line, COLUMN_OUT, text_count(row->out_frames), NULL);
    output_cell(line, COLUMN_OUT_BYTES, text_bytes(row->out_bytes), NULL);
    output_cell(line, COLUMN_DROPPED, text_count(row->dropped), NULL);
}

static void print_rows(const struct stats *now, const struct stats *before)
{
    static const struct output_column sums[] = {
        {"", SCOLS_FL_TREE},     {"IN", SCOLS_FL_RIGHT},    {"BYTES", SCOLS_FL_RIGHT},
        {"OUT", SCOLS_FL_RIGHT}, {"BYTES", SCOLS_FL_RIGHT}, {"DROPPED", SCOLS_FL_RIGHT},
        {"REASONS", 0}};
    static const struct output_column rates[] = {
        {"", SCOLS_FL_TREE},  {"IN", SCOLS_FL_RIGHT},      {"", SCOLS_FL_RIGHT}, {"OUT", SCOLS_FL_RIGHT},
        {"", SCOLS_FL_RIGHT}, {"DROPPED", SCOLS_FL_RIGHT}, {"DROPS IN ALL", 0}};
    struct libscols_table *table = output_table(before == NULL ? sums : rates, sizeof(sums) / sizeof(*sums));
    struct libscols_line *parent = NULL;
    for (size_t i = 0; i < now->row_count; i++) {
        const struct stats_row *row = &now->rows[i];
        struct libscols_line *line = output_line(table, row->depth > 0 ? parent : NULL);
        struct rates found;
        if (row->depth == 0)
            parent = line;
        output_cell(line, COLUMN_NAME, row->name, NULL);
        if (before == NULL)
            set_sums(line, row);
        else if (rates_of(now, before, i, &found))
            set_rates(line, row, &found);
        output_cell(line, COLUMN_REASONS, row->reasons, NULL);
    }
    output_print_table(table);
}

void stats_print_workers(const struct stats *now, const struct stats *before)
{
    static const struct output_column columns[] = {{"WORKER", 0},
                                                   {"CORE", SCOLS_FL_RIGHT},
                                                   {"BUSY", SCOLS_FL_RIGHT},
                                                   {"FRAMES", SCOLS_FL_RIGHT},
                                                   {"CYCLES A FRAME", SCOLS_FL_RIGHT},
                                                   {"SOURCES", SCOLS_FL_RIGHT}};
    struct libscols_table *table = output_table(columns, sizeof(columns) / sizeof(*columns));
    for (size_t i = 0; i < now->worker_count; i++) {
        const struct stats_worker *worker = &now->workers[i];
        const struct stats_worker *was = before != NULL && i < before->worker_count ? &before->workers[i] : NULL;
        uint64_t frames = stats_grown_by(worker->frames, was == NULL ? 0 : was->frames);
        uint64_t busy = stats_grown_by(worker->busy_cycles, was == NULL ? 0 : was->busy_cycles);
        uint64_t cycles = stats_grown_by(worker->cycles, was == NULL ? 0 : was->cycles);
        double seconds = was == NULL ? 0 : now->at_s - before->at_s;
        struct libscols_line *line = output_line(table, NULL);
        output_cell(line, 0, text_format("%llu", (unsigned long long)worker->worker), NULL);
        output_cell(line, 1, text_format("%llu", (unsigned long long)worker->core), NULL);
        output_cell(line, 2, cycles == 0 ? "" : text_format("%.1f %%", 100.0 * (double)busy / (double)cycles), NULL);
        output_cell(line, 3, seconds > 0 ? text_rate((double)frames / seconds, "fps") : text_count(frames), NULL);
        output_cell(line, 4, frames == 0 ? "" : text_format("%.0f", (double)busy / (double)frames), NULL);
        output_cell(line, 5, text_count(worker->sources), NULL);
    }
    output_print_table(table);
}

void stats_print(const struct stats *now, const struct stats *before)
{
    if (now->row_count > 0)
        print_rows(now, before);
    else
        printf("no wires yet; `patchbay wire add NAME A B` makes one\n");
    if (now->worker_count > 0) {
        printf("\n");
        stats_print_workers(now, before);
    }
}

const char *stats_clock(void)
{
    char clock[16] = "";
    time_t seconds = time(NULL);
    struct tm local;
    if (localtime_r(&seconds, &local) != NULL)
        strftime(clock, sizeof(clock), "%H:%M:%S", &local);
    return text_format("%s", clock);
}

void stats_print_lines(const struct stats *now, const struct stats *before)
{
    const char *clock = stats_clock();
    for (size_t i = 0; i < now->row_count; i++) {
        const struct stats_row *row = &now->rows[i];
        struct rates rates;
        if (row->depth > 0 || !rates_of(now, before, i, &rates))
            continue;
        const char *in_bits = row->in_has_bytes ? text_format(" %s", text_rate(rates.in_bits, "bit/s")) : "";
        printf("%s  %s  in %s%s  out %s %s  dropped %s%s%s\n", clock, text_clean(row->name),
               text_rate(rates.in_frames, "fps"), in_bits, text_rate(rates.out_frames, "fps"),
               text_rate(rates.out_bits, "bit/s"), text_rate(rates.dropped, "fps"),
               *row->reasons == '\0' ? "" : "; in all: ", text_clean(row->reasons));
    }
}
