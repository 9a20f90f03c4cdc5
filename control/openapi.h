// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_OPENAPI_H
#define PATCHBAY_OPENAPI_H

// The API's description in OpenAPI 3.0, made from what the daemon goes by: the
// routes, the parameters, the tables of fields, of counters and of errors. What
// no table says, the shape of statuses and statistics, stands in openapi_schemas.c.

#include <jansson.h>
#include <stdio.h>

// Prints the description as YAML: docs/openapi.yaml is its output. Returns 0,
// or -ENOENT after a message for each route or field that has no description.
int openapi_print(FILE *out);

// ---- openapi_schemas.c ----

// Adds all schemas to components (new keys "Vif", "VifPut", …). Returns how many
// fields could not be described; each has had its message.
unsigned openapi_add_schemas(json_t *schemas);

// {"$ref":"#/components/schemas/NAME"}
json_t *openapi_reference(const char *name);

#endif
