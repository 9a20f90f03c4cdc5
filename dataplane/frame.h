// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_FRAME_H
#define PATCHBAY_FRAME_H

// A frame in the dataplane is a borrowed view of memory that belongs to its
// source until the burst completes: guest memory (the guest may change any
// byte at any time, so each byte is read once for each decision or copy), or
// an mbuf that the burst owns. A leg that needs the frame for longer copies
// it. No view outlives the burst it came in.

#include "patchbay/limits.h"

#include <stdbool.h>
#include <stdint.h>

struct rte_mbuf;

struct frame_segment {
    const uint8_t *data;
    uint32_t len; // bytes, > 0
};

// What the sender left for the receiver to complete; virtio 1.2, 5.1.6. The
// source has checked it against the frame (offload_check); the receiver's engine
// rebuilds its own header from it. All zero: nothing. Valid only where burst.offloads.
struct frame_offload {
    uint8_t flags; // VIRTIO_NET_HDR_F_NEEDS_CSUM or 0
    uint8_t gso_type;
    uint16_t hdr_len; // bytes
    uint16_t gso_size;
    uint16_t csum_start;
    uint16_t csum_offset;
    uint8_t wants; // enum offload: what a receiver must be able to do to get it so
};

struct frame {
    const uint8_t *data; // of the first segment
    uint32_t data_len;   // bytes in the first segment
    uint32_t len;        // bytes in all; LIMIT_FRAME_MIN … LIMIT_FRAME_MAX, or LIMIT_FRAME_GSO_MAX if to be segmented
    // Segments in all, ≥ 1. The second and later ones stand in the burst's
    // segments, from segment_first on.
    uint16_t segment_count;
    uint16_t segment_first;
    // The source's: the head of the descriptor chain; of a packed ring the
    // buffer's id, and how many of the ring's descriptors it takes.
    uint16_t id;
    uint16_t chain_len;
    // Owner of the memory, or NULL when it is borrowed. Whoever takes it over
    // (an ethdev's transmit) sets it to NULL; complete frees what is left.
    struct rte_mbuf *mbuf;
    struct frame_offload offload;
};

struct burst {
    uint16_t count;         // frames
    uint16_t segment_count; // used entries of segments
    bool owned;             // the frames are mbufs: their bytes don't change under us
    uint8_t offloads;       // what frames want (enum offload), all of them together; 0: frame.offload isn't valid
    // Set by the worker: an ethdev's transmit takes a reference of its own on
    // every mbuf, so that the taps can read the frames after it.
    bool keep;
    // Set by a receive that found no frame but had work all the same (bad chains,
    // given back); cleared by the worker when it has counted that.
    bool worked;
    // Of a source whose frames have offloads: another one when the driver behind it has begun
    // anew, so that a frame's id alone doesn't make it the one that was there.
    uint32_t epoch;
    struct frame frames[LIMIT_BURST_FRAMES];
    // A source uses at most LIMIT_BURST_SEGMENTS; popping a tag makes new lists
    // behind them, at most as long and one more a frame.
    struct frame_segment segments[2 * (LIMIT_BURST_SEGMENTS + LIMIT_BURST_FRAMES)];
};

// Why transmit stopped short.
enum transmit_stop {
    TRANSMIT_ALL,         // it didn't
    TRANSMIT_FULL,        // no room for the next frame now
    TRANSMIT_SHORT,       // as FULL, but there are buffers: too few for this frame
    TRANSMIT_TOO_BIG,     // the next frame can't fit, whatever comes
    TRANSMIT_DOWN,        // no driver, no link
    TRANSMIT_PAUSED,      // as if full: a protocol message is in progress
    TRANSMIT_NO_MBUF,     // no packet buffer
    TRANSMIT_OFFLOAD,     // the next frame wants an offload that the receiver doesn't take
    TRANSMIT_BAD_OFFLOAD, // the next frame can't be completed for it either
};

static inline void frame_set_single(struct frame *frame, const void *data, uint32_t len)
{
    frame->data = data;
    frame->data_len = len;
    frame->len = len;
    frame->segment_count = 1;
}

#endif
