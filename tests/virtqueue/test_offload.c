// SPDX-License-Identifier: BSD-3-Clause

// Frames with offloads, from one ring to another and in the same pass to a
// monitor's: what of a sender's header is believed, which ones are no headers,
// and that the receiver's, rebuilt, and up to 64 KiB behind it stand in its buffers
// byte for byte. Chains are cut anywhere, so also in the middle of a header.

#include "dataplane/offload.h"
#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum {
    CUTS = 12,           // pieces of a frame that is sent
    SENT = 160000,       // bytes of a round's frames, so that no buffer is given out twice
    FRAMES = 24,         // of a round
    BUFFER_SMALL = 1024, // no burst then looks at as many as end a call
};

// A frame as the test sends it, and what should become of it.
struct sent {
    uint16_t id;
    bool bad;
    enum vif_discard_reason reason;
    struct frame_offload offload;
    uint32_t len;
    uint8_t *bytes; // behind the header
};

static struct burst burst;
static _Atomic uint64_t discarded[VIF_DISCARD_REASON_COUNT];
static uint8_t memory[FRAMES][12 + LIMIT_FRAME_GSO_MAX];
static struct sent sent[FRAMES];

static void put_le(uint8_t *to, uint32_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

// What is wrong with a header.
enum wrong {
    NOTHING,
    GSO_WITHOUT_CSUM,
    TYPE_UNKNOWN,
    TYPE_NOT_AGREED,
    NO_SIZE,
    IN_ETHERNET, // the checksum would begin there
    BEHIND_THE_END,
    HEADERS_TOO_LONG,
    TOO_LONG, // without being one to be segmented
    WRONGS
};

// A header, right or wrong, of a frame of that length; what isn't said is rubbish
// that nobody may look at.
static void header_make(struct dice *dice, struct sent *frame, uint8_t *header, enum wrong wrong, uint8_t agreed)
{
    struct frame_offload *offload = &frame->offload;
    uint32_t kind = dice_below(dice, 4), start, left;
    uint8_t type;

    dice_fill(dice, header, 12);
    memset(offload, 0, sizeof(*offload));
    header[0] = dice_below(dice, 2) ? VIRTIO_NET_HDR_F_DATA_VALID : 0;
    header[1] = VIRTIO_NET_HDR_GSO_NONE;
    frame->bad = wrong != NOTHING;
    frame->reason = wrong == TOO_LONG ? VIF_DISCARD_GIANT : VIF_DISCARD_BAD_HEADER;
    if (wrong == TOO_LONG ? kind < 2 : wrong == NOTHING && kind == 0 && frame->len <= LIMIT_FRAME_MAX)
        return;
    header[0] |= VIRTIO_NET_HDR_F_NEEDS_CSUM;
    left = frame->len - 16; // behind an Ethernet header and a checksum
    start = 14 + dice_below(dice, left < 200 ? left + 1 : 200);
    left = frame->len - start - 2;
    offload->flags = VIRTIO_NET_HDR_F_NEEDS_CSUM;
    offload->csum_start = (uint16_t)start;
    offload->csum_offset = (uint16_t)dice_below(dice, left < 40 ? left + 1 : 40);
    offload->wants = OFFLOAD_CSUM;
    put_le(header + 6, start);
    put_le(header + 8, offload->csum_offset);
    if (wrong == TOO_LONG || (wrong == NOTHING && kind == 1 && frame->len <= LIMIT_FRAME_MAX))
        return;
    type = dice_below(dice, 2) ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6;
    if (!(agreed & OFFLOAD_TSO6) && wrong != TYPE_NOT_AGREED)
        type = VIRTIO_NET_HDR_GSO_TCPV4;
    if (wrong == TYPE_NOT_AGREED)
        type = VIRTIO_NET_HDR_GSO_TCPV6;
    offload->wants |= type == VIRTIO_NET_HDR_GSO_TCPV4 ? OFFLOAD_TSO4 : OFFLOAD_TSO6;
    if (dice_below(dice, 3) == 0) {
        type |= VIRTIO_NET_HDR_GSO_ECN;
        offload->wants |= OFFLOAD_ECN;
    }
    offload->gso_type = type;
    offload->gso_size = (uint16_t)(1 + dice_below(dice, 9000));
    offload->hdr_len = (uint16_t)dice_below(dice, frame->len < 200 ? frame->len + 1 : 200);
    header[1] = type;
    put_le(header + 2, offload->hdr_len);
    put_le(header + 4, offload->gso_size);
    switch (wrong) {
    case GSO_WITHOUT_CSUM:
        header[0] &= (uint8_t)~VIRTIO_NET_HDR_F_NEEDS_CSUM;
        break;
    case TYPE_UNKNOWN:
        header[1] = (uint8_t[]){VIRTIO_NET_HDR_GSO_UDP, 2, 5, 0x41, VIRTIO_NET_HDR_GSO_ECN}[dice_below(dice, 5)];
        break;
    case NO_SIZE:
        put_le(header + 4, 0);
        break;
    case IN_ETHERNET:
        put_le(header + 6, dice_below(dice, 14));
        break;
    case BEHIND_THE_END: // with its last byte, or far
        start = frame->len - 2 > UINT16_MAX ? UINT16_MAX : frame->len - 2;
        put_le(header + 6, start);
        put_le(header + 8, dice_below(dice, 2) ? frame->len - 1 - start : UINT16_MAX);
        break;
    case HEADERS_TOO_LONG:
        put_le(header + 2, dice_below(dice, 2) ? frame->len + 1 : UINT16_MAX);
        break;
    default:
        break;
    }
}

static uint32_t random_len(struct dice *dice, enum wrong wrong)
{
    if (wrong == TOO_LONG)
        return LIMIT_FRAME_MAX + 1 + dice_below(dice, 2000);
    if (wrong == HEADERS_TOO_LONG || dice_below(dice, 2))
        return 20 + dice_below(dice, 1500);
    switch (dice_below(dice, 6)) {
    case 0:
        return 16;
    case 1:
        return LIMIT_FRAME_GSO_MAX - dice_below(dice, 3);
    case 2:
        return LIMIT_FRAME_MAX + 1 - dice_below(dice, 2);
    default:
        return 16 + dice_below(dice, LIMIT_FRAME_GSO_MAX - 15);
    }
}

// Puts the frame into a chain: in one piece, or cut anywhere.
static uint16_t send(struct dice *dice, struct driver *driver, const uint8_t *bytes, uint32_t len)
{
    uint64_t at = driver_alloc(driver, len);
    struct driver_piece pieces[CUTS];
    unsigned most = driver->free_count < CUTS ? driver->free_count : CUTS;
    unsigned count = dice_below(dice, 2) ? 1 : 1 + dice_below(dice, most);
    uint32_t done = 0;

    driver_write(driver, at, bytes, len);
    for (unsigned i = 0; i < count; i++) {
        uint32_t left = len - done;
        uint32_t part = i + 1 == count ? left : dice_below(dice, dice_below(dice, 2) && left > 14 ? 14 : left + 1);

        pieces[i] = (struct driver_piece){at + done, part, 0};
        done += part;
    }
    return driver_add(driver, pieces, count, count > 1 ? dice_below(dice, 3) : LAYOUT_DIRECT);
}

static unsigned round_send(struct dice *dice, struct driver *driver, bool some_wrong)
{
    uint32_t bytes = 0;
    unsigned count;

    for (count = 0; count < FRAMES && bytes < SENT && driver->free_count > CUTS; count++) {
        struct sent *frame = &sent[count];
        enum wrong wrong = some_wrong && dice_below(dice, 4) == 0 ? dice_below(dice, WRONGS) : NOTHING;

        if (wrong == TYPE_NOT_AGREED && (driver->options.offloads & OFFLOAD_TSO6))
            wrong = NOTHING;
        frame->len = random_len(dice, wrong);
        header_make(dice, frame, memory[count], wrong, driver->options.offloads);
        frame->bytes = memory[count] + 12;
        dice_fill(dice, frame->bytes, frame->len);
        if (driver->vq.hdr_len == 10) // its last two bytes aren't there
            memmove(memory[count] + 2, memory[count], 10);
        frame->id = send(dice, driver, frame->bytes - driver->vq.hdr_len, frame->len + driver->vq.hdr_len);
        bytes += frame->len;
    }
    driver_publish(driver);
    driver_shadow_sync(driver);
    return count;
}

static uint64_t discarded_sum(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < VIF_DISCARD_REASON_COUNT; i++)
        sum += discarded[i];
    return sum;
}

// Takes the next burst; returns how many of the sent frames, from `at` on, went
// back as bad ones. All of it is what it should be.
static unsigned receive(struct driver *driver, unsigned at, unsigned count)
{
    static uint8_t bytes[LIMIT_FRAME_GSO_MAX];
    uint64_t before[VIF_DISCARD_REASON_COUNT], sum = discarded_sum();
    uint16_t frames;
    unsigned bad;
    uint8_t wants = 0;

    for (unsigned i = 0; i < VIF_DISCARD_REASON_COUNT; i++)
        before[i] = discarded[i];
    frames = virtqueue_receive(&driver->vq, &burst, discarded);
    bad = (unsigned)(discarded_sum() - sum);
    assert_true(at + bad + frames <= count && (bad > 0 || frames > 0));
    for (unsigned i = 0; i < bad; i++) {
        assert_true(sent[at + i].bad);
        before[sent[at + i].reason]++;
        driver_shadow_use(driver, sent[at + i].id, 0);
    }
    for (unsigned i = 0; i < VIF_DISCARD_REASON_COUNT; i++)
        assert_int_equal(before[i], discarded[i]);
    driver_shadow_check(driver);
    driver_check_views(driver, &burst);
    for (unsigned i = 0; i < frames; i++) {
        const struct sent *from = &sent[at + bad + i];
        const struct frame *frame = &burst.frames[i];

        assert_false(from->bad);
        assert_int_equal(from->id, frame->id);
        assert_int_equal(from->len, frame->len);
        frame_gather(&burst, frame, bytes);
        assert_memory_equal(from->bytes, bytes, from->len);
        assert_memory_equal(&from->offload, &frame->offload, sizeof(from->offload));
        wants |= from->offload.wants;
    }
    assert_int_equal(wants, burst.offloads);
    assert_null(driver->vq.broken);
    return bad;
}

static void take_all(struct driver *driver)
{
    uint16_t id;
    uint32_t len;

    while (driver_take(driver, &id, &len))
        ;
    driver_shadow_catch_up(driver);
}

static void complete(struct driver *driver, unsigned at, uint16_t taken)
{
    for (unsigned i = 0; i < taken; i++)
        driver_shadow_use(driver, sent[at + i].id, 0);
    virtqueue_complete(&driver->vq, &burst, taken);
    driver_shadow_check(driver);
    take_all(driver);
}

// Headers, right and wrong: what is none goes back alone, in its turn.
static void test_headers(void **state)
{
    unsigned good = 0, bad = 0;
    struct dice dice;

    (void)state;
    dice_open(&dice, "headers");
    for (unsigned run = 0; run < 24; run++) {
        struct driver driver;

        memset(discarded, 0, sizeof(discarded));
        driver_open(&driver, &(struct driver_options){.hdr_len = run % 2 ? 12 : 10,
                                                      .start = (uint16_t)dice_u64(&dice),
                                                      .offloads = run % 3 ? OFFLOAD_ALL : OFFLOAD_ALL ^ OFFLOAD_TSO6});
        for (unsigned round = 0; round < 12; round++) {
            unsigned count = round_send(&dice, &driver, true);

            for (unsigned at = 0; at < count;) {
                uint16_t taken;
                unsigned back = receive(&driver, at, count);

                // Some of them stay, and come again as they were.
                taken = (uint16_t)(burst.count > 0 ? 1 + dice_below(&dice, burst.count) : 0);
                complete(&driver, at + back, taken);
                at += back + taken;
                good += taken;
                bad += back;
            }
        }
        driver_close(&driver);
    }
    assert_true(good > 1000 && bad > 200);
}

enum buffers { MERGED, LARGE_DIRECT, LARGE_INDIRECT, BUFFERS };

struct receiver {
    struct driver driver;
    struct model model;
    enum buffers kind;
};

static void receiver_open(struct dice *dice, struct receiver *receiver, enum buffers kind, uint8_t offloads)
{
    receiver->kind = kind;
    driver_open(&receiver->driver, &(struct driver_options){.start = (uint16_t)dice_u64(dice),
                                                            .hdr_len = dice_below(dice, 2) ? 12 : 10,
                                                            .mergeable = receiver->kind == MERGED,
                                                            .offloads = offloads});
    if (receiver->kind == MERGED)
        receiver->driver.vq.hdr_len = 12; // it goes with num_buffers
    model_open(&receiver->model, &receiver->driver);
}

static void receiver_fill(struct dice *dice, struct receiver *receiver)
{
    struct driver *driver = &receiver->driver;

    take_all(driver);
    if (receiver->kind == MERGED) {
        while (driver->free_count > 0 && model_posted_bytes(&receiver->model) < 500000)
            model_post_one(&receiver->model, BUFFER_SMALL + dice_below(dice, 3100));
    } else {
        enum driver_layout layout = receiver->kind == LARGE_DIRECT ? LAYOUT_DIRECT : LAYOUT_INDIRECT;

        // As many as 64 KiB need, of a page each.
        while (driver->free_count >= 17 && model_posted(&receiver->model) < 8) {
            struct driver_piece pieces[17];

            for (unsigned i = 0; i < 17; i++)
                pieces[i] = (struct driver_piece){driver_alloc(driver, 4096), 4096, VRING_DESC_F_WRITE};
            model_post(&receiver->model, pieces, 17, 17, layout);
        }
    }
    driver_publish(driver);
    driver_shadow_sync(driver);
}

// What the models make of the burst, whose first frame is sent[at]; returns what
// transmit should. tap: NULL if there is none.
static uint16_t expect(struct receiver *to, struct receiver *tap, unsigned at, enum transmit_stop *stop,
                       struct tap_count *counts)
{
    memset(counts, 0, sizeof(*counts));
    for (uint16_t i = 0; i < burst.count; i++) {
        const struct sent *frame = &sent[at + i];

        if (frame->offload.wants & ~to->driver.vq.offloads) {
            *stop = TRANSMIT_OFFLOAD;
            return i;
        }
        *stop = model_put_offload(&to->model, frame->bytes, frame->len, &frame->offload);
        if (*stop != TRANSMIT_ALL)
            return i;
        if (tap == NULL)
            continue;
        counts->offered++;
        switch (model_put_offload(&tap->model, frame->bytes, frame->len, &frame->offload)) {
        case TRANSMIT_ALL:
            counts->copied.frames++;
            counts->copied.bytes += frame->len;
            break;
        case TRANSMIT_TOO_BIG:
            counts->dropped[TAP_DROP_TOO_BIG]++;
            break;
        default:
            counts->dropped[TAP_DROP_RING_FULL]++;
        }
    }
    *stop = TRANSMIT_ALL;
    return burst.count;
}

// From a guest to another one, and to a monitor in the same pass.
static void test_through(void **state)
{
    static struct receiver to, tap;
    unsigned whole = 0, copied = 0, refused = 0, full = 0, split = 0;
    struct dice dice;

    (void)state;
    dice_open(&dice, "through");
    for (unsigned run = 0; run < 30; run++) {
        struct driver from;
        bool tapped = run % 3 > 0;

        memset(discarded, 0, sizeof(discarded));
        driver_open(&from, &(struct driver_options){.start = (uint16_t)dice_u64(&dice), .offloads = OFFLOAD_ALL});
        receiver_open(&dice, &to, run / 3 % BUFFERS, run % 5 == 4 ? OFFLOAD_ALL ^ OFFLOAD_TSO6 : OFFLOAD_ALL);
        receiver_open(&dice, &tap, dice_below(&dice, BUFFERS), OFFLOAD_ALL);
        for (unsigned round = 0; round < 6; round++) {
            unsigned count = round_send(&dice, &from, false);

            for (unsigned at = 0; at < count;) {
                struct tap_count counts = {0}, expected;
                enum transmit_stop stop, should;
                uint16_t done, will;

                assert_int_equal(0, receive(&from, at, count));
                receiver_fill(&dice, &to);
                if (dice_below(&dice, 3))
                    receiver_fill(&dice, &tap);
                else
                    driver_shadow_sync(&tap.driver);
                will = expect(&to, tapped ? &tap : NULL, at, &should, &expected);
                if (tapped) {
                    done = virtqueue_transmit_tapped(&to.driver.vq, &tap.driver.vq, &burst, 0, burst.count, &stop,
                                                     &counts);
                    assert_memory_equal(&expected, &counts, sizeof(counts));
                    driver_shadow_check(&tap.driver);
                } else {
                    done = virtqueue_transmit(&to.driver.vq, &burst, 0, burst.count, &stop);
                }
                assert_int_equal(will, done);
                assert_int_equal(should, stop);
                driver_shadow_check(&to.driver);
                for (unsigned i = 0; i < done; i++)
                    whole += sent[at + i].len > LIMIT_FRAME_MAX;
                copied += (unsigned)counts.copied.frames;
                split += to.driver.options.mergeable && done > 0;
                full += stop == TRANSMIT_FULL || stop == TRANSMIT_SHORT;
                refused += stop == TRANSMIT_OFFLOAD;
                // What the receiver doesn't take is dropped here.
                if (stop == TRANSMIT_OFFLOAD || stop == TRANSMIT_TOO_BIG)
                    done++;
                complete(&from, at, done);
                at += done;
            }
        }
        driver_close(&from);
        model_close(&to.model);
        driver_close(&to.driver);
        model_close(&tap.model);
        driver_close(&tap.driver);
    }
    print_message("%u long frames, %u copies, %u refused, %u without room, %u bursts to mergeable buffers\n", whole,
                  copied, refused, full, split);
    assert_true(whole > 100 && copied > 100 && refused > 5 && full > 5 && split > 50); // it was to the point
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_headers),
        cmocka_unit_test(test_through),
    };

    return cmocka_run_group_tests_name("virtqueue: offloads", tests, NULL, NULL);
}
