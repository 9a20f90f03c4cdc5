// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_STORE_H
#define PATCHBAY_STORE_H

// The desired state on disk: one SQLite file, one row an object, bodies in
// JSON. A change of the model is one transaction; when store_commit returns 0 it
// survives a crash of the machine. Blocks on the disk: only the control thread
// calls it, and its cost is one fsync a group of requests.

#include "audit.h"
#include "model.h"

#include <stddef.h>
#include <stdint.h>

enum { STORE_SCHEMA = 3, STORE_APPLICATION_ID = 0x50424159 /* "PBAY" */ };

struct store;

// Opens or makes the file; path may be ":memory:". Its directory is made (0750) if it isn't there, the file 0640. The
// file stays locked until store_close. A file of an older schema is migrated, after it was copied to
// PATH.v<N> beside it. Returns 0 and the store, or -errno with a reason of one or more lines that say what to do:
// -EBUSY (another daemon has it), -EBADMSG (damaged, or not a database of ours), -EPROTONOSUPPORT (written by a newer
// Patchbay), -EACCES, -EROFS, -ENOSPC, -EIO, -ENOMEM, … A file that is refused isn't changed.
int store_open(const char *path, struct store **store, char *reason, size_t reason_size);

// Takes NULL.
void store_close(struct store *store);

// The schema's version that the file had when it was opened; 0: it was made, or was empty.
int store_version_before(const struct store *store);

// The trail of changes, as store_commit writes it.
struct audit *store_audit(struct store *store);

// UUID of this run: made by store_open, kept in the file.
const char *store_instance(const struct store *store);

// What store_load could not restore as it was: one call an object. Nothing was changed in the file: the row stays as
// it is until an object of its name is put or deleted.
typedef void store_report(void *context, enum object_kind kind, const char *network, const char *name,
                          const char *message);

// Fills an empty model: objects, generation, the network `default`. One that doesn't decode, or breaks an
// invariant, is left out and reported; one that refers to something missing loses the reference (a wire's end is
// unplugged, a T is off, a port has no vif) and is reported. Returns 0, or -errno with a reason if the file can't be
// read: -EIO, -EBADMSG, -ENOMEM.
int store_load(struct store *store, struct model *model, store_report *report, void *context, char *reason,
               size_t reason_size);

// Writes all that an open change did, its generation, and who asked for it (entries may be NULL), in one transaction.
// An empty change does nothing. Returns 0, or -ENOSPC, -EIO, -ENOMEM with a reason; then nothing was written, and the
// caller rolls the change back.
int store_commit(struct store *store, const struct model_change *change, struct audit_entry *entries,
                 size_t entry_count, char *reason, size_t reason_size);

#endif
