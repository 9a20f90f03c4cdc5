// SPDX-License-Identifier: BSD-3-Clause
//
// An answer goes out: whole, in slices, or as a stream that has no end.

#include "server_private.h"

#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLICE_BLOCK = 32 * 1024 };

#define SENDING_NS (60 * (uint64_t)1000000000)
// A reader of a stream that takes nothing for so long isn't one any more.
#define STREAM_STALL_NS (30 * (uint64_t)1000000000)

static ssize_t read_slices(void *cls, uint64_t position, char *buffer, size_t size)
{
    struct exchange *exchange = cls;

    (void)position;
    if (exchange->slice_size == 0)
        exchange->slice = exchange->sliced->next(exchange->sliced, &exchange->slice_size);
    if (exchange->slice == NULL)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (exchange->stream && exchange->slice_size == 0) {
        // All is sent, and the socket took it.
        connection_wait(exchange->client, 0);
        exchange->paused = true;
        MHD_suspend_connection(exchange->connection);
        return 0;
    }
    if (exchange->stream)
        connection_wait(exchange->client, STREAM_STALL_NS);
    if (size > exchange->slice_size)
        size = exchange->slice_size;
    memcpy(buffer, exchange->slice, size);
    exchange->slice += size;
    exchange->slice_size -= size;
    return (ssize_t)size;
}

// HEAD of a list needs its length, since libmicrohttpd 0.9.75 ends a chunked
// answer to HEAD with a last chunk, which the client takes for the next answer.
static void join_slices(struct exchange *exchange)
{
    FILE *out = open_memstream(&exchange->answer, &exchange->answer_size);
    const char *piece;
    size_t size;

    if (out == NULL)
        return;
    while ((piece = exchange->slices->next(exchange->slices, &size)) != NULL)
        fwrite(piece, 1, size, out);
    fclose(out);
    exchange->slices->destroy(exchange->slices);
    exchange->slices = NULL;
}

static struct MHD_Response *make_response(struct exchange *exchange)
{
    struct MHD_Response *response;

    if (exchange->slices != NULL && strcmp(exchange->method, "HEAD") == 0)
        join_slices(exchange);
    if (exchange->slices != NULL) {
        exchange->sliced = exchange->slices;
        exchange->slices = NULL;
        return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, SLICE_BLOCK, read_slices, exchange, NULL);
    }
    response = MHD_create_response_from_buffer(exchange->answer_size, exchange->answer, MHD_RESPMEM_MUST_FREE);
    if (response != NULL)
        exchange->answer = NULL;
    return response;
}

enum MHD_Result exchange_send(struct exchange *exchange)
{
    struct MHD_Response *response = make_response(exchange);
    enum MHD_Result result;

    if (response == NULL)
        return MHD_NO;
    if (exchange->status != MHD_HTTP_NOT_MODIFIED)
        MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                                exchange->type != NULL ? exchange->type : "application/json");
    // Tags are of the configuration. A library's cache that asked with them by itself would go on showing a status that
    // is over.
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    if (exchange->etag[0] != '\0')
        MHD_add_response_header(response, MHD_HTTP_HEADER_ETAG, exchange->etag);
    if (exchange->allow[0] != '\0')
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, exchange->allow);
    connection_wait(exchange->client, SENDING_NS);
    // libmicrohttpd's own limit of idle time would take a reader that is behind for one that is gone; our deadline
    // tells them apart.
    if (exchange->stream) {
        MHD_set_connection_option(exchange->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0U);
        connection_become_stream(exchange->client);
    }
    result = MHD_queue_response(exchange->connection, exchange->status, response);
    MHD_destroy_response(response);
    return result;
}
