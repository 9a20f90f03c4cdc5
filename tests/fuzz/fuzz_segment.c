// SPDX-License-Identifier: BSD-3-Clause

// Frames whose receiver doesn't take what their sender left undone, through
// complete_transmit: whatever a guest writes, no byte outside of the frame is
// read (each piece is an allocation of its own), and what comes out is what a
// receiver may believe: each frame's checksums are right, its lengths are its own, the
// payload is the sender's, whole and once, however few find room at a time.
//
// Input: what is agreed and what the receiver takes, how the frame lies in memory and
// how much room there is, 2 bytes of further length, the virtio header, the frame.

#include "fuzz.h"

#include "dataplane/complete.h"

enum {
    OPTIONS = 6,
    GIVEN_MAX = 1 << 20, // bytes that a frame may come to: a run is to be short
    GIVEN_FRAMES = 4096,
    TCP_CHECKSUM_AT = 16,
    TCP_FLAGS_AT = 13,
    TCP_SEQUENCE_AT = 4,
};

// The receiver: keeps what it gets, and has room as the input says.
static struct {
    uint8_t takes;
    uint8_t rooms[4];
    unsigned turn;
    uint32_t count;
    uint32_t bytes;
    uint32_t at[GIVEN_FRAMES + 1];
    struct frame_offload offload[GIVEN_FRAMES];
    uint8_t data[GIVEN_MAX];
} given;

static uint8_t takes(struct vif *vif, uint16_t queue)
{
    (void)vif;
    (void)queue;
    return given.takes;
}

static uint16_t transmit(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t first, uint16_t count,
                         enum transmit_stop *stop)
{
    uint16_t room = 1 + given.rooms[given.turn++ % 4] % COMPLETE_VIEWS, done;

    (void)vif;
    (void)queue;
    must(burst->segment_count <= sizeof(burst->segments) / sizeof(burst->segments[0]));
    must(first + count <= burst->count);
    for (done = 0; done < count && done < room; done++) {
        const struct frame *frame = &burst->frames[first + done];
        const uint32_t begin = given.bytes;

        must(given.count < GIVEN_FRAMES && given.bytes + frame->len <= GIVEN_MAX);
        memcpy(given.data + given.bytes, frame->data, frame->data_len);
        given.bytes += frame->data_len;
        for (uint16_t i = 0; i + 1 < frame->segment_count; i++) {
            const struct frame_segment *segment = &burst->segments[frame->segment_first + i];

            must(segment->len > 0);
            memcpy(given.data + given.bytes, segment->data, segment->len);
            given.bytes += segment->len;
        }
        must(given.bytes - begin == frame->len);
        given.offload[given.count] = (struct frame_offload){0};
        if (burst->offloads != 0)
            given.offload[given.count] = frame->offload;
        must((given.offload[given.count].wants & ~given.takes) == 0);
        given.at[++given.count] = given.bytes;
    }
    *stop = done < count ? TRANSMIT_FULL : TRANSMIT_ALL;
    return done;
}

static const struct vif_ops receiver_ops = {.transmit = transmit, .takes = takes};

// RFC 1071, a byte at a time.
static uint32_t sum_of(const uint8_t *bytes, uint32_t len, uint32_t sum)
{
    for (uint32_t i = 0; i < len; i++) {
        sum += i % 2 == 0 ? (uint32_t)bytes[i] << 8 : bytes[i];
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return sum;
}

static uint32_t load_16(const uint8_t *at)
{
    return (uint32_t)at[0] << 8 | at[1];
}

static uint32_t load_32(const uint8_t *at)
{
    return load_16(at) << 16 | load_16(at + 2);
}

// A checksum alone: the other bytes are the sender's, and the sum is right.
static void check_checksum(const struct frame_offload *offload, const uint8_t *whole, uint32_t len)
{
    const uint32_t start = offload->csum_start, field = start + offload->csum_offset;
    uint32_t value = ~sum_of(whole + start, len - start, 0) & 0xffff;

    must(given.count == 1 && given.bytes == len);
    must(memcmp(given.data, whole, field) == 0);
    must(memcmp(given.data + field + 2, whole + field + 2, len - field - 2) == 0);
    must(load_16(given.data + field) == (value == 0 ? 0xffff : value));
    must(given.offload[0].wants == 0);
}

static void check_segment(uint32_t index, const struct frame_offload *offload, const uint8_t *whole, uint32_t l3,
                          uint32_t header_len)
{
    const uint8_t *segment = given.data + given.at[index], *ip = segment + l3, *tcp = segment + offload->csum_start;
    const uint32_t len = given.at[index + 1] - given.at[index], l4_len = len - offload->csum_start;
    const bool ip6 = ip[0] >> 4 == 6, last = index + 1 == given.count;
    const uint8_t flags = whole[offload->csum_start + TCP_FLAGS_AT];
    uint32_t sum;

    must(len >= header_len && (len == header_len + offload->gso_size || last));
    must(memcmp(segment, whole, l3) == 0);
    if (ip6) {
        must(load_16(ip + 4) == len - l3 - 40);
        must(memcmp(ip + 6, whole + l3 + 6, offload->csum_start - l3 - 6) == 0);
    } else {
        must(load_16(ip + 2) == len - l3);
        must(sum_of(ip, offload->csum_start - l3, 0) == 0xffff);
        must(((load_16(whole + l3 + 4) + index) & 0xffff) == load_16(ip + 4));
        must(memcmp(ip + 12, whole + l3 + 12, offload->csum_start - l3 - 12) == 0);
    }
    must(load_32(tcp + TCP_SEQUENCE_AT) ==
         load_32(whole + offload->csum_start + TCP_SEQUENCE_AT) + index * offload->gso_size);
    must((tcp[TCP_FLAGS_AT] & 0x76) == (flags & 0x76));
    must((tcp[TCP_FLAGS_AT] & 0x09) == (last ? flags & 0x09 : 0));
    must((tcp[TCP_FLAGS_AT] & 0x80) == (index == 0 ? flags & 0x80 : 0));
    // The pseudo header; then either the receiver completes it or it is right.
    sum = sum_of(ip + (ip6 ? 8 : 12), ip6 ? 32 : 8, 6) + l4_len;
    sum = (sum & 0xffff) + (sum >> 16);
    if (given.takes & OFFLOAD_CSUM) {
        must(given.offload[index].wants == OFFLOAD_CSUM);
        must(given.offload[index].csum_start == offload->csum_start);
        must(given.offload[index].csum_offset == TCP_CHECKSUM_AT);
        must(load_16(tcp + TCP_CHECKSUM_AT) == sum);
    } else {
        must(given.offload[index].wants == 0);
        must(sum_of(tcp, l4_len, sum) == 0xffff);
    }
}

static void check_segments(const struct frame_offload *offload, const uint8_t *whole, uint32_t len)
{
    uint32_t l3 = 14, header_len, at;

    while (load_16(whole + l3 - 2) == 0x8100 || load_16(whole + l3 - 2) == 0x88a8)
        l3 += 4;
    header_len = offload->csum_start + (whole[offload->csum_start + 12] >> 4) * 4u;
    must(header_len <= len);
    at = header_len;
    for (uint32_t i = 0; i < given.count; i++) {
        const uint32_t payload = given.at[i + 1] - given.at[i] - header_len;

        check_segment(i, offload, whole, l3, header_len);
        must(at + payload <= len);
        must(memcmp(given.data + given.at[i] + header_len, whole + at, payload) == 0);
        must(payload > 0 || header_len == len);
        at += payload;
    }
    must(at == len);
}

// The frame in as many pieces as the input says, each of which ends where its
// allocation does.
static void cut(struct burst *burst, struct frame *frame, const uint8_t *whole, uint32_t len, uint8_t pieces)
{
    const uint32_t piece = len / (1 + pieces % 32u) + 1;
    uint32_t at = 0;

    while (at < len) {
        uint32_t part = len - at < piece ? len - at : piece;
        uint8_t *data = malloc(part);

        memcpy(data, whole + at, part);
        if (at == 0) {
            frame_set_single(frame, data, part);
            frame->segment_first = 0;
        } else {
            burst->segments[burst->segment_count++] = (struct frame_segment){data, part};
            frame->segment_count++;
            frame->len += part;
        }
        at += part;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct completion completion;
    static struct burst burst;
    static uint8_t whole[LIMIT_FRAME_GSO_MAX];
    struct vif receiver = {.ops = &receiver_ops};
    struct frame *frame = &burst.frames[0], checked = {0};
    struct complete_state state = {0};
    enum transmit_stop stop = TRANSMIT_ALL;
    uint32_t len, further;
    uint8_t agreed;

    if (size < OPTIONS + OFFLOAD_HEADER_LEN + LIMIT_FRAME_MIN)
        return 0;
    agreed = data[0] & OFFLOAD_ALL;
    memset(&given, 0, offsetof(typeof(given), at));
    given.at[0] = 0;
    given.takes = data[0] >> 4 & OFFLOAD_ALL;
    for (unsigned i = 0; i < 4; i++)
        given.rooms[i] = (uint8_t)(data[2] >> 2 * i & 3 ? data[3] >> 2 * i : 63);
    len = (uint32_t)(size - OPTIONS - OFFLOAD_HEADER_LEN);
    further = data[4] | (uint32_t)data[5] << 8;
    if (agreed == 0 || len + further > offload_frame_max(agreed))
        return 0;
    memcpy(whole, data + OPTIONS + OFFLOAD_HEADER_LEN, len);
    for (uint32_t i = 0; i < further; i++)
        whole[len + i] = (uint8_t)(i * 7 + (i >> 8));
    len += further;
    checked.len = len;
    if (offload_check(&checked, data + OPTIONS, agreed) != 0 || (checked.offload.wants & ~given.takes) == 0)
        return 0;
    // A run is to be short, and what comes of a frame fits here.
    if (checked.offload.gso_type != 0 && len / checked.offload.gso_size > 2000)
        return 0;
    burst = (struct burst){.count = 1, .offloads = checked.offload.wants};
    cut(&burst, frame, whole, len, data[1]);
    frame->offload = checked.offload;
    for (unsigned loops = 0; stop != TRANSMIT_BAD_OFFLOAD; loops++) {
        uint16_t done;

        must(loops <= GIVEN_FRAMES);
        state.budget = LIMIT_BURST_SEGMENTS;
        done = complete_transmit(&receiver, 0, &burst, 0, 1, &completion, &state, &stop);
        must(state.sent.frames == given.count && state.sent.bytes == given.bytes);
        if (done == 1)
            break;
        must(done == 0 && stop != TRANSMIT_ALL);
    }
    if (stop == TRANSMIT_BAD_OFFLOAD) {
        must(given.count == 0);
    } else if (checked.offload.gso_type == VIRTIO_NET_HDR_GSO_NONE) {
        check_checksum(&checked.offload, whole, len);
    } else {
        must(state.count.frames == 1 && state.count.segments == given.count);
        check_segments(&checked.offload, whole, len);
    }
    free((void *)(uintptr_t)frame->data);
    for (uint16_t i = 0; i < burst.segment_count; i++)
        free((void *)(uintptr_t)burst.segments[i].data);
    return 0;
}
