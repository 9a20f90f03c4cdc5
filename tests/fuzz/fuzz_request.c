// SPDX-License-Identifier: BSD-3-Clause

// Requests as clients send them, one after the other on one model: parsed,
// decoded, checked, put in or refused, compiled. What is refused says why in
// text that JSON can carry and changes nothing; what is taken reads back as
// what was written, from the API's JSON and from the store's.
//
// Input: lines "PUT wires/default/w {…}", "PATCH …", "DELETE …", with
// "vifs/v", "networks/n", "ports/net/p", "wires/net/w", "tees/net/w/t"; what
// follows the path is the body, taken as it is. "POST transactions {…}" and
// "PUT config {…}" are many changes at once (fuzz_batch.c). "END" commits what came before.

#include "control/change.h"
#include "control/check.h"
#include "control/compile.h"
#include "control/request.h"
#include "fuzz_batch.h"
#include "model_check.h"

#include <stdio.h>
#include <string.h>

enum { PARTS = 4, STEPS_MAX = 64 };

struct line {
    char text[512]; // verb and path
    char *parts[PARTS + 1];
    size_t part_count;
    const char *body;
    size_t body_size;
};

static bool read_line(const char *text, size_t size, struct line *line)
{
    size_t head = 0;
    char *rest;

    while (head < size && text[head] != ' ')
        head++;
    head += head < size;
    while (head < size && text[head] != ' ')
        head++;
    if (head == 0 || head >= sizeof(line->text))
        return false;
    memcpy(line->text, text, head);
    line->text[head] = '\0';
    line->body = text + head + (head < size);
    line->body_size = size - head - (head < size);
    line->part_count = 0;
    rest = line->text;
    line->parts[line->part_count++] = strsep(&rest, " ");
    while (rest != NULL && line->part_count <= PARTS)
        line->parts[line->part_count++] = strsep(&rest, "/");
    return line->part_count >= 3;
}

void fuzz_check_error(const struct error *error)
{
    json_t *json = request_encode_error(error);
    char *text;

    must(error->code > PATCHBAY_OK && error->code < PATCHBAY_ERROR_COUNT && error->message[0] != '\0');
    must(json != NULL);
    text = json_dumps(json, 0);
    must(text != NULL);
    free(text);
    json_decref(json);
}

static struct object *decode(struct model *model, const struct line *line, enum object_kind kind, json_t *body,
                             struct error *error)
{
    const char *network = kind < OBJECT_PORT ? "" : line->parts[2];
    const char *name = kind < OBJECT_PORT ? line->parts[2] : line->parts[3];
    const struct object *old;

    if (line->parts[0][1] == 'U')
        return request_decode(kind, network, name, body, error);
    old = check_find(model, kind, network, name, error);
    return old != NULL ? request_patch(old, body, error) : NULL;
}

static int change_tee(struct model_change *change, struct model *model, const struct line *line, json_t *body,
                      struct error *error)
{
    const struct change_options options = {.force = true};
    const struct object *old;
    struct wire *next;

    if (line->parts[0][0] == 'D')
        return change_delete_tee(change, line->parts[2], line->parts[3], line->parts[4], &options, error);
    old = check_find(model, OBJECT_WIRE, line->parts[2], line->parts[3], error);
    if (old == NULL)
        return -ENOENT;
    next = line->parts[0][1] == 'U' ? request_decode_tee((const struct wire *)old, line->parts[4], body, error)
                                    : request_patch_tee((const struct wire *)old, line->parts[4], body, error);
    return next != NULL ? change_put_tee(change, next, line->parts[4], &options, error) : -EINVAL;
}

static int change(struct model_change *change, struct model *model, const struct line *line, json_t *body,
                  struct error *error)
{
    static const char *const kinds[] = {"networks", "vifs", "ports", "wires"};
    static const size_t parts[] = {3, 3, 4, 4};
    const struct change_options options = {.force = true, .detach = line->body_size % 2 == 0};
    struct object *next;

    error_clear(error);
    if (strcmp(line->parts[1], "tees") == 0 && line->part_count == 5)
        return change_tee(change, model, line, body, error);
    for (size_t kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
        if (strcmp(line->parts[1], kinds[kind]) != 0 || line->part_count != parts[kind])
            continue;
        if (line->parts[0][0] == 'D')
            return change_delete(change, (enum object_kind)kind, parts[kind] == 4 ? line->parts[2] : "",
                                 line->parts[parts[kind] - 1], &options, error);
        next = decode(model, line, (enum object_kind)kind, body, error);
        return next != NULL ? change_put(change, next, &options, error) : -EINVAL;
    }
    // Not a path that this input knows: nothing to judge.
    return 0;
}

static void run_line(struct model_change *changes, struct model *model, const struct line *line)
{
    struct model_mark mark = model_step(changes);
    struct error error;
    json_t *body = NULL;

    error_clear(&error);
    if (line->parts[0][0] != 'D') {
        body = request_parse(line->body, line->body_size, &error);
        if (body == NULL) {
            fuzz_check_error(&error);
            return;
        }
    }
    if (change(changes, model, line, body, &error) < 0) {
        fuzz_check_error(&error);
        model_undo(changes, mark);
    }
    json_decref(body);
}

// Is the line one of many changes? Then it was run.
static bool run_batch(struct model_change *changes, struct model *model, const char *text, size_t size)
{
    static const char *const verbs[] = {[BATCH_TRANSACTION] = "POST transactions ", [BATCH_CONFIG] = "PUT config "};

    for (size_t kind = 0; kind < sizeof(verbs) / sizeof(verbs[0]); kind++) {
        size_t len = strlen(verbs[kind]);

        if (size < len || memcmp(text, verbs[kind], len) != 0)
            continue;
        fuzz_batch(model, changes, (enum batch_kind)kind, text + len, size - len);
        return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *text = (const char *)data, *end = text + size;
    struct model *model = model_create();
    struct model_change changes;
    unsigned steps = 0;

    model_begin(model, &changes);
    model_step(&changes);
    must(model_add_default(&changes) == 0);
    model_commit(&changes);
    model_begin(model, &changes);
    while (text < end && steps++ < STEPS_MAX) {
        const char *newline = memchr(text, '\n', (size_t)(end - text));
        size_t len = newline != NULL ? (size_t)(newline - text) : (size_t)(end - text);
        struct line line;

        if (len == 3 && memcmp(text, "END", 3) == 0) {
            model_commit(&changes);
            model_begin(model, &changes);
        } else if (!run_batch(&changes, model, text, len) && read_line(text, len, &line)) {
            run_line(&changes, model, &line);
        }
        text += len + 1;
    }
    model_check(model);
    fuzz_batch_round_trip(model, &changes);
    model_rollback(&changes);
    model_check(model);
    model_destroy(model);
    return 0;
}
