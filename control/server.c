// SPDX-License-Identifier: BSD-3-Clause
//
// libmicrohttpd is run from outside (MHD_USE_EPOLL without a thread): its epoll
// descriptor is watched by our loop, and since its timeouts have no descriptor,
// server_deadline tells the loop when to call it anyway.

#include "server_private.h"

#include "log.h"
#include "patchbay/limits.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

enum { CONNECTION_MEMORY = 64 * 1024 }; // of libmicrohttpd: headers, and the windows for bodies

struct server_hooks server_hooks;
struct acceptor server_acceptor;
bool server_connections_changed;

static struct MHD_Daemon *http;
static struct watcher http_watcher = {.fd = -1};
static bool resumed;

void server_resume(struct MHD_Connection *connection)
{
    resumed = true;
    MHD_resume_connection(connection);
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

    server_hooks = (struct server_hooks){handle, body_limit};
    http = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL,
        exchange_receive, NULL, MHD_OPTION_EXTERNAL_LOGGER, log_http, NULL, MHD_OPTION_CONNECTION_LIMIT,
        (unsigned)(LIMIT_CLIENTS + LIMIT_STREAMS), MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)LIMIT_REQUEST_SECONDS,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_MEMORY, MHD_OPTION_NOTIFY_COMPLETED, exchange_complete,
        NULL, MHD_OPTION_NOTIFY_CONNECTION, connection_notice, NULL, MHD_OPTION_UNESCAPE_CALLBACK, unescape, NULL,
        MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1, MHD_OPTION_END);
    info = http != NULL ? MHD_get_daemon_info(http, MHD_DAEMON_INFO_EPOLL_FD) : NULL;
    if (info == NULL || info->epoll_fd < 0) {
        snprintf(reason, reason_size, "The HTTP server (libmicrohttpd) can't start: %s.", strerror(errno));
        return -EIO;
    }
    http_watcher = (struct watcher){.fd = info->epoll_fd, .ready = nothing_to_do};
    error = loop_watch(&http_watcher);
    if (error == 0)
        error = acceptor_start(&server_acceptor, listen_fd, LIMIT_CLIENTS, take_connection);
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
        server_connections_changed = false;
        resumed = false;
        MHD_run(http);
        exchange_suspend_waiting();
    } while (server_connections_changed);
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
    acceptor_stop(&server_acceptor);
    do {
        server_run();
        info = MHD_get_daemon_info(http, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
        if (info == NULL || info->num_connections == 0 || server_deadline() != 0)
            break;
    } while (clock_now() < deadline);
    loop_unwatch(&http_watcher);
    MHD_stop_daemon(http);
    exchange_suspend_waiting(); // none: it frees what was buried
    http = NULL;
}
