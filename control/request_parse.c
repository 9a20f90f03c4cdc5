// SPDX-License-Identifier: BSD-3-Clause
#include "request.h"

#include <string.h>

// jansson builds what it reads level by level and recurses; so the depth is looked at on the bytes, before. What isn't
// JSON may be miscounted here and is refused there.
static size_t measure_depth(const char *body, size_t size)
{
    size_t depth = 0;
    size_t deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < size; i++) {
        char c = body[i];
        if (in_string) {
            if (c == '\\') {
                i++;
            } else if (c == '"') {
                in_string = false;
            }
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            if (depth > deepest)
                deepest = depth;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

json_t *request_parse(const char *body, size_t size, struct error *error)
{
    error_clear(error);
    if (size > LIMIT_REQUEST_BYTES) {
        error_set(error, PATCHBAY_ERROR_TOO_LARGE, NULL, "a body may have %d bytes, this one has %zu",
                  LIMIT_REQUEST_BYTES, size);
        return NULL;
    }
    if (size == 0) {
        error_set(error, PATCHBAY_ERROR_MALFORMED, NULL, "the body is empty; send the object as JSON");
        return NULL;
    }
    size_t depth = measure_depth(body, size);
    if (depth > LIMIT_REQUEST_DEPTH) {
        error_set(error, PATCHBAY_ERROR_TOO_LARGE, NULL, "the body is nested %zu levels deep; %d are read", depth,
                  LIMIT_REQUEST_DEPTH);
        return NULL;
    }
    json_error_t where;
    json_t *json = json_loadb(body, size, JSON_REJECT_DUPLICATES, &where);
    if (json == NULL) {
        if (json_error_code(&where) == json_error_out_of_memory) {
            error_set(error, PATCHBAY_ERROR_UNAVAILABLE, NULL, "out of memory; nothing was changed, try again");
        } else {
            error_set(error, PATCHBAY_ERROR_MALFORMED, NULL, "the body isn't JSON: line %d, column %d: %s", where.line,
                      where.column, where.text);
        }
        return NULL;
    }
    if (!json_is_object(json)) {
        error_set(error, PATCHBAY_ERROR_MALFORMED, NULL, "the body must be a JSON object ({…}), not an array");
        json_decref(json);
        return NULL;
    }
    return json;
}
