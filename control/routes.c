// SPDX-License-Identifier: BSD-3-Clause
#include "routes.h"

#include "conf_request.h"
#include "config.h"
#include "event_stream.h"
#include "metrics.h"
#include "names.h"
#include "read.h"
#include "stats.h"
#include "trail.h"
#include "write.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#define NET  "/v1/networks/{net}"
#define PORT NET "/ports/{port}"
#define WIRE NET "/wires/{wire}"
#define KEY  "/conf/{key}"

const struct route routes[] = {
    {"GET", "/v1/version", read_version, 0, 0, true, "versions of daemon, API, DPDK and state"},
    {"GET", "/v1/stats", stats_host, 0, PARAMETER_QUEUES, true, "workers, generation, counts of objects"},
    {"GET", "/v1/audit", trail_read, 0, PARAMETERS_LIST, true, "who changed what, and when"},
    {"GET", "/v1/events", event_stream_get, 0, PARAMETERS_EVENTS, true, "what happens, a line of JSON each"},

    {"GET", "/metrics", metrics_get, 0, PARAMETER_DETAIL, true, "all counters, for Prometheus"},

    {"GET", "/v1/vifs", read_list, OBJECT_VIF, PARAMETERS_LIST, true, "all vifs"},
    {"GET", "/v1/vifs/{vif}", read_object, OBJECT_VIF, 0, true, "one vif"},
    {"PUT", "/v1/vifs/{vif}", write_object, OBJECT_VIF, 0, false, "make or change a vif"},
    {"PATCH", "/v1/vifs/{vif}", write_object, OBJECT_VIF, 0, false, "change fields of a vif"},
    {"DELETE", "/v1/vifs/{vif}", write_object, OBJECT_VIF, PARAMETER_DETACH, false, "remove a vif"},
    {"GET", "/v1/vifs/{vif}/stats", stats_vif, OBJECT_VIF, 0, true, "counters of a vif"},

    {"GET", "/v1/networks", read_list, OBJECT_NETWORK, PARAMETERS_LIST, true, "all networks"},
    {"GET", NET, read_object, OBJECT_NETWORK, 0, true, "one network"},
    {"PUT", NET, write_object, OBJECT_NETWORK, 0, false, "make or change a network"},
    {"PATCH", NET, write_object, OBJECT_NETWORK, 0, false, "change fields of a network"},
    {"DELETE", NET, write_object, OBJECT_NETWORK, PARAMETER_DETACH, false, "remove an empty network"},

    {"GET", NET "/ports", read_list, OBJECT_PORT, PARAMETERS_LIST, true, "ports of a network"},
    {"GET", NET "/ports/{port}", read_object, OBJECT_PORT, 0, true, "one port"},
    {"PUT", NET "/ports/{port}", write_object, OBJECT_PORT, PARAMETERS_TEE, false, "make or change a port"},
    {"PATCH", NET "/ports/{port}", write_object, OBJECT_PORT, PARAMETERS_TEE, false, "change fields of a port"},
    {"DELETE", NET "/ports/{port}", write_object, OBJECT_PORT, PARAMETER_DETACH | PARAMETERS_DRAIN, false,
     "remove a port"},

    {"GET", NET "/wires", read_list, OBJECT_WIRE, PARAMETERS_LIST, true, "wires of a network"},
    {"GET", WIRE, read_object, OBJECT_WIRE, 0, true, "one wire with its Ts"},
    {"PUT", WIRE, write_object, OBJECT_WIRE, PARAMETERS_TEE, false, "make or change a wire with its Ts"},
    {"PATCH", WIRE, write_object, OBJECT_WIRE, PARAMETERS_TEE, false, "change fields of a wire, replug it"},
    {"DELETE", WIRE, write_object, OBJECT_WIRE, 0, false, "remove a wire and its Ts"},
    {"GET", WIRE "/stats", stats_wire, OBJECT_WIRE, 0, true, "counters of a wire, its legs and Ts"},

    {"GET", WIRE "/tees", read_tees, OBJECT_WIRE, 0, true, "Ts of a wire, in order from a to b"},
    {"GET", WIRE "/tees/{tee}", read_tee, OBJECT_WIRE, 0, true, "one T"},
    {"PUT", WIRE "/tees/{tee}", write_object, OBJECT_WIRE, PARAMETERS_TEE, false, "put in or change a T"},
    {"PATCH", WIRE "/tees/{tee}", write_object, OBJECT_WIRE, PARAMETERS_TEE, false, "change fields of a T, move it"},
    {"DELETE", WIRE "/tees/{tee}", write_object, OBJECT_WIRE, PARAMETERS_DRAIN, false, "take a T out"},

    {"POST", "/v1/transactions", write_transaction, 0, PARAMETERS_TRANSACTION, false, "many changes, all or none"},
    {"GET", "/v1/config", read_config, 0, 0, true, "the whole desired state"},
    {"PUT", "/v1/config", write_config, 0, PARAMETERS_CONFIG, false, "make the whole state so"},
    {"GET", "/v1/conf", conf_read_keys, 0, 0, true, "what the host can do: keys"},
    {"GET", "/v1" KEY, conf_read_key, 0, 0, true, "one of these"},
    {"PUT", "/v1" KEY, conf_write_key, 0, 0, false, "set it"},
    {"DELETE", "/v1" KEY, conf_write_key, 0, 0, false, "put back its default"},
    {"GET", NET "/conf", conf_read_keys, OBJECT_NETWORK, 0, true, "what the network can do and be told: keys"},
    {"GET", NET KEY, conf_read_key, OBJECT_NETWORK, 0, true, "one of these"},
    {"PUT", NET KEY, conf_write_key, OBJECT_NETWORK, 0, false, "set it"},
    {"DELETE", NET KEY, conf_write_key, OBJECT_NETWORK, 0, false, "put back its default"},
    {"GET", PORT "/conf", conf_read_keys, OBJECT_PORT, 0, true, "what the port can do and be told: keys"},
    {"GET", PORT KEY, conf_read_key, OBJECT_PORT, 0, true, "one of these"},
    {"PUT", PORT KEY, conf_write_key, OBJECT_PORT, PARAMETERS_TEE, false, "set it"},
    {"DELETE", PORT KEY, conf_write_key, OBJECT_PORT, PARAMETERS_TEE, false, "put back its default"},
    {"GET", PORT "/vif/conf", conf_read_keys, OBJECT_VIF, 0, true, "what the port's vif can do and be told: keys"},
    {"GET", PORT "/vif" KEY, conf_read_key, OBJECT_VIF, 0, true, "one of these"},
    {"PUT", PORT "/vif" KEY, conf_write_key, OBJECT_VIF, 0, false, "set it"},
    {"DELETE", PORT "/vif" KEY, conf_write_key, OBJECT_VIF, 0, false, "put back its default"},
    {"GET", "/v1/vifs/{vif}/conf", conf_read_keys, OBJECT_VIF, 0, true, "what the vif can do and be told: keys"},
    {"GET", "/v1/vifs/{vif}" KEY, conf_read_key, OBJECT_VIF, 0, true, "one of these"},
    {"PUT", "/v1/vifs/{vif}" KEY, conf_write_key, OBJECT_VIF, 0, false, "set it"},
    {"DELETE", "/v1/vifs/{vif}" KEY, conf_write_key, OBJECT_VIF, 0, false, "put back its default"},
    {"GET", WIRE "/conf", conf_read_keys, OBJECT_WIRE, 0, true, "what the wire can do and be told: keys"},
    {"GET", WIRE KEY, conf_read_key, OBJECT_WIRE, 0, true, "one of these"},
    {"PUT", WIRE KEY, conf_write_key, OBJECT_WIRE, PARAMETERS_TEE, false, "set it"},
    {"DELETE", WIRE KEY, conf_write_key, OBJECT_WIRE, PARAMETERS_TEE, false, "put back its default"},
    {.method = NULL},
};

enum { PARTS_MAX = 12, PART_SIZE = 256 };

// "/v1/vifs/vm1" cut at its slashes.
struct parts {
    size_t count;
    char text[PARTS_MAX][PART_SIZE];
};

static bool split(const char *path, struct parts *parts)
{
    parts->count = 0;
    if (path[0] != '/')
        return false;
    while (*path == '/') {
        size_t len = strcspn(path + 1, "/");

        if (parts->count == PARTS_MAX || len >= PART_SIZE)
            return false;
        memcpy(parts->text[parts->count], path + 1, len);
        parts->text[parts->count++][len] = '\0';
        path += 1 + len;
    }
    return true;
}

// Paths of conf may end in a slash, and may write the port's vif in capitals.
static void normalize_conf(struct parts *parts)
{
    size_t last = parts->count - 1;

    if (last > 1 && parts->text[last][0] == '\0' &&
        (strcmp(parts->text[last - 1], "conf") == 0 || strcmp(parts->text[last - 2], "conf") == 0))
        last = --parts->count - 1;
    for (size_t at = last > 0 ? last - 1 : 0; at <= last; at++)
        if (at > 0 && strcmp(parts->text[at], "conf") == 0 && strcmp(parts->text[at - 1], "VIF") == 0)
            strcpy(parts->text[at - 1], "vif");
}

static bool is_variable(const char *part)
{
    return part[0] == '{';
}

static bool matches(const struct route *route, const struct parts *parts)
{
    struct parts wanted;

    split(route->path, &wanted);
    if (wanted.count != parts->count)
        return false;
    for (size_t i = 0; i < wanted.count; i++)
        if (is_variable(wanted.text[i]) ? parts->text[i][0] == '\0' : strcmp(wanted.text[i], parts->text[i]) != 0)
            return false;
    return true;
}

// ---- what is wrong with a path ----

// How far a path is from a route's: parts that differ, with near misses counted less.
static unsigned measure(const struct route *route, const struct parts *parts)
{
    struct parts wanted;
    unsigned distance;

    split(route->path, &wanted);
    distance = (unsigned)(wanted.count > parts->count ? wanted.count - parts->count : parts->count - wanted.count) * 4;
    for (size_t i = 0; i < wanted.count && i < parts->count; i++) {
        unsigned far = names_distance(wanted.text[i], parts->text[i], 3);

        if (is_variable(wanted.text[i]))
            distance += parts->text[i][0] == '\0' ? 4 : 0;
        else
            distance += far > 3 ? 8 : far;
    }
    return distance;
}

static const char *find_nearest(const struct parts *parts)
{
    const struct route *nearest = &routes[0];
    unsigned least = UINT32_MAX;

    for (const struct route *route = routes; route->method != NULL; route++) {
        unsigned distance = measure(route, parts);

        if (distance < least) {
            least = distance;
            nearest = route;
        }
    }
    return nearest->path;
}

static void answer_not_found(struct exchange *exchange, const struct parts *parts)
{
    struct error error;

    error_set(&error, PATCHBAY_ERROR_NO_SUCH_PATH, NULL, "There is no path %.100s. The nearest is %s.", exchange->path,
              find_nearest(parts));
    exchange_fail(exchange, &error);
}

// Of a list, the path by which an object gets into it: many APIs take a POST there. NULL of any other path.
static const char *find_items(const struct parts *parts)
{
    struct parts item = *parts;

    if (item.count == PARTS_MAX)
        return NULL;
    strcpy(item.text[item.count++], "x");
    for (const struct route *route = routes; route->method != NULL; route++)
        if (route->handler == write_object && matches(route, &item))
            return route->path;
    return NULL;
}

static void answer_method(struct exchange *exchange, const struct parts *parts)
{
    const char *items = find_items(parts);
    struct error error;

    for (const struct route *route = routes; route->method != NULL; route++) {
        if (!matches(route, parts))
            continue;
        if (exchange->allow[0] != '\0')
            strlcat(exchange->allow, ", ", sizeof(exchange->allow));
        strlcat(exchange->allow, route->method, sizeof(exchange->allow));
        if (strcmp(route->method, "GET") == 0)
            strlcat(exchange->allow, ", HEAD", sizeof(exchange->allow));
    }
    error_set(&error, PATCHBAY_ERROR_METHOD, NULL, "%.100s takes %s.%s%s%s", exchange->path, exchange->allow,
              items != NULL ? " PUT " : "", items != NULL ? items : "", items != NULL ? " makes one." : "");
    exchange_fail(exchange, &error);
}

// ---- finding ----

static const struct route *find(const char *method, const struct parts *parts, bool *path_known)
{
    // Without the body: libmicrohttpd sees to that.
    if (strcmp(method, "HEAD") == 0)
        method = "GET";
    *path_known = false;
    for (const struct route *route = routes; route->method != NULL; route++) {
        if (!matches(route, parts))
            continue;
        *path_known = true;
        if (strcmp(route->method, method) == 0)
            return route;
    }
    return NULL;
}

// Takes the names out of the path.
static int read_target(const struct route *route, const struct parts *parts, struct target *target, struct error *error)
{
    struct parts wanted;

    *target = (struct target){.kind = route->kind};
    split(route->path, &wanted);
    target->is_host = wanted.count > 1 && strcmp(wanted.text[1], "conf") == 0;
    for (size_t i = 0; i < wanted.count; i++) {
        const char *part = parts->text[i];
        char *into = target->name;

        if (!is_variable(wanted.text[i]))
            continue;
        if (strcmp(wanted.text[i], "{key}") == 0) {
            // No key is as long as a name may be: what is cut can't be one.
            strlcpy(target->key, part, sizeof(target->key));
            continue;
        }
        if (!names_valid(part))
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "name", "\"%.64s\" can't be a name: " NAMES_RULE ".",
                             part);
        if (strcmp(wanted.text[i], "{net}") == 0 && route->kind != OBJECT_NETWORK)
            into = target->network;
        else if (strcmp(wanted.text[i], "{tee}") == 0)
            into = target->tee;
        strlcpy(into, part, LIMIT_NAME_LEN + 1);
    }
    target->is_tee = target->tee[0] != '\0';
    return 0;
}

void routes_handle(struct exchange *exchange)
{
    struct parts parts;
    bool whole = split(exchange->path, &parts), path_known = false;
    const struct route *route = NULL;
    struct parameters parameters;
    struct target target;
    struct error error;

    if (whole) {
        normalize_conf(&parts);
        route = find(exchange->method, &parts, &path_known);
    }
    if (route == NULL && path_known)
        answer_method(exchange, &parts);
    else if (route == NULL)
        answer_not_found(exchange, &parts);
    else if (access_check(exchange->peer.access, route->read_only, exchange->peer.uid, &error) != 0 ||
             read_target(route, &parts, &target, &error) != 0 ||
             parameters_parse(exchange, route->parameters, &parameters, &error) != 0)
        exchange_fail(exchange, &error);
    else
        route->handler(exchange, &target, &parameters);
}

int routes_find_change(const char *method, const char *path, struct target *target, unsigned *parameters,
                       struct error *error)
{
    static const char *const verbs[] = {"PUT", "PATCH", "DELETE"};
    struct parts parts;
    bool path_known = false;
    bool whole = split(path, &parts);
    const struct route *route;

    if (path[0] != '/')
        return error_set(error, PATCHBAY_ERROR_NO_SUCH_PATH, "path",
                         "There is no path %.100s: it begins with a slash, e.g. /v1/vifs/vm1.", path);
    if (whole)
        normalize_conf(&parts);
    route = whole ? find(method, &parts, &path_known) : NULL;
    if (route == NULL && !path_known)
        return error_set(error, PATCHBAY_ERROR_NO_SUCH_PATH, "path", "There is no path %.100s. The nearest is %s.",
                         path, find_nearest(&parts));
    for (size_t i = 0; route == NULL && i < sizeof(verbs) / sizeof(verbs[0]); i++)
        if (strcasecmp(method, verbs[i]) == 0 && strcmp(method, verbs[i]) != 0)
            return error_set(error, PATCHBAY_ERROR_METHOD, "method",
                             "Methods are written in capitals: \"%s\", not \"%s\".", verbs[i], method);
    if (route == NULL || (route->handler != write_object && route->handler != conf_write_key))
        return error_set(
            error, PATCHBAY_ERROR_METHOD, "method",
            "An operation is a PUT, PATCH or DELETE of an object, or a PUT or DELETE of a key; %.20s %.100s is "
            "none.",
            method, path);
    *parameters = route->parameters;
    return read_target(route, &parts, target, error);
}

size_t routes_body_limit(const char *method, const char *path)
{
    struct parts parts;
    bool path_known;
    const struct route *route = split(path, &parts) ? find(method, &parts, &path_known) : NULL;

    bool is_large = route != NULL && (route->handler == write_transaction || route->handler == write_config);

    return is_large ? LIMIT_LARGE_BYTES : LIMIT_REQUEST_BYTES;
}
