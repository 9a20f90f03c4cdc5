// SPDX-License-Identifier: BSD-3-Clause
#include "offload_case.h"

#include "dataplane/offload.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct guest a, b, c, m1, m2;
struct nic nic;
struct leg *leg;
struct dice dice;
struct tcp_frame sent;

int offload_setup(void **state)
{
    struct guest_options options = {
        .tx = {.size = 256, .offloads = OFFLOAD_ALL},
        .rx = {.size = 256, .offloads = OFFLOAD_ALL, .mergeable = true, .buffers = {1 << 21}},
    };

    (void)state;
    rig_start();
    guest_open(&a, SLOT_A, &options);
    guest_open(&b, SLOT_B, &options);
    guest_open(&c, SLOT_C, &options);
    guest_open(&m1, SLOT_M1, &options);
    guest_open(&m2, SLOT_M2, &options);
    nic_open(&nic, SLOT_NIC);
    return 0;
}

int offload_teardown(void **state)
{
    (void)state;
    rig_publish(NULL, 0);
    leg_destroy(leg);
    leg = NULL;
    guest_close(&a);
    guest_close(&b);
    guest_close(&c);
    guest_close(&m1);
    guest_close(&m2);
    nic_close(&nic);
    assert_int_equal(0, nic_buffers);
    rig_stop();
    return 0;
}

// Makes the wire from a; the leg before it is left to the caller.
void wire(const struct hop_step *steps, uint16_t count)
{
    struct hop_program program = {.step_count = count};
    struct leg *old = leg;

    memcpy(program.steps, steps, count * sizeof(steps[0]));
    leg = leg_create(&program);
    assert_non_null(leg);
    rig_publish(&(struct table_entry){.vif = SLOT_A, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    leg_destroy(old);
}

// What the guest takes from now on.
void takes(struct guest *guest, uint8_t mask)
{
    guest->attachment->queues[0].to_guest.offloads = mask;
}

// Sends bytes with a virtio header, cut into up to `pieces` descriptors. Returns where they are.
uint64_t send_raw(struct guest *guest, const uint8_t *header, const uint8_t *bytes, uint32_t len, unsigned pieces)
{
    uint8_t whole[HEADER_LEN] = {0};
    uint64_t at = driver_alloc(&guest->tx, HEADER_LEN + len);
    struct driver_piece cut[64];
    uint32_t from = 0;
    unsigned count = 0;

    memcpy(whole, header, OFFLOAD_HEADER_LEN);
    driver_write(&guest->tx, at, whole, sizeof(whole));
    driver_write(&guest->tx, at + HEADER_LEN, bytes, len);
    while (count + 1 < pieces && from + 2 < HEADER_LEN + len) {
        uint32_t part = 1 + dice_below(&dice, 2 * (HEADER_LEN + len - from) / (pieces - count));

        part = part < HEADER_LEN + len - from ? part : 1;
        cut[count++] = (struct driver_piece){at + from, part, 0};
        from += part;
    }
    cut[count++] = (struct driver_piece){at + from, HEADER_LEN + len - from, 0};
    driver_add(&guest->tx, cut, count, count > 1 ? LAYOUT_INDIRECT : LAYOUT_DIRECT);
    driver_publish(&guest->tx);
    return at + HEADER_LEN;
}

void send_sent(void)
{
    send_raw(&a, sent.header, sent.bytes, sent.len, 1 + dice_below(&dice, 20));
}

// Takes the next frame with its virtio header; returns its length, 0: none.
uint32_t take(struct guest *guest, uint8_t *header, uint8_t *bytes)
{
    static uint8_t all[HEADER_LEN + TCP_FRAME_MAX];
    struct driver *rx = &guest->rx;
    uint32_t have = 0, buffers = 1, len;
    uint16_t head;

    for (uint32_t i = 0; i < buffers; i++) {
        if (!driver_take(rx, &head, &len)) {
            assert_int_equal(0, i);
            return 0;
        }
        assert_true(have + len <= sizeof(all));
        driver_read(rx, guest->posted[0][head].address, all + have, len);
        have += len;
        if (i == 0)
            buffers = all[10] | (uint32_t)all[11] << 8;
    }
    memcpy(header, all, OFFLOAD_HEADER_LEN);
    memcpy(bytes, all + HEADER_LEN, have - HEADER_LEN);
    return have - HEADER_LEN;
}

// The guest's next frame is just this one, its header without offloads or, if the
// guest takes checksums, with one that it completes.
void expect_segment(struct guest *guest, const struct tcp_frame *frame, uint32_t index, bool partial)
{
    static uint8_t got[TCP_FRAME_MAX], want[TCP_FRAME_MAX];
    uint8_t header[OFFLOAD_HEADER_LEN] = {0}, want_header[OFFLOAD_HEADER_LEN] = {0};
    uint32_t len = take(guest, header, got), want_len = tcp_frame_segment(frame, index, want);

    assert_int_equal(want_len, len);
    if (partial) {
        want_header[0] = 1;
        memcpy(want_header + 6, frame->header + 6, 4);
        checksum_complete(got, len, frame->l4, frame->l4 + 16);
    }
    assert_memory_equal(want_header, header, sizeof(header));
    assert_memory_equal(want, got, len);
}

void expect_whole(struct guest *guest, const struct tcp_frame *frame)
{
    static uint8_t got[TCP_FRAME_MAX];
    uint8_t header[OFFLOAD_HEADER_LEN];

    assert_int_equal(frame->len, take(guest, header, got));
    assert_memory_equal(frame->header, header, sizeof(header));
    assert_memory_equal(frame->bytes, got, frame->len);
}

void expect_nothing(struct guest *guest)
{
    uint8_t header[OFFLOAD_HEADER_LEN], bytes[2000];

    assert_int_equal(0, take(guest, header, bytes));
}

// Polls until the guest has sent everything; returns the loops that took.
unsigned poll_all(struct guest *receiver, unsigned buffers_a_loop)
{
    unsigned loops = 0;

    for (; guest_unsent(&a) > 0; loops++) {
        assert_true(loops < 100000);
        if (receiver != NULL)
            guest_post(receiver, buffers_a_loop < receiver->rx.free_count ? buffers_a_loop : receiver->rx.free_count,
                       1700 + dice_below(&dice, 400));
        rig_poll();
        rig_now += MS;
    }
    guest_forget_sent(&a);
    return loops;
}
