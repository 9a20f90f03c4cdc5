// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_COUNTERS_H
#define PATCHBAY_COUNTERS_H

#include <stdint.h>

// Why a frame that left its source's ring was not delivered by its leg. One
// row: symbol, key in the API, help. received = delivered + the sum of these.
#define DROP_REASONS(X)                                                                                    \
    X(FULL, "full", "the receiver had no room and the leg does not wait (on_full: drop, shared vif)")      \
    X(STALLED, "stalled", "the receiver had no room for stall_ms")                                         \
    X(TOO_BIG, "too_big", "larger than the receiver's buffers or MTU")                                     \
    X(DOWN, "down", "the receiving vif has no driver or no link")                                          \
    X(BUMP_DOWN, "bump_down", "a bump with on_failure: closed has failed")                                 \
    X(UNPLUGGED, "unplugged", "the other end of the wire is unplugged")                                    \
    X(ADMIN_DOWN, "admin_down", "the wire, or a port or vif at its ends, is administratively down")        \
    X(LATE, "late", "came back from an appliance after its T was taken out")                               \
    X(NO_MBUF, "no_mbuf", "no packet buffer was free for the copy to an ethdev")                           \
    X(BAD_OFFLOAD, "bad_offload", "to be segmented in software, and it isn't what its virtio header says") \
    X(RATE_LIMITED, "rate_limited", "above the rate of the port that it came from or goes to")

// Why a tap's copy was not made. offered = copied + the sum of these.
#define TAP_DROP_REASONS(X)                                                                                \
    X(RING_FULL, "ring_full", "the monitor had no room")                                                   \
    X(TOO_BIG, "too_big", "larger than the monitor's buffers or MTU")                                      \
    X(DOWN, "down", "the monitor has no driver or no link, or is administratively down")                   \
    X(PAUSED, "paused", "the monitor's front end is being reconfigured")                                   \
    X(CONTENDED, "contended", "another worker was just writing to the monitor")                            \
    X(NO_MBUF, "no_mbuf", "no packet buffer was free for the copy to an ethdev")                           \
    X(BAD_OFFLOAD, "bad_offload", "to be segmented in software, and it isn't what its virtio header says") \
    X(FILTERED, "filtered", "did not match the T's filter")                                                \
    X(SAMPLED, "sampled", "left out by the T's sampling")                                                  \
    X(RATE_LIMITED, "rate_limited", "above the egress rate of the T's port")

// What a vif received and could not even hand to a leg.
#define VIF_DISCARD_REASONS(X)                                                             \
    X(UNWIRED, "unwired", "the vif is on no wire")                                         \
    X(MONITOR, "monitor", "sent by a monitor: the third end point of a tap only receives") \
    X(UNKNOWN_VLAN, "unknown_vlan", "no port of this shared vif has the frame's tag")      \
    X(BAD_CHAIN, "bad_chain", "a descriptor chain that no driver may build")               \
    X(RUNT, "runt", "shorter than an Ethernet header")                                     \
    X(GIANT, "giant", "longer than the frame limit")                                       \
    X(BAD_HEADER, "bad_header", "a virtio header that can't be true of the frame")         \
    X(QUEUE_OFF, "queue_off", "sent by a queue after its front end had disabled it")

// Where a worker's cycles go, in the order of a frame's path. The frames of a
// stage are those that passed it.
#define WORKER_STAGES(X)                                                                               \
    X(POLL, "poll", "looking at queues that were empty, beside others that weren't")                   \
    X(RECEIVE, "receive", "from the source's ring to checked views of frames")                         \
    X(LOOKUP, "lookup", "the leg, its program and the tags that are popped; all that is counted")      \
    X(COPY, "copy", "to the end of the leg or into a bump: copied or handed over")                     \
    X(COPY_TAPPED, "copy_tapped", "to the end and to the leg's only tap in one pass")                  \
    X(TAPS, "taps", "to taps in a pass of their own, with the snapshot that they need")                \
    X(NOTIFY, "notify", "telling receivers what they have got, and interrupts if they asked for them") \
    X(COMPLETE, "complete", "giving the source its buffers back")                                      \
    X(HOUSEKEEPING, "housekeeping", "between two loops: the table, the report to the publisher, queues at rest")

#define COUNTER_ENUM(prefix, symbol)        prefix##_##symbol,
#define DROP_ENUM(symbol, key, help)        COUNTER_ENUM(DROP, symbol)
#define TAP_DROP_ENUM(symbol, key, help)    COUNTER_ENUM(TAP_DROP, symbol)
#define VIF_DISCARD_ENUM(symbol, key, help) COUNTER_ENUM(VIF_DISCARD, symbol)
#define STAGE_ENUM(symbol, key, help)       COUNTER_ENUM(WORKER_STAGE, symbol)

enum drop_reason { DROP_REASONS(DROP_ENUM) DROP_REASON_COUNT };
enum tap_drop_reason { TAP_DROP_REASONS(TAP_DROP_ENUM) TAP_DROP_REASON_COUNT };
enum vif_discard_reason { VIF_DISCARD_REASONS(VIF_DISCARD_ENUM) VIF_DISCARD_REASON_COUNT };
enum worker_stage { WORKER_STAGES(STAGE_ENUM) WORKER_STAGE_COUNT };

struct frame_count {
    uint64_t frames;
    uint64_t bytes; // without the frame check sequence
};

// Frames that were segmented for a receiver that couldn't take them whole. Each
// counts once where it was delivered or copied; if only some of its segments found
// room it counts as dropped there, and these segments here.
struct segment_count {
    uint64_t frames;   // of which the receiver has all segments
    uint64_t segments; // that it got
};

// A copy of one tap's counters on one leg.
struct tap_count {
    uint64_t offered;
    struct frame_count copied;
    struct segment_count segmented; // of those copied
    uint64_t dropped[TAP_DROP_REASON_COUNT];
};

#endif
