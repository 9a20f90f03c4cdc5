// SPDX-License-Identifier: BSD-3-Clause
#include "change.h"
#include "draw.h"
#include "field.h"
#include "list.h"
#include "output.h"
#include "text.h"
#include "verbs.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- one wire ----

static const char *describe_times(const json_t *object)
{
    return text_format("stall_ms %llu", (unsigned long long)field_count(object, "stall_ms"));
}

// A line for a port below its wire or T, and one for its vif below that.
static void add_port(struct call *call, struct libscols_table *table, struct libscols_line *parent, const char *role,
                     const char *reference)
{
    struct libscols_line *line = output_line(table, parent);
    if (reference == NULL) {
        output_cell(line, 0, text_format("%s (unplugged)", role), NULL);
        return;
    }
    output_cell(line, 0, text_format("%s %s", role, reference), NULL);
    // A T's port may be of another network.
    const char *slash = strchr(reference, '/');
    const char *network = slash == NULL ? call->network : text_slice(reference, (size_t)(slash - reference));
    const char *port = slash == NULL ? reference : slash + 1;
    struct reply reply = {0};
    // What can't be read (it may have gone meanwhile) leaves its cells empty.
    if (client_send(&call->client, "GET", client_path("networks", network, "ports", port, NULL), NULL, 0, &reply) ==
            EXIT_DONE &&
        client_ok(&reply)) {
        const char *state = field_text(reply.body, "status.state", "?");
        const char *vif = field_text(reply.body, "vif", NULL);
        const char *tag = field_get(reply.body, "vlan") == NULL
                              ? ""
                              : text_format(", VLAN %llu", (unsigned long long)field_count(reply.body, "vlan"));
        output_cell(line, 1, state, output_state_color(state));
        output_cell(line, 2, vif == NULL ? "no vif" : text_format("vif %s%s", vif, tag), NULL);
        output_cell(line, 3, field_text(reply.body, "status.reason", ""), NULL);
    }
    client_clear(&reply);
}

static void add_tee(struct call *call, struct libscols_table *table, struct libscols_line *parent, const json_t *tee)
{
    const char *mode = field_text(tee, "mode", "?");
    const char *state = field_text(tee, "status.state", "?");
    struct libscols_line *line = output_line(table, parent);
    output_cell(line, 0, text_format("%s %s", mode, field_text(tee, "name", "?")), NULL);
    output_cell(line, 1, state, output_state_color(state));
    if (strcmp(mode, "tap") == 0)
        output_cell(line, 2, text_format("direction %s", field_text(tee, "direction", "?")), NULL);
    else if (strcmp(mode, "bump") == 0)
        output_cell(line, 2, text_format("on_failure %s, %s", field_text(tee, "on_failure", "?"), describe_times(tee)),
                    NULL);
    output_cell(line, 3, field_text(tee, "status.reason", ""), NULL);
    add_port(call, table, line, "port", field_text(tee, "port", NULL));
    if (field_text(tee, "out_port", NULL) != NULL)
        add_port(call, table, line, "out_port", field_text(tee, "out_port", NULL));
}

static int show_wire(struct call *call, const char *name)
{
    static const struct output_column columns[] = {{"", SCOLS_FL_TREE}, {"STATE", 0}, {"SETTINGS", 0}, {"REASON", 0}};
    struct reply reply = {0};
    int code = change_read_wire(call, call->network, name, &reply);
    if (code == EXIT_DONE && call->json) {
        output_json(reply.body);
    } else if (code == EXIT_DONE) {
        const json_t *wire = reply.body;
        const char *state = field_text(wire, "status.state", "?");
        const char *labels = list_describe_labels(wire);
        draw_wire(wire, name, 0, 0, "");
        printf("since %s%s%s\n\n", text_clean(field_text(wire, "status.since", "?")),
               *labels == '\0' ? "" : ", labels ", text_clean(labels));
        struct libscols_table *table = output_table(columns, sizeof(columns) / sizeof(*columns));
        struct libscols_line *line = output_line(table, NULL);
        output_cell(line, 0, text_format("wire %s", name), NULL);
        output_cell(line, 1, state, output_state_color(state));
        output_cell(line, 2,
                    text_format("admin %s, on_full %s, %s", field_text(wire, "admin", "?"),
                                field_text(wire, "on_full", "?"), describe_times(wire)),
                    NULL);
        output_cell(line, 3, field_text(wire, "status.reason", ""), NULL);
        add_port(call, table, line, "a", field_text(wire, "a", NULL));
        for (size_t i = 0; i < field_size(wire, "tees"); i++)
            add_tee(call, table, line, field_item(wire, "tees", i));
        add_port(call, table, line, "b", field_text(wire, "b", NULL));
        output_print_table(table);
    }
    client_clear(&reply);
    return code;
}

// ---- all ----

// Failures come first, then what somebody switched off, then what works.
static int rank(const json_t *object)
{
    const char *state = field_text(object, "status.state", "");
    if (strcmp(state, "failed") == 0)
        return 0;
    if (strcmp(state, "up") == 0)
        return 4;
    if (strcmp(state, "draining") == 0)
        return 3;
    return strcmp(field_text(object, "admin", "up"), "up") == 0 ? 1 : 2;
}

static int compare(const void *a, const void *b)
{
    const json_t *one = *(json_t *const *)a, *other = *(json_t *const *)b;
    int difference = rank(one) - rank(other);
    return difference != 0 ? difference : strcmp(field_text(one, "name", ""), field_text(other, "name", ""));
}

static json_t *new_array(void)
{
    json_t *array = json_array();
    if (array == NULL)
        errx(EXIT_REFUSED, "out of memory");
    return array;
}

// The items of a list in the order in which they are shown; a new array.
static json_t *sorted(const json_t *items)
{
    size_t count = json_array_size(items);
    json_t **pointers = text_keep(calloc(count + 1, sizeof(json_t *)));
    json_t *result = new_array();
    for (size_t i = 0; i < count; i++)
        pointers[i] = json_array_get(items, i);
    qsort(pointers, count, sizeof(*pointers), compare);
    for (size_t i = 0; i < count; i++)
        json_array_append(result, pointers[i]);
    return result;
}

// What is shown: all vifs, and the ports and wires of the networks. Those of
// networks other than the default are called NETWORK/NAME unless one network
// was asked for.
struct view {
    json_t *vifs, *networks, *ports, *wires; // owned
};

// Adds items to all, each under its name in the view. Takes over items.
static void collect(const struct call *call, const char *network, json_t *items, json_t *all)
{
    size_t i;
    const json_t *item;
    bool prefixed = !call->network_given && strcmp(network, "default") != 0;
    json_array_foreach(items, i, item)
    {
        json_t *named = json_copy((json_t *)item);
        if (prefixed)
            field_set_text(named, "name", text_format("%s/%s", network, field_text(item, "name", "?")));
        json_array_append_new(all, named);
    }
    json_decref(items);
}

static int read_network(struct call *call, json_t *network, struct view *view)
{
    const char *name = field_text(network, "name", "");
    json_t *ports, *wires;
    int code = client_list(&call->client, client_path("networks", name, "ports", NULL), &ports, NULL);
    if (code != EXIT_DONE)
        return code;
    code = client_list(&call->client, client_path("networks", name, "wires", NULL), &wires, NULL);
    if (code != EXIT_DONE) {
        json_decref(ports);
        return code;
    }
    // For --json, each network has its own.
    field_set(network, "ports", json_incref(ports));
    field_set(network, "wires", json_incref(wires));
    collect(call, name, ports, view->ports);
    collect(call, name, wires, view->wires);
    return EXIT_DONE;
}

static int read_view(struct call *call, struct view *view)
{
    view->ports = new_array();
    view->wires = new_array();
    int code = client_list(&call->client, client_path("vifs", NULL), &view->vifs, NULL);
    if (code != EXIT_DONE)
        return code;
    if (call->network_given) {
        struct reply reply = {0};
        code = client_do(&call->client, "GET", change_network_path(call), NULL, 0, &reply);
        view->networks = new_array();
        if (code == EXIT_DONE)
            json_array_append(view->networks, reply.body);
        client_clear(&reply);
    } else {
        code = client_list(&call->client, client_path("networks", NULL), &view->networks, NULL);
    }
    for (size_t i = 0; i < json_array_size(view->networks) && code == EXIT_DONE; i++)
        code = read_network(call, json_array_get(view->networks, i), view);
    return code;
}

static void print_wires(const json_t *wires)
{
    // One long wire must not push all states off the terminal.
    enum { WIDEST = 60 };
    int name_width = 0, path_width = 0;
    size_t i;
    const json_t *wire;
    json_array_foreach(wires, i, wire)
    {
        int name = draw_width(field_text(wire, "name", "?")), path = draw_width(draw_path(wire));
        name_width = name > name_width && name <= WIDEST ? name : name_width;
        path_width = path > path_width && path <= WIDEST ? path : path_width;
    }
    json_array_foreach(wires, i, wire) draw_wire(wire, field_text(wire, "name", "?"), name_width, path_width, "");
}

static void print_view(const struct view *view)
{
    json_t *wires = sorted(view->wires), *vifs = sorted(view->vifs), *ports = sorted(view->ports);
    if (json_array_size(wires) == 0)
        printf("no wires yet; `patchbay wire add NAME A B` makes one\n");
    else
        print_wires(wires);
    if (json_array_size(vifs) > 0) {
        printf("\n");
        list_print(vifs, list_vif_columns);
    }
    if (json_array_size(ports) > 0) {
        printf("\n");
        list_print(ports, list_port_columns);
    }
    json_decref(wires);
    json_decref(vifs);
    json_decref(ports);
}

int show_run(struct call *call)
{
    const char *name = command_argument(call, 0);
    if (name != NULL)
        return change_name(call, 0, "wire") == NULL ? EXIT_USAGE : show_wire(call, name);
    struct view view = {0};
    int code = read_view(call, &view);
    if (code == EXIT_DONE && call->json) {
        json_t *all = field_object();
        field_set(all, "vifs", json_incref(view.vifs));
        field_set(all, "networks", json_incref(view.networks));
        output_json(all);
        json_decref(all);
    } else if (code == EXIT_DONE) {
        print_view(&view);
    }
    json_decref(view.vifs);
    json_decref(view.networks);
    json_decref(view.ports);
    json_decref(view.wires);
    return code;
}
