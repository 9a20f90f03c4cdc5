// SPDX-License-Identifier: BSD-3-Clause
#include "metrics_text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char *const types[] = {"counter", "gauge", "info"};
// What samples of a type are called, after the family's name.
static const char *const suffixes[] = {"_total", "", "_info"};

void metrics_text_clear(struct metrics_text *text)
{
    text->size = 0;
}

void metrics_text_free(struct metrics_text *text)
{
    free(text->bytes);
    *text = (struct metrics_text){0};
}

static char *make_room(struct metrics_text *text, size_t size)
{
    size_t room = text->room > 0 ? text->room : 4096;
    char *larger;

    while (room < text->size + size)
        room *= 2;
    if (room > text->room) {
        larger = realloc(text->bytes, room);
        if (larger == NULL) {
            text->failed = true;
            return NULL;
        }
        text->bytes = larger;
        text->room = room;
    }
    return text->bytes + text->size;
}

static void append(struct metrics_text *text, const char *piece, size_t size)
{
    char *into = make_room(text, size);

    if (into == NULL)
        return;
    memcpy(into, piece, size);
    text->size += size;
}

static void append_text(struct metrics_text *text, const char *piece)
{
    append(text, piece, strlen(piece));
}

static void append_line(struct metrics_text *text, const char *keyword, const char *name, const char *suffix,
                        const char *rest)
{
    append_text(text, keyword);
    append_text(text, name);
    append_text(text, suffix);
    append(text, " ", 1);
    append_text(text, rest);
    append(text, "\n", 1);
}

void metrics_text_family(struct metrics_text *text, const char *name, enum metrics_type type, const char *unit,
                         const char *help)
{
    // The older format calls the family like its samples, and an info a gauge.
    const char *suffix = text->openmetrics ? "" : suffixes[type];

    append_line(text, "# TYPE ", name, suffix,
                types[!text->openmetrics && type == METRICS_INFO ? METRICS_GAUGE : type]);
    if (text->openmetrics && unit[0] != '\0')
        append_line(text, "# UNIT ", name, suffix, unit);
    append_line(text, "# HELP ", name, suffix, help);
}

static void append_sample(struct metrics_text *text, const char *name, enum metrics_type type, const char *labels,
                          const char *more, const char *value, size_t value_size)
{
    append_text(text, name);
    append_text(text, suffixes[type]);
    if (labels[0] != '\0' || more[0] != '\0') {
        append(text, "{", 1);
        append_text(text, labels);
        append_text(text, labels[0] == '\0' && more[0] == ',' ? more + 1 : more);
        append(text, "}", 1);
    }
    append(text, " ", 1);
    append(text, value, value_size);
    append(text, "\n", 1);
}

void metrics_text_sample(struct metrics_text *text, const char *name, enum metrics_type type, const char *labels,
                         const char *more, uint64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);

    // By hand: there may be hundreds of thousands of them.
    do {
        digits[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    append_sample(text, name, type, labels, more, digits + at, sizeof(digits) - at);
}

void metrics_text_sample_real(struct metrics_text *text, const char *name, enum metrics_type type, const char *labels,
                              const char *more, double value)
{
    char number[40];
    int size = snprintf(number, sizeof(number), "%.9f", value);

    append_sample(text, name, type, labels, more, number, (size_t)size);
}

void metrics_text_end(struct metrics_text *text)
{
    if (text->openmetrics)
        append_text(text, "# EOF\n");
}

const char *metrics_text_escape(const char *value, char *into, size_t room)
{
    size_t used = 0;

    for (; *value != '\0' && used + METRICS_ESCAPE < room; value++) {
        if (*value == '"' || *value == '\\' || *value == '\n')
            into[used++] = '\\';
        into[used++] = *value == '\n' ? 'n' : *value;
    }
    into[used] = '\0';
    return into;
}

// ---- what a client wants ----

static bool is_type(const char *range, size_t len, const char *type)
{
    return len == strlen(type) && strncasecmp(range, type, len) == 0;
}

// The quality of one range, from 0 to 1; `;q=` may stand after other parameters.
static double read_quality(const char *range, size_t len)
{
    for (size_t i = 0; i + 2 < len; i++) {
        size_t at = i + 1;

        if (range[i] != ';')
            continue;
        while (at < len && (range[at] == ' ' || range[at] == '\t'))
            at++;
        if (at + 2 < len && (range[at] | 0x20) == 'q' && range[at + 1] == '=')
            return strtod(range + at + 2, NULL);
    }
    return 1;
}

bool metrics_text_prefers_openmetrics(const char *accept)
{
    double openmetrics = 0, plain = 0;

    for (const char *range = accept; range != NULL && *range != '\0';) {
        size_t len = strcspn(range, ",");
        size_t type_len;
        double quality;

        while (len > 0 && (*range == ' ' || *range == '\t')) {
            range++;
            len--;
        }
        type_len = strcspn(range, ";, \t");
        type_len = type_len < len ? type_len : len;
        quality = read_quality(range, len);
        if (is_type(range, type_len, "application/openmetrics-text") && quality > openmetrics)
            openmetrics = quality;
        else if (is_type(range, type_len, "text/plain") && quality > plain)
            plain = quality;
        range += len;
        range += *range == ',';
    }
    // Who names neither reads the older one: a browser, curl.
    return openmetrics > 0 && openmetrics >= plain;
}

const char *metrics_text_type(bool openmetrics)
{
    return openmetrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                       : "text/plain; version=0.0.4; charset=utf-8";
}
