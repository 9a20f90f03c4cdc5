// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_WIRE_TABLE_H
#define PATCHBAY_WIRE_TABLE_H

// The wire table: for each worker the receive queues it polls, and for each
// queue what becomes of its frames. Immutable once published.
//
// Writers: the control thread alone, by building a whole next table and
// swapping wire_table_current (publish.c). Readers: each worker loads the
// pointer (acquire) once per loop and uses that table until the loop's end, when it
// reports quiescence. A table that was swapped out is freed after every worker
// has reported since. Readers take no lock and never wait.

#include "leg.h"
#include "vlan.h"

// What a shared vif's frames go by. One allocation a queue of a shared vif and table.
struct vlan_map {
    struct leg *legs[LIMIT_VLAN + 1]; // [0]: untagged; NULL: no port has the tag
    uint8_t monitor[LIMIT_VLAN + 1];  // the port is a monitor: discard
    uint8_t held[LIMIT_VLAN + 1];     // its wire is being drained: drop as full
};

// One receive queue.
struct source {
    struct vif *vif;
    struct leg *leg;        // whole vif; NULL: see below
    struct vlan_map *vlans; // shared vif; else NULL
    vif_slot slot;
    uint16_t queue;
    bool held;    // not polled
    bool monitor; // leg and vlans are NULL: discarded as `monitor`, else as `unwired`
};

struct worker_sources {
    uint32_t count;
    struct source *sources; // by slot and queue
};

struct wire_table {
    uint64_t generation; // the model's
    // Unlike an address, never used twice: a worker that slept may find a new
    // table where an old one was.
    uint64_t serial;
    struct worker_sources workers[LIMIT_WORKERS];
    // Cold: what to free.
    struct source *all;
    uint32_t vlan_map_count;
    struct vlan_map **vlan_maps;
    struct wire_table *next_retired;
    uint64_t retired_token;
};

extern _Atomic(struct wire_table *) wire_table_current;

#endif
