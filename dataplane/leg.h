// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_LEG_H
#define PATCHBAY_LEG_H

// A leg as the workers see it: the hop's program with its vifs resolved, and
// the counters of its one source's queue. The program is immutable. The counters'
// one writer is the worker that polls the source (leg_create … leg_destroy are
// control's, outside of any table); others read them relaxed.

#include "rate.h"
#include "vif.h"

struct leg_step_counters {
    _Atomic uint64_t offered; // TAP
    _Atomic uint64_t frames;  // TAP: copied; BUMP, END: delivered
    _Atomic uint64_t bytes;
    _Atomic uint64_t segmented_frames; // see struct segment_count
    _Atomic uint64_t segments;
    _Atomic uint64_t *tap_dropped; // TAP: TAP_DROP_REASON_COUNT of them; else NULL
};

struct leg_step {
    struct vif *vif; // NULL: DROP, or a TAP without a monitor
    struct vif *other;
    uint64_t stall_cycles;
    uint8_t kind;   // enum hop_step_kind
    uint8_t reason; // enum drop_reason, of DROP
    bool fail_open;
    bool wait;
    uint16_t vlan;
    bool limited; // rate isn't NULL
    uint32_t tag;
    struct leg_step_counters counters;
    const struct rate *rate; // of what is given to its port; NULL: none
};

struct leg {
    uint16_t step_count;
    // The same for the next queue of the source; NULL: it hasn't been needed
    // yet. Control's; workers get theirs by the table.
    struct leg *next_queue;
    _Alignas(64) _Atomic uint64_t received;
    _Atomic uint64_t received_bytes;
    bool limited;               // ingress, or the rate of a step but for taps, isn't NULL
    const struct rate *ingress; // of what comes from the source; NULL: none
    _Atomic uint64_t dropped[DROP_REASON_COUNT];
    struct leg_step steps[]; // step_count, then the rates and the taps' drop counters
};

// Control: the leg for one of its source's queues, made if there is none yet. It
// goes with the leg. NULL without memory.
struct leg *leg_of_queue(struct leg *leg, uint16_t queue);

#endif
