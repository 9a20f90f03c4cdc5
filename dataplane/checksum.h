// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CHECKSUM_H
#define PATCHBAY_CHECKSUM_H

// The Internet checksum (RFC 1071) over bytes in pieces.

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A sum in the making. One's complement sums are the same in either byte order,
// so words are added as the CPU loads them; what stands in it is only ever
// taken out by checksum_end.
struct checksum {
    uint64_t sum;
    bool odd; // an odd number of bytes was added
};

// Adds len bytes, any number, at any alignment.
void checksum_add(struct checksum *checksum, const uint8_t *data, size_t len);

// Adds a number as the two bytes in network order that it is on the wire. After
// an even number of bytes.
static inline void checksum_add_16(struct checksum *checksum, uint16_t value)
{
    checksum->sum += htobe16(value);
}

// The sum folded to 16 bits, to be stored as it is (memcpy).
static inline uint16_t checksum_end(const struct checksum *checksum)
{
    uint64_t sum = checksum->sum;

    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)((sum & 0xffff) + (sum >> 16));
}

#endif
