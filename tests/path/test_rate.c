// SPDX-License-Identifier: BSD-3-Clause

// Rates of ports: the bucket's arithmetic over days and at both ends of the
// range, and what legs and taps do with it. No two cases share a bucket.

#include "hop_case.h"

#include "dataplane/rate.h"

#include <string.h>

#define HZ UINT64_C(1000000000) // rig_now is in nanoseconds

// ---- arithmetic ----

static _Atomic uint64_t word;

static struct rate make(uint64_t bps, uint32_t burst, uint64_t hz)
{
    struct rate rate = {0};

    atomic_store(&word, 0);
    rate_set(&rate, &word, bps, burst, hz);
    return rate;
}

static struct rate make_frames(uint32_t pps, uint32_t burst, uint64_t hz)
{
    struct rate rate = {0};

    atomic_store(&word, 0);
    rate_set_frames(&rate, &word, pps, burst, hz);
    return rate;
}

static struct burst *frames_of(uint16_t count, uint32_t len)
{
    static struct burst burst;

    burst.count = count;
    for (uint16_t i = 0; i < count; i++)
        burst.frames[i].len = len;
    return &burst;
}

static uint64_t pass(const struct rate *rate, uint64_t now, uint16_t count, uint32_t len)
{
    uint16_t fits = rate_fits(rate, now, frames_of(count, len), 0, count);

    rate_charge(rate, now, fits, (uint64_t)fits * len);
    return (uint64_t)fits * len;
}

enum { STEPS = 2000 };

// More is offered than may pass; what passes in a time is the rate, whatever it is, and however long the frames are.
static void test_long_run(void **state)
{
    static const uint64_t rates[] = {8000,       64000,        1000000,      999999937,
                                     1000000000, 100000000000, 400000000000, LIMIT_RATE_BPS};
    static const uint64_t clocks[] = {1000000000, 2600000000, 5000000000};
    static const uint32_t lens[] = {14, 60, 1514, 9216, LIMIT_FRAME_GSO_MAX};

    (void)state;
    for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
        for (size_t c = 0; c < sizeof(clocks) / sizeof(clocks[0]); c++) {
            for (size_t l = 0; l < sizeof(lens) / sizeof(lens[0]); l++) {
                struct rate rate = make(rates[r], 65536, clocks[c]);
                // A step is what a fifth of the bucket takes.
                uint64_t step = (uint64_t)((rate_wide)clocks[c] * 8 * 13107 / rates[r]) + 1;
                uint64_t now = 12345, end = now + STEPS * step, passed = 0, more;
                double wanted, got;

                for (; now < end; now += step)
                    while ((more = pass(&rate, now, 64, lens[l])) > 0)
                        passed += more;
                wanted = (double)rates[r] / 8 * STEPS * (double)step / (double)clocks[c];
                got = (double)passed - 65536; // the burst at the start
                if (got < 0.999 * wanted - 2 * lens[l] || got > 1.001 * wanted + 2 * lens[l])
                    fail_msg("%llu bit/s at %llu Hz, frames of %u: %.0f bytes instead of %.0f",
                             (unsigned long long)rates[r], (unsigned long long)clocks[c], lens[l], got, wanted);
            }
        }
    }
}

// The same of frames, of any length: whatever the rate, so many pass in a time as it says.
static void test_long_run_frames(void **state)
{
    static const uint32_t rates[] = {1, 7, 1000, 999983, 14880952, LIMIT_RATE_PPS};
    static const uint64_t clocks[] = {1000000000, 2600000000, 5000000000};
    static const uint32_t bursts[] = {16, 64, 4096};

    (void)state;
    for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
        for (size_t c = 0; c < sizeof(clocks) / sizeof(clocks[0]); c++) {
            for (size_t d = 0; d < sizeof(bursts) / sizeof(bursts[0]); d++) {
                struct rate rate = make_frames(rates[r], bursts[d], clocks[c]);
                // A step is what half of the bucket takes.
                uint64_t step = (uint64_t)((rate_wide)clocks[c] * bursts[d] / rates[r] / 2) + 1;
                uint64_t now = 12345, end = now + STEPS * step, passed = 0;
                uint16_t more;
                double wanted, got;

                for (; now < end; now += step) {
                    while ((more = rate_fits(&rate, now, frames_of(64, 60 + (uint32_t)passed % 9000), 0, 64)) > 0) {
                        rate_charge(&rate, now, more, 0);
                        passed += more;
                    }
                }
                wanted = (double)rates[r] * STEPS * (double)step / (double)clocks[c];
                got = (double)passed - bursts[d];
                if (got < 0.999 * wanted - 2 || got > 1.001 * wanted + 2)
                    fail_msg("%u frames/s at %llu Hz, burst %u: %.0f frames instead of %.0f", rates[r],
                             (unsigned long long)clocks[c], bursts[d], got, wanted);
            }
        }
    }
}

// After a pause the bucket is full, and no fuller: after a nanosecond less than it takes, days, years, or half the
// range of a word.
static void test_pauses(void **state)
{
    static const uint64_t days[] = {0, 1, 20, 39, 40, 41, 79, 81, 365, 3650};

    (void)state;
    for (size_t i = 0; i < sizeof(days) / sizeof(days[0]); i++) {
        struct rate rate = make(1000000, 100000, 5000000000);
        // The counter has run for long, too.
        uint64_t now = UINT64_C(5000000000) * 86400 * 3000 + 17;
        uint64_t first = pass(&rate, now, 64, 10000);

        assert_int_equal(100000, first);
        assert_int_equal(0, pass(&rate, now, 64, 1000));
        // A bucket of 100,000 bytes at 1 Mbit/s is full again after 0.8 s.
        now += UINT64_C(4000000000) + UINT64_C(5000000000) * 86400 * days[i] + 3;
        assert_int_equal(100000, pass(&rate, now, 64, 10000));
        assert_int_equal(0, pass(&rate, now, 64, 1000));
    }
}

// What was owed at a lower rate is forgotten by a higher one, soon; and no change of a rate blocks a port.
static void test_change(void **state)
{
    struct rate slow = make(8000, 1000, HZ), fast = {0};
    uint64_t now = 1, passed = 0;

    (void)state;
    assert_int_equal(60000, pass(&slow, now, 1, 60000)); // a minute's worth
    rate_set(&fast, &word, 8000000000, 65536, HZ);
    for (unsigned i = 0; i < 2000; i++, now += 1000000)
        passed += pass(&fast, now, 64, 1514);
    assert_true(passed > 2000 * 64 * 1514 / 2);
    rate_set(&slow, &word, 8000, 1000, HZ);
    passed = 0;
    for (unsigned i = 0; i < 100; i++, now += HZ)
        passed += pass(&slow, now, 64, 100);
    assert_in_range(passed, 95000, 106000);
}

// ---- legs ----

static void wire_program(vif_slot from, struct hop_program *program)
{
    struct leg *old = leg;

    leg = leg_create(program);
    assert_non_null(leg);
    rig_publish(&(struct table_entry){.vif = from, .vlan = TABLE_ANY_VLAN, .leg = leg}, 1);
    leg_destroy(old);
}

// From a to b; 1,000 bytes a second, a burst of `burst` bytes.
static void wire_limited(bool ingress, uint64_t burst, bool wait, bool tapped)
{
    const struct hop_rate rate = {.bps = 8000, .burst = burst};
    struct hop_program program = {.step_count = tapped ? 2 : 1, .source = SLOT_A};

    if (tapped)
        program.steps[0] = (struct hop_step)STEP_TAP(SLOT_M1);
    program.steps[tapped] = (struct hop_step)STEP_END(SLOT_B, wait);
    if (ingress)
        program.ingress = rate;
    else
        program.steps[tapped].rate = rate;
    wire_program(SLOT_A, &program);
}

// Ten frames of 100 bytes where 450 may come: five pass (the last in debt), the tap gets all.
static void run_burst(bool ingress, bool tapped)
{
    struct leg_count count;

    wire_limited(ingress, 450, true, tapped);
    guest_post(&b, 20, 200);
    guest_post(&m1, 20, 200);
    send_some(&a, 0, 10, 100);
    assert_int_equal(10, rig_poll());
    expect_some(&b, 0, 5, 100);
    expect_none(&b);
    count = check(10, 5, DROP_RATE_LIMITED, 5);
    if (tapped) {
        expect_some(&m1, 0, 10, 100);
        assert_int_equal(10, count.steps[0].tap.offered);
        assert_int_equal(10, count.steps[0].tap.copied.frames);
    }
    // The debt of 50 is paid after 50 ms.
    rig_now += 50 * MS;
    send_some(&a, 10, 1, 100);
    assert_int_equal(1, rig_poll());
    check(11, 5, DROP_RATE_LIMITED, 6);
    rig_now += 1;
    send_some(&a, 11, 1, 100);
    assert_int_equal(1, rig_poll());
    expect_some(&b, 11, 1, 100);
    check(12, 6, DROP_RATE_LIMITED, 6);
}

static void test_ingress(void **state)
{
    (void)state;
    run_burst(true, false);
}

static void test_egress(void **state)
{
    (void)state;
    run_burst(false, false);
}

static void test_ingress_tapped(void **state)
{
    (void)state;
    run_burst(true, true);
}

static void test_egress_tapped(void **state)
{
    (void)state;
    run_burst(false, true);
}

// What waits for room isn't charged before it has gone, nor dropped as long as it is within the rate.
static void test_waiting(void **state)
{
    (void)state;
    wire_limited(false, 450, true, false);
    send_some(&a, 0, 10, 100);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(0, rig_poll());
    guest_post(&b, 3, 200);
    assert_int_equal(3, rig_poll());
    guest_post(&b, 20, 200);
    assert_int_equal(7, rig_poll());
    expect_some(&b, 0, 5, 100);
    check(10, 5, DROP_RATE_LIMITED, 5);
}

// A receiver that drops for want of room gets its rate all the same: only what it got is charged.
static void test_full(void **state)
{
    (void)state;
    wire_limited(false, 450, false, false);
    guest_post(&b, 1, 200);
    send_some(&a, 0, 10, 100);
    assert_int_equal(10, rig_poll());
    expect_some(&b, 0, 1, 100);
    guest_post(&b, 20, 200);
    send_some(&a, 10, 10, 100);
    assert_int_equal(10, rig_poll());
    expect_some(&b, 10, 4, 100);
    struct leg_count count = leg_check(leg);
    assert_int_equal(4, count.dropped[DROP_FULL]);
    assert_int_equal(11, count.dropped[DROP_RATE_LIMITED]);
}

// The bucket is the port's: another leg and table go on with it. One without a rate doesn't touch it.
static void test_publish(void **state)
{
    (void)state;
    guest_post(&b, 60, 200);
    wire_limited(false, 450, true, false);
    send_some(&a, 0, 3, 100);
    assert_int_equal(3, rig_poll());
    wire_limited(false, 450, false, false);
    send_some(&a, 3, 7, 100);
    assert_int_equal(7, rig_poll());
    expect_some(&b, 0, 5, 100);
    check(7, 2, DROP_RATE_LIMITED, 5);
    WIRE(SLOT_A, STEP_END(SLOT_B, true));
    send_some(&a, 10, 20, 100);
    assert_int_equal(20, rig_poll());
    expect_some(&b, 10, 20, 100);
    check(20, 20, 0, 0);
    wire_limited(false, 450, true, false);
    send_some(&a, 30, 1, 100);
    assert_int_equal(1, rig_poll());
    check(1, 0, DROP_RATE_LIMITED, 1);
}

// A monitor's port: copies above its rate are dropped, the wire knows nothing of it.
static void test_tap(void **state)
{
    struct hop_program program = {.step_count = 2};
    struct leg_count count;

    (void)state;
    program.steps[0] = (struct hop_step)STEP_TAP(SLOT_M1);
    program.steps[0].rate = (struct hop_rate){.bps = 8000, .burst = 450};
    program.steps[1] = (struct hop_step)STEP_END(SLOT_B, true);
    wire_program(SLOT_A, &program);
    guest_post(&b, 20, 200);
    guest_post(&m1, 20, 200);
    send_some(&a, 0, 10, 100);
    assert_int_equal(10, rig_poll());
    expect_some(&b, 0, 10, 100);
    expect_some(&m1, 0, 5, 100);
    expect_none(&m1);
    count = check(10, 10, 0, 0);
    assert_int_equal(5, count.steps[0].tap.dropped[TAP_DROP_RATE_LIMITED]);
    assert_int_equal(10, count.steps[0].tap.offered);
}

// Frames a second: ten come where four may, whatever their length; the fifth may a whole frame's time later. Bytes may
// be limited as well, and what stops at either is stopped.
static void run_frames(bool ingress, bool tapped, const struct hop_rate *rate, uint16_t pass)
{
    struct hop_program program = {.step_count = tapped ? 2 : 1, .source = SLOT_A};

    if (tapped)
        program.steps[0] = (struct hop_step)STEP_TAP(SLOT_M1);
    program.steps[tapped] = (struct hop_step)STEP_END(SLOT_B, true);
    if (ingress)
        program.ingress = *rate;
    else
        program.steps[tapped].rate = *rate;
    wire_program(SLOT_A, &program);
    guest_post(&b, 40, 2000);
    guest_post(&m1, 40, 2000);
    send_some(&a, 0, 10, 1000);
    assert_int_equal(10, rig_poll());
    expect_some(&b, 0, pass, 1000);
    expect_none(&b);
    if (tapped)
        expect_some(&m1, 0, 10, 1000);
    check(10, pass, DROP_RATE_LIMITED, 10u - pass);
}

static void test_frames(void **state)
{
    static const struct hop_rate four = {.pps = 10, .frame_burst = 4};

    (void)state;
    run_frames(false, false, &four, 4);
    // One each 100 ms, and not a nanosecond before.
    rig_now += 100 * MS - 10;
    send_some(&a, 10, 1, 60);
    assert_int_equal(1, rig_poll());
    check(11, 4, DROP_RATE_LIMITED, 7);
    rig_now += 20;
    send_some(&a, 11, 3, 60);
    assert_int_equal(3, rig_poll());
    expect_some(&b, 11, 1, 60);
    check(14, 5, DROP_RATE_LIMITED, 9);
}

static void test_frames_ingress(void **state)
{
    static const struct hop_rate three = {.pps = 1, .frame_burst = 3};

    (void)state;
    run_frames(true, true, &three, 3);
}

static void test_frames_and_bytes(void **state)
{
    static const struct hop_rate bytes_first = {.bps = 8000, .burst = 1500, .pps = 1, .frame_burst = 3};

    (void)state;
    run_frames(false, true, &bytes_first, 2);
}

static void test_bytes_and_frames(void **state)
{
    static const struct hop_rate frames_first = {.bps = 8000, .burst = 9500, .pps = 1, .frame_burst = 3};

    (void)state;
    run_frames(true, false, &frames_first, 3);
}

// A monitor's port.
static void test_frames_tap(void **state)
{
    struct hop_program program = {.step_count = 2};
    struct leg_count count;

    (void)state;
    program.steps[0] = (struct hop_step)STEP_TAP(SLOT_M1);
    program.steps[0].rate = (struct hop_rate){.pps = 1, .frame_burst = 6};
    program.steps[1] = (struct hop_step)STEP_END(SLOT_B, true);
    wire_program(SLOT_A, &program);
    guest_post(&b, 20, 200);
    guest_post(&m1, 20, 200);
    send_some(&a, 0, 10, 100);
    assert_int_equal(10, rig_poll());
    expect_some(&b, 0, 10, 100);
    expect_some(&m1, 0, 6, 100);
    expect_none(&m1);
    count = check(10, 10, 0, 0);
    assert_int_equal(4, count.steps[0].tap.dropped[TAP_DROP_RATE_LIMITED]);
}

// What a NIC sent and is above the rate goes back to its pool (the teardown counts).
static void test_nic(void **state)
{
    struct hop_program program = {.step_count = 1, .source = SLOT_NIC, .ingress = {.bps = 8000, .burst = 450}};

    (void)state;
    program.steps[0] = (struct hop_step)STEP_END(SLOT_NIC2, true);
    wire_program(SLOT_NIC, &program);
    nic_send_some(&nic, 0, 10, 100);
    rig_poll();
    rig_poll();
    nic_expect_some(&nic2, 0, 5, 100);
    check(10, 5, DROP_RATE_LIMITED, 5);
}

static void test_bad_rates(void **state)
{
    static const struct hop_rate bad[] = {{.bps = 7999, .burst = 1},
                                          {.bps = LIMIT_RATE_BPS + 1, .burst = 1},
                                          {.bps = 8000},
                                          {.bps = 8000, .burst = LIMIT_RATE_BURST + 1u},
                                          {.pps = 1},
                                          {.pps = LIMIT_RATE_PPS + 1u, .frame_burst = 1},
                                          {.pps = 1, .frame_burst = LIMIT_RATE_BURST_FRAMES + 1u}};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct hop_program program = {.step_count = 1, .source = SLOT_A, .steps = {STEP_END(SLOT_B, true)}};

        program.ingress = bad[i];
        assert_null(leg_create(&program));
        program.ingress = (struct hop_rate){0};
        program.steps[0].rate = bad[i];
        assert_null(leg_create(&program));
    }
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, hop_setup, hop_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_long_run),
        cmocka_unit_test(test_long_run_frames),
        cmocka_unit_test(test_pauses),
        cmocka_unit_test(test_change),
        CASE(test_ingress),
        CASE(test_egress),
        CASE(test_ingress_tapped),
        CASE(test_egress_tapped),
        CASE(test_waiting),
        CASE(test_full),
        CASE(test_publish),
        CASE(test_tap),
        CASE(test_frames),
        CASE(test_frames_ingress),
        CASE(test_frames_and_bytes),
        CASE(test_bytes_and_frames),
        CASE(test_frames_tap),
        CASE(test_nic),
        CASE(test_bad_rates),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
