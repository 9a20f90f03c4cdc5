// SPDX-License-Identifier: BSD-3-Clause
#include "batch.h"

#include "field.h"
#include "output.h"
#include "patchbay/limits.h"
#include "text.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// ---- what commands send ----

// The last operation on an object, or NULL.
static const json_t *find_operation(const struct batch *batch, const char *path)
{
    for (size_t i = json_array_size(batch->operations); i > 0; i--) {
        const json_t *operation = json_array_get(batch->operations, i - 1);
        const char *other = field_text(operation, "path", "");
        size_t length = strcspn(other, "?");
        if (strlen(path) == length && strncmp(other, path, length) == 0 &&
            strcmp(field_text(operation, "method", ""), "PATCH") != 0)
            return operation;
    }
    return NULL;
}

// Ports that the batch has taken off a vif use it no more.
static void forget_users(const struct batch *batch, json_t *vif)
{
    json_t *users = json_object_get(json_object_get(vif, "status"), "used_by");
    for (size_t i = json_array_size(users); i > 0; i--) {
        const json_t *user = json_array_get(users, i - 1);
        const char *network = field_text(user, "network", "default");
        const json_t *operation =
            find_operation(batch, client_path("networks", network, "ports", field_text(user, "port", ""), NULL));
        if (operation != NULL && strcmp(field_text(operation, "method", ""), "DELETE") == 0)
            json_array_remove(users, i - 1);
    }
}

static int read_object(struct client *client, const char *path, struct reply *reply)
{
    struct batch *batch = client->batch;
    const json_t *operation = find_operation(batch, path);
    if (operation != NULL && strcmp(field_text(operation, "method", ""), "PUT") == 0) {
        client_clear(reply);
        *reply = (struct reply){200, json_deep_copy(field_get(operation, "body"))};
        return EXIT_DONE;
    }
    client->batch = NULL;
    int code = client_send(client, "GET", path, NULL, 0, reply);
    client->batch = batch;
    if (code == EXIT_DONE && reply->status == 404 &&
        strcmp(field_text(reply->body, "error.code", ""), "NotFound") == 0) {
        // The change itself will be refused, with the line.
        client_clear(reply);
        *reply = (struct reply){200, field_object()};
    }
    if (code == EXIT_DONE)
        forget_users(batch, reply->body);
    return code;
}

int batch_send(struct client *client, const char *method, const char *path, const json_t *body, unsigned flags,
               struct reply *reply)
{
    struct batch *batch = client->batch;
    if (strcmp(method, "GET") == 0)
        return read_object(client, path, reply);
    size_t count = json_array_size(batch->operations);
    if (count == LIMIT_OPERATIONS) {
        output_complain("a batch makes at most %d changes", LIMIT_OPERATIONS);
        return EXIT_USAGE;
    }
    json_t *operation = field_object();
    field_set_text(operation, "method", method);
    field_set_text(operation, "path", path);
    if (body != NULL)
        field_set(operation, "body", json_deep_copy(body));
    if (flags & CLIENT_CREATE_ONLY)
        field_set_text(operation, "if_none_match", "*");
    json_array_append_new(batch->operations, operation);
    batch->lines[count] = batch->line;
    client_clear(reply);
    *reply = (struct reply){200, body != NULL ? json_deep_copy(body) : field_object()};
    return EXIT_DONE;
}

// ---- lines ----

enum { WORDS_MAX = 256 };

// Cuts a line into words as a shell would, without anything else that shells do: spaces, '…', "…", \ and #. Returns
// how many, or -1 after a message.
static int split(char *line, char *words[static WORDS_MAX + 1])
{
    int count = 0;
    char *in = line, *out = line;
    for (;;) {
        in += strspn(in, " \t\r\n");
        if (*in == '\0' || *in == '#')
            break;
        if (count == WORDS_MAX) {
            output_complain("more than %d words", WORDS_MAX);
            return -1;
        }
        words[count++] = out;
        char quote = '\0';
        for (; *in != '\0' && (quote != '\0' || strchr(" \t\r\n", *in) == NULL); in++) {
            if (*in == '\\' && quote != '\'' && in[1] != '\0')
                *out++ = *++in;
            else if (*in == quote)
                quote = '\0';
            else if (quote == '\0' && (*in == '\'' || *in == '"'))
                quote = *in;
            else
                *out++ = *in;
        }
        if (quote != '\0') {
            output_complain("a %c is not closed", quote);
            return -1;
        }
        if (*in != '\0')
            in++;
        *out++ = '\0';
    }
    words[count] = NULL;
    return count;
}

static int run_line(struct call *whole, char *line)
{
    char *words[WORDS_MAX + 2] = {"patchbay"};
    struct call call = {.client = whole->client, .network = whole->network};
    int count = split(line, words + 1);
    if (count <= 0)
        return count == 0 ? EXIT_DONE : EXIT_USAGE;
    if (strcmp(words[1], "patchbay") == 0) {
        output_complain("a line is a command without \"patchbay\" before it");
        return EXIT_USAGE;
    }
    size_t before = json_array_size(whole->client.batch->operations);
    call.client.curl = NULL;
    call.client.quiet = false;
    int code = command_parse(count + 1, words, &call);
    if (code != EXIT_DONE || (call.command == NULL && call.file == NULL))
        return code;
    if (call.json || call.file != NULL || strcmp(call.client.socket, whole->client.socket) != 0) {
        output_complain("--json, --socket and --file stand before all lines, not in one");
        return EXIT_USAGE;
    }
    call.client.command = call.command;
    call.client.json = false;
    code = call.command->changes ? call.command->run(&call) : EXIT_DONE;
    client_close(&call.client);
    if (code == EXIT_DONE && json_array_size(whole->client.batch->operations) == before) {
        output_complain("`%s` can't stand in a batch, which is of changes of objects", call.command->name);
        return EXIT_USAGE;
    }
    return code;
}

// Runs all lines. What commands say of changes that aren't made yet goes nowhere.
static int run_lines(struct call *call, FILE *in, const char *name)
{
    int out = dup(STDOUT_FILENO), nowhere = open("/dev/null", O_WRONLY | O_CLOEXEC);
    char *line = NULL;
    size_t size = 0;
    int code = EXIT_DONE;
    if (out < 0 || nowhere < 0 || dup2(nowhere, STDOUT_FILENO) < 0)
        err(EXIT_REFUSED, "/dev/null");
    close(nowhere);
    while (code == EXIT_DONE && getline(&line, &size, in) >= 0) {
        size_t mark = text_mark();
        call->client.batch->line++;
        code = run_line(call, line);
        if (code != EXIT_DONE)
            fprintf(stderr, "  %s, line %zu; nothing was changed\n", name, call->client.batch->line);
        text_release(mark);
    }
    // Half of a file is none.
    if (code == EXIT_DONE && ferror(in)) {
        output_complain("%s: %s; nothing was changed", name, strerror(errno));
        code = EXIT_USAGE;
    }
    fflush(stdout);
    dup2(out, STDOUT_FILENO);
    close(out);
    free(line);
    return code;
}

// ---- the whole ----

static int send_all(struct call *call, const struct batch *batch, const char *name)
{
    struct reply reply = {0};
    json_t *body = field_object();
    field_set(body, "operations", json_incref(batch->operations));
    int code = client_send(&call->client, "POST", client_path("transactions", NULL), body, 0, &reply);
    if (code == EXIT_DONE && !client_ok(&reply)) {
        code = client_refused(&call->client, &reply);
        size_t index = (size_t)field_count(reply.body, "error.index");
        if (field_get(reply.body, "error.index") != NULL && index < json_array_size(batch->operations))
            fprintf(stderr, "  %s, line %zu; nothing was changed\n", name, batch->lines[index]);
    } else if (code == EXIT_DONE && call->json) {
        output_json(reply.body);
    } else if (code == EXIT_DONE) {
        printf("%llu created, %llu changed, %llu deleted, %llu as they were: generation %llu\n",
               (unsigned long long)field_count(reply.body, "created"),
               (unsigned long long)field_count(reply.body, "changed"),
               (unsigned long long)field_count(reply.body, "deleted"),
               (unsigned long long)field_count(reply.body, "same"),
               (unsigned long long)field_count(reply.body, "generation"));
    }
    client_clear(&reply);
    json_decref(body);
    return code;
}

int batch_run(struct call *call, const char *file)
{
    bool standard = strcmp(file, "-") == 0;
    const char *name = standard ? "standard input" : text_clean(file);
    struct batch batch = {.operations = json_array(), .lines = calloc(LIMIT_OPERATIONS, sizeof(size_t))};
    FILE *in = standard ? stdin : fopen(file, "re");
    if (in == NULL) {
        output_complain("%s: %s", name, strerror(errno));
        json_decref(batch.operations);
        free(batch.lines);
        return EXIT_USAGE;
    }
    if (batch.operations == NULL || batch.lines == NULL)
        errx(EXIT_REFUSED, "out of memory");
    call->client.batch = &batch;
    int code = run_lines(call, in, name);
    call->client.batch = NULL;
    if (code == EXIT_DONE)
        code = send_all(call, &batch, name);
    if (!standard)
        fclose(in);
    json_decref(batch.operations);
    free(batch.lines);
    return code;
}
