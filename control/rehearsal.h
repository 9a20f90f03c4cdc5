// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_REHEARSAL_H
#define PATCHBAY_REHEARSAL_H

#include "options.h"

// patchbayd --check: loads the state as a start would, and prints what it would do with it: what would be migrated,
// vifs to make, wires, problems. It works on a copy, so the state isn't touched, and neither are devices, sockets and
// pidfile: a running daemon isn't disturbed. Returns the exit status: 0, or 1 if the daemon wouldn't start or
// something would not be restored as it was.
int rehearsal_run(const struct options *options);

#endif
