// SPDX-License-Identifier: BSD-3-Clause
#include "change.h"
#include "draw.h"
#include "field.h"
#include "list.h"
#include "output.h"
#include "patchbay/limits.h"
#include "text.h"
#include "verbs.h"

#include <stdio.h>

// Sends body to the port that argument 0 names and prints how it stands.
static int send_port(struct call *call, const char *method, const json_t *body, unsigned flags)
{
    const char *name = change_name(call, 0, "port");
    struct reply reply = {0};
    if (name == NULL)
        return EXIT_USAGE;
    // A port that leaves its vif may be the arm of a bump, which then drains.
    const char *path = change_wait(call, change_port_path(call, name));
    int code = client_do(&call->client, method, path, body, flags, &reply);
    if (code == EXIT_DONE)
        change_print(call, reply.body, "%s %s", name, draw_state(reply.body));
    // Wires and Ts follow a port to its new vif.
    if (code == EXIT_DONE)
        code = change_print_users(call, field_get(reply.body, "status.used_by"));
    client_clear(&reply);
    return code;
}

int port_add(struct call *call)
{
    json_t *body = field_object();
    change_text(call, "vif", "vif", body);
    int code = change_number(call, "vlan", "vlan", 1, LIMIT_VLAN, body);
    if (code == EXIT_DONE)
        code = change_labels(call, body);
    if (code == EXIT_DONE)
        code = send_port(call, "PUT", body, CLIENT_CREATE_ONLY);
    json_decref(body);
    return code;
}

int port_set(struct call *call)
{
    static const struct change_key keys[] = {{"vif", NULL, 0},
                                             {"vlan", NULL, LIMIT_VLAN},
                                             {"admin", "up|down", 0},
                                             {"ingress_bps", NULL, (long long)LIMIT_RATE_BPS},
                                             {"ingress_burst", NULL, LIMIT_RATE_BURST},
                                             {"ingress_pps", NULL, LIMIT_RATE_PPS},
                                             {"ingress_burst_frames", NULL, LIMIT_RATE_BURST_FRAMES},
                                             {"egress_bps", NULL, (long long)LIMIT_RATE_BPS},
                                             {"egress_burst", NULL, LIMIT_RATE_BURST},
                                             {"egress_pps", NULL, LIMIT_RATE_PPS},
                                             {"egress_burst_frames", NULL, LIMIT_RATE_BURST_FRAMES},
                                             {0}};
    json_t *body = field_object();
    int code = change_set(call, 1, keys, body);
    if (code == EXIT_DONE)
        code = send_port(call, "PATCH", body, 0);
    json_decref(body);
    return code;
}

int port_rm(struct call *call)
{
    const char *name = change_name(call, 0, "port");
    struct reply before = {0}, reply = {0};
    if (name == NULL)
        return EXIT_USAGE;
    const char *path = change_port_path(call, name);
    int code = client_do(&call->client, "GET", path, NULL, 0, &before);
    if (code == EXIT_DONE && command_has(call, "detach"))
        path = change_wait(call, client_query(path, "detach", "1"));
    if (code == EXIT_DONE)
        code = client_do(&call->client, "DELETE", path, NULL, 0, &reply);
    if (code == EXIT_DONE)
        change_print(call, reply.body, "%s removed", name);
    if (code == EXIT_DONE)
        code = change_print_users(call, field_get(before.body, "status.used_by"));
    client_clear(&before);
    client_clear(&reply);
    return code;
}

int port_ls(struct call *call)
{
    return list_run(call, client_path("networks", call->network, "ports", NULL), list_port_columns,
                    "no ports yet; `patchbay plug NAME KIND:TARGET` makes one with its vif");
}

int port_show(struct call *call)
{
    static const struct list_column fields[] = {{"port", "name", NULL},
                                                {"vif", "vif", NULL},
                                                {"vlan", "vlan", NULL},
                                                {"admin", "admin", NULL},
                                                {"ingress_bps", "ingress_bps", NULL},
                                                {"ingress_burst", "ingress_burst", NULL},
                                                {"ingress_pps", "ingress_pps", NULL},
                                                {"ingress_burst_frames", "ingress_burst_frames", NULL},
                                                {"egress_bps", "egress_bps", NULL},
                                                {"egress_burst", "egress_burst", NULL},
                                                {"egress_pps", "egress_pps", NULL},
                                                {"egress_burst_frames", "egress_burst_frames", NULL},
                                                {"state", "status.state", NULL},
                                                {"reason", "status.reason", NULL},
                                                {"since", "status.since", NULL},
                                                {"labels", NULL, list_describe_labels},
                                                {"used by", NULL, list_describe_users},
                                                {"uid", "uid", NULL},
                                                {0}};
    const char *name = change_name(call, 0, "port");
    struct reply reply = {0};
    int code =
        name == NULL ? EXIT_USAGE : client_do(&call->client, "GET", change_port_path(call, name), NULL, 0, &reply);
    if (code == EXIT_DONE && call->json)
        output_json(reply.body);
    else if (code == EXIT_DONE)
        list_print_one(reply.body, fields);
    client_clear(&reply);
    return code;
}
