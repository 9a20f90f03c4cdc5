// SPDX-License-Identifier: BSD-3-Clause

// Segmenting TCP (RFC 9293; RFC 3168 for CWR; RFC 8200 for extension headers).
// Hot where a receiver can't take what its sender left undone.

#include "segment.h"
#include "checksum.h"

#include <errno.h>
#include <linux/virtio_net.h>
#include <string.h>

enum {
    ETHER_TYPE_AT = 12,
    TYPE_IPV4 = 0x0800,
    TYPE_IPV6 = 0x86dd,
    TYPE_VLAN = 0x8100,
    TYPE_QINQ = 0x88a8,
    PROTO_TCP = 6,
    // Extension headers of IPv6 that may come before TCP: hop-by-hop, routing,
    // destination. (A fragment has no business here.)
    NEXT_HOP = 0,
    NEXT_ROUTING = 43,
    NEXT_DESTINATION = 60,
    IPV6_LEN = 40,
    TCP_LEN = 20,
    // Offsets in headers.
    IPV4_TOTAL = 2,
    IPV4_ID = 4,
    IPV4_FRAGMENT = 6,
    IPV4_PROTO = 9,
    IPV4_CHECKSUM = 10,
    IPV4_ADDRESSES = 12,
    IPV6_PAYLOAD = 4,
    IPV6_NEXT = 6,
    IPV6_ADDRESSES = 8,
    TCP_SEQUENCE = 4,
    TCP_DATA_OFFSET = 12,
    TCP_FLAGS = 13,
    TCP_CHECKSUM = 16,
    FLAG_FIN = 0x01,
    FLAG_PSH = 0x08,
    FLAG_CWR = 0x80,
};

static inline uint16_t load_16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

static inline void store_16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
}

// Where TCP begins; 0: it isn't TCP over IPv4. have: bytes of header that there are.
static uint32_t find_tcp4(const struct segment_plan *plan, uint32_t have)
{
    const uint8_t *ip = plan->header + plan->l3;
    uint32_t len;

    if (plan->l3 + 20u > have || ip[0] >> 4 != 4 || ip[IPV4_PROTO] != PROTO_TCP)
        return 0;
    len = (ip[0] & 0xf) * 4u;
    if (len < 20 || (load_16(ip + IPV4_FRAGMENT) & 0x3fff) != 0)
        return 0;
    return plan->l3 + len;
}

static uint32_t find_tcp6(const struct segment_plan *plan, uint32_t have)
{
    uint32_t at = plan->l3 + IPV6_LEN;
    uint8_t next;

    if (at > have || plan->header[plan->l3] >> 4 != 6)
        return 0;
    next = plan->header[plan->l3 + IPV6_NEXT];
    // Ends: each header has at least 8 bytes.
    while (next == NEXT_HOP || next == NEXT_ROUTING || next == NEXT_DESTINATION) {
        if (at + 8 > have)
            return 0;
        next = plan->header[at];
        at += 8 + plan->header[at + 1] * 8u;
    }
    return next == PROTO_TCP ? at : 0;
}

static void sum_pseudo(struct segment_plan *plan)
{
    struct checksum sum = {0};
    const uint8_t *ip = plan->header + plan->l3;

    if (plan->ip6)
        checksum_add(&sum, ip + IPV6_ADDRESSES, 32);
    else
        checksum_add(&sum, ip + IPV4_ADDRESSES, 8);
    checksum_add_16(&sum, PROTO_TCP);
    plan->pseudo_sum = sum.sum;
}

int segment_plan(struct segment_plan *plan, const struct frame_offload *offload, uint32_t len)
{
    const uint8_t type = offload->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    const uint32_t have = len < SEGMENT_HEADER_MAX ? len : SEGMENT_HEADER_MAX;
    uint32_t at = ETHER_TYPE_AT, l4, tcp_len;

    while (at + 6 <= have && (load_16(plan->header + at) == TYPE_VLAN || load_16(plan->header + at) == TYPE_QINQ))
        at += 4;
    if (at + 2 > have)
        return -EINVAL;
    plan->l3 = (uint16_t)(at + 2);
    plan->ip6 = type == VIRTIO_NET_HDR_GSO_TCPV6;
    if (load_16(plan->header + at) != (plan->ip6 ? TYPE_IPV6 : TYPE_IPV4))
        return -EINVAL;
    l4 = plan->ip6 ? find_tcp6(plan, have) : find_tcp4(plan, have);
    if (l4 == 0 || l4 + TCP_LEN > have || offload->csum_start != l4 || offload->csum_offset != TCP_CHECKSUM)
        return -EINVAL;
    tcp_len = (plan->header[l4 + TCP_DATA_OFFSET] >> 4) * 4u;
    if (tcp_len < TCP_LEN || l4 + tcp_len > have || offload->gso_size == 0)
        return -EINVAL;
    plan->l4 = (uint16_t)l4;
    plan->header_len = l4 + tcp_len;
    plan->payload_len = len - plan->header_len;
    plan->gso_size = offload->gso_size;
    plan->count = plan->payload_len == 0 ? 1 : (plan->payload_len + plan->gso_size - 1) / plan->gso_size;
    // The length of a segment has 16 bits.
    if (plan->header_len - plan->l3 + segment_payload(plan, 0) > UINT16_MAX)
        return -EINVAL;
    sum_pseudo(plan);
    return 0;
}

static void ip_header(const struct segment_plan *plan, uint32_t index, uint32_t l4_len, uint8_t *ip)
{
    struct checksum sum = {0};
    uint16_t check;

    if (plan->ip6) {
        store_16(ip + IPV6_PAYLOAD, plan->l4 - plan->l3 - IPV6_LEN + l4_len);
        return;
    }
    store_16(ip + IPV4_TOTAL, plan->l4 - plan->l3 + l4_len);
    store_16(ip + IPV4_ID, load_16(ip + IPV4_ID) + index);
    store_16(ip + IPV4_CHECKSUM, 0);
    checksum_add(&sum, ip, plan->l4 - plan->l3);
    check = (uint16_t)~checksum_end(&sum);
    memcpy(ip + IPV4_CHECKSUM, &check, sizeof(check));
}

void segment_header(const struct segment_plan *plan, uint32_t index, uint8_t *to)
{
    const uint32_t payload = segment_payload(plan, index), l4_len = plan->header_len - plan->l4 + payload;
    struct checksum sum = {.sum = plan->pseudo_sum};
    uint8_t *tcp = to + plan->l4;
    uint32_t sequence;
    uint16_t check;

    memcpy(to, plan->header, plan->header_len);
    ip_header(plan, index, l4_len, to + plan->l3);
    sequence = ((uint32_t)load_16(tcp + TCP_SEQUENCE) << 16 | load_16(tcp + TCP_SEQUENCE + 2)) + index * plan->gso_size;
    store_16(tcp + TCP_SEQUENCE, sequence >> 16);
    store_16(tcp + TCP_SEQUENCE + 2, sequence);
    if (index + 1 < plan->count)
        tcp[TCP_FLAGS] &= (uint8_t) ~(FLAG_FIN | FLAG_PSH);
    if (index > 0) // said once: RFC 3168, 6.1.2
        tcp[TCP_FLAGS] &= (uint8_t)~FLAG_CWR;
    checksum_add_16(&sum, (uint16_t)l4_len);
    check = checksum_end(&sum);
    memcpy(tcp + TCP_CHECKSUM, &check, sizeof(check));
}
