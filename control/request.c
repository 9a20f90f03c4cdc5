// SPDX-License-Identifier: BSD-3-Clause
// The tables of fields and what runs over them. The order of the rows is the
// order in which the fields are decoded (a vif's kind before its target) and
// shown.

#include "request.h"
#include "check.h"
#include "names.h"
#include "request_fields.h"

#include <errno.h>
#include <string.h>

// ---- tables ----

static const char *const on_full_names[] = {[ON_FULL_WAIT] = "wait", [ON_FULL_DROP] = "drop"};
static const char *const admin_names[] = {[ADMIN_UP] = "up", [ADMIN_DOWN] = "down"};
static const char *const direction_names[] = {[TEE_BOTH] = "both", [TEE_A_TO_B] = "a-to-b", [TEE_B_TO_A] = "b-to-a"};
static const char *const on_failure_names[] = {[FAIL_CLOSED] = "closed", [FAIL_OPEN] = "open"};

static const struct enum_parameter vif_kinds = {vif_kind_names, VIF_KIND_COUNT, VIF_NONE};
static const struct enum_parameter modes = {tee_mode_names, 3, TEE_TAP};
static const struct enum_parameter directions = {direction_names, 3, TEE_BOTH};
static const struct enum_parameter on_failures = {on_failure_names, 2, FAIL_CLOSED};
static const struct enum_parameter on_fulls = {on_full_names, 2, ON_FULL_WAIT};
static const struct enum_parameter admins = {admin_names, 2, ADMIN_UP};
static const struct number_parameter vlans = {1, LIMIT_VLAN, 0, sizeof(uint16_t), true, 0};
static const struct number_parameter wire_stalls = {1, LIMIT_STALL_MS, DEFAULT_STALL_MS, sizeof(uint32_t), false, 0};
static const struct number_parameter tee_stalls = {1, LIMIT_STALL_MS, DEFAULT_BUMP_STALL_MS, sizeof(uint32_t), false,
                                                   0};
static const struct number_parameter rates = {LIMIT_RATE_BPS_MIN, LIMIT_RATE_BPS, 0, sizeof(uint64_t), true, 0};
static const struct number_parameter frame_rates = {1, LIMIT_RATE_PPS, 0, sizeof(uint32_t), true, 0};
static const struct number_parameter frame_bursts = {1, LIMIT_RATE_BURST_FRAMES, 0, sizeof(uint32_t), true, 0};
static const struct number_parameter bursts = {1, LIMIT_RATE_BURST, 0, sizeof(uint32_t), true, 0};
static const struct number_parameter workers = {0, LIMIT_WORKERS - 1, 0, sizeof(uint16_t), true, 1};
static const struct number_parameter mtus = {LIMIT_MTU_MIN, LIMIT_MTU, 0, sizeof(uint16_t), true, 0};
static const size_t owner_len = LIMIT_OWNER_LEN;

#define NAME                                                         \
    {                                                                \
        "name", 0, request_decode_name, request_encode_name, NULL, 0 \
    }
#define LABELS                                                             \
    {                                                                      \
        "labels", 0, request_decode_labels, request_encode_labels, NULL, 0 \
    }
#define UID                                                                     \
    {                                                                           \
        "uid", 0, request_decode_uid, request_encode_uid, NULL, FIELD_READ_ONLY \
    }
#define STATUS                                                           \
    {                                                                    \
        "status", 0, request_decode_nothing, NULL, NULL, FIELD_READ_ONLY \
    }

static const struct field network_fields[] = {NAME, LABELS, UID, STATUS};

static const struct field vif_fields[] = {
    NAME,
    {"kind", offsetof(struct vif, kind), request_decode_enum, request_encode_enum, &vif_kinds, FIELD_REQUIRED},
    {"path", 0, request_decode_target, request_encode_target, NULL, 0},
    {"devargs", 0, request_decode_target, request_encode_target, NULL, 0},
    {"interface", 0, request_decode_target, request_encode_target, NULL, 0},
    {"owner", offsetof(struct vif, owner), request_decode_string, request_encode_string, &owner_len, 0},
    {"admin", offsetof(struct vif, admin), request_decode_enum, request_encode_enum, &admins, 0},
    {"worker", offsetof(struct vif, pin), request_decode_number, request_encode_number, &workers, 0},
    {"mtu", offsetof(struct vif, mtu), request_decode_number, request_encode_number, &mtus, 0},
    LABELS,
    UID,
    STATUS,
};

static const struct field port_fields[] = {
    NAME,
    {"vif", offsetof(struct port, vif), request_decode_reference, request_encode_reference, "vif", 0},
    {"vlan", offsetof(struct port, vlan), request_decode_number, request_encode_number, &vlans, 0},
    {"admin", offsetof(struct port, admin), request_decode_enum, request_encode_enum, &admins, 0},
    {"ingress_bps", offsetof(struct port, ingress.bps), request_decode_number, request_encode_number, &rates, 0},
    {"ingress_burst", offsetof(struct port, ingress.burst), request_decode_number, request_encode_number, &bursts, 0},
    {"ingress_pps", offsetof(struct port, ingress.pps), request_decode_number, request_encode_number, &frame_rates, 0},
    {"ingress_burst_frames", offsetof(struct port, ingress.frame_burst), request_decode_number, request_encode_number,
     &frame_bursts, 0},
    {"egress_bps", offsetof(struct port, egress.bps), request_decode_number, request_encode_number, &rates, 0},
    {"egress_burst", offsetof(struct port, egress.burst), request_decode_number, request_encode_number, &bursts, 0},
    {"egress_pps", offsetof(struct port, egress.pps), request_decode_number, request_encode_number, &frame_rates, 0},
    {"egress_burst_frames", offsetof(struct port, egress.frame_burst), request_decode_number, request_encode_number,
     &frame_bursts, 0},
    LABELS,
    UID,
    STATUS,
};

static const struct field wire_fields[] = {
    NAME,
    {"a", offsetof(struct wire, a), request_decode_reference, request_encode_reference, "port", 0},
    {"b", offsetof(struct wire, b), request_decode_reference, request_encode_reference, "port", 0},
    {"admin", offsetof(struct wire, admin), request_decode_enum, request_encode_enum, &admins, 0},
    {"on_full", offsetof(struct wire, on_full), request_decode_enum, request_encode_enum, &on_fulls, 0},
    {"stall_ms", offsetof(struct wire, stall_ms), request_decode_number, request_encode_number, &wire_stalls, 0},
    LABELS,
    {"tees", 0, request_decode_tees, request_encode_tees, NULL, 0},
    UID,
    STATUS,
};

static const struct field tee_fields[] = {
    NAME,
    {"port", offsetof(struct tee, port), request_decode_port_ref, request_encode_port_ref, NULL, 0},
    {"out_port", offsetof(struct tee, out_port), request_decode_port_ref, request_encode_port_ref, NULL, 0},
    {"mode", offsetof(struct tee, mode), request_decode_enum, request_encode_enum, &modes, 0},
    {"direction", offsetof(struct tee, direction), request_decode_enum, request_encode_enum, &directions, 0},
    {"on_failure", offsetof(struct tee, on_failure), request_decode_enum, request_encode_enum, &on_failures, 0},
    {"stall_ms", offsetof(struct tee, stall_ms), request_decode_number, request_encode_number, &tee_stalls, 0},
    {"when_ready", offsetof(struct tee, when_ready), request_decode_bool, request_encode_bool, NULL, FIELD_STORED},
    LABELS,
    UID,
    STATUS,
    {"before", offsetof(struct tee_place, before), request_decode_place, NULL, NULL, 0},
    {"after", offsetof(struct tee_place, after), request_decode_place, NULL, NULL, 0},
};

#define TABLE(noun, fields)                              \
    {                                                    \
        noun, fields, sizeof(fields) / sizeof(fields[0]) \
    }
static const struct field_table network_table = TABLE("a network", network_fields);
static const struct field_table vif_table = TABLE("a vif", vif_fields);
static const struct field_table port_table = TABLE("a port", port_fields);
static const struct field_table wire_table = TABLE("a wire", wire_fields);
const struct field_table request_tee_table = TABLE("a T", tee_fields);

const struct field_table *const request_tables[OBJECT_KIND_COUNT] = {[OBJECT_NETWORK] = &network_table,
                                                                     [OBJECT_VIF] = &vif_table,
                                                                     [OBJECT_PORT] = &port_table,
                                                                     [OBJECT_WIRE] = &wire_table};

// ---- over a table ----

static bool exists_here(const struct field *field, const struct decoding *decoding)
{
    return (field->flags & FIELD_STORED) == 0 || decoding->stored;
}

static int check_known(const struct decoding *decoding, const struct field_table *table, const char *key,
                       struct error *error)
{
    struct names_nearest nearest;
    names_nearest_init(&nearest, key);
    for (size_t i = 0; i < table->count; i++) {
        const struct field *field = &table->fields[i];
        if (!exists_here(field, decoding))
            continue;
        if (strcmp(field->name, key) == 0) {
            if (decoding->patch && (field->flags & FIELD_READ_ONLY) != 0)
                return error_set(error, PATCHBAY_ERROR_BAD_VALUE, key, "%s is only read; leave it out", key);
            return 0;
        }
        names_nearest_offer(&nearest, field->name);
    }
    if (nearest.best != NULL)
        return error_set(error, PATCHBAY_ERROR_UNKNOWN_FIELD, key, "%s has no field \"%.80s\"; did you mean \"%s\"?",
                         table->noun, key, nearest.best);
    char known[256] = "";
    for (size_t i = 0; i < table->count; i++) {
        if (!exists_here(&table->fields[i], decoding) || (table->fields[i].flags & FIELD_READ_ONLY) != 0)
            continue;
        strlcat(known, known[0] != '\0' ? ", " : "", sizeof(known));
        strlcat(known, table->fields[i].name, sizeof(known));
    }
    return error_set(error, PATCHBAY_ERROR_UNKNOWN_FIELD, key, "%s has no field \"%.80s\"; it has %s", table->noun, key,
                     known);
}

int request_decode_fields(const struct decoding *decoding, const struct field_table *table, const json_t *body,
                          struct object *object, struct error *error)
{
    const char *key;
    json_t *ignored;
    json_object_foreach((json_t *)body, key, ignored)
    {
        if (check_known(decoding, table, key, error) != 0)
            return -EINVAL;
    }
    for (size_t i = 0; i < table->count; i++) {
        const struct field *field = &table->fields[i];
        const json_t *value = exists_here(field, decoding) ? json_object_get(body, field->name) : NULL;
        bool required = (field->flags & FIELD_REQUIRED) != 0;
        if (required && (json_is_null(value) || (value == NULL && !decoding->patch)))
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field->name, "%s needs %s", table->noun, field->name);
        if (value != NULL && field->decode(decoding, field, value, object, error) != 0)
            return -EINVAL;
    }
    return 0;
}

json_t *request_encode_fields(const struct field_table *table, const struct object *object, bool stored)
{
    json_t *json = json_object();
    for (size_t i = 0; json != NULL && i < table->count; i++) {
        const struct field *field = &table->fields[i];
        if (field->encode == NULL || ((field->flags & FIELD_STORED) != 0 && !stored))
            continue;
        json_t *value = field->encode(field, object, stored);
        // A NULL value is refused by jansson, so lack of memory ends here too.
        if (value != FIELD_ABSENT && json_object_set_new(json, field->name, value) != 0) {
            json_decref(json);
            json = NULL;
        }
    }
    return json;
}

// ---- requests ----

static void refuse_no_memory(struct error *error)
{
    error_set(error, PATCHBAY_ERROR_UNAVAILABLE, NULL, "out of memory; nothing was changed, try again");
}

// A name that isn't one must not reach object_create, which would cut it to a length at which it may be another's.
static int check_path_names(const char *network, const char *name, struct error *error)
{
    if (network != NULL && network[0] != '\0' && !names_valid(network))
        return error_set(error, PATCHBAY_ERROR_NOT_FOUND, NULL, "there is no network \"%.80s\"", network);
    if (!names_valid(name))
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "name", "\"%.80s\" is no name: use " NAMES_RULE, name);
    return 0;
}

static struct object *decode(struct decoding *decoding, enum object_kind kind, const char *network, const char *name,
                             const json_t *body, struct error *error)
{
    error_clear(error);
    if (check_path_names(network, name, error) != 0)
        return NULL;
    struct object *object = object_create(kind, network, name);
    if (object == NULL) {
        refuse_no_memory(error);
        return NULL;
    }
    decoding->name = name;
    if (request_decode_fields(decoding, request_tables[kind], body, object, error) != 0) {
        object_destroy(object);
        return NULL;
    }
    return object;
}

struct object *request_decode(enum object_kind kind, const char *network, const char *name, const json_t *body,
                              struct error *error)
{
    struct decoding decoding = {0};
    return decode(&decoding, kind, network, name, body, error);
}

struct object *request_decode_stored(enum object_kind kind, const char *network, const char *name, const json_t *body,
                                     struct error *error)
{
    struct decoding decoding = {.stored = true};
    return decode(&decoding, kind, network, name, body, error);
}

struct object *request_patch(const struct object *old, const json_t *body, struct error *error)
{
    error_clear(error);
    struct object *next = object_clone(old);
    if (next == NULL) {
        refuse_no_memory(error);
        return NULL;
    }
    struct decoding decoding = {.patch = true, .name = old->name};
    if (request_decode_fields(&decoding, request_tables[old->kind], body, next, error) != 0) {
        object_destroy(next);
        return NULL;
    }
    return next;
}

// ---- a T by itself ----

static int move_tee(struct wire *wire, size_t position, const struct tee_place *place, struct error *error)
{
    bool before = place->before[0] != '\0';
    const char *beside = before ? place->before : place->after;
    const char *field = before ? "before" : "after";
    if (beside[0] == '\0')
        return 0;
    if (before && place->after[0] != '\0')
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "after", "before and after exclude each other; give one");
    if (strcmp(beside, wire->tees[position].object.name) == 0)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field, "a T can't stand %s itself; name another", field);
    int found = check_find_tee(wire, beside, error);
    if (found < 0) {
        error->code = PATCHBAY_ERROR_NO_SUCH_REF;
        strlcpy(error->field, field, sizeof(error->field));
        return -EINVAL;
    }
    // Taking the T out shifts what stands behind it by one.
    size_t at = (size_t)found - (position < (size_t)found ? 1 : 0);
    wire_move_tee(wire, position, before ? at : at + 1);
    return 0;
}

static struct wire *finish_tee(struct wire *wire, size_t position, struct decoding *decoding, const json_t *body,
                               struct error *error)
{
    struct tee_place place = {0};
    decoding->name = wire->tees[position].object.name;
    decoding->place = &place;
    if (request_decode_fields(decoding, &request_tee_table, body, &wire->tees[position].object, error) != 0 ||
        move_tee(wire, position, &place, error) != 0) {
        object_destroy(&wire->object);
        return NULL;
    }
    return wire;
}

struct wire *request_decode_tee(const struct wire *old, const char *tee, const json_t *body, struct error *error)
{
    error_clear(error);
    if (check_path_names(NULL, tee, error) != 0)
        return NULL;
    struct wire *next = (struct wire *)object_clone(&old->object);
    if (next == NULL) {
        refuse_no_memory(error);
        return NULL;
    }
    int found = wire_find_tee(next, tee);
    size_t position = found >= 0 ? (size_t)found : next->tee_count;
    if (found >= 0)
        wire_remove_tee(next, position);
    if (wire_insert_tee(next, position, tee) == NULL) {
        if (errno == ENOSPC) {
            error_set(error, PATCHBAY_ERROR_LIMIT_REACHED, NULL,
                      "wire \"%s\" has %d Ts already, as many as it may have (LIMIT_TEES); take one out first",
                      next->object.name, LIMIT_TEES);
        } else {
            refuse_no_memory(error);
        }
        object_destroy(&next->object);
        return NULL;
    }
    struct decoding decoding = {0};
    return finish_tee(next, position, &decoding, body, error);
}

struct wire *request_patch_tee(const struct wire *old, const char *tee, const json_t *body, struct error *error)
{
    error_clear(error);
    int position = check_find_tee(old, tee, error);
    if (position < 0)
        return NULL;
    struct wire *next = (struct wire *)object_clone(&old->object);
    if (next == NULL) {
        refuse_no_memory(error);
        return NULL;
    }
    struct decoding decoding = {.patch = true};
    return finish_tee(next, (size_t)position, &decoding, body, error);
}

// ---- encoding ----

json_t *request_encode(const struct object *object)
{
    return request_encode_fields(request_tables[object->kind], object, false);
}

json_t *request_encode_tee(const struct tee *tee)
{
    return request_encode_fields(&request_tee_table, &tee->object, false);
}

json_t *request_encode_stored(const struct object *object)
{
    json_t *json = request_encode_fields(request_tables[object->kind], object, true);
    // These are columns of their own.
    json_object_del(json, "name");
    json_object_del(json, "uid");
    return json;
}

const char *request_vif_kind_name(enum vif_kind kind)
{
    return vif_kind_names[kind];
}

const char *request_tee_mode_name(enum tee_mode mode)
{
    return tee_mode_names[mode];
}
