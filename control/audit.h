// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_AUDIT_H
#define PATCHBAY_AUDIT_H

// The audit trail: who changed what, and when. Its rows lie in the state file
// and are written by the transaction that makes the change, so there is neither
// a change without its row nor a row without its change. Bounded: beyond
// LIMIT_AUDIT_ROWS the oldest go. What was refused changed nothing and isn't in it.

#include <sqlite3.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

// "fw-agent": what the kernel calls a process has at most 15 bytes.
enum { AUDIT_COMMAND_SIZE = 16 };

// One change, as it is kept.
struct audit_entry {
    uint64_t seq;       // counts up over all restarts; audit_write sets it
    int64_t time_ms;    // wall clock, since 1970 UTC
    uid_t uid;          // of the client, as the kernel told when it connected
    gid_t gid;          //
    pid_t pid;          //
    const char *client; // its command's name, "" if it had gone; of a process of that pid, so a hint and no proof
    const char *method; // "PUT" …; "PROMOTE": Patchbay itself
    const char *path;
    uint64_t generation; // that the change made
    unsigned status;     // of the answer
    const char *changes; // what became of which objects, the first few: JSON, see trail.c
    uint64_t change_count;
};

struct audit;

// Prepares the trail of a state file whose schema has it. Returns 0 and the trail, to be closed before the file is; or
// SQLite's code.
int audit_open(sqlite3 *db, struct audit **audit);
// Takes NULL.
void audit_close(struct audit *audit);

// Writes entries inside of the transaction that is open. Returns SQLite's code; after a failure the transaction is to
// be rolled back, and audit_settle told so.
int audit_write(struct audit *audit, struct audit_entry *entries, size_t count);
// The transaction is over: committed, or rolled back (then the numbers are given again).
void audit_settle(struct audit *audit, int committed);

// The numbers of the oldest and the newest row; 0 without any.
void audit_ends(const struct audit *audit, uint64_t *first, uint64_t *last);

// Calls each(arg, entry) for up to limit rows with seq > after, oldest first; the entry's strings are good until it
// returns. Returns SQLite's code.
int audit_read(struct audit *audit, uint64_t after, unsigned limit,
               void (*each)(void *arg, const struct audit_entry *entry), void *arg);

#endif
