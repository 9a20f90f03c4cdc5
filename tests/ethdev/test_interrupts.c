// SPDX-License-Identifier: BSD-3-Clause

// A device with receive interrupts, as NICs have them: an eventfd that stays
// readable until it is read. Here a virtio-user device, whose other end is a
// vhost vif of ours:
//
//   test ── vhost-server vif ══ vhost-user ══ dev:net_virtio_user0 ── test

#include "fixture.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static char folder[] = "/tmp/patchbay-interrupts-XXXXXX";
static char path[64];
static char devargs[128];
static enum transmit_stop stop;

// Waits for one frame, which the other side has already sent.
static void receive_one(struct vif *vif, uint32_t number, uint32_t len)
{
    const struct timespec pause = {.tv_nsec = 1000 * 1000};

    for (int i = 0; vif->ops->receive(vif, 0, &fixture_in) == 0; i++) {
        assert_true(i < 20000);
        nanosleep(&pause, NULL);
    }
    assert_int_equal(fixture_in.count, 1);
    if (fixture_in.frames[0].len >= LIMIT_FRAME_WIRE_MIN)
        fixture_check(&fixture_in, 0, number, len);
    vif->ops->complete(vif, 0, &fixture_in, 1);
}

static void send_one(struct vif *vif, uint32_t number, uint32_t len)
{
    fixture_clear();
    fixture_add(number, len, 0);
    assert_int_equal(vif->ops->transmit(vif, 0, &fixture_out.burst, 0, 1, &stop), 1);
    if (vif->ops->flush != NULL)
        vif->ops->flush(vif, 0);
}

static void test_eventfd(void **state)
{
    static const uint32_t sizes[] = {14, 60, 1514, 2048, 2049, 9216};
    struct vif *host = fixture_make(VIF_VHOST_SERVER, path), *device = fixture_make(VIF_DEV, devargs);
    struct pollfd wake = {.events = POLLIN};

    (void)state;
    fixture_wait_link(device, VIF_LINK_UP, true);
    fixture_wait_link(host, VIF_LINK_UP, false);
    wake.fd = device->ops->wake_fd(device, 0);
    assert_true(wake.fd >= 0);
    for (uint32_t i = 0; i < 60; i++) {
        uint32_t len = sizes[i % 6];

        // What an earlier frame rang is gone once the queue is armed.
        assert_true(device->ops->arm(device, 0));
        assert_int_equal(poll(&wake, 1, 0), 0);
        send_one(host, i, len);
        assert_int_equal(poll(&wake, 1, 60000), 1);
        device->ops->disarm(device, 0);
        receive_one(device, i, len);
        // Disarmed it isn't rung for.
        assert_true(device->ops->arm(device, 0));
        device->ops->disarm(device, 0);
        send_one(host, i, len);
        receive_one(device, i, len);
        // And the way back, where a NIC gets chains.
        send_one(device, i, len);
        receive_one(host, i, len);
    }
    // A frame before arming isn't slept over.
    send_one(host, 1, 60);
    while (device->ops->arm(device, 0))
        assert_int_equal(poll(&wake, 1, 60000), 1);
    receive_one(device, 1, 60);
    // The peer goes: nobody tells, so it is asked.
    vif_destroy(host->slot);
    fixture_wait_link(device, VIF_LINK_DOWN, true);
    fixture_clear();
    fixture_add(1, 60, 0);
    assert_int_equal(device->ops->transmit(device, 0, &fixture_out.burst, 0, 1, &stop), 0);
    assert_int_equal(stop, TRANSMIT_DOWN);
    fixture_remove(device);
}

static int start(void **state)
{
    signal(SIGPIPE, SIG_IGN); // as patchbayd does: the driver writes to a peer that is gone
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof(path), "%s/vhost.sock", folder);
    snprintf(devargs, sizeof(devargs), "net_virtio_user0,path=%s,queue_size=1024", path);
    return fixture_start(state);
}

static int end(void **state)
{
    int error = fixture_stop(state);

    (void)unlink(path);
    return rmdir(folder) == 0 ? error : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test_teardown(test_eventfd, fixture_clean)};

    return cmocka_run_group_tests(tests, start, end);
}
