// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_COMMAND_H
#define PATCHBAY_CLI_COMMAND_H

// What the command line takes: one table of commands (commands.c), from which
// parsing, --help, `patchbay help`, the man page's command section and bash
// completion are made.

#include "client.h"

#include <stdbool.h>
#include <stddef.h>

struct option_spec {
    const char *name;  // without dashes
    const char *value; // NULL: a flag. "[X]": may be left out. "x|y": one of these. Else what it is called
    const char *help;
    bool repeats;
};

struct given_option {
    const struct option_spec *spec;
    const char *value; // NULL: given without one
};

struct call;

struct command {
    const char *name; // its words: "wire add"
    // Words by which arguments are called, in order: "[X]" may be left out,
    // "X..." takes all that follow, "x|y" is one of these.
    const char *arguments;
    // Of several rows of one name, the one whose selector (an option) is given
    // is meant, else the one without.
    const char *selector;
    const struct option_spec *options; // up to one without name
    const char *help;                  // half a sentence
    const char *details;               // for `patchbay help` and the man page; "" if there are none
    int (*run)(struct call *call);     // returns an exit code
    bool changes;                      // may stand in a batch
};

extern const struct command commands[];
extern const size_t command_count;
extern const struct option_spec global_options[];

// One invocation.
struct call {
    const struct command *command;
    size_t argument_count;
    const char **arguments; // NULL-terminated
    size_t option_count;
    struct given_option *options;
    struct client client;
    const char *network;
    bool network_given;
    bool json;
    const char *file; // of a batch; NULL: none
};

// Reads argv into call, whose defaults are set. Returns EXIT_DONE, with
// call->command NULL when there is nothing to run (help was asked for and
// given, or call->file says what), or EXIT_USAGE after a message.
int command_parse(int argc, char *argv[], struct call *call);

// The value of an option, or NULL if it wasn't given. Asking for an option
// that the command's row lacks ends the program: it is a bug.
const char *command_option(const struct call *call, const char *name);

// Whether the option was given (for flags and optional values).
bool command_has(const struct call *call, const char *name);

// The command's argument i, or NULL.
const char *command_argument(const struct call *call, size_t i);

// Says what is wrong with the arguments, then the usage line. Returns
// EXIT_USAGE.
int command_misused(const struct command *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Reads a whole number within bounds. Returns EXIT_DONE or EXIT_USAGE after a
// message that calls it what.
int command_number(const struct command *command, const char *what, const char *text, long long least, long long most,
                   long long *number);

// ---- help.c ----

// "patchbay wire add NAME A B [OPTION...]"
const char *help_usage(const struct command *command);

// Prints the help of all commands; of those that begin with the words; of one.
// Returns how many there were.
size_t help_print(const char *words);

// The same as JSON: {"commands":[{"name","selector","arguments","options":[…],"help","details","changes"}]}.
size_t help_print_json(const char *words);

// document.c: prints the man page's sections of options and commands, in
// scdoc's language.
void document_man(void);

// completion.c: prints the bash completion file.
void completion_print(void);

#endif
