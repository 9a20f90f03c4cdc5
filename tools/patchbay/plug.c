// SPDX-License-Identifier: BSD-3-Clause
#include "change.h"
#include "field.h"
#include "output.h"
#include "patchbay/limits.h"
#include "text.h"
#include "verbs.h"
#include "vif.h"

#include <stdio.h>
#include <string.h>

// Makes the vif; *made tells whether it is new. One that exists is put again
// with the wanted kind and target: if they are its own, nothing happens, if
// not, the daemon refuses, and it alone knows when two targets are the same.
static int put_vif(struct call *call, const char *name, json_t *wanted, bool *made)
{
    struct reply reply = {0};
    const char *path = client_path("vifs", name, NULL);
    int code = client_send(&call->client, "PUT", path, wanted, CLIENT_CREATE_ONLY, &reply);
    *made = code == EXIT_DONE && client_ok(&reply);
    if (code != EXIT_DONE || *made) {
        client_clear(&reply);
        return code;
    }
    if (reply.status != 412) {
        code = client_refused(&call->client, &reply);
        client_clear(&reply);
        return code;
    }
    code = client_do(&call->client, "GET", path, NULL, 0, &reply);
    if (code == EXIT_DONE) {
        // Owner, worker and labels stay what they are unless others are given.
        static const char *const kept[] = {"owner", "worker", "labels"};
        for (size_t i = 0; i < 3; i++)
            if (json_object_get(wanted, kept[i]) == NULL && field_get(reply.body, kept[i]) != NULL)
                field_set(wanted, kept[i], json_incref(field_get(reply.body, kept[i])));
        code = client_do(&call->client, "PUT", path, wanted, 0, &reply);
    }
    client_clear(&reply);
    return code;
}

static int put_port(struct call *call, const char *port, const char *vif, struct reply *reply)
{
    json_t *body = field_object();
    field_set_text(body, "vif", vif);
    int code = change_number(call, "vlan", "vlan", 1, LIMIT_VLAN, body);
    if (code == EXIT_DONE)
        code = client_do(&call->client, "PUT", change_port_path(call, port), body, CLIENT_CREATE_ONLY, reply);
    json_decref(body);
    return code;
}

// Takes back the vif of a plug that failed, so that it did nothing.
static void take_back(struct call *call, const char *name)
{
    struct reply reply = {0};
    if (client_do(&call->client, "DELETE", client_path("vifs", name, NULL), NULL, 0, &reply) != EXIT_DONE)
        output_complain("vif %s, made for the port, stays: `patchbay vif rm %s` removes it", name, name);
    client_clear(&reply);
}

int plug_run(struct call *call)
{
    const char *name = change_name(call, 0, "vif");
    const char *port = command_option(call, "port");
    struct reply vif_reply = {0}, port_reply = {0};
    json_t *vif = field_object(), *unused = field_object();
    bool made = false;
    int code = name == NULL ? EXIT_USAGE : vif_parse_target(call, command_argument(call, 1), vif);
    if (port == NULL)
        port = name;
    if (code == EXIT_DONE && !text_is_name(port))
        code = command_misused(call->command, "\"%s\" can't be the name of a port", text_clean(port));
    // Wrong options are found before anything is made.
    if (code == EXIT_DONE)
        code = change_number(call, "vlan", "vlan", 1, LIMIT_VLAN, unused);
    change_text(call, "owner", "owner", vif);
    if (code == EXIT_DONE)
        code = change_labels(call, vif);
    if (code == EXIT_DONE)
        code = put_vif(call, name, vif, &made);
    if (code == EXIT_DONE) {
        code = put_port(call, port, name, &port_reply);
        if (made && (code == EXIT_REFUSED || code == EXIT_UNSUPPORTED))
            take_back(call, name);
    }
    if (code == EXIT_DONE)
        code = vif_print_outcome(call, name, &vif_reply);
    if (code == EXIT_DONE && call->json) {
        json_t *both = field_object();
        field_set(both, "vif", json_incref(vif_reply.body));
        field_set(both, "port", json_incref(port_reply.body));
        output_json(both);
        json_decref(both);
    }
    client_clear(&vif_reply);
    client_clear(&port_reply);
    json_decref(vif);
    json_decref(unused);
    return code;
}

// Removes the vif behind a port that is gone, unless others share it. What was
// deleted is added to deleted.
static int unplug_vif(struct call *call, const char *vif, json_t *deleted)
{
    struct reply reply = {0};
    int code = client_do(&call->client, "GET", client_path("vifs", vif, NULL), NULL, 0, &reply);
    const json_t *other = code == EXIT_DONE ? field_item(reply.body, "status.used_by", 0) : NULL;
    if (code == EXIT_DONE && other != NULL) {
        if (!call->json)
            printf("vif %s stays: port %s shares it\n", text_clean(vif), text_clean(field_text(other, "port", "?")));
    } else if (code == EXIT_DONE) {
        code = client_do(&call->client, "DELETE", client_path("vifs", vif, NULL), NULL, 0, &reply);
        if (code == EXIT_DONE)
            field_set(deleted, "vif", json_incref(reply.body));
    }
    client_clear(&reply);
    return code;
}

int plug_unplug(struct call *call)
{
    const char *name = change_name(call, 0, "port");
    struct reply before = {0}, reply = {0};
    if (name == NULL)
        return EXIT_USAGE;
    json_t *deleted = field_object();
    const char *path = change_port_path(call, name);
    int code = client_do(&call->client, "GET", path, NULL, 0, &before);
    if (command_has(call, "detach"))
        path = change_wait(call, client_query(path, "detach", "1"));
    if (code == EXIT_DONE)
        code = client_do(&call->client, "DELETE", path, NULL, 0, &reply);
    if (code == EXIT_DONE)
        field_set(deleted, "port", json_incref(reply.body));
    const char *vif = field_text(before.body, "vif", NULL);
    if (code == EXIT_DONE && vif != NULL)
        code = unplug_vif(call, vif, deleted);
    if (code == EXIT_DONE)
        change_print(call, deleted, "%s unplugged", name);
    if (code == EXIT_DONE)
        code = change_print_users(call, field_get(before.body, "status.used_by"));
    client_clear(&before);
    client_clear(&reply);
    json_decref(deleted);
    return code;
}
