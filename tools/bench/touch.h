// SPDX-License-Identifier: BSD-3-Clause
// What touching a payload means, the same for both drivers of rate mode: every byte is written, every byte is read,
// with the widest registers that this CPU surely has cheaply, so that the lines' way between the CPUs is what it costs
// and not the generator's instructions.
#ifndef BENCH_TOUCH_H
#define BENCH_TOUCH_H

#include <linux/if_ether.h>
#include <stdint.h>
#include <string.h>

// Chosen by touch_init; until then for any CPU.
// Writes `value` all over the UDP payload of the frame of `len` bytes.
extern void (*touch_write)(uint8_t *frame, uint32_t len, uint64_t value);
// Reads `len` bytes and returns something that depends on each.
extern uint64_t (*touch_read)(const uint8_t *from, uint32_t len);

void touch_init(void);

// Reads the Ethernet header, as whoever receives a frame must at least.
static inline uint64_t touch_header(const uint8_t *frame)
{
    uint64_t first, last;

    memcpy(&first, frame, sizeof(first));
    memcpy(&last, frame + ETH_HLEN - sizeof(last), sizeof(last));
    return first + last;
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
