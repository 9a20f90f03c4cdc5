// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_COMMAND_H
#define PATCHBAY_COMMAND_H

// One change that a client asks for (or that Patchbay makes itself: the
// promotion of a T that waited for its arms), from its arrival to its answer.

#include "change.h"
#include "devices.h"
#include "server.h"

#include <sys/queue.h>

enum command_verb { COMMAND_PUT, COMMAND_PATCH, COMMAND_DELETE, COMMAND_PROMOTE, COMMAND_BATCH };

struct batch;

// Parameters of the query, with their defaults.
struct command_options {
    bool detach;
    bool force;
    int when_ready; // -1: not given
    uint32_t quiet_ms;
    uint32_t drain_ms;
    uint32_t wait_seconds; // 0: answer at once
    bool drain_given;      // quiet_ms or drain_ms is the request's, not the default
};

struct conf_row;

struct command {
    TAILQ_ENTRY(command) entry; // of the one list that it is in
    struct exchange *exchange;  // NULL: nobody waits for the answer
    enum command_verb verb;
    enum object_kind kind;
    bool is_tee;                      // the object is a T; name is its wire's
    char network[LIMIT_NAME_LEN + 1]; // "" for networks and vifs
    char name[LIMIT_NAME_LEN + 1];
    char tee[LIMIT_NAME_LEN + 1];
    json_t *body;                         // PUT, PATCH; of a key: the value that it is to have
    const struct conf_row *conf;          // it writes this key, and is answered with it; else NULL
    const char *if_match, *if_none_match; // the exchange's, or the operation's; NULL: not given
    bool quiet;                           // an operation of a transaction: its answer shows no object
    struct batch *batch;                  // COMMAND_BATCH: many changes in one step; owned
    struct command_options options;

    // A new vif.
    struct device *device; // made for it
    struct timer timeout;
    struct drain *drain; // for whose end it waits

    // What its step did.
    enum change_result result;
    uint64_t generation;      // of the object
    json_t *shown;            // the version that it made, or the last representation of what it deleted
    vif_slot removed;         // of the vif that it deleted; VIF_SLOT_NONE: none
    bool changed;             // something; an identical PUT doesn't
    uint64_t step_generation; // the model's after its step
    size_t record_end;        // its records in the change end here, and begin where those of the command before it end
};

TAILQ_HEAD(command_list, command);

// Returns NULL without memory. Takes body unless it fails.
struct command *command_create(struct exchange *exchange, enum command_verb verb, json_t *body);
// Frees a command that was answered.
void command_destroy(struct command *command);

// Does the command's step in an open change: the version it asks for is in the
// model. Returns 0, or -EINVAL with the error; then the step has changed nothing.
int command_step(struct command *command, struct model_change *change, struct error *error);

// Would it make a vif that isn't there, and hasn't it got its device?
bool command_needs_device(const struct command *command);

// A relative path of a vhost socket is taken under --vhost-dir: what is kept and
// shown is absolute. Returns 0 or -EINVAL with the error.
int command_place_target(struct object *object, struct error *error);
// A vif may be pinned to a worker that there is. (One from disk, to one that there was, is polled by any.)
int command_check_worker(const struct object *object, struct error *error);

// The answer's status, if it succeeds.
unsigned command_status(const struct command *command);

// Answer, log and free.
void command_succeed(struct command *command);
void command_fail(struct command *command, const struct error *error);

#endif
