// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EVENT_LOG_H
#define PATCHBAY_EVENT_LOG_H

// What happened, in order: a bounded ring of events in memory, each a line of
// JSON with a number. Who reads it (event_stream.h) keeps the number that he
// has read last; the ring waits for nobody and forgets its oldest.
//
// Control thread only.

#include <stddef.h>
#include <stdint.h>

// Numbers begin at 1 with every run of the daemon, whose name is `instance` (a
// UUID; must stay valid until event_log_stop).
void event_log_start(const char *instance);
void event_log_stop(void);

// The number of the last event; 0 before the first. What a reader of the model
// sees at this moment is what the events up to this one made of it.
uint64_t event_log_seq(void);
const char *event_log_instance(void);

// The number of the oldest event that is still there; event_log_seq() + 1 if none is.
uint64_t event_log_first(void);

// Adds an event. members is what follows "type" in the object: `"vif":"vm1","uid":"…"`.
// Without memory the event is lost, which a reader sees as a gap.
__attribute__((format(printf, 2, 3))) void event_log_add(const char *type, const char *members, ...);

// The line of event seq, with its newline; NULL if it isn't there (any more, or
// yet, or it was lost). Valid until the next event_log_add.
const char *event_log_line(uint64_t seq, size_t *size);

// Writes a line that is no event, such as a heartbeat: it takes no number, and
// has that of the last event which its reader has. Returns its size, less than `room`.
__attribute__((format(printf, 5, 6))) size_t event_log_remark(char *line, size_t room, uint64_t seq, const char *type,
                                                              const char *members, ...);

// Calls told() after each event.
void event_log_follow(void (*told)(void));

// The text as a JSON string's inside, cut so that it fits; always whole UTF-8
// sequences if the text is valid UTF-8. Returns `into`.
const char *event_log_escape(const char *text, char *into, size_t room);

#endif
