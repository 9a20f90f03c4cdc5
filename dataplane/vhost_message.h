// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VHOST_MESSAGE_H
#define PATCHBAY_VHOST_MESSAGE_H

// Messages of the vhost-user protocol as librte_vhost shows them to its
// external handlers, and which of them we let through to it.

#include <linux/vhost_types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Requests of the front end (QEMU docs/interop/vhost-user.rst, "Front-end
// message types"); only those that we let through.
enum vhost_request {
    REQUEST_GET_FEATURES = 1,
    REQUEST_SET_FEATURES = 2,
    REQUEST_SET_OWNER = 3,
    REQUEST_RESET_OWNER = 4,
    REQUEST_SET_MEM_TABLE = 5,
    REQUEST_SET_LOG_BASE = 6,
    REQUEST_SET_VRING_NUM = 8,
    REQUEST_SET_VRING_ADDR = 9,
    REQUEST_SET_VRING_BASE = 10,
    REQUEST_GET_VRING_BASE = 11,
    REQUEST_SET_VRING_KICK = 12,
    REQUEST_SET_VRING_CALL = 13,
    REQUEST_SET_VRING_ERR = 14,
    REQUEST_GET_PROTOCOL_FEATURES = 15,
    REQUEST_SET_PROTOCOL_FEATURES = 16,
    REQUEST_GET_QUEUE_NUM = 17,
    REQUEST_SET_VRING_ENABLE = 18,
    REQUEST_SEND_RARP = 19,
    REQUEST_NET_SET_MTU = 20,
    REQUEST_SET_STATUS = 39,
    REQUEST_GET_STATUS = 40,
};

struct vhost_message {
    uint32_t request;
    uint32_t flags;
    uint32_t size; // bytes of payload
    union {
        uint64_t u64;
        struct vhost_vring_state state;
        struct vhost_vring_addr addr;
        struct {
            uint64_t size, offset;
        } log;
        uint8_t mac[6];
    } payload;
} __attribute__((packed));

struct vhost_message_rule {
    uint16_t request;
    uint16_t size; // bytes of payload that the library will read
    // Where the payload names a ring, so that it can be checked.
    enum { RING_NONE, RING_IN_STATE, RING_IN_ADDR, RING_IN_U64 } ring;
    bool changes; // what an attachment describes: detach before the library handles it
    const char *name;
};

// Finds the message's rule. Returns NULL for one that we refuse, with the
// reason in reason (size bytes): a request that we never offered, a payload
// that is too short, a ring that doesn't exist.
const struct vhost_message_rule *vhost_message_check(const struct vhost_message *message, unsigned rings, char *reason,
                                                     size_t reason_size);

// The ring that the message is about; only for rules with a ring.
unsigned vhost_message_ring(const struct vhost_message *message, const struct vhost_message_rule *rule);

// For a SET_MEM_TABLE: true if the library will be able to map its regions. It
// unmaps the old ones first, and when it fails at a new one it loses that one's
// descriptor, again with each message. context: what its handler got.
bool vhost_message_can_map(const void *context);

// Takes the one file descriptor that came with a message that we handle in the
// library's place. It is the caller's. Returns -1 if there isn't just one. Turns
// the message into a reply without payload.
int vhost_message_take(void *context);

// Makes the message its own answer, with a number as payload, for the library to
// send; what descriptors it came with are closed. context: what its handler got.
void vhost_message_answer(void *context, uint64_t number);

// Closes the file descriptors that came with a message that we refuse: the
// library leaves that to the one who refuses. context: what its handler got.
void vhost_message_close(void *context);

#endif
