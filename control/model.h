// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_MODEL_H
#define PATCHBAY_MODEL_H

// The desired state: networks, vifs, ports, wires with their Ts. Pure C: no
// DPDK, no JSON, no I/O. One thread (control) owns it.
//
// Objects in the model are immutable versions. A change puts a new version in
// the place of the old one and logs both; commit frees the old ones, rollback
// puts them back. So a failed change changes nothing, whatever it did before
// it failed, and later operations of one change see the earlier ones.

#include "dataplane/dataplane.h"
#include "patchbay/errors.h"
#include "patchbay/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/tree.h>

struct label {
    char key[LIMIT_LABEL_KEY_LEN + 1];
    char *value; // owned
};

// What every object has. First member of each.
struct object {
    char name[LIMIT_NAME_LEN + 1];
    char uid[37];        // UUID of this incarnation
    uint64_t generation; // of its last change of configuration: the ETag
    size_t label_count;
    struct label *labels; // owned
};

struct network {
    struct object object;
};

struct vif {
    struct object object;
    enum vif_kind kind;
    char *target; // owned; path, devargs or interface; NULL for none
    char *owner;  // owned; opaque; NULL: not given
    vif_slot slot;
};

struct port {
    struct object object;
    char network[LIMIT_NAME_LEN + 1];
    char vif[LIMIT_NAME_LEN + 1]; // "": none
    uint16_t vlan;                // 0: untagged
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
    struct object object; // generation is its wire's
    struct port_ref port;
    struct port_ref out_port;
    enum tee_mode mode;
    enum tee_direction direction; // taps
    enum on_failure on_failure;   // bumps
    uint32_t stall_ms;            // bumps: on the legs into it
    bool when_ready;              // bumps: off until its arms come up, then promoted
};

enum on_full { ON_FULL_WAIT, ON_FULL_DROP };
enum admin { ADMIN_UP, ADMIN_DOWN };

struct wire {
    struct object object;
    char network[LIMIT_NAME_LEN + 1];
    char a[LIMIT_NAME_LEN + 1]; // port; "": unplugged
    char b[LIMIT_NAME_LEN + 1];
    enum admin admin;
    enum on_full on_full;
    uint32_t stall_ms;
    size_t tee_count;
    struct tee tees[LIMIT_TEES]; // in order from a to b
};

// Why a request is refused. The message says what to do.
struct error {
    enum patchbay_error code; // PATCHBAY_OK: no error
    char field[128];          // dotted path, "" where none is to blame
    char message[512];
};

#endif
