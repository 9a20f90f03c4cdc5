// SPDX-License-Identifier: BSD-3-Clause

// The two places where each side stores and then loads what the other stored:
// without a full fence on both sides both may see the old value, and somebody
// sleeps for ever. Two threads meet at each round as closely as they can.

#include "driver.h"

#include "dataplane/copy.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#ifdef COPY_TSAN
enum { ROUNDS = 20000, SECONDS = 5 };
#else
enum { ROUNDS = 2000000, SECONDS = 10 };
#endif

struct litmus {
    struct driver driver;
    // A round begins when both have arrived, and ends when both have left.
    _Alignas(64) _Atomic uint32_t arrived;
    _Alignas(64) _Atomic uint32_t left;
    _Atomic bool over;
    bool event_idx;
    _Alignas(64) bool guest_saw;  // the guest saw what the device had stored
    _Alignas(64) bool device_saw; // the device saw what the guest had stored
    void (*guest_side)(struct litmus *litmus, uint32_t round);
};

static void meet(struct litmus *litmus, _Atomic uint32_t *place, uint32_t round)
{
    uint32_t spins = 0;

    atomic_fetch_add(place, 1);
    while (atomic_load_explicit(place, memory_order_acquire) < 2 * round && !atomic_load(&litmus->over))
        if (++spins % 4096 == 0)
            sched_yield(); // the other one may want this CPU
}

static void wait_steps(uint32_t steps)
{
    for (volatile uint32_t i = steps; i > 0; i--)
        ;
}

static void *guest_main(void *argument)
{
    struct litmus *litmus = argument;

    for (uint32_t round = 1; !atomic_load(&litmus->over); round++) {
        meet(litmus, &litmus->arrived, round);
        litmus->guest_side(litmus, round);
        meet(litmus, &litmus->left, round);
    }
    return NULL;
}

static uint16_t load(const void *at)
{
    return __atomic_load_n((const uint16_t *)at, __ATOMIC_RELAXED);
}

// ---- the device sleeps: arm against a guest that publishes ----

static void guest_publishes(struct litmus *litmus, uint32_t round)
{
    struct driver *driver = &litmus->driver;
    uint16_t index = (uint16_t)(round - 1);

    __atomic_store_n(&driver->avail->idx, (uint16_t)(index + 1), __ATOMIC_RELEASE);
    atomic_thread_fence(memory_order_seq_cst);
    if (litmus->event_idx)
        litmus->guest_saw = load(&driver->used->ring[driver->size]) == index;
    else
        litmus->guest_saw = load(&driver->used->flags) == 0;
}

static void device_arms(struct litmus *litmus, uint32_t round)
{
    // As the owner of a queue that has taken all there was.
    litmus->driver.vq.last_avail = (uint16_t)(round - 1);
    litmus->device_saw = !virtqueue_arm(&litmus->driver.vq);
}

// Before the next round the wish must be gone.
static void device_disarms(struct litmus *litmus)
{
    virtqueue_disarm(&litmus->driver.vq);
}

// ---- the guest sleeps: notify against a guest that asks for it ----

static void guest_asks(struct litmus *litmus, uint32_t round)
{
    struct driver *driver = &litmus->driver;
    uint16_t index = (uint16_t)(round - 1);

    if (litmus->event_idx)
        __atomic_store_n(&driver->avail->ring[driver->size], index, __ATOMIC_RELAXED);
    else
        __atomic_store_n(&driver->avail->flags, 0, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_seq_cst);
    litmus->guest_saw = __atomic_load_n(&driver->used->idx, __ATOMIC_ACQUIRE) != index;
}

static void device_notifies(struct litmus *litmus, uint32_t round)
{
    static struct burst burst;

    (void)round;
    burst.frames[0].id = 0;
    // It ends with virtqueue_notify.
    virtqueue_complete(&litmus->driver.vq, &burst, 1);
}

static void device_looks(struct litmus *litmus)
{
    eventfd_t count = 0;

    litmus->device_saw = eventfd_read(litmus->driver.vq.call_fd, &count) == 0;
    if (!litmus->event_idx)
        __atomic_store_n(&litmus->driver.avail->flags, VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_RELAXED);
}

static void run(bool event_idx, void (*guest_side)(struct litmus *, uint32_t),
                void (*device_side)(struct litmus *, uint32_t), void (*device_after)(struct litmus *))
{
    struct litmus *litmus = aligned_alloc(64, sizeof(*litmus));
    const time_t end = time(NULL) + SECONDS;
    uint64_t seen[2] = {0, 0};
    uint32_t round, lost = 0, delay = 0;
    pthread_t guest;

    assert_non_null(litmus);
    memset(litmus, 0, sizeof(*litmus));
    litmus->event_idx = event_idx;
    litmus->guest_side = guest_side;
    driver_open(&litmus->driver, &(struct driver_options){.event_idx = event_idx});
    litmus->driver.vq.call_fd = eventfd(0, EFD_NONBLOCK);
    litmus->driver.vq.signalled_valid = true;
    assert_true(litmus->driver.vq.call_fd >= 0);
    virtqueue_disarm(&litmus->driver.vq);
    // No wish yet, that is: one for an index far away.
    litmus->driver.avail->ring[256] = 0x8000;
    litmus->driver.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
    *(uint16_t *)(void *)&litmus->driver.used->ring[256] = 0x8000;
    assert_int_equal(0, pthread_create(&guest, NULL, guest_main, litmus));
    for (round = 1; round <= ROUNDS && (round % 1024 != 0 || time(NULL) < end); round++) {
        meet(litmus, &litmus->arrived, round);
        wait_steps(delay / 16 + round * 11 % 7);
        device_side(litmus, round);
        meet(litmus, &litmus->left, round);
        device_after(litmus);
        // Who comes too early to be seen waits a little longer the next time, so that
        // they pass each other as closely as can be.
        if (litmus->guest_saw && !litmus->device_saw)
            delay++;
        else if (litmus->device_saw && !litmus->guest_saw && delay > 0)
            delay--;
        lost += !litmus->guest_saw && !litmus->device_saw;
        seen[0] += litmus->guest_saw;
        seen[1] += litmus->device_saw;
    }
    atomic_store(&litmus->over, true);
    pthread_join(guest, NULL);
    print_message("%u rounds: the guest saw %llu, the device %llu; lost %u\n", round - 1, (unsigned long long)seen[0],
                  (unsigned long long)seen[1], lost);
    assert_int_equal(0, lost);
    close(litmus->driver.vq.call_fd);
    driver_close(&litmus->driver);
    free(litmus);
}

static void test_arm_event_index(void **state)
{
    (void)state;
    run(true, guest_publishes, device_arms, device_disarms);
}

static void test_arm_flags(void **state)
{
    (void)state;
    run(false, guest_publishes, device_arms, device_disarms);
}

static void test_notify_event_index(void **state)
{
    (void)state;
    run(true, guest_asks, device_notifies, device_looks);
}

static void test_notify_flags(void **state)
{
    (void)state;
    run(false, guest_asks, device_notifies, device_looks);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arm_event_index),
        cmocka_unit_test(test_arm_flags),
        cmocka_unit_test(test_notify_event_index),
        cmocka_unit_test(test_notify_flags),
    };

    return cmocka_run_group_tests_name("virtqueue: fences", tests, NULL, NULL);
}
