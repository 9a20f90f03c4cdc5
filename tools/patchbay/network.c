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
