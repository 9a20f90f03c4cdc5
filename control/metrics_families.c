// SPDX-License-Identifier: BSD-3-Clause
#include "metrics_families.h"

#include "control.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define REASON_LABEL(symbol, key, help) ",reason=\"" key "\"",
#define STAGE_LABEL(symbol, key, help)  ",stage=\"" key "\"",
static const char *const drop_labels[] = {DROP_REASONS(REASON_LABEL)};
static const char *const tap_drop_labels[] = {TAP_DROP_REASONS(REASON_LABEL)};
static const char *const discard_labels[] = {VIF_DISCARD_REASONS(REASON_LABEL)};
static const char *const stage_labels[] = {WORKER_STAGES(STAGE_LABEL)};
static const char *const direction_labels[] = {
    [LEG_A_TO_B] = ",direction=\"a_to_b\"", [LEG_B_TO_A] = ",direction=\"b_to_a\""};

typedef struct metrics_text text_t;
typedef const struct metrics_family family_t;
typedef const struct metrics_snapshot snapshot_t;

static uint64_t value_at(const void *object, size_t offset)
{
    return *(const uint64_t *)((const char *)object + offset);
}

static void print(text_t *text, family_t *family, const char *labels, const char *more, uint64_t value)
{
    metrics_text_sample(text, family->name, family->type, labels, more, value);
}

// Reasons appear when they have been met once, and stay, since counters don't fall.
static void print_reasons(text_t *text, family_t *family, const char *labels, const char *more,
                          const char *const *reasons, const uint64_t *counts, size_t count)
{
    char both[96];

    for (size_t i = 0; i < count; i++) {
        if (counts[i] == 0)
            continue;
        snprintf(both, sizeof(both), "%s%s", more, reasons[i]);
        print(text, family, labels, both, counts[i]);
    }
}

// ---- host ----

static void print_build(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    char labels[512], dpdk[128];

    (void)snapshot;
    (void)at;
    snprintf(labels, sizeof(labels),
             "version=\"" PATCHBAY_VERSION "\",api=\"" PATCHBAY_API_VERSION "\",dpdk=\"%s\",instance_id=\"%s\"",
             metrics_text_escape(dataplane_dpdk_version(), dpdk, sizeof(dpdk)), store_instance(control.store));
    print(text, family, labels, "", 1);
}

static void print_objects(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    (void)snapshot;
    (void)at;
    for (int kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
        char label[64];

        snprintf(label, sizeof(label), "kind=\"%s\"", object_kind_name((enum object_kind)kind));
        print(text, family, label, "", model_count(control.model, (enum object_kind)kind));
    }
}

static void print_generation(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    (void)snapshot;
    (void)at;
    print(text, family, "", "", model_generation(control.model));
}

static void print_tsc(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    (void)snapshot;
    (void)at;
    print(text, family, "", "", dataplane_tsc_hz());
}

// ---- workers ----

// A worker is read anew for each family: it moves on by microseconds.
static bool read_worker(size_t at, struct worker_count *count, char *labels, size_t size)
{
    if (!worker_read((unsigned)at, count))
        return false;
    snprintf(labels, size, "worker=\"%zu\",core=\"%u\"", at, count->core);
    return true;
}

static void print_worker(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    struct worker_count count;
    char labels[64];

    (void)snapshot;
    if (read_worker(at, &count, labels, sizeof(labels)))
        print(text, family, labels, "", value_at(&count, family->offset));
}

static void print_worker_sources(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    struct worker_count count;
    char labels[64];

    (void)snapshot;
    if (read_worker(at, &count, labels, sizeof(labels)))
        print(text, family, labels, "", count.sources);
}

// What is left of the time the worker slept.
static void print_worker_time(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    double hz = (double)dataplane_tsc_hz();
    struct worker_count count;
    uint64_t awake;
    char labels[64];

    (void)snapshot;
    if (!read_worker(at, &count, labels, sizeof(labels)) || hz <= 0)
        return;
    awake = count.busy_cycles + count.empty_cycles;
    metrics_text_sample_real(text, family->name, family->type, labels, ",state=\"busy\"",
                             (double)count.busy_cycles / hz);
    metrics_text_sample_real(text, family->name, family->type, labels, ",state=\"empty\"",
                             (double)count.empty_cycles / hz);
    metrics_text_sample_real(text, family->name, family->type, labels, ",state=\"asleep\"",
                             count.cycles > awake ? (double)(count.cycles - awake) / hz : 0);
}

static void print_worker_stages(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    struct worker_count count;
    char labels[64];

    (void)snapshot;
    if (!read_worker(at, &count, labels, sizeof(labels)))
        return;
    for (size_t i = 0; i < WORKER_STAGE_COUNT; i++)
        print(text, family, labels, stage_labels[i], value_at(&count.stages[i], family->offset));
}

// ---- wires, legs, Ts ----

static void print_wire_up(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    print(text, family, snapshot->wires.items[at].labels, "", snapshot->wires.items[at].up);
}

static void print_wire(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_wire *wire = &snapshot->wires.items[at];

    for (int i = 0; i < 2; i++)
        print(text, family, wire->labels, direction_labels[i], value_at(&wire->directions[i], family->offset));
}

static void print_wire_drops(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_wire *wire = &snapshot->wires.items[at];

    for (int i = 0; i < 2; i++)
        print_reasons(text, family, wire->labels, direction_labels[i], drop_labels, wire->directions[i].dropped,
                      DROP_REASON_COUNT);
}

// Appears once frames have been segmented.
static void print_wire_rare(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_wire *wire = &snapshot->wires.items[at];

    for (int i = 0; i < 2; i++)
        if (value_at(&wire->directions[i], family->offset) != 0)
            print(text, family, wire->labels, direction_labels[i], value_at(&wire->directions[i], family->offset));
}

static void print_leg(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_leg *leg = &snapshot->legs.items[at];

    print(text, family, leg->labels, "", value_at(&leg->frames, family->offset));
}

static void print_leg_drops(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_leg *leg = &snapshot->legs.items[at];

    print_reasons(text, family, leg->labels, "", drop_labels, leg->frames.dropped, DROP_REASON_COUNT);
}

static void print_to(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_to *to = &snapshot->tos.items[at];

    print(text, family, to->labels, "", value_at(to, family->offset));
}

static void print_to_rare(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    if (value_at(&snapshot->tos.items[at], family->offset) != 0)
        print_to(text, family, snapshot, at);
}

static void print_tee_up(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_tee *tee = &snapshot->tees.items[at];
    char mode[24];

    snprintf(mode, sizeof(mode), ",mode=\"%s\"", tee_mode_names[tee->mode]);
    print(text, family, tee->labels, mode, tee->up);
}

static void print_tap(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_tee *tee = &snapshot->tees.items[at];

    if (tee->mode == TEE_TAP)
        print(text, family, tee->labels, "", value_at(&tee->sum, family->offset));
}

static void print_tap_rare(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    if (value_at(&snapshot->tees.items[at].sum, family->offset) != 0)
        print_tap(text, family, snapshot, at);
}

static void print_tap_drops(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_tee *tee = &snapshot->tees.items[at];

    if (tee->mode == TEE_TAP)
        print_reasons(text, family, tee->labels, "", tap_drop_labels, tee->sum.tap.dropped, TAP_DROP_REASON_COUNT);
}

static void print_bump(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_tee *tee = &snapshot->tees.items[at];

    if (tee->mode == TEE_BUMP)
        print(text, family, tee->labels, "", value_at(&tee->sum, family->offset));
}

// ---- vifs, queues ----

static void print_vif_up(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    print(text, family, snapshot->vifs.items[at].labels, "", snapshot->vifs.items[at].up);
}

static void print_vif(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_vif *vif = &snapshot->vifs.items[at];

    print(text, family, vif->labels, "", value_at(&vif->count, family->offset));
}

// What most vifs never count appears when it isn't zero any more.
static void print_vif_rare(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    if (value_at(&snapshot->vifs.items[at].count, family->offset) != 0)
        print_vif(text, family, snapshot, at);
}

static void print_vif_discards(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_vif *vif = &snapshot->vifs.items[at];

    print_reasons(text, family, vif->labels, "", discard_labels, vif->count.discarded, VIF_DISCARD_REASON_COUNT);
}

// A queue is read anew for each family: they are looked at one by one, not summed.
static void print_queue(text_t *text, family_t *family, snapshot_t *snapshot, size_t at)
{
    const struct metrics_vif *vif = &snapshot->vifs.items[at];
    struct queue_count count;
    char queue[24];

    for (uint16_t i = 0; vif_read_queue(vif->slot, i, &count); i++) {
        snprintf(queue, sizeof(queue), ",queue=\"%u\"", i);
        print(text, family, vif->labels, queue, value_at(&count, family->offset));
    }
}

// ---- the table ----

#define FRAMES(member) offsetof(struct metrics_frames, member)
#define WORKER(member) offsetof(struct worker_count, member)
#define STAGE(member)  offsetof(struct stage_count, member)
#define TO(member)     offsetof(struct metrics_to, member)
#define TEE(member)    offsetof(struct tee_sum, member)
#define VIF(member)    offsetof(struct vif_count, member)
#define QUEUE(member)  offsetof(struct queue_count, member)
#define P              "patchbay_"

const struct metrics_family metrics_families[] = {
    {P "build", METRICS_INFO, "", METRICS_HOST, false, print_build, 0, "Versions, and the run of the daemon."},
    {P "objects", METRICS_GAUGE, "", METRICS_HOST, false, print_objects, 0, "Configured objects by kind."},
    {P "generation", METRICS_GAUGE, "", METRICS_HOST, false, print_generation, 0, "Generation of the configuration."},
    {P "tsc_hertz", METRICS_GAUGE, "hertz", METRICS_HOST, false, print_tsc, 0,
     "Cycles a second, of all metrics in cycles."},

    {P "worker_seconds", METRICS_COUNTER, "seconds", METRICS_WORKER, false, print_worker_time, 0,
     "Time of a worker by state: busy moves frames or drops bad ones, empty looks for some, asleep waits."},
    {P "worker_frames", METRICS_COUNTER, "", METRICS_WORKER, false, print_worker, WORKER(frames), "Frames received."},
    {P "worker_busy_cycles", METRICS_COUNTER, "cycles", METRICS_WORKER, false, print_worker, WORKER(busy_cycles),
     "Cycles of loops that moved frames or dropped bad ones; over worker_frames: cycles a frame."},
    {P "worker_empty_cycles", METRICS_COUNTER, "cycles", METRICS_WORKER, false, print_worker, WORKER(empty_cycles),
     "Cycles of loops that did neither."},
    {P "worker_loops", METRICS_COUNTER, "", METRICS_WORKER, false, print_worker, WORKER(loops), "Loops."},
    {P "worker_sleeps", METRICS_COUNTER, "", METRICS_WORKER, false, print_worker, WORKER(sleeps),
     "Times it went to sleep."},
    {P "worker_sources", METRICS_GAUGE, "", METRICS_WORKER, false, print_worker_sources, 0,
     "Receive queues that it polls."},
    {P "worker_sampled_loops", METRICS_COUNTER, "", METRICS_WORKER, false, print_worker, WORKER(sampled_loops),
     "Loops that were measured by stage."},
    {P "worker_sampled_frames", METRICS_COUNTER, "", METRICS_WORKER, false, print_worker, WORKER(sampled_frames),
     "Frames of the loops that were measured by stage."},
    {P "worker_stage_cycles", METRICS_COUNTER, "cycles", METRICS_WORKER, false, print_worker_stages, STAGE(cycles),
     "Cycles of the measured loops by stage; over worker_sampled_frames: cycles a frame."},
    {P "worker_stage_frames", METRICS_COUNTER, "", METRICS_WORKER, false, print_worker_stages, STAGE(frames),
     "Frames of the measured loops that passed the stage."},

    {P "wire_up", METRICS_GAUGE, "", METRICS_WIRE, false, print_wire_up, 0, "1 if the wire is up."},
    {P "wire_received_frames", METRICS_COUNTER, "", METRICS_WIRE, false, print_wire, FRAMES(received),
     "Frames that the wire's legs took from their sources; = wire_frames + wire_dropped_frames."},
    {P "wire_received_bytes", METRICS_COUNTER, "bytes", METRICS_WIRE, false, print_wire, FRAMES(received_bytes),
     "Bytes of these, without frame check sequence."},
    {P "wire_frames", METRICS_COUNTER, "", METRICS_WIRE, false, print_wire, FRAMES(delivered),
     "Frames that the wire's legs delivered; with bumps a frame passes several legs."},
    {P "wire_bytes", METRICS_COUNTER, "bytes", METRICS_WIRE, false, print_wire, FRAMES(delivered_bytes),
     "Bytes of these, without frame check sequence."},
    {P "wire_dropped_frames", METRICS_COUNTER, "", METRICS_WIRE, false, print_wire_drops, 0,
     "Frames that were not delivered, by reason."},
    {P "wire_segmented_frames", METRICS_COUNTER, "", METRICS_WIRE, false, print_wire_rare, FRAMES(segmented.frames),
     "Of wire_frames, those that were segmented for their receiver."},
    {P "wire_segments", METRICS_COUNTER, "", METRICS_WIRE, false, print_wire_rare, FRAMES(segmented.segments),
     "Segments that these became."},

    {P "tee_up", METRICS_GAUGE, "", METRICS_TEE, false, print_tee_up, 0, "1 if the T is up."},
    {P "tap_offered_frames", METRICS_COUNTER, "", METRICS_TEE, false, print_tap, TEE(tap.offered),
     "Frames that a tap could have copied; = tap_copied_frames + tap_dropped_frames."},
    {P "tap_copied_frames", METRICS_COUNTER, "", METRICS_TEE, false, print_tap, TEE(tap.copied.frames), "Copies made."},
    {P "tap_copied_bytes", METRICS_COUNTER, "bytes", METRICS_TEE, false, print_tap, TEE(tap.copied.bytes),
     "Bytes of these."},
    {P "tap_segmented_frames", METRICS_COUNTER, "", METRICS_TEE, false, print_tap_rare, TEE(tap.segmented.frames),
     "Of tap_copied_frames, those that were segmented for the monitor."},
    {P "tap_segments", METRICS_COUNTER, "", METRICS_TEE, false, print_tap_rare, TEE(tap.segmented.segments),
     "Segments that these became."},
    {P "tap_dropped_frames", METRICS_COUNTER, "", METRICS_TEE, false, print_tap_drops, 0,
     "Copies not made, by reason."},
    {P "bump_into_frames", METRICS_COUNTER, "", METRICS_TEE, false, print_bump, TEE(into.frames),
     "Frames sent into a bump."},
    {P "bump_into_bytes", METRICS_COUNTER, "bytes", METRICS_TEE, false, print_bump, TEE(into.bytes), "Bytes of these."},
    {P "bump_out_frames", METRICS_COUNTER, "", METRICS_TEE, false, print_bump, TEE(out.frames),
     "Frames that came back from a bump; what an appliance kept or added is the difference."},
    {P "bump_out_bytes", METRICS_COUNTER, "bytes", METRICS_TEE, false, print_bump, TEE(out.bytes), "Bytes of these."},
    {P "bump_late_frames", METRICS_COUNTER, "", METRICS_TEE, false, print_bump, TEE(late),
     "Frames that came back after the bump was taken out, and were dropped."},

    {P "leg_received_frames", METRICS_COUNTER, "", METRICS_LEG, true, print_leg, FRAMES(received),
     "Frames by leg of a wire, named by its source."},
    {P "leg_received_bytes", METRICS_COUNTER, "bytes", METRICS_LEG, true, print_leg, FRAMES(received_bytes),
     "Bytes of these."},
    {P "leg_frames", METRICS_COUNTER, "", METRICS_LEG, true, print_leg, FRAMES(delivered),
     "Frames that the leg delivered."},
    {P "leg_bytes", METRICS_COUNTER, "bytes", METRICS_LEG, true, print_leg, FRAMES(delivered_bytes), "Bytes of these."},
    {P "leg_dropped_frames", METRICS_COUNTER, "", METRICS_LEG, true, print_leg_drops, 0,
     "Frames that the leg did not deliver, by reason."},
    {P "leg_to_frames", METRICS_COUNTER, "", METRICS_TO, true, print_to, TO(delivered.frames),
     "As leg_frames, by the place that they went to."},
    {P "leg_to_bytes", METRICS_COUNTER, "bytes", METRICS_TO, true, print_to, TO(delivered.bytes), "Bytes of these."},
    {P "leg_to_segmented_frames", METRICS_COUNTER, "", METRICS_TO, true, print_to_rare, TO(segmented.frames),
     "Of leg_to_frames, those that were segmented."},
    {P "leg_to_segments", METRICS_COUNTER, "", METRICS_TO, true, print_to_rare, TO(segmented.segments),
     "Segments that these became."},

    {P "vif_up", METRICS_GAUGE, "", METRICS_VIF, false, print_vif_up, 0, "1 if the vif's link is up."},
    {P "vif_received_frames", METRICS_COUNTER, "", METRICS_VIF, false, print_vif, VIF(received.frames),
     "Frames taken from the vif and whole."},
    {P "vif_received_bytes", METRICS_COUNTER, "bytes", METRICS_VIF, false, print_vif, VIF(received.bytes),
     "Bytes of these."},
    {P "vif_transmitted_frames", METRICS_COUNTER, "", METRICS_VIF, false, print_vif, VIF(transmitted.frames),
     "Frames given to the vif, copies of taps included."},
    {P "vif_transmitted_bytes", METRICS_COUNTER, "bytes", METRICS_VIF, false, print_vif, VIF(transmitted.bytes),
     "Bytes of these."},
    {P "vif_discarded_frames", METRICS_COUNTER, "", METRICS_VIF, false, print_vif_discards, 0,
     "Frames that came from the vif and no wire got, by reason."},
    {P "vif_rx_missed_frames", METRICS_COUNTER, "", METRICS_VIF, false, print_vif_rare, VIF(rx_missed),
     "Frames that a NIC dropped because its ring was full."},
    {P "vif_rx_errors", METRICS_COUNTER, "", METRICS_VIF, false, print_vif_rare, VIF(rx_errors),
     "Errors that a NIC counted."},
    {P "vif_notifications", METRICS_COUNTER, "", METRICS_VIF, false, print_vif_rare, VIF(notified),
     "Interrupts sent to the guest."},
    {P "vif_announced_frames", METRICS_COUNTER, "", METRICS_VIF, false, print_vif_rare, VIF(announced),
     "Frames sent in the guest's name after its migration."},
    {P "vif_reconnects", METRICS_COUNTER, "", METRICS_VIF, false, print_vif_rare, VIF(reconnects),
     "Times the front end came back."},
    {P "vif_pauses", METRICS_COUNTER, "", METRICS_VIF, false, print_vif_rare, VIF(pauses),
     "Times the front end changed its running device (memory, rings, features) while frames waited."},

    {P "vif_queue_received_frames", METRICS_COUNTER, "", METRICS_QUEUE, true, print_queue, QUEUE(received.frames),
     "As vif_received_frames, by queue."},
    {P "vif_queue_received_bytes", METRICS_COUNTER, "bytes", METRICS_QUEUE, true, print_queue, QUEUE(received.bytes),
     "Bytes of these."},
    {P "vif_queue_transmitted_frames", METRICS_COUNTER, "", METRICS_QUEUE, true, print_queue, QUEUE(transmitted.frames),
     "As vif_transmitted_frames, by queue."},
    {P "vif_queue_transmitted_bytes", METRICS_COUNTER, "bytes", METRICS_QUEUE, true, print_queue,
     QUEUE(transmitted.bytes), "Bytes of these."},
    {P "vif_queue_notifications", METRICS_COUNTER, "", METRICS_QUEUE, true, print_queue, QUEUE(notified),
     "As vif_notifications, by queue."},
    {P "vif_queue_busy_cycles", METRICS_COUNTER, "cycles", METRICS_QUEUE, true, print_queue, QUEUE(busy_cycles),
     "Cycles that workers spent on the frames received from the queue; an estimate by samples."},
    {.name = NULL},
};
