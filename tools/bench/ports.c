// SPDX-License-Identifier: BSD-3-Clause
// Opening and closing ports. All memory is taken before the first device exists, so that virtio-user never has to send
// a new memory table. Opening a server port waits inside DPDK for the first connection; a timer signal interrupts
// that when the time is over.
#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <bsd/string.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <rte_log.h>

#include "ring.h"
#include "traffic.h"

enum {
    CACHE = 256,     // mbufs in the worker's cache of a pool
    RX_SLACK = 1024, // mbufs beyond those in rings and cache: bursts, and frames of several buffers
    BUF_SMALL = 2048,
    RETRY_US = 100 * 1000,
    CLOSE_S = 2,
};

static double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

// Lets SIGALRM interrupt blocking calls of the main thread after `seconds` and every 100 ms from then on (again and
// again, since the first may come just before the call). 0 seconds: no more.
static void interrupt_after(double seconds)
{
    struct itimerval timer = {.it_interval = {.tv_usec = RETRY_US}};

    if (seconds > 0) {
        timer.it_value.tv_sec = (time_t)seconds;
        timer.it_value.tv_usec = (suseconds_t)((seconds - (double)timer.it_value.tv_sec) * 1e6) + 1;
    } else {
        timer.it_interval.tv_usec = 0;
    }
    setitimer(ITIMER_REAL, &timer, NULL);
}

// What a pool's mbufs are prepared with: sent without another touch in rate mode.
struct prepared {
    uint16_t len;
    uint16_t stream;
};

static void prepare_mbuf(struct rte_mempool *pool, void *arg, void *object, unsigned index)
{
    const struct prepared *prepared = arg;
    struct rte_mbuf *mbuf = object;

    (void)pool;
    rte_pktmbuf_reset(mbuf);
    mbuf->data_len = prepared->len;
    mbuf->pkt_len = prepared->len;
    frame_write(rte_pktmbuf_mtod(mbuf, uint8_t *), prepared->len, prepared->stream, index);
}

// The worker alone uses the pools while it runs, so they need no atomic operations.
static struct rte_mempool *pool_create(const struct port *port, const char *what, unsigned index, unsigned count,
                                       unsigned cache, unsigned size)
{
    char name[RTE_MEMPOOL_NAMESIZE];
    struct rte_mempool *pool;

    snprintf(name, sizeof(name), "%s%u-%.12s", what, index, port->spec->name);
    size = RTE_PKTMBUF_HEADROOM + ((size + 63) & ~63u);
    pool = rte_pktmbuf_pool_create_by_ops(name, count, cache, 0, (uint16_t)size, SOCKET_ID_ANY, "ring_sp_sc");
    if (pool == NULL)
        warnx("port %s: no memory for %u buffers of %u bytes: %s", port->spec->name, count, size,
              rte_strerror(rte_errno));
    return pool;
}

static unsigned at_least(unsigned count, unsigned least)
{
    return count > least ? count : least;
}

static int rx_pool_create(struct traffic *t, unsigned index)
{
    const struct config *config = t->config;
    struct port *port = &t->ports[index];
    const struct port_spec *spec = port->spec;
    // An appliance's received buffers stand in the other arm's transmit ring too.
    unsigned count = spec->queue_size * 2u * spec->queues + CACHE * 3 / 2 + RX_SLACK, cache = CACHE,
             room = spec->buf_size;

    if (room == 0)
        room = spec->mrg || config->sizes.max <= BUF_SMALL ? BUF_SMALL : config->sizes.max;
    if (config->sizes.max > room)
        count += TRAFFIC_BURST_MAX * (config->sizes.max / room) * 2;
    if (config->mode == TRAFFIC_RATE) {
        count = at_least(config->pool, count);
        // Buffers of an appliance come back by the driver's hand, into the cache and out of it again: without one they
        // take turns like all others.
        for (unsigned i = 0; i < config->reflect_count; i++) {
            if (config->reflects[i].in == index || config->reflects[i].out == index)
                cache = 0;
        }
    }
    port->rx_pool = pool_create(port, "rx", index, count, cache, room);
    return port->rx_pool == NULL ? -ENOMEM : 0;
}

static int pools_create(struct traffic *t, unsigned index)
{
    const struct config *config = t->config;
    struct port *port = &t->ports[index];
    unsigned pools = config->mode == TRAFFIC_RATE && config->sizes.mode == FRAME_IMIX ? FRAME_SIZES_MAX : 1;
    unsigned count =
        (port->spec->queue_size * port->spec->queues + TRAFFIC_BURST_MAX * config->stream_count) * port->spec->segs +
        CACHE * 2;
    int r = rx_pool_create(t, index);

    if (config->mode == TRAFFIC_RATE)
        count = at_least(config->pool, count);
    for (unsigned i = 0; r == 0 && i < config->stream_count; i++) {
        if (config->streams[i].tx != index || port->tx_pool[0] != NULL)
            continue;
        for (unsigned j = 0; j < pools; j++) {
            struct prepared prepared = {pools > 1 ? frame_imix_len[j] : config->sizes.max, (uint16_t)i};
            // All of IMIX together has the working set of one size.
            unsigned share = pools > 1 ? count * frame_imix_weight[j] / FRAME_IMIX_PERIOD + CACHE * 2 : count;

            port->tx_pool[j] = pool_create(port,
                                           j == 0   ? "tx"
                                           : j == 1 ? "ty"
                                                    : "tz",
                                           index, share, CACHE, at_least(prepared.len, BUF_SMALL));
            if (port->tx_pool[j] == NULL)
                return -ENOMEM;
            rte_mempool_obj_iter(port->tx_pool[j], prepare_mbuf, &prepared);
        }
    }
    return r;
}

// Removes a socket that a killed process left. A socket that somebody listens on is an error.
static int server_path_clear(const struct port *port)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = port->spec->target;
    struct stat status;
    int fd, r;

    if (lstat(path, &status) != 0)
        return errno == ENOENT ? 0 : -errno;
    if (!S_ISSOCK(status.st_mode)) {
        warnx("port %s: %s exists and is no socket", port->spec->name, path);
        return -ENOTSOCK;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    strlcpy(address.sun_path, path, sizeof(address.sun_path));
    r = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EAGAIN ? -EADDRINUSE : -errno;
    close(fd);
    if (r == -ECONNREFUSED)
        return unlink(path) == 0 ? 0 : -errno;
    warnx("port %s: somebody listens on %s already", port->spec->name, path);
    return -EADDRINUSE;
}

static bool port_known(const struct traffic *t, unsigned count, uint16_t id)
{
    for (unsigned i = 0; i < count; i++) {
        if (t->ports[i].id == id)
            return true;
    }
    return false;
}

static int port_probe(struct traffic *t, unsigned index, double deadline)
{
    struct port *port = &t->ports[index];
    const struct port_spec *spec = port->spec;
    char devargs[TRAFFIC_TARGET_SIZE + 160];
    struct stat status;
    uint16_t id;
    int r = 0;

    if (spec->is_dev) {
        strlcpy(devargs, spec->target, sizeof(devargs));
    } else {
        snprintf(devargs, sizeof(devargs),
                 "net_virtio_user%u,path=%s,queues=%u%s,queue_size=%u,mrg_rxbuf=%d,in_order=%d,packed_vq=%d,"
                 "vectorized=%d,mac=02:50:42:00:00:%02x%s",
                 index, spec->target, spec->queues, spec->queues > 1 ? ",cq=1" : "", spec->queue_size, spec->mrg,
                 spec->in_order, spec->packed, spec->vectorized, index + 1, spec->server ? ",server=1" : "");
    }
    for (;;) {
        // Each try, since DPDK leaves its socket behind when the first connection breaks off.
        if (!spec->is_dev && spec->server && (r = server_path_clear(port)) < 0)
            return r;
        bool there = spec->is_dev || spec->server || stat(spec->target, &status) == 0;
        if (there) {
            interrupt_after(deadline - now_s() > 0.1 ? deadline - now_s() : 0.1);
            r = rte_dev_probe(devargs);
            interrupt_after(0);
            if (r == 0)
                break;
        }
        if (traffic_stop != 0 || spec->is_dev || now_s() >= deadline) {
            if (!spec->is_dev && spec->server)
                server_path_clear(port);
            if (traffic_stop != 0)
                warnx("port %s: interrupted", spec->name);
            else if (spec->is_dev)
                warnx("port %s: DPDK can't open '%s': %s", spec->name, devargs, strerror(r < 0 ? -r : ENODEV));
            else
                warnx("port %s: no vhost-user back end %s %s within %g s", spec->name,
                      spec->server ? "connected to"
                      : there      ? "answered on"
                                   : "made the socket",
                      spec->target, t->config->wait_s);
            return -ETIMEDOUT;
        }
        usleep(RETRY_US);
    }
    RTE_ETH_FOREACH_DEV(id)
    {
        if (!port_known(t, index, id)) {
            port->id = id;
            return 0;
        }
    }
    warnx("port %s: '%s' made no Ethernet device", spec->name, devargs);
    return -ENODEV;
}

static int link_changed(uint16_t id, enum rte_eth_event_type type, void *arg, void *ret)
{
    struct port *port = arg;
    struct rte_eth_link link;

    (void)type;
    (void)ret;
    if (rte_eth_link_get_nowait(id, &link) == 0)
        __atomic_fetch_add(link.link_status == RTE_ETH_LINK_UP ? &port->link_up : &port->link_down, 1,
                           __ATOMIC_RELAXED);
    return 0;
}

static int port_start(struct traffic *t, struct port *port)
{
    const struct port_spec *spec = port->spec;
    unsigned mtu = t->config->sizes.max > 1514 ? t->config->sizes.max - RTE_ETHER_HDR_LEN : RTE_ETHER_MTU;
    struct rte_eth_conf conf = {0};
    struct rte_eth_dev_info info;
    int r = rte_eth_dev_info_get(port->id, &info);

    if (r < 0)
        goto failed;
    conf.intr_conf.lsc = (*info.dev_flags & RTE_ETH_DEV_INTR_LSC) != 0;
    // virtio has nothing to be told; its receive buffers are large enough or mergeable.
    if (spec->is_dev && mtu > RTE_ETHER_MTU && mtu <= info.max_mtu)
        conf.rxmode.mtu = mtu;
    conf.rxmode.offloads = info.rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER;
    conf.txmode.offloads = info.tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    r = rte_eth_dev_configure(port->id, spec->queues, spec->queues, &conf);
    for (uint16_t queue = 0; r == 0 && queue < spec->queues; queue++) {
        r = rte_eth_rx_queue_setup(port->id, queue, spec->queue_size, SOCKET_ID_ANY, NULL, port->rx_pool);
        if (r == 0)
            r = rte_eth_tx_queue_setup(port->id, queue, spec->queue_size, SOCKET_ID_ANY, NULL);
    }
    if (r == 0 && conf.intr_conf.lsc)
        r = rte_eth_dev_callback_register(port->id, RTE_ETH_EVENT_INTR_LSC, link_changed, port);
    if (r == 0)
        r = rte_eth_dev_start(port->id);
    if (r < 0)
        goto failed;
    port->started = true;
    rte_eth_promiscuous_enable(port->id);
    return 0;

failed:
    warnx("port %s: the device can't be started: %s", spec->name, strerror(-r));
    return r;
}

static int link_wait(struct traffic *t, double deadline)
{
    for (unsigned i = 0; i < t->config->port_count; i++) {
        struct rte_eth_link link = {0};

        if (port_is_ring(t->config, i))
            continue;
        while (rte_eth_link_get_nowait(t->ports[i].id, &link) != 0 || link.link_status != RTE_ETH_LINK_UP) {
            if (traffic_stop != 0)
                return -EINTR;
            if (now_s() >= deadline) {
                warnx("port %s: the link isn't up after %g s", t->ports[i].spec->name, t->config->wait_s);
                return -ETIMEDOUT;
            }
            usleep(RETRY_US / 10);
        }
    }
    return 0;
}

int ports_open(struct traffic *t)
{
    double deadline = now_s() + t->config->wait_s;
    int r;

    for (unsigned i = 0; i < t->config->port_count; i++) {
        t->ports[i].spec = &t->config->ports[i];
        t->ports[i].id = RTE_MAX_ETHPORTS;
    }
    for (unsigned i = 0; i < t->config->port_count; i++) {
        r = port_is_ring(t->config, i) ? 0 : pools_create(t, i);
        if (r < 0)
            return r;
    }
    r = ring_open(t);
    if (r < 0)
        return r;
    for (unsigned i = 0; i < t->config->port_count; i++) {
        if (port_is_ring(t->config, i))
            continue;
        r = port_probe(t, i, deadline);
        if (r < 0)
            return r;
        interrupt_after(deadline - now_s() > 0.1 ? deadline - now_s() : 0.1);
        r = port_start(t, &t->ports[i]);
        interrupt_after(0);
        if (r < 0)
            return r;
    }
    r = link_wait(t, deadline);
    // From here on back ends may come and go; that is counted, and no news for stderr.
    rte_log_set_level_pattern("pmd.net.virtio.*", RTE_LOG_CRIT);
    return r;
}

void ports_close(struct traffic *t)
{
    ring_close(t);
    for (unsigned i = 0; i < t->config->port_count; i++) {
        struct port *port = &t->ports[i];
        struct stat status;

        if (port->spec == NULL || port->id == RTE_MAX_ETHPORTS)
            continue;
        // Stopping asks the back end for its indices; one that hangs must not hang us.
        interrupt_after(CLOSE_S);
        if (port->started)
            rte_eth_dev_stop(port->id);
        rte_eth_dev_close(port->id);
        interrupt_after(0);
        if (port->spec->server && lstat(port->spec->target, &status) == 0 && S_ISSOCK(status.st_mode))
            unlink(port->spec->target);
    }
}

json_t *ports_json(const struct port *port)
{
    struct rte_eth_stats stats = {0};

    rte_eth_stats_get(port->id, &stats);
    return json_pack(
        "{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:i, s:i}", "port", port->spec->name, "tx_frames",
        (json_int_t)counter_read(&port->tx_frames), "tx_bursts", (json_int_t)counter_read(&port->tx_bursts), "tx_full",
        (json_int_t)counter_read(&port->tx_full), "rx_frames", (json_int_t)counter_read(&port->rx_frames), "rx_bytes",
        (json_int_t)counter_read(&port->rx_bytes), "rx_no_buffer", (json_int_t)stats.rx_nombuf, "rx_errors",
        (json_int_t)stats.ierrors, "foreign", (json_int_t)counter_read(&port->foreign), "corrupt",
        (json_int_t)counter_read(&port->corrupt), "misdelivered", (json_int_t)counter_read(&port->misdelivered),
        "tx_errors", (json_int_t)stats.oerrors, "link_up", (int)__atomic_load_n(&port->link_up, __ATOMIC_RELAXED),
        "link_down", (int)__atomic_load_n(&port->link_down, __ATOMIC_RELAXED));
}
