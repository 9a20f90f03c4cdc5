// SPDX-License-Identifier: BSD-3-Clause

// Making and removing a vif over an ethdev. Device thread.

#include "eal.h"
#include "eal_log.h"
#include "offload.h"
#include "vif_ethdev.h"
#include "worker.h"

#include <errno.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    RING_SIZE = 1024, // descriptors a queue
    TAP_SEGMENTS = 8, // a TAP's receive descriptors are the buffers of one frame
    MTU_MAX = LIMIT_FRAME_MAX - RTE_ETHER_HDR_LEN,
    TAG_AND_HEADER = 18, // that a device takes above its MTU
};

// What a device may complete for a guest. Which path a driver takes to transmit
// depends on MULTI_SEGS already.
static const uint64_t OFFLOADS = RTE_ETH_TX_OFFLOAD_IPV4_CKSUM | RTE_ETH_TX_OFFLOAD_UDP_CKSUM |
                                 RTE_ETH_TX_OFFLOAD_TCP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_TSO;

static bool is_tap(const struct rte_eth_dev_info *info)
{
    return strcmp(info->driver_name, "net_tap") == 0;
}

// Events of a virtual device's link depend on its driver and its mood (a
// virtio-user device that shares its interrupt with its queues has none), and
// with them on its link can't be asked any more.
static bool has_link_events(const struct rte_eth_dev_info *info)
{
    return (*info->dev_flags & RTE_ETH_DEV_INTR_LSC) && strcmp(rte_bus_name(rte_dev_bus(info->device)), "vdev") != 0;
}

// The largest MTU that the device takes, within our limit: bytes.
static uint16_t choose_mtu(const struct rte_eth_dev_info *info, uint16_t room)
{
    uint32_t overhead = RTE_ETHER_HDR_LEN + RTE_ETHER_CRC_LEN;
    uint32_t mtu = MTU_MAX, longest = info->max_rx_pktlen;

    // As ethdev itself reckons it.
    if (info->max_mtu != UINT16_MAX && info->max_rx_pktlen > info->max_mtu)
        overhead = info->max_rx_pktlen - info->max_mtu;
    // A frame is received into one buffer, unless the device can scatter it.
    if (!(info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER))
        longest = RTE_MIN(longest, (uint32_t)room);
    if (longest > overhead)
        mtu = RTE_MIN(mtu, longest - overhead);
    mtu = RTE_MIN(mtu, (uint32_t)info->max_mtu);
    return (uint16_t)RTE_MAX(mtu, (uint32_t)info->min_mtu);
}

// Configures the device with what it has of link and receive interrupts: some
// drivers refuse only when they are tried.
static int configure(struct ethdev *dev, const struct rte_eth_dev_info *info, uint16_t queues,
                     struct rte_eth_conf *conf)
{
    int error = -EINVAL;

    memset(conf, 0, sizeof(*conf));
    conf->rxmode.mtu = choose_mtu(info, dev->room);
    conf->rxmode.offloads = info->rx_offload_capa & RTE_ETH_RX_OFFLOAD_SCATTER;
    if (conf->rxmode.mtu + TAG_AND_HEADER <= dev->room && !is_tap(info))
        conf->rxmode.offloads = 0;
    // Not MBUF_FAST_FREE: an mbuf may be another device's, or shared with a tap.
    conf->txmode.offloads = info->tx_offload_capa & RTE_ETH_TX_OFFLOAD_MULTI_SEGS;
    // A TAP's are its driver's own, in software: ours do without its copy.
    if (!is_tap(info))
        conf->txmode.offloads |= info->tx_offload_capa & OFFLOADS;
    for (int attempt = 0; attempt < 3 && error != 0; attempt++) {
        conf->intr_conf.rxq = attempt == 0;
        conf->intr_conf.lsc = has_link_events(info) && attempt < 2;
        error = rte_eth_dev_configure(dev->port, queues, queues, conf);
    }
    dev->link_events = conf->intr_conf.lsc;
    return error;
}

static int set_up_queues(struct ethdev *dev, const struct rte_eth_dev_info *info, uint16_t queues,
                         const struct rte_eth_conf *conf)
{
    struct rte_eth_rxconf rx = info->default_rxconf;
    struct rte_eth_txconf tx = info->default_txconf;
    uint16_t rx_size = RING_SIZE, tx_size = RING_SIZE;
    int socket = rte_eth_dev_socket_id(dev->port);
    int error = rte_eth_dev_adjust_nb_rx_tx_desc(dev->port, &rx_size, &tx_size);

    if (is_tap(info))
        rx_size = TAP_SEGMENTS;
    rx.offloads = conf->rxmode.offloads;
    tx.offloads = conf->txmode.offloads;
    for (uint16_t queue = 0; queue < queues && error == 0; queue++) {
        error = rte_eth_rx_queue_setup(dev->port, queue, rx_size, (unsigned)socket, &rx, dev->pool);
        if (error == 0)
            error = rte_eth_tx_queue_setup(dev->port, queue, tx_size, (unsigned)socket, &tx);
        dev->txq[queue].window = LIMIT_BURST_FRAMES;
    }
    dev->ring_size[0] = rx_size;
    dev->ring_size[1] = tx_size;
    return error;
}

// CWR in segments is done in software: no driver says what its device makes of it.
static void learn_offloads(struct ethdev *dev, const struct rte_eth_dev_info *info, uint64_t offloads)
{
    const uint64_t sums = RTE_ETH_TX_OFFLOAD_UDP_CKSUM | RTE_ETH_TX_OFFLOAD_TCP_CKSUM;

    dev->offloads = 0;
    dev->tso_max = 0;
    dev->sums_ip = offloads & RTE_ETH_TX_OFFLOAD_IPV4_CKSUM;
    if ((offloads & sums) != sums)
        return;
    dev->offloads = OFFLOAD_CSUM;
    if (!(offloads & RTE_ETH_TX_OFFLOAD_TCP_TSO) || !(offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS))
        return;
    dev->offloads |= OFFLOAD_TSO;
    dev->tso_max = info->tx_desc_lim.nb_seg_max > 0 ? info->tx_desc_lim.nb_seg_max : UINT16_MAX;
}

// What is given to it from now on.
static void note_mtu(struct ethdev *dev, uint16_t mtu)
{
    atomic_store_explicit(&dev->mtu, mtu, memory_order_relaxed);
    atomic_store_explicit(&dev->frame_max, (uint32_t)mtu + TAG_AND_HEADER, memory_order_relaxed);
}

// What its transmit takes.
static void learn_limits(struct ethdev *dev, const struct rte_eth_dev_info *info, const struct rte_eth_conf *conf)
{
    dev->segments_max = 1;
    if (conf->txmode.offloads & RTE_ETH_TX_OFFLOAD_MULTI_SEGS)
        dev->segments_max = info->tx_desc_lim.nb_mtu_seg_max > 0 ? info->tx_desc_lim.nb_mtu_seg_max : UINT16_MAX;
    learn_offloads(dev, info, conf->txmode.offloads);
    dev->mtu_max = (uint16_t)(RTE_MIN(RTE_MIN((uint32_t)conf->rxmode.mtu + TAG_AND_HEADER, (uint32_t)LIMIT_FRAME_MAX),
                                      (uint32_t)dev->room * dev->segments_max) -
                              TAG_AND_HEADER);
    note_mtu(dev, dev->mtu_max);
}

static int start(struct ethdev *dev, const struct rte_eth_dev_info *info, uint16_t queues)
{
    struct rte_eth_conf conf;
    struct rte_ether_addr mac;
    int error = configure(dev, info, queues, &conf);

    if (error == 0)
        error = set_up_queues(dev, info, queues, &conf);
    if (error == 0)
        error = rte_eth_dev_start(dev->port);
    if (error != 0 && conf.intr_conf.rxq) {
        // Some drivers find only now that there is no receive interrupt.
        conf.intr_conf.rxq = 0;
        error = rte_eth_dev_configure(dev->port, queues, queues, &conf);
        if (error == 0)
            error = set_up_queues(dev, info, queues, &conf);
        if (error == 0)
            error = rte_eth_dev_start(dev->port);
    }
    if (error != 0)
        return error;
    // A TAP gets all frames as it is, and it would be its kernel end that becomes promiscuous.
    if (!is_tap(info)) {
        error = rte_eth_promiscuous_enable(dev->port);
        if (error != 0 && error != -ENOTSUP && error != -ENOSYS) {
            rte_eth_dev_stop(dev->port);
            return error;
        }
    }
    if (rte_eth_macaddr_get(dev->port, &mac) == 0)
        memcpy(dev->mac, mac.addr_bytes, sizeof(dev->mac));
    learn_limits(dev, info, &conf);
    return 0;
}

// The pool of the device's NUMA node decides how much of a frame one mbuf takes.
static int take_pool(struct ethdev *dev, char *reason, size_t reason_size)
{
    dev->pool = eal_mempool(rte_eth_dev_socket_id(dev->port));
    if (dev->pool == NULL) {
        snprintf(reason, reason_size, "no memory for packet buffers (%s): give EAL more (--hugepages MB, or -- -m MB)",
                 rte_strerror(rte_errno));
        return -ENOMEM;
    }
    dev->room = rte_pktmbuf_data_room_size(dev->pool) - RTE_PKTMBUF_HEADROOM;
    return 0;
}

// Of a TAP the queue's descriptor is all that we need to write, to wait and
// to follow its link.
static int take_tap(struct ethdev *dev, char *reason, size_t reason_size)
{
    dev->tap_fd = dev->wake_fd[0];
    dev->quiet_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (dev->tap_fd < 0 || dev->quiet_fd < 0) {
        snprintf(reason, reason_size, "the TAP's descriptor can't be had: %s", strerror(errno));
        return -EIO;
    }
    dev->is_tap = true;
    dev->mtu_max = LIMIT_MTU;
    note_mtu(dev, dev->mtu_max);
    return 0;
}

static int bring_up(struct ethdev *dev, struct vif *vif, uint16_t mtu, char *reason, size_t reason_size)
{
    struct rte_eth_dev_info info;
    char said[512];
    int error;

    error = rte_eth_dev_info_get(dev->port, &info);
    if (error != 0) {
        snprintf(reason, reason_size, "the device doesn't say what it can do: %s", rte_strerror(-error));
        return error;
    }
    error = take_pool(dev, reason, reason_size);
    if (error != 0)
        return error;
    eal_log_capture_begin(true);
    error = start(dev, &info, vif->queue_count);
    eal_log_capture_end(said, sizeof(said));
    if (error != 0) {
        snprintf(reason, reason_size, "the device doesn't start: %s", said[0] != '\0' ? said : rte_strerror(-error));
        return error;
    }
    vif_ethdev_wake_init(dev, vif->queue_count);
    error = is_tap(&info) ? take_tap(dev, reason, reason_size) : 0;
    if (error == 0 && vif->kind == VIF_KERNEL_NEW)
        error = vif_ethdev_kernel_name(vif, vif->target, reason, reason_size);
    if (error == 0 && mtu != 0)
        error = vif_ethdev_set_mtu(vif, mtu, reason, reason_size);
    if (error == 0)
        error = vif_ethdev_link_add(dev, reason, reason_size);
    if (error != 0)
        rte_eth_dev_stop(dev->port);
    return error;
}

int vif_ethdev_set_mtu(struct vif *vif, uint16_t mtu, char *reason, size_t reason_size)
{
    enum { KERNELS_OWN = 1500 }; // what a new kernel interface has
    struct ethdev *dev = vif_ethdev(vif);
    uint16_t wanted = mtu != 0 ? mtu : dev->mtu_max;
    int error;

    if (wanted > dev->mtu_max) {
        snprintf(reason, reason_size, "the device takes an MTU of up to %u bytes", dev->mtu_max);
        return -ERANGE;
    }
    // A TAP takes frames of all lengths, whatever its kernel interface has. Its driver knows that by a name that it may
    // not have any more.
    if (dev->is_tap) {
        error = vif_ethdev_kernel_set_mtu(dev->tap_fd, mtu != 0 ? mtu : KERNELS_OWN, reason, reason_size);
        if (error == 0)
            note_mtu(dev, wanted);
        return error;
    }
    error = rte_eth_dev_set_mtu(dev->port, wanted);
    if (error == 0) {
        note_mtu(dev, wanted);
        return 0;
    }
    // Ethdev's own check against what the driver says of itself.
    if (error == -EINVAL) {
        snprintf(reason, reason_size, "the device doesn't take an MTU of %u bytes", wanted);
        return -ERANGE;
    }
    if (error == -ENOTSUP || error == -ENOSYS) {
        snprintf(reason, reason_size, "its driver can't set an MTU");
        return -ENOTSUP;
    }
    if (error == -EBUSY) {
        snprintf(reason, reason_size, "its driver can't set an MTU while the device runs");
        return -EBUSY;
    }
    snprintf(reason, reason_size, "the device refuses an MTU of %u bytes: %s", wanted, rte_strerror(-error));
    return -EIO;
}

static void dev_free(struct ethdev *dev)
{
    if (dev->quiet_fd >= 0)
        close(dev->quiet_fd);
    free(dev);
}

static int create(struct vif *vif, const struct vif_config *config, char *reason, size_t reason_size)
{
    struct rte_eth_dev_info info;
    struct ethdev *dev = NULL;
    int error;

    if (posix_memalign((void **)&dev, _Alignof(struct ethdev), sizeof(*dev)) != 0) {
        snprintf(reason, reason_size, "out of memory");
        return -ENOMEM;
    }
    memset(dev, 0, sizeof(*dev));
    dev->vif = vif;
    dev->tap_fd = -1;
    dev->quiet_fd = -1;
    if (config->kind == VIF_KERNEL_NEW) {
        error = vif_ethdev_kernel_probe(vif, config->target, &dev->port, reason, reason_size);
    } else {
        error = vif_ethdev_probe(config->target, &dev->port, reason, reason_size);
    }
    if (error == 0) {
        vif->private = dev;
        // Known by the probe to work.
        if (rte_eth_dev_info_get(dev->port, &info) == 0)
            dev->device = info.device;
        error = bring_up(dev, vif, config->mtu, reason, reason_size);
        if (error != 0)
            vif_ethdev_remove(dev->port, dev->device);
    }
    if (error != 0) {
        vif->private = NULL;
        dev_free(dev);
    }
    return error;
}

// Frees what waits: in our stash, and, since a software ring's driver forgets
// what it holds, in the device.
static void drain(struct vif *vif, uint16_t queue)
{
    struct ethdev_rxq *rxq = &vif_ethdev(vif)->rxq[queue];

    // Bounded: a busy device never runs dry.
    for (unsigned i = 0; i < 2 * RING_SIZE / LIMIT_BURST_FRAMES; i++) {
        rte_pktmbuf_free_bulk(&rxq->mbufs[rxq->head], (unsigned)(rxq->count - rxq->head));
        if (vif_ethdev_poll(vif, queue) == 0)
            return;
    }
    rte_pktmbuf_free_bulk(rxq->mbufs, rxq->count);
}

static void destroy(struct vif *vif)
{
    struct ethdev *dev = vif_ethdev(vif);
    char said[512];

    vif_ethdev_link_remove(dev);
    for (uint16_t queue = 0; queue < vif->queue_count; queue++) {
        if (dev->wake_fd[queue] >= 0)
            worker_forget_fd(dev->wake_fd[queue]);
        drain(vif, queue);
    }
    // A TAP that is gone, or in another network namespace, is still asked to go down.
    eal_log_capture_begin(true);
    rte_eth_dev_stop(dev->port);
    eal_log_capture_end(said, sizeof(said));
    vif_ethdev_remove(dev->port, dev->device);
    vif->private = NULL;
    dev_free(dev);
}

static void read_state(struct vif *vif, struct vif_state *state)
{
    const struct ethdev *dev = vif_ethdev(vif);
    struct rte_eth_link link;

    state->ring_size[0] = dev->ring_size[0];
    state->ring_size[1] = dev->ring_size[1];
    state->takes_csum = (dev->offloads & OFFLOAD_CSUM) != 0;
    state->takes_tso = (dev->offloads & OFFLOAD_TSO) == OFFLOAD_TSO;
    state->mtu = atomic_load_explicit(&dev->mtu, memory_order_relaxed);
    memcpy(state->mac, dev->mac, sizeof(state->mac));
    state->numa_node = rte_eth_dev_socket_id(dev->port);
    if (rte_eth_link_get_nowait(dev->port, &link) == 0 && link.link_speed != RTE_ETH_SPEED_NUM_UNKNOWN)
        state->speed_mbps = link.link_speed;
}

static bool each_statistic(struct vif *vif, void (*each)(void *arg, const char *name, uint64_t value), void *arg)
{
    const uint16_t port = vif_ethdev(vif)->port;
    int count = rte_eth_xstats_get_names(port, NULL, 0);
    struct rte_eth_xstat_name *names = count > 0 ? calloc((size_t)count, sizeof(*names)) : NULL;
    struct rte_eth_xstat *values = count > 0 ? calloc((size_t)count, sizeof(*values)) : NULL;
    bool good = names != NULL && values != NULL && rte_eth_xstats_get_names(port, names, (unsigned)count) == count &&
                rte_eth_xstats_get(port, values, (unsigned)count) == count;

    // A value's id is its name's place.
    for (int i = 0; good && i < count; i++)
        if (values[i].id < (uint64_t)count)
            each(arg, names[values[i].id].name, values[i].value);
    free(names);
    free(values);
    return good;
}

static void read_count(struct vif *vif, struct vif_count *count)
{
    struct rte_eth_stats stats;

    if (rte_eth_stats_get(vif_ethdev(vif)->port, &stats) != 0)
        return;
    count->rx_missed = stats.imissed;
    count->rx_errors = stats.ierrors + stats.rx_nombuf;
}

const struct vif_ops vif_ethdev_ops = {
    .receive = vif_ethdev_receive,
    .complete = vif_ethdev_complete,
    .transmit = vif_ethdev_transmit,
    .takes = vif_ethdev_takes,
    .arm = vif_ethdev_arm,
    .disarm = vif_ethdev_disarm,
    .wake_fd = vif_ethdev_wake_fd,
    .create = create,
    .destroy = destroy,
    .read_state = read_state,
    .read_count = read_count,
    .each_statistic = each_statistic,
    .set_mtu = vif_ethdev_set_mtu,
};
