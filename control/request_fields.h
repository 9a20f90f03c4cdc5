// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_REQUEST_FIELDS_H
#define PATCHBAY_REQUEST_FIELDS_H

// What a table of fields is made of. request.c has the tables, one a kind of
// object, and runs over them; request_fields.c the decoders and encoders of values.

#include "change.h"
#include "error.h"
#include "model.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// How a body is read.
struct decoding {
    bool patch;              // RFC 7396; else the whole object
    bool stored;             // from the store: fields with FIELD_STORED exist too
    bool in_array;           // a T in its wire's `tees`
    const char *name;        // that `name` must have if it is given; NULL: any
    struct tee_place *place; // where `before` and `after` go; NULL: they aren't taken here
};

struct field;

// Sets the field of the object from a value that isn't NULL but may be JSON's null, which means the default. Returns 0
// or -EINVAL with the error's field set as seen from the object.
typedef int field_decode(const struct decoding *decoding, const struct field *field, const json_t *value,
                         struct object *object, struct error *error);

// Returns a new reference, or NULL: no memory. FIELD_ABSENT: this object doesn't show the field.
typedef json_t *field_encode(const struct field *field, const struct object *object, bool stored);

enum {
    FIELD_REQUIRED = 1 << 0,  // PUT must have it, and not null
    FIELD_READ_ONLY = 1 << 1, // shown; ignored in PUT and in Ts of an array, refused in PATCH
    FIELD_STORED = 1 << 2,    // only in the store's bodies
};

struct field {
    const char *name;
    size_t offset; // in the object's struct
    field_decode *decode;
    field_encode *encode; // NULL: write-only
    const void *parameter;
    unsigned flags;
};

struct field_table {
    const char *noun; // "a vif"
    const struct field *fields;
    size_t count;
};

extern const struct field_table *const request_tables[OBJECT_KIND_COUNT];
extern const struct field_table request_tee_table;

// Runs over a table. Unknown fields are looked for before anything is set.
int request_decode_fields(const struct decoding *decoding, const struct field_table *table, const json_t *body,
                          struct object *object, struct error *error);
json_t *request_encode_fields(const struct field_table *table, const struct object *object, bool stored);

// A value that an encoder returns instead of a reference; never a real one.
extern json_t request_absent;
#define FIELD_ABSENT (&request_absent)

// ---- the kinds of values, with their parameters ----

// enum …: by name.
struct enum_parameter {
    const char *const *names;
    size_t count;
    unsigned fallback; // the default
};
field_decode request_decode_enum;
field_encode request_encode_enum;

// An integer. zero_is_null: 0 is shown as null and null sets it.
struct number_parameter {
    uint64_t min;
    uint64_t max;
    uint64_t fallback;
    size_t size; // of the member: 2, 4 or 8
    bool zero_is_null;
    uint32_t added; // to the number where it is kept, so that 0 is free for null
};
field_decode request_decode_number;
field_encode request_encode_number;

field_decode request_decode_bool;
field_encode request_encode_bool;

// char[LIMIT_NAME_LEN + 1]: a name or null; the parameter says what it names ("port").
field_decode request_decode_reference;
field_encode request_encode_reference;

// struct port_ref: "port" (of the T's network), "network/port" or null.
field_decode request_decode_port_ref;
field_encode request_encode_port_ref;

// char *: a string or null; the parameter is the longest (const size_t *), in bytes.
field_decode request_decode_string;
field_encode request_encode_string;

// A vif's target, under the name that its kind gives it.
field_decode request_decode_target;
field_encode request_encode_target;

field_decode request_decode_name;
field_encode request_encode_name;
field_decode request_decode_uid;
field_encode request_encode_uid;
field_decode request_decode_labels;
field_encode request_encode_labels;
field_decode request_decode_tees;
field_encode request_encode_tees;
field_decode request_decode_place; // `before`, `after`: offset is that in struct tee_place
field_decode request_decode_nothing;

#endif
