// SPDX-License-Identifier: BSD-3-Clause
#include "driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { CHAIN_LIST = 64, RING_GAP = 64 };

static void *must(void *memory)
{
    assert_non_null(memory);
    return memory;
}

void driver_region_add(struct driver *driver, uint64_t at, uint64_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (size + page - 1) / page * page;
    struct driver_region *region = &driver->regions[driver->region_count];
    unsigned place = 0;

    assert_true(driver->region_count < DRIVER_REGIONS_MAX);
    region->map_size = room + 2 * page;
    region->map = mmap(NULL, region->map_size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(region->map != MAP_FAILED);
    assert_int_equal(0, mprotect(region->map + page, room, PROT_READ | PROT_WRITE));
    // Its end is a page's end, so that the first byte behind it is out of bounds.
    region->host = region->map + page + (room - size);
    region->guest = at;
    region->size = size;
    region->shadow = must(malloc(size));
    memset(region->host, 0xa5, size);
    driver->region_count++;

    // The engine wants the largest first.
    while (place < driver->memory.count && driver->memory.regions[place].size >= size)
        place++;
    memmove(&driver->memory.regions[place + 1], &driver->memory.regions[place],
            (driver->memory.count - place) * sizeof(driver->memory.regions[0]));
    driver->memory.regions[place] =
        (struct guest_region){.guest = at, .size = size, .offset = (uint64_t)(uintptr_t)region->host - at};
    driver->memory.count++;
}

static uint32_t round_up(uint32_t value)
{
    return (value + RING_GAP - 1) / RING_GAP * RING_GAP;
}

enum driver_ring driver_ring_next(void)
{
    static const char *at;
    const char *rings = getenv("PATCHBAY_TEST_RINGS");

    if (rings == NULL)
        return RING_SPLIT;
    if (at == NULL || *at == '\0')
        at = rings;
    for (unsigned kind = RING_SPLIT; kind <= RING_PACKED; kind++) {
        const char *name = kind == RING_SPLIT ? "split" : "packed";

        if (strncmp(at, name, strlen(name)) == 0) {
            at += strlen(name);
            at += *at == ',';
            return (enum driver_ring)kind;
        }
    }
    fail_msg("PATCHBAY_TEST_RINGS=%s: it is made of split and packed", rings);
    return RING_DEFAULT;
}

void driver_open(struct driver *driver, const struct driver_options *options)
{
    uint32_t size, desc_size, avail_size, used_size;
    uint64_t at = DRIVER_BUFFERS_AT;

    memset(driver, 0, sizeof(*driver));
    driver->options = *options;
    if (options->ring == RING_DEFAULT)
        driver->options.ring = driver_ring_next();
    driver->size = options->size != 0 ? options->size : 256;
    size = driver->size;
    desc_size = round_up(16 * size);
    avail_size = round_up(6 + 2 * size);
    used_size = round_up(6 + 8 * size);

    driver_region_add(driver, DRIVER_RINGS_AT, desc_size + avail_size + used_size);
    if (options->buffers[0] == 0) {
        driver_region_add(driver, at, 1 << 20);
        driver_region_add(driver, at + (1 << 20), 1 << 19);
        at += (1 << 20) + (1 << 19);
    } else {
        for (unsigned i = 0; i < DRIVER_REGIONS_MAX - 1 && options->buffers[i] != 0; i++) {
            driver_region_add(driver, at, options->buffers[i]);
            at += options->buffers[i];
        }
    }
    driver->alloc_next = DRIVER_BUFFERS_AT;
    driver->alloc_end = at;

    driver->desc = (void *)driver->regions[0].host;
    driver->avail = (void *)(driver->regions[0].host + desc_size);
    driver->used = (void *)(driver->regions[0].host + desc_size + avail_size);
    memset(driver->regions[0].host, 0, desc_size + avail_size + used_size);
    if (driver->options.ring == RING_SPLIT)
        driver->avail->idx = driver->used->idx = options->start;
    driver->avail_idx = driver->used_idx = driver->expect_used_idx = options->start;
    driver->free = must(calloc(size, sizeof(*driver->free)));
    driver->chain_descs = must(calloc(size, sizeof(*driver->chain_descs)));
    driver->chain_list = must(calloc((size_t)size * CHAIN_LIST, sizeof(*driver->chain_list)));
    for (uint32_t i = 0; i < size; i++)
        driver->free[driver->free_count++] = (uint16_t)(size - 1 - i);

    driver->vq = (struct virtqueue){
        .desc = driver->desc,
        .avail = driver->avail,
        .used = driver->used,
        .memory = &driver->memory,
        .size = driver->size,
        .hdr_len = options->hdr_len != 0 ? options->hdr_len : 12,
        .event_idx = options->event_idx,
        .indirect = !options->no_indirect,
        .mergeable = options->mergeable,
        .offloads = options->offloads,
        .enabled = true,
        .kick_fd = -1,
        .call_fd = -1,
        .last_avail = options->start,
        .last_used = options->start,
        .in_order = options->in_order,
    };
    if (driver->options.ring == RING_PACKED)
        driver_packed_open(driver, (uint8_t *)driver->desc, (uint8_t *)driver->avail, (uint8_t *)driver->used);
}

void driver_close(struct driver *driver)
{
    for (unsigned i = 0; i < driver->region_count; i++) {
        munmap(driver->regions[i].map, driver->regions[i].map_size);
        free(driver->regions[i].shadow);
    }
    driver_packed_close(driver);
    free(driver->free);
    free(driver->chain_descs);
    free(driver->chain_list);
    memset(driver, 0, sizeof(*driver));
}

static const struct driver_region *region_of(const struct driver *driver, uint64_t address)
{
    for (unsigned i = 0; i < driver->region_count; i++)
        if (address >= driver->regions[i].guest && address - driver->regions[i].guest < driver->regions[i].size)
            return &driver->regions[i];
    return NULL;
}

uint8_t *driver_at(const struct driver *driver, uint64_t address)
{
    const struct driver_region *region = region_of(driver, address);

    return region == NULL ? NULL : region->host + (address - region->guest);
}

// How much of [address, address + len) is in one piece.
static size_t stretch(const struct driver_region *region, uint64_t address, size_t len)
{
    uint64_t left = region->size - (address - region->guest);

    return left < len ? left : len;
}

void driver_write(struct driver *driver, uint64_t address, const void *data, size_t len)
{
    const uint8_t *from = data;

    while (len > 0) {
        const struct driver_region *region = region_of(driver, address);

        assert_non_null(region);
        size_t part = stretch(region, address, len);

        memcpy(region->host + (address - region->guest), from, part);
        address += part;
        from += part;
        len -= part;
    }
}

void driver_read(const struct driver *driver, uint64_t address, void *data, size_t len)
{
    uint8_t *to = data;

    while (len > 0) {
        const struct driver_region *region = region_of(driver, address);

        assert_non_null(region);
        size_t part = stretch(region, address, len);

        memcpy(to, region->host + (address - region->guest), part);
        address += part;
        to += part;
        len -= part;
    }
}

uint64_t driver_alloc(struct driver *driver, uint32_t len)
{
    uint64_t at;

    if (driver->alloc_end - driver->alloc_next < len + 16)
        driver->alloc_next = DRIVER_BUFFERS_AT;
    at = driver->alloc_next;
    assert_true(driver->alloc_end - at >= len + 16);
    driver->alloc_next += len + 16;
    return at;
}

unsigned driver_descs_needed(unsigned count, enum driver_layout layout)
{
    switch (layout) {
    case LAYOUT_INDIRECT:
        return 1;
    case LAYOUT_MIXED:
        return count / 2 + 1;
    default:
        return count;
    }
}

// Memory for an indirect table: in one region, as the engine wants it (no
// allocator of a kernel gives out pieces across two).
uint64_t driver_table_alloc(struct driver *driver, uint32_t size)
{
    for (;;) {
        uint64_t at = driver_alloc(driver, size) + 1; // any alignment is allowed
        const struct driver_region *region = region_of(driver, at);

        if (stretch(region, at, size) == size)
            return at;
    }
}

// Writes an indirect table of the pieces; its entries stand in a shuffled order.
static uint64_t table_write(struct driver *driver, const struct driver_piece *pieces, unsigned count)
{
    uint64_t at = driver_table_alloc(driver, count * 16);
    struct vring_desc table[DRIVER_CHAIN_MAX];

    // The first stays the first, the others go backwards.
    for (unsigned i = 0; i < count; i++) {
        unsigned place = i == 0 ? 0 : count - i;
        unsigned next = count - i - 1;

        table[place] = (struct vring_desc){
            .addr = pieces[i].address,
            .len = pieces[i].len,
            .flags = pieces[i].flags | (i + 1 < count ? VRING_DESC_F_NEXT : 0),
            .next = i + 1 < count ? (uint16_t)next : 0xdead,
        };
    }
    driver_write(driver, at, table, count * sizeof(table[0]));
    return at;
}

uint16_t driver_add(struct driver *driver, const struct driver_piece *pieces, unsigned count, enum driver_layout layout)
{
    unsigned direct = layout == LAYOUT_DIRECT ? count : layout == LAYOUT_MIXED ? count / 2 : 0;
    unsigned needed = driver_descs_needed(count, layout);
    uint16_t list[DRIVER_CHAIN_MAX];

    if (driver->vq.packed)
        return driver_packed_add(driver, pieces, count, layout);
    assert_true(count > 0 && count <= DRIVER_CHAIN_MAX && needed <= driver->free_count);
    for (unsigned i = 0; i < needed; i++)
        list[i] = driver->free[--driver->free_count];
    for (unsigned i = 0; i < direct; i++)
        driver->desc[list[i]] = (struct vring_desc){
            .addr = pieces[i].address,
            .len = pieces[i].len,
            .flags = pieces[i].flags | (i + 1 < needed ? VRING_DESC_F_NEXT : 0),
            .next = i + 1 < needed ? list[i + 1] : 0xbeef,
        };
    if (layout != LAYOUT_DIRECT)
        driver->desc[list[direct]] = (struct vring_desc){
            .addr = table_write(driver, pieces + direct, count - direct),
            .len = (count - direct) * 16,
            .flags = VRING_DESC_F_INDIRECT,
        };
    driver->chain_descs[list[0]] = (uint16_t)needed;
    for (unsigned i = 0; i < needed && i < CHAIN_LIST; i++)
        driver->chain_list[list[0] * CHAIN_LIST + i] = list[i];
    driver_offer(driver, list[0]);
    return list[0];
}

uint16_t driver_add_one(struct driver *driver, uint64_t address, uint32_t len, uint16_t flags)
{
    return driver_add(driver, &(struct driver_piece){address, len, flags}, 1, LAYOUT_DIRECT);
}

void driver_offer(struct driver *driver, uint16_t head)
{
    driver->avail->ring[driver->avail_idx & (driver->size - 1)] = head;
    driver->avail_idx++;
}

void driver_publish(struct driver *driver)
{
    if (driver->vq.packed) {
        driver_packed_publish(driver);
        return;
    }
    __atomic_store_n(&driver->avail->idx, driver->avail_idx, __ATOMIC_RELEASE);
}

bool driver_take(struct driver *driver, uint16_t *head, uint32_t *len)
{
    const struct vring_used_elem *elem;

    if (driver->vq.packed)
        return driver_packed_take(driver, head, len);
    if (__atomic_load_n(&driver->used->idx, __ATOMIC_ACQUIRE) == driver->used_idx)
        return false;
    elem = &driver->used->ring[driver->used_idx & (driver->size - 1)];
    driver->used_idx++;
    assert_true(elem->id < driver->size);
    *head = (uint16_t)elem->id;
    *len = elem->len;
    // Chains longer than the list are a test's own affair: it doesn't reuse them.
    if (driver->chain_descs[*head] <= CHAIN_LIST)
        for (unsigned i = 0; i < driver->chain_descs[*head]; i++)
            driver->free[driver->free_count++] = driver->chain_list[*head * CHAIN_LIST + i];
    driver->chain_descs[*head] = 0;
    return true;
}

void driver_shadow_sync(struct driver *driver)
{
    for (unsigned i = 0; i < driver->region_count; i++)
        memcpy(driver->regions[i].shadow, driver->regions[i].host, driver->regions[i].size);
}

void driver_shadow_write(struct driver *driver, uint64_t address, const void *data, size_t len)
{
    const uint8_t *from = data;

    while (len > 0) {
        const struct driver_region *region = region_of(driver, address);

        assert_non_null(region);
        size_t part = stretch(region, address, len);

        memcpy(region->shadow + (address - region->guest), from, part);
        address += part;
        from += part;
        len -= part;
    }
}

// The used ring's place in the shadow.
static struct vring_used *shadow_used(const struct driver *driver)
{
    return (void *)(driver->regions[0].shadow + ((uint8_t *)driver->used - driver->regions[0].host));
}

void driver_shadow_use(struct driver *driver, uint16_t head, uint32_t len)
{
    struct vring_used *used = shadow_used(driver);

    if (driver->vq.packed) {
        driver_packed_shadow_use(driver, head, len);
        return;
    }
    used->ring[driver->expect_used_idx & (driver->size - 1)] = (struct vring_used_elem){.id = head, .len = len};
    used->idx = ++driver->expect_used_idx;
}

void driver_shadow_catch_up(struct driver *driver)
{
    driver->expect_used_idx = driver->used_idx;
    driver->packed.expect = driver->packed.used;
    driver->packed.expect_wrap = driver->packed.used_wrap;
}

void driver_shadow_check(const struct driver *driver)
{
    for (unsigned i = 0; i < driver->region_count; i++) {
        const struct driver_region *region = &driver->regions[i];

        if (memcmp(region->shadow, region->host, region->size) == 0)
            continue;
        for (uint64_t j = 0; j < region->size; j++)
            if (region->shadow[j] != region->host[j])
                fail_msg("region %u (guest %#lx): byte %#lx is %#x, expected %#x; used ring from %#lx", i,
                         (unsigned long)region->guest, (unsigned long)j, region->host[j], region->shadow[j],
                         (unsigned long)((uint8_t *)driver->used - driver->regions[0].host));
    }
}

void frame_gather(const struct burst *burst, const struct frame *frame, uint8_t *to)
{
    uint32_t sum = frame->data_len;

    memcpy(to, frame->data, frame->data_len);
    to += frame->data_len;
    for (uint16_t i = 0; i + 1 < frame->segment_count; i++) {
        const struct frame_segment *segment = &burst->segments[frame->segment_first + i];

        memcpy(to, segment->data, segment->len);
        to += segment->len;
        sum += segment->len;
    }
    assert_int_equal(sum, frame->len);
}

static void check_view(const struct driver *driver, const uint8_t *data, uint32_t len)
{
    assert_true(len > 0);
    for (unsigned i = 0; i < driver->region_count; i++) {
        const struct driver_region *region = &driver->regions[i];

        if (data >= region->host && data < region->host + region->size &&
            len <= (size_t)(region->host + region->size - data))
            return;
    }
    fail_msg("a view lies outside of the guest's memory");
}

void driver_check_views(const struct driver *driver, const struct burst *burst)
{
    assert_true(burst->count <= LIMIT_BURST_FRAMES);
    assert_true(burst->segment_count <= LIMIT_BURST_SEGMENTS);
    for (uint16_t i = 0; i < burst->count; i++) {
        const struct frame *frame = &burst->frames[i];
        uint32_t sum = frame->data_len;

        assert_true(frame->segment_count >= 1);
        assert_in_range(frame->len, LIMIT_FRAME_MIN, driver->options.offloads ? LIMIT_FRAME_GSO_MAX : LIMIT_FRAME_MAX);
        assert_null(frame->mbuf);
        check_view(driver, frame->data, frame->data_len);
        for (uint16_t j = 0; j + 1 < frame->segment_count; j++) {
            assert_true(frame->segment_first + j < burst->segment_count);
            check_view(driver, burst->segments[frame->segment_first + j].data,
                       burst->segments[frame->segment_first + j].len);
            sum += burst->segments[frame->segment_first + j].len;
        }
        assert_int_equal(sum, frame->len);
    }
}

void dice_open(struct dice *dice, const char *what)
{
    const char *seed = getenv("PATCHBAY_TEST_SEED");
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    dice->state = seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)now.tv_nsec << 20 ^ (uint64_t)now.tv_sec;
    if (dice->state == 0)
        dice->state = 1;
    print_message("%s: PATCHBAY_TEST_SEED=%#llx\n", what, (unsigned long long)dice->state);
}

uint64_t dice_u64(struct dice *dice)
{
    // xorshift64*.
    dice->state ^= dice->state >> 12;
    dice->state ^= dice->state << 25;
    dice->state ^= dice->state >> 27;
    return dice->state * UINT64_C(0x2545f4914f6cdd1d);
}

uint32_t dice_below(struct dice *dice, uint32_t limit)
{
    return (uint32_t)((dice_u64(dice) >> 32) * limit >> 32);
}

void dice_fill(struct dice *dice, void *to, size_t len)
{
    uint8_t *at = to;

    for (; len >= 8; at += 8, len -= 8) {
        uint64_t value = dice_u64(dice);

        memcpy(at, &value, 8);
    }
    for (; len > 0; len--)
        *at++ = (uint8_t)dice_u64(dice);
}
