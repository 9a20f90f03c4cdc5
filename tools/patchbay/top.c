// SPDX-License-Identifier: BSD-3-Clause

// top: the busiest wires and the workers, again and again. All wires of all
// networks come with one request, of the metrics.

#include "command.h"
#include "field.h"
#include "output.h"
#include "stats.h"
#include "text.h"
#include "verbs.h"

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { SILENCE_S = 30, WORKERS_MAX = 256, ROWS_WITHOUT_TERMINAL = 20 };

enum { A_TO_B, B_TO_A };

struct top_wire {
    char uid[40];
    char network[64], name[64];
    bool up;
    uint64_t frames[2], bytes[2], dropped;
    // A second, since the sample before; negative: it wasn't there.
    double fps[2], bps, drops;
};

struct top_worker {
    char worker[16], core[16];
    double busy_s, frames; // sums
    double busy, fps;      // share, and a second
};

struct top_sample {
    double at_s;
    struct top_wire *wires; // in order of uid once they are all there
    size_t wire_count, wire_room;
    struct top_worker workers[WORKERS_MAX];
    size_t worker_count;
};

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// ---- a sample ----

// The value of one label of a sample's line; "" if it has none. Names need no escapes.
static void read_label(const char *line, const char *label, char *value, size_t size)
{
    size_t len = strlen(label);
    value[0] = '\0';
    for (const char *at = strchr(line, '{'); at != NULL && *at != '}'; at = strchr(at + 1, ',')) {
        if (strncmp(at + 1, label, len) != 0 || strncmp(at + 1 + len, "=\"", 2) != 0)
            continue;
        const char *text = at + 1 + len + 2;
        size_t text_len = strcspn(text, "\"");
        strlcpy(value, text, text_len + 1 < size ? text_len + 1 : size);
        return;
    }
}

static bool is_metric(const char *line, const char *name)
{
    size_t len = strlen(name);
    return strncmp(line, name, len) == 0 && line[len] == '{';
}

static struct top_wire *add_wire(struct top_sample *sample)
{
    if (sample->wire_count == sample->wire_room) {
        sample->wire_room = sample->wire_room == 0 ? 64 : 2 * sample->wire_room;
        sample->wires = reallocarray(sample->wires, sample->wire_room, sizeof(*sample->wires));
        if (sample->wires == NULL)
            errx(EXIT_REFUSED, "out of memory");
    }
    struct top_wire *wire = &sample->wires[sample->wire_count++];
    *wire = (struct top_wire){.drops = -1};
    return wire;
}

// The wire that a line is about: each family has them in the order of the first, wire_up.
static struct top_wire *find_wire(struct top_sample *sample, const char *line, size_t *at)
{
    char uid[40];
    read_label(line, "uid", uid, sizeof(uid));
    for (size_t i = 0; i < sample->wire_count; i++) {
        struct top_wire *wire = &sample->wires[(*at + i) % sample->wire_count];
        if (strcmp(wire->uid, uid) != 0)
            continue;
        *at = (*at + i) % sample->wire_count;
        return wire;
    }
    return NULL;
}

static struct top_worker *find_worker(struct top_sample *sample, const char *line)
{
    char worker[16];
    read_label(line, "worker", worker, sizeof(worker));
    for (size_t i = 0; i < sample->worker_count; i++)
        if (strcmp(sample->workers[i].worker, worker) == 0)
            return &sample->workers[i];
    if (sample->worker_count == WORKERS_MAX)
        return NULL;
    struct top_worker *added = &sample->workers[sample->worker_count++];
    strlcpy(added->worker, worker, sizeof(added->worker));
    read_label(line, "core", added->core, sizeof(added->core));
    return added;
}

struct reading {
    struct top_sample *sample;
    size_t at;
};

static bool take_line(void *context, const char *line)
{
    struct reading *reading = context;
    struct top_sample *sample = reading->sample;
    const char *space = strrchr(line, ' ');
    if (line[0] == '#' || space == NULL)
        return true;
    uint64_t value = strtoull(space + 1, NULL, 10);
    struct top_wire *wire;
    struct top_worker *worker;
    char label[16];
    if (is_metric(line, "patchbay_wire_up")) {
        wire = add_wire(sample);
        read_label(line, "uid", wire->uid, sizeof(wire->uid));
        read_label(line, "network", wire->network, sizeof(wire->network));
        read_label(line, "wire", wire->name, sizeof(wire->name));
        wire->up = value != 0;
        return true;
    }
    bool frames = is_metric(line, "patchbay_wire_frames_total");
    bool bytes = is_metric(line, "patchbay_wire_bytes_total");
    bool drops = is_metric(line, "patchbay_wire_dropped_frames_total");
    if ((frames || bytes || drops) && (wire = find_wire(sample, line, &reading->at)) != NULL) {
        read_label(line, "direction", label, sizeof(label));
        int direction = strcmp(label, "b_to_a") == 0 ? B_TO_A : A_TO_B;
        if (drops)
            wire->dropped += value;
        else
            (frames ? wire->frames : wire->bytes)[direction] = value;
    } else if (is_metric(line, "patchbay_worker_seconds_total") && (worker = find_worker(sample, line)) != NULL) {
        read_label(line, "state", label, sizeof(label));
        if (strcmp(label, "busy") == 0)
            worker->busy_s = strtod(space + 1, NULL);
    } else if (is_metric(line, "patchbay_worker_frames_total") && (worker = find_worker(sample, line)) != NULL) {
        worker->frames = (double)value;
    }
    return true;
}

static int by_uid(const void *one, const void *other)
{
    return strcmp(((const struct top_wire *)one)->uid, ((const struct top_wire *)other)->uid);
}

static int take_sample(struct call *call, struct top_sample *sample)
{
    struct reading reading = {.sample = sample};
    struct reply reply = {0};
    *sample = (struct top_sample){0};
    int code = client_follow(&call->client, "/metrics", SILENCE_S, take_line, &reading, &reply);
    if (code == EXIT_DONE && reply.status != 200)
        code = client_refused(&call->client, &reply);
    client_clear(&reply);
    sample->at_s = now_s();
    if (sample->wire_count > 0)
        qsort(sample->wires, sample->wire_count, sizeof(*sample->wires), by_uid);
    return code;
}

static void compare(struct top_sample *now, const struct top_sample *before)
{
    double seconds = now->at_s - before->at_s;
    for (size_t i = 0; i < now->wire_count && before->wire_count > 0 && seconds > 0; i++) {
        struct top_wire *wire = &now->wires[i];
        const struct top_wire *was = bsearch(wire, before->wires, before->wire_count, sizeof(*before->wires), by_uid);
        if (was == NULL)
            continue;
        for (int way = 0; way < 2; way++) {
            wire->fps[way] = (double)stats_grown_by(wire->frames[way], was->frames[way]) / seconds;
            wire->bps += 8 * (double)stats_grown_by(wire->bytes[way], was->bytes[way]) / seconds;
        }
        wire->drops = (double)stats_grown_by(wire->dropped, was->dropped) / seconds;
    }
    for (size_t i = 0; i < now->worker_count && i < before->worker_count && seconds > 0; i++) {
        struct top_worker *worker = &now->workers[i];
        // The daemon was restarted meanwhile: from 0.
        bool anew = worker->busy_s < before->workers[i].busy_s;
        worker->busy = (worker->busy_s - (anew ? 0 : before->workers[i].busy_s)) / seconds;
        worker->fps = (worker->frames - (anew ? 0 : before->workers[i].frames)) / seconds;
    }
}

// ---- order ----

static double frames_of(const struct top_wire *wire)
{
    return wire->fps[A_TO_B] + wire->fps[B_TO_A];
}

static int by_name(const void *one, const void *other)
{
    const struct top_wire *a = one, *b = other;
    int order = strcmp(a->network, b->network);
    return order != 0 ? order : strcmp(a->name, b->name);
}

// The largest first; those alike by name.
static int by_number(double a, double b, const void *one, const void *other)
{
    return a > b ? -1 : a < b ? 1 : by_name(one, other);
}

static int by_frames(const void *one, const void *other)
{
    return by_number(frames_of(one), frames_of(other), one, other);
}

static int by_bits(const void *one, const void *other)
{
    return by_number(((const struct top_wire *)one)->bps, ((const struct top_wire *)other)->bps, one, other);
}

static int by_drops(const void *one, const void *other)
{
    return by_number(((const struct top_wire *)one)->drops, ((const struct top_wire *)other)->drops, one, other);
}

static int (*order_of(const struct call *call))(const void *, const void *)
{
    const char *key = command_option(call, "sort");
    if (key == NULL || strcmp(key, "frames") == 0)
        return by_frames;
    return strcmp(key, "bits") == 0 ? by_bits : strcmp(key, "drops") == 0 ? by_drops : by_name;
}

// ---- printing ----

static void print_json(const struct top_sample *now, const struct top_wire *wires, size_t count, double seconds)
{
    json_t *shown = field_object(), *list = json_array(), *workers = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list,
                              json_pack("{ss ss ss sb sf sf sf sf}", "network", wires[i].network, "wire", wires[i].name,
                                        "uid", wires[i].uid, "up", wires[i].up, "a_to_b_fps", wires[i].fps[A_TO_B],
                                        "b_to_a_fps", wires[i].fps[B_TO_A], "bits_per_second", wires[i].bps,
                                        "drops_per_second", wires[i].drops < 0 ? 0 : wires[i].drops));
    for (size_t i = 0; i < now->worker_count; i++)
        json_array_append_new(workers, json_pack("{sI sI sf sf}", "worker", (json_int_t)atoll(now->workers[i].worker),
                                                 "core", (json_int_t)atoll(now->workers[i].core), "busy",
                                                 now->workers[i].busy, "fps", now->workers[i].fps));
    field_set(shown, "seconds", json_real(seconds));
    field_set(shown, "wires", list);
    field_set(shown, "workers", workers);
    output_json(shown);
    json_decref(shown);
}

static void print_tables(const struct top_sample *now, const struct top_wire *wires, size_t count)
{
    static const struct output_column columns[] = {{"WIRE", 0},
                                                   {"STATE", 0},
                                                   {"A TO B", SCOLS_FL_RIGHT},
                                                   {"B TO A", SCOLS_FL_RIGHT},
                                                   {"BITS", SCOLS_FL_RIGHT},
                                                   {"DROPPED", SCOLS_FL_RIGHT}};
    static const struct output_column worker_columns[] = {
        {"WORKER", 0}, {"CORE", SCOLS_FL_RIGHT}, {"BUSY", SCOLS_FL_RIGHT}, {"FRAMES", SCOLS_FL_RIGHT}};
    struct libscols_table *table = output_table(worker_columns, 4);
    for (size_t i = 0; i < now->worker_count; i++) {
        const struct top_worker *worker = &now->workers[i];
        struct libscols_line *line = output_line(table, NULL);
        output_cell(line, 0, text_clean(worker->worker), NULL);
        output_cell(line, 1, text_clean(worker->core), NULL);
        output_cell(line, 2, text_format("%.1f %%", 100 * worker->busy), worker->busy > 0.9 ? "red" : NULL);
        output_cell(line, 3, text_rate(worker->fps, "fps"), NULL);
    }
    output_print_table(table);
    printf("\n");
    table = output_table(columns, sizeof(columns) / sizeof(*columns));
    for (size_t i = 0; i < count; i++) {
        const struct top_wire *wire = &wires[i];
        const char *state = wire->up ? "up" : "down";
        struct libscols_line *line = output_line(table, NULL);
        output_cell(line, 0, text_format("%s/%s", text_clean(wire->network), text_clean(wire->name)), NULL);
        output_cell(line, 1, state, output_state_color(state));
        if (wire->drops < 0) // it wasn't there before
            continue;
        output_cell(line, 2, text_rate(wire->fps[A_TO_B], "fps"), NULL);
        output_cell(line, 3, text_rate(wire->fps[B_TO_A], "fps"), NULL);
        output_cell(line, 4, text_rate(wire->bps, "bit/s"), NULL);
        output_cell(line, 5, text_rate(wire->drops, "fps"), wire->drops > 0 ? "red" : NULL);
    }
    output_print_table(table);
    if (count < now->wire_count)
        printf("and %zu more wires\n", now->wire_count - count);
}

// What fits beside the workers.
static size_t rows_that_fit(const struct top_sample *now)
{
    struct winsize window = {0};
    size_t others = now->worker_count + 5;
    if (!output.terminal || ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_row == 0)
        return ROWS_WITHOUT_TERMINAL;
    return window.ws_row > others + 3 ? window.ws_row - others : 3;
}

static void print_sample(struct call *call, const struct top_sample *now, double seconds, long long rows)
{
    struct top_wire *sorted = text_keep(calloc(now->wire_count + 1, sizeof(*sorted)));
    size_t limit = rows > 0 ? (size_t)rows : call->json ? now->wire_count : rows_that_fit(now);
    size_t count = now->wire_count < limit ? now->wire_count : limit;
    if (now->wire_count > 0) {
        memcpy(sorted, now->wires, now->wire_count * sizeof(*sorted));
        qsort(sorted, now->wire_count, sizeof(*sorted), order_of(call));
    }
    if (call->json) {
        print_json(now, sorted, count, seconds);
        return;
    }
    // Home, and clear all, as stats --watch does.
    if (output.terminal && !command_has(call, "once"))
        printf("\033[H\033[2J");
    printf("%s  %zu wires\n\n", stats_clock(), now->wire_count);
    print_tables(now, sorted, count);
    if (!output.terminal)
        printf("\n");
}

static void sleep_s(double seconds)
{
    struct timespec rest = {.tv_sec = (time_t)seconds};
    rest.tv_nsec = (long)((seconds - (double)rest.tv_sec) * 1e9);
    while (nanosleep(&rest, &rest) != 0 && errno == EINTR)
        continue;
}

int top_run(struct call *call)
{
    const char *interval = command_option(call, "interval"), *rows_text = command_option(call, "rows");
    struct top_sample before, now;
    double seconds = 1;
    long long rows = 0;
    if (interval != NULL) {
        char *end;
        seconds = strtod(interval, &end);
        if (end == interval || *end != '\0' || !(seconds >= 0.01 && seconds <= 86400))
            return command_misused(call->command, "--interval takes seconds, from 0.01 to 86400, not \"%s\"",
                                   text_clean(interval));
    }
    if (rows_text != NULL && command_number(call->command, "--rows", rows_text, 1, 1000000, &rows) != EXIT_DONE)
        return EXIT_USAGE;
    int code = take_sample(call, &before);
    while (code == EXIT_DONE) {
        size_t mark = text_mark();
        sleep_s(seconds);
        code = take_sample(call, &now);
        if (code == EXIT_DONE) {
            compare(&now, &before);
            print_sample(call, &now, now.at_s - before.at_s, rows);
        }
        free(before.wires);
        before = now;
        text_release(mark);
        // output_finish tells of what could not be written.
        if (command_has(call, "once") || fflush(stdout) != 0)
            break;
    }
    free(before.wires);
    return code;
}
