// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CONF_REQUEST_H
#define PATCHBAY_CONF_REQUEST_H

// The routes …/conf and …/conf/{key}. A write is a PATCH of the key's field, so
// it goes the way of all commands (command.h) and only its answer differs.

#include "command.h"
#include "conf.h"
#include "routes.h"

// The handlers, for any entity: the target says which.
route_handler conf_read_keys;
route_handler conf_read_key;
route_handler conf_write_key;

// An operation of a transaction that sets a key (value: what its body says) or puts its default back (NULL) becomes the
// PATCH that it is: kind, names, verb and body of the command are set; the body is a new reference. Returns 0, or
// -EINVAL with the error.
int conf_make_patch(const struct target *target, const json_t *body, struct command *command, struct error *error);

// The PATCH by which the object gets the value that its key is to have: nothing where it has that already, perhaps by
// default. For a command's step: what the object has may be another by then than when the request came. A new
// reference, NULL without memory.
json_t *conf_patch(const struct conf_row *row, const struct object *object, json_t *value);

// The key as the command's change has left it. Takes shown, the version that the change made. New reference.
json_t *conf_answer(const struct command *command, json_t *shown);

#endif
