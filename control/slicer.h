// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_SLICER_H
#define PATCHBAY_SLICER_H

// Cuts a large body into its items without building it as JSON: a document of
// 16 MiB may become a hundred times as much memory, its items one by one
// don't. Only the outer object and its arrays are read here; each item is
// JSON, or refused, once request_parse has read it.

#include "error.h"

#include <stdbool.h>
#include <stddef.h>

// A value in a body; its bytes belong to the body.
struct slice {
    const char *text;
    size_t size;
};

// Calls each(arg, key, value) for every member of the object that the body is; the key is good during the call. A
// member that comes twice is given twice, and a value that `each` doesn't read on is nobody's: it may be no JSON.
// Returns 0, or -EINVAL with the error: Malformed with the line, or what `each` set (it returns -EINVAL to stop).
int slicer_object(const char *body, size_t size, int (*each)(void *arg, const char *key, const struct slice *value),
                  void *arg, struct error *error);

// Calls each(arg, value) for every value of an array that slicer_object gave; body is for the line in errors.
int slicer_array(const char *body, const struct slice *array, int (*each)(void *arg, const struct slice *value),
                 void *arg, struct error *error);

#endif
