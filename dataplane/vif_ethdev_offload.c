// SPDX-License-Identifier: BSD-3-Clause

// Offloads that a device does itself: a frame's wants as flags of its mbuf.
// Hot for frames whose sender left something undone.

#include "offload.h"
#include "segment.h"
#include "vif_ethdev.h"

#include <rte_ether.h>
#include <rte_ip.h>
#include <rte_tcp.h>
#include <rte_udp.h>

enum { L2_MAX = 18 }; // with one tag: what is in all devices' descriptors

uint8_t vif_ethdev_takes(struct vif *vif, uint16_t queue)
{
    (void)queue;
    return vif_ethdev(vif)->offloads;
}

// Where the frame's layers begin, if its headers are of the kind that drivers reckon
// with: they make the pseudo header anew, and know neither IPv4's options nor
// IPv6's extension headers. Returns the protocol above IP, or 0.
static uint8_t layers(struct rte_mbuf *mbuf)
{
    const uint8_t *data = rte_pktmbuf_mtod(mbuf, const uint8_t *), *ip;
    uint16_t at = offsetof(struct rte_ether_hdr, ether_type);
    uint16_t type = (uint16_t)(data[at] << 8 | data[at + 1]);

    if (type == RTE_ETHER_TYPE_VLAN || type == RTE_ETHER_TYPE_QINQ) {
        at += sizeof(struct rte_vlan_hdr);
        type = (uint16_t)(data[at] << 8 | data[at + 1]);
    }
    ip = data + at + sizeof(type);
    mbuf->l2_len = at + sizeof(type);
    if (type == RTE_ETHER_TYPE_IPV4 && ip[0] == 0x45) {
        const struct rte_ipv4_hdr *ip4 = (const void *)ip;

        mbuf->l3_len = sizeof(*ip4);
        mbuf->ol_flags |= RTE_MBUF_F_TX_IPV4;
        if ((ip4->fragment_offset & RTE_BE16(RTE_IPV4_HDR_MF_FLAG | RTE_IPV4_HDR_OFFSET_MASK)) != 0)
            return 0;
        return ip4->next_proto_id;
    }
    if (type == RTE_ETHER_TYPE_IPV6 && ip[0] >> 4 == 6) {
        const struct rte_ipv6_hdr *ip6 = (const void *)ip;

        mbuf->l3_len = sizeof(*ip6);
        mbuf->ol_flags |= RTE_MBUF_F_TX_IPV6;
        return ip6->proto;
    }
    return 0;
}

// A frame to be segmented, of TCP.
static bool set_segmentation(const struct ethdev *dev, const struct frame_offload *offload, struct rte_mbuf *mbuf)
{
    const uint8_t type = offload->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;
    const bool ip4 = mbuf->ol_flags & RTE_MBUF_F_TX_IPV4;
    const uint8_t *tcp = rte_pktmbuf_mtod(mbuf, const uint8_t *) + offload->csum_start;
    const uint8_t words = tcp[offsetof(struct rte_tcp_hdr, data_off)] >> 4;
    const uint32_t header_len = offload->csum_start + words * 4u;

    if ((type == VIRTIO_NET_HDR_GSO_TCPV4) != ip4 || words * 4u < sizeof(struct rte_tcp_hdr))
        return false;
    mbuf->l4_len = words * 4u;
    // A segment that is too long for the device is so for it in software, too:
    // there it is found and counted.
    if (header_len + offload->gso_size > vif_ethdev_frame_max(dev) || header_len >= mbuf->pkt_len)
        return false;
    mbuf->tso_segsz = offload->gso_size;
    mbuf->ol_flags |= RTE_MBUF_F_TX_TCP_SEG | RTE_MBUF_F_TX_TCP_CKSUM;
    // A device that doesn't sum IPv4's header either (virtio) takes the one that
    // the sender summed, and makes each segment's from it.
    if (ip4 && dev->sums_ip)
        mbuf->ol_flags |= RTE_MBUF_F_TX_IP_CKSUM;
    return true;
}

bool vif_ethdev_offload(const struct ethdev *dev, const struct frame_offload *offload, struct rte_mbuf *mbuf)
{
    uint8_t protocol;

    // The longest headers that are looked at, in the copy's first piece.
    if (unlikely(mbuf->data_len < L2_MAX + sizeof(struct rte_ipv6_hdr) + sizeof(struct rte_tcp_hdr)))
        return false;
    protocol = layers(mbuf);
    if (protocol == 0 || offload->csum_start != mbuf->l2_len + mbuf->l3_len)
        return false;
    if (protocol == IPPROTO_TCP && offload->csum_offset == offsetof(struct rte_tcp_hdr, cksum)) {
        if (offload->gso_type != VIRTIO_NET_HDR_GSO_NONE)
            return set_segmentation(dev, offload, mbuf);
        mbuf->l4_len = sizeof(struct rte_tcp_hdr);
        mbuf->ol_flags |= RTE_MBUF_F_TX_TCP_CKSUM;
        return true;
    }
    if (protocol == IPPROTO_UDP && offload->csum_offset == offsetof(struct rte_udp_hdr, dgram_cksum) &&
        offload->gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        mbuf->l4_len = sizeof(struct rte_udp_hdr);
        mbuf->ol_flags |= RTE_MBUF_F_TX_UDP_CKSUM;
        return true;
    }
    return false;
}
