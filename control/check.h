// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CHECK_H
#define PATCHBAY_CHECK_H

// The invariants of the model, with reasons: may this version take the place
// of that one? Pure: reads the model, changes nothing, knows no JSON and no
// state of a device. Every function returns 0, or -EINVAL with the error
// filled: code, field, a message that says what to do, and the users for
// InUse and PortInUse.
//
// Only what is right for the object alone (ranges, lengths, syntax) is also
// judged by request.c while decoding; check judges it again where another
// caller could get it wrong, and all that needs a second object.

#include "error.h"
#include "model.h"

// May next be put? old is the version in its place or NULL. Codes: BadValue, Immutable, LimitReached, NoSuchReference,
// TargetInUse, VlanTaken, SamePort, PortInUse, BumpNeedsOut, NotFound (its network). Fields of Ts read "tees[2].port".
int check_put(const struct model *model, const struct object *old, const struct object *next, struct error *error);

// May it be taken out? InUse with the users; the network `default` stays (Immutable).
int check_delete(const struct model *model, const struct object *object, struct error *error);

// Finds the object of a path. NULL: NotFound, with the nearest name.
const struct object *check_find(const struct model *model, enum object_kind kind, const char *network, const char *name,
                                struct error *error);
// The position of a T, or -1 with NotFound.
int check_find_tee(const struct wire *wire, const char *name, struct error *error);

// Sets the error for something that isn't there, with the nearest name that is: NotFound for what the path names,
// NoSuchReference for what a field names. Returns -EINVAL.
int check_refuse_missing(const struct model *model, enum patchbay_error code, const char *field, enum object_kind kind,
                         const char *network, const char *name, struct error *error);

// If-Match and If-None-Match as they came, or NULL. object is what is there now, or NULL. Codes: Stale, Exists,
// Malformed. A list of tags ("17", "18") and `*` are taken; a weak tag never is the one that If-Match names, and is the
// one that If-None-Match does.
int check_match(const struct object *object, const char *if_match, const char *if_none_match, struct error *error);
// Of a read: does its If-None-Match (or NULL) name what is there, so that the reader has it already?
int check_fresh(const struct object *object, const char *if_none_match, bool *fresh, struct error *error);

#endif
