// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_CHANGE_H
#define PATCHBAY_CLI_CHANGE_H

// What the changing commands share: where objects are, values from the command
// line, and the wire as it stands after the change.

#include "command.h"

#include <jansson.h>
#include <stdint.h>

// ---- paths; of the call's network ----

const char *change_network_path(const struct call *call);
const char *change_port_path(const struct call *call, const char *port);
const char *change_wire_path(const struct call *call, const char *wire);
const char *change_tee_path(const struct call *call, const char *wire, const char *tee);

// The path with what makes the request wait for a drain to end.
const char *change_wait(const struct call *call, const char *path);

// ---- values ----

// Argument i as a name, which goes into a path: NULL after a message if it
// can't be one.
const char *change_name(const struct call *call, size_t i, const char *what);

// Puts the --label options into body. Returns an exit code.
int change_labels(const struct call *call, json_t *body);

// Puts a number option into body under key, if it is given. Returns an exit
// code.
int change_number(const struct call *call, const char *option, const char *key, long long least, long long most,
                  json_t *body);

// Puts a text option into body under key, if it is given.
void change_text(const struct call *call, const char *option, const char *key, json_t *body);

// A key that a `set` command takes.
struct change_key {
    const char *name;    // up to one without
    const char *choices; // "x|y", or NULL
    long long most;      // > 0: a number up to this
};

// Reads the arguments from first on, each KEY=VALUE, into a patch. Returns an
// exit code.
int change_set(const struct call *call, size_t first, const struct change_key *keys, json_t *patch);

// ---- after the change ----

// Reads a wire; refusals are told. Returns an exit code.
int change_read_wire(struct call *call, const char *network, const char *wire, struct reply *reply);

// Prints a wire as it stands now, once it has drained. before is what it was
// (NULL: not known): if a bump has left it since, the drain's outcome is
// printed, too. Returns an exit code.
int change_print_wire(struct call *call, const char *network, const char *wire, const json_t *before);

// Prints the object (JSON) or the sentence.
void change_print(const struct call *call, const json_t *object, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

// Prints each of the wires that an object's status.used_by names as it stands
// now (as text only). Returns an exit code.
int change_print_users(struct call *call, const json_t *users);

#endif
