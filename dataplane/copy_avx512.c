// SPDX-License-Identifier: BSD-3-Clause

// Compiled with -mavx512f and called only where copy.c finds it worth it.
#include <immintrin.h>

#define COPY_NAME        avx512
#define COPY_REG         __m512i
#define COPY_WIDTH       64
#define COPY_LOAD(p)     _mm512_loadu_si512((const void *)(p))
#define COPY_STORE(p, v) _mm512_storeu_si512((void *)(p), v)
#include "copy_body.h"
