// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_NAMES_H
#define PATCHBAY_NAMES_H

#include <stdbool.h>
#include <stddef.h>

// The rule in words, for messages.
#define NAMES_RULE "1 to 63 of A-Z a-z 0-9 . _ -, the first a letter or digit"

// [A-Za-z0-9][A-Za-z0-9._-]{0,62}
bool names_valid(const char *name);

// The number of insertions, deletions, replacements and swaps of neighbours that make one string the other; stops
// counting at limit + 1. Strings longer than 63 bytes count as different.
unsigned names_distance(const char *one, const char *other, unsigned limit);

// Looks for the nearest of many: start with names_nearest_init, then offer each candidate.
struct names_nearest {
    const char *wanted;
    const char *best; // one of the candidates, or NULL: none is near
    unsigned distance;
};
void names_nearest_init(struct names_nearest *nearest, const char *wanted);
void names_nearest_offer(struct names_nearest *nearest, const char *candidate);

#endif
