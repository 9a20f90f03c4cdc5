// SPDX-License-Identifier: BSD-3-Clause
// Rate mode: transmit as fast as the device takes it, count what arrives, in windows that the worker itself closes by
// the time stamp counter, so that the main thread's scheduling has no part in the figures. On request (--on-request) a
// window begins with each line on stdin, and between windows the worker leaves the CPU and the rings alone: so several
// generators and devices can take turns while all of them are up.
//
// The generator must not be the bottleneck, so vhost-user sockets have a driver of our own, ring.c. What is here serves
// DPDK's drivers. Untouched, a frame costs no more than the driver: the pool's mbufs are prepared once and taken from
// it raw (the driver gives them back with one reference, one segment and their lengths intact), received ones go back
// raw in bulk, what the ring did not take is kept for the next try.
//
// Buffers take turns, first in, first out, over the whole pool: where the driver uses the pool's cache, this side goes
// around it. Through the cache alone the same few hundred buffers would be used again and again, and stay in the level
// 2 cache of the device under test, as no guest's would.
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_cycles.h>
#include <rte_ethdev.h>
#include <rte_launch.h>

#include "ring.h"
#include "touch.h"
#include "traffic.h"

enum { POLL_MS = 5, REQUEST_US = 500 };

struct rate_tx {
    struct port *port;
    uint16_t pending_count, pending_at;
    uint64_t written; // touch: makes each frame's payload differ
    struct rte_mbuf *pending[TRAFFIC_BURST_MAX];
};

struct snapshot {
    uint64_t tsc;
    uint64_t idle; // cycles of loops in which no frame moved: what the generator has to spare, at least
    struct {
        uint64_t tx_frames, tx_bursts, tx_full, rx_frames, rx_bytes, rx_polls, rx_empty, rx_bursts_full;
    } port[TRAFFIC_PORTS_MAX];
};

struct rate {
    struct traffic *t;
    unsigned tx_count, rx_count;
    struct rate_tx tx[TRAFFIC_PORTS_MAX];
    struct port *rx[TRAFFIC_PORTS_MAX];
    unsigned windows_done;   // written by the worker with release
    unsigned windows_wanted; // on request: how many may begin; written by the main thread with release
    bool last_wanted;        // on request: stdin has ended; likewise
    struct snapshot *snapshots;
    uint64_t idle;
    uint64_t sum; // touch: what was read, so that the reads aren't optimized away
};

// Takes a burst out of the pool or pools. IMIX: whole periods, each length in its place.
static unsigned take_burst(const struct config *config, struct rate_tx *tx)
{
    struct rte_mbuf *by_size[FRAME_SIZES_MAX][TRAFFIC_BURST_MAX];
    unsigned periods = config->burst / FRAME_IMIX_PERIOD, count = 0;
    unsigned used[FRAME_SIZES_MAX] = {0};

    if (config->sizes.mode != FRAME_IMIX) {
        if (rte_mempool_ops_dequeue_bulk(tx->port->tx_pool[0], (void **)tx->pending, config->burst) != 0)
            return 0;
        return config->burst;
    }
    if (periods == 0)
        periods = 1;
    for (unsigned size = 0; size < FRAME_SIZES_MAX; size++) {
        if (rte_mempool_get_bulk(tx->port->tx_pool[size], (void **)by_size[size], periods * frame_imix_weight[size]) ==
            0)
            continue;
        while (size-- > 0)
            rte_mempool_ops_enqueue_bulk(tx->port->tx_pool[size], (void **)by_size[size],
                                         periods * frame_imix_weight[size]);
        return 0;
    }
    for (; count < periods * FRAME_IMIX_PERIOD; count++) {
        unsigned size = frame_imix_order[count % FRAME_IMIX_PERIOD];
        tx->pending[count] = by_size[size][used[size]++];
    }
    return count;
}

static __rte_always_inline unsigned transmit(const struct config *config, struct rate_tx *tx, bool touch)
{
    uint16_t sent;

    if (tx->port->ring != NULL) {
        sent = (uint16_t)ring_transmit(tx->port, config->burst, touch);
        counter_add(&tx->port->tx_frames, sent);
        counter_add(&tx->port->tx_bursts, 1);
        counter_add(&tx->port->tx_full, sent < config->burst);
        return sent;
    }
    if (tx->pending_count == 0) {
        tx->pending_at = 0;
        tx->pending_count = (uint16_t)take_burst(config, tx);
        for (unsigned i = 0; touch && i < tx->pending_count; i++)
            touch_write(rte_pktmbuf_mtod(tx->pending[i], uint8_t *), tx->pending[i]->data_len, ++tx->written);
    }
    sent = rte_eth_tx_burst(tx->port->id, 0, tx->pending + tx->pending_at, tx->pending_count);
    counter_add(&tx->port->tx_frames, sent);
    counter_add(&tx->port->tx_bursts, 1);
    counter_add(&tx->port->tx_full, sent < tx->pending_count);
    tx->pending_at = (uint16_t)(tx->pending_at + sent);
    tx->pending_count = (uint16_t)(tx->pending_count - sent);
    return sent;
}

static __rte_always_inline unsigned receive(struct rate *rate, struct port *port, uint16_t burst, bool touch)
{
    struct rte_mbuf *mbufs[TRAFFIC_BURST_MAX];
    uint64_t bytes = 0;
    bool raw = true;
    uint16_t count;

    if (port->ring != NULL)
        count = (uint16_t)ring_receive(port, burst, touch, &bytes);
    else
        count = rte_eth_rx_burst(port->id, 0, mbufs, burst);
    counter_add(&port->rx_polls, 1);
    if (count == 0) {
        counter_add(&port->rx_empty, 1);
        return 0;
    }
    counter_add(&port->rx_bursts_full, count == burst);
    counter_add(&port->rx_frames, count);
    if (port->ring != NULL) {
        counter_add(&port->rx_bytes, bytes);
        return count;
    }
    for (uint16_t i = 0; i < count; i++) {
        for (const struct rte_mbuf *seg = mbufs[i]; touch && seg != NULL; seg = seg->next)
            rate->sum += touch_read(rte_pktmbuf_mtod(seg, const uint8_t *), seg->data_len);
        bytes += mbufs[i]->pkt_len;
        raw &= mbufs[i]->nb_segs == 1 && mbufs[i]->pool == port->rx_pool;
    }
    counter_add(&port->rx_bytes, bytes);
    if (raw)
        rte_mempool_ops_enqueue_bulk(port->rx_pool, (void *const *)mbufs, count);
    else
        rte_pktmbuf_free_bulk(mbufs, count);
    return count;
}

static unsigned forward(struct port *from, struct port *to, uint16_t burst)
{
    uint64_t bytes = 0;
    unsigned count = ring_forward(from, to, burst, &bytes);

    counter_add(&from->rx_polls, 1);
    counter_add(&from->rx_empty, count == 0);
    counter_add(&from->rx_bursts_full, count == burst);
    counter_add(&from->rx_frames, count);
    counter_add(&from->rx_bytes, bytes);
    counter_add(&to->tx_frames, count);
    return count;
}

static unsigned appliance(struct traffic *t, unsigned index)
{
    struct reflect *r = &t->reflects[index];

    if (r->arm[0].from->ring == NULL)
        return reflect_run(r, t->config->burst);
    return forward(r->arm[0].from, r->arm[0].to, t->config->burst) +
           forward(r->arm[1].from, r->arm[1].to, t->config->burst);
}

static void snapshot_take(const struct rate *rate, struct snapshot *snapshot, uint64_t tsc)
{
    snapshot->tsc = tsc;
    snapshot->idle = rate->idle;
    for (unsigned i = 0; i < rate->t->config->port_count; i++) {
        const struct port *port = &rate->t->ports[i];
        snapshot->port[i].tx_frames = port->tx_frames;
        snapshot->port[i].tx_bursts = port->tx_bursts;
        snapshot->port[i].tx_full = port->tx_full;
        snapshot->port[i].rx_frames = port->rx_frames;
        snapshot->port[i].rx_bytes = port->rx_bytes;
        snapshot->port[i].rx_polls = port->rx_polls;
        snapshot->port[i].rx_empty = port->rx_empty;
        snapshot->port[i].rx_bursts_full = port->rx_bursts_full;
    }
}

// A warm-up and then `count` windows, one after the other, into count + 1 snapshots.
static __rte_always_inline void measure(struct rate *rate, unsigned first, unsigned count, struct snapshot *snapshots,
                                        bool touch)
{
    const struct config *config = rate->t->config;
    uint64_t hz = rte_get_tsc_hz();
    uint64_t before = rte_rdtsc(), now, next = before + (uint64_t)(config->warmup_s * (double)hz);
    unsigned taken = 0;

    while (traffic_stop == 0) {
        unsigned moved = 0;

        for (unsigned i = 0; i < rate->tx_count; i++)
            moved += transmit(config, &rate->tx[i], touch);
        for (unsigned i = 0; i < rate->rx_count; i++)
            moved += receive(rate, rate->rx[i], config->burst, touch);
        for (unsigned i = 0; i < config->reflect_count; i++)
            moved += appliance(rate->t, i);
        now = rte_rdtsc();
        if (moved == 0)
            rate->idle += now - before;
        before = now;
        if (now < next)
            continue;
        // The first snapshot ends the warm-up and begins the first window.
        snapshot_take(rate, &snapshots[taken], now);
        __atomic_store_n(&rate->windows_done, first + taken, __ATOMIC_RELEASE);
        if (taken++ == count)
            break;
        next = now + (uint64_t)(config->window_s * (double)hz);
    }
}

// Waits for the request of a window. Returns whether there is one.
static bool wait_wanted(const struct rate *rate, unsigned window)
{
    while (traffic_stop == 0) {
        bool last = __atomic_load_n(&rate->last_wanted, __ATOMIC_ACQUIRE);

        if (__atomic_load_n(&rate->windows_wanted, __ATOMIC_ACQUIRE) > window)
            return true;
        if (last)
            return false;
        usleep(REQUEST_US);
    }
    return false;
}

static __rte_always_inline void run(struct rate *rate, bool touch)
{
    const struct config *config = rate->t->config;

    if (!config->on_request) {
        measure(rate, 0, config->windows, rate->snapshots, touch);
        return;
    }
    for (unsigned window = 0; window < config->windows && wait_wanted(rate, window); window++)
        measure(rate, window, 1, &rate->snapshots[2 * window], touch);
}

static int worker(void *arg)
{
    struct rate *rate = arg;

    if (rate->t->config->touch)
        run(rate, true);
    else
        run(rate, false);
    for (unsigned i = 0; i < rate->tx_count; i++)
        rte_pktmbuf_free_bulk(rate->tx[i].pending + rate->tx[i].pending_at, rate->tx[i].pending_count);
    __atomic_store_n(&rate->t->done, true, __ATOMIC_RELEASE);
    return 0;
}

static double round_to(double value, double unit)
{
    return round(value / unit) * unit;
}

static void window_print(const struct rate *rate, unsigned window)
{
    const struct snapshot *from = &rate->snapshots[rate->t->config->on_request ? 2 * window : window], *to = from + 1;
    double seconds = (double)(to->tsc - from->tsc) / (double)rte_get_tsc_hz(), rx_mpps = 0, tx_mpps = 0;
    json_t *ports = json_array(), *root;

    for (unsigned i = 0; i < rate->t->config->port_count; i++) {
        uint64_t tx = to->port[i].tx_frames - from->port[i].tx_frames;
        uint64_t rx = to->port[i].rx_frames - from->port[i].rx_frames;
        double tx_share = (double)(to->port[i].tx_full - from->port[i].tx_full) /
                          fmax(1, (double)(to->port[i].tx_bursts - from->port[i].tx_bursts));
        double polls = fmax(1, (double)(to->port[i].rx_polls - from->port[i].rx_polls));
        uint64_t bytes = to->port[i].rx_bytes - from->port[i].rx_bytes;

        tx_mpps += (double)tx / seconds / 1e6;
        rx_mpps += (double)rx / seconds / 1e6;
        json_array_append_new(
            ports,
            json_pack("{s:s, s:f, s:f, s:f, s:f, s:f, s:f}", "port", rate->t->ports[i].spec->name, "tx_mpps",
                      round_to((double)tx / seconds / 1e6, 1e-4), "rx_mpps", round_to((double)rx / seconds / 1e6, 1e-4),
                      "rx_gbps", round_to((double)bytes * 8 / seconds / 1e9, 1e-4), "tx_full_share",
                      round_to(tx_share, 1e-3), "rx_empty_share",
                      round_to((double)(to->port[i].rx_empty - from->port[i].rx_empty) / polls, 1e-3), "rx_full_share",
                      round_to((double)(to->port[i].rx_bursts_full - from->port[i].rx_bursts_full) / polls, 1e-3)));
    }
    root = json_pack("{s:s, s:i, s:f, s:f, s:f, s:f, s:b, s:s, s:s, s:o}", "mode", "rate", "window", (int)window,
                     "seconds", round_to(seconds, 1e-6), "rx_mpps", round_to(rx_mpps, 1e-4), "tx_mpps",
                     round_to(tx_mpps, 1e-4), "idle_share",
                     round_to((double)(to->idle - from->idle) / (double)(to->tsc - from->tsc), 1e-3), "touch",
                     rate->t->config->touch, "memory", rate->t->memory, "driver",
                     rate->t->config->virtio_user ? "virtio-user" : "ring", "ports", ports);
    json_dumpf(root, stdout, JSON_REAL_PRECISION(8));
    putchar('\n');
    fflush(stdout);
    json_decref(root);
}

static int rate_setup(struct rate *rate, struct traffic *t)
{
    const struct config *config = t->config;
    uint32_t rx_mask = config->monitor_mask;

    rate->t = t;
    for (unsigned i = 0; i < config->stream_count; i++) {
        struct port *port = &t->ports[config->streams[i].tx];

        rx_mask |= config->streams[i].rx_mask;
        for (unsigned j = 0; j < rate->tx_count; j++) {
            if (rate->tx[j].port == port) {
                warnx("rate: port %s sends two streams; one is all it can do", port->spec->name);
                return -1;
            }
        }
        rate->tx[rate->tx_count++].port = port;
    }
    for (unsigned i = 0; i < config->port_count; i++) {
        if ((rx_mask & 1u << i) != 0)
            rate->rx[rate->rx_count++] = &t->ports[i];
    }
    touch_init();
    rate->snapshots = calloc(config->on_request ? 2 * config->windows : config->windows + 1, sizeof(*rate->snapshots));
    return rate->snapshots == NULL ? -1 : 0;
}

// Sleeps a little; on request each line on stdin is one window more that may begin.
static void await(struct rate *rate)
{
    bool asks = rate->t->config->on_request && !rate->last_wanted;
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    unsigned lines = 0;
    char text[256];
    ssize_t got;

    if (poll(&in, asks ? 1 : 0, POLL_MS) <= 0)
        return;
    got = read(STDIN_FILENO, text, sizeof(text));
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    for (ssize_t i = 0; i < got; i++)
        lines += text[i] == '\n';
    __atomic_store_n(&rate->windows_wanted, rate->windows_wanted + lines, __ATOMIC_RELEASE);
    if (got <= 0)
        __atomic_store_n(&rate->last_wanted, true, __ATOMIC_RELEASE);
}

int rate_run(struct traffic *t)
{
    struct rate *rate = calloc(1, sizeof(*rate));
    unsigned printed = 0, done;
    bool ended;
    int code = EXIT_SETUP;

    if (rate == NULL || rate_setup(rate, t) < 0)
        goto out;
    if (rte_eal_remote_launch(worker, rate, t->lcore) != 0) {
        warnx("the worker can't be launched");
        goto out;
    }
    do {
        await(rate);
        ended = __atomic_load_n(&t->done, __ATOMIC_ACQUIRE);
        done = __atomic_load_n(&rate->windows_done, __ATOMIC_ACQUIRE);
        while (printed < done)
            window_print(rate, printed++);
    } while (!ended);
    rte_eal_wait_lcore(t->lcore);
    // On request it is whoever asks that says how many there are.
    code = printed == (t->config->on_request ? rate->windows_wanted : t->config->windows) ? EXIT_DONE : EXIT_CHECK;

out:
    if (rate != NULL)
        free(rate->snapshots);
    free(rate);
    return code;
}
