// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TEST_FAULTY_VFS_H
#define PATCHBAY_TEST_FAULTY_VFS_H

// A file system below SQLite that can be told to fail: the default one, with
// writes and syncs that return an error once a countdown is over.

struct faulty {
    int writes_left; // before they fail; -1: never
    int result;      // SQLITE_FULL, SQLITE_IOERR_WRITE …
    int sync_result; // of every sync; 0: works
    unsigned writes; // done
    unsigned syncs;
};

extern struct faulty faulty;

// Makes it the default for files opened from now on. Once a process.
void faulty_vfs_install(void);

#endif
