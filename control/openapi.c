// SPDX-License-Identifier: BSD-3-Clause
#include "openapi.h"

#include "conf_request.h"
#include "config.h"
#include "event_stream.h"
#include "metrics.h"
#include "parameters.h"
#include "patchbay/errors.h"
#include "read.h"
#include "routes.h"
#include "stats.h"
#include "trail.h"
#include "write.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

// What a route's handler takes and gives, where its kind of object doesn't say
// so. A handler that isn't here, nor one of those that describe_by_kind knows,
// is an error of openapi_print.
static const struct described {
    route_handler *handler;
    const char *request; // schema of the body of PUT, PATCH and POST; NULL: none
    const char *answer;  // schema of a 200
    const char *type;    // of the answer's content; NULL: JSON
} described[] = {
    {read_version, NULL, "Version", NULL},
    {stats_host, NULL, "HostStats", NULL},
    {stats_vif, NULL, "VifStats", NULL},
    {stats_wire, NULL, "WireStats", NULL},
    {read_tees, NULL, "TeeList", NULL},
    {read_config, NULL, "Config", NULL},
    {write_config, "ConfigPut", "ConfigDone", NULL},
    {write_transaction, "Transaction", "TransactionDone", NULL},
    {conf_read_keys, NULL, "ConfKeys", NULL},
    {conf_read_key, NULL, "ConfKey", NULL},
    {conf_write_key, "ConfKeyPut", "ConfKey", NULL},
    {trail_read, NULL, "AuditList", NULL},
    {event_stream_get, NULL, "", "application/x-ndjson"},
    {metrics_get, NULL, "", "text/plain"},
};

static const char *const nouns[OBJECT_KIND_COUNT] = {"Network", "Vif", "Port", "Wire"};

// Reads whose answer has a tag, which a condition can name.
static bool is_conditional(const struct route *route)
{
    return route->handler == read_object || route->handler == read_tee || route->handler == read_tees ||
           route->handler == read_config ||
           // Of the host and of networks all keys are only read.
           (route->handler == conf_read_key && route->kind != OBJECT_NETWORK);
}

static bool is_tee(const struct route *route)
{
    return strstr(route->path, "{tee}") != NULL;
}

// Fills names of schemas, "" where there is none. False: nobody has described this route.
static bool find_schemas(const struct route *route, char request[static 64], char answer[static 64], const char **type)
{
    const char *noun = is_tee(route) ? "Tee" : nouns[route->kind];
    bool is_write = strcmp(route->method, "PUT") == 0 || strcmp(route->method, "PATCH") == 0;

    request[0] = '\0';
    *type = "application/json";
    for (size_t i = 0; i < sizeof(described) / sizeof(described[0]); i++) {
        if (described[i].handler != route->handler)
            continue;
        if (described[i].request != NULL && (is_write || strcmp(route->method, "POST") == 0))
            strlcpy(request, described[i].request, 64);
        strlcpy(answer, described[i].answer, 64);
        if (described[i].type != NULL)
            *type = described[i].type;
        return true;
    }
    if (route->handler == read_list) {
        snprintf(answer, 64, "%sList", noun);
    } else if (route->handler == read_object || route->handler == read_tee || route->handler == write_object) {
        strlcpy(answer, noun, 64);
        if (is_write)
            snprintf(request, 64, "%s%s", noun, strcmp(route->method, "PUT") == 0 ? "Put" : "Patch");
    } else {
        return false;
    }
    return true;
}

// ---- errors ----

struct code {
    const char *name;
    int status;
    const char *help;
};

#define CODE(symbol, name, status, help) {name, status, help},
static const struct code codes[] = {PATCHBAY_ERRORS(CODE)};

enum { CODE_COUNT = sizeof(codes) / sizeof(codes[0]) };

// One response for each status: the codes that it may have, and what they mean.
static json_t *describe_errors(void)
{
    json_t *responses = json_object();

    for (size_t i = 0; i < CODE_COUNT; i++) {
        char name[16], description[2048];
        json_t *names = json_array();

        snprintf(name, sizeof(name), "Error%d", codes[i].status);
        description[0] = '\0';
        for (size_t j = 0; j < CODE_COUNT; j++) {
            size_t len = strlen(description);

            if (codes[j].status != codes[i].status)
                continue;
            json_array_append_new(names, json_string(codes[j].name));
            snprintf(description + len, sizeof(description) - len, "%s%s: %s", len > 0 ? "; " : "", codes[j].name,
                     codes[j].help);
        }
        json_object_set_new(
            responses, name,
            json_pack("{ss s{s{s{ss s[s] sb s{s{ss s[ssss] sb s{s{ss so} s{ss} s{ss sb} s{ss ss} s{ss sb}}}}}}}}",
                      "description", description, "content", "application/json", "schema", "type", "object", "required",
                      "error", "additionalProperties", 0, "properties", "error", "type", "object", "required", "code",
                      "message", "field", "details", "additionalProperties", 0, "properties", "code", "type", "string",
                      "enum", names, "message", "type", "string", "field", "type", "string", "nullable", 1, "index",
                      "type", "integer", "description", "of a transaction's operation", "details", "type", "object",
                      "nullable", 1));
    }
    return responses;
}

// What may go wrong with a read is less than what may with a change.
static bool may_fail_with(const struct route *route, int status)
{
    if (status == 428)
        return route->handler == write_config;
    if (status == 412)
        return !route->read_only || is_conditional(route);
    return !route->read_only || (status != 405 && status != 409 && status != 507);
}

static void add_errors(json_t *responses, const struct route *route)
{
    for (size_t i = 0; i < CODE_COUNT; i++) {
        char status[8];

        if (!may_fail_with(route, codes[i].status))
            continue;
        snprintf(status, sizeof(status), "%d", codes[i].status);
        json_object_set_new(responses, status,
                            json_pack("{so}", "$ref", json_sprintf("#/components/responses/Error%s", status)));
    }
}

// ---- operations ----

static json_t *describe_header(const char *name, const char *description)
{
    return json_pack("{ss ss ss s{ss}}", "name", name, "in", "header", "description", description, "schema", "type",
                     "string");
}

// The names in a path.
static json_t *describe_path(const char *path)
{
    json_t *list = json_array();

    for (const char *open = strchr(path, '{'); open != NULL; open = strchr(open + 1, '{'))
        json_array_append_new(
            list, json_pack("{so ss sb s{ss ss}}", "name", json_stringn(open + 1, strcspn(open + 1, "}")), "in", "path",
                            "required", 1, "schema", "type", "string", "pattern", "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$"));
    return list;
}

static json_t *describe_parameters(const struct route *route)
{
    json_t *list = describe_path(route->path);

    for (size_t i = 0; i < parameters_count(); i++) {
        json_t *parameter = parameters_describe(i, route->parameters);

        if (parameter != NULL)
            json_array_append_new(list, parameter);
    }
    if (!route->read_only) {
        json_array_append_new(list, describe_header("If-Match", "the ETag that the object must have; * for any"));
        if (strcmp(route->method, "PUT") == 0 && route->handler != write_config)
            json_array_append_new(list, describe_header("If-None-Match", "*: only if there is none yet"));
    }
    if (is_conditional(route)) {
        json_array_append_new(list, describe_header("If-Match", "the ETag that it must have"));
        json_array_append_new(list,
                              describe_header("If-None-Match", "the ETag that the client has: 304 if it still is"));
    }
    return list;
}

static json_t *describe_content(const char *type, const char *schema)
{
    return json_pack("{s{so}}", type, "schema",
                     schema[0] != '\0' ? openapi_reference(schema) : json_pack("{ss}", "type", "string"));
}

static json_t *describe_answer(const struct route *route, const char *description, const char *schema, const char *type)
{
    json_t *answer = json_pack("{ss so}", "description", description, "content", describe_content(type, schema));
    bool has_etag = is_conditional(route) || route->handler == write_object || route->handler == write_config ||
                    route->handler == write_transaction || route->handler == conf_write_key;

    if (route->handler == metrics_get)
        json_object_set_new(json_object_get(answer, "content"), "application/openmetrics-text",
                            json_pack("{s{ss}}", "schema", "type", "string"));

    if (has_etag)
        json_object_set_new(answer, "headers",
                            json_pack("{s{ss s{ss}}}", "ETag", "description",
                                      "the generation of its last change of configuration", "schema", "type",
                                      "string"));
    return answer;
}

// "get_v1_vifs_vif": unique, since method and path are.
static json_t *make_id(const struct route *route)
{
    char id[256];
    size_t size = 0;

    for (const char *c = route->method; *c != '\0'; c++)
        id[size++] = (char)tolower((unsigned char)*c);
    for (const char *c = route->path; *c != '\0' && size < sizeof(id) - 1; c++)
        if (*c != '{' && *c != '}')
            id[size++] = (char)(isalnum((unsigned char)*c) ? *c : '_');
    return json_stringn(id, size);
}

// NULL: it isn't described.
static json_t *describe_route(const struct route *route)
{
    char request[64], answer[64];
    const char *type;
    json_t *operation, *responses = json_object();

    if (!find_schemas(route, request, answer, &type)) {
        json_decref(responses);
        return NULL;
    }
    operation = json_pack("{so ss so}", "operationId", make_id(route), "summary", route->help, "parameters",
                          describe_parameters(route));
    if (request[0] != '\0')
        json_object_set_new(
            operation, "requestBody",
            json_pack("{sb so}", "required", 1, "content", describe_content("application/json", request)));
    json_object_set_new(responses, "200", describe_answer(route, "done", answer, type));
    if (route->handler == write_object && strcmp(route->method, "PUT") == 0)
        json_object_set_new(responses, "201", describe_answer(route, "made", answer, type));
    if (is_conditional(route))
        json_object_set_new(
            responses, "304",
            json_pack("{ss}", "description", "the configuration is that which If-None-Match names; no body"));
    add_errors(responses, route);
    json_object_set_new(operation, "responses", responses);
    return operation;
}

// ---- YAML ----

static void print_string(FILE *out, const char *text)
{
    json_t *string = json_string(text);

    // A string of JSON is one of YAML, too.
    json_dumpf(string, out, JSON_ENCODE_ANY);
    json_decref(string);
}

static void print_value(FILE *out, const json_t *value, int indent);

static void print_key(FILE *out, const char *key)
{
    if (isalpha((unsigned char)key[0]) &&
        key[strspn(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789")] == '\0')
        fputs(key, out);
    else
        print_string(out, key);
}

static void print_object(FILE *out, const json_t *object, int indent, bool behind_dash)
{
    const char *key;
    json_t *value;

    json_object_foreach((json_t *)object, key, value)
    {
        fprintf(out, "%*s", behind_dash ? 0 : indent, "");
        behind_dash = false;
        print_key(out, key);
        fputc(':', out);
        print_value(out, value, indent);
    }
}

static void print_array(FILE *out, const json_t *array, int indent)
{
    size_t index;
    json_t *item;

    json_array_foreach((json_t *)array, index, item)
    {
        fprintf(out, "%*s-", indent, "");
        if (json_is_object(item) && json_object_size(item) > 0) {
            fputc(' ', out);
            print_object(out, item, indent + 2, true);
        } else {
            print_value(out, item, indent);
        }
    }
}

// What stands behind "key:" or "-", with the line's end.
static void print_value(FILE *out, const json_t *value, int indent)
{
    if (json_is_object(value) && json_object_size(value) > 0) {
        fputc('\n', out);
        print_object(out, value, indent + 2, false);
    } else if (json_is_array(value) && json_array_size(value) > 0) {
        fputc('\n', out);
        print_array(out, value, indent + 2);
    } else {
        fputc(' ', out);
        json_dumpf(value, out, JSON_ENCODE_ANY);
        fputc('\n', out);
    }
}

// ---- all ----

int openapi_print(FILE *out)
{
    json_t *paths = json_object(), *schemas = json_object(), *all;
    unsigned missing = openapi_add_schemas(schemas);

    for (const struct route *route = routes; route->method != NULL; route++) {
        json_t *operation = describe_route(route), *path = json_object_get(paths, route->path);
        char method[16] = "";

        if (operation == NULL) {
            fprintf(stderr, "%s %s has no description: add its handler to the table in openapi.c.\n", route->method,
                    route->path);
            missing++;
            continue;
        }
        if (path == NULL)
            json_object_set_new(paths, route->path, path = json_object());
        for (size_t i = 0; route->method[i] != '\0' && i < sizeof(method) - 1; i++)
            method[i] = (char)tolower((unsigned char)route->method[i]);
        json_object_set_new(path, method, operation);
    }
    all =
        json_pack("{ss s{ss ss ss s{ss}} s[{ss ss}] so s{so so}}", "openapi", "3.0.3", "info", "title", "Patchbay",
                  "version", PATCHBAY_API_VERSION, "description",
                  "HTTP/1.1 over a Unix socket, /run/patchbay/api.sock by default. docs/api.md tells what things mean.",
                  "license", "name", "BSD-3-Clause", "servers", "url", "http://localhost", "description",
                  "curl --unix-socket /run/patchbay/api.sock", "paths", paths, "components", "schemas", schemas,
                  "responses", describe_errors());
    fputs("# SPDX-License-Identifier: BSD-3-Clause\n"
          "# Made by `patchbayd --dump-openapi` from the daemon's own tables; a test compares the two.\n",
          out);
    print_object(out, all, 0, false);
    json_decref(all);
    return missing == 0 ? 0 : -ENOENT;
}
