// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TESTS_VIRTQUEUE_MODEL_H
#define PATCHBAY_TESTS_VIRTQUEUE_MODEL_H

// What a receive ring should do with frames, said as simply as possible: byte
// after byte, chain after chain. It keeps its own notes of the chains that a
// test posts, never looks at the ring, and writes what it expects into the
// driver's shadow.

#include "driver.h"

enum { MODEL_CHAINS = 32768, MODEL_PIECES = 300 };

struct model_chain {
    uint16_t head;
    uint16_t piece_count;
    uint16_t bad_at; // the first piece that no driver may post; piece_count: none
    uint16_t descs;  // that it takes of a packed ring; else 1
    struct driver_piece *pieces;
};

struct model {
    struct driver *driver;
    struct model_chain *chains; // MODEL_CHAINS, a ring
    uint32_t first, next;       // chains [first, next) are posted
    // Descriptors that a call looks at, at most; a test sets it to 0 before each.
    // At LIMIT_BURST_DESCRIPTORS the engine may end the call.
    uint32_t walked;
};

void model_open(struct model *model, struct driver *driver);
void model_close(struct model *model);

// Posts a chain of buffers, in the driver too. bad_at: see above; what makes the
// piece bad is the test's: it has it in pieces or changes the ring after.
uint16_t model_post(struct model *model, const struct driver_piece *pieces, unsigned count, unsigned bad_at,
                    enum driver_layout layout);
// One writable buffer of len bytes.
uint16_t model_post_one(struct model *model, uint32_t len);

// How many chains wait, and how many bytes they have.
uint32_t model_posted(const struct model *model);
uint64_t model_posted_bytes(const struct model *model);

// What one frame of len bytes should do; the shadow is changed accordingly.
enum transmit_stop model_put(struct model *model, const uint8_t *bytes, uint32_t len);
// The same of a frame with offloads, which the receiver takes; NULL: none.
enum transmit_stop model_put_offload(struct model *model, const uint8_t *bytes, uint32_t len,
                                     const struct frame_offload *offload);

// An empty burst, with rubbish where nothing should be read.
void burst_clear(struct burst *burst);
// Appends a frame of len bytes in `segments` pieces (each of the later ones is
// one byte), filled with bytes that tell its number and place.
void burst_add(struct burst *burst, uint8_t *bytes, uint32_t len, unsigned segments);

#endif
