// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_ERROR_H
#define PATCHBAY_ERROR_H

// Why a request is refused: what the API's error body is made of. JSON-free;
// request_encode_error renders it.

#include "patchbay/errors.h"
#include "patchbay/limits.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

// In which way an object is used.
enum use_as {
    USE_PORT_VIF,     // a port stands on the vif
    USE_WIRE_A,       // end a of a wire
    USE_WIRE_B,       // end b of a wire
    USE_TEE_PORT,     // port of a T
    USE_TEE_OUT_PORT, // out_port of a T
    USE_NETWORK_PORT, // a port of the network
    USE_NETWORK_WIRE  // a wire of the network
};

// One line of details.used_by, by value: it outlives the model's versions.
struct user {
    enum use_as as;
    char network[LIMIT_NAME_LEN + 1];
    char name[LIMIT_NAME_LEN + 1]; // of the port (USE_PORT_VIF, USE_NETWORK_PORT), else of the wire
    char tee[LIMIT_NAME_LEN + 1];  // USE_TEE_…, else ""
};

enum { ERROR_USERS_MAX = 32 };

struct error {
    enum patchbay_error code; // PATCHBAY_OK: no error
    char field[128];          // dotted path, "tees[2].port"; "" where none is to blame
    char message[512];        // says what to do
    int index;                // of the operation of a transaction; -1: none
    size_t user_count;        // in users; at most ERROR_USERS_MAX
    size_t user_total;        // all there are, also those that had no room
    struct user users[ERROR_USERS_MAX];
};

// Sets the error and forgets its users. field may be NULL. What the arguments quote may be any bytes: control
// characters and what isn't UTF-8 become question marks; a message that is too long is cut. Returns -EINVAL, so that
// callers can write `return error_set(…)`.
int error_set(struct error *error, enum patchbay_error code, const char *field, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

// Makes text what can stand in JSON and on a terminal, in place: what is broken or isn't printable becomes a question
// mark.
void error_make_printable(char *text);

// No error.
void error_clear(struct error *error);

// Adds one user, or only counts it when there is no room left.
void error_add_user(struct error *error, enum use_as as, const char *network, const char *name, const char *tee);

// Puts prefix before the field: error_prefix(error, "tees[%zu].", i).
void error_prefix(struct error *error, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Takes prefix off the front of the field if it is there.
void error_strip(struct error *error, const char *prefix);

// The stable code in the body, "PortInUse"; static.
const char *error_code_name(enum patchbay_error code);

// The HTTP status that goes with it.
int error_http_status(enum patchbay_error code);

#endif
