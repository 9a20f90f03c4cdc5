// SPDX-License-Identifier: BSD-3-Clause
#include "event_log.h"

#include "loop.h"
#include "patchbay/limits.h"
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// The longest line: four names, two UUIDs, a reason whose every byte is escaped.
enum { LINE_MAX_BYTES = 4096 };

struct line {
    char *text; // owned; NULL: lost for want of memory
    size_t size;
};

static struct {
    const char *instance;
    uint64_t seq;   // of the newest
    uint64_t first; // of the oldest that is kept
    size_t bytes;   // of all that are kept
    struct line lines[LIMIT_EVENTS];
    void (*told)(void);
} ring = {.instance = "", .first = 1};

void event_log_start(const char *instance)
{
    ring.instance = instance;
}

static struct line *line_of(uint64_t seq)
{
    return &ring.lines[seq % LIMIT_EVENTS];
}

static void forget_oldest(void)
{
    struct line *line = line_of(ring.first++);

    ring.bytes -= line->size;
    free(line->text);
    *line = (struct line){0};
}

void event_log_stop(void)
{
    while (ring.first <= ring.seq)
        forget_oldest();
    ring.told = NULL;
}

uint64_t event_log_seq(void)
{
    return ring.seq;
}

const char *event_log_instance(void)
{
    return ring.instance;
}

uint64_t event_log_first(void)
{
    return ring.first;
}

void event_log_follow(void (*told)(void))
{
    ring.told = told;
}

const char *event_log_line(uint64_t seq, size_t *size)
{
    const struct line *line = line_of(seq);

    if (seq < ring.first || seq > ring.seq)
        return NULL;
    *size = line->size;
    return line->text;
}

// Returns the size, or 0 for a line that doesn't fit.
static size_t print_line(char *line, size_t room, uint64_t seq, const char *type, const char *members, va_list args)
{
    char time[STATUS_TIME_SIZE];
    size_t used;
    int more;

    status_format_time(clock_wall(), time);
    used = (size_t)snprintf(line, room, "{\"instance\":\"%s\",\"seq\":%llu,\"time\":\"%s\",\"type\":\"%s\",",
                            ring.instance, (unsigned long long)seq, time, type);
    if (used >= room)
        return 0;
    more = vsnprintf(line + used, room - used, members, args);
    // Room for the end: "}\n" and the terminator.
    if (more < 0 || used + (size_t)more + 3 > room)
        return 0;
    // Without members the comma before them is too much.
    if (more == 0)
        used--;
    memcpy(line + used + more, "}\n", 3);
    return used + (size_t)more + 2;
}

size_t event_log_remark(char *line, size_t room, uint64_t seq, const char *type, const char *members, ...)
{
    va_list args;
    size_t size;

    va_start(args, members);
    size = print_line(line, room, seq, type, members, args);
    va_end(args);
    return size;
}

void event_log_add(const char *type, const char *members, ...)
{
    char text[LINE_MAX_BYTES];
    struct line *line;
    va_list args;

    if (ring.seq + 1 - ring.first == LIMIT_EVENTS)
        forget_oldest();
    ring.seq++;
    line = line_of(ring.seq);
    va_start(args, members);
    line->size = print_line(text, sizeof(text), ring.seq, type, members, args);
    va_end(args);
    line->text = line->size > 0 ? strdup(text) : NULL;
    if (line->text == NULL)
        line->size = 0;
    ring.bytes += line->size;
    while (ring.bytes > LIMIT_EVENT_BYTES)
        forget_oldest();
    if (ring.told != NULL)
        ring.told();
}

const char *event_log_escape(const char *text, char *into, size_t room)
{
    size_t used = 0;

    for (const unsigned char *c = (const unsigned char *)text; *c != '\0'; c++) {
        char piece[8];
        size_t len = 1;

        if (*c == '"' || *c == '\\') {
            piece[0] = '\\';
            piece[1] = (char)*c;
            len = 2;
        } else if (*c < 0x20) {
            len = (size_t)snprintf(piece, sizeof(piece), "\\u%04x", *c);
        } else {
            // A sequence is taken whole or not at all.
            while (len < 4 && *c >= 0xc0 && (c[len] & 0xc0) == 0x80)
                len++;
            memcpy(piece, c, len);
            c += len - 1;
        }
        if (used + len >= room)
            break;
        memcpy(into + used, piece, len);
        used += len;
    }
    into[used] = '\0';
    return into;
}
