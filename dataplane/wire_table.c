// SPDX-License-Identifier: BSD-3-Clause

// Building and freeing wire tables: control's side.

#include "wire_table.h"
#include "worker.h"

#include <errno.h>
#include <stdlib.h>

// Where the build is: the sources of the vifs that can send, by slot and queue.
struct build {
    struct wire_table *table;
    struct source *sources;
    uint32_t source_count;
    uint32_t index_of[LIMIT_VIFS]; // slot → index of its first queue in sources, + 1; 0: none
};

static int collect_sources(struct build *build)
{
    uint32_t capacity = vif_listed_queues();

    build->sources = calloc(capacity > 0 ? capacity : 1, sizeof(*build->sources));
    if (build->sources == NULL)
        return -ENOMEM;
    for (vif_slot slot = vif_listed_next(VIF_SLOT_NONE); slot != VIF_SLOT_NONE; slot = vif_listed_next(slot)) {
        struct vif *vif = vif_in_slot(slot);

        build->index_of[slot] = build->source_count + 1;
        for (uint16_t queue = 0; queue < vif->polled_count; queue++)
            build->sources[build->source_count++] = (struct source){.vif = vif, .slot = slot, .queue = queue};
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

static int place_in(struct build *build, const struct table_entry *entry, struct source *source)
{
    struct vlan_map *map;
    struct leg *leg = NULL;

    if (entry->leg != NULL) {
        leg = leg_of_queue(entry->leg, source->queue);
        if (leg == NULL)
            return -ENOMEM;
    }
    if (entry->vlan == TABLE_ANY_VLAN) {
        if (source->leg != NULL || source->monitor || source->vlans != NULL)
            return -EINVAL;
        source->leg = leg;
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
    map->legs[entry->vlan] = leg;
    map->monitor[entry->vlan] = entry->monitor;
    map->held[entry->vlan] = entry->held;
    return 0;
}

// All queues of the vif do the same.
static int place_entry(struct build *build, const struct table_entry *entry)
{
    uint16_t count;
    int rc = 0;

    if (!vif_is_listed(entry->vif) || (entry->leg == NULL) != entry->monitor)
        return -EINVAL;
    if (build->index_of[entry->vif] == 0)
        return 0; // a kind that never sends
    count = vif_in_slot(entry->vif)->polled_count;
    for (uint16_t queue = 0; queue < count && rc == 0; queue++)
        rc = place_in(build, entry, &build->sources[build->index_of[entry->vif] - 1 + queue]);
    return rc;
}

static unsigned worker_of(const struct source *source)
{
    return atomic_load_explicit(&source->vif->workers[source->queue], memory_order_relaxed);
}

// Gives each worker its stretch of the sources, in their order. Those that are
// on the move are nobody's.
static int share_out(struct build *build)
{
    struct wire_table *table = build->table;
    uint32_t at = 0;

    table->all = calloc(build->source_count > 0 ? build->source_count : 1, sizeof(*table->all));
    if (table->all == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < build->source_count; i++)
        if (worker_of(&build->sources[i]) < LIMIT_WORKERS)
            table->workers[worker_of(&build->sources[i])].count++;
    for (unsigned i = 0; i < LIMIT_WORKERS; i++) {
        table->workers[i].sources = &table->all[at];
        at += table->workers[i].count;
        table->workers[i].count = 0;
    }
    for (uint32_t i = 0; i < build->source_count; i++) {
        struct worker_sources *worker;

        if (worker_of(&build->sources[i]) >= LIMIT_WORKERS)
            continue;
        worker = &table->workers[worker_of(&build->sources[i])];
        worker->sources[worker->count++] = build->sources[i];
    }
    return 0;
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
        rc = share_out(build);
    if (build != NULL)
        free(build->sources);
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
