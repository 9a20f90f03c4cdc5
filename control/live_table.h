// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_LIVE_TABLE_H
#define PATCHBAY_LIVE_TABLE_H

#include "dataplane/dataplane.h"

// Builds the wire table of all wires, each with its `next` set, or `now` where
// that is NULL. Returns NULL with errno.
struct wire_table *live_table_build(uint64_t generation);

#endif
