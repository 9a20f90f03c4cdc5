// SPDX-License-Identifier: BSD-3-Clause
#include "command.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

// Text for scdoc: its marks, escaped.
static const char *scd(const char *text)
{
    const char *escaped = "";
    while (*text != '\0') {
        size_t length = strcspn(text, "*_\\");
        escaped = text_format("%s%.*s", escaped, (int)length, text);
        text += length;
        if (*text != '\0')
            escaped = text_format("%s\\%c", escaped, *text++);
    }
    return escaped;
}

static const char *sentence(const char *text)
{
    char first = *text >= 'a' && *text <= 'z' ? (char)(*text - 'a' + 'A') : *text;
    return text_format("%c%s", first, scd(text + 1));
}

static void man_options(const struct option_spec *specs, const char *indent)
{
    for (; specs != NULL && specs->name != NULL; specs++) {
        const char *value = specs->value == NULL ? "" : text_format(" _%s_", scd(specs->value));
        printf("%s*--%s*%s%s\n%s\t%s.\n\n", indent, specs->name, value, specs->repeats ? " (repeatable)" : "", indent,
               sentence(specs->help));
    }
}

void document_man(void)
{
    printf("# OPTIONS\n\nThey may stand before the command or after it.\n\n");
    man_options(global_options, "");
    printf("# COMMANDS\n\n");
    for (size_t i = 0; i < command_count; i++) {
        const struct command *command = &commands[i];
        printf("*%s*", command->name);
        if (command->selector != NULL)
            printf(" *--%s*", command->selector);
        for (const char *word = command->arguments; *word != '\0';) {
            size_t length = strcspn(word, " ");
            printf(" _%s_", scd(text_slice(word, length)));
            word += length + strspn(word + length, " ");
        }
        printf("\n\t%s.%s%s\n\n", sentence(command->help), command->details[0] == '\0' ? "" : " ",
               scd(command->details));
        man_options(command->options, "\t");
    }
}
