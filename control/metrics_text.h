// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_METRICS_TEXT_H
#define PATCHBAY_METRICS_TEXT_H

// The two text formats of metrics: OpenMetrics 1.0, and Prometheus' older
// text/plain 0.0.4. Families and samples are appended to a buffer that grows;
// what they are called and mean is the caller's.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct metrics_text {
    char *bytes; // owned
    size_t size;
    size_t room;
    bool openmetrics;
    bool failed; // memory is out: what is in the buffer isn't whole
};

enum metrics_type { METRICS_COUNTER, METRICS_GAUGE, METRICS_INFO };

// A label value needs at most so many bytes for each of its own.
enum { METRICS_ESCAPE = 2 };

// Forgets what was appended, keeps the memory. Frees it.
void metrics_text_clear(struct metrics_text *text);
void metrics_text_free(struct metrics_text *text);

// The lines about a family: `name` without suffix; `unit`, in which it ends then, or "".
void metrics_text_family(struct metrics_text *text, const char *name, enum metrics_type type, const char *unit,
                         const char *help);

// A sample. labels is `a="b",c="d"` or "", its values escaped; more is appended to it (`,e="f"` or "").
void metrics_text_sample(struct metrics_text *text, const char *name, enum metrics_type type, const char *labels,
                         const char *more, uint64_t value);
// The same with a value that isn't whole.
void metrics_text_sample_real(struct metrics_text *text, const char *name, enum metrics_type type, const char *labels,
                              const char *more, double value);

// The end: nothing may follow.
void metrics_text_end(struct metrics_text *text);

// A value as a label has it, in METRICS_ESCAPE times its length and a terminator. Returns `into`.
const char *metrics_text_escape(const char *value, char *into, size_t room);

// What a client that sends this Accept header (NULL: none) prefers.
bool metrics_text_prefers_openmetrics(const char *accept);
// The type of the content; static.
const char *metrics_text_type(bool openmetrics);

#endif
