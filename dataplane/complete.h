// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_COMPLETE_H
#define PATCHBAY_COMPLETE_H

// What a sender left undone and a receiver doesn't take is done here, in
// software, for that receiver only: checksums are completed, TCP is segmented.
//
// The results are views: headers of our own in front of the source's payload,
// which the receiver's transmit copies, so a frame is still copied once. A
// checksum reads the payload before that; a guest that rewrites it between the two
// gets a frame with a wrong checksum delivered, nothing worse. (Where taps look on, the
// source is a snapshot by now.)

#include "segment.h"
#include "vif.h"

enum { COMPLETE_VIEWS = LIMIT_BURST_FRAMES };

// A worker's scratch memory for it; part of struct hop_scratch.
struct completion {
    struct burst burst; // the views
    // For each view: which frame of the source's burst it is of, how many
    // segments of that are out once it is, and whether it is the last.
    uint16_t frame[COMPLETE_VIEWS];
    uint32_t segments[COMPLETE_VIEWS];
    bool last[COMPLETE_VIEWS];
    uint8_t headers[COMPLETE_VIEWS][SEGMENT_HEADER_MAX];
    struct segment_plan plan;
};

// How far one receiver is in a burst. The caller begins with zeros but for
// segment and budget.
struct complete_state {
    uint32_t segment;           // of the frame that is next: segments that are out
    uint32_t budget;            // views that may still be made: what bounds the worker's time
    struct frame_count sent;    // views that the receiver took
    struct segment_count count; // of frames that were segmented: those that are whole, and their segments
};

// Makes views of the burst's frames [at, end), from segment `segment` of the first
// on; takes: what the receiver takes (enum offload). Ends before a
// frame that can go as it is, but for the first. Returns how many, at most max and
// COMPLETE_VIEWS; 0: the first can't be completed (its offload doesn't describe it).
uint16_t complete_fill(struct completion *completion, const struct burst *burst, uint16_t at, uint16_t end,
                       uint32_t segment, uint8_t takes, uint32_t max);

// Completes frames [at, end) of the burst and gives them to the vif, whose
// transmit queue's lock the caller holds, until it has them or a frame comes that can go
// as it is. Returns how many frames are out whole; state->segment is then about the next
// one. *stop says why it ended, TRANSMIT_BAD_OFFLOAD included; TRANSMIT_ALL: it may go on.
uint16_t complete_transmit(struct vif *vif, uint16_t queue, const struct burst *burst, uint16_t at, uint16_t end,
                           struct completion *completion, struct complete_state *state, enum transmit_stop *stop);

// What the receiver takes now; it may be another one by the time it gets it, and
// refuses then.
static inline uint8_t complete_takes(struct vif *vif, uint16_t queue)
{
    return vif->ops->takes != NULL ? vif->ops->takes(vif, queue) : 0;
}

// Whether a stop at this frame is one that completing it may cure: an offload that the
// receiver doesn't take, or a frame to be segmented that is too long for
// all of its buffers.
static inline bool complete_cures(const struct burst *burst, uint16_t at, enum transmit_stop stop)
{
    if (burst->offloads == 0)
        return false;
    return stop == TRANSMIT_OFFLOAD || (stop == TRANSMIT_TOO_BIG && burst->frames[at].offload.gso_type != 0);
}

#endif
