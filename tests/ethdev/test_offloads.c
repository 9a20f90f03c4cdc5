// SPDX-License-Identifier: BSD-3-Clause

// A device that completes checksums and segments TCP itself, as NICs do: a
// virtio-user device, whose other end is a vhost vif of ours, so that what the device was
// asked to do can be read there, from the virtio header that its driver made of it.
//
//   test ── dev:net_virtio_user0 ══ vhost-user ══ vhost-server vif ── test

#include "fixture.h"

#include "dataplane/complete.h"
#include "dataplane/offload.h"
#include "tests/path/tcp_frame.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/patchbay-offloads-XXXXXX";
static char path[64];
static char devargs[128];
static struct vif *host, *device;
static struct dice dice;
static struct tcp_frame sent;
static struct burst out;
static struct completion completion;
static uint8_t expected[TCP_FRAME_MAX], got[TCP_FRAME_MAX];

// The tests' random numbers; without the rings that come with them elsewhere.
uint64_t dice_u64(struct dice *d)
{
    d->state = d->state * 6364136223846793005u + 1442695040888963407u;
    return d->state >> 16;
}

uint32_t dice_below(struct dice *d, uint32_t limit)
{
    return (uint32_t)(dice_u64(d) % limit);
}

void dice_fill(struct dice *d, void *to, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)to)[i] = (uint8_t)dice_u64(d);
}

// A burst of the frame alone, in some pieces.
static void offer(uint32_t len, const uint8_t header[OFFLOAD_HEADER_LEN])
{
    const uint32_t piece = len / (1 + dice_below(&dice, 20)) + 1;
    struct frame *frame = &out.frames[0];

    memset(&out, 0, offsetof(struct burst, frames));
    out.count = 1;
    frame->mbuf = NULL;
    frame->segment_first = 0;
    frame_set_single(frame, sent.bytes, len < piece ? len : piece);
    for (uint32_t at = piece; at < len; at += piece) {
        out.segments[out.segment_count++] =
            (struct frame_segment){sent.bytes + at, len - at < piece ? len - at : piece};
        frame->segment_count++;
    }
    frame->len = len;
    assert_int_equal(0, offload_check(frame, header, OFFLOAD_ALL));
    out.offloads = frame->offload.wants;
}

static uint16_t transmit(enum transmit_stop *stop)
{
    return device->ops->transmit(device, 0, &out, 0, 1, stop);
}

// The next frame that the peer gets; false: none within the time that it may take.
static uint32_t take(struct frame_offload *offload)
{
    const struct timespec pause = {.tv_nsec = 1000 * 1000};
    const struct frame *frame = &fixture_in.frames[0];
    uint32_t len;

    for (int i = 0; host->ops->receive(host, 0, &fixture_in) == 0; i++) {
        assert_true(i < 10000);
        nanosleep(&pause, NULL);
    }
    len = frame->data_len;
    memcpy(got, frame->data, len);
    for (uint16_t i = 0; i + 1 < frame->segment_count; i++) {
        const struct frame_segment *segment = &fixture_in.segments[frame->segment_first + i];

        memcpy(got + len, segment->data, segment->len);
        len += segment->len;
    }
    assert_int_equal(frame->len, len);
    *offload = fixture_in.offloads != 0 ? frame->offload : (struct frame_offload){0};
    host->ops->complete(host, 0, &fixture_in, 1);
    return len;
}

// Whether the frame's headers are ones that a device is trusted with.
static bool is_plain(void)
{
    return sent.l3 <= 18 && sent.l4 - sent.l3 == (sent.ip6 ? 40 : 20);
}

// A sum in place of the pseudo header's, on both sides alike.
static void complete_both(uint32_t len)
{
    checksum_complete(expected, len, sent.l4, sent.l4 + 16);
    checksum_complete(got, len, sent.l4, sent.l4 + 16);
}

static void test_segmentation(void **state)
{
    unsigned given = 0, refused = 0, longest = 0;
    struct frame_offload offload;

    (void)state;
    assert_int_equal(OFFLOAD_CSUM | OFFLOAD_TSO, device->ops->takes(device, 0));
    for (unsigned round = 0; round < 300; round++) {
        enum transmit_stop stop;
        bool plain;

        tcp_frame_random(&sent, &dice, 100 + dice_below(&dice, round % 4 ? 20000 : 64900),
                         500 + dice_below(&dice, 900));
        plain = is_plain() && !(sent.header[1] & VIRTIO_NET_HDR_GSO_ECN);
        offer(sent.len, sent.header);
        if (transmit(&stop) == 1) {
            assert_true(plain);
            assert_int_equal(sent.len, take(&offload));
            assert_int_equal(sent.ip6 ? OFFLOAD_CSUM | OFFLOAD_TSO6 : OFFLOAD_CSUM | OFFLOAD_TSO4, offload.wants);
            assert_int_equal(sent.gso_size, offload.gso_size);
            assert_int_equal(sent.payload_at, offload.hdr_len);
            assert_int_equal(sent.l4, offload.csum_start);
            assert_int_equal(16, offload.csum_offset);
            // The driver sums IPv4's header anew; with it, it is as it was.
            memcpy(expected, sent.bytes, sent.len);
            if (!sent.ip6) {
                memset(expected + sent.l3 + 10, 0, 2);
                checksum_complete(expected, sent.l3 + 20, sent.l3, sent.l3 + 10);
            }
            complete_both(sent.len);
            assert_memory_equal(expected, got, sent.len);
            longest = sent.len > longest ? sent.len : longest;
            given++;
            continue;
        }
        assert_int_equal(TRANSMIT_OFFLOAD, stop);
        assert_false(plain);
        // Then it gets segments, whose checksums it may well complete.
        {
            struct complete_state done = {.budget = LIMIT_BURST_SEGMENTS};

            assert_int_equal(1, complete_transmit(device, 0, &out, 0, 1, &completion, &done, &stop));
            assert_int_equal(tcp_frame_count(&sent), done.count.segments);
        }
        for (uint32_t i = 0; i < tcp_frame_count(&sent); i++) {
            uint32_t len = tcp_frame_segment(&sent, i, expected);

            assert_int_equal(len, take(&offload));
            assert_int_equal(is_plain() ? OFFLOAD_CSUM : 0, offload.wants);
            if (offload.wants != 0)
                checksum_complete(got, len, offload.csum_start, offload.csum_start + offload.csum_offset);
            assert_memory_equal(expected, got, len);
        }
        refused++;
    }
    assert_true(given > 10 && refused > 100 && longest > 40000);
}

// TCP and UDP; and what only looks like it is completed by ourselves.
static void test_checksums(void **state)
{
    unsigned given = 0, refused = 0;
    struct frame_offload offload;

    (void)state;
    for (unsigned round = 0; round < 600; round++) {
        uint8_t header[OFFLOAD_HEADER_LEN] = {VIRTIO_NET_HDR_F_NEEDS_CSUM};
        bool udp = dice_below(&dice, 2), lies = dice_below(&dice, 4) == 0;
        uint32_t field;
        enum transmit_stop stop;

        tcp_frame_random(&sent, &dice, 40 + dice_below(&dice, 1200), 1400);
        if (udp && is_plain())
            sent.bytes[sent.l3 + (sent.ip6 ? 6 : 9)] = 17;
        else
            udp = false;
        field = udp ? 6 : 16;
        header[6] = (uint8_t)sent.l4;
        header[8] = (uint8_t)(lies ? 8 : field);
        offer(sent.len, header);
        memcpy(expected, sent.bytes, sent.len);
        if (udp) { // the pseudo header's sum, which the driver makes
            memcpy(expected + sent.l4 + 6, "\0\0", 2);
        }
        if (transmit(&stop) == 1) {
            assert_true(is_plain() && !lies);
            assert_int_equal(sent.len, take(&offload));
            assert_int_equal(OFFLOAD_CSUM, offload.wants);
            assert_int_equal(sent.l4, offload.csum_start);
            assert_int_equal(field, offload.csum_offset);
            if (udp)
                memset(got + sent.l4 + 6, 0, 2);
            else
                complete_both(sent.len);
            given++;
        } else {
            struct complete_state done = {.budget = LIMIT_BURST_SEGMENTS};

            assert_int_equal(TRANSMIT_OFFLOAD, stop);
            assert_true(!is_plain() || lies);
            assert_int_equal(1, complete_transmit(device, 0, &out, 0, 1, &completion, &done, &stop));
            assert_int_equal(sent.len, take(&offload));
            assert_int_equal(0, offload.wants);
            memcpy(expected, sent.bytes, sent.len);
            checksum_complete(expected, sent.len, sent.l4, sent.l4 + header[8]);
            refused++;
        }
        assert_memory_equal(expected, got, sent.len);
    }
    assert_true(given > 20 && refused > 50);
}

static int start(void **state)
{
    signal(SIGPIPE, SIG_IGN);
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/vhost.sock", folder);
    snprintf(devargs, sizeof(devargs), "net_virtio_user0,path=%s,queue_size=1024", path);
    if (fixture_start(state) != 0)
        return -1;
    host = fixture_make(VIF_VHOST_SERVER, path);
    device = fixture_make(VIF_DEV, devargs);
    fixture_wait_link(device, VIF_LINK_UP, true);
    fixture_wait_link(host, VIF_LINK_UP, false);
    dice.state = 1;
    return 0;
}

static int end(void **state)
{
    int error;

    fixture_remove(device);
    vif_destroy(host->slot);
    error = fixture_stop(state);
    (void)unlink(path);
    return rmdir(folder) == 0 ? error : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_segmentation), cmocka_unit_test(test_checksums)};

    return cmocka_run_group_tests(tests, start, end);
}
