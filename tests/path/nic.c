// SPDX-License-Identifier: BSD-3-Clause

// An in-memory NIC with the manners of an ethdev: what it receives are buffers
// of its own, what it transmits it takes over, or takes a reference of, where
// the view is the whole buffer, and copies otherwise.

#include "rig.h"

#include <rte_mbuf.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

uint64_t nic_buffers;

static struct rte_mbuf *buffer_new(uint32_t size)
{
    struct rte_mbuf *mbuf = aligned_alloc(64, (sizeof(*mbuf) + size + 63) / 64 * 64);

    assert_non_null(mbuf);
    memset(mbuf, 0, sizeof(*mbuf));
    mbuf->buf_addr = mbuf + 1;
    mbuf->nb_segs = 1;
    mbuf->refcnt = 1;
    nic_buffers++;
    return mbuf;
}

static void buffer_free(struct rte_mbuf *mbuf)
{
    while (mbuf != NULL) {
        struct rte_mbuf *next = mbuf->next;

        assert_true(mbuf->refcnt > 0);
        if (--mbuf->refcnt == 0) {
            nic_buffers--;
            free(mbuf);
        }
        mbuf = next;
    }
}

static void buffer_spoil(struct rte_mbuf *mbuf)
{
    for (; mbuf != NULL; mbuf = mbuf->next)
        memset(mbuf->buf_addr, 0xee, mbuf->data_len);
}

static uint32_t buffer_read(const struct rte_mbuf *mbuf, uint8_t *bytes)
{
    uint32_t len = 0;

    for (; mbuf != NULL; mbuf = mbuf->next) {
        memcpy(bytes + len, mbuf->buf_addr, mbuf->data_len);
        len += mbuf->data_len;
    }
    return len;
}

static struct nic *nic_of(struct vif *vif)
{
    return vif->private;
}

static uint16_t receive(struct vif *vif, uint16_t queue, struct burst *burst)
{
    struct nic *nic = nic_of(vif);

    (void)queue;
    burst->count = burst->segment_count = 0;
    burst->owned = true;
    burst->offloads = burst->keep = false;
    for (uint32_t at = nic->in_first; at != nic->in_next && burst->count < LIMIT_BURST_FRAMES; at++) {
        struct rte_mbuf *mbuf = nic->in[at % NIC_FIFO];
        struct frame *frame = &burst->frames[burst->count++];

        memset(frame, 0, sizeof(*frame));
        frame_set_single(frame, mbuf->buf_addr, mbuf->data_len);
        frame->mbuf = mbuf;
        frame->segment_first = burst->segment_count;
        for (struct rte_mbuf *next = mbuf->next; next != NULL; next = next->next) {
            burst->segments[burst->segment_count++] = (struct frame_segment){next->buf_addr, next->data_len};
            frame->segment_count++;
            frame->len += next->data_len;
        }
    }
    return burst->count;
}

static void complete(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t taken)
{
    struct nic *nic = nic_of(vif);

    (void)queue;
    assert_true(taken <= burst->count);
    for (uint16_t i = 0; i < taken; i++)
        buffer_free(burst->frames[i].mbuf); // takes NULL
    // What stays must still be ours.
    for (uint16_t i = taken; i < burst->count; i++)
        assert_ptr_equal(burst->frames[i].mbuf, nic->in[(nic->in_first + i) % NIC_FIFO]);
    nic->in_first += taken;
}

// The view is the whole of the buffer and nothing else.
static bool is_whole(const struct burst *burst, const struct frame *frame)
{
    const struct rte_mbuf *mbuf = frame->mbuf;

    if (mbuf == NULL || frame->data != mbuf->buf_addr || frame->data_len != mbuf->data_len)
        return false;
    for (uint16_t i = 0; i + 1 < frame->segment_count; i++) {
        mbuf = mbuf->next;
        if (mbuf == NULL || burst->segments[frame->segment_first + i].data != mbuf->buf_addr)
            return false;
    }
    return mbuf->next == NULL;
}

static struct rte_mbuf *copy_of(const struct burst *burst, const struct frame *frame)
{
    struct rte_mbuf *mbuf = buffer_new(frame->len);

    frame_gather(burst, frame, mbuf->buf_addr);
    mbuf->data_len = (uint16_t)frame->len;
    mbuf->pkt_len = frame->len;
    return mbuf;
}

static uint16_t transmit(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t first, uint16_t count,
                         enum transmit_stop *stop)
{
    struct nic *nic = nic_of(vif);

    (void)queue;
    *stop = TRANSMIT_ALL;
    for (uint16_t i = 0; i < count; i++) {
        struct frame *frame = &burst->frames[first + i];

        if (nic->refuses != TRANSMIT_ALL)
            *stop = nic->refuses;
        else if (vif_link(vif) != VIF_LINK_UP)
            *stop = TRANSMIT_DOWN;
        else if (burst->offloads != 0 && frame->offload.wants != 0)
            *stop = TRANSMIT_OFFLOAD;
        else if (frame->len > nic->len_max)
            *stop = TRANSMIT_TOO_BIG;
        else if (nic->room == 0)
            *stop = TRANSMIT_FULL;
        if (*stop != TRANSMIT_ALL)
            return i;
        nic->room--;
        assert_true(nic->out_next - nic->out_first < NIC_FIFO);
        if (!is_whole(burst, frame)) {
            nic->out[nic->out_next++ % NIC_FIFO] = copy_of(burst, frame);
            nic->copied++;
            continue;
        }
        assert_true(burst->owned);
        nic->out[nic->out_next++ % NIC_FIFO] = copy_of(burst, frame);
        if (burst->keep) {
            nic->referenced++; // and done with at once
        } else {
            // What is taken over may be sent, written to and freed at any moment: here
            // it is at once, so that who reads it after that reads nonsense.
            buffer_spoil(frame->mbuf);
            buffer_free(frame->mbuf);
            frame->mbuf = NULL;
            nic->taken_over++;
        }
    }
    return count;
}

static void flush(struct vif *vif, uint16_t queue)
{
    (void)queue;
    nic_of(vif)->flushes++;
}

static int create(struct vif *vif, const struct vif_config *config, char *reason, size_t reason_size)
{
    (void)config;
    (void)reason;
    (void)reason_size;
    vif_set_link(vif, VIF_LINK_UP, "%s", "");
    return 0;
}

static void destroy(struct vif *vif)
{
    (void)vif;
}

const struct vif_ops vif_ethdev_ops = {
    .receive = receive,
    .complete = complete,
    .transmit = transmit,
    .flush = flush,
    .create = create,
    .destroy = destroy,
};

void nic_open(struct nic *nic, vif_slot slot)
{
    struct vif_config config = {.slot = slot, .name = "nic", .kind = VIF_DEV, .target = "in memory"};
    char reason[100];

    memset(nic, 0, sizeof(*nic));
    nic->slot = slot;
    nic->room = UINT32_MAX;
    nic->len_max = UINT32_MAX;
    assert_int_equal(0, vif_create(&config, reason, sizeof(reason)));
    nic->vif = vif_in_slot(slot);
    nic->vif->private = nic;
    vif_list(slot, true);
}

void nic_close(struct nic *nic)
{
    while (nic->in_first != nic->in_next)
        buffer_free(nic->in[nic->in_first++ % NIC_FIFO]);
    while (nic->out_first != nic->out_next)
        buffer_free(nic->out[nic->out_first++ % NIC_FIFO]);
    vif_list(nic->slot, false);
    vif_destroy(nic->slot);
}

void nic_send(struct nic *nic, uint32_t number, uint32_t len, uint16_t tag, unsigned segments)
{
    uint8_t bytes[LIMIT_FRAME_MAX + 64];
    struct rte_mbuf *head = NULL, **link = &head;
    uint32_t at = 0;

    frame_make(bytes, len, tag, number);
    for (unsigned i = 0; i < segments; i++) {
        uint32_t some = i + 1 < segments ? (len - at) / 2 : len - at;
        struct rte_mbuf *mbuf = buffer_new(some);

        memcpy(mbuf->buf_addr, bytes + at, some);
        mbuf->data_len = (uint16_t)some;
        at += some;
        *link = mbuf;
        link = &mbuf->next;
    }
    head->pkt_len = len;
    head->nb_segs = (uint16_t)segments;
    assert_true(nic->in_next - nic->in_first < NIC_FIFO);
    nic->in[nic->in_next++ % NIC_FIFO] = head;
}

uint32_t nic_take(struct nic *nic, uint8_t *bytes)
{
    uint32_t len;

    if (nic->out_first == nic->out_next)
        return 0;
    len = buffer_read(nic->out[nic->out_first % NIC_FIFO], bytes);
    buffer_free(nic->out[nic->out_first++ % NIC_FIFO]);
    return len;
}

uint32_t nic_unsent(const struct nic *nic)
{
    return nic->in_next - nic->in_first;
}
