// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_STORE_SCHEMA_H
#define PATCHBAY_STORE_SCHEMA_H

// The state file's schema and its versions. PRAGMA user_version says which one
// a file has; a file of an older one is migrated when it is opened, step by
// step, in one transaction, after it was copied to FILE.v<N> beside it.

#include <sqlite3.h>
#include <stddef.h>

// Gives a file that is empty (version 0) or of an older version, and locked by
// this connection, the schema of today. path may be ":memory:". Returns 0, or
// -errno with a reason; the file is as it was then, and the copy may be there.
int store_schema_migrate(sqlite3 *db, const char *path, int version, char *reason, size_t reason_size);

#endif
