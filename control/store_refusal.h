// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_STORE_REFUSAL_H
#define PATCHBAY_STORE_REFUSAL_H

// What is said of a state file that can't be used: what is wrong, that nothing
// was written to it, and the commands that get the daemon going again. Several
// lines; the first one says it all in short.

#include <sqlite3.h>
#include <stddef.h>

enum { STORE_REASON_SIZE = 4096 };

// What a result of SQLite's means for the file; db may be NULL. Returns -errno, as store_file_error does.
int store_refusal_result(sqlite3 *db, const char *path, int result, char *reason, size_t size);

// Damaged, or not ours at all. Returns -EBADMSG.
int store_refusal_damaged(const char *path, const char *detail, char *reason, size_t size);

// Written by a newer Patchbay. Returns -EPROTONOSUPPORT.
int store_refusal_newer(const char *path, long version, char *reason, size_t size);

// Where the export of a state file lies: beside it, ".db" replaced by ".json". Returns 0, or -ENAMETOOLONG.
int store_export_path(const char *path, char *export, size_t size);

#endif
