// SPDX-License-Identifier: BSD-3-Clause
#include "output.h"

#include "text.h"

#include <err.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct output output;

void output_start(void)
{
    setlocale(LC_ALL, "");
    output.utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
    output.terminal = isatty(STDOUT_FILENO);
    const char *no_color = getenv("NO_COLOR");
    const char *term = getenv("TERM");
    output.color =
        output.terminal && (no_color == NULL || *no_color == '\0') && term != NULL && strcmp(term, "dumb") != 0;
}

// What was complained of first; NULL: nothing. Only with --json.
static char *complaint;

static void show_failure(int code)
{
    static const char *const codes[] = {[EXIT_REFUSED] = "Failed",
                                        [EXIT_USAGE] = "Usage",
                                        [EXIT_UNREACHED] = "Unreached",
                                        [EXIT_UNSUPPORTED] = "NotSupported"};
    json_t *message = json_string(complaint != NULL ? complaint : "");
    // A word of the command line that isn't UTF-8 may be in it.
    if (message == NULL)
        message = json_string("see standard error");
    json_t *failure =
        json_pack("{s{ss so sn sn}}", "error", "code", codes[code], "message", message, "field", "details");
    output_json(failure);
    json_decref(failure);
}

int output_finish(int code)
{
    if (output.json && code != EXIT_DONE && !output.failure_shown)
        show_failure(code);
    free(complaint);
    complaint = NULL;
    if (fflush(stdout) != 0 || ferror(stdout)) {
        output_complain("the result could not be written in full: %s", strerror(errno));
        return code == EXIT_DONE ? EXIT_REFUSED : code;
    }
    return code;
}

void output_json(const json_t *json)
{
    size_t flags = JSON_ENCODE_ANY | (output.terminal ? JSON_INDENT(2) : JSON_COMPACT);
    // Control characters above ASCII would pass through otherwise and command the terminal.
    if (output.terminal)
        flags |= JSON_ENSURE_ASCII;
    char *text = text_keep(json_dumps(json, flags));
    printf("%s\n", text);
}

void output_complain(const char *format, ...)
{
    va_list arguments;
    fflush(stdout);
    fputs("patchbay: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    if (!output.json || complaint != NULL)
        return;
    va_start(arguments, format);
    if (vasprintf(&complaint, format, arguments) < 0)
        complaint = NULL;
    va_end(arguments);
}

const char *output_state_color(const char *state)
{
    static const struct {
        const char *state, *color;
    } colors[] = {
        {"up", "green"}, {"down", "red"}, {"failed", "lightred"}, {"draining", "yellow"}, {"off", "darkgray"}};
    for (size_t i = 0; i < sizeof(colors) / sizeof(*colors); i++)
        if (strcmp(colors[i].state, state) == 0)
            return colors[i].color;
    return NULL;
}

const char *output_paint(const char *text, const char *color)
{
    static const struct {
        const char *color, *escape;
    } escapes[] = {{"green", "\033[32m"},
                   {"red", "\033[31m"},
                   {"lightred", "\033[1;31m"},
                   {"yellow", "\033[33m"},
                   {"darkgray", "\033[90m"}};
    if (!output.color || color == NULL)
        return text;
    for (size_t i = 0; i < sizeof(escapes) / sizeof(*escapes); i++)
        if (strcmp(escapes[i].color, color) == 0)
            return text_format("%s%s\033[0m", escapes[i].escape, text);
    return text;
}

struct libscols_table *output_table(const struct output_column *columns, size_t count)
{
    struct libscols_table *table = scols_new_table();
    if (table == NULL)
        errx(EXIT_REFUSED, "out of memory");
    scols_table_enable_colors(table, output.color);
    // One space would let the columns run together.
    scols_table_set_column_separator(table, "  ");
    scols_table_enable_ascii(table, !output.utf8);
    for (size_t i = 0; i < count; i++)
        if (scols_table_new_column(table, columns[i].name, 0, columns[i].flags) == NULL)
            errx(EXIT_REFUSED, "out of memory");
    return table;
}

struct libscols_line *output_line(struct libscols_table *table, struct libscols_line *parent)
{
    struct libscols_line *line = scols_table_new_line(table, parent);
    if (line == NULL)
        errx(EXIT_REFUSED, "out of memory");
    return line;
}

void output_cell(struct libscols_line *line, size_t column, const char *text, const char *color)
{
    if (scols_line_set_data(line, column, text == NULL ? "" : text_clean(text)) != 0)
        errx(EXIT_REFUSED, "out of memory");
    if (color != NULL && output.color)
        scols_cell_set_color(scols_line_get_cell(line, column), color);
}

void output_print_table(struct libscols_table *table)
{
    // Wrapped or cut to the terminal's width, reasons would be hard to read: the
    // terminal wraps whole lines. They end in the padding of the last column,
    // which is left out: in a file it makes texts hard to compare.
    char *text = NULL;
    scols_table_set_termforce(table, SCOLS_TERMFORCE_NEVER);
    if (scols_print_table_to_string(table, &text) != 0)
        errx(EXIT_REFUSED, "out of memory");
    // No text comes of a table without lines.
    for (char *line = text == NULL ? "" : text_keep(text); *line != '\0';) {
        size_t length = strcspn(line, "\n");
        size_t shown = length;
        while (shown > 0 && line[shown - 1] == ' ')
            shown--;
        printf("%.*s\n", (int)shown, line);
        line += length + (line[length] == '\n');
    }
    scols_unref_table(table);
}
