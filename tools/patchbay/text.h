// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_TEXT_H
#define PATCHBAY_CLI_TEXT_H

// Strings of the CLI. A verb makes many short-lived ones, of any length, so
// they live in one pool that is emptied at the end, or, by a verb that loops,
// back to a mark. Running out of memory ends the program.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// A formatted string in the pool.
char *text_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

// The first length bytes of a text, in the pool.
char *text_slice(const char *text, size_t length);

// Puts a malloc'ed block into the pool; returns it. NULL ends the program.
void *text_keep(void *block);

// Where the pool stands now; and frees everything that came after the mark.
size_t text_mark(void);
void text_release(size_t mark);

// What may be written to a terminal: a copy in which control characters, and
// in an ASCII locale all that isn't ASCII, are replaced by '?'. For text of
// the daemon, some of which came from other clients.
char *text_clean(const char *text);

// Whether it can be an object's name: [A-Za-z0-9][A-Za-z0-9._-]{0,62}
bool text_is_name(const char *text);

// The one of count candidates (texts[0..count)) that text was probably meant
// to be, or NULL if none is near.
const char *text_nearest(const char *text, const char *const *texts, size_t count);

// 1234567 → "1,234,567"
char *text_count(uint64_t count);

// 98000 → "98.0 kB"; decimal prefixes, exact below 1,000.
char *text_bytes(uint64_t bytes);

// 1234567.8, "fps" → "1.23 Mfps"; units a second.
char *text_rate(double per_second, const char *unit);

#endif
