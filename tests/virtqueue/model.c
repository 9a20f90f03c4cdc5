// SPDX-License-Identifier: BSD-3-Clause
#include "model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void model_open(struct model *model, struct driver *driver)
{
    model->driver = driver;
    model->chains = calloc(MODEL_CHAINS, sizeof(*model->chains));
    assert_non_null(model->chains);
    model->first = model->next = 0;
    model->walked = 0;
}

static struct model_chain *chain_at(const struct model *model, uint32_t at)
{
    return &model->chains[at % MODEL_CHAINS];
}

void model_close(struct model *model)
{
    while (model->first != model->next)
        free(chain_at(model, model->first++)->pieces);
    free(model->chains);
}

uint32_t model_posted(const struct model *model)
{
    return model->next - model->first;
}

uint64_t model_posted_bytes(const struct model *model)
{
    uint64_t bytes = 0;

    for (uint32_t i = model->first; i != model->next; i++)
        for (unsigned j = 0; j < chain_at(model, i)->piece_count; j++)
            bytes += chain_at(model, i)->pieces[j].len;
    return bytes;
}

uint16_t model_post(struct model *model, const struct driver_piece *pieces, unsigned count, unsigned bad_at,
                    enum driver_layout layout)
{
    struct model_chain *chain = chain_at(model, model->next++);

    chain->head = driver_add(model->driver, pieces, count, layout);
    chain->piece_count = (uint16_t)count;
    chain->bad_at = (uint16_t)(bad_at < count ? bad_at : count);
    chain->descs = model->driver->vq.packed && layout == LAYOUT_DIRECT ? (uint16_t)count : 1;
    chain->pieces = malloc(count * sizeof(*pieces));
    assert_non_null(chain->pieces);
    memcpy(chain->pieces, pieces, count * sizeof(*pieces));
    return chain->head;
}

uint16_t model_post_one(struct model *model, uint32_t len)
{
    struct driver_piece piece = {driver_alloc(model->driver, len), len, VRING_DESC_F_WRITE};

    return model_post(model, &piece, 1, 1, LAYOUT_DIRECT);
}

// Bytes that can be written to the chain before the piece that is bad.
static uint32_t sound_bytes(const struct model_chain *chain)
{
    uint64_t bytes = 0;

    for (unsigned i = 0; i < chain->bad_at; i++)
        bytes += chain->pieces[i].len;
    return bytes > UINT32_MAX ? UINT32_MAX : (uint32_t)bytes;
}

static void use_first(struct model *model, uint32_t len)
{
    struct model_chain *chain = chain_at(model, model->first++);

    driver_shadow_use(model->driver, chain->head, len);
    free(chain->pieces);
    chain->pieces = NULL;
}

// Writes the chain's bytes one by one.
static void write_chain(struct model *model, const struct model_chain *chain, const uint8_t *bytes, uint32_t len)
{
    unsigned piece = 0;
    uint32_t into = 0;

    for (uint32_t i = 0; i < len; i++) {
        while (into == chain->pieces[piece].len) {
            piece++;
            into = 0;
        }
        driver_shadow_write(model->driver, chain->pieces[piece].address + into, &bytes[i], 1);
        into++;
    }
}

// How many descriptors have to be looked at for `want` bytes; and to the chain's
// end, if only that tells what it is.
static uint32_t chain_walk(const struct model_chain *chain, uint32_t want)
{
    uint64_t bytes = 0;
    uint32_t count = 0;

    if (chain->descs > 1)
        return chain->descs;

    while (count < chain->piece_count && bytes < want)
        bytes += chain->pieces[count++].len;
    return count;
}

// How much of `want` bytes the chain takes; -1: no driver may post it.
static int64_t chain_takes(const struct model_chain *chain, uint32_t want)
{
    uint32_t sound = sound_bytes(chain);

    if (sound >= want)
        return want;
    return chain->bad_at < chain->piece_count || sound == 0 ? -1 : (int64_t)sound;
}

static void write_le(uint8_t *to, uint16_t value)
{
    to[0] = (uint8_t)value;
    to[1] = (uint8_t)(value >> 8);
}

enum transmit_stop model_put_offload(struct model *model, const uint8_t *bytes, uint32_t len,
                                     const struct frame_offload *offload)
{
    const struct virtqueue *vq = &model->driver->vq;
    static uint8_t image[12 + LIMIT_FRAME_GSO_MAX + 16];
    uint32_t want = vq->hdr_len + len, have = 0, count = 0, descs = 0;

    // Bad chains before the frame go back empty.
    while (model->first != model->next && chain_takes(chain_at(model, model->first), want) < 0) {
        model->walked += chain_walk(chain_at(model, model->first), want);
        use_first(model, 0);
    }
    // Room for all of it?
    while (have < want) {
        int64_t takes;

        if (model->first + count == model->next)
            return descs == model->driver->size ? TRANSMIT_TOO_BIG : count > 0 ? TRANSMIT_SHORT : TRANSMIT_FULL;
        if (count == LIMIT_FRAME_SEGMENTS)
            return TRANSMIT_TOO_BIG;
        model->walked += chain_walk(chain_at(model, model->first + count), want - have);
        takes = chain_takes(chain_at(model, model->first + count), want - have);
        if (takes < 0)
            return TRANSMIT_TOO_BIG;
        have += (uint32_t)takes;
        descs += chain_at(model, model->first + count)->descs;
        count++;
        if (have < want && !vq->mergeable)
            return TRANSMIT_TOO_BIG;
    }
    memset(image, 0, 12);
    if (offload != NULL) { // virtio 1.2, 5.1.6
        image[0] = offload->flags;
        image[1] = offload->gso_type;
        write_le(image + 2, offload->hdr_len);
        write_le(image + 4, offload->gso_size);
        write_le(image + 6, offload->csum_start);
        write_le(image + 8, offload->csum_offset);
    }
    if (vq->hdr_len == 12)
        write_le(image + 10, (uint16_t)count);
    memcpy(image + vq->hdr_len, bytes, len);
    for (have = 0; count > 0; count--) {
        const struct model_chain *chain = chain_at(model, model->first);
        uint32_t takes = (uint32_t)chain_takes(chain, want - have);

        write_chain(model, chain, image + have, takes);
        have += takes;
        use_first(model, takes);
    }
    return TRANSMIT_ALL;
}

enum transmit_stop model_put(struct model *model, const uint8_t *bytes, uint32_t len)
{
    return model_put_offload(model, bytes, len, NULL);
}

void burst_clear(struct burst *burst)
{
    memset(burst, 0x5a, sizeof(*burst));
    burst->count = burst->segment_count = 0;
    burst->owned = burst->keep = false;
    burst->offloads = 0;
}

void burst_add(struct burst *burst, uint8_t *bytes, uint32_t len, unsigned segments)
{
    struct frame *frame = &burst->frames[burst->count];

    for (uint32_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 5 + (i >> 8) * 3 + burst->count * 17 + 1);
    memset(frame, 0, sizeof(*frame));
    frame->data = bytes;
    frame->data_len = len - (segments - 1);
    frame->len = len;
    frame->segment_count = (uint16_t)segments;
    frame->segment_first = burst->segment_count;
    for (unsigned i = 1; i < segments; i++)
        burst->segments[burst->segment_count++] = (struct frame_segment){bytes + len - segments + i, 1};
    burst->count++;
}
