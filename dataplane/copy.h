// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_COPY_H
#define PATCHBAY_COPY_H

// Copies of payload between guests. Up to 64 bytes are copied in line with SSE
// (any x86-64 has it; at 60 bytes wider registers gain nothing); above that by
// a function chosen at start for the CPU. Loads may overlap at the end of a
// copy, so that a byte is read twice there, but every load is stored to all
// receivers: they get the same bytes whatever the guest rewrites meanwhile.

#include <emmintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

// Chosen by copy_init; both want len > 64 bytes. dst and src don't overlap.
extern void (*copy_large)(uint8_t *dst, const uint8_t *src, size_t len);
extern void (*copy_large_twice)(uint8_t *dst, uint8_t *dst2, const uint8_t *src, size_t len);

void copy_init(void);

void copy_large_sse(uint8_t *dst, const uint8_t *src, size_t len);
void copy_large_twice_sse(uint8_t *dst, uint8_t *dst2, const uint8_t *src, size_t len);
void copy_large_avx2(uint8_t *dst, const uint8_t *src, size_t len);
void copy_large_twice_avx2(uint8_t *dst, uint8_t *dst2, const uint8_t *src, size_t len);
void copy_large_avx512(uint8_t *dst, const uint8_t *src, size_t len);
void copy_large_twice_avx512(uint8_t *dst, uint8_t *dst2, const uint8_t *src, size_t len);

// Guests change their memory while we read it, by design; ThreadSanitizer is
// told so here and nowhere else.
#if defined(__SANITIZE_THREAD__)
#define COPY_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define COPY_TSAN 1
#endif
#endif
#ifdef COPY_TSAN
#define COPY_FUNCTION __attribute__((no_sanitize("thread")))
#define COPY_INLINE   __attribute__((no_sanitize("thread"))) static inline
#else
#define COPY_FUNCTION
#define COPY_INLINE static inline __attribute__((always_inline))
#endif

// One step of a copy: a load of 16 bytes, stored once or twice.
COPY_INLINE void copy_16(uint8_t *dst, uint8_t *dst2, const uint8_t *src)
{
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)src);

    _mm_storeu_si128((__m128i *)(void *)dst, v);
    if (dst2 != NULL)
        _mm_storeu_si128((__m128i *)(void *)dst2, v);
}

COPY_INLINE void copy_8(uint8_t *dst, uint8_t *dst2, const uint8_t *src)
{
    uint64_t v;

    memcpy(&v, src, sizeof(v));
    __asm__("" : "+r"(v)); // one load, whatever the compiler thinks of src
    memcpy(dst, &v, sizeof(v));
    if (dst2 != NULL)
        memcpy(dst2, &v, sizeof(v));
}

COPY_INLINE void copy_tiny(uint8_t *dst, uint8_t *dst2, const uint8_t *src, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t v = *(const volatile uint8_t *)&src[i];

        dst[i] = v;
        if (dst2 != NULL)
            dst2[i] = v;
    }
}

// The body of both copies; dst2 is NULL or not at compile time.
COPY_INLINE void copy_small(uint8_t *dst, uint8_t *dst2, const uint8_t *src, size_t len)
{
#define COPY_SECOND(offset) (dst2 != NULL ? dst2 + (offset) : NULL)
    if (__builtin_expect(len > 32, 1)) {
        copy_16(dst, dst2, src);
        copy_16(dst + 16, COPY_SECOND(16), src + 16);
        copy_16(dst + len - 32, COPY_SECOND(len - 32), src + len - 32);
        copy_16(dst + len - 16, COPY_SECOND(len - 16), src + len - 16);
    } else if (len >= 16) {
        copy_16(dst, dst2, src);
        copy_16(dst + len - 16, COPY_SECOND(len - 16), src + len - 16);
    } else if (len >= 8) {
        copy_8(dst, dst2, src);
        copy_8(dst + len - 8, COPY_SECOND(len - 8), src + len - 8);
    } else {
        copy_tiny(dst, dst2, src, len);
    }
#undef COPY_SECOND
}

// Copies len bytes, any number.
COPY_INLINE void copy_bytes(uint8_t *dst, const uint8_t *src, size_t len)
{
    if (__builtin_expect(len <= 64, 1))
        copy_small(dst, NULL, src, len);
    else
        copy_large(dst, src, len);
}

// Copies len bytes to two places, each load stored twice.
COPY_INLINE void copy_bytes_twice(uint8_t *dst, uint8_t *dst2, const uint8_t *src, size_t len)
{
    if (__builtin_expect(len <= 64, 1))
        copy_small(dst, dst2, src, len);
    else
        copy_large_twice(dst, dst2, src, len);
}

#endif
