// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TESTS_PATH_RIG_H
#define PATCHBAY_TESTS_PATH_RIG_H

// The dataplane without EAL: the real worker, wire table, hops, taps and vhost
// vifs; only EAL's start, librte_vhost and the ethdevs are replaced. A guest is
// two rings in memory (tests/virtqueue/driver.h) behind the real vif_vhost.c; a
// NIC is an in-memory vif with buffers that change hands like an ethdev's.
//
// Time is the rig's own: rig_now, in nanoseconds, is what the worker takes for
// the TSC.

#include "dataplane/leg.h"
#include "dataplane/stage.h"
#include "dataplane/wire_table.h"
#include "tests/virtqueue/driver.h"

#include <stdbool.h>
#include <stdint.h>

struct rte_mbuf;

extern uint64_t rig_now;

// Empty table, one worker. rig_stop frees what publishing holds; vifs and legs
// are the test's.
void rig_start(void);
void rig_stop(void);

// ---- guests ----

enum { GUEST_PAIRS = 4 };

struct guest {
    vif_slot slot;
    struct vif *vif;
    struct driver tx;                       // the guest's transmitq
    struct driver rx;                       // its receiveq
    uint16_t pairs;                         // at least 1
    uint16_t in_use;                        // how many of them are enabled; the test may change it while detached
    struct driver more_tx[GUEST_PAIRS - 1]; // of the other pairs
    struct driver more_rx[GUEST_PAIRS - 1];
    struct driver_piece *posted[GUEST_PAIRS]; // by head or buffer id: what guest_post has put there
    struct attachment *attachment;            // NULL: not attached
};

struct guest_options {
    struct driver_options tx, rx;
    uint16_t pairs; // 0: one
    bool detached;
};

// Makes a vif in the slot with a guest behind it, and lists it.
void guest_open(struct guest *guest, vif_slot slot, const struct guest_options *options);
void guest_close(struct guest *guest);
// What a front end does: link and attachment.
void guest_detach(struct guest *guest, enum vif_link link);
void guest_attach(struct guest *guest);

// Sends frame `number` of len bytes; tag 0: none, else an 802.1Q tag with it.
void guest_send(struct guest *guest, uint32_t number, uint32_t len, uint16_t tag);
// Posts `count` buffers of len bytes (header included).
void guest_post(struct guest *guest, unsigned count, uint32_t len);
// Takes the next frame that the guest got; returns its length, 0: none.
uint32_t guest_take(struct guest *guest, uint8_t *bytes);
// The same on one of many queues.
void guest_send_on(struct guest *guest, uint16_t queue, uint32_t number, uint32_t len, uint16_t tag);
void guest_post_on(struct guest *guest, uint16_t queue, unsigned count, uint32_t len);
uint32_t guest_take_on(struct guest *guest, uint16_t queue, uint8_t *bytes);
uint32_t guest_unsent_on(struct guest *guest, uint16_t queue);
// How many frames it sent that weren't taken from its ring.
uint32_t guest_unsent(struct guest *guest);
void guest_forget_sent(struct guest *guest);

// ---- NICs ----

enum { NIC_FIFO = 4096 };

struct nic {
    vif_slot slot;
    struct vif *vif;
    struct rte_mbuf *in[NIC_FIFO]; // to be received
    uint32_t in_first, in_next;
    struct rte_mbuf *out[NIC_FIFO]; // transmitted
    uint32_t out_first, out_next;
    uint32_t room;              // frames that it still takes
    uint32_t len_max;           // longer ones are TOO_BIG
    enum transmit_stop refuses; // what it answers while it takes nothing; TRANSMIT_ALL: it takes
    uint32_t flushes;
    uint64_t taken_over; // frames whose buffer it took over, as it was
    uint64_t referenced; // of which it took a reference
    uint64_t copied;
};

void nic_open(struct nic *nic, vif_slot slot);
void nic_close(struct nic *nic);
void nic_send(struct nic *nic, uint32_t number, uint32_t len, uint16_t tag, unsigned segments);
uint32_t nic_take(struct nic *nic, uint8_t *bytes);
// Frames that wait to be received.
uint32_t nic_unsent(const struct nic *nic);
// Buffers that exist, of all NICs.
extern uint64_t nic_buffers;

// ---- frames ----

// Addresses, tag, type, number and bytes that follow from the number.
void frame_make(uint8_t *bytes, uint32_t len, uint16_t tag, uint32_t number);
// Fails the test if it isn't just that frame.
void frame_expect(const uint8_t *bytes, uint32_t len, uint32_t want_len, uint16_t tag, uint32_t number);
uint32_t frame_number(const uint8_t *bytes, uint32_t len);

// ---- wires ----

// A table of these entries becomes current; the one before is freed.
void rig_publish(const struct table_entry *entries, size_t count);
// One loop of the worker, at rig_now. Returns the number of frames it moved.
uint64_t rig_poll(void);

// The same by the machine's own clock, with all that the worker counts of its
// loops. rig_measure begins anew; seed: of which loops are measured by stage.
void rig_measure(uint64_t seed);
uint64_t rig_loop(void);
void rig_worker_read(struct worker_count *count);

// The transmit queue's lock, as another worker would take it.
bool txq_try(struct vif *vif);
void txq_release(struct vif *vif);
bool txq_is_locked(struct vif *vif);

// received = delivered + dropped; each tap: offered = copied + dropped, and
// offered = received. Returns the counters.
struct leg_count leg_check(const struct leg *leg);

#endif
