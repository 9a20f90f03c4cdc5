// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_OFFLOAD_H
#define PATCHBAY_OFFLOAD_H

// The virtio header of a frame with offloads (virtio 1.2, 5.1.6), both ways,
// for every ring format: what the sender wrote is copied once into a local,
// checked there and kept in frame.offload; the receiver's header is built anew
// from that. What a receiver doesn't take is completed by complete.h.

#include "frame.h"
#include "patchbay/counters.h"

#include <endian.h>
#include <linux/virtio_net.h>
#include <rte_branch_prediction.h>
#include <stdatomic.h>
#include <string.h>

// What a frame may want of its receiver, what a sender may leave undone and
// what a receiver takes: masks of these. (The wants of frame_offload.)
enum offload {
    OFFLOAD_CSUM = 1 << 0, // a checksum to complete
    OFFLOAD_TSO4 = 1 << 1, // TCP over IPv4 to segment
    OFFLOAD_TSO6 = 1 << 2, // TCP over IPv6
    OFFLOAD_ECN = 1 << 3,  // to segment although CWR is set
    OFFLOAD_TSO = OFFLOAD_TSO4 | OFFLOAD_TSO6,
    OFFLOAD_ALL = OFFLOAD_CSUM | OFFLOAD_TSO | OFFLOAD_ECN,
};

// Bytes of a virtio header but for num_buffers.
enum { OFFLOAD_HEADER_LEN = 10 };

// The offloads that a guest's driver negotiated: what its frames may leave
// undone (virtqueue.offloads of a ring from the guest), what it takes (of one to it).
static inline uint8_t offload_from_guest(uint64_t features)
{
    uint8_t mask = 0;

    if (features & 1ULL << VIRTIO_NET_F_CSUM)
        mask |= OFFLOAD_CSUM;
    if (features & 1ULL << VIRTIO_NET_F_HOST_TSO4)
        mask |= OFFLOAD_TSO4;
    if (features & 1ULL << VIRTIO_NET_F_HOST_TSO6)
        mask |= OFFLOAD_TSO6;
    if (features & 1ULL << VIRTIO_NET_F_HOST_ECN)
        mask |= OFFLOAD_ECN;
    // Segmenting and ECN stand on the others (virtio 1.2, 5.1.3.1).
    if (!(mask & OFFLOAD_CSUM))
        return 0;
    return mask & OFFLOAD_TSO ? mask : mask & OFFLOAD_CSUM;
}

static inline uint8_t offload_to_guest(uint64_t features)
{
    uint64_t as_sender = 0;

    if (features & 1ULL << VIRTIO_NET_F_GUEST_CSUM)
        as_sender |= 1ULL << VIRTIO_NET_F_CSUM;
    if (features & 1ULL << VIRTIO_NET_F_GUEST_TSO4)
        as_sender |= 1ULL << VIRTIO_NET_F_HOST_TSO4;
    if (features & 1ULL << VIRTIO_NET_F_GUEST_TSO6)
        as_sender |= 1ULL << VIRTIO_NET_F_HOST_TSO6;
    if (features & 1ULL << VIRTIO_NET_F_GUEST_ECN)
        as_sender |= 1ULL << VIRTIO_NET_F_HOST_ECN;
    return offload_from_guest(as_sender);
}

// The longest frame that a sender may give us, in bytes; until its header says
// that it is one to be segmented, that is.
static inline uint32_t offload_frame_max(uint8_t agreed)
{
    return unlikely(agreed & OFFLOAD_TSO) ? LIMIT_FRAME_GSO_MAX : LIMIT_FRAME_MAX;
}

// Checks the virtio header that came with a frame (frame->len is known), of
// which `header` is the caller's own copy: only the local is used. agreed: what
// the sender negotiated; not 0. Fills frame->offload. Returns 0, or why the
// frame is none: VIF_DISCARD_BAD_HEADER or VIF_DISCARD_GIANT.
static inline int offload_check(struct frame *frame, const uint8_t header[OFFLOAD_HEADER_LEN], uint8_t agreed)
{
    struct virtio_net_hdr from;
    struct frame_offload *to = &frame->offload;
    uint8_t wants = OFFLOAD_CSUM;

    memcpy(&from, header, OFFLOAD_HEADER_LEN);
    memset(to, 0, sizeof(*to));
    // DATA_VALID and RSC_INFO say nothing that a receiver could rely on.
    if (!(from.flags & VIRTIO_NET_HDR_F_NEEDS_CSUM)) {
        // A frame to be segmented has a checksum to be completed (virtio 1.2, 5.1.6.2.1).
        if (unlikely(from.gso_type != VIRTIO_NET_HDR_GSO_NONE))
            return VIF_DISCARD_BAD_HEADER;
        return unlikely(frame->len > LIMIT_FRAME_MAX) ? VIF_DISCARD_GIANT : 0;
    }
    to->csum_start = le16toh(from.csum_start);
    to->csum_offset = le16toh(from.csum_offset);
    // No checksum of ours covers an Ethernet header.
    if (unlikely(to->csum_start < LIMIT_FRAME_MIN ||
                 (uint32_t)to->csum_start + to->csum_offset + sizeof(uint16_t) > frame->len))
        return VIF_DISCARD_BAD_HEADER;
    to->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    if (from.gso_type != VIRTIO_NET_HDR_GSO_NONE) {
        uint8_t type = from.gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;

        if (unlikely(type != VIRTIO_NET_HDR_GSO_TCPV4 && type != VIRTIO_NET_HDR_GSO_TCPV6))
            return VIF_DISCARD_BAD_HEADER;
        wants |= type == VIRTIO_NET_HDR_GSO_TCPV4 ? OFFLOAD_TSO4 : OFFLOAD_TSO6;
        if (from.gso_type & VIRTIO_NET_HDR_GSO_ECN)
            wants |= OFFLOAD_ECN;
        to->gso_type = from.gso_type;
        to->gso_size = le16toh(from.gso_size);
        to->hdr_len = le16toh(from.hdr_len);
        if (unlikely(to->gso_size == 0 || to->hdr_len > frame->len))
            return VIF_DISCARD_BAD_HEADER;
    } else if (unlikely(frame->len > LIMIT_FRAME_MAX)) {
        return VIF_DISCARD_GIANT;
    }
    if (unlikely(wants & ~agreed))
        return VIF_DISCARD_BAD_HEADER;
    to->wants = wants;
    return 0;
}

// Builds the first OFFLOAD_HEADER_LEN bytes of a receiver's virtio header.
static inline void offload_header(uint8_t header[OFFLOAD_HEADER_LEN], const struct frame_offload *offload)
{
    struct virtio_net_hdr to = {
        .flags = offload->flags,
        .gso_type = offload->gso_type,
        .hdr_len = htole16(offload->hdr_len),
        .gso_size = htole16(offload->gso_size),
        .csum_start = htole16(offload->csum_start),
        .csum_offset = htole16(offload->csum_offset),
    };

    memcpy(header, &to, OFFLOAD_HEADER_LEN);
}

// The offsets of a frame whose bytes behind its addresses move by `by` (a tag
// pushed or popped). False: they don't lie behind the Ethernet header any more.
static inline bool offload_shift(struct frame_offload *offload, int by)
{
    int start = offload->csum_start + by, len = offload->hdr_len + by;

    if (offload->wants == 0)
        return true;
    if (start < LIMIT_FRAME_MIN || start > UINT16_MAX)
        return false;
    offload->csum_start = (uint16_t)start;
    if (offload->hdr_len != 0)
        offload->hdr_len = len < 0 || len > UINT16_MAX ? 0 : (uint16_t)len;
    return true;
}

// The union of what the burst's frames want.
static inline uint8_t offload_wants(const struct burst *burst)
{
    uint8_t wants = 0;

    for (uint16_t i = 0; i < burst->count; i++)
        wants |= burst->frames[i].offload.wants;
    return wants;
}

// A ring's receive, at its end, where the sender negotiated offloads: headers[i] points to the
// virtio header of frame i in guest memory if it is in one piece there, and is read
// now, when it is in the cache; NULL: the frame was checked already. Frames that
// are none leave the burst: those at its front for good, counted in discarded
// (the caller gives their chains back; *ids are their frames' ids); it
// ends before any other, which is then met again at the front. Returns how many
// were at the front.
static inline uint16_t offload_receive(struct burst *burst, const uint8_t *const *headers, uint8_t agreed,
                                       _Atomic uint64_t *discarded, uint16_t *ids)
{
    uint16_t bad = 0;

    for (uint16_t i = 0; i < burst->count; i++) {
        uint8_t header[OFFLOAD_HEADER_LEN];
        int reason;

        if (headers[i] == NULL)
            continue;
        memcpy(header, headers[i], sizeof(header));
        __asm__("" : : "r"(header) : "memory"); // the copy is what is looked at
        reason = offload_check(&burst->frames[i], header, agreed);
        if (likely(reason == 0))
            continue;
        if (i > bad) {
            burst->count = i;
            break;
        }
        atomic_store_explicit(&discarded[reason], atomic_load_explicit(&discarded[reason], memory_order_relaxed) + 1,
                              memory_order_relaxed);
        ids[bad++] = burst->frames[i].id;
    }
    if (unlikely(bad > 0)) {
        burst->count -= bad;
        memmove(&burst->frames[0], &burst->frames[bad], burst->count * sizeof(burst->frames[0]));
    }
    burst->offloads = offload_wants(burst);
    return bad;
}

#endif
