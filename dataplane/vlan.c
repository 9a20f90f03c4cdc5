// SPDX-License-Identifier: BSD-3-Clause

// 802.1Q tags. Hot for shared vifs only.

#include "vlan.h"
#include "copy.h"
#include "offload.h"

#include <rte_byteorder.h>
#include <rte_ether.h>

enum { MACS_LEN = 2 * RTE_ETHER_ADDR_LEN, HEADER_LEN = MACS_LEN + VLAN_TAG_LEN + 2 };

// Copies the frame's first len bytes to `to`.
static void gather(const struct burst *burst, const struct frame *frame, uint8_t *to, uint32_t len)
{
    const uint8_t *data = frame->data;
    uint32_t left = frame->data_len;

    for (uint16_t next = frame->segment_first;; next++) {
        uint32_t part = left < len ? left : len;

        copy_bytes(to, data, part);
        to += part;
        len -= part;
        if (len == 0)
            return;
        data = burst->segments[next].data;
        left = burst->segments[next].len;
    }
}

// Appends what follows the frame's first `skip` bytes to `out`'s segments.
// Returns how many segments that is.
static uint16_t append_rest(const struct burst *burst, const struct frame *frame, uint32_t skip, struct burst *out)
{
    const uint8_t *data = frame->data;
    uint32_t left = frame->data_len;
    uint16_t count = 0;

    for (uint16_t i = 0;; i++) {
        uint32_t part = left < skip ? left : skip;

        skip -= part;
        if (left > part) {
            out->segments[out->segment_count++] = (struct frame_segment){data + part, left - part};
            count++;
        }
        if (i + 1 >= frame->segment_count)
            return count;
        data = burst->segments[frame->segment_first + i].data;
        left = burst->segments[frame->segment_first + i].len;
    }
}

struct burst *vlan_push(const struct burst *burst, uint16_t first, uint16_t count, uint16_t vlan,
                        struct hop_scratch *scratch)
{
    struct burst *out = &scratch->tagged;
    const uint8_t tag[VLAN_TAG_LEN] = {RTE_ETHER_TYPE_VLAN >> 8, RTE_ETHER_TYPE_VLAN & 0xff, (uint8_t)(vlan >> 8),
                                       (uint8_t)vlan};

    out->count = count;
    out->segment_count = 0;
    out->owned = burst->owned;
    out->offloads = burst->offloads;
    out->keep = false;
    for (uint16_t i = 0; i < count; i++) {
        const struct frame *from = &burst->frames[first + i];
        struct frame *to = &out->frames[i];
        uint8_t *header = scratch->tags[i];

        *to = *from;
        to->mbuf = NULL;
        gather(burst, from, header, MACS_LEN);
        memcpy(header + MACS_LEN, tag, sizeof(tag));
        to->data = header;
        to->data_len = MACS_LEN + VLAN_TAG_LEN;
        to->len = from->len + VLAN_TAG_LEN;
        to->segment_first = out->segment_count;
        to->segment_count = 1 + append_rest(burst, from, MACS_LEN, out);
        if (unlikely(burst->offloads != 0))
            (void)offload_shift(&to->offload, VLAN_TAG_LEN); // can't fail: frames are shorter by far than its limit
    }
    return out;
}

int vlan_pop(struct burst *burst, uint16_t at, uint8_t *headers)
{
    struct frame *frame = &burst->frames[at];
    struct burst *out = burst;
    uint32_t judged = frame->len < HEADER_LEN ? frame->len : HEADER_LEN;
    uint16_t tci, first = burst->segment_count, count;
    bool tagged;

    gather(burst, frame, headers, judged);
    tagged = judged == HEADER_LEN && headers[MACS_LEN] == RTE_ETHER_TYPE_VLAN >> 8 &&
             headers[MACS_LEN + 1] == (RTE_ETHER_TYPE_VLAN & 0xff);
    tci = tagged ? (uint16_t)((headers[MACS_LEN + 2] << 8 | headers[MACS_LEN + 3]) & 0xfff) : 0;
    if (tci == 0 && burst->owned)
        return 0; // nobody can change it: the view stays as it is
    count = append_rest(burst, frame, judged, out);
    if (tci != 0) {
        if (frame->len - VLAN_TAG_LEN < LIMIT_FRAME_MIN)
            return -1;
        // A checksum of the tag itself: no frame is left without it.
        if (burst->offloads != 0 && !offload_shift(&frame->offload, -VLAN_TAG_LEN))
            return -1;
        // The type behind the tag moves up to the addresses.
        headers[MACS_LEN] = headers[MACS_LEN + VLAN_TAG_LEN];
        headers[MACS_LEN + 1] = headers[MACS_LEN + VLAN_TAG_LEN + 1];
        judged -= VLAN_TAG_LEN;
        frame->len -= VLAN_TAG_LEN;
    }
    frame->data = headers;
    frame->data_len = judged;
    frame->segment_first = first;
    frame->segment_count = 1 + count;
    return tci;
}
