// SPDX-License-Identifier: BSD-3-Clause
// The whole state as a file: export and apply.

#include "change.h"
#include "field.h"
#include "output.h"
#include "text.h"
#include "verbs.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const sections[] = {"networks", "vifs", "ports", "wires"};

// ---- export ----

static void strip(json_t *object)
{
    size_t i;
    json_t *tee;
    json_object_del(object, "uid");
    json_array_foreach(json_object_get(object, "tees"), i, tee) json_object_del(tee, "uid");
}

// An object a line, so that two files can be compared.
static void print_state(const json_t *state, FILE *out)
{
    fprintf(out, "{\n  \"generation\": %llu", (unsigned long long)field_count(state, "generation"));
    for (size_t section = 0; section < sizeof(sections) / sizeof(*sections); section++) {
        fprintf(out, ",\n  \"%s\": [", sections[section]);
        for (size_t i = 0; i < field_size(state, sections[section]); i++) {
            json_t *object = field_item(state, sections[section], i);
            strip(object);
            fputs(i == 0 ? "\n    " : ",\n    ", out);
            json_dumpf(object, out, JSON_PRESERVE_ORDER);
        }
        fputs(field_size(state, sections[section]) > 0 ? "\n  ]" : "]", out);
    }
    fputs("\n}\n", out);
}

// The file is there whole or as it was.
static int write_file(const json_t *state, const char *file)
{
    char *fresh = text_format("%s.new-%ld", file, (long)getpid());
    FILE *out = fopen(fresh, "wxe");
    bool written = false;
    if (out != NULL) {
        print_state(state, out);
        written = fflush(out) == 0 && fsync(fileno(out)) == 0;
        written = fclose(out) == 0 && written;
    }
    if (written && rename(fresh, file) == 0)
        return EXIT_DONE;
    output_complain("%s: %s", text_clean(file), strerror(errno));
    if (out != NULL)
        unlink(fresh);
    return EXIT_REFUSED;
}

int state_export(struct call *call)
{
    const char *file = command_argument(call, 0);
    struct reply reply = {0};
    int code = client_do(&call->client, "GET", client_path("config", NULL), NULL, 0, &reply);
    if (code == EXIT_DONE && file != NULL && strcmp(file, "-") != 0)
        code = write_file(reply.body, file);
    else if (code == EXIT_DONE)
        print_state(reply.body, stdout);
    if (code == EXIT_DONE && call->json && file != NULL && strcmp(file, "-") != 0) {
        json_t *written = field_object();
        field_set(written, "file", json_string(file));
        field_set(written, "generation", json_incref(field_get(reply.body, "generation")));
        output_json(written);
        json_decref(written);
    }
    client_clear(&reply);
    return code;
}

// ---- the plan ----

static const char *show_value(const json_t *value)
{
    if (value == NULL)
        return "none";
    if (json_is_string(value))
        return text_clean(json_string_value(value));
    return text_clean(text_keep(json_dumps(value, JSON_ENCODE_ANY | JSON_PRESERVE_ORDER)));
}

// What makes up a new object, without what says nothing.
static const char *show_object(const json_t *object)
{
    const char *text = "", *key;
    json_t *value;
    json_object_foreach((json_t *)object, key, value)
    {
        bool empty = json_is_null(value) || (json_is_object(value) && json_object_size(value) == 0) ||
                     (json_is_array(value) && json_array_size(value) == 0) ||
                     (strcmp(key, "admin") == 0 && strcmp(show_value(value), "up") == 0);
        if (strcmp(key, "name") != 0 && strcmp(key, "uid") != 0 && strcmp(key, "status") != 0 && !empty)
            text = text_format("%s%s%s: %s", text, *text == '\0' ? "" : ", ", text_clean(key), show_value(value));
    }
    return text;
}

static void print_field(const json_t *field)
{
    const json_t *from = field_get(field, "from"), *to = field_get(field, "to"); // NULL for null
    const char *name = text_clean(field_text(field, "field", "?"));
    const char *arrow = output.utf8 ? "→" : "->";
    if (json_is_object(to) && from == NULL)
        printf("%s\n", output_paint(text_format("    + %s  %s", name, show_object(to)), "green"));
    else if (json_is_object(from) && to == NULL)
        printf("%s\n", output_paint(text_format("    - %s", name), "red"));
    else
        printf("    %s: %s %s %s\n", name, show_value(from), arrow, show_value(to));
}

static void print_change(const json_t *change)
{
    static const struct {
        const char *action, *mark, *color, *note;
    } actions[] = {{"create", "+", "green", ""},
                   {"delete", "-", "red", ""},
                   {"change", "~", "yellow", ""},
                   {"replace", "!", "yellow", "  made anew: its guest is cut off and connects again"}};
    const char *network = field_text(change, "network", NULL);
    for (size_t i = 0; i < sizeof(actions) / sizeof(*actions); i++) {
        if (strcmp(actions[i].action, field_text(change, "action", "")) != 0)
            continue;
        const char *what = text_format("%s %s %s%s%s%s", actions[i].mark, field_text(change, "kind", "?"),
                                       network == NULL ? "" : network, network == NULL ? "" : "/",
                                       field_text(change, "name", "?"), actions[i].note);
        if (strcmp(actions[i].action, "create") == 0)
            strip(json_object_get(change, "object"));
        const char *object = strcmp(actions[i].action, "create") == 0 ? show_object(field_get(change, "object")) : "";
        printf("%s%s%s\n", output_paint(what, actions[i].color), *object == '\0' ? "" : "  ", object);
    }
    for (size_t i = 0; i < field_size(change, "fields"); i++)
        print_field(field_item(change, "fields", i));
}

static void print_plan(const json_t *plan)
{
    for (size_t i = 0; i < field_size(plan, "changes"); i++) {
        size_t mark = text_mark();
        print_change(field_item(plan, "changes", i));
        text_release(mark);
    }
}

static void print_sums(const json_t *done, const char *what)
{
    printf("%s: %llu created, %llu changed, %llu deleted, %llu as they were; generation %llu\n", what,
           (unsigned long long)field_count(done, "created"), (unsigned long long)field_count(done, "changed"),
           (unsigned long long)field_count(done, "deleted"), (unsigned long long)field_count(done, "same"),
           (unsigned long long)field_count(done, "generation"));
}

// ---- apply ----

static json_t *read_file(const char *file)
{
    json_error_t wrong;
    bool standard = strcmp(file, "-") == 0;
    struct stat status;
    // To jansson one that can't be read is one that is empty.
    if (!standard && stat(file, &status) == 0 && S_ISDIR(status.st_mode)) {
        output_complain("%s: %s", text_clean(file), strerror(EISDIR));
        return NULL;
    }
    json_t *state = standard ? json_loadf(stdin, JSON_REJECT_DUPLICATES, &wrong)
                             : json_load_file(file, JSON_REJECT_DUPLICATES, &wrong);
    if (json_is_object(state))
        return state;
    if (state == NULL && wrong.line > 0)
        output_complain("%s, line %d, column %d: %s", standard ? "standard input" : text_clean(file), wrong.line,
                        wrong.column, text_clean(wrong.text));
    else
        output_complain("%s", state == NULL ? text_clean(wrong.text) : "the file has no object ({...}) in it");
    json_decref(state);
    return NULL;
}

static const char *apply_path(const struct call *call)
{
    const char *path = client_path("config", NULL);
    return command_has(call, "force") ? client_query(path, "force", "1") : path;
}

// The daemon's state isn't the one that the file was made from.
static int check_age(const json_t *state, const json_t *plan)
{
    unsigned long long then = field_count(state, "generation"), now = field_count(plan, "generation");
    if (field_get(state, "generation") == NULL || then == now)
        return EXIT_DONE;
    output_complain("the file was exported at generation %llu, and the state is at %llu by now: this would undo what "
                    "was changed meanwhile",
                    then, now);
    fprintf(stderr,
            "  export again and redo your changes, or --force; a file without \"generation\" is never too old\n");
    return EXIT_REFUSED;
}

static int apply(struct call *call, const json_t *state)
{
    struct reply plan = {0}, done = {0};
    int code = client_do(&call->client, "PUT", client_query(apply_path(call), "dry_run", "1"), state, 0, &plan);
    size_t changes = code == EXIT_DONE ? field_size(plan.body, "changes") : 0;
    bool dry = command_has(call, "dry-run");
    if (code == EXIT_DONE && !call->json)
        print_plan(plan.body);
    if (code != EXIT_DONE) {
        ;
    } else if (dry || changes == 0) {
        if (call->json)
            output_json(plan.body);
        else
            print_sums(plan.body, changes == 0 ? "nothing to do" : "planned");
    } else {
        if (!command_has(call, "force"))
            code = check_age(state, plan.body);
        // What is done is what was shown, or nothing.
        call->client.if_match = text_format("\"%llu\"", (unsigned long long)field_count(plan.body, "generation"));
        if (code == EXIT_DONE)
            code = client_do(&call->client, "PUT", apply_path(call), state, 0, &done);
        call->client.if_match = NULL;
        if (code == EXIT_DONE && call->json)
            output_json(done.body);
        else if (code == EXIT_DONE)
            print_sums(done.body, "done");
    }
    client_clear(&plan);
    client_clear(&done);
    return code;
}

int state_apply(struct call *call)
{
    const char *file = command_option(call, "file");
    if (file == NULL)
        return command_misused(call->command, "which file? -f FILE, or -f - for standard input");
    json_t *state = read_file(file);
    if (state == NULL)
        return EXIT_USAGE;
    call->client.config = state;
    int code = apply(call, state);
    call->client.config = NULL;
    json_decref(state);
    return code;
}
