// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CONF_H
#define PATCHBAY_CONF_H

// Capabilities: what the host, a network, a port, a vif or a wire can do and
// be told, as keys. One table of rows (conf_rows.c, and what modules register)
// says which entity has which key, and of vifs which kind. It is a view: a row
// that can be written names a field of the object, and writing it is a PATCH
// of that field. A row's get is asked whether the key works now: the list of
// keys is those whose get has a value, so the two can't disagree.
//
// Only the control thread may call these.

#include "error.h"
#include "model.h"

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

enum conf_entity { CONF_HOST, CONF_NETWORK, CONF_PORT, CONF_VIF, CONF_WIRE, CONF_ENTITY_COUNT };

// What is asked about.
struct conf_subject {
    enum conf_entity entity;
    const struct object *object; // current version; NULL: the host
    bool there;                  // a vif: its device is, and state is its
    struct vif_state state;
};

enum conf_access { CONF_NO, CONF_R, CONF_RW };

struct conf_row;

// Returns the value now (a new reference; JSON's null is a value), or NULL: this
// one can't do it now, and why, which is a sentence of what would support it, is
// in reason (CONF_REASON_SIZE bytes).
typedef json_t *conf_get(const struct conf_subject *subject, const struct conf_row *row, char *reason);

enum { CONF_REASON_SIZE = 256 };

struct conf_row {
    enum conf_entity entity;
    const char *key;
    // By kind of vif; all others have theirs in [0].
    enum conf_access access[VIF_KIND_COUNT];
    const char *type;  // "integer", "string", "boolean", "array", "object", also "…|null"
    const char *unit;  // NULL: none
    const char *field; // of the object, that a write sets; NULL: never written
    conf_get *get;
    const char *wants; // where access is CONF_NO: what would support it
    const char *description;
};

// Rows of one module. Their keys begin with "x-" unless they are the standard ones.
struct conf_table {
    const struct conf_row *rows;
    size_t count;
};

extern const struct conf_table conf_standard;  // conf_rows.c
extern const struct conf_table conf_vif;       // conf_vif.c
extern const struct conf_table conf_extension; // conf_extension.c

// Adds a module's rows, which stay the caller's and must not go. Before the server starts. A key that is there
// already ends the program: it is a bug.
void conf_register(const struct conf_table *table);

// Fills the subject: with a vif its device's state is read once.
void conf_subject_fill(struct conf_subject *subject, enum conf_entity entity, const struct object *object);

// {"keys":[…]}, sorted. New reference.
json_t *conf_list(const struct conf_subject *subject);

// The row of a key that works now, with its value (a new reference) unless value is NULL. Returns NULL with the error
// (472 CapNotSupported).
const struct conf_row *conf_find(const struct conf_subject *subject, const char *key, json_t **value,
                                 struct error *error);

// May this subject's key be written?
bool conf_is_writable(const struct conf_subject *subject, const struct conf_row *row);

// {"key","value","type","unit","writable","standard","description"}. Takes value.
json_t *conf_render(const struct conf_row *row, json_t *value, bool writable);

// "wire w1", "the host". Static.
const char *conf_noun(const struct conf_subject *subject);

// Writes docs/conf.md's tables.
void conf_document(FILE *out);

// A value of the object itself: that of row->field.
conf_get conf_get_field;

// "This needs …": for getters. Returns NULL.
json_t *conf_refuse(char *reason, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
