// SPDX-License-Identifier: BSD-3-Clause
#include "store_schema.h"

#include "store.h"
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

// What leads to a version from the one before. A step that was released is never changed: files were made by it. A new
// file goes through all of them, so that what is new and what was migrated can't differ.
static const char *const steps[STORE_SCHEMA + 1] = {
    [1] = "CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;"
          "CREATE TABLE object (kind TEXT NOT NULL, network TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL,"
          " generation INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, network, name)) WITHOUT ROWID;",
    // The audit trail.
    [2] = "CREATE TABLE audit (seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, uid INTEGER NOT NULL,"
          " gid INTEGER NOT NULL, pid INTEGER NOT NULL, client TEXT NOT NULL, method TEXT NOT NULL,"
          " path TEXT NOT NULL, generation INTEGER NOT NULL, status INTEGER NOT NULL);",
    // What a change changed: JSON, the first few of so many.
    [3] = "ALTER TABLE audit ADD COLUMN changes TEXT NOT NULL DEFAULT '[]';"
          "ALTER TABLE audit ADD COLUMN change_count INTEGER NOT NULL DEFAULT 0;",
};

// The copy is as secret as the file is, and belongs to the same.
static int make_like(const char *path, const char *copy)
{
    struct stat status;
    if (stat(path, &status) != 0)
        return -errno;
    if (unlink(copy) != 0 && errno != ENOENT)
        return -errno;
    int fd = open(copy, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    // Another owner is root's to give; without the right to, the copy is ours alone.
    int ret = 0;
    if (fchown(fd, status.st_uid, status.st_gid) == 0 && fchmod(fd, status.st_mode & 07777) != 0)
        ret = -errno;
    close(fd);
    return ret;
}

static int sync_directory(const char *path)
{
    char *directory = strdup(path);
    if (directory == NULL)
        return -ENOMEM;
    char *slash = strrchr(directory, '/');
    if (slash != NULL)
        slash[slash == directory ? 1 : 0] = '\0';
    int fd = open(slash != NULL ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    free(directory);
    if (fd < 0)
        return -errno;
    int ret = fsync(fd) != 0 ? -errno : 0;
    close(fd);
    return ret;
}

// Copies all that the file and its log hold, page by page. Returns 0 or -errno.
static int copy_database(sqlite3 *db, const char *to)
{
    sqlite3 *copy = NULL;
    int result = sqlite3_open_v2(to, &copy, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_exec(copy, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
    if (result == SQLITE_OK) {
        sqlite3_backup *backup = sqlite3_backup_init(copy, "main", db, "main");
        if (backup != NULL) {
            sqlite3_backup_step(backup, -1);
            result = sqlite3_backup_finish(backup);
        } else {
            result = sqlite3_errcode(copy);
        }
    }
    int ret = store_file_error(copy, result);
    if (sqlite3_close(copy) != SQLITE_OK && ret == 0)
        ret = -EIO;
    return ret;
}

// FILE.v<N>, whole and on the disk, or not there: it gets its name last. One of an earlier migration is replaced.
static int keep_copy(sqlite3 *db, const char *path, int version, char *reason, size_t size)
{
    char *copy = NULL, *unfinished = NULL;
    int ret = -ENOMEM;
    if (asprintf(&copy, "%s.v%d", path, version) >= 0 && asprintf(&unfinished, "%s.v%d.new", path, version) >= 0) {
        ret = make_like(path, unfinished);
        if (ret == 0)
            ret = copy_database(db, unfinished);
        if (ret == 0 && rename(unfinished, copy) != 0)
            ret = -errno;
        if (ret == 0)
            ret = sync_directory(path);
        if (ret != 0)
            unlink(unfinished);
        if (ret != 0)
            snprintf(reason, size,
                     "%s has state schema %d and has to be migrated to %d, but its copy %s can't be written: %s; "
                     "nothing was changed. Make room, or see to the directory's mode, and start again.",
                     path, version, STORE_SCHEMA, copy, strerror(-ret));
    }
    free(copy);
    free(unfinished);
    return ret;
}

int store_schema_migrate(sqlite3 *db, const char *path, int version, char *reason, size_t reason_size)
{
    if (version > 0) {
        int ret = keep_copy(db, path, version, reason, reason_size);
        if (ret != 0)
            return ret;
    }
    char pragma[96];
    snprintf(pragma, sizeof(pragma), "PRAGMA application_id=%d; PRAGMA user_version=%d", STORE_APPLICATION_ID,
             STORE_SCHEMA);
    int result = sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (int step = version + 1; result == SQLITE_OK && step <= STORE_SCHEMA; step++)
        result = sqlite3_exec(db, steps[step], NULL, NULL, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_exec(db, pragma, NULL, NULL, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    if (result == SQLITE_OK)
        return 0;
    int ret = store_file_error(db, result);
    snprintf(reason, reason_size, "%s can't be given state schema %d: %s; it is as it was", path, STORE_SCHEMA,
             sqlite3_errmsg(db));
    if (!sqlite3_get_autocommit(db))
        sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    return ret;
}
