// SPDX-License-Identifier: BSD-3-Clause
#include "draw.h"

#include "field.h"
#include "output.h"
#include "text.h"

#include <stdio.h>
#include <string.h>

const char *draw_line_character(void)
{
    return output.utf8 ? "─" : "-";
}

// One end of the wire; names are ASCII, but the daemon's word isn't taken for it.
static const char *end_name(const json_t *wire, const char *end)
{
    const char *name = field_text(wire, end, NULL);
    return name == NULL ? "(unplugged)" : text_clean(name);
}

const char *draw_path(const json_t *wire)
{
    const char *line = draw_line_character();
    const char *path = text_format("%s %s", end_name(wire, "a"), line);
    size_t count = field_size(wire, "tees");
    for (size_t i = 0; i < count; i++) {
        const json_t *tee = field_item(wire, "tees", i);
        path = text_format("%s[%s %s]%s", path, text_clean(field_text(tee, "mode", "?")),
                           text_clean(field_text(tee, "name", "?")), line);
    }
    // A wire without Ts is drawn no shorter than the two lines around one.
    return text_format("%s%s %s", path, count == 0 ? line : "", end_name(wire, "b"));
}

const char *draw_state(const json_t *object)
{
    const char *state = field_text(object, "status.state", "in an unknown state");
    const char *reason = field_text(object, "status.reason", "");
    const char *shown = text_clean(state);
    if (*reason != '\0' && strcmp(state, "up") != 0)
        shown = text_format("%s: %s", shown, text_clean(reason));
    return output_paint(shown, output_state_color(state));
}

// A T that copies or leads through nothing at the moment. One that is off is
// worth a line only if it waits to be on.
static bool needs_words(const json_t *tee)
{
    bool off = strcmp(field_text(tee, "mode", ""), "off") == 0;
    if (off)
        return *field_text(tee, "status.reason", "") != '\0';
    return strcmp(field_text(tee, "status.state", "up"), "up") != 0;
}

int draw_width(const char *text)
{
    int width = 0;
    for (; *text != '\0'; text++)
        width += (*text & 0xc0) != 0x80;
    return width;
}

static void pad(const char *text, int width)
{
    printf("%s%*s", text, width > draw_width(text) ? width - draw_width(text) : 0, "");
}

void draw_wire(const json_t *wire, const char *name, int name_width, int path_width, const char *note)
{
    pad(text_clean(name), name_width);
    printf("  ");
    pad(draw_path(wire), path_width);
    printf("  %s%s%s\n", draw_state(wire), *note == '\0' ? "" : "   ", note);
    for (size_t i = 0; i < field_size(wire, "tees"); i++) {
        const json_t *tee = field_item(wire, "tees", i);
        if (needs_words(tee))
            printf("    %s %s  %s\n", text_clean(field_text(tee, "mode", "?")),
                   text_clean(field_text(tee, "name", "?")), draw_state(tee));
    }
}
