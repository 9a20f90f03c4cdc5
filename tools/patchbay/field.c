// SPDX-License-Identifier: BSD-3-Clause
#include "field.h"

#include <err.h>
#include <string.h>

json_t *field_get(const json_t *object, const char *path)
{
    const json_t *value = object;
    while (*path != '\0') {
        size_t length = strcspn(path, ".");
        value = json_object_getn(value, path, length);
        if (value == NULL)
            return NULL;
        path += length;
        if (*path == '.')
            path++;
    }
    return value == NULL || json_is_null(value) ? NULL : (json_t *)value;
}

const char *field_text(const json_t *object, const char *path, const char *otherwise)
{
    const char *text = json_string_value(field_get(object, path));
    return text == NULL ? otherwise : text;
}

uint64_t field_count(const json_t *object, const char *path)
{
    json_int_t count = json_integer_value(field_get(object, path));
    return count < 0 ? 0 : (uint64_t)count;
}

size_t field_size(const json_t *object, const char *path)
{
    return json_array_size(field_get(object, path));
}

json_t *field_item(const json_t *object, const char *path, size_t i)
{
    return json_array_get(field_get(object, path), i);
}

bool field_same(const json_t *a, const json_t *b, const char *path)
{
    return strcmp(field_text(a, path, ""), field_text(b, path, "")) == 0;
}

void field_set(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value) != 0)
        errx(1, "out of memory");
}

void field_set_text(json_t *object, const char *key, const char *text)
{
    field_set(object, key, text == NULL ? json_null() : json_string(text));
}

json_t *field_object(void)
{
    json_t *object = json_object();
    if (object == NULL)
        errx(1, "out of memory");
    return object;
}
