// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_DEVICES_H
#define PATCHBAY_DEVICES_H

// The vifs' devices: which slot has one, which is being made, failed and will
// be tried again, or is going. The dataplane is only asked about slots that
// this says are there.

#include "device_thread.h"
#include "loop.h"
#include "model.h"

enum device_state {
    DEVICE_MAKING, // the device thread is at it
    DEVICE_THERE,
    DEVICE_FAILED, // could not be made at start; retry is armed
    DEVICE_GOING   // no table names it any more; the device thread removes it
};

struct device {
    vif_slot slot;
    char name[LIMIT_NAME_LEN + 1]; // of the vif
    enum device_state state;
    bool listed;                       // tables that are built now poll it, and may name it
    bool came;                         // by itself, and waits to be listed
    char reason[LIMIT_REASON_LEN + 1]; // why it failed
    uint64_t since;                    // wall clock, of the failure
    unsigned backoff;                  // seconds to the next try
    struct timer retry;
    char *target;           // owned
    uint16_t mtu;           // that it was told; 0: its own
    int monitors;           // published sets of wires that have it as a monitor
    uint64_t monitor_until; // clock_now at which what it was sent as a monitor has surely been dealt with
    bool noticed;           // there was news of it
    uint64_t logged;        // clock_now of the last message about its link
    unsigned unlogged;      // changes since that were not logged
    struct device_job make, remove;
    void (*made)(struct device *device, void *arg); // of device_make
    void *arg;
};

// came: a device that had failed at start is there at last, or one of the
// first attempts is decided. gone: a slot was given back after device_remove.
struct devices_events {
    void (*came)(struct device *device);
    void (*gone)(void);
};

void devices_start(const struct devices_events *events);

// Makes a vif's device in the slot, on behalf of a request. made is called
// when it is decided: state THERE, or FAILED with make.result and make.reason;
// then device_discard is the caller's duty. Returns NULL when memory is out.
struct device *device_make(vif_slot slot, const struct vif *vif, void (*made)(struct device *device, void *arg),
                           void *arg);

// The same for a vif from disk: tried again until it works. Returns 0 or -ENOMEM.
int device_restore(const struct vif *vif);

// Brings a device that is there into the tables that are built from now on, or
// takes it out of them. Can be taken back as long as none was published.
void device_list(struct device *device, bool listed);

// Lists those that came by themselves (from disk). Returns how many there were.
size_t devices_list_restored(void);
// Are there such?
bool devices_restored(void);

// Takes all out, for the last table.
void devices_unlist(void);

// Removes a device that isn't listed and which no table and no leg names, whatever its state. When
// it is gone the slot is given back to the model, and the record is freed.
void device_remove(struct device *device);

// NULL: the slot has none.
struct device *device_find(vif_slot slot);
// May a table that is built now name it?
bool device_usable(vif_slot slot);

// Devices on their way out.
size_t devices_going(void);
// First attempts of restored ones that aren't decided yet.
size_t devices_restoring(void);

// Removes all that are there, for the end of the daemon. No table may name one.
void devices_stop(void);
// Frees the records, after the device thread has ended.
void devices_free(void);

#endif
