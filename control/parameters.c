// SPDX-License-Identifier: BSD-3-Clause
#include "parameters.h"

#include "names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum value { VALUE_FLAG, VALUE_NUMBER, VALUE_NAME, VALUE_SEQ, VALUE_UUID };

static const struct row {
    const char *name;
    enum parameter_set bit;
    enum value value;
    uint32_t min, max;
    size_t offset; // in struct parameters: bool, int (WHEN_READY), uint32_t or the name
} rows[] = {
    {"limit", PARAMETER_LIMIT, VALUE_NUMBER, 1, LIMIT_LIST, offsetof(struct parameters, limit)},
    {"after", PARAMETER_AFTER, VALUE_NAME, 0, 0, offsetof(struct parameters, after)},
    {"detach", PARAMETER_DETACH, VALUE_FLAG, 0, 1, offsetof(struct parameters, options.detach)},
    {"force", PARAMETER_FORCE, VALUE_FLAG, 0, 1, offsetof(struct parameters, options.force)},
    {"when_ready", PARAMETER_WHEN_READY, VALUE_FLAG, 0, 1, offsetof(struct parameters, options.when_ready)},
    {"quiet_ms", PARAMETER_QUIET_MS, VALUE_NUMBER, 0, LIMIT_DRAIN_MS, offsetof(struct parameters, options.quiet_ms)},
    {"drain_ms", PARAMETER_DRAIN_MS, VALUE_NUMBER, 0, LIMIT_DRAIN_MS, offsetof(struct parameters, options.drain_ms)},
    {"queues", PARAMETER_QUEUES, VALUE_FLAG, 0, 1, offsetof(struct parameters, queues)},
    {"wait", PARAMETER_WAIT, VALUE_NUMBER, 0, PARAMETER_WAIT_MAX, offsetof(struct parameters, options.wait_seconds)},
    {"dry_run", PARAMETER_DRY_RUN, VALUE_FLAG, 0, 1, offsetof(struct parameters, dry_run)},
    {"since", PARAMETER_SINCE, VALUE_SEQ, 0, 0, offsetof(struct parameters, since)},
    {"instance", PARAMETER_INSTANCE, VALUE_UUID, 0, 0, offsetof(struct parameters, instance)},
    {"detail", PARAMETER_DETAIL, VALUE_FLAG, 0, 1, offsetof(struct parameters, detail)},
};

enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]) };

struct visit {
    unsigned allowed;
    unsigned seen;
    struct parameters *parameters;
    struct error *error;
    bool failed;
};

// "limit, after", for the message that refuses another one.
static void list_allowed(unsigned allowed, char *text, size_t size)
{
    text[0] = '\0';
    for (size_t i = 0; i < ROW_COUNT; i++) {
        if ((allowed & rows[i].bit) == 0)
            continue;
        if (text[0] != '\0')
            strlcat(text, ", ", size);
        strlcat(text, rows[i].name, size);
    }
    if (text[0] == '\0')
        strlcpy(text, "none", size);
}

static int set_flag(const struct row *row, const char *value, struct parameters *parameters, struct error *error)
{
    bool on = strcmp(value, "1") == 0;
    void *field = (char *)parameters + row->offset;

    if (!on && strcmp(value, "0") != 0)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, row->name, "The parameter %s takes 1 or 0: ?%s=1.", row->name,
                         row->name);
    if (row->bit == PARAMETER_WHEN_READY)
        *(int *)field = on;
    else
        *(bool *)field = on;
    return 0;
}

static int set_value(const struct row *row, const char *value, struct parameters *parameters, struct error *error)
{
    void *field = (char *)parameters + row->offset;
    const char *wrong = NULL;

    switch (row->value) {
    case VALUE_FLAG:
        return set_flag(row, value, parameters, error);
    case VALUE_NUMBER:
        *(uint32_t *)field = (uint32_t)strtonum(value, row->min, row->max, &wrong);
        // strtonum would take spaces and a sign before the digits.
        if (wrong != NULL || strspn(value, "0123456789") != strlen(value))
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, row->name,
                             "The parameter %s takes a number from %u to %u.", row->name, row->min, row->max);
        return 0;
    case VALUE_NAME:
        if (!names_valid(value))
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, row->name,
                             "The parameter %s takes a name: " NAMES_RULE ".", row->name);
        strlcpy(field, value, LIMIT_NAME_LEN + 1);
        return 0;
    case VALUE_SEQ:
        // Eighteen digits fit any 64-bit number, and no counter of events comes near.
        if (value[0] == '\0' || strspn(value, "0123456789") != strlen(value) || strlen(value) > 18)
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, row->name,
                             "The parameter %s takes the number (seq) of an event.", row->name);
        *(uint64_t *)field = strtoull(value, NULL, 10);
        parameters->has_since = true;
        return 0;
    case VALUE_UUID:
        if (strlen(value) != 36 || strspn(value, "0123456789abcdefABCDEF-") != 36)
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, row->name,
                             "The parameter %s takes a UUID, as GET /v1/version shows it.", row->name);
        strlcpy(field, value, 37);
        return 0;
    }
    return 0;
}

static bool take(void *arg, const char *name, const char *value)
{
    struct visit *visit = arg;
    const struct row *row = NULL;
    char allowed[128];

    for (size_t i = 0; i < ROW_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0 && (visit->allowed & rows[i].bit) != 0)
            row = &rows[i];
    if (row == NULL) {
        list_allowed(visit->allowed, allowed, sizeof(allowed));
        error_set(visit->error, PATCHBAY_ERROR_UNKNOWN_FIELD, name,
                  "This request has no parameter \"%.64s\". It takes: %s.", name, allowed);
    } else if ((visit->seen & row->bit) != 0) {
        error_set(visit->error, PATCHBAY_ERROR_BAD_VALUE, name, "The parameter %s is given twice.", name);
    } else {
        visit->seen |= row->bit;
        visit->failed = set_value(row, value != NULL ? value : "", visit->parameters, visit->error) != 0;
        return !visit->failed;
    }
    visit->failed = true;
    return false;
}

static void set_defaults(struct parameters *parameters)
{
    *parameters = (struct parameters){
        .limit = LIMIT_LIST,
        .options = {.when_ready = -1, .quiet_ms = DEFAULT_QUIET_MS, .drain_ms = DEFAULT_DRAIN_MS},
    };
}

// Returns 0 or -EINVAL.
static int settle(const struct visit *visit)
{
    visit->parameters->given = visit->seen;
    visit->parameters->options.drain_given = (visit->seen & (PARAMETER_QUIET_MS | PARAMETER_DRAIN_MS)) != 0;
    return visit->failed ? -EINVAL : 0;
}

int parameters_parse(const struct exchange *exchange, unsigned allowed, struct parameters *parameters,
                     struct error *error)
{
    struct visit visit = {.allowed = allowed, .parameters = parameters, .error = error};

    set_defaults(parameters);
    exchange_each_parameter(exchange, take, &visit);
    return settle(&visit);
}

size_t parameters_count(void)
{
    return ROW_COUNT;
}

json_t *parameters_describe(size_t index, unsigned allowed)
{
    const struct row *row = &rows[index];
    json_t *schema;

    if ((allowed & row->bit) == 0)
        return NULL;
    if (row->value == VALUE_FLAG)
        schema = json_pack("{ss s[ii]}", "type", "integer", "enum", 0, 1);
    else if (row->value == VALUE_NUMBER)
        schema = json_pack("{ss sI sI}", "type", "integer", "minimum", (json_int_t)row->min, "maximum",
                           (json_int_t)row->max);
    else if (row->value == VALUE_SEQ)
        schema = json_pack("{ss si}", "type", "integer", "minimum", 0);
    else
        schema = json_pack("{ss}", "type", "string");
    return json_pack("{ss ss so}", "name", row->name, "in", "query", "schema", schema);
}

int parameters_parse_query(char *query, unsigned allowed, struct parameters *parameters, struct error *error)
{
    struct visit visit = {.allowed = allowed, .parameters = parameters, .error = error};
    char *pair;

    set_defaults(parameters);
    // No value that a parameter may have needs an escape, so none is read.
    while (!visit.failed && (pair = strsep(&query, "&")) != NULL) {
        char *value = strchr(pair, '=');

        if (value != NULL)
            *value++ = '\0';
        if (pair[0] != '\0')
            take(&visit, pair, value);
    }
    return settle(&visit);
}
