// SPDX-License-Identifier: BSD-3-Clause

// Sums of payload. Hot for frames whose receiver doesn't complete checksums.

#include "checksum.h"
#include "copy.h"

// Adds the two 32-bit halves of each 64-bit lane to the lanes of sum: they
// can't overflow below 2^32 rounds.
COPY_INLINE __m128i add_16(__m128i sum, const uint8_t *data)
{
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)data);

    sum = _mm_add_epi64(sum, _mm_and_si128(v, _mm_set1_epi64x(0xffffffff)));
    return _mm_add_epi64(sum, _mm_srli_epi64(v, 32));
}

// Folded to 16 bits; an odd last byte is the first of a word whose other is 0.
COPY_FUNCTION static uint16_t sum_of(const uint8_t *data, size_t len)
{
    __m128i a = _mm_setzero_si128(), b = a;
    struct checksum whole = {0};
    uint64_t lanes[2];

    for (; len >= 32; data += 32, len -= 32) {
        a = add_16(a, data);
        b = add_16(b, data + 16);
    }
    if (len >= 16) {
        a = add_16(a, data);
        data += 16;
        len -= 16;
    }
    _mm_storeu_si128((__m128i *)(void *)lanes, _mm_add_epi64(a, b));
    // Each lane is below 2^44: sixteen bits' worth of carries are left.
    whole.sum = lanes[0] + lanes[1];
    for (; len >= 2; data += 2, len -= 2) {
        uint16_t word;

        memcpy(&word, data, sizeof(word));
        whole.sum += word;
    }
    if (len > 0)
        whole.sum += htole16(*data);
    return checksum_end(&whole);
}

COPY_FUNCTION void checksum_add(struct checksum *checksum, const uint8_t *data, size_t len)
{
    uint16_t sum = sum_of(data, len);

    // What begins in the middle of a word has its bytes the other way round.
    checksum->sum += checksum->odd ? (uint16_t)(sum << 8 | sum >> 8) : sum;
    checksum->odd ^= len & 1;
}
