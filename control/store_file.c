// SPDX-License-Identifier: BSD-3-Clause
#include "store_file.h"
#include "store.h"
#include "store_refusal.h"
#include "store_schema.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// A predecessor that is just ending is waited for.
enum { LOCK_WAIT_MS = 1000 };

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

// Looks at a file that is locked and not yet written to. Returns its schema's version, 0 for an empty file, or -errno.
static int judge(sqlite3 *db, const char *path, char *reason, size_t size)
{
    char value[200];
    int result = query(db, "PRAGMA application_id", value, sizeof(value));
    if (result != SQLITE_OK)
        return store_refusal_result(db, path, result, reason, size);
    long application = strtol(value, NULL, 10);
    result = query(db, "PRAGMA user_version", value, sizeof(value));
    if (result != SQLITE_OK)
        return store_refusal_result(db, path, result, reason, size);
    long version = strtol(value, NULL, 10);
    result = query(db, "SELECT count(*) FROM sqlite_schema", value, sizeof(value));
    if (result != SQLITE_OK)
        return store_refusal_result(db, path, result, reason, size);

    if (application == 0 && version == 0 && strcmp(value, "0") == 0)
        return 0;
    if (application != STORE_APPLICATION_ID) {
        snprintf(reason, size, "%s is another program's database; give --state another file", path);
        return -EBADMSG;
    }
    if (version > STORE_SCHEMA)
        return store_refusal_newer(path, version, reason, size);
    if (version < 1)
        return store_refusal_damaged(path, "it has no schema version", reason, size);
    result = query(db, "PRAGMA quick_check(1)", value, sizeof(value));
    if (result != SQLITE_OK)
        return store_refusal_result(db, path, result, reason, size);
    return strcmp(value, "ok") == 0 ? (int)version : store_refusal_damaged(path, value, reason, size);
}

static int set_up(sqlite3 *db, const char *path, int version, char *reason, size_t size)
{
    char value[32];
    int result = query(db, "PRAGMA journal_mode=WAL", value, sizeof(value));
    if (result == SQLITE_OK)
        result = sqlite3_exec(db, "PRAGMA synchronous=FULL; PRAGMA journal_size_limit=4194304", NULL, NULL, NULL);
    if (result != SQLITE_OK)
        return store_refusal_result(db, path, result, reason, size);
    if (strcmp(value, "wal") != 0 && strcmp(value, "memory") != 0) {
        snprintf(reason, size, "%s: SQLite doesn't do write-ahead logging there (%s); use a local file system", path,
                 value);
        return -EIO;
    }
    return version < STORE_SCHEMA ? store_schema_migrate(db, path, version, reason, size) : 0;
}

// The size of the file's log; -1: it has none.
static off_t find_log(const char *path, char *log, size_t size)
{
    struct stat status;
    snprintf(log, size, "%s-wal", path);
    return stat(log, &status) == 0 ? status.st_size : -1;
}

int store_file_open(const char *path, sqlite3 **db, int *version, char *reason, size_t reason_size)
{
    bool memory = strcmp(path, ":memory:") == 0;
    bool made = false;
    snprintf(reason, reason_size, "out of memory");
    int ret = memory ? 0 : make_file(path, &made, reason, reason_size);
    if (ret != 0)
        return ret;

    char log[PATH_MAX];
    bool had_log = !memory && find_log(path, log, sizeof(log)) >= 0;
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
    if (result != SQLITE_OK) {
        ret = store_refusal_result(handle, path, result, reason, reason_size);
    } else {
        ret = *version = judge(handle, path, reason, reason_size);
        sqlite3_exec(handle, "ROLLBACK", NULL, NULL, NULL);
    }
    if (ret >= 0) {
        sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
        ret = set_up(handle, path, *version, reason, reason_size);
    }
    if (ret == 0) {
        reason[0] = '\0';
        *db = handle;
        return 0;
    }
    // SQLite makes an empty log as soon as it looks at a file. It goes while the lock is still ours.
    if (ret != -EBUSY && !memory && !had_log && find_log(path, log, sizeof(log)) == 0)
        unlink(log);
    sqlite3_close(handle);
    if (made)
        unlink(path);
    return ret;
}
