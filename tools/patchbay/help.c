// SPDX-License-Identifier: BSD-3-Clause
#include "command.h"
#include "output.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

const char *help_usage(const struct command *command)
{
    const char *usage = text_format("patchbay %s", command->name);
    if (command->selector != NULL)
        usage = text_format("%s --%s", usage, command->selector);
    if (command->arguments[0] != '\0')
        usage = text_format("%s %s", usage, command->arguments);
    for (const struct option_spec *spec = command->options; spec != NULL && spec->name != NULL; spec++) {
        if (command->selector != NULL && strcmp(command->selector, spec->name) == 0)
            continue;
        usage = text_format("%s [--%s%s%s]%s", usage, spec->name, spec->value == NULL ? "" : " ",
                            spec->value == NULL ? "" : spec->value, spec->repeats ? "..." : "");
    }
    return usage;
}

static void print_options(const struct option_spec *specs)
{
    for (; specs != NULL && specs->name != NULL; specs++) {
        const char *left = text_format("--%s%s%s", specs->name, specs->value == NULL ? "" : " ",
                                       specs->value == NULL ? "" : specs->value);
        printf("  %-26s %s\n", left, specs->help);
    }
}

static void print_command(const struct command *command)
{
    printf("%s\n", help_usage(command));
    printf("  %s%s%s\n", command->help, command->details[0] == '\0' ? "" : ". ", command->details);
    print_options(command->options);
}

static void print_overview(void)
{
    printf("Usage: patchbay [OPTION]... COMMAND ...\n\n"
           "Wires between virtual machines and NICs, with Ts to watch or intercept their\n"
           "traffic. Speaks with patchbayd.\n\n");
    for (size_t i = 0; i < command_count; i++) {
        const struct command *command = &commands[i];
        const char *left = text_format("%s%s%s %s", command->name, command->selector == NULL ? "" : " --",
                                       command->selector == NULL ? "" : command->selector, command->arguments);
        printf("  %-34s %s\n", left, command->help);
    }
    printf("\nOptions for every command:\n");
    print_options(global_options);
    printf("\npatchbay help COMMAND tells more about one, patchbay(1) about all.\n"
           "Exit status: 0 done, 1 refused, 2 wrong usage, 3 daemon not reached, 4 not supported.\n");
}

// Whether the command's name begins with these words.
static bool is_meant(const struct command *command, const char *words)
{
    size_t length = strlen(words);
    return length == 0 || (strncmp(command->name, words, length) == 0 &&
                           (command->name[length] == '\0' || command->name[length] == ' '));
}

static json_t *describe_options(const struct option_spec *specs)
{
    json_t *options = json_array();
    for (; specs != NULL && specs->name != NULL; specs++)
        json_array_append_new(options, json_pack("{ss ss? ss sb}", "name", specs->name, "value", specs->value, "help",
                                                 specs->help, "repeats", specs->repeats));
    return options;
}

size_t help_print_json(const char *words)
{
    json_t *list = json_array(), *all;
    for (size_t i = 0; i < command_count; i++) {
        const struct command *command = &commands[i];
        if (is_meant(command, words))
            json_array_append_new(list, json_pack("{ss ss? ss so ss ss sb}", "name", command->name, "selector",
                                                  command->selector, "arguments", command->arguments, "options",
                                                  describe_options(command->options), "help", command->help, "details",
                                                  command->details, "changes", command->changes));
    }
    size_t count = json_array_size(list);
    all = json_pack("{so so}", "commands", list, "options", describe_options(global_options));
    if (count > 0)
        output_json(all);
    json_decref(all);
    return count;
}

size_t help_print(const char *words)
{
    size_t count = 0;
    if (*words == '\0') {
        print_overview();
        return command_count;
    }
    for (size_t i = 0; i < command_count; i++) {
        if (!is_meant(&commands[i], words))
            continue;
        if (count++ > 0)
            printf("\n");
        print_command(&commands[i]);
    }
    return count;
}
