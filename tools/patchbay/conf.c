// SPDX-License-Identifier: BSD-3-Clause
#include "change.h"
#include "field.h"
#include "output.h"
#include "text.h"
#include "verbs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Of a port or wire, which may be written as this program and T's ports name it elsewhere: NETWORK/NAME.
static const char *placed_path(const struct call *call, const char *list, const char *name, const char *key)
{
    size_t length = strcspn(name, "/");
    if (name[length] == '\0')
        return client_path("networks", call->network, list, name, "conf", key, NULL);
    return client_path("networks", text_slice(name, length), list, name + length + 1, "conf", key, NULL);
}

// The path of the conf of argument 0 ("vif:vm1"), or of one of its keys; NULL after a message.
static const char *conf_path(struct call *call, const char *key)
{
    const char *entity = command_argument(call, 0);
    const char *name = strchr(entity, ':');
    static const char *const kinds[][2] = {
        {"vif", "vifs"}, {"network", "networks"}, {"port", "ports"}, {"wire", "wires"}};

    if (strcmp(entity, "host") == 0)
        return client_path("conf", key, NULL);
    // "wire:red/" and "wire:/w1" lack a name.
    if (name != NULL && (name[1] == '\0' || name[1] == '/' || name[strlen(name) - 1] == '/'))
        name = NULL;
    for (size_t i = 0; name != NULL && i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strlen(kinds[i][0]) != (size_t)(name - entity) ||
            strncmp(kinds[i][0], entity, (size_t)(name - entity)) != 0)
            continue;
        if (i < 2)
            return client_path(kinds[i][1], name + 1, "conf", key, NULL);
        return placed_path(call, kinds[i][1], name + 1, key);
    }
    command_misused(call->command,
                    "\"%s\" is none of host, network:NAME, port:[NETWORK/]NAME, vif:NAME, wire:[NETWORK/]NAME",
                    text_clean(entity));
    return NULL;
}

// A value on one line; members of an object are told as NAME=VALUE.
static const char *describe(const json_t *value)
{
    const char *text = "", *name;
    json_t *member;
    size_t i;

    switch (json_typeof(value)) {
    case JSON_STRING:
        return json_string_value(value);
    case JSON_INTEGER:
        return text_format("%lld", (long long)json_integer_value(value));
    case JSON_TRUE:
        return "true";
    case JSON_FALSE:
        return "false";
    case JSON_ARRAY:
        json_array_foreach(value, i, member) text = text_format("%s%s%s", text, i == 0 ? "" : " ", describe(member));
        return text;
    case JSON_OBJECT:
        json_object_foreach((json_t *)value, name, member) text =
            text_format("%s%s%s=%s", text, *text == '\0' ? "" : " ", name, describe(member));
        return text;
    default:
        return "-";
    }
}

static int read_key(struct call *call, const char *key, struct reply *reply)
{
    const char *path = conf_path(call, key);

    return path == NULL ? EXIT_USAGE : client_do(&call->client, "GET", path, NULL, 0, reply);
}

static const char *describe_reply(const struct reply *reply)
{
    const json_t *value = json_object_get(reply->body, "value");

    return value != NULL ? describe(value) : "?";
}

static int print_table(struct call *call, const json_t *keys)
{
    static const struct output_column columns[] = {{"KEY", 0}, {"VALUE", 0}, {"UNIT", 0}, {"", 0}, {"WHAT", 0}};
    struct libscols_table *table = output_table(columns, 5);
    int code = EXIT_DONE;
    json_t *key;
    size_t i;

    json_array_foreach(keys, i, key)
    {
        const char *name = json_string_value(key);
        struct reply reply = {0};
        struct libscols_line *line;

        code = read_key(call, name, &reply);
        if (code == EXIT_DONE) {
            line = output_line(table, NULL);
            output_cell(line, 0, name, NULL);
            output_cell(line, 1, describe_reply(&reply), NULL);
            output_cell(line, 2, field_text(reply.body, "unit", ""), NULL);
            output_cell(line, 3, json_is_true(json_object_get(reply.body, "writable")) ? "rw" : "r", NULL);
            output_cell(line, 4, field_text(reply.body, "description", ""), NULL);
        }
        client_clear(&reply);
        if (code == EXIT_UNREACHED)
            break;
        // One that has just stopped working: it is simply not there.
        code = EXIT_DONE;
    }
    output_print_table(table);
    return code;
}

int conf_list(struct call *call)
{
    struct reply reply = {0};
    const char *path = conf_path(call, NULL);
    int code = path == NULL ? EXIT_USAGE : client_do(&call->client, "GET", path, NULL, 0, &reply);
    json_t *key;
    size_t i;

    if (code == EXIT_DONE && call->json)
        output_json(reply.body);
    else if (code == EXIT_DONE && command_has(call, "names"))
        json_array_foreach(json_object_get(reply.body, "keys"), i, key)
            printf("%s\n", text_clean(json_string_value(key)));
    else if (code == EXIT_DONE)
        code = print_table(call, json_object_get(reply.body, "keys"));
    client_clear(&reply);
    return code;
}

// After a change: the key as it is now. Takes the reply's body.
static int print_key(struct call *call, int code, struct reply *reply)
{
    const char *unit = field_text(reply->body, "unit", "");

    if (code == EXIT_DONE)
        change_print(call, reply->body, "%s %s = %s%s%s", text_clean(command_argument(call, 0)),
                     text_clean(field_text(reply->body, "key", "?")), text_clean(describe_reply(reply)),
                     *unit == '\0' ? "" : " ", text_clean(unit));
    client_clear(reply);
    return code;
}

int conf_get(struct call *call)
{
    struct reply reply = {0};
    int code = read_key(call, command_argument(call, 1), &reply);

    if (code == EXIT_DONE)
        change_print(call, reply.body, "%s", text_clean(describe_reply(&reply)));
    client_clear(&reply);
    return code;
}

int conf_unset(struct call *call)
{
    struct reply reply = {0};
    const char *path = conf_path(call, command_argument(call, 1));

    if (path == NULL)
        return EXIT_USAGE;
    return print_key(call, client_do(&call->client, "DELETE", path, NULL, 0, &reply), &reply);
}

// "100M" as a number. Returns false if it is none.
static bool read_number(const char *text, json_int_t *number)
{
    static const char suffixes[] = "kMGT";
    char *end;
    json_int_t value = strtoll(text, &end, 10);
    const char *suffix = *end != '\0' ? strchr(suffixes, *end) : NULL;

    if (end == text || (*end != '\0' && (suffix == NULL || end[1] != '\0')))
        return false;
    for (ptrdiff_t i = suffix != NULL ? suffix - suffixes + 1 : 0; i > 0; i--)
        if (__builtin_mul_overflow(value, (json_int_t)1000, &value))
            return false;
    *number = value;
    return true;
}

// Of what type a key is that was read. In a batch it may be one of an object that the batch makes: then a number is a
// number, unless an earlier line gave the key a text.
static const char *type_of(const struct reply *reply, const char *text)
{
    const char *type = field_text(reply->body, "type", "");
    json_int_t ignored;

    if (*type != '\0')
        return type;
    return !json_is_string(json_object_get(reply->body, "value")) && read_number(text, &ignored) ? "integer" : "string";
}

// The text as the key's type wants it; NULL after a message.
static json_t *read_value(const struct call *call, const char *key, const char *type, const char *text)
{
    json_int_t number;

    if (strncmp(type, "integer", strlen("integer")) != 0)
        return json_string(text);
    if (read_number(text, &number))
        return json_integer(number);
    command_misused(call->command, "%s is a number, e.g. 1500 or 100M, not \"%s\"", text_clean(key), text_clean(text));
    return NULL;
}

int conf_set(struct call *call)
{
    const char *given = command_argument(call, 1);
    const char *equals = strchr(given, '=');
    struct reply reply = {0};
    json_t *value, *body;
    const char *key, *path;
    int code;

    if (equals == NULL || equals == given)
        return command_misused(call->command, "\"%s\" is no KEY=VALUE", text_clean(given));
    key = text_slice(given, (size_t)(equals - given));
    path = conf_path(call, key);
    if (path == NULL)
        return EXIT_USAGE;
    if (equals[1] == '\0')
        return print_key(call, client_do(&call->client, "DELETE", path, NULL, 0, &reply), &reply);
    // The daemon knows of what type it is, and whether there is such a key.
    code = client_do(&call->client, "GET", path, NULL, 0, &reply);
    value = code == EXIT_DONE ? read_value(call, key, type_of(&reply, equals + 1), equals + 1) : NULL;
    if (value == NULL) {
        client_clear(&reply);
        return code == EXIT_DONE ? EXIT_USAGE : code;
    }
    body = field_object();
    field_set(body, "value", value);
    code = client_do(&call->client, "PUT", path, body, 0, &reply);
    json_decref(body);
    return print_key(call, code, &reply);
}
