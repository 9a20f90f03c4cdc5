// SPDX-License-Identifier: BSD-3-Clause
#include "config.h"

#include "request.h"

#include <string.h>

static void begin(FILE *out, const char *action, const struct object *object)
{
    fprintf(out, "%s{\"action\":\"%s\",\"kind\":\"%s\"", ftell(out) > 0 ? "," : "", action,
            object_kind_name(object->kind));
    if (object->network[0] != '\0')
        fprintf(out, ",\"network\":\"%s\"", object->network);
    fprintf(out, ",\"name\":\"%s\"", object->name);
}

void config_plan_create(FILE *out, const struct object *next, bool replaces, bool whole)
{
    json_t *shown = whole ? request_encode(next) : NULL;

    begin(out, replaces ? "replace" : "create", next);
    if (shown != NULL) {
        json_object_del(shown, "uid");
        fputs(",\"object\":", out);
        json_dumpf(shown, out, JSON_COMPACT);
    }
    json_decref(shown);
    fputc('}', out);
}

void config_plan_delete(FILE *out, const struct object *old)
{
    begin(out, "delete", old);
    fputc('}', out);
}

// ---- which fields ----

struct fields {
    FILE *out;
    const char *prefix; // "tees.fw." or ""
    bool any;
};

static void print_value(FILE *out, const json_t *value)
{
    if (value == NULL)
        fputs("null", out);
    else
        json_dumpf(value, out, JSON_COMPACT | JSON_ENCODE_ANY);
}

static void add_field(struct fields *fields, const char *name, const json_t *from, const json_t *to)
{
    fprintf(fields->out, "%s{\"field\":\"%s%s\",\"from\":", fields->any ? "," : "", fields->prefix, name);
    print_value(fields->out, from);
    fputs(",\"to\":", fields->out);
    print_value(fields->out, to);
    fputc('}', fields->out);
    fields->any = true;
}

// Both have the same fields, since both are of one kind and shown by one table.
static void compare(struct fields *fields, const json_t *old, const json_t *next)
{
    const char *key;
    json_t *to;

    json_object_foreach((json_t *)next, key, to)
    {
        const json_t *from = json_object_get(old, key);

        if (strcmp(key, "uid") != 0 && strcmp(key, "tees") != 0 && !json_equal(from, to))
            add_field(fields, key, from, to);
    }
}

static json_t *find_tee(const json_t *tees, const char *name)
{
    json_t *tee;
    size_t i;

    json_array_foreach((json_t *)tees, i,
                       tee) if (strcmp(json_string_value(json_object_get(tee, "name")), name) == 0) return tee;
    return NULL;
}

// The names of those that are in both, in the order of one.
static json_t *list_common(const json_t *tees, const json_t *others)
{
    json_t *names = json_array(), *tee;
    size_t i;

    json_array_foreach((json_t *)tees, i, tee)
    {
        json_t *name = json_object_get(tee, "name");

        if (find_tee(others, json_string_value(name)) != NULL)
            json_array_append(names, name);
    }
    return names;
}

static void compare_tees(struct fields *fields, const json_t *old, const json_t *next)
{
    const json_t *were = json_object_get(old, "tees"), *are = json_object_get(next, "tees");
    json_t *before = list_common(were, are), *after = list_common(are, were), *tee;
    char prefix[LIMIT_NAME_LEN + sizeof("tees..")];
    size_t i;

    json_array_foreach((json_t *)were, i, tee)
    {
        const char *name = json_string_value(json_object_get(tee, "name"));

        snprintf(prefix, sizeof(prefix), "tees.%s", name);
        json_object_del(tee, "uid");
        if (find_tee(are, name) == NULL)
            add_field(fields, prefix, tee, NULL);
    }
    json_array_foreach((json_t *)are, i, tee)
    {
        const char *name = json_string_value(json_object_get(tee, "name"));
        json_t *was = find_tee(were, name);

        snprintf(prefix, sizeof(prefix), "tees.%s%s", name, was == NULL ? "" : ".");
        json_object_del(tee, "uid");
        if (was == NULL) {
            add_field(fields, prefix, NULL, tee);
            continue;
        }
        fields->prefix = prefix;
        compare(fields, was, tee);
        fields->prefix = "";
    }
    if (!json_equal(before, after))
        add_field(fields, "tees", before, after);
    json_decref(before);
    json_decref(after);
}

void config_plan_change(FILE *out, const struct object *old, const struct object *next)
{
    json_t *was = request_encode(old), *is = request_encode(next);
    struct fields fields = {.out = out, .prefix = ""};

    begin(out, "change", next);
    fputs(",\"fields\":[", out);
    if (was != NULL && is != NULL) {
        compare(&fields, was, is);
        if (next->kind == OBJECT_WIRE)
            compare_tees(&fields, was, is);
    }
    fputs("]}", out);
    json_decref(was);
    json_decref(is);
}
