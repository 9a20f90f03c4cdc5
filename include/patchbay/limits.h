// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_LIMITS_H
#define PATCHBAY_LIMITS_H

#include <stdint.h>

// Every limit of Patchbay, with its unit, in one place. A limit that a client
// can reach is answered with 409 LimitReached and its name.
enum patchbay_limit {
    // Names and free text, in bytes without the terminator.
    LIMIT_NAME_LEN = 63,
    LIMIT_LABEL_KEY_LEN = 63,
    LIMIT_LABEL_VALUE_LEN = 255,
    LIMIT_LABELS = 32, // pairs an object
    LIMIT_OWNER_LEN = 255,
    LIMIT_TARGET_LEN = 511,      // devargs of a `dev` vif
    LIMIT_SOCKET_PATH_LEN = 107, // sun_path less its terminator; librte_vhost truncates silently above
    LIMIT_IFNAME_LEN = 15,       // IFNAMSIZ less its terminator
    LIMIT_REASON_LEN = 255,      // of a status reason

    // Objects a host.
    LIMIT_VIFS = 20000,
    LIMIT_PORTS = 40000,
    LIMIT_WIRES = 10000,
    LIMIT_NETWORKS = 1000,
    LIMIT_TEES = 16,           // Ts a wire
    LIMIT_ETHDEVS = 32,        // of the distribution's DPDK (RTE_MAX_ETHPORTS)
    LIMIT_VHOST = 1000,        // of librte_vhost's one descriptor set, connecting side
    LIMIT_VHOST_SERVERS = 511, // listening: a listener and a connection each
    LIMIT_WORKERS = 64,
    LIMIT_QUEUE_PAIRS = 16, // a vif
    LIMIT_VLAN = 4094,      // highest usable 802.1Q tag

    // Frames, in bytes without the frame check sequence.
    LIMIT_FRAME_MIN = 14,
    LIMIT_FRAME_MAX = 9216,
    LIMIT_FRAME_GSO_MAX = 65600, // that the receiver is to segment: 65,535 and the headers of IPv6, Ethernet, two tags
    LIMIT_FRAME_WIRE_MIN = 60,   // what a NIC must be given
    LIMIT_FRAME_SEGMENTS = 256,  // descriptors a chain

    // Bursts.
    LIMIT_BURST_FRAMES = 64,
    LIMIT_BURST_SEGMENTS = 1024,
    LIMIT_BURST_BYTES = 65536, // a burst ends with the frame that reaches it
    // Descriptors that a worker walks for a burst at one guest, but for those of
    // the common chains of one; the frame that reaches it is the last. Sound
    // drivers need far fewer; hostile ones get no more of the worker than a
    // full burst of good frames costs (tests/path/test_fair.c).
    LIMIT_BURST_DESCRIPTORS = 256,

    // Vifs' MTUs.
    LIMIT_MTU_MIN = 68,               // bytes: IPv4's least
    LIMIT_MTU = LIMIT_FRAME_MAX - 18, // the header and one tag come on top

    // Rates of ports.
    LIMIT_RATE_BPS_MIN = 8000,
    LIMIT_RATE_BURST = 1 << 28, // bytes
    LIMIT_RATE_PPS = 1000000000,
    LIMIT_RATE_BURST_FRAMES = 1 << 20,
    DEFAULT_RATE_BURST_FRAMES = 64,     // or 10 ms at the rate, if that is more
    DEFAULT_RATE_BURST_MS = 10,         // of traffic at the rate, but at least:
    DEFAULT_RATE_BURST_BYTES = 1 << 16, // a frame that the receiver segments

    // Live migration.
    LIMIT_DIRTY_LOG_BYTES = 1 << 30, // of 32 TiB of guest's addresses

    // API.
    LIMIT_REQUEST_BYTES = 1 << 20,
    LIMIT_LARGE_BYTES = 16 << 20,       // of a transaction or a whole configuration
    LIMIT_LARGE_TOTAL_BYTES = 64 << 20, // of all bodies above LIMIT_REQUEST_BYTES at once
    LIMIT_OPERATIONS = 20000,           // a transaction
    LIMIT_REQUEST_DEPTH = 16,
    LIMIT_CLIENTS = 64,
    LIMIT_CLIENTS_OTHERS = 48,    // of these, for users that are neither root nor the daemon's own
    LIMIT_CLIENTS_USER = 32,      // of these, for one of them
    LIMIT_STREAMS = 16,           // of events, beside those clients
    LIMIT_STREAMS_READERS = 12,   // of these, for those who may only read
    LIMIT_EVENTS = 32768,         // that are kept for clients that come back
    LIMIT_EVENT_BYTES = 16 << 20, // of all of them together
    LIMIT_REQUEST_SECONDS = 10,   // for a request to arrive, and for a device to be made
    LIMIT_LIST = 1000,            // objects a page
    LIMIT_AUDIT_ROWS = 10000,     // of the audit trail; then the oldest go

    // Times, in milliseconds.
    DEFAULT_STALL_MS = 100,
    DEFAULT_BUMP_STALL_MS = 10,
    LIMIT_STALL_MS = 60000,
    DEFAULT_QUIET_MS = 10,
    DEFAULT_DRAIN_MS = 200,
    LIMIT_DRAIN_MS = 10000,
};

#define LIMIT_RATE_BPS UINT64_C(1000000000000)

#endif
