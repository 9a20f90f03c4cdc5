// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_FRAME_READER_H
#define PATCHBAY_FRAME_READER_H

// Reads a frame's bytes in order, as pieces of its segments. Nothing is read
// here: the pieces are the guest's memory, for one copy each.

#include "frame.h"

struct frame_reader {
    const struct burst *burst;
    const uint8_t *data;
    uint32_t left;
    uint16_t next;
};

static inline struct frame_reader frame_reader_open(const struct burst *burst, const struct frame *frame)
{
    return (struct frame_reader){burst, frame->data, frame->data_len, frame->segment_first};
}

// The next bytes in one piece: at most *len, at least one; *len becomes what it
// has. They are read by now or never. The frame has that many left.
static inline const uint8_t *frame_reader_next(struct frame_reader *reader, uint32_t *len)
{
    const uint8_t *data;

    if (reader->left == 0) {
        const struct frame_segment *segment = &reader->burst->segments[reader->next++];

        reader->data = segment->data;
        reader->left = segment->len;
    }
    if (*len > reader->left)
        *len = reader->left;
    data = reader->data;
    reader->data += *len;
    reader->left -= *len;
    return data;
}

#endif
