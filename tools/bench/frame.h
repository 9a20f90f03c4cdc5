// SPDX-License-Identifier: BSD-3-Clause
// The frames that patchbay-traffic sends: Ethernet, IPv4 and UDP that every tool can read, then a tag with stream and
// sequence number, then a payload. Each byte of a frame and its length follow from (sizes, stream, number), so a
// receiver can tell any change: a flipped bit, another frame's tail, a wrong length, a number that was never sent.
#ifndef BENCH_FRAME_H
#define BENCH_FRAME_H

#include <stdbool.h>
#include <stdint.h>

enum {
    FRAME_MIN = 60,        // bytes without the frame check sequence: headers and tag fill it exactly
    FRAME_MAX = 9212,      // bytes without the frame check sequence
    FRAME_FCS = 4,         // bytes; sizes on the command line include it, as is usual
    FRAME_PAYLOAD_AT = 42, // behind Ethernet, IPv4 and UDP headers
    FRAME_SIZES_MAX = 3,
    FRAME_IMIX_PERIOD = 12,
};

enum frame_size_mode { FRAME_FIXED, FRAME_IMIX, FRAME_RANDOM };

struct frame_sizes {
    enum frame_size_mode mode;
    uint16_t min; // FRAME_FIXED: the length; FRAME_RANDOM: the smallest
    uint16_t max; // the largest; the length of the longest frame in each mode
};

enum frame_verdict { FRAME_GOOD, FRAME_FOREIGN, FRAME_CORRUPT };

// The three lengths of IMIX and their weights of 7:4:1.
extern const uint16_t frame_imix_len[FRAME_SIZES_MAX];
extern const uint8_t frame_imix_weight[FRAME_SIZES_MAX];
// Which of the three lengths comes at each place of a period, well mixed.
extern const uint8_t frame_imix_order[FRAME_IMIX_PERIOD];

// Returns the length in bytes, without frame check sequence, of frame `seq` of `stream`.
uint16_t frame_len(const struct frame_sizes *sizes, uint16_t stream, uint64_t seq);

// Writes all `len` bytes of frame `seq` of `stream` to `to`; `len` is at least FRAME_MIN.
void frame_write(uint8_t *to, uint16_t len, uint16_t stream, uint64_t seq);

// Judges the `len` contiguous bytes at `from`. When FRAME_GOOD, `stream` and `seq` are what the frame says of itself
// and all its bytes agree with them; whether that length and number were sent is for the caller to judge.
enum frame_verdict frame_check(const uint8_t *from, uint32_t len, uint16_t *stream, uint64_t *seq);

#endif
