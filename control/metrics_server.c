// SPDX-License-Identifier: BSD-3-Clause
#include "metrics_server.h"

#include "acceptor.h"
#include "listener.h"
#include "log.h"
#include "metrics.h"
#include "metrics_text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    CLIENTS = 8, // on each of the two listeners
    CONNECTION_MEMORY = 16 * 1024,
    SLICE_BLOCK = 32 * 1024,
};

// For a request to arrive, between two of them, and for an answer to be read.
#define PATIENCE_NS (30 * (uint64_t)1000000000)

struct connection {
    int fd;
    struct acceptor *acceptor;
    struct timer deadline;
};

// An answer that is being sent.
struct answer {
    struct slices *slices;
    const char *slice; // rest of the current one
    size_t slice_size;
};

static struct MHD_Daemon *http;
static struct watcher watcher = {.fd = -1};
static struct timer again;
static struct acceptor on_socket, on_port;

// ---- the loop ----

static void run(void *arg)
{
    MHD_UNSIGNED_LONG_LONG milliseconds;

    (void)arg;
    MHD_run(http);
    // There is more to do that no descriptor tells of: after the others' turn.
    if (MHD_get_timeout(http, &milliseconds) == MHD_YES && milliseconds == 0)
        timer_arm(&again, clock_now(), run, NULL);
}

static void take_connection(int fd)
{
    const struct sockaddr nobody = {.sa_family = AF_UNIX};

    // Closes the descriptor if it can't take it.
    MHD_add_connection(http, fd, &nobody, sizeof(nobody.sa_family));
    timer_arm(&again, clock_now(), run, NULL);
}

static void miss_deadline(void *arg)
{
    const struct connection *connection = arg;

    // libmicrohttpd sees the end of the stream and closes.
    shutdown(connection->fd, SHUT_RDWR);
}

static void wind_up(struct connection *connection)
{
    timer_arm(&connection->deadline, clock_now() + PATIENCE_NS, miss_deadline, connection);
}

static void notice_connection(void *cls, struct MHD_Connection *handle, void **context,
                              enum MHD_ConnectionNotificationCode code)
{
    struct connection *connection = *context;
    struct sockaddr_storage local = {0};
    socklen_t size = sizeof(local);

    (void)cls;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (connection == NULL)
            return;
        timer_cancel(&connection->deadline);
        acceptor_left(connection->acceptor);
        free(connection);
        *context = NULL;
        return;
    }
    connection = calloc(1, sizeof(*connection));
    if (connection == NULL)
        abort(); // no memory for 100 bytes, and libmicrohttpd gives no way to refuse here
    connection->fd = MHD_get_connection_info(handle, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
    getsockname(connection->fd, (struct sockaddr *)&local, &size);
    connection->acceptor = local.ss_family == AF_UNIX ? &on_socket : &on_port;
    acceptor_came(connection->acceptor);
    wind_up(connection);
    *context = connection;
}

static struct connection *connection_of(struct MHD_Connection *handle)
{
    return MHD_get_connection_info(handle, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
}

// ---- answers ----

static ssize_t read_slices(void *cls, uint64_t position, char *buffer, size_t size)
{
    struct answer *answer = cls;

    (void)position;
    if (answer->slice_size == 0)
        answer->slice = answer->slices->next(answer->slices, &answer->slice_size);
    if (answer->slice == NULL)
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (size > answer->slice_size)
        size = answer->slice_size;
    memcpy(buffer, answer->slice, size);
    answer->slice += size;
    answer->slice_size -= size;
    return (ssize_t)size;
}

static void free_answer(void *cls)
{
    struct answer *answer = cls;

    answer->slices->destroy(answer->slices);
    free(answer);
}

static enum MHD_Result send_text(struct MHD_Connection *handle, unsigned status, const char *text, const char *allow)
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(text), (void *)(uintptr_t)text, MHD_RESPMEM_PERSISTENT);
    enum MHD_Result result;

    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, "text/plain; charset=utf-8");
    if (allow != NULL)
        MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, allow);
    result = MHD_queue_response(handle, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result send_metrics(struct MHD_Connection *handle, bool head)
{
    const char *accept = MHD_lookup_connection_value(handle, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
    const char *detail = MHD_lookup_connection_value(handle, MHD_GET_ARGUMENT_KIND, "detail");
    bool openmetrics = metrics_text_prefers_openmetrics(accept);
    struct answer *answer = calloc(1, sizeof(*answer));
    struct MHD_Response *response = NULL;
    enum MHD_Result result;

    if (answer != NULL)
        answer->slices = metrics_render(openmetrics, detail != NULL && strcmp(detail, "1") == 0);
    if (answer == NULL || answer->slices == NULL) {
        free(answer);
        return send_text(handle, 503, "Others read the metrics already; try again.\n", NULL);
    }
    // The end of a chunked answer to HEAD would be taken for the next answer: it has none.
    if (head) {
        free_answer(answer);
        response = MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    } else {
        response = MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, SLICE_BLOCK, read_slices, answer, free_answer);
        if (response == NULL)
            free_answer(answer);
    }
    if (response == NULL)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, metrics_text_type(openmetrics));
    result = MHD_queue_response(handle, 200, response);
    MHD_destroy_response(response);
    return result;
}

// Called by libmicrohttpd when the headers are there, and for each piece of a body, which nobody wants.
static enum MHD_Result receive(void *cls, struct MHD_Connection *handle, const char *path, const char *method,
                               const char *version, const char *data, size_t *data_size, void **context)
{
    static int begun;
    bool head = strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;

    (void)cls;
    (void)version;
    (void)data;
    (void)data_size;
    // An answer at the first call: the body isn't read, the connection ends after it.
    if (*context == NULL)
        wind_up(connection_of(handle));
    if (*context == NULL && (head || strcmp(method, MHD_HTTP_METHOD_GET) == 0)) {
        *context = &begun;
        return MHD_YES;
    }
    if (!head && strcmp(method, MHD_HTTP_METHOD_GET) != 0)
        return send_text(handle, 405, "Only GET and HEAD.\n", "GET, HEAD");
    if (*data_size > 0)
        return MHD_NO;
    if (strcmp(path, "/metrics") != 0)
        return send_text(handle, 404, "Only /metrics is here.\n", NULL);
    return send_metrics(handle, head);
}

static void complete(void *cls, struct MHD_Connection *handle, void **context, enum MHD_RequestTerminationCode why)
{
    (void)cls;
    (void)why;
    *context = NULL;
    wind_up(connection_of(handle));
}

// ---- start ----

const char *metrics_server_parse(const char *text, struct sockaddr_storage *address, unsigned *size)
{
    static const char wrong[] = "must be a port, ADDRESS:PORT or [ADDRESS]:PORT, in numbers";
    const char *colon = strrchr(text, ':'), *port = colon != NULL ? colon + 1 : text;
    char host[INET6_ADDRSTRLEN + 2] = "127.0.0.1";
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
    const char *problem = NULL;
    in_port_t number;

    memset(address, 0, sizeof(*address));
    if (port[0] < '0' || port[0] > '9')
        return wrong;
    number = htons((in_port_t)strtonum(port, 1, 65535, &problem));
    if (problem != NULL || (colon != NULL && (size_t)(colon - text) >= sizeof(host)))
        return wrong;
    if (colon != NULL) {
        memcpy(host, text, (size_t)(colon - text));
        host[colon - text] = '\0';
    }
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = number;
        *size = sizeof(*v4);
        return NULL;
    }
    if (host[0] != '[' || host[strlen(host) - 1] != ']')
        return wrong;
    host[strlen(host) - 1] = '\0';
    if (inet_pton(AF_INET6, host + 1, &v6->sin6_addr) != 1)
        return wrong;
    v6->sin6_family = AF_INET6;
    v6->sin6_port = number;
    *size = sizeof(*v6);
    return NULL;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET6)
        return IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)address)->sin6_addr);
    return ntohl(((const struct sockaddr_in *)address)->sin_addr.s_addr) >> 24 == 127;
}

static int listen_on_port(const char *text, char *reason, size_t reason_size)
{
    struct sockaddr_storage address;
    unsigned size;
    int fd, on = 1, error;

    // options.c has looked at it.
    if (metrics_server_parse(text, &address, &size) != NULL)
        return -EINVAL;
    fd = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    // Without it a restart would have to wait for the old connections to be forgotten.
    if (fd >= 0)
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (fd >= 0 && bind(fd, (struct sockaddr *)&address, size) == 0 && listen(fd, CLIENTS) == 0) {
        if (!is_loopback(&address))
            log_message(LOG_LEVEL_WARNING, "metrics",
                        "%s can be reached from elsewhere, by anybody: metrics name all "
                        "objects and tell how much traffic they have",
                        text);
        return fd;
    }
    error = -errno;
    snprintf(reason, reason_size, "Can't listen for metrics on %s: %s. Give another --metrics-listen.", text,
             strerror(-error));
    if (fd >= 0)
        close(fd);
    return error;
}

static int start_http(char *reason, size_t reason_size)
{
    const union MHD_DaemonInfo *info;

    http = MHD_start_daemon(MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, receive, NULL,
                            MHD_OPTION_CONNECTION_LIMIT, (unsigned)(2 * CLIENTS), MHD_OPTION_CONNECTION_MEMORY_LIMIT,
                            (size_t)CONNECTION_MEMORY, MHD_OPTION_NOTIFY_COMPLETED, complete, NULL,
                            MHD_OPTION_NOTIFY_CONNECTION, notice_connection, NULL, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
                            MHD_OPTION_END);
    info = http != NULL ? MHD_get_daemon_info(http, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (info == NULL || info->epoll_fd < 0) {
        snprintf(reason, reason_size, "The metrics' HTTP server (libmicrohttpd) can't start: %s.", strerror(errno));
        return -EIO;
    }
    watcher = (struct watcher){.fd = info->epoll_fd, .ready = run};
    return loop_watch(&watcher);
}

int metrics_server_start(const struct options *options, char *reason, size_t reason_size)
{
    int error, fd;

    if (options->metrics_socket == NULL && options->metrics_listen == NULL)
        return 0;
    if ((error = start_http(reason, reason_size)) != 0)
        return error;
    if (options->metrics_socket != NULL) {
        fd = listener_open(options->metrics_socket, options->metrics_socket_mode, NULL, options->metrics_socket_group,
                           reason, reason_size);
        if (fd < 0 || (error = acceptor_start(&on_socket, fd, CLIENTS, take_connection)) != 0)
            return fd < 0 ? fd : error;
    }
    if (options->metrics_listen != NULL) {
        fd = listen_on_port(options->metrics_listen, reason, reason_size);
        if (fd < 0 || (error = acceptor_start(&on_port, fd, CLIENTS, take_connection)) != 0)
            return fd < 0 ? fd : error;
    }
    return 0;
}

void metrics_server_stop(void)
{
    acceptor_stop(&on_socket);
    acceptor_stop(&on_port);
    timer_cancel(&again);
    if (http == NULL)
        return;
    loop_unwatch(&watcher);
    MHD_stop_daemon(http);
    http = NULL;
}
