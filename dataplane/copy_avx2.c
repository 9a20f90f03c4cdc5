// SPDX-License-Identifier: BSD-3-Clause

// Compiled with -mavx2 and called only where the CPU has it. A file of its
// own: libdpdk's flags end in -march=corei7, which caps every other file at SSE4.2.
#include <immintrin.h>

#define COPY_NAME        avx2
#define COPY_REG         __m256i
#define COPY_WIDTH       32
#define COPY_LOAD(p)     _mm256_loadu_si256((const __m256i *)(const void *)(p))
#define COPY_STORE(p, v) _mm256_storeu_si256((__m256i *)(void *)(p), v)
#include "copy_body.h"
