// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TESTS_PATH_OFFLOAD_CASE_H
#define PATCHBAY_TESTS_PATH_OFFLOAD_CASE_H

// What the tests of offloads share: guests that agree to this and that, and
// frames with virtio headers.

#include "rig.h"
#include "tcp_frame.h"

#include "dataplane/attachment.h"

enum { SLOT_A, SLOT_B, SLOT_C, SLOT_M1, SLOT_M2, SLOT_NIC, STALL_MS = 100, MS = 1000000 };
enum { HEADER_LEN = 12 };

extern struct guest a, b, c, m1, m2;
extern struct nic nic;
extern struct leg *leg;
extern struct dice dice;
extern struct tcp_frame sent;

// Guests a, b, c, m1 and m2, which take all offloads, and a NIC.
int offload_setup(void **state);
int offload_teardown(void **state);
// Makes the wire from a with these steps.
void wire(const struct hop_step *steps, uint16_t count);
// What the guest takes from now on.
void takes(struct guest *guest, uint8_t mask);
// Sends bytes with a virtio header, cut into up to `pieces` descriptors. Returns where the bytes are.
uint64_t send_raw(struct guest *guest, const uint8_t *header, const uint8_t *bytes, uint32_t len, unsigned pieces);
// Sends `sent` from a.
void send_sent(void);
// Takes the next frame with its virtio header; returns its length, 0: none.
uint32_t take(struct guest *guest, uint8_t *header, uint8_t *bytes);
// The guest's next frame is just this one, its header without offloads or, if the
// guest takes checksums (partial), with one that it completes.
void expect_segment(struct guest *guest, const struct tcp_frame *frame, uint32_t index, bool partial);
void expect_whole(struct guest *guest, const struct tcp_frame *frame);
void expect_nothing(struct guest *guest);
// Polls until a has sent everything, posting buffers to the receiver (or NULL) in each
// loop; returns how many loops that took.
unsigned poll_all(struct guest *receiver, unsigned buffers_a_loop);

#define STEP_END(to, waits)                                                 \
    {                                                                       \
        .kind = HOP_END, .vif = (to), .wait = (waits), .stall_ms = STALL_MS \
    }
#define STEP_TAP(to)                 \
    {                                \
        .kind = HOP_TAP, .vif = (to) \
    }
#define WIRE(...)                                                     \
    do {                                                              \
        const struct hop_step steps_[] = {__VA_ARGS__};               \
        wire(steps_, (uint16_t)(sizeof(steps_) / sizeof(steps_[0]))); \
    } while (0)

#endif
