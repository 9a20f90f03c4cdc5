// SPDX-License-Identifier: BSD-3-Clause
#include "slicer.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

struct cursor {
    const char *body; // for the line in errors
    const char *at;
    const char *end;
    struct error *error;
};

static int refuse(const struct cursor *cursor, const char *wanted)
{
    unsigned long line = 1;
    int len = 0; // of what stands there, for the message; the body has no terminator

    for (const char *c = cursor->body; c < cursor->at; c++)
        line += *c == '\n';
    while (len < 20 && cursor->at + len < cursor->end && cursor->at[len] != '\n')
        len++;
    if (cursor->at >= cursor->end)
        return error_set(cursor->error, PATCHBAY_ERROR_MALFORMED, NULL,
                         "the body isn't JSON: it ends in line %lu where %s is expected", line, wanted);
    return error_set(cursor->error, PATCHBAY_ERROR_MALFORMED, NULL,
                     "the body isn't JSON: line %lu: %s is expected near \"%.*s\"", line, wanted, len, cursor->at);
}

static void skip_space(struct cursor *cursor)
{
    while (cursor->at < cursor->end &&
           (*cursor->at == ' ' || *cursor->at == '\t' || *cursor->at == '\n' || *cursor->at == '\r'))
        cursor->at++;
}

static bool take(struct cursor *cursor, char wanted)
{
    skip_space(cursor);
    if (cursor->at == cursor->end || *cursor->at != wanted)
        return false;
    cursor->at++;
    return true;
}

// Past the quote that ends a string; at its first one to begin with.
static int skip_string(struct cursor *cursor)
{
    for (cursor->at++; cursor->at < cursor->end; cursor->at++) {
        if (*cursor->at == '\\')
            cursor->at++;
        else if (*cursor->at == '"')
            break;
    }
    if (cursor->at >= cursor->end) {
        cursor->at = cursor->end;
        return refuse(cursor, "the end of a string");
    }
    cursor->at++;
    return 0;
}

static int skip_nested(struct cursor *cursor)
{
    size_t depth = 0;

    while (cursor->at < cursor->end) {
        char c = *cursor->at;

        if (c == '"') {
            if (skip_string(cursor) != 0)
                return -EINVAL;
            continue;
        }
        cursor->at++;
        if (c == '{' || c == '[')
            depth++;
        else if ((c == '}' || c == ']') && --depth == 0)
            return 0;
    }
    return refuse(cursor, "the end of an object or array");
}

// Finds where a value ends; whether it is one is seen by who parses it.
static int take_value(struct cursor *cursor, struct slice *value)
{
    skip_space(cursor);
    value->text = cursor->at;
    if (cursor->at == cursor->end || strchr(",:]}", *cursor->at) != NULL)
        return refuse(cursor, "a value");
    if (*cursor->at == '"') {
        if (skip_string(cursor) != 0)
            return -EINVAL;
    } else if (*cursor->at == '{' || *cursor->at == '[') {
        if (skip_nested(cursor) != 0)
            return -EINVAL;
    } else {
        while (cursor->at < cursor->end && strchr(",:]}\"{[ \t\r\n", *cursor->at) == NULL)
            cursor->at++;
    }
    value->size = (size_t)(cursor->at - value->text);
    return 0;
}

// What a key says, escapes and all: as jansson reads it, so that there is one opinion about it. NULL, with the error.
static json_t *read_key(const struct cursor *cursor, const char *text, size_t size)
{
    const struct cursor at = {cursor->body, text, text + size, cursor->error};
    json_t *key = json_loadb(text, size, JSON_DECODE_ANY, NULL);

    if (key == NULL)
        refuse(&at, "a key in UTF-8, without control characters,");
    return key;
}

int slicer_object(const char *body, size_t size, int (*each)(void *arg, const char *key, const struct slice *value),
                  void *arg, struct error *error)
{
    struct cursor cursor = {body, body, body + size, error};
    bool first = true;

    error_clear(error);
    if (!take(&cursor, '{'))
        return refuse(&cursor, "an object ({…})");
    while (!take(&cursor, '}')) {
        const char *begin;
        struct slice value;
        json_t *key;
        int result;

        if (!first && !take(&cursor, ','))
            return refuse(&cursor, "\",\" or \"}\"");
        first = false;
        skip_space(&cursor);
        if (cursor.at == cursor.end || *cursor.at != '"')
            return refuse(&cursor, "a key in quotes");
        begin = cursor.at;
        if (skip_string(&cursor) != 0)
            return -EINVAL;
        key = read_key(&cursor, begin, (size_t)(cursor.at - begin));
        if (key == NULL)
            return -EINVAL;
        result = take(&cursor, ':') ? take_value(&cursor, &value) : refuse(&cursor, "\":\"");
        if (result == 0)
            result = each(arg, json_string_value(key), &value);
        json_decref(key);
        if (result != 0)
            return -EINVAL;
    }
    skip_space(&cursor);
    return cursor.at == cursor.end ? 0 : refuse(&cursor, "the end");
}

int slicer_array(const char *body, const struct slice *array, int (*each)(void *arg, const struct slice *value),
                 void *arg, struct error *error)
{
    struct cursor cursor = {body, array->text, array->text + array->size, error};
    bool first = true;

    if (!take(&cursor, '['))
        return refuse(&cursor, "an array ([…])");
    while (!take(&cursor, ']')) {
        struct slice value;

        if (!first && !take(&cursor, ','))
            return refuse(&cursor, "\",\" or \"]\"");
        first = false;
        if (take_value(&cursor, &value) != 0 || each(arg, &value) != 0)
            return -EINVAL;
    }
    return cursor.at == cursor.end ? 0 : refuse(&cursor, "the end of the array");
}
