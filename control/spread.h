// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_SPREAD_H
#define PATCHBAY_SPREAD_H

// Which receive queues should change their worker, by what they cost. Pure:
// loads in, moves out; balance.c measures, waits and moves.
//
// The rule: from the busiest worker to the least busy one goes the queue that
// brings the two closest together, if that makes the busiest less busy by a good
// deal. A queue that is its worker's only load never moves, and a move whose
// opposite would be as good isn't made, so a steady load comes to rest.

#include "dataplane/dataplane.h"

// A load of 1 is one worker's whole time.
#define SPREAD_HOT  0.5  // what the busiest worker must have for anything to be done
#define SPREAD_GAIN 0.12 // by what a move must lighten the busiest

struct spread_queue {
    vif_slot slot;
    uint16_t queue;
    uint16_t worker;
    bool stays; // pinned, or moved a short time ago
    double load;
};

struct spread_move {
    vif_slot slot;
    uint16_t queue;
    uint16_t from, to;
};

// Says which of the queues should move, at most max of them, each once; what each
// worker would have then is in queues[].worker. workers: how many there are, at most
// LIMIT_WORKERS. Returns how many.
size_t spread_choose(struct spread_queue *queues, size_t count, unsigned workers, struct spread_move *moves,
                     size_t max);

#endif
