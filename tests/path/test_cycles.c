// SPDX-License-Identifier: BSD-3-Clause

// The worker's cycles by stage: each stage is charged with its own time, the
// stages add up to what the worker was busy, and the loops that are measured
// are like those that aren't.
//
// Time is the machine's here, which other programs disturb: what is about time
// is tried again and again, and one undisturbed try must be right. A stage that
// is charged with another's time is wrong in every try.

#include "rig.h"

#include <rte_cycles.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SLOT_FROM, SLOT_TO, SLOT_M1, SLOT_M2, SLOT_EMPTY };
enum { TRIES = 200, SPIN = 200000, FRAME_LEN = 60 };

static struct nic from, to, empty;
static struct leg *leg;

// ---- a vif whose every function takes the time that it is told to ----

static struct timed {
    uint64_t spin[WORKER_STAGE_COUNT]; // cycles
    uint16_t frames;                   // in the next burst
    uint8_t bytes[FRAME_LEN];
} timed;

static void spin(enum worker_stage stage)
{
    uint64_t until = rte_rdtsc() + timed.spin[stage];

    while (timed.spin[stage] > 0 && rte_rdtsc() < until)
        ;
}

static uint16_t timed_receive(struct vif *vif, uint16_t queue, struct burst *burst)
{
    (void)queue;
    burst->count = vif->slot == SLOT_FROM ? timed.frames : 0;
    if (burst->count > 0)
        spin(WORKER_STAGE_RECEIVE);
    burst->segment_count = 0;
    burst->owned = burst->keep = false;
    burst->offloads = 0;
    for (uint16_t i = 0; i < burst->count; i++) {
        memset(&burst->frames[i], 0, sizeof(burst->frames[i]));
        frame_set_single(&burst->frames[i], timed.bytes, sizeof(timed.bytes));
    }
    return burst->count;
}

static void timed_complete(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t taken)
{
    (void)vif;
    (void)queue;
    assert_int_equal(burst->count, taken);
    spin(WORKER_STAGE_COMPLETE);
}

static uint16_t timed_transmit(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t first, uint16_t count,
                               enum transmit_stop *stop)
{
    (void)queue;
    (void)burst;
    (void)first;
    spin(vif->slot == SLOT_TO ? WORKER_STAGE_COPY : WORKER_STAGE_TAPS);
    *stop = TRANSMIT_ALL;
    return count;
}

static void timed_flush(struct vif *vif, uint16_t queue)
{
    (void)queue;
    // Of a tap it belongs to the tap's pass.
    spin(vif->slot == SLOT_TO ? WORKER_STAGE_NOTIFY : WORKER_STAGE_TAPS);
}

static const struct vif_ops timed_ops = {
    .receive = timed_receive,
    .complete = timed_complete,
    .transmit = timed_transmit,
    .flush = timed_flush,
};

// ----

static int setup(void **state)
{
    (void)state;
    rig_start();
    memset(&timed, 0, sizeof(timed));
    nic_open(&from, SLOT_FROM);
    nic_open(&to, SLOT_TO);
    nic_open(&empty, SLOT_EMPTY);
    from.vif->ops = to.vif->ops = &timed_ops;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_publish(NULL, 0);
    leg_destroy(leg);
    leg = NULL;
    from.vif->ops = to.vif->ops = empty.vif->ops;
    nic_close(&from);
    nic_close(&to);
    nic_close(&empty);
    rig_stop();
    return 0;
}

static void wire(vif_slot source, const struct hop_step *steps, uint16_t count)
{
    struct hop_program program = {.step_count = count};

    memcpy(program.steps, steps, count * sizeof(steps[0]));
    leg = leg_create(&program);
    assert_non_null(leg);
    rig_publish(&(struct table_entry){.vif = source, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
}

static struct worker_count run(unsigned loops, uint64_t seed)
{
    struct worker_count count;

    rig_measure(seed);
    for (unsigned i = 0; i < loops; i++)
        rig_loop();
    rig_worker_read(&count);
    return count;
}

static uint64_t all_stages(const struct worker_count *count)
{
    uint64_t cycles = 0;

    for (unsigned i = 0; i < WORKER_STAGE_COUNT; i++)
        cycles += count->stages[i].cycles;
    return cycles;
}

// Each stage in turn takes long: just it must be charged.
static void test_each_stage(void **state)
{
    static const enum worker_stage slow[] = {WORKER_STAGE_RECEIVE, WORKER_STAGE_COPY, WORKER_STAGE_NOTIFY,
                                             WORKER_STAGE_COMPLETE};
    const struct hop_step steps[] = {{.kind = HOP_END, .vif = SLOT_TO, .wait = true, .stall_ms = 100}};

    (void)state;
    wire(SLOT_FROM, steps, 1);
    for (unsigned i = 0; i < sizeof(slow) / sizeof(slow[0]); i++) {
        bool right = false;

        memset(timed.spin, 0, sizeof(timed.spin));
        timed.spin[slow[i]] = SPIN;
        for (unsigned try = 0; try < TRIES && !right; try++) {
            struct worker_count count;
            uint64_t rest;

            timed.frames = 8;
            count = run(2 * STAGE_SAMPLE_EVERY, try);
            assert_true(count.sampled_loops >= 1);
            assert_int_equal(8 * count.sampled_loops, count.sampled_frames);
            // It is never charged with less than it took.
            assert_true(count.stages[slow[i]].cycles + 1000 * count.sampled_loops >= SPIN * count.sampled_loops);
            rest = all_stages(&count) - count.stages[slow[i]].cycles;
            right = count.stages[slow[i]].cycles < count.sampled_loops * (SPIN + SPIN / 10) &&
                    rest < count.sampled_loops * SPIN / 10;
        }
        assert_true(right);
    }
}

// An empty queue beside a busy one, taps in passes of their own.
static void test_poll_and_taps(void **state)
{
    const struct hop_step steps[] = {{.kind = HOP_TAP, .vif = SLOT_M1},
                                     {.kind = HOP_TAP, .vif = SLOT_M2},
                                     {.kind = HOP_END, .vif = SLOT_TO, .wait = true, .stall_ms = 100}};
    struct nic m1, m2;
    bool right = false;

    (void)state;
    nic_open(&m1, SLOT_M1);
    nic_open(&m2, SLOT_M2);
    m1.vif->ops = m2.vif->ops = &timed_ops;
    vif_list(SLOT_M1, false); // so that they aren't polled
    vif_list(SLOT_M2, false);
    wire(SLOT_FROM, steps, 3);
    timed.frames = 4;
    timed.spin[WORKER_STAGE_TAPS] = SPIN; // four times: two copies, two flushes
    for (unsigned try = 0; try < TRIES && !right; try++) {
        struct worker_count count = run(2 * STAGE_SAMPLE_EVERY, try);

        assert_int_equal(count.sampled_frames, count.stages[WORKER_STAGE_TAPS].frames);
        assert_int_equal(count.sampled_frames, count.stages[WORKER_STAGE_COPY].frames);
        assert_int_equal(0, count.stages[WORKER_STAGE_COPY_TAPPED].frames);
        assert_int_equal(0, count.stages[WORKER_STAGE_COPY_TAPPED].cycles);
        assert_true(count.stages[WORKER_STAGE_POLL].cycles > 0); // `to` and `empty` have nothing
        assert_int_equal(0, count.stages[WORKER_STAGE_POLL].frames);
        right = count.stages[WORKER_STAGE_TAPS].cycles < count.sampled_loops * 5 * SPIN &&
                count.stages[WORKER_STAGE_TAPS].cycles > count.sampled_loops * 4 * (SPIN - 1000);
    }
    assert_true(right);
    rig_publish(NULL, 0);
    leg_destroy(leg);
    leg = NULL;
    m1.vif->ops = m2.vif->ops = empty.vif->ops;
    nic_close(&m1);
    nic_close(&m2);
}

// Loops of different kinds that come in a period: the ones that are measured
// must be of all kinds. No time is in it, only frames, and the seeds are fixed.
static void test_no_bias(void **state)
{
    static const unsigned periods[] = {2, 4, 16, STAGE_SAMPLE_EVERY, 2 * STAGE_SAMPLE_EVERY};
    const struct hop_step steps[] = {{.kind = HOP_END, .vif = SLOT_TO, .wait = true, .stall_ms = 100}};
    enum { LOOPS = 200000 };

    (void)state;
    wire(SLOT_FROM, steps, 1);
    for (unsigned i = 0; i < sizeof(periods) / sizeof(periods[0]); i++) {
        struct worker_count count;
        double all, sampled;

        rig_measure(i + 1);
        for (unsigned loop = 0; loop < LOOPS; loop++) {
            timed.frames = loop % periods[i] == 0 ? LIMIT_BURST_FRAMES : 1;
            assert_int_equal(timed.frames, rig_loop());
        }
        rig_worker_read(&count);
        assert_int_equal(LOOPS, count.loops);
        all = (double)count.frames / (double)count.loops;
        sampled = (double)count.sampled_frames / (double)count.sampled_loops;
        printf("period %u: %.2f frames a loop, %.2f in the %lu measured\n", periods[i], all, sampled,
               (unsigned long)count.sampled_loops);
        assert_in_range(count.sampled_loops, LOOPS / STAGE_SAMPLE_EVERY * 9 / 10, LOOPS / STAGE_SAMPLE_EVERY * 11 / 10);
        assert_true(sampled > all * 0.75 && sampled < all * 1.25);
    }
}

// Loops without frames aren't measured, and don't use up the choice.
static void test_empty_loops(void **state)
{
    const struct hop_step steps[] = {{.kind = HOP_END, .vif = SLOT_TO, .wait = true, .stall_ms = 100}};
    struct worker_count count;

    (void)state;
    wire(SLOT_FROM, steps, 1);
    timed.frames = 0;
    count = run(10000, 1);
    assert_int_equal(0, count.sampled_loops);
    assert_int_equal(0, all_stages(&count));
    assert_int_equal(0, count.busy_cycles);
    assert_true(count.empty_cycles > 0);
    rig_measure(2);
    for (unsigned i = 0; i < 64000; i++) {
        timed.frames = i % 32 == 31;
        rig_loop();
    }
    rig_worker_read(&count);
    assert_int_equal(2000, count.frames);
    assert_int_equal(count.sampled_loops, count.sampled_frames);
    assert_in_range(count.sampled_loops, 2000 / STAGE_SAMPLE_EVERY / 2, 2000 / STAGE_SAMPLE_EVERY * 2);
}

// ---- the real vhost path ----

static const struct guest_options plain = {.rx = {.mergeable = false}};

// A guest that has nothing but bad chains makes the worker work: what that takes is seen of the worker and of the
// queue, and is neither a frame nor an empty poll.
static void test_bad_chains(void **state)
{
    enum { LOOPS = 20000 };
    struct worker_count count;
    struct queue_count queue;
    struct guest a;

    (void)state;
    guest_open(&a, SLOT_M1, &plain);
    rig_publish(NULL, 0);
    rig_measure(3);
    for (unsigned loop = 0; loop < LOOPS; loop++) {
        uint32_t len;
        uint16_t id;

        while (driver_take(&a.tx, &id, &len))
            ;
        driver_add_one(&a.tx, DRIVER_BUFFERS_AT, 12 + LIMIT_FRAME_MIN - 1, 0);
        driver_publish(&a.tx);
        assert_int_equal(0, rig_loop());
    }
    rig_worker_read(&count);
    assert_int_equal(LOOPS, count.loops);
    assert_int_equal(0, count.frames);
    assert_true(count.busy_cycles > 0);
    assert_int_equal(0, count.empty_cycles);
    assert_in_range(count.sampled_loops, LOOPS / STAGE_SAMPLE_EVERY * 8 / 10, LOOPS / STAGE_SAMPLE_EVERY * 12 / 10);
    assert_int_equal(0, count.sampled_frames);
    assert_true(count.stages[WORKER_STAGE_RECEIVE].cycles > 0);
    assert_true(vif_read_queue(SLOT_M1, 0, &queue));
    assert_true(queue.busy_cycles > 0 && queue.busy_cycles < 4 * count.busy_cycles);
    // With nothing at all it is none.
    rig_measure(3);
    rig_loop();
    rig_worker_read(&count);
    assert_int_equal(0, count.busy_cycles);
    assert_true(count.empty_cycles > 0);
    guest_close(&a);
}

static void send_burst(struct guest *a, struct guest *b, unsigned frames, uint32_t len)
{
    uint8_t bytes[LIMIT_FRAME_MAX + 64];

    guest_post(b, frames, len + 12);
    for (unsigned i = 0; i < frames; i++)
        guest_send(a, i, len, 0);
    assert_int_equal(frames, rig_loop());
    for (unsigned i = 0; i < frames; i++)
        assert_int_equal(len, guest_take(b, bytes));
    guest_forget_sent(a);
}

// Stages add up to what the worker was busy, a frame, for large and small bursts.
static void test_sum(void **state)
{
    static const unsigned bursts[] = {64, 8, 1};
    const struct hop_step steps[] = {{.kind = HOP_END, .vif = SLOT_M2, .wait = true, .stall_ms = 100}};
    struct guest a, b;

    (void)state;
    guest_open(&a, SLOT_M1, &plain);
    guest_open(&b, SLOT_M2, &plain);
    wire(SLOT_M1, steps, 1);
    for (unsigned i = 0; i < sizeof(bursts) / sizeof(bursts[0]); i++) {
        bool right = false;

        for (unsigned try = 0; try < TRIES && !right; try++) {
            struct worker_count count;
            double busy, stages;

            rig_measure(try);
            for (unsigned loop = 0; loop < 1000; loop++)
                send_burst(&a, &b, bursts[i], FRAME_LEN);
            rig_worker_read(&count);
            assert_int_equal(1000 * bursts[i], count.frames);
            assert_int_equal(bursts[i] * count.sampled_loops, count.sampled_frames);
            // Every frame passes each of these.
            assert_int_equal(count.sampled_frames, count.stages[WORKER_STAGE_RECEIVE].frames);
            assert_int_equal(count.sampled_frames, count.stages[WORKER_STAGE_LOOKUP].frames);
            assert_int_equal(count.sampled_frames, count.stages[WORKER_STAGE_COPY].frames);
            assert_int_equal(count.sampled_frames, count.stages[WORKER_STAGE_NOTIFY].frames);
            assert_int_equal(count.sampled_frames, count.stages[WORKER_STAGE_COMPLETE].frames);
            assert_int_equal(count.sampled_frames, count.stages[WORKER_STAGE_HOUSEKEEPING].frames);
            assert_int_equal(0, count.stages[WORKER_STAGE_TAPS].cycles);
            busy = (double)count.busy_cycles / (double)count.frames;
            stages = (double)all_stages(&count) / (double)count.sampled_frames;
            right = stages > busy * 0.9 && stages < busy * 1.1;
            if (right || try + 1 == TRIES)
                printf("bursts of %u: busy %.1f cycles a frame, the stages' sum %.1f (try %u)\n", bursts[i], busy,
                       stages, try + 1);
        }
        assert_true(right);
    }
    rig_publish(NULL, 0);
    leg_destroy(leg);
    leg = NULL;
    guest_close(&a);
    guest_close(&b);
}

// One tap between guests: both copies in one pass, which is a stage of its own.
static void test_one_pass(void **state)
{
    const struct hop_step steps[] = {{.kind = HOP_TAP, .vif = SLOT_EMPTY + 1},
                                     {.kind = HOP_END, .vif = SLOT_M2, .wait = true, .stall_ms = 100}};
    struct worker_count count;
    struct guest a, b, m;

    (void)state;
    guest_open(&a, SLOT_M1, &plain);
    guest_open(&b, SLOT_M2, &plain);
    guest_open(&m, SLOT_EMPTY + 1, &plain);
    wire(SLOT_M1, steps, 2);
    rig_measure(1);
    for (unsigned loop = 0; loop < 500; loop++) {
        uint8_t bytes[LIMIT_FRAME_MAX + 64];

        guest_post(&m, 8, 1526);
        send_burst(&a, &b, 8, 1514);
        for (unsigned i = 0; i < 8; i++)
            assert_int_equal(1514, guest_take(&m, bytes));
    }
    rig_worker_read(&count);
    assert_true(count.sampled_loops > 2);
    assert_int_equal(count.sampled_frames, count.stages[WORKER_STAGE_COPY_TAPPED].frames);
    assert_true(count.stages[WORKER_STAGE_COPY_TAPPED].cycles > 0);
    assert_int_equal(0, count.stages[WORKER_STAGE_COPY].cycles);
    assert_int_equal(0, count.stages[WORKER_STAGE_TAPS].cycles);
    rig_publish(NULL, 0);
    leg_destroy(leg);
    leg = NULL;
    guest_close(&a);
    guest_close(&b);
    guest_close(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_each_stage, setup, teardown),
        cmocka_unit_test_setup_teardown(test_poll_and_taps, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_bias, setup, teardown),
        cmocka_unit_test_setup_teardown(test_empty_loops, setup, teardown),
        cmocka_unit_test_setup_teardown(test_bad_chains, setup, teardown),
        cmocka_unit_test_setup_teardown(test_sum, setup, teardown),
        cmocka_unit_test_setup_teardown(test_one_pass, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
