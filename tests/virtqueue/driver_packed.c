// SPDX-License-Identifier: BSD-3-Clause
#include "driver.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { AVAIL = 1 << VRING_PACKED_DESC_F_AVAIL, USED = 1 << VRING_PACKED_DESC_F_USED };

void driver_packed_open(struct driver *driver, uint8_t *ring, uint8_t *driver_event, uint8_t *device_event)
{
    struct driver_packed *packed = &driver->packed;
    uint32_t size = driver->size;
    bool wrap = !(driver->options.start & 0x8000);

    packed->ring = (void *)ring;
    packed->driver_event = (void *)driver_event;
    packed->device_event = (void *)device_event;
    packed->next = packed->used = packed->expect = driver->options.start % size;
    packed->next_wrap = packed->used_wrap = packed->expect_wrap = wrap;
    // As the device leaves it: used in this lap up to here, in the one before behind.
    for (uint32_t i = 0; i < size; i++)
        packed->ring[i].flags = (i < packed->next) == wrap ? AVAIL | USED : 0;
    packed->ids = calloc(size, sizeof(*packed->ids));
    packed->heads = calloc(size, sizeof(*packed->heads));
    assert_true(packed->ids != NULL && packed->heads != NULL);
    for (uint32_t i = 0; i < size; i++)
        packed->ids[packed->id_count++] = (uint16_t)(size - 1 - i);
    driver->vq.packed = true;
    driver->vq.ring = packed->ring;
    driver->vq.driver_event = packed->driver_event;
    driver->vq.device_event = packed->device_event;
    driver->vq.next = (uint16_t)packed->next;
    driver->vq.wrap = wrap;
    driver->desc = NULL;
    driver->avail = NULL;
}

void driver_packed_close(struct driver *driver)
{
    free(driver->packed.ids);
    free(driver->packed.heads);
}

static void advance(const struct driver *driver, uint32_t *place, bool *wrap, uint32_t by)
{
    *place += by;
    if (*place >= driver->size) {
        *place -= driver->size;
        *wrap = !*wrap;
    }
}

// An indirect table; all but WRITE of its flags, and its ids, are rubbish that
// the device is to ignore (virtio 1.2, 2.8.19).
uint64_t driver_packed_table(struct driver *driver, const struct driver_piece *pieces, unsigned count)
{
    uint64_t at = driver_table_alloc(driver, count * 16);
    struct vring_packed_desc table[DRIVER_CHAIN_MAX];

    for (unsigned i = 0; i < count; i++)
        table[i] = (struct vring_packed_desc){
            .addr = pieces[i].address,
            .len = pieces[i].len,
            .id = (uint16_t)(0xdead + i),
            .flags = (uint16_t)((pieces[i].flags & VRING_DESC_F_WRITE) | (i % 2 ? VRING_DESC_F_NEXT : 0) |
                                (i % 3 ? AVAIL : USED) | (i % 5 == 4 ? VRING_DESC_F_INDIRECT : 0)),
        };
    driver_write(driver, at, table, count * sizeof(table[0]));
    return at;
}

uint16_t driver_packed_add(struct driver *driver, const struct driver_piece *pieces, unsigned count,
                           enum driver_layout layout)
{
    struct driver_packed *packed = &driver->packed;
    // Nothing may follow a table in a chain, or come before it.
    unsigned needed = layout == LAYOUT_DIRECT ? count : 1;
    struct driver_piece table;
    uint32_t pick;
    uint16_t id;

    assert_true(count > 0 && count <= DRIVER_CHAIN_MAX && needed <= driver->free_count && packed->id_count > 0);
    if (layout != LAYOUT_DIRECT) {
        table = (struct driver_piece){driver_packed_table(driver, pieces, count), count * 16, VRING_DESC_F_INDIRECT};
        pieces = &table;
    }
    // Any of the free ones: ids say nothing of the order.
    pick = driver->options.ids == IDS_LAST    ? packed->id_count - 1
           : driver->options.ids == IDS_FIRST ? 0
                                              : packed->next * 7 % packed->id_count;
    id = packed->ids[pick];
    packed->id_count--;
    if (driver->options.ids == IDS_FIRST)
        memmove(packed->ids, packed->ids + 1, packed->id_count * sizeof(*packed->ids));
    else
        packed->ids[pick] = packed->ids[packed->id_count];
    driver->chain_descs[id] = (uint16_t)needed;
    driver->free_count -= needed;
    for (unsigned i = 0; i < needed; i++) {
        struct vring_packed_desc *desc = &packed->ring[packed->next];
        uint16_t flags =
            pieces[i].flags | (i + 1 < needed ? VRING_DESC_F_NEXT : 0) | (packed->next_wrap ? AVAIL : USED);

        desc->addr = pieces[i].address;
        desc->len = pieces[i].len;
        // Only the last one's id counts (virtio 1.2, 2.8.6).
        desc->id = i + 1 < needed ? 0xbeef : id;
        if (i > 0)
            __atomic_store_n(&desc->flags, flags, __ATOMIC_RELAXED);
        else
            packed->heads[packed->head_count++] = (struct driver_head){packed->next, flags};
        advance(driver, &packed->next, &packed->next_wrap, 1);
    }
    return id;
}

void driver_packed_publish(struct driver *driver)
{
    struct driver_packed *packed = &driver->packed;

    // The first last, so that the device sees all of them or none.
    while (packed->head_count > 0) {
        const struct driver_head *head = &packed->heads[--packed->head_count];

        __atomic_store_n(&packed->ring[head->at].flags, head->flags, __ATOMIC_RELEASE);
    }
}

bool driver_packed_take(struct driver *driver, uint16_t *id, uint32_t *len)
{
    struct driver_packed *packed = &driver->packed;
    const struct vring_packed_desc *desc = &packed->ring[packed->used];
    uint16_t flags = __atomic_load_n(&desc->flags, __ATOMIC_ACQUIRE);

    if ((flags & (AVAIL | USED)) != (packed->used_wrap ? AVAIL | USED : 0))
        return false;
    *id = desc->id;
    *len = flags & VRING_DESC_F_WRITE ? desc->len : 0;
    assert_true(*id < driver->size && driver->chain_descs[*id] > 0);
    advance(driver, &packed->used, &packed->used_wrap, driver->chain_descs[*id]);
    driver->free_count += driver->chain_descs[*id];
    driver->chain_descs[*id] = 0;
    packed->ids[packed->id_count++] = *id;
    return true;
}

void driver_packed_shadow_use(struct driver *driver, uint16_t id, uint32_t len)
{
    struct driver_packed *packed = &driver->packed;
    struct vring_packed_desc *shadow =
        (void *)(driver->regions[0].shadow + ((uint8_t *)packed->ring - driver->regions[0].host));
    struct vring_packed_desc *desc = &shadow[packed->expect];

    assert_true(id < driver->size && driver->chain_descs[id] > 0);
    desc->id = id;
    desc->len = len;
    desc->flags = (packed->expect_wrap ? AVAIL | USED : 0) | (len > 0 ? VRING_DESC_F_WRITE : 0) |
                  (driver->chain_descs[id] > 1 ? VRING_DESC_F_NEXT : 0);
    advance(driver, &packed->expect, &packed->expect_wrap, driver->chain_descs[id]);
}
