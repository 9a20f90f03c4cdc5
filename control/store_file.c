// SPDX-License-Identifier: BSD-3-Clause
#include "store_file.h"
#include "store.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// A predecessor that is just ending is waited for.
enum { LOCK_WAIT_MS = 1000 };

static const char *const schema =
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE object (kind TEXT NOT NULL, network TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL,"
    " generation INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, network, name)) WITHOUT ROWID;";

int store_file_error(sqlite3 *db, int result)
{
    switch (result & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
        return 0;
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -EBUSY;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EBADMSG;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return -EACCES;
    case SQLITE_IOERR:
        // A quota that is used up arrives as an I/O error.
        if (db != NULL && (sqlite3_system_errno(db) == ENOSPC || sqlite3_system_errno(db) == EDQUOT))
            return -ENOSPC;
        return (result == SQLITE_IOERR_NOMEM) ? -ENOMEM : -EIO;
    default:
        return -EIO;
    }
}

static int refuse(sqlite3 *db, const char *path, int result, char *reason, size_t size)
{
    int ret = store_file_error(db, result);
    switch (ret) {
    case -EBUSY:
        snprintf(reason, size,
                 "%s is locked: another patchbayd is using it; stop that one or give --state another file", path);
        break;
    case -EBADMSG:
        snprintf(reason, size,
                 "%s is damaged or not a Patchbay state file (%s); restore a copy, or move it away to start empty",
                 path, db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(result));
        break;
    case -EROFS:
    case -EACCES:
        snprintf(reason, size, "%s or its directory can't be written (%s); check their owner and mode", path,
                 db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(result));
        break;
    case -ENOSPC:
        snprintf(reason, size, "no space is left to write %s; make room and start again", path);
        break;
    default:
        snprintf(reason, size, "%s: %s", path, db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(result));
        break;
    }
    return ret;
}

// Makes the directory and the empty file where they are missing, since SQLite would give the file the mode 0644.
static int make_file(const char *path, bool *made, char *reason, size_t size)
{
    *made = false;
    const char *slash = strrchr(path, '/');
    if (slash != NULL && slash != path) {
        char *directory = strndup(path, (size_t)(slash - path));
        if (directory == NULL)
            return -ENOMEM;
        int ret = mkdir(directory, 0750) != 0 && errno != EEXIST ? -errno : 0;
        if (ret != 0)
            snprintf(reason, size, "the directory %s can't be made: %s", directory, strerror(-ret));
        free(directory);
        if (ret != 0)
            return ret;
    }
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0640);
    if (fd >= 0) {
        *made = true;
        close(fd);
        return 0;
    }
    int ret = -errno;
    struct stat status;
    if (ret != -EEXIST) {
        snprintf(reason, size, "%s can't be made: %s", path, strerror(-ret));
        return ret;
    }
    if (stat(path, &status) != 0) {
        ret = -errno;
        snprintf(reason, size, "%s: %s", path, strerror(-ret));
        return ret;
    }
    if (!S_ISREG(status.st_mode)) {
        snprintf(reason, size, "%s is no regular file; give --state a file", path);
        return -EINVAL;
    }
    return 0;
}

// The first column of the first row, as text in value ("" if there is none). Returns SQLite's code.
static int query(sqlite3 *db, const char *sql, char *value, size_t value_size)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(db, sql, -1, &statement, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    value[0] = '\0';
    if (result == SQLITE_ROW) {
        const unsigned char *text = sqlite3_column_text(statement, 0);
        snprintf(value, value_size, "%s", text != NULL ? (const char *)text : "");
        result = SQLITE_OK;
    } else if (result == SQLITE_DONE) {
        result = SQLITE_OK;
    }
    sqlite3_finalize(statement);
    return result;
}

// Looks at a file that is locked and not yet written to. Returns 0 or -errno.
static int judge(sqlite3 *db, const char *path, bool *fresh, char *reason, size_t size)
{
    char value[200];
    int result = query(db, "PRAGMA application_id", value, sizeof(value));
    if (result != SQLITE_OK)
        return refuse(db, path, result, reason, size);
    long application = strtol(value, NULL, 10);
    result = query(db, "PRAGMA user_version", value, sizeof(value));
    if (result != SQLITE_OK)
        return refuse(db, path, result, reason, size);
    long version = strtol(value, NULL, 10);
    result = query(db, "SELECT count(*) FROM sqlite_schema", value, sizeof(value));
    if (result != SQLITE_OK)
        return refuse(db, path, result, reason, size);

    *fresh = application == 0 && version == 0 && strcmp(value, "0") == 0;
    if (*fresh)
        return 0;
    if (application != STORE_APPLICATION_ID) {
        snprintf(reason, size, "%s is another program's database; give --state another file", path);
        return -EBADMSG;
    }
    if (version > STORE_SCHEMA) {
        snprintf(
            reason, size,
            "%s was written by a newer Patchbay (state schema %ld, this one reads up to %d); start that version, or "
            "move the file away to start empty",
            path, version, STORE_SCHEMA);
        return -EPROTONOSUPPORT;
    }
    result = query(db, "PRAGMA quick_check(1)", value, sizeof(value));
    if (result != SQLITE_OK)
        return refuse(db, path, result, reason, size);
    if (version != STORE_SCHEMA || strcmp(value, "ok") != 0) {
        snprintf(reason, size, "%s is damaged (%s); restore a copy, or move it away to start empty", path,
                 version != STORE_SCHEMA ? "it has no schema version" : value);
        return -EBADMSG;
    }
    return 0;
}

static int set_up(sqlite3 *db, const char *path, bool fresh, char *reason, size_t size)
{
    char value[32];
    int result = query(db, "PRAGMA journal_mode=WAL", value, sizeof(value));
    if (result == SQLITE_OK)
        result = sqlite3_exec(db, "PRAGMA synchronous=FULL; PRAGMA journal_size_limit=4194304", NULL, NULL, NULL);
    if (result == SQLITE_OK && fresh) {
        char sql[1024];
        snprintf(sql, sizeof(sql), "BEGIN; PRAGMA application_id=%d; PRAGMA user_version=%d; %s COMMIT",
                 STORE_APPLICATION_ID, STORE_SCHEMA, schema);
        result = sqlite3_exec(db, sql, NULL, NULL, NULL);
    }
    if (result != SQLITE_OK)
        return refuse(db, path, result, reason, size);
    if (strcmp(value, "wal") != 0 && strcmp(value, "memory") != 0) {
        snprintf(reason, size, "%s: SQLite doesn't do write-ahead logging there (%s); use a local file system", path,
                 value);
        return -EIO;
    }
    return 0;
}

int store_file_open(const char *path, sqlite3 **db, char *reason, size_t reason_size)
{
    bool memory = strcmp(path, ":memory:") == 0;
    bool made = false;
    snprintf(reason, reason_size, "out of memory");
    int ret = memory ? 0 : make_file(path, &made, reason, reason_size);
    if (ret != 0)
        return ret;

    sqlite3 *handle = NULL;
    int result = sqlite3_open_v2(path, &handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (result == SQLITE_OK) {
        sqlite3_extended_result_codes(handle, 1);
        sqlite3_busy_timeout(handle, LOCK_WAIT_MS);
        // Until the file is known to be ours, closing it must not write to it either.
        sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        sqlite3_db_config(handle, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
        sqlite3_db_config(handle, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
        // The lock is taken by the first access and kept until the file is closed.
        result = sqlite3_exec(handle, "PRAGMA locking_mode=EXCLUSIVE; BEGIN EXCLUSIVE", NULL, NULL, NULL);
    }
    bool fresh = false;
    if (result != SQLITE_OK) {
        ret = refuse(handle, path, result, reason, reason_size);
    } else {
        ret = judge(handle, path, &fresh, reason, reason_size);
        sqlite3_exec(handle, "ROLLBACK", NULL, NULL, NULL);
    }
    if (ret == 0) {
        sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
        ret = set_up(handle, path, fresh, reason, reason_size);
    }
    if (ret == 0) {
        reason[0] = '\0';
        *db = handle;
        return 0;
    }
    sqlite3_close(handle);
    if (made)
        unlink(path);
    return ret;
}
