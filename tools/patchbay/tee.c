// SPDX-License-Identifier: BSD-3-Clause
#include "change.h"
#include "field.h"
#include "list.h"
#include "output.h"
#include "patchbay/limits.h"
#include "text.h"
#include "verbs.h"

#include <string.h>

// A T is called after its port: the part after a network, less a trailing
// "-in", by which an appliance's first arm is told from its second.
static const char *default_name(const char *port)
{
    const char *slash = strrchr(port, '/');
    const char *name = slash == NULL ? port : slash + 1;
    size_t length = strlen(name);
    if (length > 3 && strcmp(name + length - 3, "-in") == 0)
        length -= 3;
    return text_slice(name, length);
}

// The names that go into the path, and the wire as it was. Returns an exit
// code.
static int begin(struct call *call, const char **wire, const char **tee, struct reply *before)
{
    *wire = change_name(call, 0, "wire");
    if (*wire == NULL)
        return EXIT_USAGE;
    *tee = change_name(call, 1, "T");
    if (*tee == NULL)
        return EXIT_USAGE;
    return change_read_wire(call, call->network, *wire, before);
}

// Puts --before and --after into body. Returns an exit code.
static int set_place(struct call *call, json_t *body)
{
    if (command_has(call, "before") && command_has(call, "after"))
        return command_misused(call->command, "--before and --after exclude each other");
    change_text(call, "before", "before", body);
    change_text(call, "after", "after", body);
    return EXIT_DONE;
}

// The path with the query parameters that the given options mean.
static int add_queries(struct call *call, const char **path, bool insert, bool drain)
{
    long long number;
    if (insert && command_has(call, "force") && command_has(call, "when-ready"))
        return command_misused(call->command, "--force and --when-ready exclude each other");
    if (insert && command_has(call, "force"))
        *path = client_query(*path, "force", "1");
    if (insert && command_has(call, "when-ready"))
        *path = client_query(*path, "when_ready", "1");
    static const char *const drains[][2] = {{"quiet-ms", "quiet_ms"}, {"drain-ms", "drain_ms"}};
    for (size_t i = 0; drain && i < 2; i++) {
        const char *value = command_option(call, drains[i][0]);
        if (value == NULL)
            continue;
        if (command_number(call->command, text_format("--%s", drains[i][0]), value, 0, LIMIT_DRAIN_MS, &number) !=
            EXIT_DONE)
            return EXIT_USAGE;
        *path = client_query(*path, drains[i][1], value);
    }
    *path = change_wait(call, *path);
    return EXIT_DONE;
}

// Adds a T with what body has. name_at is where its name stands among the
// arguments, if it does.
static int add(struct call *call, json_t *body, size_t name_at, bool bump)
{
    const char *wire = change_name(call, 0, "wire");
    const char *given = command_argument(call, name_at);
    const char *tee = given != NULL ? given : default_name(command_argument(call, 1));
    struct reply reply = {0};
    if (wire == NULL)
        return EXIT_USAGE;
    if (!text_is_name(tee))
        return command_misused(call->command, "\"%s\" can't be the name of a T", text_clean(tee));
    field_set_text(body, "port", command_argument(call, 1));
    const char *path = change_tee_path(call, wire, tee);
    int code = set_place(call, body);
    if (code == EXIT_DONE)
        code = change_labels(call, body);
    if (code == EXIT_DONE)
        code = add_queries(call, &path, bump, false);
    if (code == EXIT_DONE)
        code = client_do(&call->client, "PUT", path, body, CLIENT_CREATE_ONLY, &reply);
    if (code == EXIT_DONE)
        code = change_print_wire(call, call->network, wire, NULL);
    client_clear(&reply);
    return code;
}

int tee_add_tap(struct call *call)
{
    json_t *body = field_object();
    field_set_text(body, "mode", "tap");
    change_text(call, "out", "out_port", body);
    change_text(call, "direction", "direction", body);
    int code = add(call, body, 2, false);
    json_decref(body);
    return code;
}

int tee_add_bump(struct call *call)
{
    json_t *body = field_object();
    field_set_text(body, "mode", "bump");
    field_set_text(body, "out_port", command_argument(call, 2));
    change_text(call, "on-failure", "on_failure", body);
    int code = change_number(call, "stall-ms", "stall_ms", 0, LIMIT_STALL_MS, body);
    if (code == EXIT_DONE)
        code = add(call, body, 3, true);
    json_decref(body);
    return code;
}

static const char *mode_of(const json_t *wire, const char *name)
{
    for (size_t i = 0; i < field_size(wire, "tees"); i++) {
        const json_t *tee = field_item(wire, "tees", i);
        if (strcmp(field_text(tee, "name", ""), name) == 0)
            return field_text(tee, "mode", "");
    }
    return "";
}

// Removes a T, unless it is of the other mode: who takes out a tap doesn't
// expect traffic to take another way.
static int rm(struct call *call, const char *other)
{
    const char *wire, *tee;
    struct reply before = {0}, reply = {0};
    int code = begin(call, &wire, &tee, &before);
    if (code == EXIT_DONE && strcmp(mode_of(before.body, tee), other) == 0) {
        output_complain("T %s of wire %s is a %s: `patchbay %s rm %s %s` removes it", tee, wire, other, other, wire,
                        tee);
        code = EXIT_REFUSED;
    }
    const char *path = code == EXIT_DONE ? change_tee_path(call, wire, tee) : NULL;
    if (code == EXIT_DONE)
        code = add_queries(call, &path, false, strcmp(other, "tap") == 0);
    if (code == EXIT_DONE)
        code = client_do(&call->client, "DELETE", path, NULL, 0, &reply);
    if (code == EXIT_DONE)
        code = change_print_wire(call, call->network, wire, before.body);
    client_clear(&before);
    client_clear(&reply);
    return code;
}

int tee_rm_tap(struct call *call)
{
    return rm(call, "bump");
}

int tee_rm_bump(struct call *call)
{
    return rm(call, "tap");
}

// Sends a change of a T and prints its wire. Takes over body.
static int change(struct call *call, json_t *body, bool set)
{
    const char *wire, *tee;
    struct reply before = {0}, reply = {0};
    int code = begin(call, &wire, &tee, &before);
    const char *path = code == EXIT_DONE ? change_tee_path(call, wire, tee) : NULL;
    if (code == EXIT_DONE && set)
        code = add_queries(call, &path, true, true);
    if (code == EXIT_DONE)
        code = client_do(&call->client, "PATCH", path, body, 0, &reply);
    if (code == EXIT_DONE)
        code = change_print_wire(call, call->network, wire, before.body);
    client_clear(&before);
    client_clear(&reply);
    json_decref(body);
    return code;
}

int tee_set(struct call *call)
{
    static const struct change_key keys[] = {{"mode", "tap|bump|off", 0},
                                             {"port", NULL, 0},
                                             {"out_port", NULL, 0},
                                             {"direction", "both|a-to-b|b-to-a", 0},
                                             {"on_failure", "open|closed", 0},
                                             {"stall_ms", NULL, LIMIT_STALL_MS},
                                             {0}};
    json_t *body = field_object();
    int code = change_set(call, 2, keys, body);
    if (code == EXIT_DONE)
        return change(call, body, true);
    json_decref(body);
    return code;
}

int tee_move(struct call *call)
{
    json_t *body = field_object();
    int code = set_place(call, body);
    if (code == EXIT_DONE && json_object_size(body) == 0)
        code = command_misused(call->command, "where to? --before TEE or --after TEE");
    if (code == EXIT_DONE)
        return change(call, body, false);
    json_decref(body);
    return code;
}

int tee_ls(struct call *call)
{
    static const struct list_column columns[] = {{"TEE", "name", NULL},
                                                 {"MODE", "mode", NULL},
                                                 {"PORT", "port", NULL},
                                                 {"OUT PORT", "out_port", NULL},
                                                 {"DIRECTION", "direction", NULL},
                                                 {"ON FAILURE", "on_failure", NULL},
                                                 {"STATE", "status.state", NULL},
                                                 {"REASON", "status.reason", NULL},
                                                 {0}};
    const char *wire = change_name(call, 0, "wire");
    if (wire == NULL)
        return EXIT_USAGE;
    return list_run(call, client_path("networks", call->network, "wires", wire, "tees", NULL), columns,
                    "no Ts on this wire; `patchbay tap add WIRE PORT` adds one");
}

int tee_show(struct call *call)
{
    static const struct list_column fields[] = {{"tee", "name", NULL},
                                                {"mode", "mode", NULL},
                                                {"port", "port", NULL},
                                                {"out_port", "out_port", NULL},
                                                {"direction", "direction", NULL},
                                                {"on_failure", "on_failure", NULL},
                                                {"stall_ms", "stall_ms", NULL},
                                                {"position", "status.position", NULL},
                                                {"state", "status.state", NULL},
                                                {"reason", "status.reason", NULL},
                                                {"since", "status.since", NULL},
                                                {"labels", NULL, list_describe_labels},
                                                {"uid", "uid", NULL},
                                                {0}};
    const char *wire = change_name(call, 0, "wire");
    const char *tee = wire == NULL ? NULL : change_name(call, 1, "T");
    struct reply reply = {0};
    int code =
        tee == NULL ? EXIT_USAGE : client_do(&call->client, "GET", change_tee_path(call, wire, tee), NULL, 0, &reply);
    if (code == EXIT_DONE && call->json)
        output_json(reply.body);
    else if (code == EXIT_DONE)
        list_print_one(reply.body, fields);
    client_clear(&reply);
    return code;
}
