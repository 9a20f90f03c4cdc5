// SPDX-License-Identifier: BSD-3-Clause
#include "copy.h"

void (*copy_large)(uint8_t *dst, const uint8_t *src, size_t len) = copy_large_sse;
void (*copy_large_twice)(uint8_t *dst, uint8_t *dst2, const uint8_t *src, size_t len) = copy_large_twice_sse;

void copy_init(void)
{
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2")) {
        copy_large = copy_large_avx2;
        copy_large_twice = copy_large_twice_avx2;
    }
}
