// SPDX-License-Identifier: BSD-3-Clause

#include "vhost_message.h"

#include <rte_version.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

// The library handles more than this, whatever was negotiated: in-flight
// tables whose counts it believes, post-copy that lets a front end stop us at
// any memory access, IOTLB updates. What we don't offer doesn't reach it, nor
// does the dirty log, which is ours (guest_log.h).
static const struct vhost_message_rule rules[] = {
    {REQUEST_GET_FEATURES, 0, RING_NONE, false, "GET_FEATURES"},
    {REQUEST_SET_FEATURES, 8, RING_NONE, true, "SET_FEATURES"},
    {REQUEST_SET_OWNER, 0, RING_NONE, false, "SET_OWNER"},
    {REQUEST_RESET_OWNER, 0, RING_NONE, true, "RESET_OWNER"},
    {REQUEST_SET_MEM_TABLE, 8, RING_NONE, true, "SET_MEM_TABLE"},
    {REQUEST_SET_LOG_BASE, 16, RING_NONE, true, "SET_LOG_BASE"},
    {REQUEST_SET_VRING_NUM, 8, RING_IN_STATE, true, "SET_VRING_NUM"},
    {REQUEST_SET_VRING_ADDR, 40, RING_IN_ADDR, true, "SET_VRING_ADDR"},
    {REQUEST_SET_VRING_BASE, 8, RING_IN_STATE, true, "SET_VRING_BASE"},
    {REQUEST_GET_VRING_BASE, 8, RING_IN_STATE, true, "GET_VRING_BASE"},
    {REQUEST_SET_VRING_KICK, 8, RING_IN_U64, true, "SET_VRING_KICK"},
    {REQUEST_SET_VRING_CALL, 8, RING_IN_U64, true, "SET_VRING_CALL"},
    {REQUEST_SET_VRING_ERR, 8, RING_IN_U64, false, "SET_VRING_ERR"},
    {REQUEST_GET_PROTOCOL_FEATURES, 0, RING_NONE, false, "GET_PROTOCOL_FEATURES"},
    {REQUEST_SET_PROTOCOL_FEATURES, 8, RING_NONE, false, "SET_PROTOCOL_FEATURES"},
    {REQUEST_GET_QUEUE_NUM, 0, RING_NONE, false, "GET_QUEUE_NUM"},
    {REQUEST_NET_SET_MTU, 8, RING_NONE, false, "NET_SET_MTU"},
    {REQUEST_SET_VRING_ENABLE, 8, RING_IN_STATE, true, "SET_VRING_ENABLE"},
    {REQUEST_SEND_RARP, 8, RING_NONE, true, "SEND_RARP"},
    {REQUEST_SET_STATUS, 8, RING_NONE, false, "SET_STATUS"},
    {REQUEST_GET_STATUS, 0, RING_NONE, false, "GET_STATUS"},
};

enum { MEMORY_HEADER = 8, MEMORY_REGION = 32, MEMORY_REGIONS = 8 };

unsigned vhost_message_ring(const struct vhost_message *message, const struct vhost_message_rule *rule)
{
    switch (rule->ring) {
    case RING_IN_STATE:
        return message->payload.state.index;
    case RING_IN_ADDR:
        return message->payload.addr.index;
    case RING_IN_U64:
        return message->payload.u64 & 0xff; // the other bits: "no file descriptor"
    default:
        return 0;
    }
}

const struct vhost_message_rule *vhost_message_check(const struct vhost_message *message, unsigned rings, char *reason,
                                                     size_t reason_size)
{
    const struct vhost_message_rule *rule = NULL;
    uint32_t size;

    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]) && rule == NULL; i++) {
        if (rules[i].request == message->request)
            rule = &rules[i];
    }
    if (rule == NULL) {
        snprintf(reason, reason_size, "request %u is not supported", message->request);
        return NULL;
    }
    // The library believes the request, not the size: it would read what an
    // earlier message left.
    size = rule->size;
    if (rule->request == REQUEST_SET_MEM_TABLE && message->size >= size) {
        uint32_t regions;

        memcpy(&regions, &message->payload, sizeof(regions));
        if (regions <= MEMORY_REGIONS) // more are the library's to refuse
            size = MEMORY_HEADER + regions * MEMORY_REGION;
    }
    if (message->size < size) {
        snprintf(reason, reason_size, "%s with %u bytes of payload instead of %u", rule->name, message->size, size);
        return NULL;
    }
    if (rule->ring != RING_NONE && vhost_message_ring(message, rule) >= rings) {
        snprintf(reason, reason_size, "%s for ring %u; there are %u", rule->name, vhost_message_ring(message, rule),
                 rings);
        return NULL;
    }
    return rule;
}

// The handlers get a struct vhu_msg_context that no public header has: the
// message with its largest payload, the descriptors and their number, packed.
// DPDK's lib/vhost/vhost_user.h says that handlers rely on it; the largest
// payload (a crypto session's) has grown once.
#if RTE_VERSION >= RTE_VERSION_NUM(25, 3, 0, 0)
enum { PAYLOAD_SIZE = 1072 };
#else
enum { PAYLOAD_SIZE = 632 };
#endif
enum { MESSAGE_HEADER = 12, MESSAGE_FDS = 8 };

struct descriptors {
    int fds[MESSAGE_FDS];
    int count;
};

// Copies the descriptors of a message. The library fills the unused ones with
// -1. If that isn't what is here, this isn't the structure that we know: false.
static bool read_descriptors(const void *context, struct descriptors *copy)
{
    memcpy(copy, (const char *)context + MESSAGE_HEADER + PAYLOAD_SIZE, sizeof(*copy));
    if (copy->count < 0 || copy->count > MESSAGE_FDS)
        return false;
    for (int i = 0; i < MESSAGE_FDS; i++) {
        if ((copy->fds[i] >= 0) != (i < copy->count))
            return false;
    }
    return true;
}

int vhost_message_take(void *context)
{
    const uint32_t no_payload = 0;
    struct descriptors copy;
    int fd;

    if (!read_descriptors(context, &copy) || copy.count != 1)
        return -1;
    fd = copy.fds[0];
    copy.fds[0] = -1;
    copy.count = 0;
    memcpy((char *)context + MESSAGE_HEADER + PAYLOAD_SIZE, &copy, sizeof(copy));
    memcpy((char *)context + offsetof(struct vhost_message, size), &no_payload, sizeof(no_payload));
    return fd;
}

void vhost_message_close(void *context)
{
    struct descriptors copy;

    // A leak is better than closing somebody else's descriptor.
    if (!read_descriptors(context, &copy))
        return;
    for (int i = 0; i < copy.count; i++) {
        close(copy.fds[i]);
        copy.fds[i] = -1;
    }
    copy.count = 0;
    memcpy((char *)context + MESSAGE_HEADER + PAYLOAD_SIZE, &copy, sizeof(copy));
}

void vhost_message_answer(void *context, uint64_t number)
{
    struct vhost_message message;

    vhost_message_close(context);
    memcpy(&message, context, sizeof(message));
    message.size = sizeof(number);
    message.payload.u64 = number;
    memcpy(context, &message, sizeof(message));
}

struct memory_region {
    uint64_t guest, size, user, offset;
};

struct mapping {
    void *start;
    uint64_t size;
};

// Maps a region as the library will.
static bool map(struct mapping *mapping, const struct memory_region *region, int fd)
{
    struct stat status;
    uint64_t size = region->size + region->offset;

    if (region->size == 0 || size < region->size || fstat(fd, &status) != 0)
        return false;
    if (status.st_blksize > 0)
        size = (size + (uint64_t)status.st_blksize - 1) / (uint64_t)status.st_blksize * (uint64_t)status.st_blksize;
    if (size == 0)
        return false;
    mapping->start = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    mapping->size = size;
    return mapping->start != MAP_FAILED;
}

bool vhost_message_can_map(const void *context)
{
    const char *payload = (const char *)context + MESSAGE_HEADER;
    struct mapping mappings[MEMORY_REGIONS];
    struct descriptors fds;
    uint32_t regions, mapped;

    memcpy(&regions, payload, sizeof(regions));
    if (!read_descriptors(context, &fds) || regions != (uint32_t)fds.count)
        return true; // the library refuses that by itself, before it does anything
    // All at once: each may fit where all of them don't.
    for (mapped = 0; mapped < regions; mapped++) {
        struct memory_region region;

        memcpy(&region, payload + MEMORY_HEADER + mapped * MEMORY_REGION, sizeof(region));
        if (!map(&mappings[mapped], &region, fds.fds[mapped]))
            break;
    }
    for (uint32_t i = 0; i < mapped; i++)
        munmap(mappings[i].start, mappings[i].size);
    return mapped == regions;
}
