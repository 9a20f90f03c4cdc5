// SPDX-License-Identifier: BSD-3-Clause
#include "change.h"
#include "field.h"
#include "list.h"
#include "output.h"
#include "verbs.h"

int network_add(struct call *call)
{
    const char *name = change_name(call, 0, "network");
    struct reply reply = {0};
    json_t *body = field_object();
    int code = name == NULL ? EXIT_USAGE : change_labels(call, body);
    if (code == EXIT_DONE)
        code = client_do(&call->client, "PUT", client_path("networks", name, NULL), body, CLIENT_CREATE_ONLY, &reply);
    if (code == EXIT_DONE)
        change_print(call, reply.body, "%s made", name);
    client_clear(&reply);
    json_decref(body);
    return code;
}

int network_set(struct call *call)
{
    static const struct change_key keys[] = {{0}};
    const char *name = change_name(call, 0, "network");
    struct reply reply = {0};
    json_t *body = field_object();
    int code = name == NULL ? EXIT_USAGE : change_set(call, 1, keys, body);
    if (code == EXIT_DONE)
        code = client_do(&call->client, "PATCH", client_path("networks", name, NULL), body, 0, &reply);
    if (code == EXIT_DONE)
        change_print(call, reply.body, "%s changed", name);
    client_clear(&reply);
    json_decref(body);
    return code;
}

int network_rm(struct call *call)
{
    const char *name = change_name(call, 0, "network");
    struct reply reply = {0};
    int code = name == NULL ? EXIT_USAGE
                            : client_do(&call->client, "DELETE", client_path("networks", name, NULL), NULL, 0, &reply);
    if (code == EXIT_DONE)
        change_print(call, reply.body, "%s removed", name);
    client_clear(&reply);
    return code;
}

int network_ls(struct call *call)
{
    static const struct list_column columns[] = {{"NETWORK", "name", NULL},
                                                 {"PORTS", "status.ports", NULL},
                                                 {"WIRES", "status.wires", NULL},
                                                 {"LABELS", NULL, list_describe_labels},
                                                 {0}};
    return list_run(call, client_path("networks", NULL), columns, "no networks");
}

int network_show(struct call *call)
{
    static const struct list_column fields[] = {{"network", "name", NULL},
                                                {"ports", "status.ports", NULL},
                                                {"wires", "status.wires", NULL},
                                                {"labels", NULL, list_describe_labels},
                                                {"uid", "uid", NULL},
                                                {0}};
    const char *name = change_name(call, 0, "network");
    struct reply reply = {0};
    int code = name == NULL ? EXIT_USAGE
                            : client_do(&call->client, "GET", client_path("networks", name, NULL), NULL, 0, &reply);
    if (code == EXIT_DONE && call->json)
        output_json(reply.body);
    else if (code == EXIT_DONE)
        list_print_one(reply.body, fields);
    client_clear(&reply);
    return code;
}
