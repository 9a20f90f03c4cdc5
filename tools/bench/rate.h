// SPDX-License-Identifier: BSD-3-Clause
// What touching a payload means, the same for both drivers of rate mode.
#ifndef BENCH_RATE_H
#define BENCH_RATE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "frame.h"

// Writes `value` all over the UDP payload of the frame of `len` bytes.
static inline void touch_write(uint8_t *frame, uint32_t len, uint64_t value)
{
    uint8_t *at = frame + FRAME_PAYLOAD_AT;
    uint8_t *end = frame + len;

    for (; end - at >= 8; at += 8)
        memcpy(at, &value, 8);
    memcpy(at, &value, (size_t)(end - at));
}

// Reads `len` bytes and returns something that depends on each.
static inline uint64_t touch_read(const uint8_t *from, uint32_t len)
{
    const uint8_t *end = from + len;
    uint64_t sum = 0, word;

    for (; end - from >= 8; from += 8) {
        memcpy(&word, from, 8);
        sum += word;
    }
    for (; from < end; from++)
        sum += *from;
    return sum;
}

// Fetches the lines of a frame that will soon be touched: a core has only so many misses under way, and a guest's stack
// spreads them over its other work.
static inline void touch_prefetch(const uint8_t *frame, uint32_t len, int write)
{
    for (uint32_t at = 0; at < len; at += 64) {
        if (write)
            __builtin_prefetch(frame + at, 1);
        else
            __builtin_prefetch(frame + at, 0);
    }
}

#endif
