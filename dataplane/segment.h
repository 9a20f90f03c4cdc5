// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_SEGMENT_H
#define PATCHBAY_SEGMENT_H

// How a TCP frame that its sender left to be segmented is cut, and the headers
// of each piece. Pure: works on a copy of the frame's headers, knows neither
// memory of guests nor rings.

#include "frame.h"

// The headers that are looked at: Ethernet, tags, IPv6 with extension headers or
// IPv4, TCP with options. Longer ones are refused.
enum { SEGMENT_HEADER_MAX = 256 };

struct segment_plan {
    uint8_t header[SEGMENT_HEADER_MAX]; // header_len bytes are valid
    uint32_t header_len;                // Ethernet … TCP
    uint32_t payload_len;
    uint32_t count; // segments, ≥ 1
    uint16_t l3;    // offset of the IP header
    uint16_t l4;    // and of TCP's
    uint16_t gso_size;
    bool ip6;
    uint64_t pseudo_sum; // of the pseudo header, without its length (struct checksum)
};

// Makes the plan of a frame of len bytes whose first min(len,
// SEGMENT_HEADER_MAX) bytes are in plan->header already. Returns 0, or -EINVAL if the
// offload doesn't describe the frame: not TCP over the IP that it says, a
// fragment, headers that don't fit, a checksum elsewhere than in TCP's field.
int segment_plan(struct segment_plan *plan, const struct frame_offload *offload, uint32_t len);

// Bytes of payload in segment `index` (< plan->count).
static inline uint32_t segment_payload(const struct segment_plan *plan, uint32_t index)
{
    uint32_t left = plan->payload_len - index * plan->gso_size;

    return left < plan->gso_size ? left : plan->gso_size;
}

// Writes the headers of segment `index` (plan->header_len bytes). TCP's checksum is
// left as a receiver that completes it wants it: the sum of the pseudo header.
void segment_header(const struct segment_plan *plan, uint32_t index, uint8_t *to);

#endif
