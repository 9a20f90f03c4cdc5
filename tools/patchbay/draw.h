// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_DRAW_H
#define PATCHBAY_CLI_DRAW_H

// How objects are written on one line. Texts are in the text pool.

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

// "─", or "-" where it can't be drawn.
const char *draw_line_character(void);

// "vm1 ─[bump fw]─[tap ids]─ vm2"
const char *draw_path(const json_t *wire);

// "up", or "down: port vm2: vif vm2: waiting …", of any object, in colour.
const char *draw_state(const json_t *object);

// Prints the wire, padded so that several stand in columns (widths of name and
// path; 0: as wide as they are), and below it each of its Ts that isn't up.
// note stands behind the state, "" for none.
void draw_wire(const json_t *wire, const char *name, int name_width, int path_width, const char *note);

// Characters that the text takes on a terminal.
int draw_width(const char *text);

#endif
