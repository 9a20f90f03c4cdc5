// SPDX-License-Identifier: BSD-3-Clause
#include "conf.h"

#include "control.h"
#include "devices.h"
#include "names.h"
#include "request.h"

#include <ctype.h>
#include <err.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { TABLES_MAX = 16, KEYS_MAX = 256 };

static const struct conf_table *tables[TABLES_MAX];
static size_t table_count;

static const char *const entity_names[CONF_ENTITY_COUNT] = {"host", "network", "port", "vif", "wire"};

// Calls each(arg, row) for the rows of an entity; ends early and returns the row for which it is true.
static const struct conf_row *find_row(enum conf_entity entity, bool (*each)(void *arg, const struct conf_row *row),
                                       void *arg)
{
    for (size_t i = 0; i < table_count; i++) {
        for (size_t j = 0; j < tables[i]->count; j++) {
            const struct conf_row *row = &tables[i]->rows[j];

            if (row->entity == entity && each(arg, row))
                return row;
        }
    }
    return NULL;
}

static bool has_key(void *arg, const struct conf_row *row)
{
    return strcmp(row->key, arg) == 0;
}

static const struct conf_row *row_of(enum conf_entity entity, const char *key)
{
    return find_row(entity, has_key, (void *)key);
}

void conf_register(const struct conf_table *table)
{
    for (size_t i = 0; i < table->count; i++)
        if (row_of(table->rows[i].entity, table->rows[i].key) != NULL)
            errx(1, "conf: the key %s of a %s is registered twice", table->rows[i].key,
                 entity_names[table->rows[i].entity]);
    if (table_count == TABLES_MAX)
        errx(1, "conf: too many tables of keys");
    tables[table_count++] = table;
}

// ---- subjects ----

void conf_subject_fill(struct conf_subject *subject, enum conf_entity entity, const struct object *object)
{
    *subject = (struct conf_subject){.entity = entity, .object = object};
    if (entity == CONF_VIF) {
        const struct vif *vif = (const struct vif *)object;

        subject->there = device_usable(vif->slot) && vif_read_state(vif->slot, &subject->state);
    }
}

const char *conf_noun(const struct conf_subject *subject)
{
    static char noun[LIMIT_NAME_LEN + 16];

    if (subject->object == NULL)
        return "the host";
    snprintf(noun, sizeof(noun), "%s %s", entity_names[subject->entity], subject->object->name);
    return noun;
}

static enum conf_access access_of(const struct conf_subject *subject, const struct conf_row *row)
{
    return row->access[subject->entity == CONF_VIF ? ((const struct vif *)subject->object)->kind : 0];
}

bool conf_is_writable(const struct conf_subject *subject, const struct conf_row *row)
{
    return access_of(subject, row) == CONF_RW;
}

// ---- values ----

json_t *conf_refuse(char *reason, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    vsnprintf(reason, CONF_REASON_SIZE, format, args);
    va_end(args);
    return NULL;
}

json_t *conf_get_field(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    json_t *shown = request_encode(subject->object);
    json_t *value = json_incref(json_object_get(shown, row->field));

    json_decref(shown);
    return value != NULL ? value : conf_refuse(reason, "memory is out; try again");
}

static json_t *get(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    if (access_of(subject, row) == CONF_NO)
        return conf_refuse(reason, "%s", row->wants);
    return row->get(subject, row, reason);
}

struct listing {
    const struct conf_subject *subject;
    size_t count;
    const char *keys[KEYS_MAX];
};

static bool list_key(void *arg, const struct conf_row *row)
{
    struct listing *listing = arg;
    char reason[CONF_REASON_SIZE];
    json_t *value = get(listing->subject, row, reason);

    if (value != NULL && listing->count < KEYS_MAX)
        listing->keys[listing->count++] = row->key;
    json_decref(value);
    return false;
}

static int compare_keys(const void *one, const void *other)
{
    return strcmp(*(const char *const *)one, *(const char *const *)other);
}

json_t *conf_list(const struct conf_subject *subject)
{
    struct listing listing = {.subject = subject};
    json_t *keys = json_array();

    find_row(subject->entity, list_key, &listing);
    qsort(listing.keys, listing.count, sizeof(listing.keys[0]), compare_keys);
    for (size_t i = 0; i < listing.count; i++)
        json_array_append_new(keys, json_string(listing.keys[i]));
    return json_pack("{so}", "keys", keys);
}

static bool offer_key(void *arg, const struct conf_row *row)
{
    names_nearest_offer(arg, row->key);
    return false;
}

static void refuse_unknown(const struct conf_subject *subject, const char *key, struct error *error)
{
    struct names_nearest nearest;

    names_nearest_init(&nearest, key);
    find_row(subject->entity, offer_key, &nearest);
    if (nearest.best != NULL)
        error_set(error, PATCHBAY_ERROR_CAP_NOT_SUPPORTED, "key", "A %s has no key \"%.80s\"; did you mean \"%s\"?",
                  entity_names[subject->entity], key, nearest.best);
    else
        error_set(error, PATCHBAY_ERROR_CAP_NOT_SUPPORTED, "key",
                  "A %s has no key \"%.80s\". Its conf lists those that work; docs/conf.md has all.",
                  entity_names[subject->entity], key);
}

const struct conf_row *conf_find(const struct conf_subject *subject, const char *key, json_t **value,
                                 struct error *error)
{
    const struct conf_row *row = row_of(subject->entity, key);
    char reason[CONF_REASON_SIZE] = "";
    json_t *found;

    if (row == NULL) {
        refuse_unknown(subject, key, error);
        return NULL;
    }
    found = get(subject, row, reason);
    if (found == NULL) {
        error_set(error, PATCHBAY_ERROR_CAP_NOT_SUPPORTED, "key", "%s has no %s%s: %s.", conf_noun(subject), key,
                  access_of(subject, row) != CONF_NO ? " now" : "", reason);
        error->message[0] = (char)toupper((unsigned char)error->message[0]);
        return NULL;
    }
    if (value != NULL)
        *value = found;
    else
        json_decref(found);
    return row;
}

json_t *conf_render(const struct conf_row *row, json_t *value, bool writable)
{
    return json_pack("{ss so ss ss? sb sb ss}", "key", row->key, "value", value, "type", row->type, "unit", row->unit,
                     "writable", writable, "standard", strncmp(row->key, "x-", 2) != 0, "description",
                     row->description);
}

// ---- the document ----

static const char *access_word(const struct conf_row *row, size_t kind)
{
    static const char *const words[] = {[CONF_NO] = "472", [CONF_R] = "r", [CONF_RW] = "rw"};

    return words[row->access[kind]];
}

static bool document_row(void *arg, const struct conf_row *row)
{
    FILE *out = arg;

    fprintf(out, "| `%s` | ", row->key);
    // A bar would end the cell.
    for (const char *c = row->type; *c != '\0'; c++)
        if (*c == '|')
            fputs(" or ", out);
        else
            fputc(*c, out);
    fprintf(out, " | %s |", row->unit != NULL ? row->unit : "");
    for (size_t kind = 0; kind < (row->entity == CONF_VIF ? (size_t)VIF_KIND_COUNT : 1); kind++)
        fprintf(out, " %s |", access_word(row, kind));
    fprintf(out, " %s |\n", row->description);
    return false;
}

static bool document_wants(void *arg, const struct conf_row *row)
{
    FILE *out = arg;

    for (size_t kind = 0; row->entity == CONF_VIF && kind < VIF_KIND_COUNT; kind++) {
        if (row->access[kind] == CONF_NO) {
            fprintf(out, "- `%s`, 472: %s.\n", row->key, row->wants);
            break;
        }
    }
    return false;
}

void conf_document(FILE *out)
{
    static const char *const titles[CONF_ENTITY_COUNT] = {"Host", "Network", "Port", "Vif", "Wire"};
    static const char *const paths[CONF_ENTITY_COUNT] = {
        "`/v1/conf`", "`/v1/networks/{net}/conf`", "`/v1/networks/{net}/ports/{port}/conf`",
        "`/v1/vifs/{vif}/conf`, also `/v1/networks/{net}/ports/{port}/vif/conf`",
        "`/v1/networks/{net}/wires/{wire}/conf`"};

    for (enum conf_entity entity = CONF_HOST; entity < CONF_ENTITY_COUNT; entity++) {
        fprintf(out, "\n## %s\n\n%s\n\n| key | type | unit |", titles[entity], paths[entity]);
        for (size_t kind = 0; entity == CONF_VIF && kind < VIF_KIND_COUNT; kind++)
            fprintf(out, " %s |", vif_kind_names[kind]);
        fprintf(out, "%s what |\n|---|---|---|---|", entity != CONF_VIF ? " |" : "");
        for (size_t kind = 0; entity == CONF_VIF && kind + 1 < VIF_KIND_COUNT; kind++)
            fputs("---|", out);
        fputs("---|\n", out);
        find_row(entity, document_row, out);
        if (entity == CONF_VIF)
            fputc('\n', out);
        find_row(entity, document_wants, out);
    }
}
