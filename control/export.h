// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EXPORT_H
#define PATCHBAY_EXPORT_H

// The export: the whole configuration as one JSON document beside the state
// file, for the day when that can't be read. It is the document of GET
// /v1/config. A thread writes it, from versions that the control thread holds for
// it, so no change waits for it: within a second after a change while there are
// few, less often the longer writing takes. It is always whole: it gets its name
// when it is on the disk.

#include <stdbool.h>

// Begins, and writes the first; path is the state file's, ":memory:" has no export. With `fresh` the state file was
// just made, without `whole` some of it could not be restored: an earlier export is kept as FILE.json.before. Returns 0
// or -errno; what can't be written later is logged.
int export_start(const char *path, bool fresh, bool whole);

// The model was changed and published.
void export_changed(void);

// Writes what has changed since, and ends. Takes a state in which export_start wasn't called.
void export_stop(void);

#endif
