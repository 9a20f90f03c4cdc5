// SPDX-License-Identifier: BSD-3-Clause

// Notifications: the event index against counting by hand, the flags, and
// drivers and devices that really sleep.

#include "dataplane/guest_call.h"
#include "driver.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

// How often the eventfd was written since the last look.
static uint64_t writes(int fd)
{
    eventfd_t count = 0;

    return eventfd_read(fd, &count) == 0 ? count : 0;
}

static void begin(struct driver *driver, const struct driver_options *options)
{
    driver_open(driver, options);
    driver->vq.call_fd = eventfd(0, EFD_NONBLOCK);
    driver->vq.kick_fd = eventfd(0, EFD_NONBLOCK);
    assert_true(driver->vq.call_fd >= 0 && driver->vq.kick_fd >= 0);
}

static void end(struct driver *driver)
{
    close(driver->vq.call_fd);
    close(driver->vq.kick_fd);
    driver_close(driver);
}

static void used_event_set(struct driver *driver, uint16_t index)
{
    __atomic_store_n(&driver->avail->ring[driver->size], index, __ATOMIC_RELAXED);
}

static uint16_t avail_event(const struct driver *driver)
{
    return __atomic_load_n((uint16_t *)(void *)&driver->used->ring[driver->size], __ATOMIC_RELAXED);
}

// Puts `count` chains into the used ring by way of the engine.
static void use(struct driver *driver, uint16_t count)
{
    static struct burst burst;

    for (uint16_t left = count; left > 0;) {
        uint16_t some = left < LIMIT_BURST_FRAMES ? left : LIMIT_BURST_FRAMES;

        for (uint16_t i = 0; i < some; i++)
            burst.frames[i].id = i & (driver->size - 1);
        for (uint16_t i = 0; i < some; i++)
            driver_offer(driver, i & (driver->size - 1));
        driver_publish(driver);
        // As complete does, without its notification.
        int fd = driver->vq.call_fd;
        uint16_t signalled = driver->vq.signalled_used;
        bool valid = driver->vq.signalled_valid;

        driver->vq.call_fd = -1;
        virtqueue_complete(&driver->vq, &burst, some);
        driver->vq.call_fd = fd;
        driver->vq.signalled_used = signalled;
        driver->vq.signalled_valid = valid;
        left -= some;
    }
}

// The rule of virtio 1.2, 2.7.10: notify if the entry that used_event names was
// written since the last time, step by step.
static bool should(uint16_t event, uint16_t from, uint16_t to)
{
    for (uint16_t i = from; i != to; i++)
        if (i == event)
            return true;
    return false;
}

static void test_event_index(void **state)
{
    static const uint16_t starts[] = {0, 1, 65530, 65535, 32767};
    static const uint16_t counts[] = {1, 2, 3, 64, 200};
    struct driver driver;

    (void)state;
    for (unsigned s = 0; s < sizeof(starts) / sizeof(starts[0]); s++)
        for (unsigned c = 0; c < sizeof(counts) / sizeof(counts[0]); c++)
            for (int offset = -70; offset<270; offset += offset> - 4 && offset < 4 ? 1 : 7) {
                uint16_t event = (uint16_t)(starts[s] + 1 + offset);
                bool want = should(event, (uint16_t)(starts[s] + 1), (uint16_t)(starts[s] + 1 + counts[c]));

                begin(&driver, &(struct driver_options){.event_idx = true, .start = starts[s]});
                used_event_set(&driver, (uint16_t)(starts[s] - 5)); // the first signals whatever it says
                use(&driver, 1);
                assert_true(virtqueue_notify(&driver.vq));
                assert_int_equal(1, writes(driver.vq.call_fd));
                used_event_set(&driver, event);
                use(&driver, counts[c]);
                assert_int_equal(want, virtqueue_notify(&driver.vq));
                assert_int_equal(want, writes(driver.vq.call_fd));
                assert_false(virtqueue_notify(&driver.vq)); // nothing new
                assert_int_equal(0, writes(driver.vq.call_fd));
                end(&driver);
            }
}

static void test_flags(void **state)
{
    struct driver driver;

    (void)state;
    begin(&driver, &(struct driver_options){0});
    use(&driver, 3);
    assert_true(virtqueue_notify(&driver.vq));
    assert_false(virtqueue_notify(&driver.vq));
    use(&driver, 1);
    assert_true(virtqueue_notify(&driver.vq));
    assert_int_equal(2, writes(driver.vq.call_fd));
    driver.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
    use(&driver, 5);
    assert_false(virtqueue_notify(&driver.vq));
    driver.avail->flags = 0;
    // What wasn't wanted isn't made up for: the driver looks when it enables.
    assert_false(virtqueue_notify(&driver.vq));
    use(&driver, 1);
    assert_true(virtqueue_notify(&driver.vq));
    assert_int_equal(1, writes(driver.vq.call_fd));
    end(&driver);

    // A driver that polls has no call fd; one that gets it later is told of the next.
    begin(&driver, &(struct driver_options){0});
    int fd = driver.vq.call_fd;

    driver.vq.call_fd = -1;
    use(&driver, 2);
    assert_false(virtqueue_notify(&driver.vq));
    driver.vq.call_fd = fd;
    assert_false(virtqueue_notify(&driver.vq));
    use(&driver, 1);
    assert_true(virtqueue_notify(&driver.vq));
    end(&driver);
}

// A counter that is full must neither block nor fail anything, though its other
// owner has made it blocking meanwhile. A worker that waits there would stop
// the test too: SIGALRM says so.
static void test_full_eventfd(void **state)
{
    struct driver driver;

    (void)state;
    if (!guest_call_never_blocks()) {
        print_message("this kernel or sandbox has no asynchronous I/O\n");
        skip();
    }
    begin(&driver, &(struct driver_options){0});
    assert_int_equal(0, fcntl(driver.vq.call_fd, F_SETFL, fcntl(driver.vq.call_fd, F_GETFL) & ~O_NONBLOCK));
    assert_int_equal(0, eventfd_write(driver.vq.call_fd, UINT64_MAX - 1));
    alarm(300);
    for (unsigned i = 0; i < 1000; i++) {
        use(&driver, 1);
        assert_true(virtqueue_notify(&driver.vq));
    }
    alarm(0);
    assert_true(writes(driver.vq.call_fd) >= UINT64_MAX - 1);
    use(&driver, 1);
    assert_true(virtqueue_notify(&driver.vq));
    assert_int_equal(1, writes(driver.vq.call_fd));
    end(&driver);
}

// Each call is one, however many come before anyone looks; and what isn't an
// eventfd isn't written to.
static void test_calls(void **state)
{
    int event = eventfd(0, EFD_NONBLOCK), pipes[2];
    char byte;

    (void)state;
    assert_int_equal(0, pipe2(pipes, O_NONBLOCK));
    for (unsigned i = 0; i < 10000; i++)
        guest_call(event);
    assert_int_equal(10000, writes(event));
    if (guest_call_never_blocks()) {
        guest_call(pipes[1]);
        guest_call(-1);
        assert_int_equal(-1, read(pipes[0], &byte, 1));
    }
    guest_call_close();
    guest_call(event);
    assert_int_equal(1, writes(event));
    guest_call_close();
    close(event);
    close(pipes[0]);
    close(pipes[1]);
}

static void test_arm(void **state)
{
    struct driver driver;

    (void)state;
    for (unsigned event_idx = 0; event_idx < 2; event_idx++) {
        begin(&driver, &(struct driver_options){.event_idx = event_idx, .start = 65535});
        virtqueue_disarm(&driver.vq);
        if (!event_idx)
            assert_int_equal(VRING_USED_F_NO_NOTIFY, driver.used->flags);
        assert_true(virtqueue_arm(&driver.vq));
        assert_true(driver.vq.armed);
        if (event_idx)
            assert_int_equal(65535, avail_event(&driver)); // the next one's index
        else
            assert_int_equal(0, driver.used->flags);
        driver_add_one(&driver, driver_alloc(&driver, 100), 100, 0);
        driver_publish(&driver);
        assert_false(virtqueue_arm(&driver.vq)); // there is one
        assert_false(driver.vq.armed);
        if (!event_idx)
            assert_int_equal(VRING_USED_F_NO_NOTIFY, driver.used->flags);
        end(&driver);
    }
}

// A driver that gives buffers again needs no more notifications of it.
static void test_transmit_disarms(void **state)
{
    static struct burst burst;
    uint8_t bytes[60] = {0};
    enum transmit_stop stop;
    struct driver driver;

    (void)state;
    begin(&driver, &(struct driver_options){0});
    assert_true(virtqueue_arm(&driver.vq));
    burst.count = 1;
    frame_set_single(&burst.frames[0], bytes, sizeof(bytes));
    assert_int_equal(0, virtqueue_transmit(&driver.vq, &burst, 0, 1, &stop));
    assert_true(driver.vq.armed); // still no room
    driver_add_one(&driver, driver_alloc(&driver, 100), 100, VRING_DESC_F_WRITE);
    driver_publish(&driver);
    assert_int_equal(1, virtqueue_transmit(&driver.vq, &burst, 0, 1, &stop));
    assert_false(driver.vq.armed);
    assert_int_equal(VRING_USED_F_NO_NOTIFY, driver.used->flags);
    end(&driver);
}

// ---- both sides asleep and awake ----
//
// The driver sends numbered frames and waits for their return when its ring is
// full; the device waits for frames when the ring is empty. Each asks for a
// notification, fences, looks once more, and sleeps. A lost wake-up is a sleep
// that doesn't end.

enum { SLEEP_FRAMES = 200000, SLEEP_SIZE = 4, PATIENCE_MS = 120000 };

struct sleepers {
    struct driver driver;
    _Atomic bool failed;
    uint64_t driver_slept, device_slept;
};

static bool wait_on(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLIN};
    eventfd_t count;

    if (poll(&poll_fd, 1, PATIENCE_MS) != 1)
        return false;
    (void)eventfd_read(fd, &count);
    return true;
}

static void *device_main(void *argument)
{
    static struct burst burst;
    static _Atomic uint64_t discarded[VIF_DISCARD_REASON_COUNT];
    struct sleepers *sleepers = argument;
    struct virtqueue *vq = &sleepers->driver.vq;
    uint32_t next = 0;

    while (next < SLEEP_FRAMES) {
        uint16_t count = virtqueue_receive(vq, &burst, discarded);

        if (count == 0) {
            eventfd_t old;

            (void)eventfd_read(vq->kick_fd, &old);
            if (!virtqueue_arm(vq))
                continue;
            sleepers->device_slept++;
            if (!wait_on(vq->kick_fd)) {
                atomic_store(&sleepers->failed, true);
                return NULL;
            }
            virtqueue_disarm(vq);
            continue;
        }
        for (uint16_t i = 0; i < count; i++, next++) {
            uint32_t number;

            memcpy(&number, burst.frames[i].data, sizeof(number));
            if (number != next)
                atomic_store(&sleepers->failed, true);
        }
        virtqueue_complete(vq, &burst, count);
    }
    return NULL;
}

// The driver's side, as the specification has it (virtio 1.2, 2.7.13.4.1 and 2.7.14).
static void driver_kick(struct driver *driver, uint16_t from)
{
    atomic_thread_fence(memory_order_seq_cst);
    if (driver->options.event_idx) {
        if (!should(avail_event(driver), from, driver->avail_idx))
            return;
    } else if (__atomic_load_n(&driver->used->flags, __ATOMIC_RELAXED) & VRING_USED_F_NO_NOTIFY) {
        return;
    }
    (void)eventfd_write(driver->vq.kick_fd, 1);
}

static bool driver_sleep(struct sleepers *sleepers)
{
    struct driver *driver = &sleepers->driver;
    bool woken = true;

    if (driver->options.event_idx)
        used_event_set(driver, driver->used_idx);
    else
        __atomic_store_n(&driver->avail->flags, 0, __ATOMIC_RELAXED);
    atomic_thread_fence(memory_order_seq_cst);
    if (__atomic_load_n(&driver->used->idx, __ATOMIC_ACQUIRE) == driver->used_idx) {
        sleepers->driver_slept++;
        woken = wait_on(driver->vq.call_fd);
    }
    if (!driver->options.event_idx)
        __atomic_store_n(&driver->avail->flags, VRING_AVAIL_F_NO_INTERRUPT, __ATOMIC_RELAXED);
    return woken;
}

static void sleepers_run(bool event_idx)
{
    static struct sleepers sleepers;
    struct driver *driver = &sleepers.driver;
    uint64_t buffers[SLEEP_SIZE];
    uint32_t sent = 0, returned = 0;
    pthread_t device;

    memset(&sleepers, 0, sizeof(sleepers));
    begin(driver, &(struct driver_options){.size = SLEEP_SIZE, .event_idx = event_idx, .start = 65000});
    for (unsigned i = 0; i < SLEEP_SIZE; i++)
        buffers[i] = driver_alloc(driver, 72);
    assert_int_equal(0, pthread_create(&device, NULL, device_main, &sleepers));
    while (returned < SLEEP_FRAMES && !atomic_load(&sleepers.failed)) {
        uint16_t from = driver->avail_idx, head;
        uint32_t len, burst = 1 + sent % 3;

        while (burst-- > 0 && driver->free_count > 0 && sent < SLEEP_FRAMES) {
            uint64_t at = buffers[sent % SLEEP_SIZE];

            driver_write(driver, at + 12, &sent, sizeof(sent));
            driver_add_one(driver, at, 72, 0);
            sent++;
        }
        driver_publish(driver);
        if (driver->avail_idx != from)
            driver_kick(driver, from);
        while (driver_take(driver, &head, &len))
            returned++;
        if ((driver->free_count == 0 || sent == SLEEP_FRAMES) && returned < SLEEP_FRAMES && !driver_sleep(&sleepers))
            break;
    }
    atomic_store(&sleepers.failed, atomic_load(&sleepers.failed) || returned < SLEEP_FRAMES);
    pthread_join(device, NULL);
    print_message("slept: driver %llu, device %llu times\n", (unsigned long long)sleepers.driver_slept,
                  (unsigned long long)sleepers.device_slept);
    assert_false(sleepers.failed);
    // It did come to the point.
    assert_true(sleepers.driver_slept + sleepers.device_slept > 0);
    end(driver);
}

static void test_sleepers_event_index(void **state)
{
    (void)state;
    sleepers_run(true);
}

static void test_sleepers_flags(void **state)
{
    (void)state;
    sleepers_run(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_event_index),
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_full_eventfd),
        cmocka_unit_test(test_calls),
        cmocka_unit_test(test_arm),
        cmocka_unit_test(test_transmit_disarms),
        cmocka_unit_test(test_sleepers_event_index),
        cmocka_unit_test(test_sleepers_flags),
    };

    return cmocka_run_group_tests_name("virtqueue: notify", tests, NULL, NULL);
}
