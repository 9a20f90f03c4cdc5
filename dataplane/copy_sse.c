// SPDX-License-Identifier: BSD-3-Clause
#include <emmintrin.h>

#define COPY_NAME        sse
#define COPY_REG         __m128i
#define COPY_WIDTH       16
#define COPY_LOAD(p)     _mm_loadu_si128((const __m128i *)(const void *)(p))
#define COPY_STORE(p, v) _mm_storeu_si128((__m128i *)(void *)(p), v)
#include "copy_body.h"
