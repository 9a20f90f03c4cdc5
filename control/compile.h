// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_COMPILE_H
#define PATCHBAY_COMPILE_H

// From a wire to the hops that the dataplane runs: a pure function of the
// model. Nothing here knows whether a device is up; the dataplane does.
//
// For a ─ tap1 ─ bump fw(port, out_port) ─ tap2 ─ b there are four legs:
//   a            tap tap1, bump fw → port, tap tap2, end b
//   fw.out_port  tap tap2, end b
//   b            tap tap2, bump fw → out_port, tap tap1, end a
//   fw.port      tap tap1, end a
// The steps after a bump are what happens when it has failed and is open.
//
// What is odd, and how it compiles:
//   admin down                    every leg, also from arms: drop admin_down. No tap sees anything.
//   an end is unplugged           taps and bumps as always, at its place: drop unplugged. It is no source.
//   an end's port has no vif      the same with drop down
//   a port or its vif is down     (admin) its own leg: drop admin_down, no tap sees it. As an end's: drop admin_down
//                                 there; as a tap's or an arm's: as without a vif, but a source still.
//   a tap's port has no vif       the step is there with VIF_SLOT_NONE: offered and dropped as down
//   a bump's arm has no vif       closed: drop bump_down, which ends the program; open: left out.
//                                 The arm that has one stays a source.
//   a T is off                    nothing, and its ports are no sources

#include "dataplane/dataplane.h"
#include "model.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// Where a T is in a sequence of published tables, for changes under load.
enum tee_phase {
    PHASE_STEADY,
    PHASE_SETTLING, // a bump isn't there yet: its arms are monitors that get nothing, and what they send is discarded
    PHASE_ENTERING, // a bump's arms are sources already, but no leg sends into it yet
    PHASE_LEAVING   // a bump: no leg sends into it any more; what its arms still send is dropped as late
};

struct compile_options {
    bool held;                         // the entries of a and b are held (drain)
    enum tee_phase phases[LIMIT_TEES]; // by position; of bumps only
};

enum leg_direction { LEG_A_TO_B, LEG_B_TO_A };

enum {
    COMPILE_LEGS_MAX = 2 + 2 * LIMIT_TEES,
    COMPILE_MONITORS_MAX = 2 * LIMIT_TEES,
    COMPILE_KEY_SIZE = LIMIT_NAME_LEN + sizeof(".out_port"),
    COMPILE_PATH_MAX = LIMIT_TEES + 2,
    COMPILE_PATH_SIZE = LIMIT_NAME_LEN + sizeof("bump ")
};

// The tag of steps that belong to no T. Others carry the T's position in the wire's version that was compiled.
#define COMPILE_TAG_NONE UINT32_MAX

// A source of frames and what is done with them: one entry of the wire table.
struct compiled_leg {
    char key[COMPILE_KEY_SIZE]; // "a", "b", "fw.port", "fw.out_port": unique in the wire, stable over its changes
    enum leg_direction direction;
    uint32_t tag;  // position of the bump whose arm is the source; COMPILE_TAG_NONE for a and b
    vif_slot vif;  // the source
    uint16_t vlan; // as in struct table_entry: TABLE_ANY_VLAN, TABLE_UNTAGGED or the tag
    bool held;
    struct hop_program program;
};

// A tap's target that is to be entered as monitor. Several Ts may name the same: entries must not repeat.
struct compiled_monitor {
    vif_slot vif;
    uint16_t vlan;
};

// About 25 KB: meant to be reused for one wire after the other. Only the first leg_count, step_count … items are set.
struct compiled_wire {
    size_t leg_count; // in the order a, b, then T by T: port, out_port
    size_t monitor_count;
    struct compiled_monitor monitors[COMPILE_MONITORS_MAX];
    struct compiled_leg legs[COMPILE_LEGS_MAX];
};

// Compiles one wire of the model (or a clone of a version: only its ports are looked up). options may be NULL: steady,
// not held. All references must be right (check.h); one that isn't counts as unplugged.
void compile_wire(const struct model *model, const struct wire *wire, const struct compile_options *options,
                  struct compiled_wire *out);

// The program that drops all as late: for arms whose T is no longer in the model.
void compile_late(struct hop_program *program);

// The same steps, tags included?
bool compile_program_equal(const struct hop_program *one, const struct hop_program *other);

// Where a BUMP or END step of a leg leads: "fw.port", "b".
void compile_step_name(const struct wire *wire, enum leg_direction direction, const struct hop_step *step,
                       char name[static COMPILE_KEY_SIZE]);

// Where a port's frames come in: its vif and what the table's entry calls its VLAN. False: it has no vif.
// shared: others use the vif too, so nobody waits for it.
bool compile_source(const struct model *model, const struct port *port, vif_slot *vif, uint16_t *vlan, bool *shared);

// A tap that isn't off sends to the port: its vif is to be entered as monitor.
bool compile_is_monitor(const struct model *model, const struct port *port);

// The wire as frames see it: "vm1", "bump fw", "tap ids", "vm2"; an end that is unplugged is "". Ts that are off aren't
// there. Returns the count (≥ 2).
size_t compile_path(const struct wire *wire, char path[static COMPILE_PATH_MAX][COMPILE_PATH_SIZE]);

// ---- which wires a change concerns ----

struct wire_name {
    char network[LIMIT_NAME_LEN + 1];
    char name[LIMIT_NAME_LEN + 1];
};

// Sorted, each once; items are the caller's to free() with wire_list_clear.
struct wire_list {
    size_t count;
    size_t size; // allocated
    struct wire_name *items;
};

void wire_list_clear(struct wire_list *list);

// Wires whose legs or status may depend on the vif, on the port. They add to the list; call wire_list_sort
// after the last. Return 0 or -ENOMEM.
int compile_wires_of_vif(const struct model *model, const char *vif, struct wire_list *list);
int compile_wires_of_port(const struct model *model, const char *network, const char *port, struct wire_list *list);
void wire_list_sort(struct wire_list *list);

// All wires that the change makes, changes or removes, and those on ports and vifs that it touches (a second port on a
// vif makes it a shared one): the ones to compile anew. A name that the model doesn't have any more was removed.
// To be called before the change is committed. Returns 0 or -ENOMEM; the list is sorted.
int compile_affected(const struct model_change *change, struct wire_list *list);

#endif
