// SPDX-License-Identifier: BSD-3-Clause
#include "client.h"
#include "command.h"
#include "field.h"
#include "output.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What the command line can do about a refusal; the daemon's messages speak of
// the API. An option is offered only by commands that have it.
static const struct {
    const char *code, *option, *hint;
} hints[] = {
    {"InUse", "detach", "--detach takes it out of what uses it"},
    {"BumpDown", "when-ready", "--when-ready inserts it once its arms are up, --force at once"},
    {"Stale", NULL, "somebody else changed it meanwhile: try again"},
    {"Internal", NULL, "the daemon's log has more"},
};

static bool has_option(const struct command *command, const char *name)
{
    const struct option_spec *spec = command == NULL ? NULL : command->options;
    for (; spec != NULL && spec->name != NULL; spec++)
        if (strcmp(spec->name, name) == 0)
            return true;
    return false;
}

// The command that changes what can't be made because it is there; NULL: none.
static const char *changing_command(const struct command *command)
{
    if (command == NULL)
        return NULL;
    const char *noun = text_slice(command->name, strcspn(command->name, " "));
    if (strcmp(noun, "tap") == 0 || strcmp(noun, "bump") == 0)
        noun = "tee";
    const char *name = text_format("%s set", noun);
    for (size_t i = 0; i < command_count; i++)
        if (strcmp(commands[i].name, name) == 0)
            return name;
    return NULL;
}

// Where in a whole configuration the field is ("wires[3].a"): the message says only what is wrong with it.
static void print_place(const json_t *config, const char *field)
{
    size_t length = strcspn(field, "[");
    char *end;
    unsigned long index = field[length] == '[' ? strtoul(field + length + 1, &end, 10) : 0;
    const json_t *item =
        field[length] == '[' && *end == ']' ? field_item(config, text_slice(field, length), index) : NULL;
    const char *name = field_text(item, "name", NULL);
    if (name == NULL)
        fprintf(stderr, "  at %s\n", text_clean(field));
    else
        fprintf(stderr, "  at %s, in \"%s\"\n", text_clean(field), text_clean(name));
}

// Where a user of the object is, as the verbs of this program name it.
static const char *describe_user(const json_t *user)
{
    const char *kind = field_text(user, "kind", "?");
    const char *network = field_text(user, "network", "default");
    const char *prefix = strcmp(network, "default") == 0 ? "" : text_format("%s/", network);
    const char *name = field_text(user, strcmp(kind, "tee") == 0 ? "wire" : kind, "?");
    const char *as = field_text(user, "as", NULL);
    if (strcmp(kind, "tee") == 0)
        return text_format("T %s of wire %s%s%s%s", field_text(user, "tee", "?"), prefix, name,
                           as == NULL ? "" : " as ", as == NULL ? "" : as);
    return text_format("%s %s%s%s%s", kind, prefix, name, as == NULL ? "" : " as end ", as == NULL ? "" : as);
}

// Whether the daemon speaks an older API than this program; fills in its
// version ("0.9").
static bool daemon_is_older(struct client *client, const char **version)
{
    struct reply reply = {0};
    unsigned major = 0, minor = 0;
    struct client quiet = *client;
    quiet.curl = NULL;
    quiet.json = false;
    bool known = client_send(&quiet, "GET", client_path("version", NULL), NULL, 0, &reply) == EXIT_DONE &&
                 sscanf(field_text(reply.body, "api", ""), "%u.%u", &major, &minor) == 2;
    client_clear(&reply);
    client_close(&quiet);
    *version = text_format("%u.%u", major, minor);
    // As one number: compilers remark on a comparison with a minor of 0.
    return known &&
           ((unsigned long long)major << 32 | minor) < ((unsigned long long)CLIENT_API_MAJOR << 32 | CLIENT_API_MINOR);
}

// An unknown path or field may mean that the daemon predates it; an unknown
// name never does.
static bool may_be_age(const struct reply *reply, const char *code)
{
    return reply->status == 405 || strcmp(code, "UnknownField") == 0 || strcmp(code, "MethodNotAllowed") == 0 ||
           (reply->status == 404 && strcmp(code, "NotFound") != 0);
}

int client_refused(struct client *client, const struct reply *reply)
{
    const char *code = field_text(reply->body, "error.code", "");
    const char *message = field_text(reply->body, "error.message", NULL);
    const char *field = field_text(reply->body, "error.field", NULL);
    const char *version = NULL;
    if (client->json && field_get(reply->body, "error") != NULL) {
        output_json(reply->body);
        output.failure_shown = true;
    }
    if (message == NULL)
        message = text_format("the daemon refused with HTTP %ld and gave no reason", reply->status);
    if (may_be_age(reply, code) && daemon_is_older(client, &version)) {
        const char *what = field == NULL ? "such command" : text_format("\"%s\"", field);
        output_complain("daemon %s has no %s (this patchbay speaks API %d.%d): upgrade patchbayd. It said: %s",
                        text_clean(version), text_clean(what), CLIENT_API_MAJOR, CLIENT_API_MINOR, text_clean(message));
        return EXIT_UNSUPPORTED;
    }
    output_complain("%s", text_clean(message));
    for (size_t i = 0; i < field_size(reply->body, "error.details.used_by"); i++)
        fprintf(stderr, "  used by %s\n",
                text_clean(describe_user(field_item(reply->body, "error.details.used_by", i))));
    uint64_t users = field_size(reply->body, "error.details.used_by");
    uint64_t total = field_count(reply->body, "error.details.total");
    if (total > users)
        fprintf(stderr, "  and %llu more\n", (unsigned long long)(total - users));
    if (client->config != NULL && field != NULL)
        print_place(client->config, field);
    const char *other = strcmp(code, "Exists") == 0 ? changing_command(client->command) : NULL;
    if (other != NULL)
        fprintf(stderr, "  `patchbay %s` changes it\n", other);
    for (size_t i = 0; i < sizeof(hints) / sizeof(*hints); i++)
        if (strcmp(hints[i].code, code) == 0 &&
            (hints[i].option == NULL || has_option(client->command, hints[i].option)))
            fprintf(stderr, "  %s\n", hints[i].hint);
    return reply->status == 472 || strcmp(code, "CapNotSupported") == 0 ? EXIT_UNSUPPORTED : EXIT_REFUSED;
}
