// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_DEVICE_THREAD_H
#define PATCHBAY_DEVICE_THREAD_H

// The one thread that makes and removes vifs, which may block for seconds. It
// takes jobs in order; the control thread gets each back when it is done.

#include "dataplane/dataplane.h"

#include <sys/queue.h>

enum device_verb { DEVICE_CREATE, DEVICE_DESTROY };

// Belongs to the caller, together with the strings of config; not to be
// touched between device_submit and done.
struct device_job {
    STAILQ_ENTRY(device_job) entry;
    enum device_verb verb;
    struct vif_config config; // DESTROY: only slot
    int result;               // of vif_create; -ECANCELED: the daemon stops
    char reason[512];         // why vif_create failed
    bool abandoned;           // the thread's own
    // Called on the control thread; the job may be submitted anew or freed from here on.
    void (*done)(struct device_job *job);
    void *arg;
};

// Starts the thread, and watches for done jobs in the control thread's loop.
int device_thread_start(void);

// Destroys what is queued to be destroyed, makes nothing more, and ends the
// thread. Jobs are not called back any more. Returns false when the thread
// still hangs in a device at the deadline (clock_now): then it is left alone.
bool device_thread_stop(uint64_t deadline);

// Queues a job. Can't fail: the memory is the caller's.
void device_submit(struct device_job *job);

#endif
