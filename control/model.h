// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_MODEL_H
#define PATCHBAY_MODEL_H

// The desired state: networks, vifs, ports, wires with their Ts. Pure C: no
// DPDK, no JSON, no I/O. One thread (control) owns it; nothing here locks.
//
// Objects in the model are immutable versions. A change puts a new version in
// the place of the old one and logs both; commit frees the old ones, rollback
// puts them back. So a failed change changes nothing, whatever it did before
// it failed, and later operations of one change see the earlier ones. Pointers
// to versions stay good until the change that replaces them is committed (the
// old ones) or rolled back (the new ones).
//
// The model keeps its indices (by name, by use, by a vif's target) right but
// judges nothing: a version that breaks an invariant goes in like any other.
// check.h judges, change.h does both in the right order.

#include "dataplane/dataplane.h"
#include "error.h"
#include "patchbay/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/tree.h>

// ---- objects ----

// In the order in which references point: later kinds name earlier ones.
enum object_kind { OBJECT_NETWORK, OBJECT_VIF, OBJECT_PORT, OBJECT_WIRE, OBJECT_KIND_COUNT };

struct label {
    char key[LIMIT_LABEL_KEY_LEN + 1];
    char *value; // owned
};

// What every object has. First member of each, so that a version can be handled without knowing its kind.
struct object {
    enum object_kind kind;
    char network[LIMIT_NAME_LEN + 1]; // ports, wires, Ts: theirs; "" for the others
    char name[LIMIT_NAME_LEN + 1];
    char uid[37];        // UUID of this incarnation
    uint64_t generation; // of its last change of configuration: the ETag
    unsigned held;       // by readers besides the owner, see object_hold
    size_t label_count;
    struct label *labels;  // owned; sorted by key
    RB_ENTRY(object) node; // the model's
};

// What a use makes of a port. Any number of taps may share one; an end or an arm has it alone; a T that is off
// holds only the reference.
enum port_role { ROLE_END, ROLE_ARM, ROLE_TAP, ROLE_NONE };

// One use of a port by a wire or its T, or of a vif by a port. Lives in the user's version.
struct use {
    RB_ENTRY(use) node;
    const char *network; // what is used; "" for a vif
    const char *name;
    enum use_as as;
    enum port_role role;
    uint16_t vlan;             // of the port on the vif
    const struct object *user; // the wire, or the port
    const struct tee *tee;     // USE_TEE_…, else NULL
};

struct network {
    struct object object;
};

// What an object is told: down means no frames, in or out.
enum admin { ADMIN_UP, ADMIN_DOWN };

struct vif {
    struct object object;
    enum vif_kind kind;
    enum admin admin;
    char *target; // owned; path, devargs or interface; NULL for none
    char *owner;  // owned; opaque; NULL: not given
    uint16_t pin; // the worker that polls all its queues, + 1; 0: where there is room
    uint16_t mtu; // bytes that it is told, kinds dev and kernel-new; 0: the largest that the device takes
    vif_slot slot;
    char *target_key; // owned; the model's: what no two vifs may share, NULL for none
    RB_ENTRY(vif) target_node;
};

// What a port may send into its wire, or be sent.
struct port_rate {
    uint64_t bps;         // bits a second; 0: no limit
    uint32_t burst;       // bytes; 0: a default that depends on bps
    uint32_t pps;         // frames a second; 0: no limit
    uint32_t frame_burst; // frames; 0: a default that depends on pps
};

static inline bool port_rates_equal(const struct port_rate *one, const struct port_rate *other)
{
    return one->bps == other->bps && one->burst == other->burst && one->pps == other->pps &&
           one->frame_burst == other->frame_burst;
}

struct port {
    struct object object;
    char vif[LIMIT_NAME_LEN + 1]; // "": none
    uint16_t vlan;                // 0: untagged
    enum admin admin;
    struct port_rate ingress; // from the port
    struct port_rate egress;  // to it
    struct use use;           // the model's; in the index only if vif isn't ""
};

enum tee_mode { TEE_OFF, TEE_TAP, TEE_BUMP };
enum tee_direction { TEE_BOTH, TEE_A_TO_B, TEE_B_TO_A };
enum on_failure { FAIL_CLOSED, FAIL_OPEN };

// A reference to a port of any network: a T's monitor may be another tenant's.
struct port_ref {
    char network[LIMIT_NAME_LEN + 1];
    char port[LIMIT_NAME_LEN + 1]; // "": none
};

struct tee {
    struct object object; // kind OBJECT_WIRE, network and generation are its wire's
    struct port_ref port;
    struct port_ref out_port;
    enum tee_mode mode;
    enum tee_direction direction; // taps
    enum on_failure on_failure;   // bumps
    uint32_t stall_ms;            // bumps: on the legs into it
    bool when_ready;              // mode is off until its arms come up, then it is promoted to bump
};

enum on_full { ON_FULL_WAIT, ON_FULL_DROP };

struct wire {
    struct object object;
    char a[LIMIT_NAME_LEN + 1]; // port; "": unplugged
    char b[LIMIT_NAME_LEN + 1];
    enum admin admin;
    enum on_full on_full;
    uint32_t stall_ms;
    size_t tee_count;
    struct tee *tees; // owned; in order from a to b
    size_t use_count; // the model's
    struct use *uses; // owned; the model's
};

// Makes a version with the defaults of its kind, a fresh uid and generation 0; network is "" for networks and vifs.
// The caller owns it until model_put takes it. NULL: no memory.
struct object *object_create(enum object_kind kind, const char *network, const char *name);

// A deep copy that isn't in the model: what a change starts from. NULL: no memory.
struct object *object_clone(const struct object *object);

// Frees a version that the model doesn't own, once nobody holds it. Takes NULL.
void object_destroy(struct object *object);

// Holds a version of the model (or one that it has just let go) for a reader that goes on after it was replaced: it is
// freed with the last object_destroy. What the model writes into a version (its indices' nodes) is not the reader's.
struct object *object_hold(const struct object *object);

// The same configuration? uid, generation and slot don't count; those of Ts neither.
bool object_equal(const struct object *one, const struct object *other);

// "vif", "port" …: static.
const char *object_kind_name(enum object_kind kind);

// The API's words, by enumerator; static.
extern const char *const vif_kind_names[];
extern const char *const tee_mode_names[];
// The field that holds a vif's target: "path", "devargs", "interface"; NULL for kind none.
const char *vif_target_field(enum vif_kind kind);

// Sets one label; keeps them sorted. value NULL removes it. Returns 0, -ENOMEM or -ENOSPC (LIMIT_LABELS).
int object_set_label(struct object *object, const char *key, const char *value);
void object_clear_labels(struct object *object);

// Puts a T with the kind's defaults (mode tap) and a fresh uid at position (≤ tee_count). The
// pointer is good until the next insertion or removal. NULL with errno ENOMEM or ENOSPC (LIMIT_TEES).
struct tee *wire_insert_tee(struct wire *wire, size_t position, const char *name);
void wire_remove_tee(struct wire *wire, size_t position);
// Moves a T so that it then stands at position `to`.
void wire_move_tee(struct wire *wire, size_t from, size_t to);
// Returns the T's position, or -1.
int wire_find_tee(const struct wire *wire, const char *name);

// A T's port is reserved as an arm: it is a bump or will be.
static inline bool tee_is_bump(const struct tee *tee)
{
    return tee->mode == TEE_BUMP || tee->when_ready;
}

static inline enum port_role tee_role(const struct tee *tee)
{
    return tee_is_bump(tee) ? ROLE_ARM : tee->mode == TEE_TAP ? ROLE_TAP : ROLE_NONE;
}

// Writes a random UUID (version 4) and its terminator.
void object_make_uid(char uid[static 37]);

// Is it a UUID as object_make_uid writes them?
bool object_uid_valid(const char *uid);

// ---- the model ----

struct model;

// An empty model, also without the network `default`: see model_add_default. NULL: no memory.
struct model *model_create(void);
// Takes NULL.
void model_destroy(struct model *model);

// Of the last committed step; 0 in the beginning.
uint64_t model_generation(const struct model *model);
// For restore only.
void model_set_generation(struct model *model, uint64_t generation);

// Puts an object in without a change and keeps its generation: for restore. A vif without slot gets one. Takes
// ownership unless it fails: -ENOMEM, -EEXIST, -ENOSPC (no slot).
int model_insert(struct model *model, struct object *object);

// NULL if there is none. network is "" (or NULL) for networks and vifs.
const struct object *model_find(const struct model *model, enum object_kind kind, const char *network,
                                const char *name);
const struct network *model_find_network(const struct model *model, const char *name);
const struct vif *model_find_vif(const struct model *model, const char *name);
const struct port *model_find_port(const struct model *model, const char *network, const char *name);
const struct wire *model_find_wire(const struct model *model, const char *network, const char *name);

// The vif that holds this path (vhost, vhost-server), device name (dev: up to the first comma) or interface; NULL if
// free. Paths that differ only in "//" and "/./" are one.
const struct vif *model_find_target(const struct model *model, enum vif_kind kind, const char *target);

// The object at or after name in order (strictly after with `after`), in one network; network NULL: of all networks,
// name is then ignored and the first is meant. Lists and pages are loops over these two.
const struct object *model_first(const struct model *model, enum object_kind kind, const char *network,
                                 const char *name, bool after);
// The next in order, whatever its network; callers that list one network stop where network changes
// (model_next_in does). NULL at the end.
const struct object *model_next(const struct object *object);
const struct object *model_next_in(const struct object *object);
// What comes after a name in that order, whether or not there is an object of it; network is "" for networks and vifs.
const struct object *model_after(const struct model *model, enum object_kind kind, const char *network,
                                 const char *name);
const struct object *model_prev(const struct object *object);

// How many there are in all; in one network (O(count)); of one kind of vif.
size_t model_count(const struct model *model, enum object_kind kind);
size_t model_count_in(const struct model *model, enum object_kind kind, const char *network);
size_t model_count_vifs(const struct model *model, enum vif_kind kind);

// Who uses a port (wires, Ts), or a vif (ports; network is ""). Ordered by role (ends and arms, then taps, then
// Ts that are off), so that a monitor with 100,000 taps can be judged by its first use; then by the user's network
// and name. A vif's ports are ordered by their VLAN. O(log n + users). NULL: nobody. A T's use is there in every mode,
// off too.
const struct use *model_first_use(const struct model *model, enum object_kind kind, const char *network,
                                  const char *name);
// The first of the ports on this VLAN of the vif, 0: untagged; O(log n). NULL: none. In a model that was checked there
// is no second one, but for a moment the version that takes the place of the first.
const struct use *model_first_use_of_vlan(const struct model *model, const char *vif, uint16_t vlan);
const struct use *model_next_use(const struct use *use);

// ---- vif slots ----

// Takes a free slot, the lowest. VIF_SLOT_NONE: all LIMIT_VIFS are taken. Neither deletion of the vif nor rollback
// gives it back: only model_slot_release does, once vif_destroy has returned (or if vif_create was never called).
vif_slot model_slot_take(struct model *model);
void model_slot_release(struct model *model, vif_slot slot);
size_t model_slots_taken(const struct model *model);

// ---- changes ----

struct model_record {
    struct object *old; // NULL: made here
    struct object *new; // NULL: removed here
};

// One open change at a time. It holds one step per request of a group: each step has a generation of its own,
// if it changes anything, and can be undone alone as long as it is the last.
struct model_change {
    struct model *model;
    struct model_record *records; // in order; an object may occur several times
    size_t record_count;
    size_t record_size;  // allocated
    uint64_t generation; // of the last step that changed something
    bool step_fresh;     // the step has changed nothing yet
};

struct model_mark {
    size_t record_count;
    uint64_t generation;
};

void model_begin(struct model *model, struct model_change *change);

// Begins the next step (the first needs one too).
struct model_mark model_step(struct model_change *change);

// Puts a version in the place of the one with its kind, network and name, if any, and stamps it (and its Ts)
// with the step's generation. Always takes ownership; on failure (-ENOMEM) it is destroyed and nothing has changed.
int model_put(struct model_change *change, struct object *object);

// Takes an object out. Returns 0, -ENOENT or -ENOMEM.
int model_remove(struct model_change *change, enum object_kind kind, const char *network, const char *name);

// Undoes all since the mark; newest first. Can't fail.
void model_undo(struct model_change *change, struct model_mark mark);

// Nothing was changed: commit would be idle.
bool model_change_is_empty(const struct model_change *change);

// Frees the replaced versions; the model's generation is the change's. Can't fail. The change is closed.
void model_commit(struct model_change *change);

// Puts everything back. Can't fail. The change is closed.
void model_rollback(struct model_change *change);

// Makes the network `default` if it isn't there. Returns 0 or -ENOMEM.
int model_add_default(struct model_change *change);

#define NETWORK_DEFAULT "default"

#endif
