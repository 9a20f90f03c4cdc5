// SPDX-License-Identifier: BSD-3-Clause
//
// One request and its answer, as who handles it sees them: what stands in the
// request, and the ways to answer it. How answers go out is exchange_send.c's.

#include "server_private.h"

#include "request.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void exchange_set_etag(struct exchange *exchange, uint64_t etag)
{
    if (etag != EXCHANGE_NO_ETAG)
        snprintf(exchange->etag, sizeof(exchange->etag), "\"%llu\"", (unsigned long long)etag);
}

void exchange_answer_text(struct exchange *exchange, unsigned status, char *text, size_t size, uint64_t etag)
{
    if (text == NULL) {
        static const char no_memory[] =
            "{\"error\":{\"code\":\"Internal\",\"message\":\"Memory is out.\",\"field\":null,"
            "\"details\":null}}\n";
        status = 500;
        etag = EXCHANGE_NO_ETAG;
        text = strdup(no_memory);
        size = text != NULL ? sizeof(no_memory) - 1 : 0;
    }
    exchange->answer = text;
    exchange->answer_size = size;
    exchange->status = status;
    exchange_set_etag(exchange, etag);
    if (exchange->suspended) {
        exchange->suspended = false;
        server_resume(exchange->connection);
    } else if (exchange->gone) {
        exchange_bury(exchange);
    }
}

void exchange_answer(struct exchange *exchange, unsigned status, json_t *body, uint64_t etag)
{
    char *text = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
    size_t size = text != NULL ? strlen(text) : 0;

    json_decref(body);
    // People read it with curl: the terminator becomes the line's end.
    if (text != NULL)
        text[size++] = '\n';
    exchange_answer_text(exchange, status, text, size, etag);
}

void exchange_answer_slices(struct exchange *exchange, struct slices *slices)
{
    exchange->slices = slices;
    exchange->status = 200;
}

void exchange_answer_stream(struct exchange *exchange, struct slices *slices, const char *type)
{
    exchange->slices = slices;
    exchange->status = 200;
    exchange->type = type;
    exchange->stream = true;
}

void exchange_wake(struct exchange *exchange)
{
    if (!exchange->paused)
        return;
    exchange->paused = false;
    server_resume(exchange->connection);
}

void exchange_fail(struct exchange *exchange, const struct error *error)
{
    exchange_answer(exchange, (unsigned)error_http_status(error->code), request_encode_error(error), EXCHANGE_NO_ETAG);
}

const char *exchange_header(const struct exchange *exchange, const char *name)
{
    return exchange->gone ? NULL : MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
}

struct parameter_visit {
    bool (*each)(void *arg, const char *name, const char *value);
    void *arg;
};

static enum MHD_Result visit_parameter(void *cls, enum MHD_ValueKind kind, const char *key, const char *value)
{
    struct parameter_visit *visit = cls;

    (void)kind;
    return visit->each(visit->arg, key, value) ? MHD_YES : MHD_NO;
}

void exchange_each_parameter(const struct exchange *exchange,
                             bool (*each)(void *arg, const char *name, const char *value), void *arg)
{
    struct parameter_visit visit = {each, arg};

    if (!exchange->gone)
        MHD_get_connection_values(exchange->connection, MHD_GET_ARGUMENT_KIND, visit_parameter, &visit);
}
