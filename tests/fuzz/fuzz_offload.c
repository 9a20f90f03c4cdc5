// SPDX-License-Identifier: BSD-3-Clause

// The virtio header of a frame, as a guest writes it: what is accepted says
// nothing but what receivers may rely on, the header that is built from it says
// the same, and tags that come and go keep its offsets within the frame.
//
// Input: what was agreed, 2 bytes of the frame's length, which tags come
// and go, then the header.

#include "fuzz.h"

enum { OPTIONS = 4, TAG_LEN = 4 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *header, again[OFFLOAD_HEADER_LEN];
    struct frame frame = {0}, other;
    uint8_t agreed;
    int reason;

    if (size < OPTIONS + OFFLOAD_HEADER_LEN)
        return 0;
    agreed = data[0] & OFFLOAD_ALL;
    if (!(agreed & OFFLOAD_CSUM))
        return 0;
    frame.len = LIMIT_FRAME_MIN + (data[1] | data[2] << 8);
    if (frame.len > offload_frame_max(agreed))
        return 0;
    // From malloc, so that a byte beyond it is seen.
    header = malloc(OFFLOAD_HEADER_LEN);
    memcpy(header, data + OPTIONS, OFFLOAD_HEADER_LEN);
    reason = offload_check(&frame, header, agreed);
    free(header);
    if (reason != 0) {
        must(reason == VIF_DISCARD_BAD_HEADER || reason == VIF_DISCARD_GIANT);
        return 0;
    }
    check_offload(&frame.offload, frame.len, agreed);
    // Who takes what this frame wants may be given the header, and believes it.
    offload_header(again, &frame.offload);
    other = frame;
    must(offload_check(&other, again, agreed) == 0);
    must(memcmp(&other.offload, &frame.offload, sizeof(other.offload)) == 0);
    for (uint8_t tags = data[3]; tags != 0; tags /= 2) {
        int by = tags & 1 ? TAG_LEN : -TAG_LEN;

        if (frame.len + (uint32_t)by < LIMIT_FRAME_MIN || !offload_shift(&frame.offload, by))
            return 0;
        frame.len += (uint32_t)by;
        if (frame.offload.wants != 0) {
            must(frame.offload.csum_start >= LIMIT_FRAME_MIN);
            must((uint32_t)frame.offload.csum_start + frame.offload.csum_offset + 2 <= frame.len);
            must(frame.offload.hdr_len <= frame.len);
        }
    }
    return 0;
}
