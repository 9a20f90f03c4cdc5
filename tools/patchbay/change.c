// SPDX-License-Identifier: BSD-3-Clause
#include "change.h"

#include "draw.h"
#include "field.h"
#include "output.h"
#include "patchbay/limits.h"
#include "text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

// ---- paths ----

const char *change_network_path(const struct call *call)
{
    return client_path("networks", call->network, NULL);
}

const char *change_port_path(const struct call *call, const char *port)
{
    return client_path("networks", call->network, "ports", port, NULL);
}

const char *change_wire_path(const struct call *call, const char *wire)
{
    return client_path("networks", call->network, "wires", wire, NULL);
}

const char *change_tee_path(const struct call *call, const char *wire, const char *tee)
{
    return client_path("networks", call->network, "wires", wire, "tees", tee, NULL);
}

const char *change_wait(const struct call *call, const char *path)
{
    // No drain takes longer, and the daemon should answer before we give up.
    unsigned longest = LIMIT_DRAIN_MS / 1000 + 1;
    unsigned seconds = call->client.timeout_s > longest ? longest : call->client.timeout_s - 1;
    return client_query(path, "wait", text_format("%u", seconds));
}

// ---- values ----

const char *change_name(const struct call *call, size_t i, const char *what)
{
    const char *name = command_argument(call, i);
    size_t length = name == NULL ? 0 : strcspn(name, "/");
    if (name != NULL && text_is_name(name))
        return name;
    // As lists and events name it.
    if (name != NULL && name[length] == '/' && text_is_name(text_slice(name, length)) &&
        text_is_name(name + length + 1) && (strcmp(what, "wire") == 0 || strcmp(what, "port") == 0)) {
        command_misused(call->command, "\"%s\" is --network %s and the name %s", name, text_slice(name, length),
                        name + length + 1);
        return NULL;
    }
    command_misused(
        call->command,
        "\"%s\" can't be the name of a %s: letters, digits, dot, dash and underscore, at most %d, a letter or "
        "digit first",
        name == NULL ? "" : text_clean(name), what, LIMIT_NAME_LEN);
    return NULL;
}

int change_labels(const struct call *call, json_t *body)
{
    json_t *labels = NULL;
    for (size_t i = 0; i < call->option_count; i++) {
        const char *value = call->options[i].value;
        if (strcmp(call->options[i].spec->name, "label") != 0)
            continue;
        size_t length = strcspn(value, "=");
        if (length == 0 || value[length] != '=')
            return command_misused(call->command, "--label needs KEY=VALUE, not \"%s\"", text_clean(value));
        if (labels == NULL)
            field_set(body, "labels", labels = field_object());
        field_set_text(labels, text_slice(value, length), value + length + 1);
    }
    return EXIT_DONE;
}

int change_number(const struct call *call, const char *option, const char *key, long long least, long long most,
                  json_t *body)
{
    const char *value = command_option(call, option);
    long long number = 0;
    if (value == NULL)
        return EXIT_DONE;
    int code = command_number(call->command, text_format("--%s", option), value, least, most, &number);
    if (code == EXIT_DONE)
        field_set(body, key, json_integer(number));
    return code;
}

void change_text(const struct call *call, const char *option, const char *key, json_t *body)
{
    if (command_has(call, option))
        field_set_text(body, key, command_option(call, option));
}

static int complain_of_key(const struct call *call, const char *key, const struct change_key *keys)
{
    const char *names[32];
    size_t count = 0;
    const char *list = "";
    for (; keys->name != NULL && count < 32; keys++) {
        names[count++] = keys->name;
        list = text_format("%s%s, ", list, keys->name);
    }
    const char *nearest = text_nearest(key, names, count);
    if (nearest != NULL)
        return command_misused(call->command, "there is no key \"%s\"; did you mean \"%s\"?", text_clean(key), nearest);
    return command_misused(call->command, "there is no key \"%s\"; keys are %slabel.KEY", text_clean(key), list);
}

static bool is_one_of(const char *choices, const char *value)
{
    // Between bars, a choice can't be found inside a longer one.
    return strchr(value, '|') == NULL && strstr(text_format("|%s|", choices), text_format("|%s|", value)) != NULL;
}

static int set_key(const struct call *call, const char *name, const char *value, const struct change_key *keys,
                   json_t *patch)
{
    const struct change_key *key = keys;
    while (key->name != NULL && strcmp(key->name, name) != 0)
        key++;
    if (key->name == NULL)
        return complain_of_key(call, name, keys);
    if (json_object_get(patch, name) != NULL)
        return command_misused(call->command, "%s is given twice", name);
    if (*value == '\0') {
        field_set(patch, name, json_null());
    } else if (key->most > 0) {
        long long number = 0;
        int code = command_number(call->command, name, value, 0, key->most, &number);
        if (code != EXIT_DONE)
            return code;
        field_set(patch, name, json_integer(number));
    } else if (key->choices != NULL && !is_one_of(key->choices, value)) {
        return command_misused(call->command, "%s is one of %s, not \"%s\"", name, key->choices, text_clean(value));
    } else {
        field_set_text(patch, name, value);
    }
    return EXIT_DONE;
}

int change_set(const struct call *call, size_t first, const struct change_key *keys, json_t *patch)
{
    for (size_t i = first; i < call->argument_count; i++) {
        const char *argument = call->arguments[i];
        size_t length = strcspn(argument, "=");
        if (length == 0 || argument[length] != '=')
            return command_misused(call->command, "\"%s\" should be KEY=VALUE", text_clean(argument));
        char *name = text_slice(argument, length);
        const char *value = argument + length + 1;
        if (strncmp(name, "label.", 6) == 0) {
            if (json_object_get(patch, "labels") == NULL)
                field_set(patch, "labels", field_object());
            field_set_text(json_object_get(patch, "labels"), name + 6, *value == '\0' ? NULL : value);
            continue;
        }
        // As options and as fields are spelled: both are meant.
        for (char *dash = strchr(name, '-'); dash != NULL; dash = strchr(dash, '-'))
            *dash = '_';
        int code = set_key(call, name, value, keys, patch);
        if (code != EXIT_DONE)
            return code;
    }
    return EXIT_DONE;
}

// ---- after the change ----

int change_read_wire(struct call *call, const char *network, const char *wire, struct reply *reply)
{
    return client_do(&call->client, "GET", client_path("networks", network, "wires", wire, NULL), NULL, 0, reply);
}

static const json_t *find_tee(const json_t *wire, const char *name)
{
    for (size_t i = 0; i < field_size(wire, "tees"); i++) {
        const json_t *tee = field_item(wire, "tees", i);
        if (strcmp(field_text(tee, "name", ""), name) == 0)
            return tee;
    }
    return NULL;
}

// Whether a bump of before is none, or another, in after: then it has drained.
static bool has_drained(const json_t *before, const json_t *after)
{
    for (size_t i = 0; i < field_size(before, "tees"); i++) {
        const json_t *was = field_item(before, "tees", i);
        const json_t *is = find_tee(after, field_text(was, "name", ""));
        if (strcmp(field_text(was, "mode", ""), "bump") == 0 &&
            (is == NULL || strcmp(field_text(is, "mode", ""), "bump") != 0 || !field_same(was, is, "port") ||
             !field_same(was, is, "out_port")))
            return true;
    }
    return false;
}

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int change_print_wire(struct call *call, const char *network, const char *wire, const json_t *before)
{
    struct reply reply = {0};
    // It stands as it did until the whole batch is done.
    if (call->client.batch != NULL)
        return EXIT_DONE;
    double deadline = now_s() + call->client.timeout_s;
    int code;
    // The change itself has waited for its drain; another client's may be on.
    while ((code = change_read_wire(call, network, wire, &reply)) == EXIT_DONE &&
           strcmp(field_text(reply.body, "status.state", ""), "draining") == 0 && now_s() < deadline)
        usleep(20000);
    if (code == EXIT_DONE && call->json) {
        output_json(reply.body);
    } else if (code == EXIT_DONE) {
        const char *note = "";
        if (has_drained(before, reply.body) && field_get(reply.body, "status.drain") != NULL)
            note = text_format("(%llu late, %llu unreturned)",
                               (unsigned long long)field_count(reply.body, "status.drain.late"),
                               (unsigned long long)field_count(reply.body, "status.drain.unreturned"));
        const char *name = strcmp(network, call->network) == 0 ? wire : text_format("%s/%s", network, wire);
        draw_wire(reply.body, name, 0, 0, note);
    }
    client_clear(&reply);
    return code;
}

void change_print(const struct call *call, const json_t *object, const char *format, ...)
{
    if (call->json) {
        output_json(object);
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

int change_print_users(struct call *call, const json_t *users)
{
    const char *printed = "|";
    size_t i;
    const json_t *user;
    if (call->json)
        return EXIT_DONE;
    json_array_foreach(users, i, user)
    {
        const char *network = field_text(user, "network", "default");
        const char *wire = field_text(user, "wire", NULL);
        // A wire may use it twice, by an end and by a T.
        if (wire == NULL || strstr(printed, text_format("|%s/%s|", network, wire)) != NULL)
            continue;
        printed = text_format("%s%s/%s|", printed, network, wire);
        int code = change_print_wire(call, network, wire, NULL);
        if (code != EXIT_DONE)
            return code;
    }
    return EXIT_DONE;
}
