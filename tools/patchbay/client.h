// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_CLIENT_H
#define PATCHBAY_CLI_CLIENT_H

// Speaks HTTP with patchbayd over its Unix socket. Functions that return an
// exit code have already told the user on standard error when it isn't
// EXIT_DONE.

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

// What this program was written for: "daemon 1.0 has no X" compares with it.
#define CLIENT_API_MAJOR 1
#define CLIENT_API_MINOR 0

struct command;
struct batch;

struct client {
    const char *socket; // path; not owned
    unsigned timeout_s; // for one request
    bool quiet;         // that it can't be reached isn't explained
    bool json;          // refusals are also written as JSON on standard output
    // Whose requests these are: hints name its options only. NULL: none.
    const struct command *command;
    const char *if_match; // sent with the next request; NULL: no such header
    const json_t *config; // the whole configuration that is sent: refusals name its objects; NULL: none
    struct batch *batch;  // changes are noted there instead of sent; NULL: they are sent
    void *curl;           // CURL *; made by the first request
};

struct reply {
    long status;  // of HTTP
    json_t *body; // owned; see client_clear
};

// Only if the object doesn't exist yet (If-None-Match: *).
enum { CLIENT_CREATE_ONLY = 1 };

// A path under /v1 in the text pool: its segments, percent-encoded, up to a
// NULL. client_path("vifs", name, NULL) is "/v1/vifs/NAME".
const char *client_path(const char *segment, ...) __attribute__((sentinel));

// The path with one more query parameter.
const char *client_query(const char *path, const char *key, const char *value);

// Sends one request (body may be NULL; it stays the caller's) and reads its
// answer, whatever its status. Clears reply first, so one reply serves many
// requests. Returns EXIT_DONE or EXIT_UNREACHED.
int client_send(struct client *client, const char *method, const char *path, const json_t *body, unsigned flags,
                struct reply *reply);

// Whether the status is a success.
bool client_ok(const struct reply *reply);

// Tells the user why the daemon refused; returns EXIT_REFUSED or
// EXIT_UNSUPPORTED.
int client_refused(struct client *client, const struct reply *reply);

// client_send, and client_refused if it was.
int client_do(struct client *client, const char *method, const char *path, const json_t *body, unsigned flags,
              struct reply *reply);

// Reads all pages of a list; *items becomes a new array of objects, *page the
// whole as one page ({"items", "next": null, "generation"}); page may be NULL.
int client_list(struct client *client, const char *path, json_t **items, json_t **page);

// Sends a GET whose answer has no end, and calls take(context, line) for each line (without its newline) as it comes,
// until that returns false, the daemon ends the answer, or nothing came for `silence_s` seconds. Returns EXIT_DONE, or
// EXIT_UNREACHED when there was no answer, or it broke off; a refusal is in reply, with its status.
int client_follow(struct client *client, const char *path, unsigned silence_s,
                  bool (*take)(void *context, const char *line), void *context, struct reply *reply);

// Frees a reply's body. A zeroed reply is clear.
void client_clear(struct reply *reply);

void client_close(struct client *client);

// unreached.c: says why the daemon can't be reached and what to do about it;
// problem is what libcurl had to say.
void client_explain_unreached(const struct client *client, const char *problem);

#endif
