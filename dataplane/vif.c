// SPDX-License-Identifier: BSD-3-Clause

// The vifs' common part: slots, life, link state, counters read. Cold.

#include "vif.h"
#include "eal.h"
#include "rate.h"
#include "worker.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

// Written by the device thread under slots_lock; read under it by others, or
// without it by those who know that the vif stays (control between create and
// destroy, the device thread, callbacks of the vif itself).
static struct vif *slots[LIMIT_VIFS];
static pthread_mutex_t slots_lock = PTHREAD_MUTEX_INITIALIZER;

static const struct vif_ops *const kinds[VIF_KIND_COUNT] = {
    [VIF_VHOST] = &vif_vhost_ops,       [VIF_VHOST_SERVER] = &vif_vhost_ops, [VIF_DEV] = &vif_ethdev_ops,
    [VIF_KERNEL_NEW] = &vif_ethdev_ops, [VIF_NONE] = &vif_none_ops,
};

static uint64_t wall_clock_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

struct vif *vif_in_slot(vif_slot slot)
{
    return slot < LIMIT_VIFS ? __atomic_load_n(&slots[slot], __ATOMIC_ACQUIRE) : NULL;
}

// Which vifs new tables have; control thread only. Apart from the vifs, so that a
// build of 20,000 of them walks 20 KB and not as many cache misses.
enum { LISTED_NOT, LISTED_SILENT, LISTED_SENDS };
static uint8_t listed[LIMIT_VIFS];

void vif_list(vif_slot slot, bool on)
{
    struct vif *vif = vif_in_slot(slot);

    // An empty slot can only be taken off: no table may name a vif that is gone.
    if (slot >= LIMIT_VIFS)
        return;
    listed[slot] = vif == NULL || !on ? LISTED_NOT : vif->ops->receive != NULL ? LISTED_SENDS : LISTED_SILENT;
    if (listed[slot] == LISTED_SENDS)
        vif->polled_count = atomic_load_explicit(&vif->queue_count, memory_order_acquire);
}

bool vif_has_grown(vif_slot slot)
{
    const struct vif *vif = vif_in_slot(slot);

    return vif != NULL && listed[slot] == LISTED_SENDS &&
           atomic_load_explicit(&vif->queue_count, memory_order_acquire) > vif->polled_count;
}

void vif_place_queue(vif_slot slot, uint16_t queue, unsigned worker)
{
    struct vif *vif = vif_in_slot(slot);

    if (vif != NULL && queue < atomic_load_explicit(&vif->queue_count, memory_order_acquire)) {
        unsigned before = atomic_exchange_explicit(&vif->workers[queue], (uint16_t)worker, memory_order_relaxed);

        if (before != VIF_WORKER_NONE)
            worker_unchoose(before);
        if (worker != VIF_WORKER_NONE)
            worker_add(worker);
    }
}

void vif_pin(vif_slot slot, uint16_t pin)
{
    struct vif *vif = vif_in_slot(slot);

    if (vif != NULL)
        atomic_store_explicit(&vif->pin, pin, memory_order_relaxed);
}

int vif_set_mtu(vif_slot slot, uint16_t mtu, char *reason, size_t reason_size)
{
    struct vif *vif = vif_in_slot(slot);

    if (vif != NULL && vif->ops->set_mtu != NULL)
        return vif->ops->set_mtu(vif, mtu, reason, reason_size);
    snprintf(reason, reason_size, "it has no MTU that could be set: NICs and kernel TAPs have");
    return -ENOTSUP;
}

void vif_rename(vif_slot slot, const char *name)
{
    struct vif *vif = vif_in_slot(slot);

    if (vif == NULL)
        return;
    pthread_mutex_lock(&vif->state_lock);
    snprintf(vif->name, sizeof(vif->name), "%s", name);
    pthread_mutex_unlock(&vif->state_lock);
}

const char *vif_name(const struct vif *vif)
{
    static _Thread_local char name[sizeof(vif->name)];
    // The lock is no part of what a reader must not change.
    pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&vif->state_lock;

    pthread_mutex_lock(lock);
    memcpy(name, vif->name, sizeof(name));
    pthread_mutex_unlock(lock);
    return name;
}

void vif_queue_left(vif_slot slot, uint16_t queue)
{
    struct vif *vif = vif_in_slot(slot);
    int fd;

    if (vif == NULL || queue >= atomic_load_explicit(&vif->queue_count, memory_order_acquire))
        return;
    // Nobody polls it: it is ours. Should it come back to the worker that it
    // rested with, that one must not believe that it still waits for it.
    vif_rxq(vif, queue)->adopted = 0;
    if (vif->ops->wake_fd == NULL)
        return;
    fd = vif->ops->wake_fd(vif, queue);
    if (fd >= 0)
        worker_forget_fd(fd);
}

bool vif_is_listed(vif_slot slot)
{
    return slot < LIMIT_VIFS && listed[slot] != LISTED_NOT;
}

vif_slot vif_listed_next(vif_slot after)
{
    for (vif_slot slot = after == VIF_SLOT_NONE ? 0 : after + 1; slot < LIMIT_VIFS; slot++)
        if (listed[slot] == LISTED_SENDS)
            return slot;
    return VIF_SLOT_NONE;
}

uint32_t vif_listed_queues(void)
{
    uint32_t count = 0;

    for (vif_slot slot = 0; slot < LIMIT_VIFS; slot++)
        if (listed[slot] == LISTED_SENDS)
            count += vif_in_slot(slot)->polled_count;
    return count;
}

// Bytes of a queue's held frame, in whole pages.
enum { HELD_SIZE = (LIMIT_FRAME_GSO_MAX + 4095) / 4096 * 4096 };

static bool has_offloads(const struct vif *vif)
{
    return vif->kind == VIF_VHOST || vif->kind == VIF_VHOST_SERVER;
}

// Memory for the frame that the queue's cursor holds; none of it is real before it is used.
static int held_alloc(const struct vif *vif, struct vif_rxq *rxq)
{
    void *held;

    if (!has_offloads(vif))
        return 0;
    held = mmap(NULL, HELD_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (held == MAP_FAILED)
        return -ENOMEM;
    rxq->cursor.held = held;
    return 0;
}

// The state of one pair.
struct pair {
    struct vif_rxq rx;
    struct vif_txq tx;
};

static bool is_pinned(const struct vif *vif)
{
    uint16_t pin = atomic_load_explicit(&vif->pin, memory_order_relaxed);

    return pin > 0 && pin <= eal_worker_count();
}

// Who polls a new queue.
static uint16_t choose(const struct vif *vif)
{
    unsigned worker;

    if (!is_pinned(vif))
        return (uint16_t)worker_choose();
    worker = atomic_load_explicit(&vif->pin, memory_order_relaxed) - 1u;
    worker_add(worker);
    return (uint16_t)worker;
}

int vif_grow(struct vif *vif, uint16_t count)
{
    uint16_t have = atomic_load_explicit(&vif->queue_count, memory_order_relaxed);

    while (have < count && have < VIF_QUEUES_MAX) {
        struct pair *pair = aligned_alloc(_Alignof(struct pair), sizeof(*pair));

        if (pair == NULL)
            return -ENOMEM;
        memset(pair, 0, sizeof(*pair));
        if (held_alloc(vif, &pair->rx) != 0) {
            free(pair);
            return -ENOMEM;
        }
        vif->queues[have].rx = &pair->rx;
        vif->queues[have].tx = &pair->tx;
        if (vif->ops->receive != NULL)
            atomic_store_explicit(&vif->workers[have], choose(vif), memory_order_relaxed);
        // Release: whoever sees the number sees the queues.
        atomic_store_explicit(&vif->queue_count, ++have, memory_order_release);
        event_post(vif->slot);
    }
    return 0;
}

static void vif_free(struct vif *vif)
{
    if (vif == NULL)
        return;
    for (uint16_t queue = 0; queue < vif->queue_count; queue++) {
        if (vif->ops->receive != NULL && vif->workers[queue] != VIF_WORKER_NONE)
            worker_unchoose(vif->workers[queue]);
        if (vif_rxq(vif, queue)->cursor.held != NULL)
            munmap(vif_rxq(vif, queue)->cursor.held, HELD_SIZE);
        free(vif->queues[queue].rx); // with the rest of its struct pair
    }
    pthread_mutex_destroy(&vif->state_lock);
    rate_words_free(vif->rates);
    free(vif->target);
    free(vif);
}

static struct vif *vif_alloc(const struct vif_config *config)
{
    struct vif *vif = NULL;

    if (posix_memalign((void **)&vif, _Alignof(struct vif), sizeof(*vif)) != 0)
        return NULL;
    memset(vif, 0, sizeof(*vif));
    pthread_mutex_init(&vif->state_lock, NULL);
    vif->slot = config->slot;
    vif->kind = config->kind;
    vif->ops = kinds[config->kind];
    vif->tx_count = 1;
    vif->pin = config->pin;
    vif->changed_ns = wall_clock_ns();
    snprintf(vif->name, sizeof(vif->name), "%s", config->name);
    if (config->target != NULL)
        vif->target = strdup(config->target);
    if ((config->target != NULL && vif->target == NULL) || vif_grow(vif, 1) != 0) {
        vif_free(vif);
        return NULL;
    }
    return vif;
}

static void slot_set(vif_slot slot, struct vif *vif)
{
    pthread_mutex_lock(&slots_lock);
    __atomic_store_n(&slots[slot], vif, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&slots_lock);
}

int vif_create(const struct vif_config *config, char *reason, size_t reason_size)
{
    struct vif *vif;
    int rc;

    if (config->slot >= LIMIT_VIFS || config->kind >= VIF_KIND_COUNT || vif_in_slot(config->slot) != NULL) {
        snprintf(reason, reason_size, "slot %u can't be used (a bug)", config->slot);
        return -EINVAL;
    }
    vif = vif_alloc(config);
    if (vif == NULL) {
        snprintf(reason, reason_size, "out of memory");
        return -ENOMEM;
    }
    // In its slot before create, since callbacks may come at once. No table
    // has it before control lists it.
    slot_set(config->slot, vif);
    rc = vif->ops->create(vif, config, reason, reason_size);
    if (rc != 0) {
        slot_set(config->slot, NULL);
        vif_free(vif);
        return rc;
    }
    pthread_mutex_lock(&slots_lock);
    vif->created = true;
    pthread_mutex_unlock(&slots_lock);
    event_post(config->slot);
    return 0;
}

void vif_destroy(vif_slot slot)
{
    struct vif *vif = vif_in_slot(slot);

    if (vif == NULL)
        return;
    // Readers of its state go first: they may ask the kind.
    slot_set(slot, NULL);
    vif->ops->destroy(vif);
    vif_free(vif);
}

void vif_set_link(struct vif *vif, enum vif_link link, const char *format, ...)
{
    char reason[sizeof(vif->reason)];
    bool changed;
    va_list args;

    va_start(args, format);
    vsnprintf(reason, sizeof(reason), format, args);
    va_end(args);
    pthread_mutex_lock(&vif->state_lock);
    changed = vif_link(vif) != link || strcmp(vif->reason, reason) != 0;
    if (vif_link(vif) != link)
        vif->changed_ns = wall_clock_ns();
    memcpy(vif->reason, reason, sizeof(reason));
    atomic_store_explicit(&vif->health.link, link, memory_order_release);
    pthread_mutex_unlock(&vif->state_lock);
    if (changed)
        event_post(vif->slot);
}

void vif_mark_broken(struct vif *vif, const char *reason)
{
    uint32_t up = VIF_LINK_UP;

    // The store that stopped the ring may not move below this look at the link: who sets
    // it to UP looks at the rings afterwards. Cold, and once a broken ring.
    atomic_thread_fence(memory_order_seq_cst);
    if (!atomic_compare_exchange_strong(&vif->health.link, &up, VIF_LINK_BROKEN))
        return;
    // No lock on a worker: the reason of a broken vif is read from here first.
    atomic_store_explicit(&vif->broken_reason, reason, memory_order_release);
    event_post(vif->slot);
}

bool vif_read_state(vif_slot slot, struct vif_state *state)
{
    struct vif *vif;

    memset(state, 0, sizeof(*state));
    pthread_mutex_lock(&slots_lock);
    vif = slot < LIMIT_VIFS ? slots[slot] : NULL;
    if (vif != NULL) {
        const char *broken = atomic_load_explicit(&vif->broken_reason, memory_order_acquire);

        pthread_mutex_lock(&vif->state_lock);
        state->link = vif_link(vif);
        snprintf(state->reason, sizeof(state->reason), "%s",
                 state->link == VIF_LINK_BROKEN && broken != NULL ? broken : vif->reason);
        state->changed_ns = vif->changed_ns;
        pthread_mutex_unlock(&vif->state_lock);
        state->numa_node = -1;
        state->queue_count = atomic_load_explicit(&vif->queue_count, memory_order_acquire);
        state->queue_pairs = state->queue_count;
        for (uint16_t queue = 0; queue < state->queue_count; queue++)
            state->workers[queue] = vif->ops->receive != NULL
                                        ? atomic_load_explicit(&vif->workers[queue], memory_order_relaxed)
                                        : VIF_WORKER_NONE;
        if (vif->created && vif->ops->read_state != NULL)
            vif->ops->read_state(vif, state);
    }
    pthread_mutex_unlock(&slots_lock);
    return vif != NULL;
}

bool vif_each_statistic(vif_slot slot, void (*each)(void *arg, const char *name, uint64_t value), void *arg)
{
    struct vif *vif;
    bool any;

    pthread_mutex_lock(&slots_lock);
    vif = slot < LIMIT_VIFS ? slots[slot] : NULL;
    any = vif != NULL && vif->created && vif->ops->each_statistic != NULL && vif->ops->each_statistic(vif, each, arg);
    pthread_mutex_unlock(&slots_lock);
    return any;
}

bool vif_read_count(vif_slot slot, struct vif_count *count)
{
    struct vif *vif;

    memset(count, 0, sizeof(*count));
    pthread_mutex_lock(&slots_lock);
    vif = slot < LIMIT_VIFS ? slots[slot] : NULL;
    if (vif != NULL) {
        uint16_t queues = atomic_load_explicit(&vif->queue_count, memory_order_acquire);

        for (uint16_t queue = 0; queue < queues; queue++) {
            const struct vif_rxq *rxq = vif_rxq(vif, queue);
            const struct vif_txq *txq = vif_txq(vif, queue);

            count->received.frames += counter_read(&rxq->frames);
            count->received.bytes += counter_read(&rxq->bytes);
            count->transmitted.frames += counter_read(&txq->frames);
            count->transmitted.bytes += counter_read(&txq->bytes);
            count->notified += counter_read(&txq->notified);
            for (unsigned i = 0; i < VIF_DISCARD_REASON_COUNT; i++)
                count->discarded[i] += counter_read(&rxq->discarded[i]);
        }
        count->reconnects = counter_read(&vif->reconnects);
        count->pauses = counter_read(&vif->pauses);
        if (vif->created && vif->ops->read_count != NULL)
            vif->ops->read_count(vif, count);
    }
    pthread_mutex_unlock(&slots_lock);
    return vif != NULL;
}

bool vif_read_queue(vif_slot slot, uint16_t queue, struct queue_count *count)
{
    const struct vif *vif;
    bool there;

    memset(count, 0, sizeof(*count));
    pthread_mutex_lock(&slots_lock);
    vif = slot < LIMIT_VIFS ? slots[slot] : NULL;
    there = vif != NULL && queue < atomic_load_explicit(&vif->queue_count, memory_order_acquire);
    if (there) {
        const struct vif_rxq *rxq = vif_rxq(vif, queue);
        const struct vif_txq *txq = vif_txq(vif, queue);

        count->worker = vif->ops->receive != NULL ? atomic_load_explicit(&vif->workers[queue], memory_order_relaxed)
                                                  : VIF_WORKER_NONE;
        count->pinned = is_pinned(vif);
        count->received.frames = counter_read(&rxq->frames);
        count->received.bytes = counter_read(&rxq->bytes);
        count->busy_cycles = counter_read(&rxq->busy_cycles);
        count->transmitted.frames = counter_read(&txq->frames);
        count->transmitted.bytes = counter_read(&txq->bytes);
        count->notified = counter_read(&txq->notified);
    }
    pthread_mutex_unlock(&slots_lock);
    return there;
}
