// SPDX-License-Identifier: BSD-3-Clause

// Frames from and to an ethdev. Hot.

#include "vif_ethdev.h"
#include "copy.h"
#include "offload.h"

#include <rte_ethdev.h>

enum {
    WINDOW_FULL = 4, // frames to try while the device is full
};

// ---- receive ----

// A frame's buffers are neither too many to show nor is it too short or too
// long for a wire.
static inline bool is_sound(const struct rte_mbuf *mbuf, struct vif_rxq *counters)
{
    if (likely(mbuf->pkt_len >= LIMIT_FRAME_MIN && mbuf->pkt_len <= LIMIT_FRAME_MAX &&
               mbuf->nb_segs <= LIMIT_FRAME_SEGMENTS))
        return true;
    counter_add(&counters->discarded[mbuf->pkt_len < LIMIT_FRAME_MIN ? VIF_DISCARD_RUNT : VIF_DISCARD_GIANT], 1);
    return false;
}

uint16_t vif_ethdev_poll(struct vif *vif, uint16_t queue)
{
    struct ethdev *dev = vif_ethdev(vif);
    struct ethdev_rxq *rxq = &dev->rxq[queue];
    uint16_t count, sound = 0;

    rxq->head = rxq->count = 0;
    if (unlikely(atomic_load_explicit(&dev->gone, memory_order_relaxed)))
        return 0;
    count = rte_eth_rx_burst(dev->port, queue, rxq->mbufs, LIMIT_BURST_FRAMES);
    for (uint16_t i = 0; i < count; i++)
        rte_prefetch0(rte_pktmbuf_mtod(rxq->mbufs[i], const void *));
    for (uint16_t i = 0; i < count; i++) {
        struct rte_mbuf *mbuf = rxq->mbufs[i];

        if (likely(is_sound(mbuf, vif_rxq(vif, queue))))
            rxq->mbufs[sound++] = mbuf;
        else
            rte_pktmbuf_free(mbuf);
    }
    rxq->count = sound;
    return sound;
}

// Adds the view of a chain of buffers, empty ones left out. Returns false if
// the burst has no room for it.
static bool view_chain(struct burst *burst, struct frame *frame, const struct rte_mbuf *mbuf)
{
    uint16_t first = burst->segment_count, end = first;

    while (mbuf->data_len == 0)
        mbuf = mbuf->next; // ends: the frame has bytes
    frame_set_single(frame, rte_pktmbuf_mtod(mbuf, const uint8_t *), mbuf->data_len);
    for (mbuf = mbuf->next; mbuf != NULL; mbuf = mbuf->next) {
        if (mbuf->data_len == 0)
            continue;
        if (end == LIMIT_BURST_SEGMENTS)
            return false;
        burst->segments[end].data = rte_pktmbuf_mtod(mbuf, const uint8_t *);
        burst->segments[end++].len = mbuf->data_len;
        frame->len += mbuf->data_len;
    }
    frame->segment_first = first;
    frame->segment_count = 1 + end - first;
    burst->segment_count = end;
    return true;
}

uint16_t vif_ethdev_receive(struct vif *vif, uint16_t queue, struct burst *burst)
{
    struct ethdev_rxq *rxq = &vif_ethdev(vif)->rxq[queue];
    uint32_t bytes = 0;
    uint16_t count = 0;

    burst->count = 0;
    burst->segment_count = 0;
    burst->owned = true;
    burst->offloads = false;
    if (rxq->head == rxq->count && vif_ethdev_poll(vif, queue) == 0)
        return 0;
    for (uint16_t i = rxq->head; i < rxq->count && bytes < LIMIT_BURST_BYTES; i++) {
        struct rte_mbuf *mbuf = rxq->mbufs[i];
        struct frame *frame = &burst->frames[count];

        if (likely(mbuf->nb_segs == 1))
            frame_set_single(frame, rte_pktmbuf_mtod(mbuf, const uint8_t *), mbuf->data_len);
        else if (!view_chain(burst, frame, mbuf))
            break;
        frame->id = count++;
        frame->mbuf = mbuf;
        bytes += frame->len;
    }
    burst->count = count;
    return count;
}

void vif_ethdev_complete(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t taken)
{
    struct ethdev_rxq *rxq = &vif_ethdev(vif)->rxq[queue];
    struct rte_mbuf *mbufs[LIMIT_BURST_FRAMES];
    unsigned count = 0;

    // Those that a transmit took over are NULL by now.
    for (uint16_t i = 0; i < taken; i++)
        if (burst->frames[i].mbuf != NULL)
            mbufs[count++] = burst->frames[i].mbuf;
    if (count > 0)
        rte_pktmbuf_free_bulk(mbufs, count);
    rxq->head += taken;
}

// ---- transmit ----

// Whether the frame's own mbuf can be sent as it is: the view shows all of it
// and nothing else, and the device can take it. Short frames are copied, since
// who pads an mbuf changes what its other readers have.
static inline bool goes_as_is(const struct ethdev *dev, const struct frame *frame)
{
    const struct rte_mbuf *mbuf = frame->mbuf;

    return mbuf != NULL && frame->data == rte_pktmbuf_mtod(mbuf, const uint8_t *) &&
           frame->data_len == mbuf->data_len && frame->len == mbuf->pkt_len && mbuf->nb_segs <= dev->segments_max &&
           frame->len >= LIMIT_FRAME_WIRE_MIN;
}

// Copies a frame that is longer than one mbuf into a chain that begins with
// head. Returns false if there are too few mbufs; head is then still the caller's, alone.
static bool copy_chain(const struct ethdev *dev, const struct burst *burst, const struct frame *frame,
                       struct rte_mbuf *head)
{
    const struct frame_segment *segment = &burst->segments[frame->segment_first];
    const uint8_t *from = frame->data;
    uint32_t left = frame->data_len, total = frame->len;
    struct rte_mbuf *tail = head;

    head->pkt_len = total;
    head->data_len = 0;
    while (total > 0) {
        uint32_t len;

        if (left == 0) {
            from = segment->data;
            left = segment->len;
            segment++;
        }
        if (tail->data_len == dev->room) {
            struct rte_mbuf *next = rte_pktmbuf_alloc(dev->pool);

            if (unlikely(next == NULL)) {
                rte_pktmbuf_free(head->next);
                head->next = NULL;
                head->nb_segs = 1;
                return false;
            }
            tail->next = next;
            tail = next;
            head->nb_segs++;
        }
        len = RTE_MIN(left, (uint32_t)(dev->room - tail->data_len));
        copy_bytes(rte_pktmbuf_mtod(tail, uint8_t *) + tail->data_len, from, len);
        tail->data_len += (uint16_t)len;
        from += len;
        left -= len;
        total -= len;
    }
    return true;
}

// Copies a frame into a fresh mbuf, padded to what the wire wants.
static inline bool copy_frame(const struct ethdev *dev, const struct burst *burst, const struct frame *frame,
                              struct rte_mbuf *mbuf)
{
    uint8_t *to = rte_pktmbuf_mtod(mbuf, uint8_t *);
    uint32_t len = frame->len;

    if (unlikely(len > dev->room))
        return copy_chain(dev, burst, frame, mbuf);
    copy_bytes(to, frame->data, frame->data_len);
    to += frame->data_len;
    for (uint16_t i = 0; i + 1 < frame->segment_count; i++) {
        const struct frame_segment *segment = &burst->segments[frame->segment_first + i];

        copy_bytes(to, segment->data, segment->len);
        to += segment->len;
    }
    if (len < LIMIT_FRAME_WIRE_MIN) {
        memset(to, 0, LIMIT_FRAME_WIRE_MIN - len);
        len = LIMIT_FRAME_WIRE_MIN;
    }
    mbuf->data_len = (uint16_t)len;
    mbuf->pkt_len = len;
    return true;
}

// Fresh mbufs for a burst, taken all at once.
struct supply {
    uint16_t used;
    uint16_t count;
    struct rte_mbuf *mbufs[LIMIT_BURST_FRAMES];
};

static inline struct rte_mbuf *supply_take(struct supply *supply, struct rte_mempool *pool, uint16_t wanted)
{
    if (supply->used == supply->count) {
        // Where there aren't as many as that, one may still be had.
        supply->used = supply->count = 0;
        if (rte_pktmbuf_alloc_bulk(pool, supply->mbufs, wanted) == 0)
            supply->count = wanted;
        else if ((supply->mbufs[0] = rte_pktmbuf_alloc(pool)) != NULL)
            supply->count = 1;
        else
            return NULL;
    }
    return supply->mbufs[supply->used++];
}

// Makes mbufs of frames [first, first + count), up to the first of which none
// can be made. Returns how many; if fewer, *stop says why.
static uint16_t prepare(const struct ethdev *dev, const struct burst *burst, uint16_t first, uint16_t count,
                        struct rte_mbuf **mbufs, enum transmit_stop *stop)
{
    struct supply supply = {.used = 0, .count = 0};
    uint16_t made;

    for (made = 0; made < count; made++) {
        const struct frame *frame = &burst->frames[first + made];

        const uint8_t wants = likely(burst->offloads == 0) ? 0 : frame->offload.wants;

        if (unlikely((wants & ~dev->offloads) != 0)) {
            *stop = TRANSMIT_OFFLOAD;
            break;
        }
        if (unlikely(frame->len >
                     ((wants & OFFLOAD_TSO) ? dev->tso_max * (uint32_t)dev->room : vif_ethdev_frame_max(dev)))) {
            *stop = TRANSMIT_TOO_BIG;
            break;
        }
        // A borrowed frame's mbuf may be any: the burst had other frames before.
        if (burst->owned && goes_as_is(dev, frame)) {
            if (burst->keep)
                rte_pktmbuf_refcnt_update(frame->mbuf, 1);
            mbufs[made] = frame->mbuf;
            continue;
        }
        mbufs[made] = supply_take(&supply, dev->pool, count - made);
        if (unlikely(mbufs[made] == NULL)) {
            *stop = TRANSMIT_NO_MBUF;
            break;
        }
        if (unlikely(!copy_frame(dev, burst, frame, mbufs[made]))) {
            rte_pktmbuf_free(mbufs[made]);
            *stop = TRANSMIT_NO_MBUF;
            break;
        }
        if (unlikely(wants != 0) && !vif_ethdev_offload(dev, &frame->offload, mbufs[made])) {
            rte_pktmbuf_free(mbufs[made]);
            *stop = TRANSMIT_OFFLOAD;
            break;
        }
    }
    if (unlikely(supply.used < supply.count))
        rte_pktmbuf_free_bulk(&supply.mbufs[supply.used], supply.count - supply.used);
    return made;
}

// Has the driver make what it needs of mbufs with offloads: all of a burst that has
// any are fresh. Returns how many it is content with; the others are freed.
__attribute__((noinline, cold)) static uint16_t prepare_offloads(const struct ethdev *dev, uint16_t queue,
                                                                 struct rte_mbuf **mbufs, uint16_t made,
                                                                 enum transmit_stop *stop)
{
    uint16_t ready = rte_eth_tx_prepare(dev->port, queue, mbufs, made);

    if (ready < made) {
        rte_pktmbuf_free_bulk(&mbufs[ready], (unsigned)(made - ready));
        *stop = TRANSMIT_OFFLOAD;
    }
    return ready;
}

// Of `made` mbufs the device has taken the first `sent`. The pointers of those
// may be compared, but what they point to is no longer ours.
static inline void settle(struct burst *burst, uint16_t first, uint16_t made, uint16_t sent, struct rte_mbuf **mbufs)
{
    struct frame *frames = &burst->frames[first];

    if (burst->owned && !burst->keep)
        for (uint16_t i = 0; i < sent; i++)
            if (frames[i].mbuf == mbufs[i])
                frames[i].mbuf = NULL;
    for (uint16_t i = sent; i < made; i++) {
        if (!burst->owned || frames[i].mbuf != mbufs[i])
            rte_pktmbuf_free(mbufs[i]);
        else if (burst->keep)
            rte_pktmbuf_refcnt_update(mbufs[i], -1);
    }
}

uint16_t vif_ethdev_transmit(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t first, uint16_t count,
                             enum transmit_stop *stop)
{
    struct ethdev *dev = vif_ethdev(vif);
    struct ethdev_txq *txq = &dev->txq[queue];
    struct rte_mbuf *mbufs[LIMIT_BURST_FRAMES];
    uint16_t done = 0;

    *stop = TRANSMIT_ALL;
    if (unlikely(vif_link(vif) != VIF_LINK_UP)) {
        *stop = TRANSMIT_DOWN;
        return 0;
    }
    if (dev->tap_fd >= 0)
        return vif_ethdev_tap_transmit(dev, burst, first, count, stop);
    while (done < count) {
        uint16_t wanted = RTE_MIN((uint16_t)(count - done), txq->window);
        uint16_t made = prepare(dev, burst, first + done, wanted, mbufs, stop);
        uint16_t sent;

        if (unlikely(burst->offloads != 0 && dev->offloads != 0 && made > 0))
            made = prepare_offloads(dev, queue, mbufs, made, stop);
        sent = made > 0 ? rte_eth_tx_burst(dev->port, queue, mbufs, made) : 0;
        settle(burst, first + done, made, sent, mbufs);
        done += sent;
        if (unlikely(sent < made)) {
            txq->window = WINDOW_FULL;
            *stop = TRANSMIT_FULL;
            break;
        }
        if (unlikely(made < wanted))
            break;
        txq->window = LIMIT_BURST_FRAMES;
    }
    return done;
}
