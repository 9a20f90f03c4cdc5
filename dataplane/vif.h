// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VIF_H
#define PATCHBAY_VIF_H

// The endpoint interface: what a worker may ask of a vif, whatever its kind.
//
// Who calls what. receive and complete: the one worker that polls the queue.
// transmit: any worker that holds the transmit queue's lock. create and
// destroy: the device thread. A vif outlives every table and leg that names
// it, so workers need no reference count; what may vanish at any moment (a
// guest's memory and rings) hangs below it behind one atomic pointer.

#include "dataplane.h"
#include "frame.h"

#include <pthread.h>
#include <rte_spinlock.h>
#include <stdatomic.h>

struct vif;
struct attachment;
struct rate_words;

// A word of its own cache line that workers read once per burst. Written by
// whoever sees the change first: the vhost callbacks and link events
// (vif_set_link), or a worker that finds a ring broken (compare-and-swap from
// UP). Values: enum vif_link.
struct vif_health {
    _Alignas(64) _Atomic uint32_t link;
};

// How far the head frame of a receive queue is when it is segmented for its
// receiver and only some segments found room (on_full: wait). Its bytes
// are kept: all segments, and the taps' copies, are of the same ones, whatever the
// guest rewrites meanwhile. It goes with the queue: from worker to worker, and
// to the next leg when the wire is replugged, which gets the rest.
struct vif_cursor {
    uint32_t epoch; // whose it is: burst.epoch and frame.id
    uint16_t id;
    uint32_t len; // bytes held
    struct frame_offload offload;
    uint8_t *held; // LIMIT_FRAME_GSO_MAX bytes; NULL: nothing that this vif sends has offloads
};

// A receive queue's state. Owner: the worker that polls it; it changes hands
// only across a publish and its wait. Counters are written by the owner with
// relaxed stores and read by any thread with relaxed loads.
struct vif_rxq {
    _Alignas(64) uint64_t stall_since; // TSC at which the head frame began to wait; 0: it doesn't
    uint32_t cut;                      // segments of the head frame that are out; 0: no part of it is
    bool moved;                        // in this loop some went out
    bool stalled;                      // the head was dropped as stalled: the next ones too, until there is room
    uint16_t waits_queue;              // of waits_for
    uint16_t rested_by;                // index + 1 of the worker with which the queue is at rest, armed; 0: it isn't
    const struct vif *stalled_by;      // whom stall_since and stalled are about; only compared: it may be gone
    uint64_t empty_since;              // TSC of the first of the empty polls in a row; 0: the last one wasn't
    struct vif *waits_for;             // whose buffers the head frame waits for; valid within the worker's loop
    uint64_t adopted;                  // serial of the last table in which its worker had it
    // The first of the vif's queues with the same worker, whose next three are about all of
    // them; NULL: it has but one there. See poll_all in worker.c.
    struct vif_rxq *share;
    uint64_t share_turn;  // the last turn in which any had something
    uint64_t share_until; // they are polled again from this turn on
    uint32_t share_count; // bursts in share_turn
    _Atomic uint64_t frames;
    _Atomic uint64_t bytes;
    _Atomic uint64_t busy_cycles; // TSC spent on its frames, by samples; see stage.h
    _Atomic uint64_t discarded[VIF_DISCARD_REASON_COUNT];
    struct vif_cursor cursor; // valid while cut isn't 0
};

// A transmit queue's lock and counters; the counters are written under the lock.
struct vif_txq {
    _Alignas(64) rte_spinlock_t lock; // trylock only, once per burst
    _Atomic uint64_t frames;
    _Atomic uint64_t bytes;
    _Atomic uint64_t notified;
};

struct vif_ops {
    // Fills the burst (count, frames, segments, owned) with what waits in the
    // queue; returns burst->count. Frames stay the source's until complete.
    // Frames that no leg may see (bad chains, runts) are consumed here and
    // counted in rxq.discarded; burst->worked says that there were only such.
    // NULL: this kind never sends (not polled).
    uint16_t (*receive)(struct vif *vif, uint16_t queue, struct burst *burst);

    // The first `taken` frames of the burst that receive filled leave the
    // queue, in order; the others are seen again by the next receive. Called
    // exactly once after each receive that returned > 0.
    void (*complete)(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t taken);

    // Gives burst->frames[first …] to the vif, at most count of them, in
    // order, up to the first that it can't take. Returns how many it took; if
    // fewer than count, *stop says why. Bytes are read once. Frames that it
    // takes over have their mbuf set to NULL (but see burst.keep).
    uint16_t (*transmit)(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t first, uint16_t count,
                         enum transmit_stop *stop);

    // Which offloads it takes now (enum offload); frames that want others stop
    // transmit with TRANSMIT_OFFLOAD. NULL: none.
    uint8_t (*takes)(struct vif *vif, uint16_t queue);

    // Same, and the same bytes to a second vif of the same kind in the one
    // pass. What the tap has no room for is counted in tap and isn't retried.
    // NULL: this kind has no such path.
    uint16_t (*transmit_tapped)(struct vif *vif, uint16_t queue, struct vif *monitor, uint16_t monitor_queue,
                                struct burst *burst, uint16_t first, uint16_t count, enum transmit_stop *stop,
                                struct tap_count *tap);

    // Called once per loop for each transmit queue that took frames, still
    // under its lock: one notification, flush. May be NULL.
    void (*flush)(struct vif *vif, uint16_t queue);

    // Adaptive polling. arm: ask the driver for a notification of the next
    // frame (first draining what wake_fd still holds of older ones, without
    // blocking), then look at the ring once more (full fence between): returns
    // true if it is still empty, false (disarmed) if something came. disarm:
    // no more notifications. wake_fd: a file descriptor that becomes readable,
    // -1 for none (such queues are polled every millisecond while the worker
    // sleeps). Called by the owner; wake_fd also by control while nobody polls
    // the queue. All NULL: as wake_fd -1.
    bool (*arm)(struct vif *vif, uint16_t queue);
    void (*disarm)(struct vif *vif, uint16_t queue);
    int (*wake_fd)(struct vif *vif, uint16_t queue);
    // The same for a transmit queue that has no room: ask the driver for a
    // notification when it gives buffers. Returns the fd to wait on, -1: none
    // or there is room by now.
    int (*arm_transmit)(struct vif *vif, uint16_t queue);

    int (*create)(struct vif *vif, const struct vif_config *config, char *reason, size_t reason_size);
    // Stops everything; after it no thread but the caller knows the vif.
    void (*destroy)(struct vif *vif);
    // Fills what only the kind knows; the common part is already there.
    void (*read_state)(struct vif *vif, struct vif_state *state);
    void (*read_count)(struct vif *vif, struct vif_count *count);
    // As vif_set_mtu. NULL: the kind has none.
    int (*set_mtu)(struct vif *vif, uint16_t mtu, char *reason, size_t reason_size);
    // Calls each for every statistic that only the driver knows. NULL: none.
    bool (*each_statistic)(struct vif *vif, void (*each)(void *arg, const char *name, uint64_t value), void *arg);
};

struct vif {
    const struct vif_ops *ops;
    // vhost: NULL while there is no driver. Written (release) by the vhost
    // callbacks; read (acquire) by workers once per burst; freed after a
    // publish_quiesce.
    _Atomic(struct attachment *) attachment;
    void *private; // the kind's own; constant while the vif exists
    // Pairs of queues that exist. Only grows: written (release) by vif_grow
    // after what it counts.
    _Atomic uint16_t queue_count;
    // How many of them take frames now, from the first on; at least 1. Written
    // (release) by vhost callbacks.
    _Atomic uint16_t tx_count;
    bool copies; // transmit copies the bytes (vhost): a one-pass tap is possible between two such vifs
    struct {
        struct vif_rxq *rx;
        struct vif_txq *tx;
    } queues[VIF_QUEUES_MAX]; // queue_count of them; each constant once it exists
    struct vif_health health;

    // Cold.
    struct rate_words *rates; // of its ports that have a rate; control thread
    // Control: how many of the queues new tables poll, and who polls them
    // (VIF_WORKER_NONE: nobody). A new queue's is written by vif_grow.
    uint16_t polled_count;
    _Atomic uint16_t workers[VIF_QUEUES_MAX];
    _Atomic uint16_t pin; // see struct vif_config; written by control
    vif_slot slot;
    enum vif_kind kind;
    char name[LIMIT_NAME_LEN + 1]; // under state_lock: see vif_name
    char *target;
    bool created;                        // ops->create has succeeded; under vif.c's slots_lock
    _Atomic(const char *) broken_reason; // static string; written by the worker that marked it broken
    pthread_mutex_t state_lock;          // name, reason and changed_ns; never taken by workers
    char reason[LIMIT_REASON_LEN + 1];
    uint64_t changed_ns;
    _Atomic uint64_t reconnects;
    _Atomic uint64_t pauses; // vhost threads write, one at a time
};

static inline struct vif_rxq *vif_rxq(const struct vif *vif, uint16_t queue)
{
    return vif->queues[queue].rx;
}

static inline struct vif_txq *vif_txq(const struct vif *vif, uint16_t queue)
{
    return vif->queues[queue].tx;
}

// Which transmit queue takes what a source's queue received: the same one, so
// that a flow's frames stay in order, or modulo those that there are.
static inline uint16_t vif_tx_queue(const struct vif *vif, uint16_t source_queue)
{
    // Acquire pairs with the release in whoever made the queues.
    uint16_t count = atomic_load_explicit(&vif->tx_count, memory_order_acquire);

    return source_queue < count ? source_queue : source_queue % count;
}

// Makes queues until there are `count` (at most VIF_QUEUES_MAX). Returns 0 or
// -ENOMEM; what was made stays. New receive queues are polled once control
// has listed the vif anew; an event tells it. Device thread in create, or
// callbacks of that vif.
int vif_grow(struct vif *vif, uint16_t count);

// Any thread but workers: sets the link, its reason and the time, and posts an
// event if anything changed. reason is a format; "" when up.
// What it is called now, for a message: good until the thread's next call. Not for workers.
const char *vif_name(const struct vif *vif);

void vif_set_link(struct vif *vif, enum vif_link link, const char *reason, ...) __attribute__((format(printf, 3, 4)));

// Workers, after they stopped a ring, and callbacks: UP → BROKEN, at most once; the
// reason is a constant string. The control thread learns of it by event. On a vif that isn't
// UP it does nothing: whoever sets it UP looks at the rings then.
void vif_mark_broken(struct vif *vif, const char *reason);

static inline enum vif_link vif_link(const struct vif *vif)
{
    return (enum vif_link)atomic_load_explicit(&vif->health.link, memory_order_relaxed);
}

// The vif in a slot, or NULL. Control and device threads, and vhost callbacks
// of that very vif.
struct vif *vif_in_slot(vif_slot slot);

// How many receive queues the listed vifs have to be polled. Control thread.
uint32_t vif_listed_queues(void);
bool vif_is_listed(vif_slot slot);

// Single-writer counter: a plain add that other threads may read whole.
static inline void counter_add(_Atomic uint64_t *counter, uint64_t value)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + value, memory_order_relaxed);
}

static inline uint64_t counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit((_Atomic uint64_t *)counter, memory_order_relaxed);
}

// Posts "something about this vif changed" to the control thread. Any thread,
// workers too: one atomic or; the eventfd is written by the housekeeping
// thread's side or directly by non-workers. Never blocks.
void event_post(vif_slot slot);

// Blocks until every worker has been seen outside of its current loop (or
// asleep). Any thread but workers; may be called while another thread waits.
void publish_quiesce(void);

// The kinds.
extern const struct vif_ops vif_vhost_ops;  // VIF_VHOST, VIF_VHOST_SERVER
extern const struct vif_ops vif_ethdev_ops; // VIF_DEV, VIF_KERNEL_NEW
extern const struct vif_ops vif_none_ops;   // VIF_NONE

#endif
