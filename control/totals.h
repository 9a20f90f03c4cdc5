// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TOTALS_H
#define PATCHBAY_TOTALS_H

// A wire's counters over all its replugs. The dataplane counts on legs, which
// come and go; what a leg counted is added here when it retires. Each counter
// has a base (of legs that are gone) and a shown value (base and live legs),
// which totals_reset and totals_show make anew for every reader.
//
// A leg's entries are made with the leg, before its change is committed, so
// that adding up later can't fail.

#include "compile.h"

#include <sys/queue.h>

struct leg_sum {
    struct frame_count received;
    uint64_t dropped[DROP_REASON_COUNT];
};

// What one leg sent to one place: "fw.port", "b".
struct to_total {
    TAILQ_ENTRY(to_total) entry;
    char key[COMPILE_KEY_SIZE];
    struct frame_count base, shown;
    struct segment_count segmented_base, segmented;
};

// All legs that had this key ("a", "fw.port") in this direction.
struct leg_total {
    TAILQ_ENTRY(leg_total) entry;
    char key[COMPILE_KEY_SIZE];
    enum leg_direction direction;
    unsigned refs; // live legs that count here
    struct leg_sum base, shown;
    TAILQ_HEAD(, to_total) to;
};

struct tee_sum {
    struct tap_count tap;
    struct frame_count into, out; // of a bump; out without late ones
    uint64_t late;
};

// Whether a tap's monitor keeps up; event_tap.c's own.
struct tap_watch {
    uint64_t lost;        // when it was looked at last
    uint64_t lost_before; // when the overload began
    unsigned quiet;       // rounds without loss
    bool overloaded;
};

struct tee_total {
    TAILQ_ENTRY(tee_total) entry;
    char uid[37];
    unsigned refs;
    struct tee_sum base, shown;
    // The sums when it last became a bump: what went in and came out before doesn't count as unreturned.
    uint64_t into_before, out_before;
    struct tap_watch watch;
};

struct totals {
    TAILQ_HEAD(, leg_total) legs;
    TAILQ_HEAD(, tee_total) tees;
};

// One live leg's way to its entries.
struct leg_account {
    struct leg_total *total;
    struct tee_total *source; // the T whose arm is the source, or NULL
    bool late;                // what it receives is late, not out
    uint16_t step_count;
    struct step_account {
        struct to_total *to;   // BUMP, END
        struct tee_total *tee; // TAP, BUMP
    } steps[];
};

void totals_init(struct totals *totals);
void totals_clear(struct totals *totals);

// Makes an account for a leg of the wire. late: a leg that only drops what
// comes late, source_uid then says whose. Returns NULL without memory.
struct leg_account *totals_open(struct totals *totals, const struct wire *wire, const struct compiled_leg *leg,
                                const char *source_uid, bool late);
// Frees an account. Takes NULL.
void totals_close(struct leg_account *account);

// Adds what a leg counted for good: the leg retires.
void totals_fold(const struct leg_account *account, const struct leg_count *count);

// For readers: totals_reset once, then totals_show for each leg that is still live.
void totals_reset(struct totals *totals);
void totals_show(const struct leg_account *account, const struct leg_count *count);

// NULL: this T has counted nothing yet.
struct tee_total *totals_find_tee(const struct totals *totals, const char *uid);

// Frees what stands for Ts that the wire doesn't have any more, as far as no leg counts there; the frames
// of their legs are kept, under the key "removed" once there are many.
void totals_prune(struct totals *totals, const struct wire *wire);

// Sum of all late drops that are shown.
uint64_t totals_late(const struct totals *totals);

#endif
