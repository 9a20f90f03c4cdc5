// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_SERVER_H
#define PATCHBAY_SERVER_H

// HTTP/1.1 over the Unix socket: libmicrohttpd, run from the control thread's
// loop. It hands over whole requests and sends answers; what they mean is for
// routes.h.

#include "access.h"
#include "audit.h"
#include "error.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

// Who asks, as the kernel tells it.
struct peer {
    pid_t pid;
    uid_t uid;
    enum access access;
    gid_t gid;
    char command[AUDIT_COMMAND_SIZE]; // printable; "" if it can't be told
};

// Renders a long answer piece by piece, so that other clients are served in between.
struct slices {
    // Returns the next piece, whose memory is the callee's until the next call; NULL at the end. A stream may return an
    // empty piece: there will be more, after exchange_wake.
    const char *(*next)(struct slices *slices, size_t *size);
    void (*destroy)(struct slices *slices);
};

// One request and its answer. Belongs to the server; valid until it is
// answered, also when the client has hung up meanwhile.
struct exchange {
    char *method;
    char *path; // decoded, without query
    char *body; // NULL: none came
    size_t body_size;
    // Conditions, as the headers have them; NULL: not given. Copies: a change waits for its turn, and the connection's
    // own memory ends with the connection.
    char *if_match, *if_none_match;
    struct peer peer;

    // The answer, set by the exchange_answer_… functions.
    unsigned status; // 0: not yet
    char *answer;
    size_t answer_size;
    struct slices *slices;
    char etag[24];    // "": none
    char allow[48];   // of 405; "": none
    const char *type; // of the content; NULL: JSON. Static

    // The server's own.
    struct MHD_Connection *connection;
    struct client *client;
    size_t body_room;           // allocated
    bool arrived;               // the request is whole
    size_t body_limit;          // bytes
    bool suspended;             // until it is answered
    bool waits;                 // for being suspended
    bool gone;                  // its connection is, and it isn't answered yet
    SLIST_ENTRY(exchange) link; // of those that wait, or are to be freed
    bool stream;
    bool paused; // a stream that has nothing to send for now
    bool too_large;
    bool crowded;          // there are too many large bodies already
    struct slices *sliced; // being sent
    const char *slice;     // rest of the current slice
    size_t slice_size;
};

// Calls handle for every whole request; it answers at once or later. body_limit says how
// many bytes a request's body may have. Takes the listening descriptor. Returns 0, or -errno with the reason.
int server_start(int listen_fd, void (*handle)(struct exchange *exchange),
                 size_t (*body_limit)(const char *method, const char *path), char *reason, size_t reason_size);

// Accepts, reads, handles, sends; doesn't block. To be called each turn of the loop.
void server_run(void);

// When server_run has to be called next although no descriptor is ready (clock_now, or LOOP_NEVER).
uint64_t server_deadline(void);

// Sends what is answered, for as long as the deadline allows, and closes all.
void server_stop(uint64_t deadline);

// Answers. The first form takes the reference. A generation may be 0: that of a state that nobody has changed yet.
#define EXCHANGE_NO_ETAG UINT64_MAX
void exchange_answer(struct exchange *exchange, unsigned status, json_t *body, uint64_t etag);
// The same with a text (malloc'ed, taken over) that ends in a newline; NULL: memory is out.
void exchange_answer_text(struct exchange *exchange, unsigned status, char *text, size_t size, uint64_t etag);
void exchange_set_etag(struct exchange *exchange, uint64_t etag);
void exchange_answer_slices(struct exchange *exchange, struct slices *slices);
// An answer that goes on for as long as both sides like; it isn't one of the LIMIT_CLIENTS any more. The type of its
// content is a static string.
void exchange_answer_stream(struct exchange *exchange, struct slices *slices, const char *type);
// A stream's next piece is there.
void exchange_wake(struct exchange *exchange);
void exchange_fail(struct exchange *exchange, const struct error *error);

// A header of the request, NULL if it wasn't given. Only until the handler returns: what is needed later is copied.
const char *exchange_header(const struct exchange *exchange, const char *name);
// Calls each(arg, name, value) for all parameters of the query, in order; value may be NULL.
void exchange_each_parameter(const struct exchange *exchange,
                             bool (*each)(void *arg, const char *name, const char *value), void *arg);

#endif
