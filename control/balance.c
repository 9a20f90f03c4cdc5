// SPDX-License-Identifier: BSD-3-Clause
#include "balance.h"

#include "control.h"
#include "devices.h"
#include "log.h"
#include "loop.h"
#include "spread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

// How often is looked, how often in a row something must be found, and how many
// queues then move at once. One that has moved stays for REST_NS at least; for twice
// as long each time that it moves again soon after that.
enum { LOOK_NS = 1000000000, LOOKS = 3, MOVES_AT_ONCE = 8, REMEMBERED = 64, REST_DOUBLED_MAX = 6 };
#define REST_NS (UINT64_C(10) * 1000000000)

struct measured {
    vif_slot slot;
    uint16_t queue;
    uint16_t worker;
    bool pinned;
    uint64_t busy_cycles;
};

struct measure {
    size_t count;
    size_t room;
    struct measured *items; // by slot and queue
    uint64_t cycles;        // TSC since the workers' start
};

static struct timer timer;
static uint64_t worker_busy[LIMIT_WORKERS], worker_cycles[LIMIT_WORKERS]; // at the last look
static struct measure last, now;                                          // last.count 0: nothing was hot then
static unsigned found;                                                    // looks in a row

// What moved last, the oldest is forgotten first.
static struct moved {
    vif_slot slot;
    uint16_t queue;
    uint64_t at;
    uint64_t rest;
} moved[REMEMBERED];
static size_t moved_next;

// By load: what the next transaction is to move.
static struct spread_move wanted[MOVES_AT_ONCE];
static size_t wanted_count;

// Vifs with new queues, a bit a slot.
static uint64_t grown[(LIMIT_VIFS + 63) / 64];
static bool any_grown;

// Of the transaction.
static struct spread_move *moves;
static size_t move_count, move_room;

// ---- measuring ----

// The busiest worker's share of its time since the last look.
static double busiest(void)
{
    double share = 0;

    for (unsigned i = 0; i < worker_count(); i++) {
        struct worker_count count;
        uint64_t cycles, busy;

        if (!worker_read(i, &count))
            continue;
        cycles = count.cycles - worker_cycles[i];
        busy = count.busy_cycles - worker_busy[i];
        if (cycles > 0 && (double)busy / (double)cycles > share)
            share = (double)busy / (double)cycles;
        worker_cycles[i] = count.cycles;
        worker_busy[i] = count.busy_cycles;
    }
    return share;
}

static int add_measured(struct measure *measure, const struct measured *item)
{
    if (measure->count == measure->room) {
        size_t room = measure->room > 0 ? 2 * measure->room : 64;
        struct measured *items = reallocarray(measure->items, room, sizeof(*items));

        if (items == NULL)
            return -ENOMEM;
        measure->items = items;
        measure->room = room;
    }
    measure->items[measure->count++] = *item;
    return 0;
}

static int measure_all(struct measure *measure)
{
    int error = 0;

    measure->count = 0;
    measure->cycles = worker_cycles[0];
    for (vif_slot slot = vif_listed_next(VIF_SLOT_NONE); slot != VIF_SLOT_NONE && error == 0;
         slot = vif_listed_next(slot)) {
        struct queue_count count;

        for (uint16_t queue = 0; queue < VIF_QUEUES_MAX && error == 0 && vif_read_queue(slot, queue, &count); queue++)
            error = add_measured(measure, &(struct measured){.slot = slot,
                                                             .queue = queue,
                                                             .worker = (uint16_t)count.worker,
                                                             .pinned = count.pinned,
                                                             .busy_cycles = count.busy_cycles});
    }
    return error;
}

static struct moved *find_moved(vif_slot slot, uint16_t queue)
{
    for (size_t i = 0; i < REMEMBERED; i++)
        if (moved[i].rest > 0 && moved[i].slot == slot && moved[i].queue == queue)
            return &moved[i];
    return NULL;
}

static bool rests(const struct measured *item)
{
    const struct moved *before = find_moved(item->slot, item->queue);

    return before != NULL && clock_now() < before->at + before->rest;
}

static void remember(const struct spread_move *move)
{
    struct moved *entry = find_moved(move->slot, move->queue);
    uint64_t at = clock_now(), rest = REST_NS;

    if (entry == NULL)
        entry = &moved[moved_next++ % REMEMBERED];
    else if (at < entry->at + 2 * entry->rest && entry->rest < REST_NS << REST_DOUBLED_MAX)
        rest = 2 * entry->rest;
    else if (at < entry->at + 2 * entry->rest)
        rest = entry->rest;
    *entry = (struct moved){move->slot, move->queue, at, rest};
}

// What each queue cost between the two measures; one that wasn't in both, or moved in between, costs nothing.
static size_t compare(struct spread_queue *queues)
{
    double cycles = (double)(now.cycles - last.cycles);
    size_t at = 0;

    for (size_t i = 0; i < now.count; i++) {
        const struct measured *item = &now.items[i], *was;

        while (at < last.count && (last.items[at].slot < item->slot ||
                                   (last.items[at].slot == item->slot && last.items[at].queue < item->queue)))
            at++;
        was = at < last.count ? &last.items[at] : NULL;
        queues[i] = (struct spread_queue){
            .slot = item->slot, .queue = item->queue, .worker = item->worker, .stays = item->pinned || rests(item)};
        if (was != NULL && was->slot == item->slot && was->queue == item->queue && was->worker == item->worker &&
            item->busy_cycles >= was->busy_cycles)
            queues[i].load = (double)(item->busy_cycles - was->busy_cycles) / cycles;
    }
    return now.count;
}

// Says what should move, if it is found often enough in a row.
static void judge(void)
{
    struct spread_queue *queues = calloc(now.count, sizeof(*queues));
    size_t count;

    if (queues == NULL)
        return;
    count = spread_choose(queues, compare(queues), worker_count(), wanted, MOVES_AT_ONCE);
    free(queues);
    found = count > 0 ? found + 1 : 0;
    if (found < LOOKS)
        return;
    found = 0;
    wanted_count = count;
    for (size_t i = 0; i < count; i++)
        remember(&wanted[i]);
}

// Nothing but the workers' counters is read while none of them is hot.
static void look(void *arg)
{
    bool hot = busiest() >= SPREAD_HOT;
    struct measure swap;

    (void)arg;
    timer_arm(&timer, clock_now() + LOOK_NS, look, NULL);
    if (!hot || measure_all(&now) != 0) {
        last.count = 0;
        found = 0;
        return;
    }
    if (wanted_count == 0 && last.count > 0 && now.count > 0 && now.cycles > last.cycles)
        judge();
    swap = last;
    last = now;
    now = swap;
}

void balance_start(void)
{
    if (worker_count() < 2)
        return;
    busiest();
    timer_arm(&timer, clock_now() + LOOK_NS, look, NULL);
}

void balance_stop(void)
{
    timer_cancel(&timer);
    free(last.items);
    free(now.items);
    free(moves);
    last = now = (struct measure){0};
    moves = NULL;
    move_count = move_room = wanted_count = 0;
}

// ---- moving ----

void balance_grown(vif_slot slot)
{
    grown[slot / 64] |= UINT64_C(1) << slot % 64;
    any_grown = true;
}

void balance_forget(vif_slot slot)
{
    size_t kept = 0;

    for (size_t i = 0; i < REMEMBERED; i++)
        if (moved[i].slot == slot)
            moved[i].rest = 0;
    for (size_t i = 0; i < last.count; i++)
        if (last.items[i].slot == slot)
            last.items[i].worker = VIF_WORKER_NONE; // what it cost says nothing of the next one
    for (size_t i = 0; i < wanted_count; i++)
        if (wanted[i].slot != slot)
            wanted[kept++] = wanted[i];
    wanted_count = kept;
    grown[slot / 64] &= ~(UINT64_C(1) << slot % 64);
}

bool balance_pending(void)
{
    return wanted_count > 0;
}

static bool is_moving(vif_slot slot, uint16_t queue)
{
    for (size_t i = 0; i < move_count; i++)
        if (moves[i].slot == slot && moves[i].queue == queue)
            return true;
    return false;
}

// Adds a move to the transaction, unless the queue is there already, or no table
// polls it.
static int add_move(vif_slot slot, uint16_t queue, unsigned to)
{
    const struct device *device = device_find(slot);
    struct queue_count count;

    if (device == NULL || !device->listed || !vif_read_queue(slot, queue, &count) || count.worker == VIF_WORKER_NONE ||
        count.worker == to || is_moving(slot, queue))
        return 0;
    if (move_count == move_room) {
        size_t room = move_room > 0 ? 2 * move_room : 16;
        struct spread_move *larger = reallocarray(moves, room, sizeof(*larger));

        if (larger == NULL)
            return -ENOMEM;
        moves = larger;
        move_room = room;
    }
    moves[move_count++] =
        (struct spread_move){.slot = slot, .queue = queue, .from = (uint16_t)count.worker, .to = (uint16_t)to};
    return 0;
}

// May this record of a change have changed the pin of a device? The same vif may be in several, and a new one may have
// taken over the device of one that is gone.
static bool pins_anew(const struct model_record *record)
{
    const struct object *any = record->new != NULL ? record->new : record->old;

    return any->kind == OBJECT_VIF &&
           (record->old == NULL || record->new == NULL ||
            ((const struct vif *)record->old)->pin != ((const struct vif *)record->new)->pin);
}

// All queues of a vif to the worker that it is pinned to, if it is.
static int add_all(const struct vif *vif)
{
    int error = 0;

    if (vif->pin == 0 || vif->pin > worker_count())
        return 0;
    for (uint16_t queue = 0; queue < VIF_QUEUES_MAX && error == 0; queue++)
        error = add_move(vif->slot, queue, vif->pin - 1u);
    return error;
}

static int add_grown(void)
{
    int error = 0;

    for (size_t word = 0; any_grown && word < sizeof(grown) / sizeof(grown[0]) && error == 0; word++) {
        for (; grown[word] != 0 && error == 0; grown[word] &= grown[word] - 1) {
            const struct device *device = device_find((vif_slot)(64 * word + (size_t)__builtin_ctzll(grown[word])));
            const struct vif *vif = device != NULL ? model_find_vif(control.model, device->name) : NULL;

            if (vif != NULL)
                error = add_all(vif);
        }
    }
    any_grown = error != 0;
    return error;
}

static int add_pinned(const struct model_change *change)
{
    int error = 0;

    for (size_t i = 0; i < change->record_count && error == 0; i++) {
        const struct object *new = change->records[i].new;
        const struct vif *vif =
            new != NULL &&pins_anew(&change->records[i]) ? model_find_vif(control.model, new->name) : NULL;

        if (vif == NULL || !device_usable(vif->slot))
            continue;
        vif_pin(vif->slot, vif->pin);
        error = add_all(vif);
    }
    return error;
}

int balance_lift(const struct model_change *change)
{
    int error;

    move_count = 0;
    error = add_pinned(change);
    if (error == 0)
        error = add_grown();
    for (size_t i = 0; i < wanted_count && error == 0; i++) {
        struct queue_count count;

        // It may have been pinned, moved or deleted since it was chosen.
        if (vif_read_queue(wanted[i].slot, wanted[i].queue, &count) && !count.pinned && count.worker == wanted[i].from)
            error = add_move(wanted[i].slot, wanted[i].queue, wanted[i].to);
    }
    wanted_count = 0;
    for (size_t i = 0; i < move_count; i++)
        vif_place_queue(moves[i].slot, moves[i].queue, VIF_WORKER_NONE);
    return error != 0 ? error : (int)move_count;
}

void balance_place(void)
{
    for (size_t i = 0; i < move_count; i++)
        vif_place_queue(moves[i].slot, moves[i].queue, moves[i].to);
}

void balance_left(void)
{
    for (size_t i = 0; i < move_count; i++)
        vif_queue_left(moves[i].slot, moves[i].queue);
}

void balance_done(void)
{
    for (size_t i = 0; i < move_count; i++) {
        const struct device *device = device_find(moves[i].slot);

        if (device != NULL)
            log_message(LOG_LEVEL_DEBUG, "balance", "queue %u of vif %s moved from worker %u to worker %u",
                        moves[i].queue, device->name, moves[i].from, moves[i].to);
    }
    move_count = 0;
}

void balance_undo(const struct model_change *change)
{
    // Newest first: what was before all of it stays.
    for (size_t i = change->record_count; i > 0; i--) {
        const struct model_record *record = &change->records[i - 1];
        const struct vif *was = (const struct vif *)record->old;

        if (was != NULL && pins_anew(record) && device_usable(was->slot))
            vif_pin(was->slot, was->pin);
    }
    for (size_t i = 0; i < move_count; i++)
        vif_place_queue(moves[i].slot, moves[i].queue, moves[i].from);
    move_count = 0;
}
