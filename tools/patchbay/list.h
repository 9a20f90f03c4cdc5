// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_LIST_H
#define PATCHBAY_CLI_LIST_H

// Lists of objects as tables.

#include "command.h"

#include <jansson.h>

struct list_column {
    const char *name;                            // heading; up to one without
    const char *path;                            // of the field, or NULL:
    const char *(*describe)(const json_t *item); // what makes its text
};

// Prints the objects under path as a table, as names (--names) or as JSON;
// hint if there are none. Returns an exit code.
int list_run(struct call *call, const char *path, const struct list_column *columns, const char *hint);

// The table alone.
void list_print(const json_t *items, const struct list_column *columns);

// One object: its fields, one a line. Returns EXIT_DONE.
int list_print_one(const json_t *object, const struct list_column *columns);

// Columns of vifs and of ports.
extern const struct list_column list_vif_columns[];
extern const struct list_column list_port_columns[];

// "vhost:/run/…", as the command line takes it.
const char *list_describe_target(const json_t *vif);

// "wire w1 a, tap ids of w1", from status.used_by.
const char *list_describe_users(const json_t *object);

// "rack=a3 …"
const char *list_describe_labels(const json_t *object);

#endif
