// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_FAKE_DATAPLANE_H
#define PATCHBAY_FAKE_DATAPLANE_H

// What the two files of the test double share. fake_lock guards all of it.

#include "dataplane/dataplane.h"

#include <pthread.h>
#include <sys/queue.h>

struct fake_vif {
    bool exists;
    bool news;
    bool listed;     // vif_list
    bool in_build;   // was listed when the newest table was built
    uint64_t seen;   // the build that met it last
    bool current;    // the current table polls it
    uint16_t queues; // that it was listed with
    bool polled;     // workers may have a table that polls it
    bool full;       // as a monitor: it has no room
    uint16_t pin;
    bool is_ethdev;                // it has an MTU
    bool mtu_fixed;                // which can't be set
    uint16_t left;                 // queues that vif_queue_left was called for since the last publish; a bit each
    unsigned load[VIF_QUEUES_MAX]; // percent of a worker
    uint64_t busy_cycles[VIF_QUEUES_MAX];
    char name[LIMIT_NAME_LEN + 1];
    struct vif_state state;
    struct vif_count count;
};

struct leg {
    LIST_ENTRY(leg) entry;
    struct hop_program program;
    struct leg_count count;
    uint64_t seen; // the build that met it last
};

struct wire_table {
    struct wire_table *next; // retired, not yet left by "workers"
    uint64_t generation;
    uint64_t until;                      // when the workers have left it
    uint64_t token;                      // of the publish that retired it
    uint16_t (*workers)[VIF_QUEUES_MAX]; // by slot: who polls its queues; NULL: none was ever placed
    size_t count;
    struct table_entry entries[];
};

struct fake {
    struct fake_vif vifs[LIMIT_VIFS];
    uint32_t vif_count;
    uint32_t news;
    char making[LIMIT_NAME_LEN + 1]; // by vif_create at the moment
    int event_fd;
    LIST_HEAD(, leg) legs;
    uint32_t leg_count;
    struct wire_table *current;
    struct wire_table *retired;
    uint64_t token;
    uint64_t publish_wait_ns;
    uint64_t frames; // that were sent
    unsigned worker_count;
    bool loaded;           // any queue has a load
    uint64_t worked_until; // fake_clock up to which loads have been added up
    uint64_t worker_busy[LIMIT_WORKERS];
    bool placed; // vif_place_queue was called
    uint64_t moves;
    bool fail_on;   // targets with "fail:" in them fail
    uint64_t loops; // of its worker
    bool stuck;     // its worker hangs
    void (*log)(enum log_level level, const char *component, const char *message);
};

extern pthread_mutex_t fake_lock;
extern struct fake fake;

uint64_t fake_clock(void);

// With fake_lock held.
struct fake_vif *fake_find_vif(const char *name);
void fake_set_link(struct fake_vif *vif, enum vif_link link, const char *reason);
void fake_grow(struct fake_vif *vif, uint16_t queues);
// Adds up what the queues' loads have come to by now.
void fake_work(void);

// Listens on the path in the environment's PATCHBAY_FAKE, if it is there.
int fake_command_start(char *reason, size_t reason_size);
void fake_command_stop(void);

#endif
