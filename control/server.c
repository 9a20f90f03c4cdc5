// SPDX-License-Identifier: BSD-3-Clause
//
// libmicrohttpd is run from outside (MHD_USE_EPOLL without a thread): its epoll
// descriptor is watched by our loop, and since its timeouts have no descriptor,
// server_deadline tells the loop when to call it anyway.

#include "server.h"

#include "acceptor.h"
#include "log.h"
#include "loop.h"
#include "patchbay/limits.h"
#include "request.h"

#include <errno.h>
#include <fcntl.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    HEADERS_MAX = 16 * 1024,               // what a client may send us in headers
    CONNECTION_MEMORY = 64 * 1024,         // of libmicrohttpd: headers, and the windows for bodies
    SWALLOW_MAX = 8 * LIMIT_REQUEST_BYTES, // beyond its limit, of a body that is refused, so that the answer is read
    SLICE_BLOCK = 32 * 1024,
};

// A request trickling in may not hold a place for ever: idle time between two
// requests plus time for one to arrive.
#define ARRIVAL_NS (2 * (uint64_t)LIMIT_REQUEST_SECONDS * 1000000000)
#define SENDING_NS (60 * (uint64_t)1000000000)
// A reader of a stream that takes nothing for so long isn't one any more.
#define STREAM_STALL_NS (30 * (uint64_t)1000000000)

// A connection.
struct client {
    struct peer peer;
    bool admitted;
    int fd;
    bool stream; // has a place of its own
    struct timer deadline;
};

static struct MHD_Daemon *http;
static struct watcher http_watcher = {.fd = -1};
static void (*handle_exchange)(struct exchange *exchange);
static size_t (*find_body_limit)(const char *method, const char *path);
// Memory of bodies above LIMIT_REQUEST_BYTES, of all clients; see LIMIT_LARGE_TOTAL_BYTES.
static size_t large_bytes;
static bool connections_changed;
static struct acceptor acceptor; // counts all but streams
static bool resumed;

// ---- answers ----

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
        resumed = true;
        MHD_resume_connection(exchange->connection);
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
    resumed = true;
    MHD_resume_connection(exchange->connection);
}

void exchange_fail(struct exchange *exchange, const struct error *error)
{
    exchange_answer(exchange, (unsigned)error_http_status(error->code), request_encode_error(error), EXCHANGE_NO_ETAG);
}

static void refuse(struct exchange *exchange, enum patchbay_error code, const char *message)
{
    struct error error;

    error_set(&error, code, NULL, "%s", message);
    exchange_fail(exchange, &error);
}

const char *exchange_header(const struct exchange *exchange, const char *name)
{
    return MHD_lookup_connection_value(exchange->connection, MHD_HEADER_KIND, name);
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

    MHD_get_connection_values(exchange->connection, MHD_GET_ARGUMENT_KIND, visit_parameter, &visit);
}

// ---- sending ----

static void miss_deadline(void *arg)
{
    const struct client *client = arg;

    // libmicrohttpd sees the end of the stream and closes.
    shutdown(client->fd, SHUT_RDWR);
}

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
        timer_cancel(&exchange->client->deadline);
        exchange->paused = true;
        MHD_suspend_connection(exchange->connection);
        return 0;
    }
    if (exchange->stream)
        timer_arm(&exchange->client->deadline, clock_now() + STREAM_STALL_NS, miss_deadline, exchange->client);
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

// Makes room for another client. libmicrohttpd's own limit of idle time would
// take a reader that is behind for one that is gone; the deadline tells them apart.
static void become_stream(struct exchange *exchange)
{
    MHD_set_connection_option(exchange->connection, MHD_CONNECTION_OPTION_TIMEOUT, 0U);
    if (exchange->client->stream)
        return;
    exchange->client->stream = true;
    acceptor_left(&acceptor);
    if (exchange->client->admitted)
        access_leave(exchange->client->peer.uid);
    exchange->client->admitted = false;
}

static enum MHD_Result send_answer(struct exchange *exchange)
{
    struct MHD_Response *response = make_response(exchange);
    enum MHD_Result result;

    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE,
                            exchange->type != NULL ? exchange->type : "application/json");
    if (exchange->etag[0] != '\0')
        MHD_add_response_header(response, MHD_HTTP_HEADER_ETAG, exchange->etag);
    if (exchange->allow[0] != '\0')
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, exchange->allow);
    timer_arm(&exchange->client->deadline, clock_now() + SENDING_NS, miss_deadline, exchange->client);
    if (exchange->stream)
        become_stream(exchange);
    result = MHD_queue_response(exchange->connection, exchange->status, response);
    MHD_destroy_response(response);
    return result;
}

// ---- receiving ----

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
    exchange->body_limit = find_body_limit(method, path);
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

// Called by libmicrohttpd when the headers are there, for each piece of the
// body, once when all is there, and again after a resume.
static enum MHD_Result receive(void *cls, struct MHD_Connection *connection, const char *path, const char *method,
                               const char *version, const char *data, size_t *data_size, void **context)
{
    struct exchange *exchange = *context;

    (void)cls;
    (void)version;
    if (exchange == NULL) {
        *context = exchange = create_exchange(connection, method, path);
        if (exchange == NULL || exchange->method == NULL || exchange->path == NULL)
            return MHD_NO;
        return refuse_early(exchange) ? send_answer(exchange) : MHD_YES;
    }
    if (*data_size > 0) {
        bool taken = take_body(exchange, data, *data_size);

        *data_size = 0;
        return taken ? MHD_YES : MHD_NO;
    }
    if (!exchange->arrived) {
        exchange->arrived = true;
        timer_cancel(&exchange->client->deadline);
        if (exchange->too_large || exchange->crowded)
            refuse_body(exchange);
        else
            handle_exchange(exchange);
    }
    if (exchange->status != 0)
        return send_answer(exchange);
    exchange->suspended = true;
    MHD_suspend_connection(connection);
    return MHD_YES;
}

static void complete(void *cls, struct MHD_Connection *connection, void **context, enum MHD_RequestTerminationCode why)
{
    struct exchange *exchange = *context;

    (void)cls;
    (void)connection;
    (void)why;
    if (exchange == NULL)
        return;
    timer_arm(&exchange->client->deadline, clock_now() + ARRIVAL_NS, miss_deadline, exchange->client);
    destroy_exchange(exchange);
    *context = NULL;
}

// ---- connections ----

// A user has too many connections: this one gets its answer unasked, and ends.
static void turn_away(int fd)
{
    static const char answer[] =
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nConnection: close\r\n"
        "Content-Length: 150\r\n\r\n"
        "{\"error\":{\"code\":\"Unavailable\",\"message\":\"This user has as many connections as one may have. "
        "Close some and try again.\",\"field\":null,\"details\":null}}\n";

    (void)send(fd, answer, sizeof(answer) - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    shutdown(fd, SHUT_RDWR);
}

// The name of the process that connects. It may have given the socket to another, or itself another name: a hint.
static void read_command(struct peer *peer)
{
    char path[32];
    ssize_t len;
    int fd;

    // 0: a process outside of our PID namespace.
    if (peer->pid <= 0)
        return;
    snprintf(path, sizeof(path), "/proc/%d/comm", (int)peer->pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    len = read(fd, peer->command, sizeof(peer->command) - 1);
    close(fd);
    if (len > 0 && peer->command[len - 1] == '\n')
        peer->command[--len] = '\0';
    for (ssize_t i = 0; i < len; i++)
        if (peer->command[i] < 0x20 || peer->command[i] > 0x7e)
            peer->command[i] = '?';
}

static void notice_connection(void *cls, struct MHD_Connection *connection, void **context,
                              enum MHD_ConnectionNotificationCode code)
{
    struct client *client = *context;
    struct ucred peer;
    socklen_t size = sizeof(peer);

    (void)cls;
    connections_changed = true;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (client != NULL) {
            timer_cancel(&client->deadline);
            if (client->admitted)
                access_leave(client->peer.uid);
            if (!client->stream)
                acceptor_left(&acceptor);
        }
        free(client);
        *context = NULL;
        return;
    }
    client = calloc(1, sizeof(*client));
    if (client == NULL)
        abort(); // no memory for 100 bytes, and libmicrohttpd gives no way to refuse here
    client->fd = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    if (getsockopt(client->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0) {
        client->peer.pid = peer.pid;
        client->peer.uid = peer.uid;
        client->peer.gid = peer.gid;
        read_command(&client->peer);
    }
    client->peer.access = access_of_socket(client->fd);
    client->admitted = access_admit(client->peer.uid);
    if (!client->admitted)
        turn_away(client->fd);
    timer_arm(&client->deadline, clock_now() + ARRIVAL_NS, miss_deadline, client);
    acceptor_came(&acceptor);
    *context = client;
}

static int digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// Decodes %XX in place, but for what would change where a name begins or ends:
// "%00" would cut "/v1/vifs/vm1%00x" down to another vif's name, "%2F" add a
// part to the path. Left as they are they are no names, and refused as such.
static size_t unescape(void *cls, struct MHD_Connection *connection, char *text)
{
    char *out = text;

    (void)cls;
    (void)connection;
    for (const char *in = text; *in != '\0';) {
        int high = in[0] == '%' ? digit(in[1]) : -1;
        int low = high >= 0 ? digit(in[2]) : -1;
        int byte = high * 16 + low;

        if (high >= 0 && low >= 0 && byte != 0 && byte != '/') {
            *out++ = (char)byte;
            in += 3;
        } else {
            *out++ = *in++;
        }
    }
    *out = '\0';
    return (size_t)(out - text);
}

static void log_http(void *cls, const char *format, va_list args)
{
    char message[512];

    (void)cls;
    vsnprintf(message, sizeof(message), format, args);
    message[strcspn(message, "\n")] = '\0';
    // Mostly what clients do to themselves; nobody else is hurt by it.
    log_write(LOG_LEVEL_DEBUG, "http", message);
}

static void nothing_to_do(void *arg)
{
    // server_run is called after each turn of the loop anyway.
    (void)arg;
}

static void take_connection(int fd)
{
    const struct sockaddr nobody = {.sa_family = AF_UNIX};

    // Closes the descriptor if it can't take it.
    MHD_add_connection(http, fd, &nobody, sizeof(nobody.sa_family));
}

int server_start(int listen_fd, void (*handle)(struct exchange *exchange),
                 size_t (*body_limit)(const char *method, const char *path), char *reason, size_t reason_size)
{
    const union MHD_DaemonInfo *info;
    int error;

    handle_exchange = handle;
    find_body_limit = body_limit;
    http = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, receive,
        NULL, MHD_OPTION_EXTERNAL_LOGGER, log_http, NULL, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)(LIMIT_CLIENTS + LIMIT_STREAMS), MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)LIMIT_REQUEST_SECONDS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_NOTIFY_COMPLETED, complete, NULL,
        MHD_OPTION_NOTIFY_CONNECTION, notice_connection, NULL, MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    info = http != NULL ? MHD_get_daemon_info(http, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (info == NULL || info->epoll_fd < 0) {
        snprintf(reason, reason_size, "The HTTP server (libmicrohttpd) can't start: %s.", strerror(errno));
        return -EIO;
    }
    http_watcher = (struct watcher){.fd = info->epoll_fd, .ready = nothing_to_do};
    error = loop_watch(&http_watcher);
    if (error == 0)
        error = acceptor_start(&acceptor, listen_fd, LIMIT_CLIENTS, take_connection);
    if (error != 0)
        snprintf(reason, reason_size, "The HTTP server's descriptor can't be watched: %s.", strerror(-error));
    return error;
}

void server_run(void)
{
    if (http == NULL)
        return;
    // A connection that goes makes room for one that waits in the backlog, but
    // libmicrohttpd only looks at the start of a run: run again.
    do {
        connections_changed = false;
        resumed = false;
        MHD_run(http);
    } while (connections_changed);
}

uint64_t server_deadline(void)
{
    MHD_UNSIGNED_LONG_LONG milliseconds;

    if (http == NULL)
        return LOOP_NEVER;
    if (resumed)
        return 0;
    if (MHD_get_timeout(http, &milliseconds) != MHD_YES)
        return LOOP_NEVER;
    // It rounds down to what is over, so that a wait of exactly this would turn once in vain.
    return clock_now() + (milliseconds == 0 ? 0 : (milliseconds + 1) * 1000000);
}

void server_stop(uint64_t deadline)
{
    const union MHD_DaemonInfo *info;

    if (http == NULL)
        return;
    acceptor_stop(&acceptor);
    do {
        server_run();
        info = MHD_get_daemon_info(http, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
        if (info == NULL || info->num_connections == 0 || server_deadline() != 0)
            break;
    } while (clock_now() < deadline);
    loop_unwatch(&http_watcher);
    MHD_stop_daemon(http);
    http = NULL;
}
