// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TESTS_VIRTQUEUE_DRIVER_H
#define PATCHBAY_TESTS_VIRTQUEUE_DRIVER_H

// A guest in memory: regions with pages behind and before them that nobody may
// touch, a split or a packed ring, and a driver that can build any chain, right
// or wrong. driver_packed.c has what is different with a packed ring.
// It shares no code with the engine but the structs of linux/virtio_ring.h.
//
// The shadow is a second copy of all guest memory. A test lets the engine work
// on the guest, writes what it expects into the shadow, and compares all of
// both: whatever the engine wrote elsewhere is found, wherever it is.

#include "dataplane/virtqueue.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DRIVER_REGIONS_MAX = GUEST_MEMORY_REGIONS,
    DRIVER_CHAIN_MAX = 1024, // descriptors of one chain that a test may build
    // Where the guest's regions stand: the rings', then several that are
    // neighbours for the guest and far apart for us.
    DRIVER_RINGS_AT = 0x100000,
    DRIVER_BUFFERS_AT = 0x40000000,
};

enum driver_ring {
    RING_DEFAULT, // what PATCHBAY_TEST_RINGS says for this one; see driver_ring_next
    RING_SPLIT,
    RING_PACKED,
};

struct driver_options {
    enum driver_ring ring;
    uint16_t size;   // of the ring; 0: 256
    uint8_t hdr_len; // 0: 12
    uint16_t start;  // of both indices; of a packed ring modulo its size, the lap by its highest bit
    bool event_idx, no_indirect, mergeable, in_order;
    // Which of the free ids a packed ring's driver gives out: any, what came back last (as Linux does) or first (as
    // DPDK does).
    enum driver_ids { IDS_ANY, IDS_LAST, IDS_FIRST } ids;
    uint8_t offloads; // enum offload, as negotiated
    // Bytes of each of the buffer regions; 0: one of 1 MiB and one of 512 KiB.
    uint32_t buffers[DRIVER_REGIONS_MAX - 1];
};

struct driver_region {
    uint8_t *map; // with its guard pages
    size_t map_size;
    uint8_t *host;
    uint64_t guest;
    uint64_t size;
    uint8_t *shadow;
};

// One descriptor as a test writes it down.
struct driver_piece {
    uint64_t address;
    uint32_t len;
    uint16_t flags; // NEXT is added by driver_add
};

struct driver {
    struct driver_options options;
    struct driver_region regions[DRIVER_REGIONS_MAX];
    unsigned region_count;
    struct guest_memory memory; // as the engine gets it
    struct virtqueue vq;        // the engine's

    // The driver's own.
    struct vring_desc *desc;
    struct vring_avail *avail;
    struct vring_used *used;
    uint16_t size;
    uint16_t avail_idx; // next entry to fill; visible after driver_publish
    uint16_t used_idx;  // next used entry to take
    uint16_t expect_used_idx;
    uint16_t *free;
    uint32_t free_count;
    uint16_t *chain_descs; // by head: how many of the ring's descriptors its chain has
    uint16_t *chain_list;  // by head × 64: which they are
    // Of a packed ring: where the driver goes on, in what lap, and where it and
    // the test expect the next used descriptor. chain_descs is by buffer id.
    struct driver_packed {
        struct vring_packed_desc *ring;
        struct vring_packed_desc_event *driver_event, *device_event;
        uint32_t next, used, expect;
        bool next_wrap, used_wrap, expect_wrap;
        uint16_t *ids; // free ones
        uint32_t id_count;
        // Heads that driver_publish is to make available: where, and their flags.
        struct driver_head {
            uint32_t at;
            uint16_t flags;
        } * heads;
        uint32_t head_count;
    } packed;
    uint64_t alloc_next; // bump allocator of the buffers
    uint64_t alloc_end;
};

void driver_open(struct driver *driver, const struct driver_options *options);
// What kind of ring the next driver gets that doesn't say: PATCHBAY_TEST_RINGS
// is "split" (the default), "packed", or "split,packed" for one after the other.
enum driver_ring driver_ring_next(void);
void driver_close(struct driver *driver);

// Adds a region, to the engine's view too. at is a guest address.
void driver_region_add(struct driver *driver, uint64_t at, uint64_t size);

// Host address of guest memory, or NULL; its own translation, for one byte.
uint8_t *driver_at(const struct driver *driver, uint64_t address);
void driver_write(struct driver *driver, uint64_t address, const void *data, size_t len);
void driver_read(const struct driver *driver, uint64_t address, void *data, size_t len);

// Guest memory for a buffer, with a gap of 16 bytes behind it. Starts over at
// the end: what was given out is then in use again.
uint64_t driver_alloc(struct driver *driver, uint32_t len);

enum driver_layout {
    LAYOUT_DIRECT,
    LAYOUT_INDIRECT,
    LAYOUT_MIXED, // the first half direct, the rest in an indirect table behind it
};

// How many of the ring's descriptors such a chain takes.
unsigned driver_descs_needed(unsigned count, enum driver_layout layout);

// Builds a chain and makes it the next available one (not yet visible).
// Returns its head. The descriptors must be free.
uint16_t driver_add(struct driver *driver, const struct driver_piece *pieces, unsigned count,
                    enum driver_layout layout);
// A chain of one descriptor.
uint16_t driver_add_one(struct driver *driver, uint64_t address, uint32_t len, uint16_t flags);
// Puts any head into the available ring.
void driver_offer(struct driver *driver, uint16_t head);
void driver_publish(struct driver *driver);

// Takes the next used element; false: none. Frees its descriptors.
bool driver_take(struct driver *driver, uint16_t *head, uint32_t *len);

// What driver.c leaves to driver_packed.c.
void driver_packed_open(struct driver *driver, uint8_t *ring, uint8_t *driver_event, uint8_t *device_event);
void driver_packed_close(struct driver *driver);
uint64_t driver_packed_table(struct driver *driver, const struct driver_piece *pieces, unsigned count);
uint16_t driver_packed_add(struct driver *driver, const struct driver_piece *pieces, unsigned count,
                           enum driver_layout layout);
void driver_packed_publish(struct driver *driver);
bool driver_packed_take(struct driver *driver, uint16_t *id, uint32_t *len);
void driver_packed_shadow_use(struct driver *driver, uint16_t id, uint32_t len);
// Memory for an indirect table of size bytes.
uint64_t driver_table_alloc(struct driver *driver, uint32_t size);

// The shadow: as the guest is now; what is expected; and the comparison, which
// fails the test at the first difference.
void driver_shadow_sync(struct driver *driver);
void driver_shadow_write(struct driver *driver, uint64_t address, const void *data, size_t len);
void driver_shadow_use(struct driver *driver, uint16_t head, uint32_t len);
void driver_shadow_check(const struct driver *driver);
// What the driver has taken is what was expected so far.
void driver_shadow_catch_up(struct driver *driver);

// All of the frame's bytes, as the engine gave them.
void frame_gather(const struct burst *burst, const struct frame *frame, uint8_t *to);
// Every view of the burst lies inside of the guest's memory.
void driver_check_views(const struct driver *driver, const struct burst *burst);

// Random numbers that a printed seed brings back.
struct dice {
    uint64_t state;
};
void dice_open(struct dice *dice, const char *what);
uint32_t dice_below(struct dice *dice, uint32_t limit); // 0 … limit - 1
uint64_t dice_u64(struct dice *dice);
void dice_fill(struct dice *dice, void *to, size_t len);

#endif
