// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_STORE_FILE_H
#define PATCHBAY_STORE_FILE_H

// The database file below the store: made, opened, judged, locked.

#include <sqlite3.h>
#include <stddef.h>

// Opens or makes the file as store_open says, with the tables of today; version is what it had before, 0 if it was
// made. Returns 0 and the connection, or -errno with a reason.
int store_file_open(const char *path, sqlite3 **db, int *version, char *reason, size_t reason_size);

// What a result code of SQLite means, as -errno; db may be NULL.
int store_file_error(sqlite3 *db, int result);

#endif
