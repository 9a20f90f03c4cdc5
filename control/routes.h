// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_ROUTES_H
#define PATCHBAY_ROUTES_H

// The API's paths, in one table: which handler answers a request, which
// parameters it takes. See docs/api.md, which says the same to clients.

#include "model.h"
#include "parameters.h"
#include "server.h"

// What a request is about, as its path says.
struct target {
    enum object_kind kind;
    bool is_host; // the path is the host's: kind means nothing
    bool is_tee;
    char network[LIMIT_NAME_LEN + 1]; // "" for networks and vifs
    char name[LIMIT_NAME_LEN + 1];    // "" for lists
    char tee[LIMIT_NAME_LEN + 1];     // "" if it is none
    char key[LIMIT_NAME_LEN + 1];     // of conf; "" if it is none
};

typedef void route_handler(struct exchange *exchange, const struct target *target, const struct parameters *parameters);

struct route {
    const char *method;
    const char *path; // "{…}" stands for a name
    route_handler *handler;
    enum object_kind kind;
    unsigned parameters; // enum parameter_set
    bool read_only;      // open to the readers' group: it changes nothing, and shows no frames
    const char *help;
};

// The table; ends with a method of NULL.
extern const struct route routes[];

// The route of a change within a transaction: what its path names, and which parameters it takes. Returns 0, or -EINVAL
// with the error, whose field is "path" or "method".
int routes_find_change(const char *method, const char *path, struct target *target, unsigned *parameters,
                       struct error *error);

// How many bytes the body of a request may have.
size_t routes_body_limit(const char *method, const char *path);

// Finds the route and calls its handler, or answers why there is none.
void routes_handle(struct exchange *exchange);

#endif
