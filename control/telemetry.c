// SPDX-License-Identifier: BSD-3-Clause
#include "telemetry.h"

#include "control.h"
#include "loop.h"
#include "metrics_snapshot.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <time.h>
#include <unistd.h>

// The library's answers have 16 KiB at most.
enum { NAMES_MAX = 100, PATIENCE_S = 1 };

// Lies on the stack of the thread that waits, which takes it out of the list if nobody did.
struct request {
    TAILQ_ENTRY(request) entry;
    int (*answer)(const char *parameters, struct telemetry_reply *reply);
    const char *parameters;
    struct telemetry_reply *reply;
    int result;
    bool done;
};

static TAILQ_HEAD(, request) requests = TAILQ_HEAD_INITIALIZER(requests);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // of the list and what is in it
static pthread_cond_t answered = PTHREAD_COND_INITIALIZER;
static bool running;
static struct watcher watcher = {.fd = -1};

// ---- the waiting side: threads of DPDK ----

static int ask(int (*answer)(const char *parameters, struct telemetry_reply *reply), const char *parameters,
               struct telemetry_reply *reply)
{
    struct request request = {.answer = answer, .parameters = parameters, .reply = reply, .result = -ETIMEDOUT};
    struct timespec until;
    uint64_t one = 1;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PATIENCE_S;
    pthread_mutex_lock(&lock);
    if (running) {
        TAILQ_INSERT_TAIL(&requests, &request, entry);
        if (write(watcher.fd, &one, sizeof(one)) != (ssize_t)sizeof(one))
            request.result = -EIO;
        while (!request.done)
            if (pthread_cond_clockwait(&answered, &lock, CLOCK_MONOTONIC, &until) != 0)
                break;
        if (!request.done)
            TAILQ_REMOVE(&requests, &request, entry);
    }
    pthread_mutex_unlock(&lock);
    return request.result;
}

// ---- the answering side: the control thread, with the lock held ----

static void add_number(struct telemetry_reply *reply, const char *name, uint64_t number)
{
    struct telemetry_field *field = &reply->fields[reply->count];

    if (reply->count == TELEMETRY_FIELDS_MAX)
        return;
    strlcpy(field->name, name, sizeof(field->name));
    field->number = number;
    reply->count++;
}

static void add_text(struct telemetry_reply *reply, const char *name, const char *text)
{
    struct telemetry_field *field = &reply->fields[reply->count];

    if (reply->count == TELEMETRY_FIELDS_MAX)
        return;
    strlcpy(field->name, name, sizeof(field->name));
    strlcpy(field->text, text, sizeof(field->text));
    field->is_text = true;
    reply->count++;
}

static void add_reasons(struct telemetry_reply *reply, const char *prefix, const char *const *keys,
                        const uint64_t *counts, size_t count)
{
    char name[TELEMETRY_NAME_SIZE];

    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "%s%s", prefix, keys[i]);
        if (counts[i] != 0)
            add_number(reply, name, counts[i]);
    }
}

#define KEY(symbol, key, help) key,
static const char *const drop_keys[] = {DROP_REASONS(KEY)};
static const char *const tap_drop_keys[] = {TAP_DROP_REASONS(KEY)};
static const char *const discard_keys[] = {VIF_DISCARD_REASONS(KEY)};
static const char *const stage_keys[] = {WORKER_STAGES(KEY)};

// "network/wire" cut at its slash. False: there is none.
static bool split(const char *text, char network[static LIMIT_NAME_LEN + 1], char name[static LIMIT_NAME_LEN + 1])
{
    const char *slash = strchr(text, '/');

    if (slash == NULL || slash - text > LIMIT_NAME_LEN)
        return false;
    memcpy(network, text, (size_t)(slash - text));
    network[slash - text] = '\0';
    return strlcpy(name, slash + 1, LIMIT_NAME_LEN + 1) <= LIMIT_NAME_LEN;
}

static int list(enum object_kind kind, const char *after, struct telemetry_reply *reply)
{
    char network[LIMIT_NAME_LEN + 1] = "", name[LIMIT_NAME_LEN + 1] = "";
    const struct object *object;

    if (after[0] != '\0' && kind == OBJECT_WIRE && !split(after, network, name))
        return -EINVAL;
    if (after[0] != '\0' && kind == OBJECT_VIF && strlcpy(name, after, sizeof(name)) >= sizeof(name))
        return -EINVAL;
    reply->is_list = true;
    object = after[0] == '\0' ? model_first(control.model, kind, NULL, "", false)
                              : model_after(control.model, kind, network, name);
    for (; object != NULL && reply->count < NAMES_MAX; object = model_next(object)) {
        char text[TELEMETRY_TEXT_SIZE];

        snprintf(text, sizeof(text), "%s%s%s", object->network, kind == OBJECT_WIRE ? "/" : "", object->name);
        add_text(reply, "", text);
    }
    return 0;
}

static int list_wires(const char *parameters, struct telemetry_reply *reply)
{
    return list(OBJECT_WIRE, parameters, reply);
}

static int list_vifs(const char *parameters, struct telemetry_reply *reply)
{
    return list(OBJECT_VIF, parameters, reply);
}

// Only where frames were segmented. prefix: at most 30 characters.
static void add_segmented(struct telemetry_reply *reply, const char *prefix, const struct segment_count *count)
{
    char name[TELEMETRY_NAME_SIZE];

    if (count->segments == 0)
        return;
    snprintf(name, sizeof(name), "%.30ssegmented_frames", prefix);
    add_number(reply, name, count->frames);
    snprintf(name, sizeof(name), "%.30ssegments", prefix);
    add_number(reply, name, count->segments);
}

static void add_direction(struct telemetry_reply *reply, const char *direction, const struct metrics_frames *frames)
{
    char name[TELEMETRY_NAME_SIZE];

    snprintf(name, sizeof(name), "%s_received_frames", direction);
    add_number(reply, name, frames->received);
    snprintf(name, sizeof(name), "%s_received_bytes", direction);
    add_number(reply, name, frames->received_bytes);
    snprintf(name, sizeof(name), "%s_frames", direction);
    add_number(reply, name, frames->delivered);
    snprintf(name, sizeof(name), "%s_bytes", direction);
    add_number(reply, name, frames->delivered_bytes);
    snprintf(name, sizeof(name), "%s_", direction);
    add_segmented(reply, name, &frames->segmented);
    snprintf(name, sizeof(name), "%s_dropped_", direction);
    add_reasons(reply, name, drop_keys, frames->dropped, DROP_REASON_COUNT);
}

static int show_wire(const char *parameters, struct telemetry_reply *reply)
{
    char network[LIMIT_NAME_LEN + 1], name[LIMIT_NAME_LEN + 1];
    struct metrics_snapshot snapshot = {0};
    const struct wire *wire = split(parameters, network, name) ? model_find_wire(control.model, network, name) : NULL;
    int error = wire != NULL ? metrics_snapshot_wire(&snapshot, wire) : -ENOENT;

    if (error == 0) {
        const struct metrics_wire *shown = &snapshot.wires.items[0];

        add_text(reply, "network", network);
        add_text(reply, "wire", name);
        add_text(reply, "uid", wire->object.uid);
        add_number(reply, "up", shown->up);
        add_direction(reply, "a_to_b", &shown->directions[LEG_A_TO_B]);
        add_direction(reply, "b_to_a", &shown->directions[LEG_B_TO_A]);
    }
    metrics_snapshot_free(&snapshot);
    return error;
}

static int list_tees(const char *parameters, struct telemetry_reply *reply)
{
    char network[LIMIT_NAME_LEN + 1], name[LIMIT_NAME_LEN + 1];
    const struct wire *wire = split(parameters, network, name) ? model_find_wire(control.model, network, name) : NULL;

    if (wire == NULL)
        return -ENOENT;
    reply->is_list = true;
    for (size_t i = 0; i < wire->tee_count; i++)
        add_text(reply, "", wire->tees[i].object.name);
    return 0;
}

static void add_tee(struct telemetry_reply *reply, const struct tee *tee, const struct metrics_tee *shown)
{
    add_text(reply, "name", tee->object.name);
    add_text(reply, "uid", tee->object.uid);
    add_text(reply, "mode", tee_mode_names[shown->mode]);
    add_number(reply, "up", shown->up);
    if (shown->mode == TEE_TAP) {
        add_number(reply, "offered", shown->sum.tap.offered);
        add_number(reply, "copied_frames", shown->sum.tap.copied.frames);
        add_number(reply, "copied_bytes", shown->sum.tap.copied.bytes);
        add_segmented(reply, "", &shown->sum.tap.segmented);
        add_reasons(reply, "dropped_", tap_drop_keys, shown->sum.tap.dropped, TAP_DROP_REASON_COUNT);
    }
    if (shown->mode == TEE_BUMP) {
        add_number(reply, "into_frames", shown->sum.into.frames);
        add_number(reply, "into_bytes", shown->sum.into.bytes);
        add_number(reply, "out_frames", shown->sum.out.frames);
        add_number(reply, "out_bytes", shown->sum.out.bytes);
        add_number(reply, "late", shown->sum.late);
    }
}

// Parameters: NETWORK/WIRE/TEE.
static int show_tee(const char *parameters, struct telemetry_reply *reply)
{
    char network[LIMIT_NAME_LEN + 1], name[LIMIT_NAME_LEN + 1], path[2 * LIMIT_NAME_LEN + 2];
    const char *last = strrchr(parameters, '/');
    struct metrics_snapshot snapshot = {0};
    const struct wire *wire;
    int error;

    if (last == NULL || (size_t)(last - parameters) >= sizeof(path))
        return -ENOENT;
    strlcpy(path, parameters, (size_t)(last - parameters) + 1);
    wire = split(path, network, name) ? model_find_wire(control.model, network, name) : NULL;
    if (wire == NULL)
        return -ENOENT;
    error = metrics_snapshot_wire(&snapshot, wire);
    if (error == 0)
        error = -ENOENT;
    // The snapshot has the Ts in the wire's order; without memory it may have fewer.
    for (size_t i = 0; i < wire->tee_count && i < snapshot.tees.count && error == -ENOENT; i++) {
        if (strcmp(wire->tees[i].object.name, last + 1) == 0) {
            add_tee(reply, &wire->tees[i], &snapshot.tees.items[i]);
            error = 0;
        }
    }
    metrics_snapshot_free(&snapshot);
    return error;
}

static int show_vif(const char *parameters, struct telemetry_reply *reply)
{
    const struct vif *vif = model_find_vif(control.model, parameters);
    struct metrics_snapshot snapshot = {0};
    int error = vif != NULL ? metrics_snapshot_vif(&snapshot, vif) : -ENOENT;

    if (error == 0) {
        const struct metrics_vif *shown = &snapshot.vifs.items[0];

        add_text(reply, "vif", vif->object.name);
        add_text(reply, "uid", vif->object.uid);
        add_number(reply, "up", shown->up);
        add_number(reply, "received_frames", shown->count.received.frames);
        add_number(reply, "received_bytes", shown->count.received.bytes);
        add_number(reply, "transmitted_frames", shown->count.transmitted.frames);
        add_number(reply, "transmitted_bytes", shown->count.transmitted.bytes);
        add_number(reply, "rx_missed", shown->count.rx_missed);
        add_number(reply, "rx_errors", shown->count.rx_errors);
        add_number(reply, "notified", shown->count.notified);
        add_number(reply, "announced", shown->count.announced);
        add_number(reply, "reconnects", shown->count.reconnects);
        add_number(reply, "pauses", shown->count.pauses);
        add_reasons(reply, "discarded_", discard_keys, shown->count.discarded, VIF_DISCARD_REASON_COUNT);
    }
    metrics_snapshot_free(&snapshot);
    return error;
}

static int list_workers(const char *parameters, struct telemetry_reply *reply)
{
    (void)parameters;
    reply->is_list = true;
    for (unsigned i = 0; i < worker_count(); i++) {
        char text[16];

        snprintf(text, sizeof(text), "%u", i);
        add_text(reply, "", text);
    }
    return 0;
}

static int show_worker(const char *parameters, struct telemetry_reply *reply)
{
    const char *wrong = NULL;
    long long worker = strtonum(parameters, 0, LIMIT_WORKERS, &wrong);
    struct worker_count count;

    if (wrong != NULL || !worker_read((unsigned)worker, &count))
        return -ENOENT;
    add_number(reply, "core", count.core);
    add_number(reply, "loops", count.loops);
    add_number(reply, "frames", count.frames);
    add_number(reply, "busy_cycles", count.busy_cycles);
    add_number(reply, "empty_cycles", count.empty_cycles);
    add_number(reply, "cycles", count.cycles);
    add_number(reply, "sleeps", count.sleeps);
    add_number(reply, "sources", count.sources);
    add_number(reply, "sampled_frames", count.sampled_frames);
    for (size_t i = 0; i < WORKER_STAGE_COUNT; i++) {
        char name[TELEMETRY_NAME_SIZE];

        snprintf(name, sizeof(name), "stage_%s_cycles", stage_keys[i]);
        add_number(reply, name, count.stages[i].cycles);
    }
    return 0;
}

static void answer_all(void *arg)
{
    struct request *request;
    uint64_t count;

    (void)arg;
    if (read(watcher.fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
        return;
    pthread_mutex_lock(&lock);
    while ((request = TAILQ_FIRST(&requests)) != NULL) {
        TAILQ_REMOVE(&requests, request, entry);
        request->result = request->answer(request->parameters, request->reply);
        request->done = true;
    }
    pthread_cond_broadcast(&answered);
    pthread_mutex_unlock(&lock);
}

// ---- the commands ----

#define COMMAND(name)                                                            \
    static int ask_##name(const char *parameters, struct telemetry_reply *reply) \
    {                                                                            \
        return ask(name, parameters, reply);                                     \
    }
COMMAND(list_wires)
COMMAND(show_wire)
COMMAND(list_tees)
COMMAND(show_tee)
COMMAND(list_vifs)
COMMAND(show_vif)
COMMAND(list_workers)
COMMAND(show_worker)

int telemetry_start(void)
{
    static const struct {
        const char *command, *help;
        telemetry_answer *answer;
    } commands[] = {
        {"/patchbay/wires", "Names of wires, at most 100. Parameters: NETWORK/WIRE after which to begin",
         ask_list_wires},
        {"/patchbay/wire", "Counters of a wire. Parameters: NETWORK/WIRE", ask_show_wire},
        {"/patchbay/tees", "Names of a wire's Ts, in its order. Parameters: NETWORK/WIRE", ask_list_tees},
        {"/patchbay/tee", "Counters of a T. Parameters: NETWORK/WIRE/TEE", ask_show_tee},
        {"/patchbay/vifs", "Names of vifs, at most 100. Parameters: VIF after which to begin", ask_list_vifs},
        {"/patchbay/vif", "Counters of a vif. Parameters: VIF", ask_show_vif},
        {"/patchbay/workers", "Numbers of the workers. Takes no parameters", ask_list_workers},
        {"/patchbay/worker", "Counters of a worker. Parameters: its number", ask_show_worker},
    };
    int error;

    watcher = (struct watcher){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = answer_all};
    if (watcher.fd < 0)
        return -errno;
    error = loop_watch(&watcher);
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]) && error == 0; i++)
        error = dataplane_telemetry(commands[i].command, commands[i].help, commands[i].answer);
    pthread_mutex_lock(&lock);
    running = error == 0;
    pthread_mutex_unlock(&lock);
    return error;
}

void telemetry_stop(void)
{
    if (watcher.fd < 0)
        return;
    pthread_mutex_lock(&lock);
    running = false;
    pthread_mutex_unlock(&lock);
    // Its number stays taken: a thread of DPDK may be about to write to it.
    loop_unwatch(&watcher);
}
