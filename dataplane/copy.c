// SPDX-License-Identifier: BSD-3-Clause
#include "copy.h"

void (*copy_large)(uint8_t *dst, const uint8_t *src, size_t len) = copy_large_sse;
void (*copy_large_twice)(uint8_t *dst, uint8_t *dst2, const uint8_t *src, size_t len) = copy_large_twice_sse;

void copy_init(void)
{
    __builtin_cpu_init();
    // Wide registers pay where a whole line is stored at once, and where they
    // don't lower the CPU's clock: VBMI2 came with the first generations of
    // which both are true (Ice Lake, Zen 4).
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vbmi2")) {
        copy_large = copy_large_avx512;
        copy_large_twice = copy_large_twice_avx512;
    } else if (__builtin_cpu_supports("avx2")) {
        copy_large = copy_large_avx2;
        copy_large_twice = copy_large_twice_avx2;
    }
}
