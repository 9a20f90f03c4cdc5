// SPDX-License-Identifier: BSD-3-Clause
#include "touch.h"

#include <stddef.h>
#include <string.h>

#include "frame.h"

// Four words that may lie anywhere. The compiler makes of them what the function's target has.
typedef uint64_t words __attribute__((vector_size(32), aligned(1), may_alias));

#define BODY static inline __attribute__((always_inline))

BODY void write_body(uint8_t *frame, uint32_t len, uint64_t value)
{
    uint8_t *at = frame + FRAME_PAYLOAD_AT, *end = frame + len;
    const words all = {value, value, value, value};

    for (; end - at >= (ptrdiff_t)sizeof(all); at += sizeof(all))
        *(words *)at = all;
    for (; end - at >= 8; at += 8)
        memcpy(at, &value, 8);
    memcpy(at, &value, (size_t)(end - at));
}

BODY uint64_t read_body(const uint8_t *from, uint32_t len)
{
    const uint8_t *end = from + len;
    words sums[2] = {0};
    uint64_t sum, word;

    for (; end - from >= (ptrdiff_t)sizeof(sums); from += sizeof(sums)) {
        sums[0] += *(const words *)from;
        sums[1] += *(const words *)(from + sizeof(words));
    }
    sums[0] += sums[1];
    sum = sums[0][0] + sums[0][1] + sums[0][2] + sums[0][3];
    for (; end - from >= 8; from += 8) {
        memcpy(&word, from, 8);
        sum += word;
    }
    if (from < end && len >= 8) { // what is left, with some that was read already
        memcpy(&word, end - 8, 8);
        sum += word;
    } else {
        for (; from < end; from++)
            sum += *from;
    }
    return sum;
}

static void write_any(uint8_t *frame, uint32_t len, uint64_t value)
{
    write_body(frame, len, value);
}

static uint64_t read_any(const uint8_t *from, uint32_t len)
{
    return read_body(from, len);
}

#ifdef __x86_64__
__attribute__((target("avx2"))) static void write_avx2(uint8_t *frame, uint32_t len, uint64_t value)
{
    write_body(frame, len, value);
}

__attribute__((target("avx2"))) static uint64_t read_avx2(const uint8_t *from, uint32_t len)
{
    return read_body(from, len);
}
#endif

void (*touch_write)(uint8_t *frame, uint32_t len, uint64_t value) = write_any;
uint64_t (*touch_read)(const uint8_t *from, uint32_t len) = read_any;

void touch_init(void)
{
#ifdef __x86_64__
    if (!__builtin_cpu_supports("avx2"))
        return;
    touch_write = write_avx2;
    touch_read = read_avx2;
#endif
}
