// SPDX-License-Identifier: BSD-3-Clause
#include "vif.h"

#include "change.h"
#include "draw.h"
#include "field.h"
#include "list.h"
#include "output.h"
#include "patchbay/limits.h"
#include "text.h"
#include "verbs.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const struct {
    const char *kind;
    const char *field;  // of its target; NULL: has none
    const char *target; // what that is
} kinds[] = {
    {"vhost", "path", "the path of a socket, e.g. vhost:/run/patchbay-vhost/vm1.sock"},
    {"vhost-server", "path", "the path of a socket, e.g. vhost-server:/run/patchbay-vhost/vm1.sock"},
    {"dev", "devargs", "a DPDK device, e.g. dev:0000:03:00.0"},
    {"kernel-new", "interface", "the name of the new interface, e.g. kernel-new:mon0"},
    {"none", NULL, NULL},
};
enum { KIND_COUNT = sizeof(kinds) / sizeof(*kinds) };

int vif_parse_target(const struct call *call, const char *text, json_t *body)
{
    const char *names[KIND_COUNT];
    const char *list = "";
    size_t length = strcspn(text, ":");
    char *kind = text_slice(text, length);
    const char *target = text[length] == ':' ? text + length + 1 : "";
    size_t i = 0;
    while (i < KIND_COUNT && strcmp(kinds[i].kind, kind) != 0)
        i++;
    if (i == KIND_COUNT) {
        for (size_t j = 0; j < KIND_COUNT; j++) {
            names[j] = kinds[j].kind;
            list = text_format("%s%s%s", list, j == 0 ? "" : ", ", kinds[j].kind);
        }
        const char *nearest = text_nearest(kind, names, KIND_COUNT);
        if (nearest != NULL)
            return command_misused(call->command, "there is no kind \"%s\"; did you mean \"%s\"?", text_clean(kind),
                                   nearest);
        return command_misused(call->command, "there is no kind \"%s\"; kinds are %s", text_clean(kind), list);
    }
    if (kinds[i].field == NULL && *target != '\0')
        return command_misused(call->command, "%s takes no target", kind);
    if (kinds[i].field != NULL && *target == '\0')
        return command_misused(call->command, "%s needs %s", kind, kinds[i].target);
    field_set_text(body, "kind", kind);
    if (kinds[i].field != NULL)
        field_set_text(body, kinds[i].field, target);
    return EXIT_DONE;
}

static bool begins_with(const char *text, const char *beginning)
{
    return strncmp(text, beginning, strlen(beginning)) == 0;
}

// A guest that isn't there yet is the usual case, not a fault: say what to do.
static const char *describe_waiting(const json_t *vif, const char *name)
{
    struct stat status;
    const char *path = field_text(vif, "path", "");
    const char *kind = field_text(vif, "kind", "");
    const char *reason = field_text(vif, "status.reason", "");
    const char *hint = text_format("(patchbay plug --qemu %s prints the options)", name);
    if (strcmp(field_text(vif, "status.state", ""), "down") != 0)
        return NULL;
    // The daemon's word, unless a socket has come up meanwhile.
    if (strcmp(kind, "vhost") == 0 && begins_with(reason, "waiting for its socket") && lstat(path, &status) != 0)
        return text_format("%s waiting: no socket there yet; start QEMU with server=on %s", name, hint);
    if (strcmp(kind, "vhost-server") == 0 && begins_with(reason, "waiting"))
        return text_format("%s waiting: it listens at %s; start QEMU with reconnect=1 %s", name, text_clean(path),
                           hint);
    return NULL;
}

int vif_print_outcome(struct call *call, const char *name, struct reply *reply)
{
    // A device's link comes up moments after the device; a guest's may take forever.
    enum { TRIES = 10, PAUSE_US = 50000 };
    const char *waiting = NULL;
    int code = EXIT_DONE;
    for (int i = 0; i < TRIES && code == EXIT_DONE; i++) {
        if (i > 0)
            usleep(PAUSE_US);
        code = client_do(&call->client, "GET", client_path("vifs", name, NULL), NULL, 0, reply);
        waiting = describe_waiting(reply->body, name);
        if (waiting != NULL || strcmp(field_text(reply->body, "status.state", ""), "down") != 0)
            break;
    }
    if (code == EXIT_DONE && !call->json)
        printf("%s\n", waiting != NULL ? waiting : text_format("%s %s", name, draw_state(reply->body)));
    return code;
}

int vif_add(struct call *call)
{
    const char *name = change_name(call, 0, "vif");
    struct reply reply = {0};
    json_t *body = field_object();
    int code = name == NULL ? EXIT_USAGE : vif_parse_target(call, command_argument(call, 1), body);
    if (code == EXIT_DONE)
        code = change_labels(call, body);
    change_text(call, "owner", "owner", body);
    if (code == EXIT_DONE)
        code = client_do(&call->client, "PUT", client_path("vifs", name, NULL), body, CLIENT_CREATE_ONLY, &reply);
    if (code == EXIT_DONE)
        code = vif_print_outcome(call, name, &reply);
    if (code == EXIT_DONE && call->json)
        output_json(reply.body);
    client_clear(&reply);
    json_decref(body);
    return code;
}

int vif_set(struct call *call)
{
    static const struct change_key keys[] = {{"owner", NULL, 0},
                                             {"admin", "up|down", 0},
                                             {"worker", NULL, LIMIT_WORKERS - 1},
                                             {"mtu", NULL, LIMIT_MTU},
                                             {0}};
    const char *name = change_name(call, 0, "vif");
    struct reply reply = {0};
    json_t *body = field_object();
    int code = name == NULL ? EXIT_USAGE : change_set(call, 1, keys, body);
    if (code == EXIT_DONE)
        code = client_do(&call->client, "PATCH", client_path("vifs", name, NULL), body, 0, &reply);
    if (code == EXIT_DONE)
        change_print(call, reply.body, "%s %s", name, draw_state(reply.body));
    client_clear(&reply);
    json_decref(body);
    return code;
}

// The wires and Ts that use the vif's ports; a new array.
static json_t *users_of(struct call *call, const json_t *vif)
{
    struct reply reply = {0};
    json_t *users = json_array();
    for (size_t i = 0; users != NULL && i < field_size(vif, "status.used_by"); i++) {
        const json_t *port = field_item(vif, "status.used_by", i);
        const char *path =
            client_path("networks", field_text(port, "network", ""), "ports", field_text(port, "port", ""), NULL);
        // One that has gone meanwhile has no users.
        if (client_send(&call->client, "GET", path, NULL, 0, &reply) == EXIT_DONE && client_ok(&reply))
            json_array_extend(users, field_get(reply.body, "status.used_by"));
    }
    client_clear(&reply);
    return users;
}

int vif_rm(struct call *call)
{
    const char *name = change_name(call, 0, "vif");
    struct reply before = {0}, reply = {0};
    if (name == NULL)
        return EXIT_USAGE;
    const char *path = client_path("vifs", name, NULL);
    json_t *users = NULL;
    int code = client_do(&call->client, "GET", path, NULL, 0, &before);
    if (code == EXIT_DONE && command_has(call, "detach")) {
        users = users_of(call, before.body);
        path = client_query(path, "detach", "1");
    }
    if (code == EXIT_DONE)
        code = client_do(&call->client, "DELETE", path, NULL, 0, &reply);
    if (code == EXIT_DONE)
        change_print(call, reply.body, "%s removed", name);
    if (code == EXIT_DONE)
        code = change_print_users(call, users);
    json_decref(users);
    client_clear(&before);
    client_clear(&reply);
    return code;
}

int vif_ls(struct call *call)
{
    return list_run(call, client_path("vifs", NULL), list_vif_columns,
                    "no vifs yet; `patchbay plug NAME KIND:TARGET` makes one with its port");
}

// Who polls each of its queues: "0, 1, 0, 1", and whether they are to stay there.
static const char *describe_workers(const json_t *vif)
{
    const char *shown = "";
    const json_t *workers = field_get(vif, "status.workers");
    for (size_t i = 0; i < json_array_size(workers); i++) {
        const json_t *worker = json_array_get(workers, i);
        shown = text_format("%s%s%s", shown, i == 0 ? "" : ", ",
                            json_is_integer(worker) ? text_format("%lld", (long long)json_integer_value(worker)) : "-");
    }
    if (*shown != '\0' && field_get(vif, "worker") != NULL)
        return text_format("%s (pinned to %llu)", shown, (unsigned long long)field_count(vif, "worker"));
    return shown;
}

int vif_show(struct call *call)
{
    static const struct list_column fields[] = {{"vif", "name", NULL},
                                                {"target", NULL, list_describe_target},
                                                {"state", "status.state", NULL},
                                                {"reason", "status.reason", NULL},
                                                {"since", "status.since", NULL},
                                                {"owner", "owner", NULL},
                                                {"admin", "admin", NULL},
                                                {"labels", NULL, list_describe_labels},
                                                {"used by", NULL, list_describe_users},
                                                {"workers", NULL, describe_workers},
                                                {"queue pairs", "status.queue_pairs", NULL},
                                                {"receive ring", "status.rx_ring_size", NULL},
                                                {"transmit ring", "status.tx_ring_size", NULL},
                                                {"rings", "status.ring", NULL},
                                                {"virtio features", "status.virtio_features", NULL},
                                                {"mtu", "status.mtu", NULL},
                                                {"mac", "status.mac", NULL},
                                                {"uid", "uid", NULL},
                                                {0}};
    const char *name = change_name(call, 0, "vif");
    struct reply reply = {0};
    int code =
        name == NULL ? EXIT_USAGE : client_do(&call->client, "GET", client_path("vifs", name, NULL), NULL, 0, &reply);
    if (code == EXIT_DONE && call->json)
        output_json(reply.body);
    else if (code == EXIT_DONE)
        list_print_one(reply.body, fields);
    client_clear(&reply);
    return code;
}
