// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_SERVER_PRIVATE_H
#define PATCHBAY_SERVER_PRIVATE_H

// What the parts of the HTTP server share: server.c runs libmicrohttpd,
// connection.c has the clients, exchange_receive.c their requests,
// exchange_send.c the answers, and exchange.c what all others see of both.
//
// Control thread only.

#include "acceptor.h"
#include "loop.h"
#include "server.h"

#include <microhttpd.h>

// A request trickling in may not hold a place for ever: idle time between two
// requests plus time for one to arrive.
#define ARRIVAL_NS (2 * (uint64_t)LIMIT_REQUEST_SECONDS * 1000000000)

// A connection.
struct client {
    struct peer peer;
    bool admitted; // by access_admit
    int fd;        // libmicrohttpd's
    bool stream;   // has a place of its own
    struct timer deadline;
};

// ---- server.c ----

struct server_hooks {
    void (*handle)(struct exchange *exchange);
    size_t (*body_limit)(const char *method, const char *path);
};

extern struct server_hooks server_hooks;
extern struct acceptor server_acceptor; // counts all connections but streams
extern bool server_connections_changed; // one came or went since server_run began its turn

// Has libmicrohttpd go on with a suspended connection in the next turn.
void server_resume(struct MHD_Connection *connection);

// ---- connection.c ----

// libmicrohttpd's MHD_NotifyConnectionCallback.
void connection_notice(void *cls, struct MHD_Connection *connection, void **context,
                       enum MHD_ConnectionNotificationCode code);
// Hangs up after so many nanoseconds unless it is called again; 0: waits for ever.
void connection_wait(struct client *client, uint64_t ns);
// Makes room for another client: streams have places of their own.
void connection_become_stream(struct client *client);

// ---- exchange_receive.c ----

// Called by libmicrohttpd when the headers are there, for each piece of the
// body, once when all is there, and again after a resume.
enum MHD_Result exchange_receive(void *cls, struct MHD_Connection *connection, const char *path, const char *method,
                                 const char *version, const char *data, size_t *data_size, void **context);
// Suspends those whose answer isn't there yet, and frees the buried. To be called right behind each MHD_run.
void exchange_suspend_waiting(void);
// The exchange was answered and its connection is gone: it is freed once whoever answered has let go of it.
void exchange_bury(struct exchange *exchange);
// Called when the answer was sent, or can't be: the exchange ends.
void exchange_complete(void *cls, struct MHD_Connection *connection, void **context,
                       enum MHD_RequestTerminationCode why);

// ---- exchange_send.c ----

// Gives the answer to libmicrohttpd. MHD_NO, which ends the connection, if memory is out.
enum MHD_Result exchange_send(struct exchange *exchange);

#endif
