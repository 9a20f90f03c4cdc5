// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_REQUEST_H
#define PATCHBAY_REQUEST_H

// Between JSON and the model's versions, by tables (field, offset, decoder,
// encoder): requests are decoded, answers and the store's bodies encoded by
// the same ones. A field is added in its table and nowhere else.
//
// Functions that refuse return NULL with the error filled: Malformed,
// TooLarge, UnknownField (with the nearest name), BadValue (with what was expected),
// LimitReached; Internal without memory.

#include "change.h"
#include "error.h"
#include "model.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

// Parses a body: at most LIMIT_REQUEST_BYTES, LIMIT_REQUEST_DEPTH levels (looked at before anything is built), UTF-8,
// no key twice, an object at the top. Returns a new reference.
json_t *request_parse(const char *body, size_t size, struct error *error);

// PUT: a whole new version of what the path names; what isn't given has its default. `uid` and `status` are ignored.
// The caller owns it (change_put takes it, and gives it the uid of the one that it replaces).
struct object *request_decode(enum object_kind kind, const char *network, const char *name, const json_t *body,
                              struct error *error);

// PATCH (RFC 7396) of a version: fields named are set, null means the default, arrays replace whole, labels merge.
struct object *request_patch(const struct object *old, const json_t *body, struct error *error);

// PUT and PATCH of one T, existing or (PUT) new: a new version of its wire, for change_put_tee. `before` or `after`
// says where it goes; else it stays, and a new one goes last.
struct wire *request_decode_tee(const struct wire *old, const char *tee, const json_t *body, struct error *error);
struct wire *request_patch_tee(const struct wire *old, const char *tee, const json_t *body, struct error *error);

// The configuration, and the uid, in the order of docs/api.md; without status (also in the Ts). New reference; NULL:
// no memory.
json_t *request_encode(const struct object *object);
json_t *request_encode_tee(const struct tee *tee);

// {"error":{…}} with details.used_by, and details.total where not all users had room. New reference; NULL: no memory.
json_t *request_encode_error(const struct error *error);
// One user as in status.used_by.
json_t *request_encode_user(const struct user *user);
json_t *request_encode_use(const struct use *use);

// For the store: all that makes the version again, the Ts' uids and when_ready included; and back.
json_t *request_encode_stored(const struct object *object);
struct object *request_decode_stored(enum object_kind kind, const char *network, const char *name, const json_t *body,
                                     struct error *error);

// "vhost", "tap", "wait" …; static.
const char *request_vif_kind_name(enum vif_kind kind);
const char *request_tee_mode_name(enum tee_mode mode);

#endif
