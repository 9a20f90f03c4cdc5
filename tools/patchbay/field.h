// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_FIELD_H
#define PATCHBAY_CLI_FIELD_H

// Reading the daemon's JSON. Nothing about it is taken for granted: a missing
// field, or one of another type, reads as the given default. A path is dotted:
// "status.state".

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

// The value at the path, borrowed, or NULL (also for a JSON null).
json_t *field_get(const json_t *object, const char *path);

// The text at the path, borrowed from the object; otherwise is returned if
// there is none.
const char *field_text(const json_t *object, const char *path, const char *otherwise);

// The count at the path; 0 if there is none or it is negative.
uint64_t field_count(const json_t *object, const char *path);

// The number of items of the array at the path; 0 if there is none.
size_t field_size(const json_t *object, const char *path);

// Item i of the array at the path, borrowed, or NULL.
json_t *field_item(const json_t *object, const char *path, size_t i);

// Whether both hold equal text at the path, or neither holds any.
bool field_same(const json_t *a, const json_t *b, const char *path);

// Sets a member of an object; takes over the reference. Ends the program if
// there is no memory.
void field_set(json_t *object, const char *key, json_t *value);

// The same with a text; NULL sets null.
void field_set_text(json_t *object, const char *key, const char *text);

// A new empty object. Ends the program if there is no memory.
json_t *field_object(void);

#endif
