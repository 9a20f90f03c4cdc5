// SPDX-License-Identifier: BSD-3-Clause
// Check mode: numbered frames are sent, never dropped on the sending side, and every frame that arrives is judged:
// whole or not, new or seen, in order or not, at a port where it belongs. One thread does all of it, so that a frame's
// number is known to be sent before it can arrive.
#include "check.h"

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_launch.h>

enum {
    POLL_US = 5000,
    PROGRESS_US = 1000000,
    BAD_PRINT_MAX = 8, // bad frames that are shown
    BAD_BYTES = 80,    // bytes of each
    OFF_CPU_US = 500,  // a loop that took longer than that was interrupted
    SEG_LEN = 17,      // bytes of each but the last buffer of a frame that is spread: odd, and inside the headers
};

static void frame_put(struct rte_mbuf *mbuf, const uint8_t *frame, uint16_t len)
{
    mbuf->data_len = len;
    memcpy(rte_pktmbuf_mtod(mbuf, uint8_t *), frame, len);
}

// Builds the next frame in the `segs` mbufs at `mbufs` and returns the first.
static struct rte_mbuf *frame_build(struct check *check, struct check_stream *stream, struct rte_mbuf **mbufs,
                                    unsigned segs)
{
    static uint8_t linear[FRAME_MAX];
    uint64_t seq = stream->built;
    uint16_t len = frame_len(&check->t->config->sizes, stream->id, seq), at = 0;

    mbufs[0]->pkt_len = len;
    mbufs[0]->data_len = len;
    if (segs == 1) {
        frame_write(rte_pktmbuf_mtod(mbufs[0], uint8_t *), len, stream->id, seq);
        return mbufs[0];
    }
    frame_write(linear, len, stream->id, seq);
    for (unsigned i = 0; i < segs; i++) {
        bool last = i + 1 == segs || at + SEG_LEN >= len;
        uint16_t part = last ? (uint16_t)(len - at) : SEG_LEN;
        frame_put(mbufs[i], linear + at, part);
        mbufs[i]->next = last ? NULL : mbufs[i + 1];
        mbufs[0]->nb_segs = (uint16_t)(i + 1);
        at = (uint16_t)(at + part);
        if (last) {
            // A short frame doesn't need them all.
            for (i++; i < segs; i++)
                rte_pktmbuf_free(mbufs[i]);
        }
    }
    return mbufs[0];
}

static uint64_t frames_allowed(const struct check *check, struct check_stream *stream, uint64_t now)
{
    const struct config *config = check->t->config;
    uint64_t left = config->count - stream->built, hz = rte_get_tsc_hz(), elapsed, due;

    if (left > config->burst)
        left = config->burst;
    if (config->rate_pps == 0 || left == 0)
        return left;
    // Seconds and rest apart, since a product of both would overflow after an hour.
    elapsed = now - stream->rate_start;
    due = elapsed / hz * config->rate_pps + (uint64_t)((double)(elapsed % hz) * (double)config->rate_pps / (double)hz);
    if (due <= stream->built)
        return 0;
    return due - stream->built < left ? due - stream->built : left;
}

static unsigned stream_send(struct check *check, struct check_stream *stream, uint64_t now)
{
    unsigned segs = stream->tx->spec->segs;
    struct rte_mbuf *mbufs[TRAFFIC_BURST_MAX * 8];
    uint64_t count;
    uint16_t taken;

    if (stream->pending_count == 0) {
        count = frames_allowed(check, stream, now);
        if (count == 0 || rte_pktmbuf_alloc_bulk(stream->tx->tx_pool[0], mbufs, (unsigned)count * segs) != 0)
            return 0;
        for (uint64_t i = 0; i < count; i++) {
            stream->pending[i] = frame_build(check, stream, mbufs + i * segs, segs);
            stream->built++;
        }
        stream->pending_at = 0;
        stream->pending_count = (uint16_t)count;
    }
    taken = rte_eth_tx_burst(stream->tx->id, stream->spec->tx_queue, stream->pending + stream->pending_at,
                             stream->pending_count);
    counter_add(&stream->tx->tx_bursts, 1);
    counter_add(&stream->tx->tx_full, taken < stream->pending_count);
    counter_add(&stream->tx->tx_frames, taken);
    counter_add(&stream->sent, taken);
    stream->pending_at = (uint16_t)(stream->pending_at + taken);
    stream->pending_count = (uint16_t)(stream->pending_count - taken);
    return taken;
}

static void bad_print(struct check *check, const struct port *port, const char *what, const uint8_t *from, uint32_t len)
{
    if (check->bad_printed++ >= BAD_PRINT_MAX)
        return;
    fprintf(stderr, "patchbay-traffic: port %s: %s, %u bytes:", port->spec->name, what, len);
    for (uint32_t i = 0; i < len && i < BAD_BYTES; i++)
        fprintf(stderr, "%s%02x", i % 4 == 0 ? " " : "", from[i]);
    fprintf(stderr, "%s\n", len > BAD_BYTES ? " …" : "");
}

static void view_add(struct check_view *view, struct track *track, uint64_t seq)
{
    counter_add(&view->frames, 1);
    if (!track_add(track, seq))
        counter_add(&view->duplicate, 1);
    else if (seq < view->next)
        counter_add(&view->reordered, 1);
    if (seq >= view->next)
        view->next = seq + 1;
}

static void frame_judge(struct check *check, unsigned index, const uint8_t *from, uint32_t len)
{
    struct port *port = &check->t->ports[index];
    enum frame_verdict verdict;
    struct check_stream *stream;
    uint16_t id = 0;
    uint64_t seq = 0;

    verdict = frame_check(from, len, &id, &seq);
    if (verdict == FRAME_FOREIGN) {
        counter_add(&port->foreign, 1);
        if (check->t->config->lossless && !check->t->config->allow_foreign)
            bad_print(check, port, "a foreign frame", from, len);
        return;
    }
    if (verdict == FRAME_CORRUPT || id >= check->stream_count) {
        counter_add(&port->corrupt, 1);
        bad_print(check, port, "a frame that isn't as it was sent", from, len);
        return;
    }
    stream = &check->streams[id];
    // A whole frame may still be one that was never sent: left over from another run, or cut at a length that fits.
    if (seq >= stream->sent || len != frame_len(&check->t->config->sizes, id, seq)) {
        counter_add(&port->corrupt, 1);
        bad_print(check, port, "a frame that was never sent", from, len);
        return;
    }
    if ((stream->spec->rx_mask & 1u << index) != 0)
        view_add(&stream->views[index], &stream->received, seq);
    else if ((check->t->config->monitor_mask & 1u << index) != 0)
        view_add(&stream->views[index], &stream->copies[index], seq);
    else
        counter_add(&port->misdelivered, 1);
}

static unsigned queue_receive(struct check *check, unsigned index, uint16_t queue)
{
    static uint8_t linear[UINT16_MAX];
    struct port *port = &check->t->ports[index];
    struct rte_mbuf *mbufs[TRAFFIC_BURST_MAX];
    uint16_t count = rte_eth_rx_burst(port->id, queue, mbufs, check->t->config->burst);
    uint64_t bytes = 0;

    counter_add(&port->rx_polls, 1);
    if (count == 0)
        return 0;
    for (uint16_t i = 0; i < count; i++)
        rte_prefetch0(rte_pktmbuf_mtod(mbufs[i], void *));
    for (uint16_t i = 0; i < count; i++) {
        uint32_t len = mbufs[i]->pkt_len;
        const uint8_t *from;

        bytes += len;
        // More than can be linear isn't a frame of ours; its first buffer is enough to show.
        if (len > sizeof(linear)) {
            len = mbufs[i]->data_len;
            from = rte_pktmbuf_mtod(mbufs[i], const uint8_t *);
        } else {
            from = rte_pktmbuf_read(mbufs[i], 0, len, linear);
        }
        frame_judge(check, index, from, len);
    }
    counter_add(&port->rx_frames, count);
    counter_add(&port->rx_bytes, bytes);
    rte_pktmbuf_free_bulk(mbufs, count);
    return count;
}

static unsigned port_receive(struct check *check, unsigned index)
{
    unsigned count = 0;

    for (uint16_t queue = 0; queue < check->t->config->ports[index].queues; queue++)
        count += queue_receive(check, index, queue);
    return count;
}

static bool all_sent(const struct check *check)
{
    for (unsigned i = 0; i < check->stream_count; i++) {
        if (check->streams[i].sent < check->t->config->count)
            return false;
    }
    return check->stream_count > 0;
}

// Nothing can be missing any more: each receiver group and each monitor has all that was sent.
static bool all_received(const struct check *check)
{
    for (unsigned i = 0; i < check->stream_count; i++) {
        const struct check_stream *stream = &check->streams[i];
        if (stream->spec->rx_mask != 0 && stream->received.unique < stream->sent)
            return false;
        for (unsigned j = 0; j < check->t->config->port_count; j++) {
            if ((check->t->config->monitor_mask & 1u << j) != 0 && stream->copies[j].unique < stream->sent)
                return false;
        }
    }
    return check->stream_count > 0 && reflect_pending(check->t) == 0;
}

static void phase_set(struct check *check, enum check_phase phase)
{
    __atomic_store_n(&check->phase, phase, __ATOMIC_RELAXED);
}

// Decides whether the run goes on. Called when nothing moved, and now and then.
static void phase_next(struct check *check, uint64_t now, uint64_t quiet)
{
    const struct config *config = check->t->config;
    double hz = (double)rte_get_tsc_hz(), silence = (double)quiet / hz;

    if (check->phase == CHECK_SENDING) {
        bool over = config->duration_s > 0 && (double)(now - check->start_tsc) / hz >= config->duration_s;
        if (traffic_stop != 0 || over || all_sent(check))
            phase_set(check, CHECK_SETTLING);
        else if (check->stream_count > 0 && silence >= config->stall_s)
            check->stalled = true;
    }
    if (check->phase == CHECK_SETTLING) {
        if (all_received(check) && silence >= TRAFFIC_LINGER_MS / 1e3)
            phase_set(check, CHECK_OVER);
        else if (silence >= config->settle_s && silence >= TRAFFIC_LINGER_MS / 1e3)
            check->unsettled = true;
    }
    if (check->stalled || check->unsettled || traffic_stop > 1)
        phase_set(check, CHECK_OVER);
}

// One loop of so many cycles is over, and so many frames arrived in it.
static void pause_count(struct check *check, uint64_t cycles, unsigned arrived, uint64_t off_limit)
{
    if (cycles > off_limit)
        check->off_max = cycles > check->off_max ? cycles : check->off_max;
    else
        check->pause += cycles;
    if (check->pause > check->pause_max)
        check->pause_max = check->pause;
    if (arrived > 0)
        check->pause = 0;
}

static int worker(void *arg)
{
    struct check *check = arg;
    const struct config *config = check->t->config;
    const uint64_t off_limit = rte_get_tsc_hz() / 1000000 * OFF_CPU_US;
    uint64_t now = rte_rdtsc(), last = now, off = 0, received = 0;
    unsigned loops = 0;

    check->start_tsc = now;
    for (unsigned i = 0; i < check->stream_count; i++)
        check->streams[i].rate_start = now;
    while (check->phase != CHECK_OVER) {
        unsigned moved = 0, arrived = 0;
        uint64_t begin = now;

        for (unsigned i = 0; i < check->stream_count && check->phase == CHECK_SENDING; i++)
            moved += stream_send(check, &check->streams[i], now);
        for (unsigned i = 0; i < config->reflect_count; i++)
            moved += reflect_run(&check->t->reflects[i], config->burst);
        for (unsigned i = 0; i < config->port_count; i++) {
            if ((check->rx_mask & 1u << i) != 0)
                arrived += port_receive(check, i);
        }
        moved += arrived;
        received += arrived;
        now = rte_rdtsc();
        // The first frames may have to wait for a link.
        if (check->phase == CHECK_SENDING && received > arrived)
            pause_count(check, now - begin, arrived, off_limit);
        // While this program was off its CPU nothing could move: no silence that says anything.
        if (now - begin > off_limit)
            off += now - begin;
        if (moved != 0) {
            last = now;
            off = 0;
        }
        if (moved == 0 || (++loops & 63) == 0)
            phase_next(check, now, now - last - off);
    }
    check->end_tsc = last;
    for (unsigned i = 0; i < check->stream_count; i++) {
        struct check_stream *stream = &check->streams[i];
        for (uint16_t j = 0; j < stream->pending_count; j++)
            rte_pktmbuf_free(stream->pending[stream->pending_at + j]);
    }
    __atomic_store_n(&check->t->done, true, __ATOMIC_RELEASE);
    return 0;
}

static int check_setup(struct check *check, struct traffic *t)
{
    const struct config *config = t->config;
    uint32_t reflected = 0;
    int r = 0;

    check->t = t;
    check->stream_count = config->stream_count;
    for (unsigned i = 0; i < config->reflect_count; i++)
        reflected |= 1u << config->reflects[i].in | 1u << config->reflects[i].out;
    // Senders' receive queues are polled too: what arrives there is misdelivered, and must be seen.
    check->rx_mask = ((1u << config->port_count) - 1) & ~reflected;
    for (unsigned i = 0; i < config->stream_count; i++) {
        struct check_stream *stream = &check->streams[i];

        stream->spec = &config->streams[i];
        stream->id = (uint16_t)i;
        stream->tx = &t->ports[stream->spec->tx];
        r = track_open(&stream->received, config->count);
        for (unsigned j = 0; r == 0 && j < config->port_count; j++) {
            if ((config->monitor_mask & 1u << j) != 0)
                r = track_open(&stream->copies[j], config->count);
        }
        if (r < 0) {
            warnx("no memory for the bitmaps of %llu frames: give a lower --count", (unsigned long long)config->count);
            return r;
        }
    }
    return 0;
}

int check_run(struct traffic *t)
{
    struct check *check = calloc(1, sizeof(*check));
    int code = EXIT_SETUP;
    uint64_t slept = 0;

    if (check == NULL || check_setup(check, t) < 0)
        goto out;
    if (rte_eal_remote_launch(worker, check, t->lcore) != 0) {
        warnx("the worker can't be launched");
        goto out;
    }
    while (!__atomic_load_n(&t->done, __ATOMIC_ACQUIRE)) {
        usleep(POLL_US);
        slept += POLL_US;
        if (traffic_poke != 0 || (t->config->progress && slept >= PROGRESS_US)) {
            slept = traffic_poke != 0 ? slept : 0;
            traffic_poke = 0;
            check_progress(check);
        }
    }
    rte_eal_wait_lcore(t->lcore);
    code = check_report(check);

out:
    for (unsigned i = 0; check != NULL && i < TRAFFIC_STREAMS_MAX; i++) {
        track_close(&check->streams[i].received);
        for (unsigned j = 0; j < TRAFFIC_PORTS_MAX; j++)
            track_close(&check->streams[i].copies[j]);
    }
    free(check);
    return code;
}
