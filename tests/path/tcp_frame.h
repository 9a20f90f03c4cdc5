// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TESTS_PATH_TCP_FRAME_H
#define PATCHBAY_TESTS_PATH_TCP_FRAME_H

// TCP frames as a driver leaves them to be segmented, and what must come of
// them: a reference that is written for being read, byte by byte, and
// shares nothing with the dataplane.

#include "tests/virtqueue/driver.h"

#include <stdbool.h>
#include <stdint.h>

enum { TCP_FRAME_MAX = 65700, TCP_HEADER_MAX = 256 };

struct tcp_frame {
    uint8_t bytes[TCP_FRAME_MAX];
    uint32_t len;
    uint8_t header[10]; // virtio's
    bool ip6;
    uint32_t l3, l4, payload_at; // offsets
    uint32_t gso_size;
};

// A frame of any headers, with payload_len bytes of payload.
void tcp_frame_random(struct tcp_frame *frame, struct dice *dice, uint32_t payload_len, uint32_t gso_size);

// How many segments it makes.
uint32_t tcp_frame_count(const struct tcp_frame *frame);

// Segment `index` with complete checksums; returns its length.
uint32_t tcp_frame_segment(const struct tcp_frame *frame, uint32_t index, uint8_t *to);

// Completes the checksum that begins at `start` and stands at `field`.
void checksum_complete(uint8_t *bytes, uint32_t len, uint32_t start, uint32_t field);

#endif
