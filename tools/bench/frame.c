// SPDX-License-Identifier: BSD-3-Clause
#include "frame.h"

#include <endian.h>
#include <string.h>

enum {
    ETH_LEN = 14,
    IP_LEN = 20,
    UDP_LEN = 8,
    UDP_PORT_TO = 50042,
    UDP_PORT_FROM = 49152, // plus the stream
    TAG_MAGIC = 0x5042,
};

// Locally administered addresses in a block of our own: it tells our frames from those of kernel stacks.
static const uint8_t mac_prefix[4] = {0x02, 0x50, 0x42, 0x00};

struct headers {
    uint8_t eth_to[6];
    uint8_t eth_from[6];
    uint16_t eth_type;
    uint8_t ip_version;
    uint8_t ip_tos;
    uint16_t ip_len;
    uint16_t ip_id;
    uint16_t ip_fragment;
    uint8_t ip_ttl;
    uint8_t ip_protocol;
    uint16_t ip_checksum;
    uint8_t ip_from[4];
    uint8_t ip_to[4];
    uint16_t udp_from;
    uint16_t udp_to;
    uint16_t udp_len;
    uint16_t udp_checksum;
    uint16_t tag_magic;
    uint16_t tag_stream;
    uint64_t tag_seq;
    uint32_t tag_check;
    uint16_t tag_zero;
} __attribute__((packed));

_Static_assert(sizeof(struct headers) == FRAME_MIN, "headers and tag fill the smallest frame exactly");

const uint16_t frame_imix_len[FRAME_SIZES_MAX] = {64 - FRAME_FCS, 594 - FRAME_FCS, 1518 - FRAME_FCS};
const uint8_t frame_imix_weight[FRAME_SIZES_MAX] = {7, 4, 1};
const uint8_t frame_imix_order[FRAME_IMIX_PERIOD] = {0, 1, 0, 0, 1, 0, 2, 0, 1, 0, 1, 0};

// The finalizer of splitmix64: every bit of the argument moves about half of the result's.
static inline uint64_t mix(uint64_t x)
{
    x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
    return x ^ (x >> 31);
}

static inline uint64_t key_of(uint16_t stream, uint64_t seq)
{
    return mix(seq + ((uint64_t)stream << 48) + UINT64_C(0x9e3779b97f4a7c15));
}

uint16_t frame_len(const struct frame_sizes *sizes, uint16_t stream, uint64_t seq)
{
    switch (sizes->mode) {
    case FRAME_IMIX:
        return frame_imix_len[frame_imix_order[seq % FRAME_IMIX_PERIOD]];
    case FRAME_RANDOM:
        return sizes->min + (uint16_t)(mix(key_of(stream, seq)) % (uint64_t)(sizes->max - sizes->min + 1));
    default:
        return sizes->min;
    }
}

static void headers_fill(struct headers *h, uint16_t len, uint16_t stream, uint64_t seq, uint64_t key)
{
    uint8_t stream_high = (uint8_t)(stream >> 8), stream_low = (uint8_t)stream;

    *h = (struct headers){
        .eth_to = {mac_prefix[0], mac_prefix[1], mac_prefix[2], 2, stream_high, stream_low},
        .eth_from = {mac_prefix[0], mac_prefix[1], mac_prefix[2], 1, stream_high, stream_low},
        .eth_type = htobe16(0x0800),
        .ip_version = 0x45,
        .ip_len = htobe16((uint16_t)(len - ETH_LEN)),
        .ip_id = htobe16((uint16_t)seq),
        .ip_fragment = htobe16(0x4000),
        .ip_ttl = 64,
        .ip_protocol = 17,
        .ip_from = {198, 18, stream_low, 1},
        .ip_to = {198, 19, stream_low, 2},
        .udp_from = htobe16((uint16_t)(UDP_PORT_FROM + stream)),
        .udp_to = htobe16(UDP_PORT_TO),
        .udp_len = htobe16((uint16_t)(len - ETH_LEN - IP_LEN)),
        .tag_magic = htobe16(TAG_MAGIC),
        .tag_stream = htobe16(stream),
        .tag_seq = htobe64(seq),
        .tag_check = htobe32((uint32_t)(mix(key ^ len) >> 32)),
    };
    // RFC 1071 over the ten words, of which only those differ that depend on length, number and stream.
    uint32_t sum = 0x4500u + (uint16_t)(len - ETH_LEN) + (uint16_t)seq + 0x4000u + ((64u << 8) | 17u);
    sum += ((198u << 8) | 18u) + (((uint32_t)stream_low << 8) | 1u);
    sum += ((198u << 8) | 19u) + (((uint32_t)stream_low << 8) | 2u);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    h->ip_checksum = htobe16((uint16_t)~sum);
}

// One step of the payload's pattern; an odd constant, so no word of a frame comes twice.
#define PATTERN_STEP UINT64_C(0x9e3779b97f4a7c15)

void frame_write(uint8_t *to, uint16_t len, uint16_t stream, uint64_t seq)
{
    uint64_t key = key_of(stream, seq), word = key;
    struct headers headers;
    uint8_t *at = to + FRAME_MIN;
    uint8_t *end = to + len;

    headers_fill(&headers, len, stream, seq, key);
    memcpy(to, &headers, sizeof(headers));
    for (; end - at >= 8; at += 8) {
        word += PATTERN_STEP;
        memcpy(at, &word, 8);
    }
    word += PATTERN_STEP;
    memcpy(at, &word, (size_t)(end - at));
}

enum frame_verdict frame_check(const uint8_t *from, uint32_t len, uint16_t *stream, uint64_t *seq)
{
    struct headers got, want;
    const uint8_t *at = from + FRAME_MIN;
    const uint8_t *end = from + len;
    uint64_t key, word, wrong = 0, have;

    if (len < FRAME_MIN)
        return len >= ETH_LEN && memcmp(from + 6, mac_prefix, 3) == 0 ? FRAME_CORRUPT : FRAME_FOREIGN;
    memcpy(&got, from, sizeof(got));
    if (got.tag_magic != htobe16(TAG_MAGIC) || got.udp_to != htobe16(UDP_PORT_TO)) {
        // A frame of ours that was damaged in these very words still carries our addresses.
        return memcmp(got.eth_from, mac_prefix, 3) == 0 ? FRAME_CORRUPT : FRAME_FOREIGN;
    }
    if (len > FRAME_MAX)
        return FRAME_CORRUPT;
    *stream = be16toh(got.tag_stream);
    *seq = be64toh(got.tag_seq);
    key = key_of(*stream, *seq);
    headers_fill(&want, (uint16_t)len, *stream, *seq, key);
    if (memcmp(&got, &want, sizeof(got)) != 0)
        return FRAME_CORRUPT;
    for (word = key; end - at >= 8; at += 8) {
        word += PATTERN_STEP;
        memcpy(&have, at, 8);
        wrong |= have ^ word;
    }
    word += PATTERN_STEP;
    if (wrong != 0 || memcmp(at, &word, (size_t)(end - at)) != 0)
        return FRAME_CORRUPT;
    return FRAME_GOOD;
}
