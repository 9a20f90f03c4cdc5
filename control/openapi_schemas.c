// SPDX-License-Identifier: BSD-3-Clause
#include "openapi.h"

#include "patchbay/counters.h"
#include "request_fields.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Schemas that no other table has, a line each. "name:type" is a field that is
// always there, "name?:type" one that may be. Types: string, integer, boolean,
// time, uuid, any; a|b is one of these words; [T] an array, {T} an object of T
// by free keys; Name another schema; T? may be null as well.
static const struct shape {
    const char *name;
    const char *fields;
} shapes[] = {
    {"Version", "daemon:string api:string dpdk:string state_schema:integer pid:integer instance:uuid"},
    {"HostStats", "generation:integer objects:ObjectCounts last_change:LastChange tsc_hz:integer "
                  "workers:[Worker] queues?:[Queue]"},
    {"LastChange", "tables:integer wires:integer compile_us:number build_us:number publish_us:number store_us:number "
                   "wait_us:number"},
    {"AuditList", "items:[AuditRow] next:string? generation:integer first:integer last:integer refused:integer"},
    {"AuditRow", "seq:integer time:time uid:integer gid:integer pid:integer client:string method:string path:string "
                 "generation:integer status:integer changes:[AuditChange] change_count:integer"},
    {"AuditChange", "op:create|change|delete kind:vif|network|port|wire network?:string name:string"},
    {"ObjectCounts", "vifs:integer networks:integer ports:integer wires:integer"},
    {"Worker", "worker:integer core:integer loops:integer frames:integer busy_cycles:integer empty_cycles:integer "
               "cycles:integer sleeps:integer sources:integer sampled:Sampled stages:Stages"},
    {"Sampled", "loops:integer frames:integer"},
    {"Stage", "cycles:integer frames:integer"},
    {"Frames", "frames:integer bytes:integer"},
    {"VifStats",
     "vif:string uid:uuid received:Frames transmitted:Frames discarded:Discarded rx_missed:integer "
     "rx_errors:integer notified:integer announced:integer reconnects:integer pauses:integer queues:[Queue]"},
    {"Queue", "vif?:string queue:integer worker:integer? received:Frames transmitted:Frames notified:integer "
              "busy_cycles:integer"},
    {"WireStats", "wire:string network:string uid:uuid a_to_b:Direction b_to_a:Direction tees:[TeeStats]"},
    {"Direction", "received:Frames delivered:Frames dropped:Dropped legs:[Leg]"},
    {"Leg", "from:string received:Frames delivered:Frames dropped:Dropped to:[Delivered]"},
    {"Delivered", "to:string frames:integer bytes:integer segmented?:Segmented"},
    {"Segmented", "frames:integer segments:integer"},
    {"TeeStats", "name:string uid:uuid mode:off|tap|bump offered?:integer copied?:Frames segmented?:Segmented "
                 "dropped?:TapDropped into?:Frames out?:Frames late?:integer"},
    {"User", "kind:port|wire|tee network:string port?:string wire?:string tee?:string as?:a|b|port|out_port"},
    {"NetworkStatus", "ports:integer wires:integer"},
    {"VifStatus",
     "state:up|down|failed reason:string since:time worker:integer? workers:[integer?] "
     "queue_pairs:integer rx_ring_size:integer tx_ring_size:integer ring:split|packed? virtio_features:string "
     "offloads:[string] mtu:integer? mac:string? used_by:[User]"},
    {"PortStatus", "state:up|down|failed reason:string since:time used_by:[User]"},
    {"WireStatus", "state:up|down|draining reason:string since:time path:[string] drain:Drain?"},
    {"Drain", "late:integer unreturned:integer"},
    {"TeeStatus", "state:up|down|off|failed reason:string since:time position:integer"},
    {"ConfKeys", "keys:[string]"},
    {"ConfKey", "key:string value:any type:string unit:string? writable:boolean standard:boolean description:string"},
    {"ConfKeyPut", "key?:string value:any type?:string unit?:string? writable?:boolean standard?:boolean "
                   "description?:string"},
    {"NetworkList", "items:[Network] next:string? generation:integer"},
    {"VifList", "items:[Vif] next:string? generation:integer"},
    {"PortList", "items:[Port] next:string? generation:integer"},
    {"WireList", "items:[Wire] next:string? generation:integer"},
    {"TeeList", "items:[Tee] next:string? generation:integer"},
    {"Transaction", "operations:[Operation]"},
    {"Operation", "method:PUT|PATCH|DELETE path:string body?:any if_match?:string? if_none_match?:string?"},
    {"TransactionDone", "generation:integer dry_run:boolean created:integer changed:integer deleted:integer "
                        "same:integer results:[created|changed|deleted|same]"},
    {"Config",
     "generation:integer instance:uuid seq:integer networks:[NetworkConfig] vifs:[VifConfig] ports:[PortConfig] "
     "wires:[WireConfig]"},
    {"ConfigPut", "generation?:any instance?:any seq?:any networks:[NetworkConfigPut] vifs:[VifConfigPut] "
                  "ports:[PortConfigPut] wires:[WireConfigPut]"},
    {"ConfigDone", "generation:integer dry_run:boolean created:integer changed:integer deleted:integer same:integer "
                   "changes:[PlanStep]"},
    {"PlanStep", "action:create|change|replace|delete kind:network|vif|port|wire network?:string name:string "
                 "object?:any fields?:[PlanField]"},
    {"PlanField", "field:string from:any to:any"},
};

json_t *openapi_reference(const char *name)
{
    json_t *path = json_sprintf("#/components/schemas/%s", name);

    return json_pack("{so}", "$ref", path);
}

static json_t *make_nullable(json_t *schema)
{
    json_t *choices = json_object_get(schema, "enum");

    // OpenAPI 3.0: what stands beside a reference doesn't count.
    if (json_object_get(schema, "$ref") != NULL)
        return json_pack("{sb s[o]}", "nullable", 1, "allOf", schema);
    json_object_set_new(schema, "nullable", json_true());
    if (choices != NULL)
        json_array_append_new(choices, json_null());
    return schema;
}

static json_t *read_words(const char *text, size_t size)
{
    json_t *words = json_array();

    for (size_t at = 0; at <= size;) {
        size_t end = at;

        while (end < size && text[end] != '|')
            end++;
        json_array_append_new(words, json_stringn(text + at, end - at));
        at = end + 1;
    }
    return json_pack("{ss so}", "type", "string", "enum", words);
}

static json_t *read_type(const char *text, size_t size)
{
    char name[64] = "";

    if (size > 1 && text[size - 1] == '?')
        return make_nullable(read_type(text, size - 1));
    if (text[0] == '[')
        return json_pack("{ss so}", "type", "array", "items", read_type(text + 1, size - 2));
    if (text[0] == '{')
        return json_pack("{ss so}", "type", "object", "additionalProperties", read_type(text + 1, size - 2));
    if (memchr(text, '|', size) != NULL)
        return read_words(text, size);
    snprintf(name, sizeof(name), "%.*s", (int)size, text);
    if (isupper((unsigned char)name[0]))
        return openapi_reference(name);
    if (strcmp(name, "time") == 0)
        return json_pack("{ss ss}", "type", "string", "format", "date-time");
    if (strcmp(name, "uuid") == 0)
        return json_pack("{ss ss}", "type", "string", "format", "uuid");
    if (strcmp(name, "any") == 0)
        return json_object();
    return json_pack("{ss}", "type", name);
}

static json_t *make_object(json_t *properties, json_t *required)
{
    json_t *schema = json_pack("{ss so sb}", "type", "object", "properties", properties, "additionalProperties", 0);

    if (json_array_size(required) > 0)
        json_object_set(schema, "required", required);
    json_decref(required);
    return schema;
}

static json_t *read_shape(const char *text)
{
    json_t *properties = json_object(), *required = json_array();

    while (*text != '\0') {
        size_t size = strcspn(text, " "), name_size = strcspn(text, ":");
        bool optional = text[name_size - 1] == '?';
        char name[64];

        snprintf(name, sizeof(name), "%.*s", (int)(optional ? name_size - 1 : name_size), text);
        json_object_set_new(properties, name, read_type(text + name_size + 1, size - name_size - 1));
        if (!optional)
            json_array_append_new(required, json_string(name));
        text += size + strspn(text + size, " ");
    }
    return make_object(properties, required);
}

// ---- counters by reason ----

struct reason {
    const char *key;
    const char *help;
};

#define REASON(symbol, key, help) {key, help},
static const struct reason drops[] = {DROP_REASONS(REASON)};
static const struct reason tap_drops[] = {TAP_DROP_REASONS(REASON)};
static const struct reason discards[] = {VIF_DISCARD_REASONS(REASON)};
static const struct reason stages[] = {WORKER_STAGES(REASON)};

// Reasons are there when they aren't zero, their total always; stages always.
static json_t *describe_reasons(const struct reason *reasons, size_t count, bool are_stages)
{
    json_t *properties = json_object(), *required = json_array();

    if (!are_stages) {
        json_object_set_new(properties, "total", json_pack("{ss}", "type", "integer"));
        json_array_append_new(required, json_string("total"));
    }
    for (size_t i = 0; i < count; i++) {
        json_t *schema =
            are_stages ? json_pack("{ss s[o]}", "description", reasons[i].help, "allOf", openapi_reference("Stage"))
                       : json_pack("{ss ss}", "type", "integer", "description", reasons[i].help);

        json_object_set_new(properties, reasons[i].key, schema);
        if (are_stages)
            json_array_append_new(required, json_string(reasons[i].key));
    }
    return make_object(properties, required);
}

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

// ---- objects, from the tables that decode and encode them ----

static json_t *describe_enum(const struct enum_parameter *parameter, bool with_default)
{
    json_t *choices = json_array();
    json_t *schema = json_pack("{ss so}", "type", "string", "enum", choices);

    for (size_t i = 0; i < parameter->count; i++)
        json_array_append_new(choices, json_string(parameter->names[i]));
    if (with_default)
        json_object_set_new(schema, "default", json_string(parameter->names[parameter->fallback]));
    return schema;
}

static json_t *describe_number(const struct number_parameter *parameter)
{
    json_t *schema = json_pack("{ss sI sI}", "type", "integer", "minimum", (json_int_t)parameter->min, "maximum",
                               (json_int_t)parameter->max);

    if (parameter->zero_is_null)
        return make_nullable(schema);
    json_object_set_new(schema, "default", json_integer(parameter->fallback));
    return schema;
}

static json_t *describe_labels(void)
{
    return json_pack("{ss si s{ss si}}", "type", "object", "maxProperties", LIMIT_LABELS, "additionalProperties",
                     "type", "string", "maxLength", LIMIT_LABEL_VALUE_LEN);
}

static json_t *describe_string(size_t limit)
{
    return json_pack("{ss sI}", "type", "string", "maxLength", (json_int_t)limit);
}

enum { ANY_KIND = -1 }; // of a vif, or no vif

static const char name_pattern[] = "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$";

// As in GET /v1/config: shown without status.
static bool is_config(const char *form)
{
    return strcmp(form, "Config") == 0;
}

// NULL: no decoder that is known here.
static json_t *describe_value(const struct field *field, const char *noun, const char *form)
{
    char name[64];

    if (field->decode == request_decode_enum)
        return describe_enum(field->parameter, (field->flags & FIELD_REQUIRED) == 0);
    if (field->decode == request_decode_number)
        return describe_number(field->parameter);
    if (field->decode == request_decode_bool)
        return json_pack("{ss}", "type", "boolean");
    if (field->decode == request_decode_name)
        return json_pack("{ss ss}", "type", "string", "pattern", name_pattern);
    if (field->decode == request_decode_uid)
        return json_pack("{ss ss}", "type", "string", "format", "uuid");
    if (field->decode == request_decode_reference)
        return make_nullable(json_pack("{ss ss}", "type", "string", "pattern", name_pattern));
    if (field->decode == request_decode_port_ref)
        return make_nullable(describe_string(2 * LIMIT_NAME_LEN + 1));
    if (field->decode == request_decode_place)
        return make_nullable(json_pack("{ss}", "type", "string"));
    if (field->decode == request_decode_string)
        return make_nullable(describe_string(*(const size_t *)field->parameter));
    if (field->decode == request_decode_target)
        return describe_string(LIMIT_TARGET_LEN);
    if (field->decode == request_decode_labels)
        return describe_labels();
    if (field->decode == request_decode_tees)
        return json_pack("{ss si so}", "type", "array", "maxItems", LIMIT_TEES, "items",
                         openapi_reference(form[0] == '\0'   ? "Tee"
                                           : is_config(form) ? "TeeConfig"
                                                             : "TeeInWire"));
    if (field->decode == request_decode_nothing) {
        snprintf(name, sizeof(name), "%sStatus", noun);
        return openapi_reference(name);
    }
    return NULL;
}

// What of a table's fields each form has: "" as it is shown; "Put", "Patch" as it is written; "Config" in the whole
// state, "ConfigPut" as that is written; "InWire", a T in its wire. Of a vif each kind has its own field alone;
// ANY_KIND has all.
static bool has_field(const struct field *field, const char *form, int kind)
{
    const char *target = kind != ANY_KIND ? vif_target_field((enum vif_kind)kind) : field->name;

    if ((field->flags & FIELD_STORED) != 0)
        return false;
    if (field->decode == request_decode_target && (target == NULL || strcmp(target, field->name) != 0))
        return false;
    if (form[0] == '\0')
        return field->encode != NULL || field->decode == request_decode_nothing;
    if (is_config(form))
        return field->encode != NULL;
    if (strcmp(form, "Patch") == 0)
        return (field->flags & FIELD_READ_ONLY) == 0;
    return strcmp(form, "InWire") != 0 || field->decode != request_decode_place;
}

static bool is_required(const struct field *field, const char *form)
{
    // A form of one kind has the field of that kind alone.
    if (form[0] == '\0' || is_config(form))
        return true;
    if (field->decode == request_decode_target)
        return strcmp(form, "Patch") != 0;
    if (field->decode == request_decode_name && (strcmp(form, "InWire") == 0 || strcmp(form, "ConfigPut") == 0))
        return true;
    return strcmp(form, "Patch") != 0 && (field->flags & FIELD_REQUIRED) != 0;
}

static json_t *describe_kind(int kind)
{
    return json_pack("{ss s[s]}", "type", "string", "enum", vif_kind_names[kind]);
}

// One field of a form; NULL: no decoder that is known here.
static json_t *describe_field(const struct field *field, const char *noun, const char *form, int kind)
{
    bool written = form[0] != '\0' && !is_config(form), ignored = written && (field->flags & FIELD_READ_ONLY) != 0;
    json_t *schema;

    if (ignored)
        return json_pack("{ss}", "description", "ignored");
    if (kind != ANY_KIND && strcmp(field->name, "kind") == 0)
        return describe_kind(kind);
    schema = describe_value(field, noun, form);
    // Written, null means the default.
    if (schema != NULL && written && !is_required(field, form) && (field->flags & FIELD_REQUIRED) == 0 &&
        field->decode != request_decode_name)
        schema = make_nullable(schema);
    return schema;
}

static unsigned add_variant(json_t *schemas, const char *name, const char *noun, const struct field_table *table,
                            const char *form, int kind)
{
    json_t *properties = json_object(), *required = json_array();
    bool placed = table == request_tables[OBJECT_PORT] || table == request_tables[OBJECT_WIRE];
    unsigned missing = 0;

    for (size_t i = 0; i < table->count; i++) {
        const struct field *field = &table->fields[i];
        json_t *schema = describe_field(field, noun, form, kind);

        if (schema == NULL) {
            fprintf(stderr, "The field %s of %s has no description: add its decoder to describe_value.\n", field->name,
                    table->noun);
            missing++;
        } else if (!has_field(field, form, kind)) {
            json_decref(schema);
        } else {
            json_object_set_new(properties, field->name, schema);
            if (is_required(field, form))
                json_array_append_new(required, json_string(field->name));
        }
    }
    if (placed && strncmp(form, "Config", 6) == 0) {
        json_object_set_new(properties, "network", json_pack("{ss ss}", "type", "string", "pattern", name_pattern));
        if (is_config(form))
            json_array_append_new(required, json_string("network"));
    }
    json_object_set_new(schemas, name, make_object(properties, required));
    return missing;
}

// "vhost-server" as "VifVhostServerPut".
static void name_variant(char *name, size_t size, const char *kind, const char *form)
{
    size_t used = (size_t)snprintf(name, size, "Vif");

    for (bool upper = true; *kind != '\0' && used + 1 < size; kind++) {
        if (*kind != '-')
            name[used++] = upper ? (char)toupper((unsigned char)*kind) : *kind;
        upper = *kind == '-';
    }
    snprintf(name + used, size - used, "%s", form);
}

// A vif is one of its kinds, and `kind` tells a generated client which.
static unsigned add_vif_form(json_t *schemas, const char *form)
{
    json_t *choices = json_array(), *mapping = json_object();
    unsigned missing = 0;
    char name[64];

    for (int kind = 0; kind < VIF_KIND_COUNT; kind++) {
        name_variant(name, sizeof(name), vif_kind_names[kind], form);
        missing += add_variant(schemas, name, "Vif", request_tables[OBJECT_VIF], form, kind);
        json_array_append_new(choices, openapi_reference(name));
        json_object_set_new(mapping, vif_kind_names[kind], json_sprintf("#/components/schemas/%s", name));
    }
    snprintf(name, sizeof(name), "Vif%s", form);
    json_object_set_new(
        schemas, name,
        json_pack("{so s{ss so}}", "oneOf", choices, "discriminator", "propertyName", "kind", "mapping", mapping));
    return missing;
}

static unsigned add_form(json_t *schemas, const char *noun, const struct field_table *table, const char *form)
{
    char name[64];

    // A patch needn't say of which kind the vif is.
    if (table == request_tables[OBJECT_VIF] && strcmp(form, "Patch") != 0)
        return add_vif_form(schemas, form);
    snprintf(name, sizeof(name), "%s%s", noun, form);
    return add_variant(schemas, name, noun, table, form, ANY_KIND);
}

unsigned openapi_add_schemas(json_t *schemas)
{
    static const char *const nouns[OBJECT_KIND_COUNT] = {"Network", "Vif", "Port", "Wire"};
    static const char *const forms[] = {"", "Put", "Patch", "Config", "ConfigPut"};
    static const char *const tee_forms[] = {"", "Put", "Patch", "Config", "InWire"};
    unsigned missing = 0;

    for (size_t kind = 0; kind < OBJECT_KIND_COUNT; kind++)
        for (size_t form = 0; form < COUNT(forms); form++)
            missing += add_form(schemas, nouns[kind], request_tables[kind], forms[form]);
    for (size_t form = 0; form < COUNT(tee_forms); form++)
        missing += add_form(schemas, "Tee", &request_tee_table, tee_forms[form]);
    for (size_t i = 0; i < COUNT(shapes); i++)
        json_object_set_new(schemas, shapes[i].name, read_shape(shapes[i].fields));
    json_object_set_new(schemas, "Dropped", describe_reasons(drops, COUNT(drops), false));
    json_object_set_new(schemas, "TapDropped", describe_reasons(tap_drops, COUNT(tap_drops), false));
    json_object_set_new(schemas, "Discarded", describe_reasons(discards, COUNT(discards), false));
    json_object_set_new(schemas, "Stages", describe_reasons(stages, COUNT(stages), true));
    return missing;
}
