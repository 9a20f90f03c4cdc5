// SPDX-License-Identifier: BSD-3-Clause
#include "faulty_vfs.h"

#include <assert.h>
#include <sqlite3.h>
#include <stddef.h>

struct faulty faulty = {.writes_left = -1};

static sqlite3_vfs *below;
static sqlite3_vfs shim;

// SQLite's files come with several sets of methods (with locks: the database; without: the log), whose ways to write
// and sync are the same. A copy of each, with ours in their place.
enum { SETS_MAX = 4 };
static const sqlite3_io_methods *methods_below[SETS_MAX];
static sqlite3_io_methods methods[SETS_MAX];

static int faulty_write(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset)
{
    if (faulty.writes_left == 0)
        return faulty.result;
    if (faulty.writes_left > 0)
        faulty.writes_left--;
    faulty.writes++;
    return methods_below[0]->xWrite(file, data, size, offset);
}

static int faulty_sync(sqlite3_file *file, int flags)
{
    faulty.syncs++;
    return faulty.sync_result != SQLITE_OK ? faulty.sync_result : methods_below[0]->xSync(file, flags);
}

static int faulty_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    (void)vfs;
    int result = below->xOpen(below, name, file, flags, out_flags);
    if (file->pMethods == NULL)
        return result;
    size_t set = 0;
    while (set < SETS_MAX && methods_below[set] != NULL && methods_below[set] != file->pMethods)
        set++;
    assert(set < SETS_MAX);
    methods_below[set] = file->pMethods;
    assert(file->pMethods->xWrite == methods_below[0]->xWrite && file->pMethods->xSync == methods_below[0]->xSync);
    methods[set] = *file->pMethods;
    methods[set].xWrite = faulty_write;
    methods[set].xSync = faulty_sync;
    file->pMethods = &methods[set];
    return result;
}

void faulty_vfs_install(void)
{
    below = sqlite3_vfs_find(NULL);
    assert(below != NULL);
    shim = *below;
    shim.zName = "faulty";
    shim.xOpen = faulty_open;
    int result = sqlite3_vfs_register(&shim, 1);
    assert(result == SQLITE_OK);
    (void)result;
}
