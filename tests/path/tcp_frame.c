// SPDX-License-Identifier: BSD-3-Clause
#include "tcp_frame.h"

#include <string.h>

static void put_16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

static uint32_t get_16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t get_32(const uint8_t *at)
{
    return get_16(at) << 16 | get_16(at + 2);
}

// RFC 1071, the slow way.
static uint32_t sum_of(const uint8_t *bytes, uint32_t len, uint32_t sum)
{
    for (uint32_t i = 0; i < len; i++) {
        sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

void checksum_complete(uint8_t *bytes, uint32_t len, uint32_t start, uint32_t field)
{
    uint32_t sum = ~sum_of(bytes + start, len - start, 0) & 0xffff;

    put_16(bytes + field, sum == 0 ? 0xffff : sum);
}

static uint32_t pseudo(const uint8_t *bytes, bool ip6, uint32_t l3, uint32_t l4_len)
{
    return sum_of(bytes + l3 + (ip6 ? 8 : 12), ip6 ? 32 : 8, 6) + l4_len;
}

void tcp_frame_random(struct tcp_frame *frame, struct dice *dice, uint32_t payload_len, uint32_t gso_size)
{
    uint8_t *p = frame->bytes;
    uint32_t at = 12, tags = dice_below(dice, 3), tcp_len, l4_len, sum;
    uint32_t words = dice_below(dice, 11);

    memset(frame->header, 0, sizeof(frame->header));
    dice_fill(dice, p, sizeof(frame->bytes));
    for (uint32_t i = 0; i < tags; i++, at += 4)
        put_16(p + at, i + 1 < tags ? 0x88a8 : 0x8100);
    frame->ip6 = dice_below(dice, 2) != 0;
    put_16(p + at, frame->ip6 ? 0x86dd : 0x0800);
    frame->l3 = at + 2;
    frame->gso_size = gso_size;
    if (frame->ip6) {
        static const uint8_t kinds[] = {0, 60, 43};
        uint32_t extensions = dice_below(dice, 4), next_at = frame->l3 + 6;

        p[frame->l3] = 0x60;
        at = frame->l3 + 40;
        for (uint32_t i = 0; i < extensions; i++) {
            uint32_t more = dice_below(dice, 3);

            p[next_at] = kinds[i];
            next_at = at;
            p[at + 1] = (uint8_t)more;
            at += 8 + 8 * more;
        }
        p[next_at] = 6;
    } else {
        uint32_t options = dice_below(dice, 11);

        p[frame->l3] = (uint8_t)(0x45 + options);
        put_16(p + frame->l3 + 6, dice_below(dice, 2) ? 0x4000 : 0);
        p[frame->l3 + 9] = 6;
        at = frame->l3 + 20 + 4 * options;
    }
    frame->l4 = at;
    tcp_len = 20 + 4 * words;
    p[at + 12] = (uint8_t)((5 + words) << 4);
    frame->payload_at = at + tcp_len;
    frame->len = frame->payload_at + payload_len;
    l4_len = tcp_len + payload_len;
    if (frame->ip6)
        put_16(p + frame->l3 + 4, frame->l4 - frame->l3 - 40 + l4_len);
    else
        put_16(p + frame->l3 + 2, frame->l4 - frame->l3 + l4_len);
    // As Linux leaves it: the sum of the pseudo header.
    sum = pseudo(p, frame->ip6, frame->l3, l4_len);
    put_16(p + frame->l4 + 16, (sum & 0xffff) + (sum >> 16));
    frame->header[0] = 1;
    frame->header[1] = (frame->ip6 ? 4 : 1) | (p[frame->l4 + 13] & 0x80);
    frame->header[2] = (uint8_t)frame->payload_at;
    frame->header[3] = (uint8_t)(frame->payload_at >> 8);
    frame->header[4] = (uint8_t)gso_size;
    frame->header[5] = (uint8_t)(gso_size >> 8);
    frame->header[6] = (uint8_t)frame->l4;
    frame->header[7] = (uint8_t)(frame->l4 >> 8);
    frame->header[8] = 16;
}

uint32_t tcp_frame_count(const struct tcp_frame *frame)
{
    uint32_t payload = frame->len - frame->payload_at, count = 1;

    while (payload > frame->gso_size) {
        payload -= frame->gso_size;
        count++;
    }
    return count;
}

uint32_t tcp_frame_segment(const struct tcp_frame *frame, uint32_t index, uint8_t *to)
{
    uint32_t from = frame->payload_at + index * frame->gso_size;
    uint32_t payload = frame->len - from > frame->gso_size ? frame->gso_size : frame->len - from;
    uint32_t len = frame->payload_at + payload, l4_len = len - frame->l4, sequence, sum;
    uint8_t *ip = to + frame->l3, *tcp = to + frame->l4;

    memcpy(to, frame->bytes, frame->payload_at);
    memcpy(to + frame->payload_at, frame->bytes + from, payload);
    if (frame->ip6) {
        put_16(ip + 4, len - frame->l3 - 40);
    } else {
        put_16(ip + 2, len - frame->l3);
        put_16(ip + 4, get_16(ip + 4) + index);
        put_16(ip + 10, 0);
        put_16(ip + 10, ~sum_of(ip, frame->l4 - frame->l3, 0));
    }
    sequence = get_32(tcp + 4) + index * frame->gso_size;
    put_16(tcp + 4, sequence >> 16);
    put_16(tcp + 6, sequence);
    if (index > 0)
        tcp[13] &= 0x7f; // CWR
    if (index + 1 < tcp_frame_count(frame))
        tcp[13] &= 0xf6; // PSH, FIN
    sum = pseudo(to, frame->ip6, frame->l3, l4_len);
    put_16(tcp + 16, (sum & 0xffff) + (sum >> 16));
    checksum_complete(to, len, frame->l4, frame->l4 + 16);
    return len;
}
