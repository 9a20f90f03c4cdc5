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
static size_t count, room;
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

static const struct live_set *set_of(const struct live_wire *live)
{
    return live->next != NULL ? live->next : live->now;
}

static void add_legs(const struct live_set *set, bool late)
{
    for (size_t i = 0; i < set->count; i++) {
        const struct live_leg *leg = set->items[i].leg;

        if (leg->late != late || !device_usable(leg->vif))
            continue;
        // Somebody else's place by now, so nobody can tell what is late.
        if (late && !is_free(leg->vif, leg->vlan))
            continue;
        add_entry(
            &(struct table_entry){.vif = leg->vif, .vlan = leg->vlan, .held = set->items[i].held, .leg = leg->leg});
    }
}

static void add_monitors(const struct live_set *set)
{
    for (size_t i = 0; i < set->monitor_count; i++) {
        const struct compiled_monitor *monitor = &set->monitors[i];

        // A monitor of many Ts is entered once; one that was an arm a moment ago is still counted as late.
        if (device_usable(monitor->vif) && is_free(monitor->vif, monitor->vlan))
            add_entry(&(struct table_entry){.vif = monitor->vif, .vlan = monitor->vlan, .monitor = true});
    }
}

struct wire_table *live_table_build(uint64_t generation)
{
    const struct live_wire *live;
    size_t wanted = 0;

    TAILQ_FOREACH(live, live_wires(), entry)
    wanted += set_of(live)->count + set_of(live)->monitor_count;
    if (!make_room(wanted)) {
        errno = ENOMEM;
        return NULL;
    }
    count = 0;
    memset(heads, 0, sizeof(heads));
    TAILQ_FOREACH(live, live_wires(), entry)
    add_legs(set_of(live), false);
    TAILQ_FOREACH(live, live_wires(), entry)
    add_legs(set_of(live), true);
    TAILQ_FOREACH(live, live_wires(), entry)
    add_monitors(set_of(live));
    return wire_table_build(entries, count, generation);
}
