// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_DATAPLANE_H
#define PATCHBAY_DATAPLANE_H

// All of the dataplane that the control side may include. Plain C: no DPDK
// type appears here, so model and compile can be tested without it.
//
// Threads. "control" is the one control thread: the only caller of leg_*,
// wire_table_* and publish_*. "device" is the one device thread: the only
// caller of vif_create and vif_destroy, which may block for seconds. The
// functions that say "any thread" may be called from anywhere. Workers are
// the dataplane's own and call nothing of this header.
//
// How a change reaches the workers, and how memory is freed:
//   device:  vif_create(slot)             may fail; undone by vif_destroy
//   control: leg_create …                 may fail; undone by leg_destroy
//   control: vif_list(new, true), vif_list(removed, false)
//   control: wire_table_build             may fail; undone by wire_table_free and vif_list
//   control: publish_begin(table)         can't fail: the swap
//   control: publish_done(token)          true once no worker uses an older table
//   control: leg_destroy of what retired, then device: vif_destroy

#include "patchbay/counters.h"
#include "patchbay/limits.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// ---- life of the dataplane ----

enum poll_mode { POLL_ADAPTIVE, POLL_BUSY };

enum { HUGEPAGES_AUTO = -1, HUGEPAGES_OFF = 0 };

// Levels as syslog has them, so that they can be handed on unchanged.
enum log_level {
    LOG_LEVEL_ERROR = 3,
    LOG_LEVEL_WARNING = 4,
    LOG_LEVEL_NOTICE = 5,
    LOG_LEVEL_INFO = 6,
    LOG_LEVEL_DEBUG = 7
};

struct dataplane_options {
    const char *workers; // list of cores, "2,4-6"; NULL: one, the highest of our affinity, isolated ones preferred
    enum poll_mode poll;
    int hugepages_mb;            // per NUMA node; or HUGEPAGES_AUTO, HUGEPAGES_OFF
    bool no_telemetry;           // no socket of DPDK's telemetry
    const char *const *eal_args; // the user's own; they win over ours
    size_t eal_arg_count;
    // Takes one message without newline. Called from any thread but workers.
    void (*log)(enum log_level level, const char *component, const char *message);
};

// Starts EAL and the workers, with an empty wire table. The caller must be the
// process's main thread; after the call it runs on the CPUs that are no
// worker's. Returns 0, or -errno with the reason, in a sentence that says what
// to do, in reason (size bytes).
int dataplane_start(const struct dataplane_options *options, char *reason, size_t reason_size);

// Stops and joins the workers, frees what EAL holds and removes DPDK's run
// directory. All vifs must have been destroyed.
void dataplane_stop(void);

// Readable (level-triggered) while vifs with news wait; see dataplane_next_event.
int dataplane_event_fd(void);

// Control: takes the next vif whose state changed since it was taken last.
// Several changes of one vif are one event, so the set can't overflow. Returns
// false when there is none, which also calms the event fd.
bool dataplane_next_event(uint32_t *slot);

// ---- DPDK's telemetry socket ----

// What a command answers: names in a list, or fields. Names of fields: letters, digits and _.
enum { TELEMETRY_FIELDS_MAX = 128, TELEMETRY_NAME_SIZE = 48, TELEMETRY_TEXT_SIZE = 128 };

struct telemetry_field {
    char name[TELEMETRY_NAME_SIZE];
    char text[TELEMETRY_TEXT_SIZE];
    uint64_t number;
    bool is_text;
};

struct telemetry_reply {
    bool is_list; // of texts
    unsigned count;
    struct telemetry_field fields[TELEMETRY_FIELDS_MAX];
};

// Called on a thread of DPDK; parameters is "" if there are none. Returns 0, or -errno: the client gets null.
typedef int telemetry_answer(const char *parameters, struct telemetry_reply *reply);

// Control: adds a command (static strings, as rte_telemetry.h wants them) to the socket that DPDK serves, after
// dataplane_start. Returns 0 or -errno.
int dataplane_telemetry(const char *command, const char *help, telemetry_answer *answer);

// "DPDK 22.11.11"; static storage.
const char *dataplane_dpdk_version(void);

// ---- vifs ----

// Where a vif stands in the dataplane: an index below LIMIT_VIFS, given out by
// the model, reused only after vif_destroy has returned.
typedef uint32_t vif_slot;
#define VIF_SLOT_NONE UINT32_MAX

enum { VIF_QUEUES_MAX = LIMIT_QUEUE_PAIRS };
#define VIF_WORKER_NONE UINT16_MAX

enum vif_kind { VIF_VHOST, VIF_VHOST_SERVER, VIF_DEV, VIF_KERNEL_NEW, VIF_NONE, VIF_KIND_COUNT };

struct vif_config {
    vif_slot slot;
    const char *name; // for messages; copied
    enum vif_kind kind;
    // vhost, vhost-server: socket path. dev: devargs. kernel-new: interface
    // name. none: NULL. Copied.
    const char *target;
    // The worker that is to poll all its queues, + 1; 0, or one that there isn't:
    // for each queue the worker with the fewest.
    uint16_t pin;
    uint16_t mtu;             // as in vif_set_mtu
    const char *socket_group; // vhost-server: group of the socket, or NULL
    unsigned socket_mode;     // vhost-server: its mode, e.g. 0660
};

// Device: makes a vif. It is not polled before a table is built with it listed
// (vif_list). Returns 0, or -errno with a reason that
// says what to do: -EEXIST and -EADDRINUSE (path or name taken), -ENOTSOCK,
// -ENODEV, -ENOSPC (a limit of DPDK), -EINVAL, -EIO, …
int vif_create(const struct vif_config *config, char *reason, size_t reason_size);

// Control: says whether the tables built from now on poll the vif, with all the
// queues that it has by now. A new vif isn't listed: list it before the build of
// the table that brings it in, and take it off the list before the build of the
// table after which it is destroyed. Does nothing for an empty slot.
void vif_list(vif_slot slot, bool listed);

// Control: true if a listed vif has more queues than it was listed with: its
// guest has many. List it again and publish a table. An event tells of it.
bool vif_has_grown(vif_slot slot);

// Control: says which worker polls a receive queue in the tables built from now
// on; VIF_WORKER_NONE: none does. A queue that is polled is moved by two tables:
//   vif_place_queue(…, VIF_WORKER_NONE), build, publish_begin, publish_done,
//   vif_queue_left, vif_place_queue(…, new worker), build, publish_begin
// (the second table may be built before the first is published). Does nothing
// for a queue that doesn't exist.
void vif_place_queue(vif_slot slot, uint16_t queue, unsigned worker);

// Control: as pin of struct vif_config, for the queues that the vif gets from now on.
// Those that it has stay where they are: move them.
void vif_pin(vif_slot slot, uint16_t pin);

// Control: tells a NIC or kernel TAP its MTU, in bytes; 0: the largest that it takes. Longer frames to it are dropped
// as too_big from then on; those that are just on their way may be either. It calls the driver, which is a matter of
// microseconds, and of some milliseconds with a slow one. Returns 0, or -errno with a reason that says what to do:
// -ERANGE (what it takes is in the reason), -ENOTSUP (the kind, the driver), -EBUSY (only while it is stopped: make the
// vif anew with this MTU), -EIO.
int vif_set_mtu(vif_slot slot, uint16_t mtu, char *reason, size_t reason_size);

// Control: the vif is called so from now on, in messages. Copied.
void vif_rename(vif_slot slot, const char *name);

// Control: the listed vifs that can send, in order of their slots: the first
// (after VIF_SLOT_NONE), the next; VIF_SLOT_NONE after the last.
vif_slot vif_listed_next(vif_slot after);

// Control: no worker waits for the queue any more. No table polls it: publish_done
// was true for one that doesn't.
void vif_queue_left(vif_slot slot, uint16_t queue);

// Device: removes a vif that no table and no leg names any more: it is off the
// list, and publish_done was true for a table built since. The guest sees the
// link go down. Does nothing for an empty slot.
void vif_destroy(vif_slot slot);

enum vif_link { VIF_LINK_DOWN, VIF_LINK_UP, VIF_LINK_PAUSED, VIF_LINK_BROKEN };

struct vif_state {
    enum vif_link link;
    char reason[LIMIT_REASON_LEN + 1]; // why it isn't up; "" when it is
    uint64_t changed_ns;               // wall clock, nanoseconds since the epoch, of the last change of link
    uint16_t queue_pairs;              // in use
    uint16_t ring_size[2];             // receive (from the guest or NIC), transmit; entries
    uint64_t virtio_features;          // negotiated; 0 for others
    bool takes_csum;                   // frames to it may lack their checksums, TCP's and UDP's,
    bool takes_tso;                    // and be TCP of up to 64 KiB that it cuts up, IPv4's and IPv6's
    uint16_t queue_count;              // that exist; at least 1
    uint16_t workers[VIF_QUEUES_MAX];  // index of the worker that polls each of them, or VIF_WORKER_NONE
    uint16_t mtu;                      // bytes of payload; 0: not known
    uint8_t mac[6];                    // all zero: not known
    uint32_t speed_mbps;               // of its link, Mbit/s; 0: not known
    int numa_node;                     // of the guest's memory or the device; negative: not known
};

// Any thread: copies the vif's state. Returns false for an empty slot.
bool vif_read_state(vif_slot slot, struct vif_state *state);

struct vif_count {
    struct frame_count received;    // taken from its ring and whole
    struct frame_count transmitted; // given to it, taps' copies included
    uint64_t discarded[VIF_DISCARD_REASON_COUNT];
    uint64_t rx_missed; // an ethdev's own: its ring overflowed
    uint64_t rx_errors; // an ethdev's own
    uint64_t notified;  // interrupts sent to the guest
    uint64_t announced; // frames sent in the guest's name after its migration (RARP); in received, too
    uint64_t reconnects;
    uint64_t pauses; // the front end changed its running device: memory, rings, features; frames waited
};

// Any thread. Returns false for an empty slot.
bool vif_read_count(vif_slot slot, struct vif_count *count);

// Any thread: calls each(arg, name, value) for every extended statistic of the vif's driver; name is the driver's own.
// Returns false for an empty slot, or a driver without any.
bool vif_each_statistic(vif_slot slot, void (*each)(void *arg, const char *name, uint64_t value), void *arg);

struct queue_count {
    unsigned worker; // VIF_WORKER_NONE: nobody polls it
    bool pinned;     // the vif is, and to a worker that there is
    struct frame_count received;
    struct frame_count transmitted;
    uint64_t notified;
    uint64_t busy_cycles; // TSC that workers spent on what it received, bad chains too, an estimate by samples
};

// Any thread. Returns false for an empty slot and for a queue that doesn't exist.
bool vif_read_queue(vif_slot slot, uint16_t queue, struct queue_count *count);

// ---- legs ----

// A hop's program. It is run from the front for each burst: a TAP copies, a
// BUMP takes the burst unless it is failed and open, END and DROP take what
// reaches them; the last step must be one of these two.
enum hop_step_kind { HOP_TAP, HOP_BUMP, HOP_END, HOP_DROP };

// A token bucket: bits a second (without the frame check sequence), and how many bytes may come at once. bps 0: none.
// The same of frames, pps a second; a port may have both, and what passes has passed both.
struct hop_rate {
    uint64_t bps;
    uint64_t burst;
    uint32_t pps;
    uint32_t frame_burst;
};

static inline bool hop_rate_is_set(const struct hop_rate *rate)
{
    return rate->bps != 0 || rate->pps != 0;
}

struct hop_step {
    enum hop_step_kind kind;
    vif_slot
        vif; // TAP: monitor (VIF_SLOT_NONE: counted as down); BUMP: the arm that takes the frames; END: the receiver
    vif_slot other; // BUMP: the arm they come back from; the bump is sound only if both are up
    uint16_t vlan;  // 802.1Q tag to push (1–4094), 0: none
    bool fail_open; // BUMP: skip it when it isn't sound; else drop (bump_down)
    bool wait;      // BUMP, END: on_full: wait
    uint32_t stall_ms;
    struct hop_rate rate;    // TAP, BUMP, END: of what is given to the port, which is vif and vlan
    enum drop_reason reason; // DROP
    // Opaque to the dataplane: whose counters these are. Copied to hop_count.
    uint32_t tag;
};

enum { HOP_STEPS_MAX = LIMIT_TEES + 1 };

struct hop_program {
    uint16_t step_count;
    // Of what comes from the source, and which port that is. The bucket is one for all legs and tables that name the
    // port: it outlives a publish. No ingress rate: the rest means nothing.
    uint16_t source_vlan;
    vif_slot source;
    struct hop_rate ingress;
    struct hop_step steps[HOP_STEPS_MAX];
};

// A program made ready for the workers, with its counters. Immutable but for
// the counters. Each of them has one writer, the worker that polls the source:
// where the source has many queues, each queue has counters of its own.
struct leg;

// Control: makes a leg; every vif that the program names must exist and
// outlive it. A leg belongs to one source (vif, VLAN) of one table at a time, and may be
// carried over from table to table. Returns NULL with errno ENOMEM, or EINVAL
// for a program that isn't whole.
struct leg *leg_create(const struct hop_program *program);

// Control: frees a leg that no table names and no worker uses. Takes NULL.
void leg_destroy(struct leg *leg);

struct step_count {
    enum hop_step_kind kind;
    uint32_t tag;
    struct frame_count delivered;   // BUMP, END: what it took
    struct segment_count segmented; // of these
    struct tap_count tap;           // TAP
};

struct leg_count {
    struct frame_count received; // = sum of delivered + sum of dropped
    uint64_t dropped[DROP_REASON_COUNT];
    uint16_t step_count;
    struct step_count steps[HOP_STEPS_MAX];
};

// Control: copies a leg's counters. While frames flow the values are each
// right but not of one instant; at rest, or once the leg is retired, the sums
// hold exactly.
void leg_read(const struct leg *leg, struct leg_count *count);

// ---- the wire table ----

enum { TABLE_ANY_VLAN = 0xffff, TABLE_UNTAGGED = 0 };

struct table_entry {
    vif_slot vif;
    uint16_t vlan; // TABLE_ANY_VLAN: the vif's whole traffic; else the tag, or TABLE_UNTAGGED
    bool held;     // not polled: its frames stay where they are (drain)
    bool monitor;  // leg is NULL: what it sends is discarded and counted as `monitor`
    struct leg *leg;
};

struct wire_table;

// Control: builds a table. A vif that is listed and has no entry is drained and
// counted `unwired`; one that isn't listed may have no entry. Entries of one vif either are one with TABLE_ANY_VLAN or
// differ in vlan. Cost: O(count + vifs that can be polled). Returns NULL with
// errno ENOMEM or EINVAL.
struct wire_table *wire_table_build(const struct table_entry *entries, size_t count, uint64_t generation);

// Control: frees a table that was never published. Takes NULL.
void wire_table_free(struct wire_table *table);

// Control: makes the table the one that workers read from their next loop on;
// takes ownership. Wakes sleeping workers. Returns a token for publish_done.
uint64_t publish_begin(struct wire_table *table);

// Control: true once every worker has left all tables older than the one the
// token stands for; these are then freed. Doesn't block.
bool publish_done(uint64_t token);

// ---- workers ----

struct stage_count {
    uint64_t cycles; // TSC
    uint64_t frames; // that passed the stage
};

struct worker_count {
    unsigned core;
    int numa_node; // negative: not known
    uint64_t loops;
    uint64_t frames;       // received
    uint64_t busy_cycles;  // of loops that moved a frame, or gave bad chains back (TSC)
    uint64_t empty_cycles; // of the others; neither are what it slept
    uint64_t cycles;       // since start (TSC)
    uint64_t sleeps;
    uint32_t sources; // receive queues that it polls, at rest or not
    // Of the loops with work that were measured, see stage.h: their cycles by
    // stage add up to theirs, so stages / sampled_frames ≈ busy_cycles / frames.
    uint64_t sampled_loops;
    uint64_t sampled_frames;
    struct stage_count stages[WORKER_STAGE_COUNT];
};

// Any thread.
unsigned worker_count(void);
bool worker_read(unsigned worker, struct worker_count *count);
uint64_t dataplane_tsc_hz(void);

// Any thread: has each worker that sleeps go round its loop once, so that one
// whose count of loops stays as it is hangs.
void workers_wake(void);

#endif
