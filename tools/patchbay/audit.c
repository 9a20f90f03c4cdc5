// SPDX-License-Identifier: BSD-3-Clause
#include "field.h"
#include "list.h"
#include "output.h"
#include "text.h"
#include "verbs.h"

#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 20, ROWS_MAX = 1000, SHOWN = 3 };

static const char *describe_client(const json_t *row)
{
    return text_format("%s[%llu]", field_text(row, "client", ""), (unsigned long long)field_count(row, "pid"));
}

// "wire default/w1, port default/p1 and 7 more"; a daemon of before told none.
static const char *describe_changes(const json_t *row)
{
    uint64_t count = field_count(row, "change_count");
    const char *text = "";
    size_t shown = 0;
    for (; shown < field_size(row, "changes") && shown < SHOWN; shown++) {
        const json_t *change = field_item(row, "changes", shown);
        const char *network = field_text(change, "network", NULL);
        text = text_format("%s%s%s %s%s%s", text, shown > 0 ? ", " : "", field_text(change, "kind", "?"),
                           network != NULL ? network : "", network != NULL ? "/" : "", field_text(change, "name", "?"));
    }
    return count > shown && shown > 0 ? text_format("%s and %llu more", text, (unsigned long long)(count - shown))
                                      : text;
}

static const struct list_column columns[] = {
    {"ROW", "seq", NULL},
    {"TIME", "time", NULL},
    {"UID", "uid", NULL},
    {"GID", "gid", NULL},
    {"BY", NULL, describe_client},
    {"METHOD", "method", NULL},
    {"PATH", "path", NULL},
    {"STATUS", "status", NULL},
    {"GENERATION", "generation", NULL},
    {"CHANGED", NULL, describe_changes},
    {0},
};

static int read_rows(struct call *call, long long limit, uint64_t after, struct reply *reply)
{
    const char *path = client_query(client_path("audit", NULL), "limit", text_format("%lld", limit));
    if (after > 0)
        path = client_query(path, "after", text_format("%llu", (unsigned long long)after));
    return client_do(&call->client, "GET", path, NULL, 0, reply);
}

int audit_run(struct call *call)
{
    const char *limit_text = command_option(call, "limit"), *after_text = command_option(call, "after");
    long long limit = ROWS, after = 0;
    struct reply reply = {0};
    int code = EXIT_DONE;
    if (limit_text != NULL)
        code = command_number(call->command, "--limit", limit_text, 1, ROWS_MAX, &limit);
    if (code == EXIT_DONE && after_text != NULL)
        code = command_number(call->command, "--after", after_text, 0, INT64_MAX, &after);
    if (code != EXIT_DONE)
        return code;
    if (after_text == NULL) {
        // The last ones: rows are numbered without gaps.
        code = read_rows(call, 1, 0, &reply);
        uint64_t last = field_count(reply.body, "last");
        after = last > (uint64_t)limit ? (long long)(last - (uint64_t)limit) : 0;
    }
    if (code == EXIT_DONE)
        code = read_rows(call, limit, (uint64_t)after, &reply);
    if (code == EXIT_DONE && call->json)
        output_json(reply.body);
    else if (code == EXIT_DONE && field_size(reply.body, "items") == 0)
        fprintf(stderr, "no changes\n");
    else if (code == EXIT_DONE)
        list_print(field_get(reply.body, "items"), columns);
    client_clear(&reply);
    return code;
}
