// SPDX-License-Identifier: BSD-3-Clause
#include "event_stream.h"

#include "event_log.h"
#include "loop.h"
#include "read.h"

#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

// Often enough to notice a client that died without a word, seldom enough to cost nothing.
#define HEARTBEAT_NS ((uint64_t)5 * 1000000000)

struct stream {
    struct slices slices;
    LIST_ENTRY(stream) entry;
    struct exchange *exchange; // valid until destroy
    uint64_t next;             // the event to send next
    bool reader;               // of one who may only read
    bool gap;                  // what the client asked for isn't there
    bool greet;                // its first line is due: where it stands
    bool beat;                 // a heartbeat is due
    bool ended;                // the last line was sent
    struct timer heartbeat;
    char line[512]; // a remark that is being sent
};

static LIST_HEAD(, stream) streams = LIST_HEAD_INITIALIZER(&streams);
static unsigned stream_count;
static unsigned reader_count; // of these, of those who may only read
static bool stopping;

static void wake(struct stream *stream)
{
    exchange_wake(stream->exchange);
}

static void wake_all(void)
{
    struct stream *stream;

    LIST_FOREACH(stream, &streams, entry)
    wake(stream);
}

static void beat(void *arg)
{
    struct stream *stream = arg;

    stream->beat = true;
    wake(stream);
}

// Each line that goes out makes a heartbeat needless for a while.
static void wind_up(struct stream *stream)
{
    stream->beat = false;
    timer_arm(&stream->heartbeat, clock_now() + HEARTBEAT_NS, beat, stream);
}

static const char *end(struct stream *stream, const char *reason, const char *advice, size_t *size)
{
    stream->ended = true;
    timer_cancel(&stream->heartbeat);
    *size = event_log_remark(stream->line, sizeof(stream->line), stream->next - 1, "end",
                             "\"reason\":\"%s\",\"message\":\"%s\"", reason, advice);
    return stream->line;
}

static const char *remark(struct stream *stream, const char *type, size_t *size)
{
    wind_up(stream);
    *size = event_log_remark(stream->line, sizeof(stream->line), stream->next - 1, type, "%s", "");
    return stream->line;
}

// As struct slices has it: the next line, nothing for now, or the end.
static const char *next_line(struct slices *slices, size_t *size)
{
    struct stream *stream = (struct stream *)slices;

    *size = 0;
    if (stream->ended)
        return NULL;
    if (stream->gap) {
        stream->gap = stream->greet = false;
        stream->next = event_log_seq() + 1;
        return remark(stream, "gap", size);
    }
    if (stream->greet) {
        stream->greet = false;
        return remark(stream, "heartbeat", size);
    }
    if (stream->next < event_log_first())
        return end(stream, "slow",
                   "This reader has fallen behind. Read the configuration anew, or ask for ?since= the last event that "
                   "was read.",
                   size);
    while (stream->next <= event_log_seq()) {
        const char *line = event_log_line(stream->next++, size);

        wind_up(stream);
        if (line != NULL)
            return line;
        // Memory was out when it happened.
        stream->gap = true;
        return next_line(slices, size);
    }
    if (stopping)
        return end(stream, "stopping", "patchbayd stops.", size);
    if (stream->beat)
        return remark(stream, "heartbeat", size);
    return "";
}

static void destroy(struct slices *slices)
{
    struct stream *stream = (struct stream *)slices;

    timer_cancel(&stream->heartbeat);
    LIST_REMOVE(stream, entry);
    stream_count--;
    reader_count -= stream->reader;
    free(stream);
}

// Where the client wants to go on; without `since` now.
static void place(struct stream *stream, const struct parameters *parameters)
{
    bool other = parameters->instance[0] != '\0' && strcmp(parameters->instance, event_log_instance()) != 0;

    stream->greet = true;
    stream->next = event_log_seq() + 1;
    if (!parameters->has_since) {
        stream->gap = other;
        return;
    }
    // A number that was never given here is another run's.
    stream->gap = other || parameters->since > event_log_seq() || parameters->since + 1 < event_log_first();
    stream->next = parameters->since + 1;
}

void event_stream_get(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    bool reader = exchange->peer.access == ACCESS_READ;
    struct stream *stream;
    struct error error;

    (void)target;
    if (read_refuses_body(exchange))
        return;
    if (stream_count == LIMIT_STREAMS || (reader && reader_count == LIMIT_STREAMS_READERS) || stopping) {
        if (stopping)
            error_set(&error, PATCHBAY_ERROR_UNAVAILABLE, NULL, "The daemon is stopping; try again.");
        else if (stream_count == LIMIT_STREAMS)
            error_set(&error, PATCHBAY_ERROR_UNAVAILABLE, NULL, "%d clients read the events already; end one of them.",
                      (int)LIMIT_STREAMS);
        else
            error_set(&error, PATCHBAY_ERROR_UNAVAILABLE, NULL,
                      "%d clients that may only read follow the events already; end one of them.",
                      (int)LIMIT_STREAMS_READERS);
        exchange_fail(exchange, &error);
        return;
    }
    stream = calloc(1, sizeof(*stream));
    if (stream == NULL) {
        error_set(&error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
        exchange_fail(exchange, &error);
        return;
    }
    stream->slices = (struct slices){next_line, destroy};
    stream->exchange = exchange;
    stream->reader = reader;
    // An answer to HEAD has no lines.
    stream->ended = strcmp(exchange->method, "HEAD") == 0;
    place(stream, parameters);
    LIST_INSERT_HEAD(&streams, stream, entry);
    stream_count++;
    reader_count += reader;
    exchange_answer_stream(exchange, &stream->slices, "application/x-ndjson");
}

void event_stream_start(void)
{
    event_log_follow(wake_all);
}

void event_stream_stop(void)
{
    stopping = true;
    wake_all();
}
