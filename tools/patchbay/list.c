// SPDX-License-Identifier: BSD-3-Clause
#include "list.h"

#include "draw.h"
#include "field.h"
#include "output.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

const char *list_describe_target(const json_t *vif)
{
    static const char *const fields[] = {"path", "devargs", "interface"};
    const char *kind = field_text(vif, "kind", "?");
    for (size_t i = 0; i < sizeof(fields) / sizeof(*fields); i++) {
        const char *target = field_text(vif, fields[i], NULL);
        if (target != NULL)
            return text_format("%s:%s", kind, target);
    }
    return kind;
}

const char *list_describe_users(const json_t *object)
{
    const char *users = "";
    for (size_t i = 0; i < field_size(object, "status.used_by"); i++) {
        const json_t *user = field_item(object, "status.used_by", i);
        const char *kind = field_text(user, "kind", "?");
        const char *network = field_text(user, "network", "default");
        const char *prefix = strcmp(network, "default") == 0 ? "" : text_format("%s/", network);
        const char *text;
        if (strcmp(kind, "tee") == 0)
            text = text_format("T %s of %s%s", field_text(user, "tee", "?"), prefix, field_text(user, "wire", "?"));
        else
            text = text_format("%s %s%s", kind, prefix, field_text(user, kind, "?"));
        if (strcmp(kind, "wire") == 0)
            text = text_format("%s %s", text, field_text(user, "as", ""));
        users = text_format("%s%s%s", users, i == 0 ? "" : ", ", text);
    }
    return users;
}

const char *list_describe_labels(const json_t *object)
{
    const char *labels = "";
    const char *key;
    json_t *value;
    json_object_foreach(field_get(object, "labels"), key, value)
    {
        const char *text = json_string_value(value);
        labels = text_format("%s%s%s=%s", labels, *labels == '\0' ? "" : " ", key, text == NULL ? "?" : text);
    }
    return labels;
}

static const char *describe_vlan(const json_t *port)
{
    return field_get(port, "vlan") == NULL ? "" : text_format("%u", (unsigned)field_count(port, "vlan"));
}

const struct list_column list_vif_columns[] = {
    {"VIF", "name", NULL},
    {"TARGET", NULL, list_describe_target},
    {"STATE", "status.state", NULL},
    {"OWNER", "owner", NULL},
    {"USED BY", NULL, list_describe_users},
    {"REASON", "status.reason", NULL},
    {0},
};

const struct list_column list_port_columns[] = {
    {"PORT", "name", NULL},
    {"VIF", "vif", NULL},
    {"VLAN", NULL, describe_vlan},
    {"STATE", "status.state", NULL},
    {"USED BY", NULL, list_describe_users},
    {"REASON", "status.reason", NULL},
    {0},
};

static const char *cell_text(const json_t *item, const struct list_column *column)
{
    if (column->describe != NULL)
        return column->describe(item);
    json_t *value = field_get(item, column->path);
    if (json_is_integer(value))
        return text_format("%lld", (long long)json_integer_value(value));
    return json_is_string(value) ? json_string_value(value) : "";
}

void list_print(const json_t *items, const struct list_column *columns)
{
    struct output_column headings[16];
    size_t count = 0, i;
    const json_t *item;
    for (; columns[count].name != NULL && count < 16; count++)
        headings[count] = (struct output_column){columns[count].name, 0};
    struct libscols_table *table = output_table(headings, count);
    json_array_foreach(items, i, item)
    {
        struct libscols_line *line = output_line(table, NULL);
        for (size_t column = 0; column < count; column++) {
            const char *text = cell_text(item, &columns[column]);
            bool state = strcmp(columns[column].name, "STATE") == 0;
            output_cell(line, column, text, state ? output_state_color(text) : NULL);
        }
    }
    output_print_table(table);
}

int list_run(struct call *call, const char *path, const struct list_column *columns, const char *hint)
{
    json_t *items = NULL, *page = NULL, *item;
    size_t i;
    int code = client_list(&call->client, path, &items, &page);
    if (code != EXIT_DONE)
        return code;
    if (call->json)
        output_json(page);
    else if (command_has(call, "names"))
        json_array_foreach(items, i, item) printf("%s\n", text_clean(field_text(item, "name", "")));
    else if (json_array_size(items) == 0)
        fprintf(stderr, "%s\n", hint);
    else
        list_print(items, columns);
    json_decref(items);
    json_decref(page);
    return EXIT_DONE;
}

int list_print_one(const json_t *object, const struct list_column *columns)
{
    static const struct output_column headings[] = {{"", 0}, {"", 0}};
    struct libscols_table *table = output_table(headings, 2);
    scols_table_enable_noheadings(table, 1);
    for (; columns->name != NULL; columns++) {
        const char *text = cell_text(object, columns);
        if (*text == '\0')
            continue;
        struct libscols_line *line = output_line(table, NULL);
        output_cell(line, 0, columns->name, NULL);
        output_cell(line, 1, text, strcmp(columns->name, "state") == 0 ? output_state_color(text) : NULL);
    }
    output_print_table(table);
    return EXIT_DONE;
}
