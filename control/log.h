// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_LOG_H
#define PATCHBAY_LOG_H

// Messages to stderr, one line each: time, level, component, message. Under
// systemd the journal knows the time, so a line starts with the level's number
// instead. Any thread may log: a line is one write(2), so lines never mix.

#include "dataplane/dataplane.h"

// Chooses the most detailed level to print and looks whether stderr is the journal.
void log_start(enum log_level level);

// Writes one message. Line ends and other control characters in it, which may
// come from a client or a guest, are replaced so that nobody forges a line.
void log_write(enum log_level level, const char *component, const char *message);

__attribute__((format(printf, 3, 4))) void log_message(enum log_level level, const char *component, const char *format,
                                                       ...);

// "error", "warning" …; NULL for a number that is no level.
const char *log_level_name(enum log_level level);

// Reads a level's name. Returns 0, or -EINVAL.
int log_level_parse(const char *name, enum log_level *level);

#endif
