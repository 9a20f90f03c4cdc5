// SPDX-License-Identifier: BSD-3-Clause
//
// All wires' sets become one array of entries. Only pointers are copied: the
// legs of wires that a change doesn't touch are the same in the next table.

#include "live_table.h"

#include "devices.h"
#include "live.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// Control thread only, kept from table to table. The entries of one vif are
// chained (index + 1, 0 ends), to see what is at a place already.
static struct table_entry *entries;
static uint32_t *chain;
static size_t count, room, late_count, monitor_count;
static const struct live_set **sets;
static size_t set_room;
static uint32_t heads[LIMIT_VIFS];

static bool is_free(vif_slot vif, uint16_t vlan)
{
    for (uint32_t i = heads[vif]; i != 0; i = chain[i - 1]) {
        uint16_t other = entries[i - 1].vlan;

        if (other == vlan || other == TABLE_ANY_VLAN || vlan == TABLE_ANY_VLAN)
            return false;
    }
    return true;
}

static void add_entry(const struct table_entry *entry)
{
    entries[count] = *entry;
    chain[count] = heads[entry->vif];
    heads[entry->vif] = (uint32_t)++count;
}

static bool make_room(size_t wanted)
{
    struct table_entry *larger;
    uint32_t *longer;

    if (wanted <= room)
        return true;
    wanted += wanted / 2;
    larger = realloc(entries, wanted * sizeof(*entries));
    if (larger != NULL)
        entries = larger;
    longer = realloc(chain, wanted * sizeof(*chain));
    if (longer != NULL)
        chain = longer;
    if (larger == NULL || longer == NULL)
        return false;
    room = wanted;
    return true;
}

static bool make_set_room(size_t wanted)
{
    const struct live_set **larger;

    if (wanted <= set_room)
        return true;
    wanted += wanted / 2;
    larger = reallocarray(sets, wanted, sizeof(*larger));
    if (larger == NULL)
        return false;
    sets = larger;
    set_room = wanted;
    return true;
}

static void add_legs(const struct live_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct live_item *item = &set->items[i];

        if (item->late)
            late_count++;
        else
            add_entry(
                &(struct table_entry){.vif = item->vif, .vlan = item->vlan, .held = item->held, .leg = item->handle});
    }
}

// Where a vif goes, or somebody else has the place by now, nobody can tell what is late.
static void add_late_legs(const struct live_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct live_item *item = &set->items[i];

        if (item->late && device_usable(item->vif) && is_free(item->vif, item->vlan))
            add_entry(&(struct table_entry){.vif = item->vif, .vlan = item->vlan, .leg = item->handle});
    }
}

static void add_monitors(const struct live_set *set)
{
    for (size_t i = 0; i < set->monitor_count; i++) {
        const struct compiled_monitor *monitor = &set->monitors[i];

        // A monitor of many Ts is entered once. One that was an arm a moment
        // ago is a monitor: an appliance that forwards still sends the copies
        // on that it gets, and nobody can tell these from frames that are late.
        if (is_free(monitor->vif, monitor->vlan))
            add_entry(&(struct table_entry){.vif = monitor->vif, .vlan = monitor->vlan, .monitor = true});
    }
}

// How far ahead memory is asked for: 10,000 wires don't stay in the cache
// between two tables, and waiting for each in turn would be most of the work.
enum { AHEAD = 16 };

static size_t find_sets(struct live_wire *const *wires, size_t wire_count)
{
    size_t wanted = 0;

    for (size_t i = 0; i < wire_count; i++) {
        if (i + AHEAD < wire_count)
            __builtin_prefetch(wires[i + AHEAD]);
        sets[i] = wires[i]->next != NULL ? wires[i]->next : wires[i]->now;
        __builtin_prefetch(sets[i]);
    }
    for (size_t i = 0; i < wire_count; i++) {
        if (i + AHEAD < wire_count)
            __builtin_prefetch(sets[i + AHEAD]);
        wanted += sets[i]->count + sets[i]->monitor_count;
        monitor_count += sets[i]->monitor_count;
    }
    return wanted;
}

struct wire_table *live_table_build(uint64_t generation)
{
    size_t wire_count;
    struct live_wire *const *wires = live_vector(&wire_count);

    count = late_count = monitor_count = 0;
    if (!make_set_room(wire_count) || !make_room(find_sets(wires, wire_count))) {
        errno = ENOMEM;
        return NULL;
    }
    memset(heads, 0, sizeof(heads));
    for (size_t i = 0; i < wire_count; i++) {
        if (i + AHEAD < wire_count)
            __builtin_prefetch(sets[i + AHEAD]->items);
        add_legs(sets[i]);
    }
    for (size_t i = 0; i < wire_count && monitor_count > 0; i++)
        add_monitors(sets[i]);
    for (size_t i = 0; i < wire_count && late_count > 0; i++)
        add_late_legs(sets[i]);
    return wire_table_build(entries, count, generation);
}
