// SPDX-License-Identifier: BSD-3-Clause

// Building and freeing wire tables: control's side.

#include "wire_table.h"
#include "worker.h"

#include <errno.h>
#include <stdlib.h>

// Where the build is: the sources of the vifs that can send, by slot.
struct build {
    struct wire_table *table;
    uint32_t source_count;
    uint32_t index_of[LIMIT_VIFS]; // slot → index in table->all, + 1; 0: none
};

static int collect_sources(struct build *build)
{
    struct wire_table *table = build->table;
    uint32_t capacity = vif_listed_count();

    table->all = calloc(capacity > 0 ? capacity : 1, sizeof(*table->all));
    if (table->all == NULL)
        return -ENOMEM;
    for (vif_slot slot = vif_listed_next(VIF_SLOT_NONE); slot != VIF_SLOT_NONE && build->source_count < capacity;
         slot = vif_listed_next(slot)) {
        table->all[build->source_count] = (struct source){.vif = vif_in_slot(slot)};
        build->index_of[slot] = ++build->source_count;
    }
    return 0;
}

static struct vlan_map *source_map(struct wire_table *table, struct source *source)
{
    struct vlan_map **maps;

    if (source->vlans != NULL)
        return source->vlans;
    maps = realloc(table->vlan_maps, (table->vlan_map_count + 1) * sizeof(*maps));
    if (maps == NULL)
        return NULL;
    table->vlan_maps = maps;
    source->vlans = calloc(1, sizeof(*source->vlans));
    if (source->vlans != NULL)
        maps[table->vlan_map_count++] = source->vlans;
    return source->vlans;
}

static int place_entry(struct build *build, const struct table_entry *entry)
{
    struct source *source;
    struct vlan_map *map;

    if (!vif_is_listed(entry->vif) || (entry->leg == NULL) != entry->monitor)
        return -EINVAL;
    if (build->index_of[entry->vif] == 0)
        return 0; // a kind that never sends
    source = &build->table->all[build->index_of[entry->vif] - 1];
    if (entry->vlan == TABLE_ANY_VLAN) {
        if (source->leg != NULL || source->monitor || source->vlans != NULL)
            return -EINVAL;
        source->leg = entry->leg;
        source->monitor = entry->monitor;
        source->held = entry->held;
        return 0;
    }
    if (entry->vlan > LIMIT_VLAN || source->leg != NULL || source->monitor)
        return -EINVAL;
    map = source_map(build->table, source);
    if (map == NULL)
        return -ENOMEM;
    if (map->legs[entry->vlan] != NULL || map->monitor[entry->vlan])
        return -EINVAL;
    map->legs[entry->vlan] = entry->leg;
    map->monitor[entry->vlan] = entry->monitor;
    map->held[entry->vlan] = entry->held;
    return 0;
}

static int compare_worker(const void *a, const void *b)
{
    const struct source *x = a, *y = b;

    return x->vif->worker < y->vif->worker ? -1 : x->vif->worker > y->vif->worker;
}

// Gives each worker its stretch of the sources.
static void share_out(struct build *build)
{
    struct wire_table *table = build->table;

    qsort(table->all, build->source_count, sizeof(*table->all), compare_worker);
    for (uint32_t i = 0; i < build->source_count; i++) {
        struct worker_sources *worker = &table->workers[table->all[i].vif->worker];

        if (worker->count++ == 0)
            worker->sources = &table->all[i];
    }
}

struct wire_table *wire_table_build(const struct table_entry *entries, size_t count, uint64_t generation)
{
    static uint64_t serial; // control thread only
    struct build *build = calloc(1, sizeof(*build));
    struct wire_table *table = calloc(1, sizeof(*table));
    int rc = build == NULL || table == NULL ? -ENOMEM : 0;

    if (rc == 0) {
        table->generation = generation;
        table->serial = ++serial;
        build->table = table;
        rc = collect_sources(build);
    }
    for (size_t i = 0; rc == 0 && i < count; i++)
        rc = place_entry(build, &entries[i]);
    if (rc == 0)
        share_out(build);
    free(build);
    if (rc != 0) {
        wire_table_free(table);
        errno = -rc;
        return NULL;
    }
    return table;
}

void wire_table_free(struct wire_table *table)
{
    if (table == NULL)
        return;
    for (uint32_t i = 0; i < table->vlan_map_count; i++)
        free(table->vlan_maps[i]);
    free(table->vlan_maps);
    free(table->all);
    free(table);
}
