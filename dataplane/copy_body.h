// SPDX-License-Identifier: BSD-3-Clause

// The body of the large copies, included once per instruction set by a file
// that defines: COPY_REG (register type), COPY_LOAD, COPY_STORE, COPY_WIDTH
// (bytes, a power of two ≤ 64), COPY_NAME (function suffix). The rest of each
// file is this one text, so that the variants can't drift apart.

#include "copy.h"

#define COPY_GLUE_(a, b) a##b
#define COPY_GLUE(a, b)  COPY_GLUE_(a, b)

// Four registers a round, then single ones, then one that ends at the end and
// overlaps what is done already.
COPY_INLINE void copy_body(uint8_t *dst, uint8_t *dst2, const uint8_t *src, size_t len, int twice)
{
    enum { STEP = 4 * COPY_WIDTH };
    const uint8_t *end = src + len;

    while ((size_t)(end - src) >= STEP) {
        COPY_REG a = COPY_LOAD(src);
        COPY_REG b = COPY_LOAD(src + COPY_WIDTH);
        COPY_REG c = COPY_LOAD(src + 2 * COPY_WIDTH);
        COPY_REG d = COPY_LOAD(src + 3 * COPY_WIDTH);

        COPY_STORE(dst, a);
        COPY_STORE(dst + COPY_WIDTH, b);
        COPY_STORE(dst + 2 * COPY_WIDTH, c);
        COPY_STORE(dst + 3 * COPY_WIDTH, d);
        if (twice) {
            COPY_STORE(dst2, a);
            COPY_STORE(dst2 + COPY_WIDTH, b);
            COPY_STORE(dst2 + 2 * COPY_WIDTH, c);
            COPY_STORE(dst2 + 3 * COPY_WIDTH, d);
            dst2 += STEP;
        }
        src += STEP;
        dst += STEP;
    }
    // Fewer than STEP bytes are left: single registers, then one that ends at
    // the end (len > 64 ≥ COPY_WIDTH, so it doesn't reach before the start).
    while ((size_t)(end - src) >= COPY_WIDTH) {
        COPY_REG a = COPY_LOAD(src);

        COPY_STORE(dst, a);
        if (twice) {
            COPY_STORE(dst2, a);
            dst2 += COPY_WIDTH;
        }
        src += COPY_WIDTH;
        dst += COPY_WIDTH;
    }
    if (src != end) {
        size_t back = COPY_WIDTH - (size_t)(end - src);
        COPY_REG a = COPY_LOAD(src - back);

        COPY_STORE(dst - back, a);
        if (twice)
            COPY_STORE(dst2 - back, a);
    }
}

COPY_FUNCTION void COPY_GLUE(copy_large_, COPY_NAME)(uint8_t *dst, const uint8_t *src, size_t len)
{
    copy_body(dst, NULL, src, len, 0);
}

COPY_FUNCTION void COPY_GLUE(copy_large_twice_, COPY_NAME)(uint8_t *dst, uint8_t *dst2, const uint8_t *src, size_t len)
{
    copy_body(dst, dst2, src, len, 1);
}
