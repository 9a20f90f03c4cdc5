// SPDX-License-Identifier: BSD-3-Clause
//
// A request arrives: its headers are judged, its body is collected within the
// limits, and what is whole is handed over.

#include "server_private.h"

#include "patchbay/limits.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADERS_MAX = 16 * 1024,               // what a client may send us in headers
    SWALLOW_MAX = 8 * LIMIT_REQUEST_BYTES, // beyond its limit, of a body that is refused, so that the answer is read
};

// Memory of bodies above LIMIT_REQUEST_BYTES, of all clients; see LIMIT_LARGE_TOTAL_BYTES.
static size_t large_bytes;

// Whole requests whose answer isn't there yet, until this run of libmicrohttpd ends.
static SLIST_HEAD(exchange_list, exchange) waiting = SLIST_HEAD_INITIALIZER(&waiting);
// Answered when their connections had gone: to be freed once nobody looks at them any more.
static struct exchange_list buried = SLIST_HEAD_INITIALIZER(&buried);

static void refuse(struct exchange *exchange, enum patchbay_error code, const char *message)
{
    struct error error;

    error_set(&error, code, NULL, "%s", message);
    exchange_fail(exchange, &error);
}

static struct exchange *create_exchange(struct MHD_Connection *connection, const char *method, const char *path)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct exchange *exchange = calloc(1, sizeof(*exchange));

    if (exchange == NULL)
        return NULL;
    exchange->connection = connection;
    exchange->client = info->socket_context;
    exchange->peer = exchange->client->peer;
    exchange->method = strdup(method);
    exchange->path = strdup(path);
    exchange->body_limit = server_hooks.body_limit(method, path);
    return exchange;
}

static void destroy_exchange(struct exchange *exchange)
{
    if (exchange->slices != NULL)
        exchange->slices->destroy(exchange->slices);
    if (exchange->sliced != NULL)
        exchange->sliced->destroy(exchange->sliced);
    if (exchange->body_room > LIMIT_REQUEST_BYTES)
        large_bytes -= exchange->body_room;
    free(exchange->method);
    free(exchange->path);
    free(exchange->body);
    free(exchange->if_match);
    free(exchange->if_none_match);
    free(exchange->answer);
    free(exchange);
}

static void refuse_body(struct exchange *exchange)
{
    char message[128];

    snprintf(message, sizeof(message), "The request is larger than %zu MiB.", exchange->body_limit >> 20);
    if (exchange->too_large)
        refuse(exchange, PATCHBAY_ERROR_TOO_LARGE, message);
    else
        refuse(exchange, PATCHBAY_ERROR_UNAVAILABLE,
               "Other clients' large requests have all the memory that there is for such; try again.");
}

// Judges what the headers tell. True: the body is not worth waiting for.
static bool refuse_early(struct exchange *exchange)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(exchange->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    const char *length = exchange_header(exchange, MHD_HTTP_HEADER_CONTENT_LENGTH);

    if (info != NULL && info->header_size > HEADERS_MAX) {
        refuse(exchange, PATCHBAY_ERROR_HEADERS_TOO_LARGE, "The request's headers are larger than 16 KiB.");
        return true;
    }
    exchange->too_large = length != NULL && strtoull(length, NULL, 10) > exchange->body_limit;
    // A client that waits for leave to send the body gets the answer instead.
    if (exchange->too_large && exchange_header(exchange, MHD_HTTP_HEADER_EXPECT) != NULL) {
        refuse_body(exchange);
        return true;
    }
    return false;
}

// Makes room for a body of this size. False: there is no memory. Sets crowded if it may not be had.
static bool grow_body(struct exchange *exchange, size_t size)
{
    size_t room = exchange->body_room > 0 ? exchange->body_room : 4096;
    size_t counted = exchange->body_room > LIMIT_REQUEST_BYTES ? exchange->body_room : 0;
    char *larger;

    while (room < size)
        room *= 2;
    if (room == exchange->body_room)
        return true;
    // One slow client may not keep others from it by sending the most there may be.
    if (room > LIMIT_REQUEST_BYTES && large_bytes - counted + room > LIMIT_LARGE_TOTAL_BYTES) {
        exchange->crowded = true;
        return true;
    }
    larger = realloc(exchange->body, room);
    if (larger == NULL)
        return false;
    if (room > LIMIT_REQUEST_BYTES)
        large_bytes += room - counted;
    exchange->body = larger;
    exchange->body_room = room;
    return true;
}

static bool take_body(struct exchange *exchange, const char *data, size_t size)
{
    size_t whole = exchange->body_size + size;

    exchange->too_large = exchange->too_large || whole > exchange->body_limit;
    if (!exchange->too_large && !exchange->crowded && !grow_body(exchange, whole))
        return false;
    if (!exchange->too_large && !exchange->crowded)
        memcpy(exchange->body + exchange->body_size, data, size);
    exchange->body_size = whole;
    return whole <= exchange->body_limit + SWALLOW_MAX;
}

static void stop_waiting(struct exchange *exchange)
{
    if (exchange->waits)
        SLIST_REMOVE(&waiting, exchange, exchange, link);
    exchange->waits = false;
}

// False: there is no memory. A condition that was lost would let through what it is there to stop.
static bool copy_header(const struct exchange *exchange, const char *name, char **copy)
{
    const char *value = exchange_header(exchange, name);

    *copy = value != NULL ? strdup(value) : NULL;
    return value == NULL || *copy != NULL;
}

enum MHD_Result exchange_receive(void *cls, struct MHD_Connection *connection, const char *path, const char *method,
                                 const char *version, const char *data, size_t *data_size, void **context)
{
    struct exchange *exchange = *context;

    (void)cls;
    (void)version;
    if (exchange == NULL) {
        *context = exchange = create_exchange(connection, method, path);
        if (exchange == NULL || exchange->method == NULL || exchange->path == NULL)
            return MHD_NO;
        return refuse_early(exchange) ? exchange_send(exchange) : MHD_YES;
    }
    if (*data_size > 0) {
        bool taken = take_body(exchange, data, *data_size);

        *data_size = 0;
        return taken ? MHD_YES : MHD_NO;
    }
    if (!exchange->arrived) {
        if (!copy_header(exchange, MHD_HTTP_HEADER_IF_MATCH, &exchange->if_match) ||
            !copy_header(exchange, MHD_HTTP_HEADER_IF_NONE_MATCH, &exchange->if_none_match))
            return MHD_NO;
        exchange->arrived = true;
        connection_wait(exchange->client, 0);
        if (exchange->too_large || exchange->crowded)
            refuse_body(exchange);
        else
            server_hooks.handle(exchange);
    }
    if (exchange->status != 0) {
        stop_waiting(exchange);
        return exchange_send(exchange);
    }
    // libmicrohttpd reads on after a resume, unless it has left this function knowing that the request is whole. A
    // client that has closed its sending side behind the request would be taken for one that has gone, and get no
    // answer. So it is suspended a moment later. Some requests come here twice in one run.
    if (!exchange->waits)
        SLIST_INSERT_HEAD(&waiting, exchange, link);
    exchange->waits = true;
    return MHD_YES;
}

void exchange_suspend_waiting(void)
{
    struct exchange *exchange;

    while ((exchange = SLIST_FIRST(&waiting)) != NULL) {
        stop_waiting(exchange);
        MHD_suspend_connection(exchange->connection);
        // Answered meanwhile, by what another request did: it is looked at again.
        if (exchange->status != 0)
            server_resume(exchange->connection);
        else
            exchange->suspended = true;
    }
    while ((exchange = SLIST_FIRST(&buried)) != NULL) {
        SLIST_REMOVE_HEAD(&buried, link);
        destroy_exchange(exchange);
    }
}

void exchange_bury(struct exchange *exchange)
{
    SLIST_INSERT_HEAD(&buried, exchange, link);
}

void exchange_complete(void *cls, struct MHD_Connection *connection, void **context,
                       enum MHD_RequestTerminationCode why)
{
    struct exchange *exchange = *context;

    (void)cls;
    (void)connection;
    (void)why;
    if (exchange == NULL)
        return;
    *context = NULL;
    stop_waiting(exchange);
    connection_wait(exchange->client, ARRIVAL_NS);
    // The connection ended between the request and its being suspended; whoever works on the request will answer it.
    if (exchange->arrived && exchange->status == 0) {
        exchange->gone = true;
        exchange->connection = NULL;
        exchange->client = NULL;
        return;
    }
    destroy_exchange(exchange);
}
