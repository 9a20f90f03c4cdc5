// SPDX-License-Identifier: BSD-3-Clause
#include "store.h"
#include "check.h"
#include "request.h"
#include "store_file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum statement { BEGIN, COMMIT, ROLLBACK, PUT, DELETE, META, LIST, GENERATION, STATEMENT_COUNT };

static const char *const statement_texts[STATEMENT_COUNT] = {
    [BEGIN] = "BEGIN IMMEDIATE",
    [COMMIT] = "COMMIT",
    [ROLLBACK] = "ROLLBACK",
    [PUT] =
        "INSERT OR REPLACE INTO object (kind, network, name, uid, generation, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    [DELETE] = "DELETE FROM object WHERE kind = ?1 AND network = ?2 AND name = ?3",
    [META] = "INSERT OR REPLACE INTO meta (key, value) VALUES (?1, ?2)",
    [LIST] = "SELECT network, name, uid, generation, body FROM object WHERE kind = ?1 ORDER BY network, name",
    [GENERATION] = "SELECT value FROM meta WHERE key = 'generation'",
};

struct store {
    sqlite3 *db;
    char *path;
    char instance[37];
    int version_before;
    struct audit *audit;
    sqlite3_stmt *statements[STATEMENT_COUNT];
};

// Runs a statement that is bound; SQLite's code, SQLITE_OK when it is done.
static int run(struct store *store, enum statement which)
{
    sqlite3_stmt *statement = store->statements[which];
    int result = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return result == SQLITE_DONE || result == SQLITE_ROW ? SQLITE_OK : result;
}

// The text must live until the statement has run; a failure shows when it does, as a value that may not be NULL.
static void bind_text(struct store *store, enum statement which, int index, const char *text)
{
    sqlite3_bind_text(store->statements[which], index, text, -1, SQLITE_STATIC);
}

static int write_meta(struct store *store, const char *key, const char *text, uint64_t number)
{
    bind_text(store, META, 1, key);
    if (text != NULL) {
        bind_text(store, META, 2, text);
    } else {
        sqlite3_bind_int64(store->statements[META], 2, (sqlite3_int64)number);
    }
    return run(store, META);
}

static int describe(const struct store *store, int result, char *reason, size_t size)
{
    int ret = store_file_error(store->db, result);
    const char *advice = ret == -ENOSPC ? "make room and try again" : ret == -EIO ? "check the disk" : "try again";
    snprintf(reason, size, "%s can't be written: %s; nothing was changed, %s", store->path,
             ret == -ENOSPC ? "no space is left" : sqlite3_errmsg(store->db), advice);
    return ret;
}

int store_open(const char *path, struct store **out, char *reason, size_t reason_size)
{
    struct store *store = calloc(1, sizeof(*store));
    if (store == NULL || (store->path = strdup(path)) == NULL) {
        free(store);
        snprintf(reason, reason_size, "out of memory");
        return -ENOMEM;
    }
    int ret = store_file_open(path, &store->db, &store->version_before, reason, reason_size);
    int result = SQLITE_OK;
    for (size_t i = 0; ret == 0 && result == SQLITE_OK && i < STATEMENT_COUNT; i++)
        result = sqlite3_prepare_v3(store->db, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT, &store->statements[i],
                                    NULL);
    if (ret == 0 && result == SQLITE_OK)
        result = audit_open(store->db, &store->audit);
    if (ret == 0 && result == SQLITE_OK) {
        object_make_uid(store->instance);
        result = write_meta(store, "instance", store->instance, 0);
    }
    if (ret == 0 && result != SQLITE_OK)
        ret = describe(store, result, reason, reason_size);
    if (ret != 0) {
        store_close(store);
        return ret;
    }
    *out = store;
    return 0;
}

void store_close(struct store *store)
{
    if (store == NULL)
        return;
    for (size_t i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(store->statements[i]);
    audit_close(store->audit);
    sqlite3_close(store->db);
    free(store->path);
    free(store);
}

int store_version_before(const struct store *store)
{
    return store->version_before;
}

struct audit *store_audit(struct store *store)
{
    return store->audit;
}

const char *store_instance(const struct store *store)
{
    return store->instance;
}

// ---- write ----

static int put(struct store *store, const struct object *object)
{
    json_t *json = request_encode_stored(object);
    char *body = json != NULL ? json_dumps(json, JSON_COMPACT) : NULL;
    json_decref(json);
    if (body == NULL)
        return SQLITE_NOMEM;
    bind_text(store, PUT, 1, object_kind_name(object->kind));
    bind_text(store, PUT, 2, object->network);
    bind_text(store, PUT, 3, object->name);
    bind_text(store, PUT, 4, object->uid);
    sqlite3_bind_int64(store->statements[PUT], 5, (sqlite3_int64)object->generation);
    bind_text(store, PUT, 6, body);
    int result = run(store, PUT);
    free(body);
    return result;
}

static int remove_row(struct store *store, const struct object *object)
{
    bind_text(store, DELETE, 1, object_kind_name(object->kind));
    bind_text(store, DELETE, 2, object->network);
    bind_text(store, DELETE, 3, object->name);
    return run(store, DELETE);
}

int store_commit(struct store *store, const struct model_change *change, struct audit_entry *entries,
                 size_t entry_count, char *reason, size_t reason_size)
{
    if (model_change_is_empty(change))
        return 0;
    int result = run(store, BEGIN);
    for (size_t i = 0; result == SQLITE_OK && i < change->record_count; i++) {
        const struct model_record *record = &change->records[i];
        result = record->new != NULL ? put(store, record->new) : remove_row(store, record->old);
    }
    if (result == SQLITE_OK)
        result = write_meta(store, "generation", NULL, change->generation);
    if (result == SQLITE_OK)
        result = audit_write(store->audit, entries, entry_count);
    if (result == SQLITE_OK)
        result = run(store, COMMIT);
    audit_settle(store->audit, result == SQLITE_OK);
    if (result == SQLITE_OK)
        return 0;
    int ret = describe(store, result, reason, reason_size);
    // A failure may have rolled the transaction back already.
    if (!sqlite3_get_autocommit(store->db))
        run(store, ROLLBACK);
    return ret;
}

// ---- restore ----

struct loading {
    struct model *model;
    store_report *report;
    void *context;
    uint64_t generation; // the highest seen
};

static void report(const struct loading *loading, const struct object *object, const char *message)
{
    if (loading->report != NULL)
        loading->report(loading->context, object->kind, object->network, object->name, message);
}

// Takes references away that lead nowhere, as deletion with ?detach=1 would have.
static void mend(const struct loading *loading, struct object *object)
{
    char message[256];
    const struct model *model = loading->model;
    if (object->kind == OBJECT_PORT) {
        struct port *port = (struct port *)object;
        if (port->vif[0] != '\0' && model_find_vif(model, port->vif) == NULL) {
            snprintf(message, sizeof(message), "its vif \"%s\" is missing; it stands on none now", port->vif);
            memset(port->vif, 0, sizeof(port->vif));
            report(loading, object, message);
        }
    }
    if (object->kind != OBJECT_WIRE)
        return;
    struct wire *wire = (struct wire *)object;
    char *const ends[] = {wire->a, wire->b};
    for (size_t i = 0; i < 2; i++) {
        if (ends[i][0] != '\0' && model_find_port(model, object->network, ends[i]) == NULL) {
            snprintf(message, sizeof(message), "port \"%s\" at its end %s is missing; it is unplugged there now",
                     ends[i], i == 0 ? "a" : "b");
            memset(ends[i], 0, LIMIT_NAME_LEN + 1);
            report(loading, object, message);
        }
    }
    for (size_t i = 0; i < wire->tee_count; i++) {
        struct tee *tee = &wire->tees[i];
        struct port_ref *const refs[] = {&tee->port, &tee->out_port};
        for (size_t j = 0; j < 2; j++) {
            if (refs[j]->port[0] == '\0' || model_find_port(model, refs[j]->network, refs[j]->port) != NULL)
                continue;
            snprintf(message, sizeof(message), "port \"%s/%s\" of its T \"%s\" is missing; the T is off now",
                     refs[j]->network, refs[j]->port, tee->object.name);
            memset(refs[j], 0, sizeof(*refs[j]));
            tee->mode = TEE_OFF;
            tee->when_ready = false;
            report(loading, object, message);
        }
    }
}

// Far from where a 64-bit number with a sign ends.
#define GENERATION_MAX (INT64_MAX / 2)

static struct object *decode_row(sqlite3_stmt *row, enum object_kind kind, const char *network, const char *name,
                                 struct error *error)
{
    const char *uid = (const char *)sqlite3_column_text(row, 2);
    sqlite3_int64 generation = sqlite3_column_int64(row, 3);
    const char *body = (const char *)sqlite3_column_text(row, 4);
    // A generation is counted up from here, and a uid goes into answers, which are UTF-8.
    if (uid == NULL || !object_uid_valid(uid) || generation < 0 || generation > GENERATION_MAX || body == NULL) {
        error_set(error, PATCHBAY_ERROR_MALFORMED, NULL, "its row has no uid, generation or body");
        return NULL;
    }
    if ((kind < OBJECT_PORT) != (network[0] == '\0')) {
        error_set(error, PATCHBAY_ERROR_MALFORMED, NULL, "its row %s a network",
                  network[0] != '\0' ? "must not have" : "lacks");
        return NULL;
    }
    json_t *json = request_parse(body, (size_t)sqlite3_column_bytes(row, 4), error);
    if (json == NULL)
        return NULL;
    struct object *object = request_decode_stored(kind, network, name, json, error);
    json_decref(json);
    if (object == NULL)
        return NULL;
    memcpy(object->uid, uid, sizeof(object->uid));
    object->generation = (uint64_t)generation;
    if (kind == OBJECT_WIRE) {
        struct wire *wire = (struct wire *)object;
        for (size_t i = 0; i < wire->tee_count; i++)
            wire->tees[i].object.generation = object->generation;
    }
    return object;
}

// Returns -ENOMEM; what else is wrong with a row is reported and passed over.
static int load_row(struct loading *loading, sqlite3_stmt *row, enum object_kind kind)
{
    const char *network = (const char *)sqlite3_column_text(row, 0);
    const char *name = (const char *)sqlite3_column_text(row, 1);
    if (network == NULL || name == NULL)
        return -ENOMEM;
    struct error error;
    struct object *object = decode_row(row, kind, network, name, &error);
    int ret = -EINVAL;
    if (object != NULL) {
        mend(loading, object);
        ret = check_put(loading->model, NULL, object, &error);
    }
    if (ret == 0) {
        if (object->generation > loading->generation)
            loading->generation = object->generation;
        ret = model_insert(loading->model, object);
        if (ret == 0)
            return 0;
        error_set(&error, PATCHBAY_ERROR_INTERNAL, NULL, "it can't be restored: %s", strerror(-ret));
    }
    object_destroy(object);
    if (ret == -ENOMEM || error.code == PATCHBAY_ERROR_UNAVAILABLE)
        return -ENOMEM;
    char message[sizeof(error.field) + sizeof(error.message) + 32];
    snprintf(message, sizeof(message), "left out: %s%s%s", error.field, error.field[0] != '\0' ? ": " : "",
             error.message);
    if (loading->report != NULL)
        loading->report(loading->context, kind, network, name, message);
    return 0;
}

static int load_kind(struct store *store, struct loading *loading, enum object_kind kind, char *reason, size_t size)
{
    sqlite3_stmt *statement = store->statements[LIST];
    bind_text(store, LIST, 1, object_kind_name(kind));
    int result;
    int ret = 0;
    while (ret == 0 && (result = sqlite3_step(statement)) == SQLITE_ROW)
        ret = load_row(loading, statement, kind);
    if (ret != 0) {
        snprintf(reason, size, "out of memory while reading %s", store->path);
    } else if (result != SQLITE_DONE) {
        ret = store_file_error(store->db, result);
        snprintf(reason, size, "%s can't be read: %s; restore a copy, or move it away to start empty", store->path,
                 sqlite3_errmsg(store->db));
    }
    sqlite3_reset(statement);
    return ret;
}

// `default` keeps its uid over restarts, so it is written when it is first made. A full disk is no reason not to start.
static int add_default(struct store *store, struct loading *loading)
{
    if (model_find_network(loading->model, NETWORK_DEFAULT) != NULL)
        return 0;
    struct object *object = object_create(OBJECT_NETWORK, "", NETWORK_DEFAULT);
    if (object == NULL || model_insert(loading->model, object) != 0) {
        object_destroy(object);
        return -ENOMEM;
    }
    char message[512];
    if (put(store, object) != SQLITE_OK) {
        describe(store, sqlite3_extended_errcode(store->db), message, sizeof(message));
        report(loading, object, message);
    }
    return 0;
}

int store_load(struct store *store, struct model *model, store_report *report_to, void *context, char *reason,
               size_t reason_size)
{
    struct loading loading = {.model = model, .report = report_to, .context = context};
    sqlite3_stmt *generation = store->statements[GENERATION];
    int result = sqlite3_step(generation);
    if (result == SQLITE_ROW && sqlite3_column_int64(generation, 0) > 0 &&
        sqlite3_column_int64(generation, 0) <= GENERATION_MAX)
        loading.generation = (uint64_t)sqlite3_column_int64(generation, 0);
    sqlite3_reset(generation);
    int ret = load_kind(store, &loading, OBJECT_NETWORK, reason, reason_size);
    if (ret == 0) {
        ret = add_default(store, &loading);
        if (ret != 0)
            snprintf(reason, reason_size, "out of memory while reading %s", store->path);
    }
    for (enum object_kind kind = OBJECT_VIF; ret == 0 && kind < OBJECT_KIND_COUNT; kind++)
        ret = load_kind(store, &loading, kind, reason, reason_size);
    if (ret == 0)
        model_set_generation(model, loading.generation);
    return ret;
}
