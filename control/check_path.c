// SPDX-License-Identifier: BSD-3-Clause
// What is judged of a request before its body: does the path lead to
// something, do the preconditions hold?

#include "check.h"
#include "names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

// ---- names that don't exist ----

// A suggestion is worth a few milliseconds of everybody's time, not more: of many objects only these next to
// where the name would stand are looked at.
enum { SUGGEST_ALL = 4096, SUGGEST_EACH_SIDE = 1024 };

static const char *suggest(const struct model *model, enum object_kind kind, const char *network, const char *name)
{
    struct names_nearest nearest;
    names_nearest_init(&nearest, name);
    if (model_count(model, kind) <= SUGGEST_ALL) {
        for (const struct object *o = model_first(model, kind, network, "", false); o != NULL; o = model_next_in(o))
            names_nearest_offer(&nearest, o->name);
        return nearest.best;
    }
    const struct object *at = model_first(model, kind, network, name, false);
    size_t count = 0;
    for (const struct object *o = at; o != NULL && count < SUGGEST_EACH_SIDE; o = model_next_in(o), count++)
        names_nearest_offer(&nearest, o->name);
    count = 0;
    for (const struct object *o = at != NULL ? model_prev(at) : NULL;
         o != NULL && strcmp(o->network, network) == 0 && count < SUGGEST_EACH_SIDE; o = model_prev(o), count++)
        names_nearest_offer(&nearest, o->name);
    return nearest.best;
}

int check_refuse_missing(const struct model *model, enum patchbay_error code, const char *field, enum object_kind kind,
                         const char *network, const char *name, struct error *error)
{
    char where[LIMIT_NAME_LEN + sizeof(" in network \"\"")] = "";
    if (kind == OBJECT_PORT || kind == OBJECT_WIRE)
        snprintf(where, sizeof(where), " in network \"%s\"", network);
    const char *best = suggest(model, kind, network, name);
    if (best != NULL)
        return error_set(error, code, field, "there is no %s \"%.80s\"%s; did you mean \"%s\"?", object_kind_name(kind),
                         name, where, best);
    return error_set(error, code, field, "there is no %s \"%.80s\"%s; create it first, or correct the name",
                     object_kind_name(kind), name, where);
}

const struct object *check_find(const struct model *model, enum object_kind kind, const char *network, const char *name,
                                struct error *error)
{
    if (network == NULL)
        network = "";
    const struct object *object = model_find(model, kind, network, name);
    if (object != NULL)
        return object;
    if (network[0] != '\0' && model_find_network(model, network) == NULL) {
        check_refuse_missing(model, PATCHBAY_ERROR_NOT_FOUND, NULL, OBJECT_NETWORK, "", network, error);
    } else {
        check_refuse_missing(model, PATCHBAY_ERROR_NOT_FOUND, NULL, kind, network, name, error);
    }
    return NULL;
}

int check_find_tee(const struct wire *wire, const char *name, struct error *error)
{
    int position = wire_find_tee(wire, name);
    if (position >= 0)
        return position;
    struct names_nearest nearest;
    names_nearest_init(&nearest, name);
    for (size_t i = 0; i < wire->tee_count; i++)
        names_nearest_offer(&nearest, wire->tees[i].object.name);
    if (nearest.best != NULL) {
        error_set(error, PATCHBAY_ERROR_NOT_FOUND, NULL, "wire \"%s\" has no T \"%.80s\"; did you mean \"%s\"?",
                  wire->object.name, name, nearest.best);
    } else {
        error_set(error, PATCHBAY_ERROR_NOT_FOUND, NULL, "wire \"%s\" has no T \"%.80s\"; it has %zu",
                  wire->object.name, name, wire->tee_count);
    }
    return -1;
}

// ---- preconditions ----

// Does the list name the tag? Weak ones are taken for what they name, or never match. Returns 1, 0, or -EINVAL for what
// is no list of entity tags (RFC 9110 section 8.8.3).
static int match_tags(const char *list, const char *tag, bool take_weak)
{
    int matched = 0;
    bool any = false;
    for (const char *c = list;;) {
        while (*c == ' ' || *c == '\t' || *c == ',')
            c++;
        if (*c == '\0')
            return any ? matched : -EINVAL;
        bool weak = c[0] == 'W' && c[1] == '/';
        if (weak)
            c += 2;
        if (*c != '"')
            return -EINVAL;
        const char *end = strchr(c + 1, '"');
        if (end == NULL)
            return -EINVAL;
        size_t len = (size_t)(end - c - 1);
        if ((take_weak || !weak) && len == strlen(tag) && memcmp(c + 1, tag, len) == 0)
            matched = 1;
        any = true;
        c = end + 1;
        while (*c == ' ' || *c == '\t')
            c++;
        if (*c != ',' && *c != '\0')
            return -EINVAL;
    }
}

static int check_condition(const struct object *object, const char *value, bool is_none, bool *matched,
                           struct error *error)
{
    const char *header = is_none ? "If-None-Match" : "If-Match";
    if (strcmp(value, "*") == 0) {
        *matched = object != NULL;
        return 0;
    }
    char tag[24] = "";
    if (object != NULL)
        snprintf(tag, sizeof(tag), "%llu", (unsigned long long)object->generation);
    // Sections 13.1.1 and 13.1.2: strong comparison for the one, weak for the other.
    int ret = match_tags(value, tag, is_none);
    if (ret < 0)
        return error_set(error, PATCHBAY_ERROR_MALFORMED, NULL, "%s takes * or entity tags such as \"17\", not %.80s",
                         header, value);
    *matched = object != NULL && ret == 1;
    return 0;
}

int check_fresh(const struct object *object, const char *if_none_match, bool *fresh, struct error *error)
{
    error_clear(error);
    *fresh = false;
    return if_none_match != NULL ? check_condition(object, if_none_match, true, fresh, error) : 0;
}

int check_match(const struct object *object, const char *if_match, const char *if_none_match, struct error *error)
{
    error_clear(error);
    bool matched;
    if (if_match != NULL) {
        if (check_condition(object, if_match, false, &matched, error) != 0)
            return -EINVAL;
        if (!matched && object == NULL)
            return error_set(error, PATCHBAY_ERROR_STALE, NULL, "If-Match is %.80s and the object doesn't exist",
                             if_match);
        if (!matched)
            return error_set(error, PATCHBAY_ERROR_STALE, NULL,
                             "If-Match is %.80s and the object is at \"%llu\"; read it again and redo the change",
                             if_match, (unsigned long long)object->generation);
    }
    if (if_none_match != NULL) {
        if (check_condition(object, if_none_match, true, &matched, error) != 0)
            return -EINVAL;
        if (matched && strcmp(if_none_match, "*") == 0)
            return error_set(error, PATCHBAY_ERROR_EXISTS, NULL,
                             "%s \"%s\" exists already, and If-None-Match: * only creates",
                             object_kind_name(object->kind), object->name);
        if (matched)
            return error_set(error, PATCHBAY_ERROR_EXISTS, NULL,
                             "%s \"%s\" is at \"%llu\", which If-None-Match excludes", object_kind_name(object->kind),
                             object->name, (unsigned long long)object->generation);
    }
    return 0;
}
