// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VIF_VHOST_H
#define PATCHBAY_VIF_VHOST_H

// What the files of the vhost-user vif share. vif_vhost.c: what workers call;
// vif_vhost_create.c: making and unmaking a vif (device thread);
// vif_vhost_connect.c: connecting to front ends that listen (a thread of its own);
// vif_vhost_callbacks.c: connections and messages (librte_vhost's threads);
// vif_vhost_attach.c: attaching to and detaching from a driver.
//
// Who writes what. The library calls back for one connection from one thread
// at a time, and rte_vhost_driver_unregister waits for such a call; but the flag
// that it waits for is a plain variable, so callbacks hold a lock for the order
// of memory. Workers see nothing but vif->attachment.

#include "attachment.h"
#include "vif.h"

#include <sys/queue.h>

// What a worker waits on for a ring; see vif_vhost_wake.c.
struct vhost_wake {
    int set;  // an epoll set; the descriptor that the worker waits on
    int bell; // an eventfd in it, ours
};

struct vif_vhost {
    LIST_ENTRY(vif_vhost) link; // of all vhost vifs, under the lock of vif_vhost_create.c
    struct vif *vif;
    bool server;

    // vif_vhost_connect.c's, under its lock.
    LIST_ENTRY(vif_vhost) client_link;
    bool registered;   // the library knows the path
    uint64_t next_try; // ms
    // The connection is over. Set by callbacks.
    _Atomic bool lost;

    // Callbacks only, under `calling`. Held while they wait for the workers, and
    // never by the caller of the library, nor taken by anyone else.
    pthread_mutex_t calling;
    int vid;             // of the connection; -1: none
    int connection_fd;   // the library's; only to look whether it hung up; -1: not known
    bool running;        // between the library's new_device and destroy_device
    bool stopped;        // running was true before on this connection, and isn't
    bool memory;         // it has a memory table: the last SET_MEM_TABLE succeeded
    bool negotiated;     // SET_FEATURES has been seen
    bool truncated;      // an access to the front end's memory failed; until it connects anew
    const char *pending; // the message that is being handled, if it changes the device; static
    const char *failed;  // one that failed, since the last SET_MEM_TABLE; static
    uint64_t connections;
    struct guest_log log;                  // the connection's, if it has set one
    uint64_t used_log[2 * VIF_QUEUES_MAX]; // by ring: where its used ring is logged; UINT64_MAX: where it lies
    bool announce;                         // the guest's address is still to be announced
    uint8_t announce_mac[6];
    uint32_t epoch;                    // how often the driver behind it has begun anew, or its rings were set elsewhere
    bool enabled[2 * VIF_QUEUES_MAX];  // by ring
    bool disabled[2 * VIF_QUEUES_MAX]; // by ring: it isn't enabled because the front end said so
    bool drained[2 * VIF_QUEUES_MAX];  // by ring: virtqueue.drained, from attachment to attachment
    const char *broken[2 * VIF_QUEUES_MAX]; // by ring: why it was stopped; until the driver resets it
    int32_t known[2 * VIF_QUEUES_MAX];      // by ring: where a packed one stood at the last detach; -1: not known

    // What other threads may read of the attachment (vif_read_state).
    pthread_mutex_t lock;
    struct attachment *attached;
    _Atomic uint64_t announced; // frames sent in the guest's name; the worker's that polls queue 0
    bool memory_empty;          // nothing but zeros where a guest has something
    uint64_t bad_chains;        // of receive buffers, in attachments that are gone

    struct vif_vhost_queue *queues[VIF_QUEUES_MAX]; // vif->queue_count; each is made before it is counted
};

// receiving, sending: what the owner of a queue uses from one call to the
// next that belongs to it; the memory stays until the worker's loop is over.
struct vif_vhost_queue {
    _Alignas(64) struct attachment *receiving; // receive → complete; the polling worker's
    bool announcing;                           // the same: what was received is an announcement
    struct vhost_wake from_guest;
    _Alignas(64) struct attachment *sending; // transmit → flush; under the txq's lock
    struct vhost_wake to_guest;
};

// Makes what the vif has of each pair until there are `count` pairs. 0 or -errno.
int vif_vhost_grow(struct vif_vhost *vhost, uint16_t count);
void vif_vhost_queue_free(struct vif_vhost_queue *queue);

// Device thread.
int vif_vhost_create(struct vif *vif, const struct vif_config *config, char *reason, size_t reason_size);
void vif_vhost_destroy(struct vif *vif);

// Any thread.
void vif_vhost_read_state(struct vif *vif, struct vif_state *state);
void vif_vhost_read_count(struct vif *vif, struct vif_count *count);
struct vif_vhost *vif_vhost_find(const char *path);

// Makes the path known to the library, with what we offer; flags: RTE_VHOST_USER_*.
int vif_vhost_register(const struct vif_vhost *vhost, uint64_t flags, char *reason, size_t reason_size);

// Keeps the vif connected to the front end that listens at its path, whenever
// one does, from now until vif_vhost_disconnect. After that nobody calls back
// for it. Device thread.
int vif_vhost_connect(struct vif_vhost *vhost, char *reason, size_t reason_size);
void vif_vhost_disconnect(struct vif_vhost *vhost);
// Callbacks: before the library forgets a connection, with no lock held, and
// after it was forgotten here.
void vif_vhost_connection_ends(void);
void vif_vhost_lost(struct vif_vhost *vhost);

// Hands the callbacks to the library. The vif must be findable.
int vif_vhost_register_callbacks(const char *path);
// Forgets the connection after the library was told to forget the vif.
void vif_vhost_forget(struct vif_vhost *vhost);
bool vif_vhost_is_connected(struct vif_vhost *vhost);

int vif_vhost_wake_open(struct vhost_wake *wake);
void vif_vhost_wake_close(struct vhost_wake *wake);
// The kick eventfd is added while attached, and removed before it is closed.
int vif_vhost_wake_add(struct vhost_wake *wake, int kick_fd);
void vif_vhost_wake_remove(struct vhost_wake *wake, int kick_fd);
// Wakes the worker that waits.
void vif_vhost_wake_ring(struct vhost_wake *wake);
// Worker: not readable any more, until something new comes. Never blocks.
void vif_vhost_wake_calm(struct vhost_wake *wake);

// Library's threads. Attaches if the driver is ready, and says what is missing
// if not.
void vif_vhost_attach(struct vif_vhost *vhost);
// Takes the attachment away: unlink, wait for the workers, tell the library
// where the rings stand, free. Does nothing without one.
void vif_vhost_detach(struct vif_vhost *vhost);
// Sets the link to why there is no driver.
void vif_vhost_explain(struct vif_vhost *vhost);

#endif
