// SPDX-License-Identifier: BSD-3-Clause
#include "command.h"

#include "output.h"
#include "text.h"

#include <err.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- finding a command ----

// Whether the name's first words are these words.
static bool begins_with_words(const char *name, const char *words)
{
    size_t length = strlen(words);
    return strncmp(name, words, length) == 0 && (name[length] == '\0' || name[length] == ' ');
}

static bool is_group(const char *word)
{
    for (size_t i = 0; i < command_count; i++)
        if (begins_with_words(commands[i].name, word) && strcmp(commands[i].name, word) != 0)
            return true;
    return false;
}

static const struct command *find_row(const char *name, char *argv[])
{
    const struct command *plain = NULL;
    for (size_t i = 0; i < command_count; i++) {
        if (strcmp(commands[i].name, name) != 0)
            continue;
        if (commands[i].selector == NULL) {
            plain = &commands[i];
            continue;
        }
        for (char **argument = argv; *argument != NULL && strcmp(*argument, "--") != 0; argument++)
            if (strcmp(*argument, text_format("--%s", commands[i].selector)) == 0)
                return &commands[i];
    }
    return plain;
}

static int complain_of_command(const char *words, const char *group)
{
    const char **names = text_keep(calloc(command_count, sizeof(*names)));
    for (size_t i = 0; i < command_count; i++)
        names[i] = commands[i].name;
    const char *nearest = text_nearest(words, names, command_count);
    if (nearest != NULL)
        output_complain("there is no command \"%s\"; did you mean \"%s\"?", text_clean(words), nearest);
    else
        output_complain("there is no command \"%s\"", text_clean(words));
    for (size_t i = 0; group != NULL && i < command_count; i++)
        if (begins_with_words(commands[i].name, group))
            fprintf(stderr, "  %s\n", help_usage(&commands[i]));
    if (group == NULL)
        fprintf(stderr, "  patchbay --help lists all\n");
    return EXIT_USAGE;
}

// Finds the command that argv begins with and moves *argv past its words.
static int find_command(char ***argv, const struct command **command)
{
    char *first = (*argv)[0];
    if (first == NULL) {
        output_complain("a command is missing");
        fprintf(stderr, "  patchbay --help lists all, patchbay show shows what there is\n");
        return EXIT_USAGE;
    }
    if (!is_group(first)) {
        *command = find_row(first, *argv + 1);
        if (*command == NULL)
            return complain_of_command(
                (*argv)[1] != NULL && (*argv)[1][0] != '-' ? text_format("%s %s", first, (*argv)[1]) : first, NULL);
        *argv += 1;
        return EXIT_DONE;
    }
    char *second = (*argv)[1];
    if (second == NULL || second[0] == '-') {
        if (second != NULL && (strcmp(second, "--help") == 0 || strcmp(second, "-h") == 0)) {
            help_print(first);
            return EXIT_DONE;
        }
        output_complain("\"%s\" of what kind?", first);
        for (size_t i = 0; i < command_count; i++)
            if (begins_with_words(commands[i].name, first))
                fprintf(stderr, "  %s\n", help_usage(&commands[i]));
        return EXIT_USAGE;
    }
    *command = find_row(text_format("%s %s", first, second), *argv + 2);
    if (*command == NULL)
        return complain_of_command(text_format("%s %s", first, second), first);
    *argv += 2;
    return EXIT_DONE;
}

// ---- options ----

static const struct option_spec *find_option(const struct option_spec *specs, const char *name, size_t length)
{
    for (; specs != NULL && specs->name != NULL; specs++)
        if (strlen(specs->name) == length && strncmp(specs->name, name, length) == 0)
            return specs;
    return NULL;
}

// Whether value is one of the words of "x|y|z".
static bool is_choice(const char *choices, const char *value)
{
    size_t length = strlen(value);
    for (const char *choice = choices; *choice != '\0';) {
        size_t choice_length = strcspn(choice, "|");
        if (choice_length == length && strncmp(choice, value, length) == 0)
            return true;
        choice += choice_length + (choice[choice_length] == '|');
    }
    return false;
}

static const char *or_list(const char *choices)
{
    const char *list = "";
    for (const char *choice = choices; *choice != '\0';) {
        size_t length = strcspn(choice, "|");
        bool last = choice[length] == '\0';
        list = text_format("%s%s%.*s", list, *list == '\0' ? "" : last ? " or " : ", ", (int)length, choice);
        choice += length + !last;
    }
    return list;
}

static int complain_of_option(const struct command *command, const char *option)
{
    const char *names[64];
    size_t count = 0;
    for (const struct option_spec *spec = global_options; spec->name != NULL && count < 64; spec++)
        names[count++] = spec->name;
    for (const struct option_spec *spec = command == NULL ? NULL : command->options;
         spec != NULL && spec->name != NULL && count < 64; spec++)
        names[count++] = spec->name;
    size_t length = strcspn(option, "=");
    const char *nearest = text_nearest(text_slice(option, length) + strspn(option, "-"), names, count);
    const char *hint = nearest == NULL ? "" : text_format("; did you mean --%s?", nearest);
    if (command != NULL)
        return command_misused(command, "unknown option \"%s\"%s", text_clean(option), hint);
    output_complain("unknown option \"%s\"%s", text_clean(option), hint);
    fprintf(stderr, "  options of a command stand after its name; patchbay --help lists all\n");
    return EXIT_USAGE;
}

static int set_global(struct call *call, const struct option_spec *spec, const char *value)
{
    long long number;
    if (strcmp(spec->name, "socket") == 0) {
        call->client.socket = value;
    } else if (strcmp(spec->name, "network") == 0) {
        if (!text_is_name(value))
            return command_misused(call->command, "\"%s\" can't be a network's name", text_clean(value));
        call->network = value;
        call->network_given = true;
    } else if (strcmp(spec->name, "json") == 0) {
        call->json = true;
    } else if (strcmp(spec->name, "file") == 0) {
        call->file = value;
    } else if (strcmp(spec->name, "no-color") == 0) {
        output.color = false;
    } else if (strcmp(spec->name, "timeout") == 0) {
        if (command_number(call->command, "--timeout", value, 1, 86400, &number) != EXIT_DONE)
            return EXIT_USAGE;
        call->client.timeout_s = (unsigned)number;
    }
    return EXIT_DONE;
}

static bool is_number(const char *text)
{
    char *end;
    double number = strtod(text, &end);
    return end != text && *end == '\0' && number > 0;
}

// Takes the option that **argv is, and its value. *helped tells that help was
// asked for and given.
static int take_option(struct call *call, char ***argv, bool *helped)
{
    const struct command *command = call->command;
    char *option = *(*argv)++;
    if (strcmp(option, "-h") == 0 || strcmp(option, "--help") == 0) {
        help_print(command == NULL ? "" : command->name);
        *helped = true;
        return EXIT_DONE;
    }
    if (command == NULL && (strcmp(option, "--version") == 0 || strcmp(option, "-V") == 0)) {
        printf("patchbay %s (API %d.%d)\n", PATCHBAY_VERSION, CLIENT_API_MAJOR, CLIENT_API_MINOR);
        *helped = true;
        return EXIT_DONE;
    }
    if (strcmp(option, "-f") == 0)
        option = text_format("--file");
    if (option[0] != '-' || option[1] != '-')
        return complain_of_option(command, option);
    size_t length = strcspn(option + 2, "=");
    const char *value = option[2 + length] == '=' ? option + 2 + length + 1 : NULL;
    const struct option_spec *own = command == NULL ? NULL : find_option(command->options, option + 2, length);
    const struct option_spec *spec = own != NULL ? own : find_option(global_options, option + 2, length);
    if (spec == NULL)
        return complain_of_option(command, option);
    if (spec->value == NULL && value != NULL)
        return command_misused(command, "--%s takes no value", spec->name);
    // An optional value is taken from the next word only if it is a number:
    // that word may as well be an argument.
    if (spec->value != NULL && value == NULL && **argv != NULL && (spec->value[0] != '[' || is_number(**argv)))
        value = *(*argv)++;
    if (spec->value != NULL && spec->value[0] != '[' && value == NULL)
        return command_misused(command, "--%s needs a value: %s", spec->name, spec->value);
    if (spec->value != NULL && strchr(spec->value, '|') != NULL && !is_choice(spec->value, value))
        return command_misused(command, "--%s is %s, not \"%s\"", spec->name, or_list(spec->value), text_clean(value));
    if (own == NULL)
        return set_global(call, spec, value);
    for (size_t i = 0; i < call->option_count; i++)
        if (call->options[i].spec == spec && !spec->repeats)
            return command_misused(command, "--%s is given twice", spec->name);
    call->options[call->option_count++] = (struct given_option){spec, value};
    return EXIT_DONE;
}

// ---- arguments ----

// Holds the arguments against the command's list of them.
static int check_arguments(const struct call *call)
{
    const struct command *command = call->command;
    size_t taken = 0;
    for (const char *word = command->arguments; *word != '\0';) {
        size_t length = strcspn(word, " ");
        char *name = text_slice(word, length);
        bool optional = name[0] == '[';
        bool repeats = strstr(name, "...") != NULL;
        const char *argument = call->arguments[taken];
        if (argument == NULL && !optional)
            return command_misused(command, "%s is missing", name);
        if (argument != NULL && strchr(name, '|') != NULL && !is_choice(name, argument))
            return command_misused(command, "\"%s\" should be %s", text_clean(argument), or_list(name));
        if (argument != NULL)
            taken = repeats ? call->argument_count : taken + 1;
        word += length + strspn(word + length, " ");
    }
    if (taken < call->argument_count)
        return command_misused(command, "\"%s\" is one argument too many", text_clean(call->arguments[taken]));
    return EXIT_DONE;
}

int command_parse(int argc, char *argv[], struct call *call)
{
    bool helped = false, options_ended = false;
    call->arguments = text_keep(calloc((size_t)argc + 1, sizeof(*call->arguments)));
    call->options = text_keep(calloc((size_t)argc + 1, sizeof(*call->options)));
    argv++;
    while (*argv != NULL && (*argv)[0] == '-' && (*argv)[1] != '\0') {
        int code = take_option(call, &argv, &helped);
        if (code != EXIT_DONE || helped)
            return code;
    }
    if (call->file != NULL && *argv == NULL)
        return EXIT_DONE;
    int code = find_command(&argv, &call->command);
    if (code != EXIT_DONE || call->command == NULL)
        return code;
    while (*argv != NULL) {
        if (!options_ended && strcmp(*argv, "--") == 0) {
            options_ended = true;
            argv++;
        } else if (!options_ended && (*argv)[0] == '-' && (*argv)[1] != '\0') {
            code = take_option(call, &argv, &helped);
            if (code != EXIT_DONE || helped) {
                call->command = NULL;
                return code;
            }
        } else {
            call->arguments[call->argument_count++] = *argv++;
        }
    }
    if (call->file != NULL)
        return command_misused(call->command, "the commands of --file stand in the file alone");
    return check_arguments(call);
}

const char *command_argument(const struct call *call, size_t i)
{
    return i < call->argument_count ? call->arguments[i] : NULL;
}

static const struct given_option *find_given(const struct call *call, const char *name)
{
    const struct option_spec *spec = find_option(call->command->options, name, strlen(name));
    if (spec == NULL)
        errx(EXIT_REFUSED, "bug: `%s` has no option --%s", call->command->name, name);
    for (size_t i = 0; i < call->option_count; i++)
        if (call->options[i].spec == spec)
            return &call->options[i];
    return NULL;
}

const char *command_option(const struct call *call, const char *name)
{
    const struct given_option *given = find_given(call, name);
    return given == NULL ? NULL : given->value;
}

bool command_has(const struct call *call, const char *name)
{
    return find_given(call, name) != NULL;
}

int command_misused(const struct command *command, const char *format, ...)
{
    char *message = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&message, format, arguments);
    va_end(arguments);
    output_complain("%s", (char *)text_keep(length < 0 ? NULL : message));
    if (command != NULL)
        fprintf(stderr, "  usage: %s\n", help_usage(command));
    return EXIT_USAGE;
}

int command_number(const struct command *command, const char *what, const char *text, long long least, long long most,
                   long long *number)
{
    const char *wrong = NULL;
    // strtonum also takes leading space and a sign, which nobody means here.
    if (text[0] < '0' || text[0] > '9')
        wrong = "invalid";
    else
        *number = strtonum(text, least, most, &wrong);
    if (wrong != NULL)
        return command_misused(command, "%s is a number from %lld to %lld, not \"%s\"", what, least, most,
                               text_clean(text));
    return EXIT_DONE;
}
