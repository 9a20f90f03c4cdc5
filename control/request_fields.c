// SPDX-License-Identifier: BSD-3-Clause
// The decoders and encoders of the kinds of values that objects have.

#include "request_fields.h"
#include "names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

json_t request_absent;

static void *member(const struct field *field, struct object *object)
{
    return (char *)object + field->offset;
}

static const void *const_member(const struct field *field, const struct object *object)
{
    return (const char *)object + field->offset;
}

static const char *describe(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
        return "a number";
    case JSON_REAL:
        return "a number with a fraction";
    case JSON_NULL:
        return "null";
    default:
        return json_is_true(value) ? "true" : "false";
    }
}

static int refuse_type(const char *name, const char *wanted, const json_t *value, struct error *error)
{
    return error_set(error, PATCHBAY_ERROR_BAD_VALUE, name, "%s must be %s, not %s", name, wanted, describe(value));
}

static int refuse_no_memory(struct error *error)
{
    return error_set(error, PATCHBAY_ERROR_UNAVAILABLE, NULL, "out of memory; nothing was changed, try again");
}

// Such text would do things to the terminal that shows it.
static bool has_control_character(const char *text)
{
    for (const char *c = text; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return true;
    }
    return false;
}

// ---- enumerations, numbers, flags ----

int request_decode_enum(const struct decoding *decoding, const struct field *field, const json_t *value,
                        struct object *object, struct error *error)
{
    (void)decoding;
    const struct enum_parameter *parameter = field->parameter;
    unsigned *out = member(field, object);
    char choices[128] = "";
    for (size_t i = 0; i < parameter->count; i++) {
        strlcat(choices, i == 0 ? "\"" : i + 1 < parameter->count ? "\", \"" : "\" or \"", sizeof(choices));
        strlcat(choices, parameter->names[i], sizeof(choices));
    }
    strlcat(choices, "\"", sizeof(choices));
    if (json_is_null(value)) {
        *out = parameter->fallback;
        return 0;
    }
    if (!json_is_string(value))
        return refuse_type(field->name, choices, value, error);
    for (size_t i = 0; i < parameter->count; i++) {
        if (strcmp(json_string_value(value), parameter->names[i]) == 0) {
            *out = (unsigned)i;
            return 0;
        }
    }
    for (size_t i = 0; i < parameter->count; i++)
        if (strcasecmp(json_string_value(value), parameter->names[i]) == 0)
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field->name,
                             "%s must be %s, not \"%.80s\"; write \"%s\", in small letters", field->name, choices,
                             json_string_value(value), parameter->names[i]);
    return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field->name, "%s must be %s, not \"%.80s\"", field->name, choices,
                     json_string_value(value));
}

json_t *request_encode_enum(const struct field *field, const struct object *object, bool stored)
{
    (void)stored;
    const struct enum_parameter *parameter = field->parameter;
    return json_string(parameter->names[*(const unsigned *)const_member(field, object)]);
}

int request_decode_number(const struct decoding *decoding, const struct field *field, const json_t *value,
                          struct object *object, struct error *error)
{
    (void)decoding;
    const struct number_parameter *parameter = field->parameter;
    uint64_t number = parameter->fallback;
    if (!json_is_null(value)) {
        json_int_t given = json_integer_value(value);
        if (!json_is_integer(value) || given < 0 || (uint64_t)given < parameter->min ||
            (uint64_t)given > parameter->max) {
            char shown[32] = "";
            if (json_is_integer(value))
                snprintf(shown, sizeof(shown), "%lld", (long long)given);
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field->name,
                             "%s must be %sa whole number from %llu to %llu, not %s", field->name,
                             parameter->zero_is_null ? "null or " : "", (unsigned long long)parameter->min,
                             (unsigned long long)parameter->max, shown[0] != '\0' ? shown : describe(value));
        }
        number = (uint64_t)given + parameter->added;
    }
    if (parameter->size == sizeof(uint16_t)) {
        *(uint16_t *)member(field, object) = (uint16_t)number;
    } else if (parameter->size == sizeof(uint32_t)) {
        *(uint32_t *)member(field, object) = (uint32_t)number;
    } else {
        *(uint64_t *)member(field, object) = number;
    }
    return 0;
}

json_t *request_encode_number(const struct field *field, const struct object *object, bool stored)
{
    (void)stored;
    const struct number_parameter *parameter = field->parameter;
    const void *from = const_member(field, object);
    uint64_t number = parameter->size == sizeof(uint16_t)   ? *(const uint16_t *)from
                      : parameter->size == sizeof(uint32_t) ? *(const uint32_t *)from
                                                            : *(const uint64_t *)from;
    return parameter->zero_is_null && number == 0 ? json_null() : json_integer(number - parameter->added);
}

int request_decode_bool(const struct decoding *decoding, const struct field *field, const json_t *value,
                        struct object *object, struct error *error)
{
    (void)decoding;
    if (!json_is_boolean(value) && !json_is_null(value))
        return refuse_type(field->name, "true or false", value, error);
    *(bool *)member(field, object) = json_is_true(value);
    return 0;
}

json_t *request_encode_bool(const struct field *field, const struct object *object, bool stored)
{
    (void)stored;
    return json_boolean(*(const bool *)const_member(field, object));
}

// ---- names and references ----

int request_decode_name(const struct decoding *decoding, const struct field *field, const json_t *value,
                        struct object *object, struct error *error)
{
    (void)object;
    if (!json_is_string(value))
        return refuse_type(field->name, "a string", value, error);
    const char *name = json_string_value(value);
    if (decoding->name != NULL && strcmp(name, decoding->name) != 0)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field->name,
                         "name is \"%.80s\" but the path says \"%s\"; a name can't change", name, decoding->name);
    return 0;
}

json_t *request_encode_name(const struct field *field, const struct object *object, bool stored)
{
    (void)field;
    (void)stored;
    return json_string(object->name);
}

// Only the store's Ts bring theirs along.
int request_decode_uid(const struct decoding *decoding, const struct field *field, const json_t *value,
                       struct object *object, struct error *error)
{
    if (!decoding->stored)
        return 0;
    if (!json_is_string(value) || !object_uid_valid(json_string_value(value)))
        return refuse_type(field->name, "a UUID", value, error);
    strlcpy(object->uid, json_string_value(value), sizeof(object->uid));
    return 0;
}

json_t *request_encode_uid(const struct field *field, const struct object *object, bool stored)
{
    (void)field;
    (void)stored;
    return json_string(object->uid);
}

int request_decode_nothing(const struct decoding *decoding, const struct field *field, const json_t *value,
                           struct object *object, struct error *error)
{
    (void)decoding;
    (void)field;
    (void)value;
    (void)object;
    (void)error;
    return 0;
}

// Both reference decoders write all bytes of a name, so that none of an older one stays behind it.
static void set_name(char name[static LIMIT_NAME_LEN + 1], const char *from, size_t len)
{
    memset(name, 0, LIMIT_NAME_LEN + 1);
    memcpy(name, from, len);
}

int request_decode_reference(const struct decoding *decoding, const struct field *field, const json_t *value,
                             struct object *object, struct error *error)
{
    (void)decoding;
    const char *noun = field->parameter;
    const char *name = json_is_null(value) ? "" : json_string_value(value);
    if (name == NULL)
        return refuse_type(field->name, "a name or null", value, error);
    if (!json_is_null(value) && !names_valid(name))
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field->name,
                         "\"%.80s\" can't be the name of a %s (" NAMES_RULE "); null means none", name, noun);
    set_name(member(field, object), name, strlen(name));
    return 0;
}

json_t *request_encode_reference(const struct field *field, const struct object *object, bool stored)
{
    (void)stored;
    const char *name = const_member(field, object);
    return name[0] != '\0' ? json_string(name) : json_null();
}

int request_decode_port_ref(const struct decoding *decoding, const struct field *field, const json_t *value,
                            struct object *object, struct error *error)
{
    (void)decoding;
    struct port_ref *ref = member(field, object);
    if (json_is_null(value)) {
        memset(ref, 0, sizeof(*ref));
        return 0;
    }
    const char *text = json_string_value(value);
    if (text == NULL)
        return refuse_type(field->name, "a port, \"network/port\" or null", value, error);
    const char *slash = strchr(text, '/');
    const char *port = slash != NULL ? slash + 1 : text;
    char network[LIMIT_NAME_LEN + 1] = "";
    if (slash == NULL) {
        strlcpy(network, object->network, sizeof(network));
    } else if ((size_t)(slash - text) <= LIMIT_NAME_LEN) {
        memcpy(network, text, (size_t)(slash - text));
    }
    if (!names_valid(network) || !names_valid(port))
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field->name,
                         "\"%.130s\" can't be a port: write its name, or network/port (names are " NAMES_RULE
                         "); null means none",
                         text);
    set_name(ref->network, network, strlen(network));
    set_name(ref->port, port, strlen(port));
    return 0;
}

json_t *request_encode_port_ref(const struct field *field, const struct object *object, bool stored)
{
    (void)stored;
    const struct port_ref *ref = const_member(field, object);
    if (ref->port[0] == '\0')
        return json_null();
    if (strcmp(ref->network, object->network) == 0)
        return json_string(ref->port);
    return json_sprintf("%s/%s", ref->network, ref->port);
}

int request_decode_place(const struct decoding *decoding, const struct field *field, const json_t *value,
                         struct object *object, struct error *error)
{
    (void)object;
    if (decoding->place == NULL)
        return error_set(error, PATCHBAY_ERROR_UNKNOWN_FIELD, field->name,
                         "%s is only for a T by itself; in a wire the order of `tees` is the order on the wire",
                         field->name);
    if (json_is_null(value))
        return 0;
    if (!json_is_string(value) || !names_valid(json_string_value(value)))
        return refuse_type(field->name, "the name of a T of this wire", value, error);
    strlcpy((char *)decoding->place + field->offset, json_string_value(value), LIMIT_NAME_LEN + 1);
    return 0;
}

// ---- strings ----

static int set_string(const char *name, const json_t *value, size_t limit, char **out, struct error *error)
{
    if (!json_is_string(value) && !json_is_null(value))
        return refuse_type(name, "a string or null", value, error);
    char *copy = NULL;
    if (json_is_string(value)) {
        if (json_string_length(value) > limit)
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, name, "%s may have %zu bytes, this one has %zu", name,
                             limit, json_string_length(value));
        if (has_control_character(json_string_value(value)))
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, name, "%s has a control character; leave it out", name);
        copy = strdup(json_string_value(value));
        if (copy == NULL)
            return refuse_no_memory(error);
    }
    free(*out);
    *out = copy;
    return 0;
}

int request_decode_string(const struct decoding *decoding, const struct field *field, const json_t *value,
                          struct object *object, struct error *error)
{
    (void)decoding;
    return set_string(field->name, value, *(const size_t *)field->parameter, member(field, object), error);
}

json_t *request_encode_string(const struct field *field, const struct object *object, bool stored)
{
    (void)stored;
    const char *text = *(char *const *)const_member(field, object);
    return text != NULL ? json_string(text) : json_null();
}

int request_decode_target(const struct decoding *decoding, const struct field *field, const json_t *value,
                          struct object *object, struct error *error)
{
    (void)decoding;
    struct vif *vif = (struct vif *)object;
    const char *own = vif_target_field(vif->kind);
    if (own == NULL || strcmp(own, field->name) != 0) {
        if (json_is_null(value))
            return 0;
        if (own == NULL)
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field->name, "kind %s has no %s; leave it out",
                             vif_kind_names[vif->kind], field->name);
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field->name, "kind %s has no %s; its field is %s",
                         vif_kind_names[vif->kind], field->name, own);
    }
    // check_put knows the limit of each kind, and why.
    return set_string(field->name, value, LIMIT_REQUEST_BYTES, &vif->target, error);
}

json_t *request_encode_target(const struct field *field, const struct object *object, bool stored)
{
    (void)stored;
    const struct vif *vif = (const struct vif *)object;
    const char *own = vif_target_field(vif->kind);
    if (own == NULL || strcmp(own, field->name) != 0)
        return FIELD_ABSENT;
    return json_string(vif->target);
}

// ---- labels ----

static int set_label(const struct decoding *decoding, const char *key, const json_t *value, struct object *object,
                     struct error *error)
{
    if (key[0] == '\0' || strlen(key) > LIMIT_LABEL_KEY_LEN || has_control_character(key))
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "",
                         "a label's key has 1 to %d bytes and no control character", LIMIT_LABEL_KEY_LEN);
    if (json_is_null(value) && decoding->patch) {
        object_set_label(object, key, NULL);
        return 0;
    }
    if (!json_is_string(value))
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "", "a label's value must be a string, not %s",
                         describe(value));
    if (json_string_length(value) > LIMIT_LABEL_VALUE_LEN || has_control_character(json_string_value(value)))
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "",
                         "a label's value has at most %d bytes and no control character", LIMIT_LABEL_VALUE_LEN);
    int ret = object_set_label(object, key, json_string_value(value));
    if (ret == -ENOSPC)
        return error_set(error, PATCHBAY_ERROR_LIMIT_REACHED, "", "an object may have %d labels (LIMIT_LABELS)",
                         LIMIT_LABELS);
    return ret == 0 ? 0 : refuse_no_memory(error);
}

int request_decode_labels(const struct decoding *decoding, const struct field *field, const json_t *value,
                          struct object *object, struct error *error)
{
    if (!json_is_object(value) && !json_is_null(value))
        return refuse_type(field->name, "an object of strings", value, error);
    if (!decoding->patch || json_is_null(value))
        object_clear_labels(object);
    const char *key;
    json_t *label;
    // Removals first: a patch may make room for what it adds.
    for (int pass = 0; pass < 2; pass++) {
        json_object_foreach((json_t *)value, key, label)
        {
            if (json_is_null(label) != (pass == 0))
                continue;
            if (set_label(decoding, key, label, object, error) != 0) {
                error->field[0] = '\0';
                error_prefix(error, "%s.%.64s", field->name, key);
                return -EINVAL;
            }
        }
    }
    return 0;
}

json_t *request_encode_labels(const struct field *field, const struct object *object, bool stored)
{
    (void)field;
    (void)stored;
    json_t *labels = json_object();
    for (size_t i = 0; labels != NULL && i < object->label_count; i++) {
        if (json_object_set_new(labels, object->labels[i].key, json_string(object->labels[i].value)) != 0) {
            json_decref(labels);
            return NULL;
        }
    }
    return labels;
}

// ---- Ts in their wire ----

static int add_tee(const struct decoding *decoding, const json_t *value, struct wire *wire, struct error *error)
{
    if (!json_is_object(value))
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "", "a T must be an object, not %s", describe(value));
    const json_t *name = json_object_get(value, "name");
    if (name == NULL)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "name", "a T in `tees` needs a name");
    if (!json_is_string(name) || !names_valid(json_string_value(name)))
        return refuse_type("name", "a string of " NAMES_RULE, name, error);
    struct tee *tee = wire_insert_tee(wire, wire->tee_count, json_string_value(name));
    if (tee == NULL)
        return errno == ENOSPC ? error_set(error, PATCHBAY_ERROR_LIMIT_REACHED, "",
                                           "a wire may have %d Ts (LIMIT_TEES); take one out first", LIMIT_TEES)
                               : refuse_no_memory(error);
    struct decoding whole = {.stored = decoding->stored, .in_array = true};
    return request_decode_fields(&whole, &request_tee_table, value, &tee->object, error);
}

int request_decode_tees(const struct decoding *decoding, const struct field *field, const json_t *value,
                        struct object *object, struct error *error)
{
    struct wire *wire = (struct wire *)object;
    if (!json_is_array(value) && !json_is_null(value))
        return refuse_type(field->name, "an array of Ts", value, error);
    while (wire->tee_count > 0)
        wire_remove_tee(wire, wire->tee_count - 1);
    for (size_t i = 0; i < json_array_size(value); i++) {
        if (add_tee(decoding, json_array_get(value, i), wire, error) != 0) {
            error_prefix(error, error->field[0] != '\0' ? "%s[%zu]." : "%s[%zu]", field->name, i);
            return -EINVAL;
        }
    }
    return 0;
}

json_t *request_encode_tees(const struct field *field, const struct object *object, bool stored)
{
    (void)field;
    const struct wire *wire = (const struct wire *)object;
    json_t *tees = json_array();
    for (size_t i = 0; tees != NULL && i < wire->tee_count; i++) {
        json_t *tee = request_encode_fields(&request_tee_table, &wire->tees[i].object, stored);
        if (json_array_append_new(tees, tee) != 0) {
            json_decref(tees);
            return NULL;
        }
    }
    return tees;
}
