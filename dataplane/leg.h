// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_LEG_H
#define PATCHBAY_LEG_H

// A leg as the workers see it: the hop's program with its vifs resolved, and
// the counters of its one source. The program is immutable. The counters'
// one writer is the worker that polls the source (leg_create … leg_destroy are
// control's, outside of any table); others read them relaxed.

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
    uint32_t tag;
    struct leg_step_counters counters;
};

struct leg {
    uint16_t step_count;
    _Alignas(64) _Atomic uint64_t received;
    _Atomic uint64_t received_bytes;
    _Atomic uint64_t dropped[DROP_REASON_COUNT];
    struct leg_step steps[]; // step_count, then the taps' drop counters
};

#endif
