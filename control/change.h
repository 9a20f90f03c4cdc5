// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CHANGE_H
#define PATCHBAY_CHANGE_H

// PUT, PATCH and DELETE as operations on a model_change: check, then put or
// remove, with what follows from it (detach, when_ready). JSON-free: request.h
// makes the versions that go in.
//
// A request is one step: model_step, one of these, and model_undo to the mark
// if something later refuses (a device that can't be made). A function that
// fails has changed nothing in its step and taken no slot.

#include "error.h"
#include "model.h"

#include <stdbool.h>

enum change_result {
    CHANGE_SAME,    // identical: no new generation
    CHANGE_UPDATED, // 200
    CHANGE_CREATED  // 201
};

struct change_options {
    bool detach; // DELETE ?detach=1
    bool force;  // ?force=1: a closed bump may enter although an arm is down
    // ?when_ready: -1 not given; 1: a closed bump whose arm is down enters as `off` and is promoted later; 0: a T that
    // waits to be promoted is so no longer.
    int when_ready;
    // A new vif: where the caller has already made its device; VIF_SLOT_NONE: a slot is taken. The slot is then the
    // caller's to release if the step is undone (see model_slot_release).
    vif_slot slot;
    // Is this vif up? For BumpDown and when_ready; NULL: every vif is taken to be.
    bool (*vif_is_up)(void *context, const struct vif *vif);
    void *context;
};

// Initialises one.
#define CHANGE_OPTIONS_DEFAULT                  \
    {                                           \
        .when_ready = -1, .slot = VIF_SLOT_NONE \
    }

// Puts a version made by request_decode (PUT) or request_patch. Always takes ownership of next, which gets the uid
// and slot of the version that it replaces; Ts that keep their name keep their uid. options may be NULL: the defaults.
// Refuses as check_put does, and with BumpDown: a wire that exists gets a bump (a T's mode becomes bump, or its
// ports change, or on_failure becomes closed) with on_failure: closed and an arm that isn't up. A wire that is
// just being made is cut by nobody and may have such bumps.
// Returns a change_result, or -EINVAL with the error filled.
int change_put(struct model_change *change, struct object *next, const struct change_options *options,
               struct error *error);

// The same for a port or wire whose references may lead nowhere, or collide, until the change is complete: check_put is
// the caller's to ask at its end, of every port and wire, and to undo the step if one is refused.
int change_put_unchecked(struct model_change *change, struct object *next, const struct change_options *options,
                         struct error *error);

// Deletes an object. With detach: of a vif, its ports lose it (`vif` null) and keep their uses; of a port, wire ends
// that use it become null, Ts that use it become `off` and lose the reference. Of a network it changes nothing: what is
// in it must be deleted first. Returns 0 or -EINVAL.
int change_delete(struct model_change *change, enum object_kind kind, const char *network, const char *name,
                  const struct change_options *options, struct error *error);

// Where a T goes: at most one is not "".
struct tee_place {
    char before[LIMIT_NAME_LEN + 1];
    char after[LIMIT_NAME_LEN + 1];
};

// Puts the wire that request_decode_tee or request_patch_tee made; fields in errors are then relative to the T (tee is
// its name). As change_put otherwise, but CHANGE_CREATED says that the T is new.
int change_put_tee(struct model_change *change, struct wire *next, const char *tee,
                   const struct change_options *options, struct error *error);

int change_delete_tee(struct model_change *change, const char *network, const char *wire, const char *tee,
                      const struct change_options *options, struct error *error);

// A T with when_ready becomes a bump: its arms have come up. Returns 0 or -EINVAL (gone meanwhile, or it doesn't wait).
int change_promote(struct model_change *change, const char *network, const char *wire, const char *tee,
                   struct error *error);

#endif
