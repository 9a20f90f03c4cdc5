// SPDX-License-Identifier: BSD-3-Clause
//
// Clients' connections: who it is that connects, whether there is a place, and
// how long we wait for each.

#include "server_private.h"

#include <fcntl.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void miss_deadline(void *arg)
{
    const struct client *client = arg;

    // libmicrohttpd sees the end of the stream and closes.
    shutdown(client->fd, SHUT_RDWR);
}

void connection_wait(struct client *client, uint64_t ns)
{
    if (ns == 0)
        timer_cancel(&client->deadline);
    else
        timer_arm(&client->deadline, clock_now() + ns, miss_deadline, client);
}

void connection_become_stream(struct client *client)
{
    if (client->stream)
        return;
    client->stream = true;
    acceptor_left(&server_acceptor);
    if (client->admitted)
        access_leave(client->peer.uid);
    client->admitted = false;
}

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

void connection_notice(void *cls, struct MHD_Connection *connection, void **context,
                       enum MHD_ConnectionNotificationCode code)
{
    struct client *client = *context;
    struct ucred peer;
    socklen_t size = sizeof(peer);

    (void)cls;
    server_connections_changed = true;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (client != NULL) {
            timer_cancel(&client->deadline);
            if (client->admitted)
                access_leave(client->peer.uid);
            if (!client->stream)
                acceptor_left(&server_acceptor);
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
    connection_wait(client, ARRIVAL_NS);
    acceptor_came(&server_acceptor);
    *context = client;
}
