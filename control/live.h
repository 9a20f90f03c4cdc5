// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_LIVE_H
#define PATCHBAY_LIVE_H

// What the dataplane runs of each wire, as opposed to what the model wants:
// the legs, their counters, and whether a bump is being drained. The two
// differ while a change is on its way.
//
// A set is what one wire enters into one wire table. Sets are immutable; legs
// are shared between them as long as their program and source are the same.
// A leg that is in no set any more has retired: once no worker uses it, its
// counters are folded into the wire's totals and it is destroyed.

#include "compile.h"
#include "loop.h"
#include "totals.h"

#include <sys/queue.h>
#include <sys/tree.h>

struct live_leg {
    LIST_ENTRY(live_leg) entry; // of its wire: all that are not destroyed yet
    struct live_wire *wire;
    unsigned refs; // sets that have it
    char key[COMPILE_KEY_SIZE];
    enum leg_direction direction;
    vif_slot vif;
    uint16_t vlan;
    bool late;       // only drops, what still comes from an arm whose T was taken out
    char source[37]; // uid of the bump whose arm it comes from; "": from an end
    struct leg *leg;
    struct leg_account *account;
    struct hop_program *program; // to compare with; allocated for its steps only
};

// Where an arm's frames come in; slot VIF_SLOT_NONE: nowhere.
struct live_arm {
    vif_slot vif;
    uint16_t vlan;
};

// A bump that frames pass, in order from a to b.
struct live_bump {
    char uid[37];
    char name[LIMIT_NAME_LEN + 1];
    struct live_arm arms[2]; // port, out_port
};

// A leg in a set. What a table is built from is copied here, so that building
// one doesn't touch the legs themselves.
struct live_item {
    struct live_leg *leg;
    struct leg *handle;
    vif_slot vif;
    uint16_t vlan;
    bool held;
    bool late;
};

struct live_set {
    size_t count;
    struct live_item *items;
    size_t monitor_count;
    struct compiled_monitor *monitors;
    size_t bump_count;
    struct live_bump *bumps;
};

struct live_wire {
    RB_ENTRY(live_wire) node;
    TAILQ_ENTRY(live_wire) entry;
    size_t index; // in live_vector
    char network[LIMIT_NAME_LEN + 1];
    char name[LIMIT_NAME_LEN + 1];
    char uid[37];
    bool hidden;           // its name is another wire's by now; it is on its way out
    struct live_set *now;  // in the published table
    struct live_set *next; // in the table being built; NULL: as now
    LIST_HEAD(, live_leg) legs;
    struct totals totals;
    struct drain *drain; // NULL: steady
    // Of the last drain.
    bool drained;
    uint64_t unreturned;
    uint64_t late_before; // late drops before it
    struct timer late_end;
    bool late_over; // it has fired, or the legs have to go for another reason
};

TAILQ_HEAD(live_list, live_wire);

// All wires that the dataplane knows or is about to.
const struct live_list *live_wires(void);
struct live_wire *const *live_vector(size_t *count);
struct live_wire *live_find(const char *network, const char *name);
// Returns NULL without memory.
struct live_wire *live_create(const struct wire *wire);
// Makes room for a wire that takes the name of one that goes with the same table: live_find doesn't see the old one any
// more; and back, when that one is destroyed again.
void live_hide(struct live_wire *live);
void live_unhide(struct live_wire *live);
// Forgets a wire that has no legs any more.
void live_destroy(struct live_wire *live);

enum live_shape {
    LIVE_STEADY,
    // Bumps that the published set doesn't have …
    LIVE_SETTLING, // … are away: their arms get nothing, and what they send is discarded
    LIVE_ENTERING  // … are sources only: nothing is sent into them yet
};

// Arms of bumps that were taken out are listened to for so long, to count what
// is late; monitors that are none any more are taken to be silent after it.
enum { LATE_WATCH_MS = 1000 };

// Compiles the wire of the model into a set, sharing legs with the published
// one. Late legs of the published set are taken over, and those arms that
// leave get one, where nothing else of the wire is at their place.
// Returns NULL without memory.
struct live_set *live_build(struct live_wire *live, const struct wire *wire, enum live_shape shape);

// The published set with the ends held; without `late`: as it is, less the late legs. NULL without memory.
struct live_set *live_hold(const struct live_wire *live);
struct live_set *live_without_late(const struct live_wire *live);
// A wire that is gone. NULL without memory.
struct live_set *live_empty(void);
// Adds a leg to a set that has room.
void live_add(struct live_set *set, struct live_leg *leg, bool held);
// An empty set with room for so many of each. NULL without memory.
struct live_set *live_open(size_t items, size_t monitors, size_t bumps);

// Gives a set back. Legs that are in no set any more are folded and destroyed:
// no worker may use them. Takes NULL.
void live_release(struct live_wire *live, struct live_set *set);

bool live_sets_equal(const struct live_set *one, const struct live_set *other);

// Which bumps change: in `to` but not, or with other arms, in `from`.
bool live_has_entering(const struct live_set *from, const struct live_set *to);
// In `from` but not, with other arms or in another order, in `to`: what is inside them would go astray.
bool live_has_leaving(const struct live_set *from, const struct live_set *to);
bool live_bump_stays(const struct live_bump *bump, const struct live_set *to);

// Does the set name the vif, as source, arm, receiver or monitor?
bool live_set_names(const struct live_set *set, vif_slot vif);

// Does the set have a late leg that listens to the vif (VIF_SLOT_NONE: any)?
bool live_has_late(const struct live_set *set, vif_slot vif);

// Whether something may still be inside the appliance of a bump that enters
// with `to`: an arm is a monitor or was one a moment ago, or it was taken out a
// moment ago while frames had not come back.
bool live_must_settle(const struct live_wire *live, const struct live_set *to);

// A set takes the place of another in the published table: notes which vifs
// are monitors, and until when they were.
void live_note_monitors(const struct live_set *from, const struct live_set *to);

// Brings totals.shown up to date, for a reader.
void live_read(struct live_wire *live);

// Frames received from arms so far, to see silence. Those of bumps that stay
// count too: with the ends held they fall silent like the others. From arms of
// bumps that only `next` has (NULL: none), what was discarded counts.
uint64_t live_received_from_arms(const struct live_wire *live, const struct live_set *next);

// A set is about to be published: bumps that it has and the published one hasn't begin their stay.
void live_note_entering(struct live_wire *live, const struct live_set *to);

// Frames that went into the bumps of `from` which the published set doesn't
// have any more, and have not come out during their stay: an upper bound of
// what is lost, since an appliance may drop by design.
uint64_t live_unreturned(struct live_wire *live, const struct live_set *from);

#endif
