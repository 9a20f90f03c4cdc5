// SPDX-License-Identifier: BSD-3-Clause
#include "change.h"
#include "draw.h"
#include "field.h"
#include "list.h"
#include "output.h"
#include "patchbay/limits.h"
#include "text.h"
#include "verbs.h"

#include <string.h>

// Sends a change of a wire that exists and prints the outcome. Takes over body.
static int change(struct call *call, json_t *body)
{
    const char *wire = change_name(call, 0, "wire");
    struct reply before = {0}, reply = {0};
    int code = wire == NULL ? EXIT_USAGE : change_read_wire(call, call->network, wire, &before);
    if (code == EXIT_DONE)
        code = client_do(&call->client, "PATCH", change_wait(call, change_wire_path(call, wire)), body, 0, &reply);
    if (code == EXIT_DONE)
        code = change_print_wire(call, call->network, wire, before.body);
    client_clear(&before);
    client_clear(&reply);
    json_decref(body);
    return code;
}

static int set_end(json_t *body, const char *end, const char *port)
{
    field_set_text(body, end, strcmp(port, "-") == 0 ? NULL : port);
    return EXIT_DONE;
}

int wire_add(struct call *call)
{
    const char *wire = change_name(call, 0, "wire");
    struct reply reply = {0};
    json_t *body = field_object();
    int code = wire == NULL ? EXIT_USAGE : set_end(body, "a", command_argument(call, 1));
    if (code == EXIT_DONE)
        code = set_end(body, "b", command_argument(call, 2));
    change_text(call, "on-full", "on_full", body);
    change_text(call, "admin", "admin", body);
    if (code == EXIT_DONE)
        code = change_number(call, "stall-ms", "stall_ms", 0, LIMIT_STALL_MS, body);
    if (code == EXIT_DONE)
        code = change_labels(call, body);
    if (code == EXIT_DONE)
        code = client_do(&call->client, "PUT", change_wire_path(call, wire), body, CLIENT_CREATE_ONLY, &reply);
    if (code == EXIT_DONE)
        code = change_print_wire(call, call->network, wire, NULL);
    client_clear(&reply);
    json_decref(body);
    return code;
}

int wire_replug(struct call *call)
{
    json_t *body = field_object();
    set_end(body, command_argument(call, 1), command_argument(call, 2));
    return change(call, body);
}

int wire_unplug(struct call *call)
{
    json_t *body = field_object();
    field_set_text(body, command_argument(call, 1), NULL);
    return change(call, body);
}

int wire_up(struct call *call)
{
    json_t *body = field_object();
    field_set_text(body, "admin", "up");
    return change(call, body);
}

int wire_down(struct call *call)
{
    json_t *body = field_object();
    field_set_text(body, "admin", "down");
    return change(call, body);
}

int wire_set(struct call *call)
{
    static const struct change_key keys[] = {
        {"admin", "up|down", 0}, {"on_full", "wait|drop", 0}, {"stall_ms", NULL, LIMIT_STALL_MS}, {0}};
    json_t *body = field_object();
    int code = change_set(call, 1, keys, body);
    if (code == EXIT_DONE)
        return change(call, body);
    json_decref(body);
    return code;
}

int wire_rm(struct call *call)
{
    const char *wire = change_name(call, 0, "wire");
    struct reply reply = {0};
    int code =
        wire == NULL ? EXIT_USAGE : client_do(&call->client, "DELETE", change_wire_path(call, wire), NULL, 0, &reply);
    if (code == EXIT_DONE)
        change_print(call, reply.body, "%s removed", wire);
    client_clear(&reply);
    return code;
}

int wire_ls(struct call *call)
{
    static const struct list_column columns[] = {
        {"WIRE", "name", NULL},   {"PATH", NULL, draw_path},         {"STATE", "status.state", NULL},
        {"ADMIN", "admin", NULL}, {"REASON", "status.reason", NULL}, {0}};
    return list_run(call, client_path("networks", call->network, "wires", NULL), columns,
                    "no wires yet; `patchbay wire add NAME A B` makes one");
}
