// SPDX-License-Identifier: BSD-3-Clause
#include "conf_request.h"

#include "apply.h"
#include "check.h"
#include "control.h"
#include "names.h"
#include "read.h"
#include "request.h"
#include "trail.h"

#include <errno.h>
#include <string.h>

static enum conf_entity entity_of(const struct target *target)
{
    static const enum conf_entity entities[OBJECT_KIND_COUNT] = {
        [OBJECT_NETWORK] = CONF_NETWORK, [OBJECT_VIF] = CONF_VIF, [OBJECT_PORT] = CONF_PORT, [OBJECT_WIRE] = CONF_WIRE};

    return target->is_host ? CONF_HOST : entities[target->kind];
}

// The vif behind a port that the path names.
static const struct object *find_vif_of_port(const struct target *target, struct error *error)
{
    const struct port *port =
        (const struct port *)check_find(control.model, OBJECT_PORT, target->network, target->name, error);

    if (port == NULL)
        return NULL;
    if (port->vif[0] == '\0') {
        error_set(error, PATCHBAY_ERROR_NOT_FOUND, "vif", "Port \"%s\" has no vif. Set its field vif first.",
                  target->name);
        return NULL;
    }
    return check_find(control.model, OBJECT_VIF, "", port->vif, error);
}

// Returns 0, or -EINVAL with the error.
static int look_up(const struct target *target, struct conf_subject *subject, struct error *error)
{
    enum conf_entity entity = entity_of(target);
    const struct object *object = NULL;

    if (entity == CONF_VIF && target->network[0] != '\0')
        object = find_vif_of_port(target, error);
    else if (entity != CONF_HOST)
        object = check_find(control.model, target->kind, target->network, target->name, error);
    if (entity != CONF_HOST && object == NULL)
        return -EINVAL;
    conf_subject_fill(subject, entity, object);
    return 0;
}

// Returns false when the answer was given.
static bool find_subject(struct exchange *exchange, const struct target *target, struct conf_subject *subject)
{
    struct error error;

    if (look_up(target, subject, &error) == 0)
        return true;
    exchange_fail(exchange, &error);
    return false;
}

static uint64_t generation_of(const struct conf_subject *subject)
{
    return subject->object != NULL ? subject->object->generation : EXCHANGE_NO_ETAG;
}

void conf_read_keys(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    struct conf_subject subject;

    (void)parameters;
    if (!read_refuses_body(exchange) && find_subject(exchange, target, &subject))
        exchange_answer(exchange, 200, conf_list(&subject), generation_of(&subject));
}

void conf_read_key(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    struct conf_subject subject;
    const struct conf_row *row;
    struct error error;
    json_t *value;

    (void)parameters;
    if (read_refuses_body(exchange) || !find_subject(exchange, target, &subject))
        return;
    row = conf_find(&subject, target->key, &value, &error);
    if (row == NULL) {
        exchange_fail(exchange, &error);
        return;
    }
    // The tag is of the configuration: it says nothing of a key that tells how something is.
    if (row->get == conf_get_field && read_settles(exchange, generation_of(&subject))) {
        json_decref(value);
        return;
    }
    exchange_answer(exchange, 200, conf_render(row, value, conf_is_writable(&subject, row)), generation_of(&subject));
}

// What GET has shown may come back, so that GET | jq | PUT works.
static int check_members(const json_t *body, const char *key, struct error *error)
{
    static const char *const known[] = {"key", "value", "type", "unit", "writable", "standard", "description"};
    const char *name;
    json_t *member;

    json_object_foreach((json_t *)body, name, member)
    {
        bool found = false;

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]) && !found; i++)
            found = strcmp(known[i], name) == 0;
        if (!found)
            return error_set(error, PATCHBAY_ERROR_UNKNOWN_FIELD, name,
                             "The body of a key is {\"value\": …}; it has no field \"%.80s\".", name);
    }
    member = json_object_get(body, "key");
    if (member != NULL && (!json_is_string(member) || strcmp(json_string_value(member), key) != 0))
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "key", "The path names the key %s; give the same or none.",
                         key);
    if (json_object_get(body, "value") == NULL)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "value", "The body needs a value: {\"value\": …}.");
    return 0;
}

// The value that is asked for; JSON's null for DELETE. New reference; NULL with the error.
static json_t *read_value(struct exchange *exchange, const char *key, struct error *error)
{
    json_t *body, *value = NULL;

    if (strcmp(exchange->method, "DELETE") == 0) {
        if (exchange->body_size == 0)
            return json_null();
        error_set(error, PATCHBAY_ERROR_MALFORMED, NULL, "DELETE takes no body.");
        return NULL;
    }
    body = request_parse(exchange->body != NULL ? exchange->body : "", exchange->body_size, error);
    if (body != NULL && check_members(body, key, error) == 0)
        value = json_incref(json_object_get(body, "value"));
    json_decref(body);
    return value;
}

// The row of a key that may be written; NULL with the error.
static const struct conf_row *find_writable(const struct conf_subject *subject, const char *key, struct error *error)
{
    const struct conf_row *row = conf_find(subject, key, NULL, error);

    if (row == NULL || conf_is_writable(subject, row))
        return row;
    error_set(error, PATCHBAY_ERROR_CAP_READ_ONLY, "key", "The key %s of %s is only read.", row->key,
              conf_noun(subject));
    return NULL;
}

json_t *conf_patch(const struct conf_row *row, const struct object *object, json_t *value)
{
    char reason[CONF_REASON_SIZE];
    struct conf_subject subject;
    json_t *has, *body;

    conf_subject_fill(&subject, row->entity, object);
    has = row->get(&subject, row, reason);
    body = has != NULL && json_equal(value, has) ? json_object() : json_pack("{sO}", row->field, value);
    json_decref(has);
    return body;
}

// A change is refused: that is told as any other is.
static void refuse(struct exchange *exchange, const struct error *error)
{
    trail_log_refusal(exchange, error);
    exchange_fail(exchange, error);
}

// Takes the value.
static void submit(struct exchange *exchange, const struct conf_subject *subject, const struct conf_row *row,
                   json_t *value, const struct parameters *parameters)
{
    struct command *command = command_create(exchange, COMMAND_PATCH, value);
    struct error error;

    if (command == NULL) {
        json_decref(value);
        error_set(&error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
        exchange_fail(exchange, &error);
        return;
    }
    command->kind = subject->object->kind;
    command->conf = row;
    command->options = parameters->options;
    command->if_match = exchange->if_match;
    command->if_none_match = exchange->if_none_match;
    strlcpy(command->network, subject->object->network, sizeof(command->network));
    strlcpy(command->name, subject->object->name, sizeof(command->name));
    apply_submit(command);
}

void conf_write_key(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    struct conf_subject subject;
    const struct conf_row *row;
    struct error error;
    json_t *value;

    if (look_up(target, &subject, &error) != 0) {
        refuse(exchange, &error);
        return;
    }
    row = find_writable(&subject, target->key, &error);
    if (row == NULL) {
        if (error.code == PATCHBAY_ERROR_CAP_READ_ONLY)
            strlcpy(exchange->allow, "GET, HEAD", sizeof(exchange->allow));
        refuse(exchange, &error);
        return;
    }
    value = read_value(exchange, target->key, &error);
    if (value == NULL)
        refuse(exchange, &error);
    else
        submit(exchange, &subject, row, value, parameters);
}

int conf_make_patch(const struct target *target, const json_t *body, struct command *command, struct error *error)
{
    struct conf_subject subject;
    const struct conf_row *row;

    if (look_up(target, &subject, error) != 0)
        return -EINVAL;
    row = find_writable(&subject, target->key, error);
    if (row == NULL || (body != NULL && check_members(body, target->key, error) != 0))
        return -EINVAL;
    command->body = conf_patch(row, subject.object, body != NULL ? json_object_get(body, "value") : json_null());
    if (command->body == NULL)
        return error_set(error, PATCHBAY_ERROR_INTERNAL, NULL, "Memory is out.");
    command->verb = COMMAND_PATCH;
    command->kind = subject.object->kind;
    strlcpy(command->network, subject.object->network, sizeof(command->network));
    strlcpy(command->name, subject.object->name, sizeof(command->name));
    return 0;
}

json_t *conf_answer(const struct command *command, json_t *shown)
{
    json_t *value = json_incref(json_object_get(shown, command->conf->field));
    const struct object *object = model_find(control.model, command->kind, command->network, command->name);
    enum conf_entity entity = object != NULL && object->kind == OBJECT_VIF ? CONF_VIF : CONF_HOST;
    char reason[CONF_REASON_SIZE];
    struct conf_subject subject;

    json_decref(shown);
    // What the device has of its own accord, where the object says nothing.
    if (json_is_null(value) && command->conf->get != conf_get_field && entity == CONF_VIF) {
        json_t *own;

        conf_subject_fill(&subject, entity, object);
        own = command->conf->get(&subject, command->conf, reason);
        if (own != NULL) {
            json_decref(value);
            value = own;
        }
    }
    return conf_render(command->conf, value, true);
}
