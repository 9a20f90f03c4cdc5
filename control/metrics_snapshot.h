// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_METRICS_SNAPSHOT_H
#define PATCHBAY_METRICS_SNAPSHOT_H

// What one scrape has read: metrics of a family stand together in the text, so
// that each object's counters are needed again and again, and must not have
// changed meanwhile. Bounded by the limits of objects; freed with the scrape.

#include "live.h"
#include "status.h"

struct metrics_frames {
    uint64_t received, received_bytes, delivered, delivered_bytes;
    uint64_t dropped[DROP_REASON_COUNT];
    struct segment_count segmented; // of the delivered ones
};

struct metrics_wire {
    char *labels; // owned: network="…",wire="…",uid="…"
    bool up;
    struct metrics_frames directions[2]; // enum leg_direction
};

struct metrics_tee {
    char *labels; // owned: network="…",wire="…",tee="…",uid="…"
    enum tee_mode mode;
    bool up;
    struct tee_sum sum;
};

// Only with detail.
struct metrics_leg {
    char *labels; // owned: network="…",wire="…",uid="…",direction="…",from="…"
    struct metrics_frames frames;
};

// Where a leg's frames went. Only with detail.
struct metrics_to {
    char *labels; // owned: as a leg's, and to="…"
    struct frame_count delivered;
    struct segment_count segmented;
};

struct metrics_vif {
    char *labels; // owned: vif="…",uid="…"
    vif_slot slot;
    bool up;
    struct vif_count count;
};

#define METRICS_LIST(type)  \
    struct {                \
        struct type *items; \
        size_t count, room; \
    }

struct metrics_snapshot {
    bool detail;
    METRICS_LIST(metrics_wire) wires;
    METRICS_LIST(metrics_tee) tees;
    METRICS_LIST(metrics_leg) legs;
    METRICS_LIST(metrics_to) tos;
    METRICS_LIST(metrics_vif) vifs;
};

// Adds an object, read now. Returns 0 or -ENOMEM.
int metrics_snapshot_wire(struct metrics_snapshot *snapshot, const struct wire *wire);
int metrics_snapshot_vif(struct metrics_snapshot *snapshot, const struct vif *vif);

void metrics_snapshot_free(struct metrics_snapshot *snapshot);

#endif
