// SPDX-License-Identifier: BSD-3-Clause

// The state file as it may be after whatever befell it. With rows that mean
// nothing it still opens, and what can be understood is loaded; a file that is
// none of ours is refused with a reason and left as it is.
//
// Input: a byte. 'R': lines "kind<TAB>network<TAB>name<TAB>uid<TAB>generation<TAB>body" that become rows.
// 'P': two bytes of place, then bytes that are written over a good file there.
// Anything else: the file itself.

#include "control/store.h"
#include "model_check.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 1 << 20 };

// In memory, since each run writes and syncs it.
static char path[64], beside[2][80];
static uint8_t fresh[FILE_MAX], after[FILE_MAX];
static size_t fresh_size;

static size_t read_file(uint8_t *into)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t size;

    must(fd >= 0);
    size = read(fd, into, FILE_MAX);
    must(size >= 0 && size < FILE_MAX);
    close(fd);
    return (size_t)size;
}

static void write_file(const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    must(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
}

static void remove_files(void)
{
    unlink(path);
    unlink(beside[0]);
    unlink(beside[1]);
}

// An empty state, made once, from which all others are made.
static void make_fresh(void)
{
    struct store *store = NULL;
    char reason[1024] = "";

    snprintf(path, sizeof(path), "/dev/shm/patchbay-fuzz-%d.db", (int)getpid());
    snprintf(beside[0], sizeof(beside[0]), "%s-wal", path);
    snprintf(beside[1], sizeof(beside[1]), "%s-shm", path);
    atexit(remove_files);
    remove_files();
    must(store_open(path, &store, reason, sizeof(reason)) == 0);
    store_close(store);
    fresh_size = read_file(fresh);
}

static void insert_rows(const char *text, size_t size)
{
    const char *end = text + size;
    sqlite3_stmt *insert = NULL;
    sqlite3 *db = NULL;

    must(sqlite3_open(path, &db) == SQLITE_OK);
    sqlite3_exec(db, "PRAGMA synchronous=OFF; BEGIN", NULL, NULL, NULL);
    must(sqlite3_prepare_v2(db,
                            "INSERT OR REPLACE INTO object (kind, network, name, uid, generation, body)"
                            " VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                            -1, &insert, NULL) == SQLITE_OK);
    while (text < end) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        const char *line_end = newline != NULL ? newline : end;

        for (int column = 1; column <= 6; column++) {
            const char *tab = column < 6 && text < line_end ? memchr(text, '\t', (size_t)(line_end - text)) : NULL;
            const char *stop = tab != NULL ? tab : line_end;

            sqlite3_bind_text(insert, column, text, (int)(stop - text), SQLITE_STATIC);
            text = tab != NULL ? tab + 1 : line_end;
        }
        sqlite3_step(insert);
        sqlite3_reset(insert);
        text = line_end + 1;
    }
    sqlite3_finalize(insert);
    sqlite3_exec(db, "COMMIT", NULL, NULL, NULL);
    must(sqlite3_close(db) == SQLITE_OK);
}

static void report(void *context, enum object_kind kind, const char *network, const char *name, const char *message)
{
    (void)context;
    must(kind < OBJECT_KIND_COUNT && network != NULL && name != NULL && message[0] != '\0');
}

// Loads and checks. Returns what store_open or store_load said.
static int load(void)
{
    struct store *store = NULL;
    struct model *model;
    char reason[1024] = "";
    int result = store_open(path, &store, reason, sizeof(reason));

    if (result == 0) {
        model = model_create();
        result = store_load(store, model, report, NULL, reason, sizeof(reason));
        if (result == 0) {
            must(model_find_network(model, "default") != NULL);
            model_check(model);
        }
        model_destroy(model);
    }
    store_close(store);
    must(result <= 0 && (result == 0 || reason[0] != '\0'));
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at;

    if (fresh_size == 0)
        make_fresh();
    if (size < 3 || size > FILE_MAX / 2)
        return 0;
    remove_files();
    if (data[0] == 'R') {
        write_file(fresh, fresh_size);
        insert_rows((const char *)data + 1, size - 1);
        // Rows can't make the file one that isn't read.
        must(load() == 0);
        must(load() == 0);
        return 0;
    }
    if (data[0] == 'P') {
        uint8_t *damaged = malloc(fresh_size);

        must(damaged != NULL);
        memcpy(damaged, fresh, fresh_size);
        at = (size_t)(data[1] | data[2] << 8) % fresh_size;
        for (size_t i = 3; i < size && at < fresh_size; i++)
            damaged[at++] = data[i];
        write_file(damaged, fresh_size);
        load();
        free(damaged);
        return 0;
    }
    write_file(data, size);
    if (load() != 0) {
        must(read_file(after) == size);
        must(memcmp(after, data, size) == 0);
    }
    return 0;
}
