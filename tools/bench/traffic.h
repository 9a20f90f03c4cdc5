// SPDX-License-Identifier: BSD-3-Clause
// What the parts of patchbay-traffic share: the configuration that the command line makes, the open ports, and the
// two engines. One worker lcore runs an engine and owns every port and counter; the main thread only sleeps, reads
// counters (relaxed atomics, one writer each) for progress lines, and sets the stop word.
#ifndef BENCH_TRAFFIC_H
#define BENCH_TRAFFIC_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>
#include <rte_mbuf.h>
#include <rte_mempool.h>

#include "frame.h"

enum {
    TRAFFIC_PORTS_MAX = 16,    // ports; also the bits of a receiver mask
    TRAFFIC_STREAMS_MAX = 32,  // streams
    TRAFFIC_REFLECTS_MAX = 4,  // pairs of ports that are an appliance
    TRAFFIC_BURST_MAX = 64,    // frames a burst
    TRAFFIC_NAME_SIZE = 32,    // bytes of a port's name with its NUL
    TRAFFIC_TARGET_SIZE = 512, // bytes of a socket path or devargs with its NUL
    TRAFFIC_WINDOWS_MAX = 1000,
    TRAFFIC_LINGER_MS = 100, // after the last expected frame: time for a duplicate to show itself
};

// Sequence numbers that one stream may use: their bitmaps are 512 MiB of address space each, populated as used.
#define TRAFFIC_COUNT_MAX (UINT64_C(1) << 32)

// Exit codes.
enum { EXIT_DONE = 0, EXIT_CHECK = 1, EXIT_USAGE = 2, EXIT_SETUP = 3 };

enum traffic_mode { TRAFFIC_RATE, TRAFFIC_CHECK };
enum traffic_huge { HUGE_AUTO, HUGE_ON, HUGE_OFF };

struct port_spec {
    char name[TRAFFIC_NAME_SIZE];
    char target[TRAFFIC_TARGET_SIZE]; // socket path, or devargs when is_dev
    bool is_dev;
    bool server;
    bool mrg;
    bool in_order;
    bool packed;
    bool vectorized;
    uint16_t queues; // pairs; the streams that it sends take them in turn
    uint16_t queue_size;
    uint16_t buf_size; // bytes of frame that fit into one receive buffer; 0: chosen by the largest frame
    uint16_t segs;     // buffers over which a checked frame is spread on transmit
};

struct stream_spec {
    uint16_t tx; // index of the sending port
    uint16_t tx_queue;
    uint32_t rx_mask; // receiving ports, one bit each
};

struct reflect_spec {
    uint16_t in;
    uint16_t out;
};

struct config {
    enum traffic_mode mode;
    enum traffic_huge huge;
    int core; // CPU of the worker; -1: the last one of our affinity mask
    uint16_t burst;
    struct frame_sizes sizes;

    unsigned port_count, stream_count, reflect_count;
    struct port_spec ports[TRAFFIC_PORTS_MAX];
    struct stream_spec streams[TRAFFIC_STREAMS_MAX];
    struct reflect_spec reflects[TRAFFIC_REFLECTS_MAX];
    uint32_t monitor_mask;

    double wait_s;

    // rate
    bool touch;
    bool virtio_user; // sockets by DPDK's driver instead of our own rings
    unsigned pool;    // buffers of each port and direction that take turns
    double warmup_s;
    double window_s;
    unsigned windows;
    bool on_request; // a window, with a warm-up of its own, for each line on stdin; nothing is done in between

    // check
    uint64_t count;    // frames a stream; with a duration its upper bound
    double duration_s; // 0: until count
    double settle_s;
    double stall_s;
    uint64_t rate_pps; // 0: no limit
    bool lossless;
    bool allow_foreign;
    bool progress;
};

// An open port. The worker writes the counters, anybody reads them relaxed; link events come from DPDK's interrupt
// thread.
struct port {
    const struct port_spec *spec;
    struct ring_port *ring; // rate: our own driver; NULL for DPDK's
    uint16_t id;            // DPDK's port number
    bool started;
    struct rte_mempool *rx_pool;
    struct rte_mempool *tx_pool[FRAME_SIZES_MAX]; // rate: one for each size, prepared; check: the first alone

    uint64_t tx_frames, tx_bursts, tx_full; // tx_full: bursts that were cut short
    uint64_t rx_frames, rx_bytes, rx_polls, rx_empty, rx_bursts_full;
    uint64_t foreign, corrupt, misdelivered;
    uint32_t link_up, link_down;
};

// One direction of an appliance: frames wait in `pending` until the far port takes them, and no more are received
// meanwhile, so that nothing is ever dropped here.
struct reflect_arm {
    struct port *from;
    struct port *to;
    uint16_t pending_count, pending_at;
    struct rte_mbuf *pending[TRAFFIC_BURST_MAX];
    uint64_t frames;
};

struct reflect {
    struct reflect_arm arm[2];
};

struct traffic {
    const struct config *config;
    const char *memory; // "huge" or "no-huge"
    unsigned lcore;
    int core;
    struct port ports[TRAFFIC_PORTS_MAX];
    struct reflect reflects[TRAFFIC_REFLECTS_MAX];
    bool done; // set with release by the worker once its results may be read
};

// Whether a port is served by our own driver (ring.c): sockets in rate mode.
static inline bool port_is_ring(const struct config *config, unsigned index)
{
    return config->mode == TRAFFIC_RATE && !config->virtio_user && !config->ports[index].is_dev;
}

// The stop word: 0 go on, 1 stop sending and settle, 2 leave at once. Written by the signal handler.
extern volatile sig_atomic_t traffic_stop;
// Set by SIGUSR1: one progress line is wanted.
extern volatile sig_atomic_t traffic_poke;

// A counter has one writer and readers that may lag; plain stores would be a data race.
static inline void counter_add(uint64_t *counter, uint64_t value)
{
    __atomic_store_n(counter, *counter + value, __ATOMIC_RELAXED);
}

static inline uint64_t counter_read(const uint64_t *counter)
{
    return __atomic_load_n(counter, __ATOMIC_RELAXED);
}

extern const char options_usage[]; // for --help

// options.c: fills `config` from the command line. Returns 0; or EXIT_USAGE after saying what is wrong; or -1 when
// help was printed and nothing is left to do.
int options_parse(struct config *config, int argc, char **argv);

// eal.c: starts DPDK with huge pages, or without when there are none. Returns 0 or -errno after an error message.
int eal_start(struct traffic *t, const char *program);
// Ends DPDK and removes its run directory.
void eal_stop(void);

// ports.c: opens and starts every port and waits for its link within the configured time. Returns 0 or -errno after an
// error message; ports_close must be called in either case.
int ports_open(struct traffic *t);
void ports_close(struct traffic *t);
// Returns the port's counters as a new JSON object that the caller owns.
json_t *ports_json(const struct port *port);

// reflect.c: joins the configured pairs; moves at most a burst each way and returns how many frames moved.
void reflect_setup(struct traffic *t);
unsigned reflect_run(struct reflect *r, uint16_t burst);
uint64_t reflect_pending(const struct traffic *t);
json_t *reflect_json(const struct traffic *t);

// rate.c and check.c: run in the main thread, launch the worker, print their JSON on stdout. Return an exit code.
int rate_run(struct traffic *t);
int check_run(struct traffic *t);

#endif
