// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_OUTPUT_H
#define PATCHBAY_CLI_OUTPUT_H

#include <jansson.h>
#include <libsmartcols/libsmartcols.h>
#include <stdbool.h>
#include <stddef.h>

// How results are written; set once by main.
struct output {
    bool terminal; // standard output is one
    bool color;
    bool utf8; // lines and arrows may be drawn
    bool json; // --json: a failure is JSON on standard output too
    // A failure was written as JSON already: the daemon's refusal.
    bool failure_shown;
};
extern struct output output;

// The exit status, as patchbay(1) documents it.
enum exit_code { EXIT_DONE, EXIT_REFUSED, EXIT_USAGE, EXIT_UNREACHED, EXIT_UNSUPPORTED };

// Reads locale, terminal and NO_COLOR.
void output_start(void);

// Ends output; returns code, or EXIT_REFUSED with a message if something could
// not be written (a full disk), so that no half result passes for a whole one.
// With --json a failure that wasn't a refusal of the daemon's gets the same form, by the exit code and the first
// complaint.
int output_finish(int code);

// Writes JSON and a newline: indented for people, on one line for programs.
void output_json(const json_t *json);

// A message on standard error: "patchbay: …".
void output_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The terminal's colour name (for libsmartcols) of an object's state, or NULL.
const char *output_state_color(const char *state);

// The text in that colour, if colours are wanted; in the text pool.
const char *output_paint(const char *text, const char *color);

// ---- tables ----

struct output_column {
    const char *name;
    int flags; // SCOLS_FL_…
};

// A new table with count columns. Ends the program if there is no memory.
struct libscols_table *output_table(const struct output_column *columns, size_t count);

// Adds a line under parent (NULL: at the top).
struct libscols_line *output_line(struct libscols_table *table, struct libscols_line *parent);

// Sets a cell's text (copied; NULL: empty) and colour (NULL: none).
void output_cell(struct libscols_line *line, size_t column, const char *text, const char *color);

// Prints and frees the table.
void output_print_table(struct libscols_table *table);

#endif
