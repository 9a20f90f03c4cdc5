// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_PARAMETERS_H
#define PATCHBAY_PARAMETERS_H

// The query of a request: which parameters a route takes, and their values.

#include "command.h"
#include "error.h"
#include "server.h"

// Bits of struct route.parameters.
enum parameter_set {
    PARAMETER_LIMIT = 1 << 0,
    PARAMETER_AFTER = 1 << 1,
    PARAMETER_DETACH = 1 << 2,
    PARAMETER_FORCE = 1 << 3,
    PARAMETER_WHEN_READY = 1 << 4,
    PARAMETER_QUIET_MS = 1 << 5,
    PARAMETER_DRAIN_MS = 1 << 6,
    PARAMETER_WAIT = 1 << 7,
    PARAMETER_DRY_RUN = 1 << 8,
    PARAMETER_QUEUES = 1 << 9,
    PARAMETER_SINCE = 1 << 16,
    PARAMETER_INSTANCE = 1 << 17,
    PARAMETER_DETAIL = 1 << 18,

    PARAMETERS_LIST = PARAMETER_LIMIT | PARAMETER_AFTER,
    PARAMETERS_DRAIN = PARAMETER_QUIET_MS | PARAMETER_DRAIN_MS | PARAMETER_WAIT,
    PARAMETERS_TRANSACTION = PARAMETERS_DRAIN | PARAMETER_DRY_RUN,
    PARAMETERS_CONFIG = PARAMETERS_TRANSACTION | PARAMETER_FORCE | PARAMETER_WHEN_READY,
    PARAMETERS_EVENTS = PARAMETER_SINCE | PARAMETER_INSTANCE,
    PARAMETERS_TEE = PARAMETER_FORCE | PARAMETER_WHEN_READY | PARAMETERS_DRAIN,
};

enum { PARAMETER_WAIT_MAX = 60 };

struct parameters {
    uint32_t limit;
    char after[LIMIT_NAME_LEN + 1]; // "": from the start
    bool dry_run;
    bool queues;
    struct command_options options;
    bool has_since;
    uint64_t since;    // number of an event
    char instance[37]; // of which run of the daemon; "": not given
    bool detail;
    unsigned given; // enum parameter_set: which of them the query has
};

// Returns 0, or -EINVAL with the error: a parameter that the route doesn't
// take, that is given twice, or whose value can't be.
int parameters_parse(const struct exchange *exchange, unsigned allowed, struct parameters *parameters,
                     struct error *error);

// For the API's description: how many parameters there are, and each that is in
// the set as an object of OpenAPI (NULL: it isn't). New reference.
size_t parameters_count(void);
json_t *parameters_describe(size_t index, unsigned allowed);

// The same of a query by itself ("detach=1&…"), which is written to.
int parameters_parse_query(char *query, unsigned allowed, struct parameters *parameters, struct error *error);

#endif
