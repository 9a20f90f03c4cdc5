// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TESTS_RACE_VIF_H
#define PATCHBAY_TESTS_RACE_VIF_H

// In-memory vifs for real workers on real threads. What one sends is numbered;
// whoever receives checks at once that no frame of a source is missing, double
// or out of order, whichever vif it was that got the one before. The kind takes
// the place of ethdevs (VIF_DEV).

#include "dataplane/copy.h"
#include "dataplane/leg.h"
#include "dataplane/vif.h"
#include "dataplane/wire_table.h"

// Built with a sanitizer, whichever the compiler.
#if defined(__SANITIZE_ADDRESS__)
#define RACE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RACE_ASAN 1
#endif
#endif
#ifdef COPY_TSAN
#define RACE_TSAN 1
#endif

enum { RACE_SOURCES = 8, RACE_SLOTS = 64 };

// What hangs behind vif->attachment: poisoned and freed as soon as a quiesce
// has returned.
struct race_attachment {
    uint64_t magic;
};

struct race_vif {
    struct vif *vif;
    uint32_t source; // whose numbers it sends; RACE_SOURCES: it sends nothing
    uint32_t lcg;    // receiver: how much room it happens to have; under the txq's lock
    _Atomic bool never_full;
    _Atomic bool stuck;
    uint64_t got; // receiver: frames; under the txq's lock

    // Sleeping. ready: frames that there are; endless: always as many as wanted.
    _Atomic uint64_t ready;
    _Atomic bool endless;
    _Atomic bool armed;
    int wake_fd; // -1: none
};

struct race_source {
    uint64_t next;             // number of the next frame to complete; the polling worker's
    uint64_t expected;         // number that a receiver must see next; the polling worker's
    _Atomic uint64_t complete; // for others
    struct {
        uint8_t bytes[64];
    } frames[2 * LIMIT_BURST_FRAMES];
};

extern struct race_source race_sources[RACE_SOURCES];
extern _Atomic uint64_t race_errors; // wrong frames seen
extern _Atomic bool race_attached;   // vifs without an attachment are down, and it is looked at

struct race_vif *race_vif_open(vif_slot slot, uint32_t source);
void race_vif_close(vif_slot slot);
// Nobody polls any vif any more, nor names one; then all of them are destroyed.
void race_unlist_all(void);
void race_close_all(void);
// As a guest: some more frames are there, and the worker is woken if it asked for it.
void race_vif_send(struct race_vif *vif, uint64_t count);

// The threads and the empty table; workers from 1 up.
void race_start(unsigned workers, enum poll_mode poll);
void race_stop(void);

// Publishes the table and waits until all workers use it.
void race_publish(const struct table_entry *entries, size_t count);
// The same, and looks all the time, so that it frees at the first moment.
void race_publish_eagerly(const struct table_entry *entries, size_t count);
// Waits, with patience, until the condition holds; false: it didn't.
bool race_wait(bool (*condition)(void *argument), void *argument);
bool race_pause_us(unsigned us);

// received = delivered + dropped; offered = copied + dropped = received.
struct leg_count race_leg_check(const struct leg *leg);

#endif
