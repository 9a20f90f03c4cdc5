// SPDX-License-Identifier: BSD-3-Clause
#include "store_refusal.h"

#include "store.h"
#include "store_file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int store_export_path(const char *path, char *export, size_t size)
{
    size_t len = strlen(path);
    if (len > 3 && strcmp(path + len - 3, ".db") == 0)
        len -= 3;
    return snprintf(export, size, "%.*s.json", (int)len, path) < (int)size ? 0 : -ENAMETOOLONG;
}

// The process that holds SQLite's lock on the file; 0: it can't be told. Opening and closing the file drops this
// process's own locks on it, of which it has none: it was refused them.
static pid_t find_holder(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    pid_t holder = fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK ? lock.l_pid : 0;
    close(fd);
    return holder;
}

static int refuse_locked(const char *path, char *reason, size_t size)
{
    pid_t holder = find_holder(path);
    if (holder > 0)
        snprintf(reason, size,
                 "%s is locked: another process is using it, pid %d; stop that one or give --state another file.\n"
                 "Who it is:             ps -p %d -o pid,user,args\n"
                 "If it is patchbayd:    systemctl stop patchbayd, or kill %d",
                 path, (int)holder, (int)holder, (int)holder);
    else
        snprintf(reason, size,
                 "%s is locked: another process is using it; stop that one or give --state another file.\n"
                 "Who it is:             fuser -v %s",
                 path, path);
    return -EBUSY;
}

// The command that puts a file aside with its log, without which it may be short of its last changes. Whether there is
// a log is known only then, and a pattern that matches nothing would end the command with a complaint.
static void add_aside(const char *path, const char *aside, char *reason, size_t size)
{
    size_t used = strlen(reason);

    snprintf(reason + used, size - used, "\n  mkdir %s.%s && for f in %s %s-*; do test ! -e $f || mv $f %s.%s/; done",
             path, aside, path, path, path, aside);
}

// How to start without the file.
static void add_recovery(const char *path, const char *aside, char *reason, size_t size)
{
    char export[PATH_MAX];
    size_t used = strlen(reason);
    struct stat status;
    bool exported = store_export_path(path, export, sizeof(export)) == 0 && stat(export, &status) == 0;
    snprintf(reason + used, size - used, "\nNothing was written to it. To start empty, put it and its log aside:");
    add_aside(path, aside, reason, size);
    used = strlen(reason);
    snprintf(reason + used, size - used, "\n  systemctl start patchbayd");
    used = strlen(reason);
    if (exported && used < size)
        snprintf(reason + used, size - used,
                 "\nThe daemon's last export is there, and is kept as %s.before by that start; to bring it back:\n"
                 "  patchbay apply -f %s.before --force",
                 export, export);
}

int store_refusal_damaged(const char *path, const char *detail, char *reason, size_t size)
{
    snprintf(reason, size,
             "%s is damaged or not a Patchbay state file (%s); restore a copy, or move it away to start empty.", path,
             detail);
    // SQLite's findings may be of several lines; ours begin where commands do.
    for (char *end = strchr(reason, '\n'); end != NULL; end = strchr(end, '\n'))
        *end = ' ';
    add_recovery(path, "damaged", reason, size);
    return -EBADMSG;
}

int store_refusal_newer(const char *path, long version, char *reason, size_t size)
{
    char copy[PATH_MAX];
    struct stat status;
    snprintf(reason, size,
             "%s was written by a newer Patchbay (state schema %ld, this one reads up to %d); start that version, or "
             "move the file away to start empty.",
             path, version, STORE_SCHEMA);
    size_t used = strlen(reason);
    if (snprintf(copy, sizeof(copy), "%s.v%d", path, STORE_SCHEMA) < (int)sizeof(copy) && stat(copy, &status) == 0 &&
        used < size) {
        snprintf(reason + used, size - used,
                 "\nThe newer one kept a copy from before it took over, without the changes since; to go back to it:");
        add_aside(path, "newer", reason, size);
        used = strlen(reason);
        snprintf(reason + used, size - used, "\n  cp -p %s %s\n  systemctl start patchbayd", copy, path);
    }
    add_recovery(path, "newer", reason, size);
    return -EPROTONOSUPPORT;
}

int store_refusal_result(sqlite3 *db, const char *path, int result, char *reason, size_t size)
{
    int ret = store_file_error(db, result);
    const char *detail = db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(result);
    switch (ret) {
    case -EBUSY:
        return refuse_locked(path, reason, size);
    case -EBADMSG:
        return store_refusal_damaged(path, detail, reason, size);
    case -EROFS:
    case -EACCES:
        snprintf(reason, size,
                 "%s or its directory can't be written (%s); check their owner and mode.\n"
                 "What they are:         ls -ld %s %s-* \"$(dirname %s)\"",
                 path, detail, path, path, path);
        break;
    case -ENOSPC:
        snprintf(reason, size,
                 "no space is left to write %s; make room and start again.\n"
                 "How much there is:     df -h \"$(dirname %s)\"",
                 path, path);
        break;
    default:
        snprintf(reason, size, "%s: %s", path, detail);
        break;
    }
    return ret;
}
