// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_BALANCE_H
#define PATCHBAY_BALANCE_H

// Queues change their worker: because their load says so (spread.h), or because
// their vif was pinned to one. Control thread.
//
// A move is part of a transaction of apply.c and makes it one of two tables: in
// the first nobody polls the queue, and only after every worker has left all older
// ones does the second give it to its new worker. So it has one poller at each
// moment, and its frames stay in order; meanwhile they wait in its ring.

#include "model.h"

// Looks at the load once in a while, from now on; with one worker never.
void balance_start(void);
void balance_stop(void);

// The vif in the slot has more queues than before. The next transaction looks whether
// they are where the vif is pinned to: it may have been pinned while they were made.
void balance_grown(vif_slot slot);

// The slot's vif is gone: the next one there has moved nowhere yet.
void balance_forget(vif_slot slot);

// Are there moves that no request asked for?
bool balance_pending(void);

// Before the first table of a transaction is built, and after vifs were listed:
// collects what is to move, by load and by what the change pins. These queues are
// nobody's then. Returns how many, or -ENOMEM: then balance_undo is to be called.
int balance_lift(const struct model_change *change);
// Before the second table is built: they are their new workers'.
void balance_place(void);
// The first table has settled: their old workers have let go of them.
void balance_left(void);
// The second one has.
void balance_done(void);
// Nothing was published: all are where they were.
void balance_undo(const struct model_change *change);

#endif
