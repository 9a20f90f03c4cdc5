// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_PLAN_H
#define PATCHBAY_PLAN_H

// How one wire gets from the set that the dataplane runs to the one that the
// model asks for: in one table, in two (a bump enters: its return legs first),
// or by way of a drain (a bump leaves; one enters whose appliance may have copies inside). Everything that can fail is
// done when a plan is made, before its change is committed.

#include "drain.h"
#include "live.h"

struct plan {
    struct live_wire *live;
    struct live_set *first; // for the first table; owned
    struct live_set *final; // for the second, if it is another; owned; NULL: the first is all
    bool created;           // the live wire was made for this plan
    bool removed;           // the wire is gone from the model
    bool hides;             // and another has taken its name
    struct drain *drain;    // the first table is for the time of a drain: what to do then; owned
    bool ends_drain;        // the first table is what live->drain was waiting for
    bool leaves;            // a bump leaves with the first table, at once
    uint64_t unreturned;    // frames that had not come back when it was settled
};

struct plan_list {
    size_t count;
    size_t room;
    struct plan *items;
};

// How the bumps that leave a wire or enter it are to be drained, as the request says.
struct drain_wish {
    char network[LIMIT_NAME_LEN + 1];
    char name[LIMIT_NAME_LEN + 1];
    uint32_t quiet_ms;
    uint32_t drain_ms; // 0: at once
    size_t order;      // in which they were noted
    bool given;        // asked for; of several for one wire the last that was counts
};

// Adds the plan of a wire; wish NULL: the defaults. at_start: nothing flows
// yet, so one table is enough. A plan that changes nothing isn't added.
// Returns 0, or -ENOMEM.
int plan_wire(struct plan_list *plans, const struct wire_name *name, const struct drain_wish *wish, bool at_start);

// All wires are planned: drained ones that hold what another wants give way. Returns 0 or -ENOMEM.
int plan_yield(struct plan_list *plans);

// A drain is over: what it prepared is published. Returns 0 or -ENOMEM.
int plan_drained(struct plan_list *plans, struct live_wire *live);

// Late legs are taken away: of all wires whose time is up. Returns 0 or -ENOMEM.
int plan_late_over(struct plan_list *plans);
// Is there such a wire?
bool plan_late_pending(void);
// A vif goes: the time of late legs that listen to it is up.
void plan_late_vif(vif_slot vif);

// Needs a second table?
bool plan_needs_two(const struct plan_list *plans);

// Sets what the first table (or the second) is built from; see live_table_build.
void plan_select(struct plan_list *plans, bool second);

// The table was published: what it was built from is now, what was before is kept until no worker uses it.
void plan_published(struct plan_list *plans, bool second);
// No worker uses an older table: retires what is gone.
void plan_settled(struct plan_list *plans);
// All tables are published and settled: begins and ends drains, forgets wires that are gone. Empties the list.
void plan_finish(struct plan_list *plans);

// Undoes all: nothing was published.
void plan_abandon(struct plan_list *plans);

#endif
