// SPDX-License-Identifier: BSD-3-Clause
#include "audit.h"

#include "patchbay/limits.h"

#include <stdlib.h>

enum statement { INSERT, TRIM, LIST, STATEMENT_COUNT };

static const char *const statement_texts[STATEMENT_COUNT] = {
    [INSERT] = "INSERT INTO audit (seq, time_ms, uid, gid, pid, client, method, path, generation, status,"
               " changes, change_count) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    [TRIM] = "DELETE FROM audit WHERE seq <= ?1",
    [LIST] = "SELECT seq, time_ms, uid, gid, pid, client, method, path, generation, status, changes,"
             " change_count FROM audit WHERE seq > ?1 ORDER BY seq LIMIT ?2",
};

struct audit {
    sqlite3_stmt *statements[STATEMENT_COUNT];
    uint64_t first, last; // 0, 0: no rows
    uint64_t first_before, last_before;
};

static int read_ends(sqlite3 *db, struct audit *audit)
{
    sqlite3_stmt *ends = NULL;
    int result = sqlite3_prepare_v2(db, "SELECT min(seq), max(seq) FROM audit", -1, &ends, NULL);
    if (result == SQLITE_OK && (result = sqlite3_step(ends)) == SQLITE_ROW) {
        audit->first = audit->first_before = (uint64_t)sqlite3_column_int64(ends, 0);
        audit->last = audit->last_before = (uint64_t)sqlite3_column_int64(ends, 1);
        result = SQLITE_OK;
    }
    sqlite3_finalize(ends);
    return result;
}

int audit_open(sqlite3 *db, struct audit **out)
{
    struct audit *audit = calloc(1, sizeof(*audit));
    int result = audit != NULL ? SQLITE_OK : SQLITE_NOMEM;
    for (size_t i = 0; result == SQLITE_OK && i < STATEMENT_COUNT; i++)
        result = sqlite3_prepare_v3(db, statement_texts[i], -1, SQLITE_PREPARE_PERSISTENT, &audit->statements[i], NULL);
    if (result == SQLITE_OK)
        result = read_ends(db, audit);
    if (result != SQLITE_OK) {
        audit_close(audit);
        return result;
    }
    *out = audit;
    return SQLITE_OK;
}

void audit_close(struct audit *audit)
{
    if (audit == NULL)
        return;
    for (size_t i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(audit->statements[i]);
    free(audit);
}

// Runs a statement that is bound.
static int run(sqlite3_stmt *statement)
{
    int result = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

static int insert(sqlite3_stmt *row, const struct audit_entry *entry)
{
    sqlite3_bind_int64(row, 1, (sqlite3_int64)entry->seq);
    sqlite3_bind_int64(row, 2, entry->time_ms);
    sqlite3_bind_int64(row, 3, entry->uid);
    sqlite3_bind_int64(row, 4, entry->gid);
    sqlite3_bind_int64(row, 5, entry->pid);
    sqlite3_bind_text(row, 6, entry->client, -1, SQLITE_STATIC);
    sqlite3_bind_text(row, 7, entry->method, -1, SQLITE_STATIC);
    sqlite3_bind_text(row, 8, entry->path, -1, SQLITE_STATIC);
    sqlite3_bind_int64(row, 9, (sqlite3_int64)entry->generation);
    sqlite3_bind_int64(row, 10, entry->status);
    sqlite3_bind_text(row, 11, entry->changes, -1, SQLITE_STATIC);
    sqlite3_bind_int64(row, 12, (sqlite3_int64)entry->change_count);
    return run(row);
}

int audit_write(struct audit *audit, struct audit_entry *entries, size_t count)
{
    int result = SQLITE_OK;
    for (size_t i = 0; result == SQLITE_OK && i < count; i++) {
        entries[i].seq = ++audit->last;
        result = insert(audit->statements[INSERT], &entries[i]);
    }
    if (audit->first == 0 && audit->last > 0)
        audit->first = 1;
    if (result == SQLITE_OK && audit->last >= audit->first + LIMIT_AUDIT_ROWS) {
        audit->first = audit->last - LIMIT_AUDIT_ROWS + 1;
        sqlite3_bind_int64(audit->statements[TRIM], 1, (sqlite3_int64)audit->first - 1);
        result = run(audit->statements[TRIM]);
    }
    return result;
}

void audit_settle(struct audit *audit, int committed)
{
    if (committed) {
        audit->first_before = audit->first;
        audit->last_before = audit->last;
    } else {
        audit->first = audit->first_before;
        audit->last = audit->last_before;
    }
}

void audit_ends(const struct audit *audit, uint64_t *first, uint64_t *last)
{
    *first = audit->first;
    *last = audit->last;
}

int audit_read(struct audit *audit, uint64_t after, unsigned limit,
               void (*each)(void *arg, const struct audit_entry *entry), void *arg)
{
    sqlite3_stmt *row = audit->statements[LIST];
    int result;
    // A number that no row will ever reach must not wrap to one below all.
    sqlite3_bind_int64(row, 1, after > INT64_MAX ? INT64_MAX : (sqlite3_int64)after);
    sqlite3_bind_int64(row, 2, limit);
    while ((result = sqlite3_step(row)) == SQLITE_ROW) {
        const struct audit_entry entry = {
            .seq = (uint64_t)sqlite3_column_int64(row, 0),
            .time_ms = sqlite3_column_int64(row, 1),
            .uid = (uid_t)sqlite3_column_int64(row, 2),
            .gid = (gid_t)sqlite3_column_int64(row, 3),
            .pid = (pid_t)sqlite3_column_int64(row, 4),
            .client = (const char *)sqlite3_column_text(row, 5),
            .method = (const char *)sqlite3_column_text(row, 6),
            .path = (const char *)sqlite3_column_text(row, 7),
            .generation = (uint64_t)sqlite3_column_int64(row, 8),
            .status = (unsigned)sqlite3_column_int(row, 9),
            .changes = (const char *)sqlite3_column_text(row, 10),
            .change_count = (uint64_t)sqlite3_column_int64(row, 11),
        };
        if (entry.client == NULL || entry.method == NULL || entry.path == NULL || entry.changes == NULL) {
            result = SQLITE_NOMEM;
            break;
        }
        each(arg, &entry);
    }
    sqlite3_reset(row);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}
