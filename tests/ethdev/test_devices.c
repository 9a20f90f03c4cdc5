// SPDX-License-Identifier: BSD-3-Clause

// Devices that come and go, and those that can't be.

#include "fixture.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <rte_ethdev.h>
#include <rte_malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PLUGS = 200 };

static unsigned count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    assert_non_null(dir);
    while (readdir(dir) != NULL)
        count++;
    closedir(dir);
    return count;
}

// Bytes that are taken of DPDK's heap and of ours. (Under AddressSanitizer ours
// counts as none; it has a leak check of its own.)
static size_t taken(void)
{
    struct rte_malloc_socket_stats stats;

    assert_int_equal(rte_malloc_get_socket_stats(0, &stats), 0);
    return stats.heap_allocsz_bytes + mallinfo2().uordblks;
}

// may_leak: bytes that DPDK's driver itself loses each time.
static void plug(enum vif_kind kind, const char *target, int times, size_t may_leak)
{
    static enum transmit_stop stop;
    unsigned fds = 0;
    size_t bytes = 0;

    for (int i = 0; i < times; i++) {
        struct vif *vif = fixture_make(kind, target);

        fixture_clear();
        fixture_add((uint32_t)i, 1000, 0);
        assert_int_equal(vif->ops->transmit(vif, 0, &fixture_out.burst, 0, 1, &stop), 1);
        fixture_remove(vif);
        assert_int_equal(rte_eth_dev_count_total(), 0);
        if (i == times / 10) { // what is made once is made by now
            fds = count_fds();
            bytes = taken();
        }
    }
    assert_int_equal(count_fds(), fds);
    // A few, of the C library's, come and go; 180 of anything would show.
    if (taken() > bytes + 8192 + may_leak * (size_t)times)
        fail_msg("%s: %d plugs took %zu bytes", target, times - times / 10, taken() - bytes);
}

static void test_plug_ring(void **state)
{
    (void)state;
    plug(VIF_DEV, "net_ring0", PLUGS, 0);
}

static void test_plug_null(void **state)
{
    (void)state;
    // Its close doesn't free its queues' dummy packets (of 200 bytes here).
    plug(VIF_DEV, "net_null1,size=200,copy=1", PLUGS, 768);
    plug(VIF_DEV, "vdev:net_null2", 20, 768);
}

// Told `mtu`, it has `then`.
static void expect_mtu(const struct vif *vif, uint16_t mtu, uint16_t then)
{
    char reason[LIMIT_REASON_LEN + 1] = "";
    struct vif_state shown;

    if (vif_set_mtu(vif->slot, mtu, reason, sizeof(reason)) != 0)
        fail_msg("%s", reason);
    assert_true(vif_read_state(vif->slot, &shown));
    assert_int_equal(shown.mtu, then);
}

static void test_state(void **state)
{
    struct vif *vif = fixture_make(VIF_DEV, "net_null0,size=100,no-rx=0");
    struct vif_state shown;
    struct vif_count count;
    uint8_t none[6] = {0};
    char reason[LIMIT_REASON_LEN + 1] = "";

    (void)state;
    assert_true(vif_read_state(vif->slot, &shown));
    assert_int_equal(shown.link, VIF_LINK_UP);
    assert_int_equal(shown.ring_size[0], 1024);
    assert_int_equal(shown.ring_size[1], 1024);
    assert_in_range(shown.mtu, 1500, 9202);
    assert_memory_not_equal(shown.mac, none, 6);
    expect_mtu(vif, 1400, 1400);
    expect_mtu(vif, 0, shown.mtu);
    assert_int_equal(vif_set_mtu(vif->slot, (uint16_t)(shown.mtu + 1), reason, sizeof(reason)), -ERANGE);
    assert_non_null(strstr(reason, "up to"));
    assert_true(vif_read_count(vif->slot, &count));
    assert_int_equal(count.rx_missed, 0);
    // Frames from a device without end.
    for (int i = 0; i < 100; i++) {
        uint16_t frames = vif->ops->receive(vif, 0, &fixture_in);

        assert_in_range(frames, 1, LIMIT_BURST_FRAMES);
        vif->ops->complete(vif, 0, &fixture_in, (uint16_t)(i * 7 % (frames + 1)));
    }
    fixture_remove(vif);
}

static void test_two_of_one(void **state)
{
    struct vif *first = fixture_make(VIF_DEV, "net_ring0");
    char reason[LIMIT_REASON_LEN + 1] = "";

    (void)state;
    // Its driver can't be told an MTU, and says so.
    assert_int_equal(vif_set_mtu(first->slot, 1400, reason, sizeof(reason)), -ENOTSUP);
    assert_non_null(strstr(reason, "can't set an MTU"));
    fixture_refuse(VIF_DEV, "net_ring0", -EEXIST, "net_ring0 already");
    fixture_refuse(VIF_DEV, "vdev:net_ring0", -EEXIST, "net_ring0 already");
    // The first is none the worse for it.
    assert_int_equal(vif_link(first), VIF_LINK_UP);
    assert_int_equal(first->ops->receive(first, 0, &fixture_in), 0);
    fixture_remove(first);
}

static void test_limit(void **state)
{
    struct vif *vifs[LIMIT_ETHDEVS];
    char target[32];

    (void)state;
    for (int i = 0; i < LIMIT_ETHDEVS; i++) {
        snprintf(target, sizeof(target), "net_null%d", i);
        vifs[i] = fixture_make(VIF_DEV, target);
    }
    fixture_refuse(VIF_DEV, "net_null99", -ENOSPC, "32 ethdevs at most");
    for (int i = 0; i < LIMIT_ETHDEVS; i++)
        fixture_remove(vifs[i]);
    assert_int_equal(rte_eth_dev_count_total(), 0);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *target;
        int error;
        const char *part;
    } refusals[] = {
        {"net_foo0", -ENODEV, "net_foo0"},
        {"net_foo0,a=b", -ENODEV, "\"net_foo0\""},
        {"eth0", -ENODEV, "PCI address"},
        {"", -EINVAL, "\"\""},
        {",", -EINVAL, "\",\""},
        {"0000:fe:1f.7", -ENODEV, "no PCI device 0000:fe:1f.7"},
        {"fe:1f.7", -ENODEV, "no PCI device 0000:fe:1f.7"},
        {"pci:0000:fe:1f.7,x=y", -ENODEV, "no PCI device 0000:fe:1f.7"},
        {"net_af_packet0,iface=lo", -ENOTSUP, "can block"},
        {"eth_af_packet0,iface=lo", -ENOTSUP, "can block"},
        {"vdev:net_af_packet0,iface=lo", -ENOTSUP, "can block"},
        {"net_null0,size=x=y", -ENODEV, "net_null0"},
        {"net_pcap0,iface=no-such-iface", -ENODEV, "no-such-iface"},
        {"crypto_null0", -ENODEV, "no Ethernet one"},
        {"net_null0123456789012345678901234567890123456789012345678901234567890123456789", -EINVAL, "device name"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        fixture_refuse(VIF_DEV, refusals[i].target, refusals[i].error, refusals[i].part);
        assert_int_equal(rte_eth_dev_count_total(), 0);
    }
}

// After a refusal the same name works, once the arguments do.
static void test_second_try(void **state)
{
    (void)state;
    fixture_refuse(VIF_DEV, "net_null7,size=x=y", -ENODEV, "net_null7");
    fixture_remove(fixture_make(VIF_DEV, "net_null7,size=100"));
}

// A NIC that the kernel has is left to it.
static void test_kernels_nic(void **state)
{
    DIR *dir = opendir("/sys/bus/pci/devices");
    struct dirent *entry;
    bool found = false;

    (void)state;
    while (dir != NULL && !found && (entry = readdir(dir)) != NULL) {
        char path[PATH_MAX];
        char driver[PATH_MAX] = "";

        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", entry->d_name);
        found = entry->d_name[0] != '.' && readlink(path, driver, sizeof(driver) - 1) > 0 &&
                strstr(driver, "virtio-pci") != NULL;
        if (found) {
            char line[PATH_MAX];

            snprintf(line, sizeof(line), "dpdk-devbind.py --bind=vfio-pci %s", entry->d_name);
            fixture_refuse(VIF_DEV, entry->d_name, -EBUSY, line);
        }
    }
    if (dir != NULL)
        closedir(dir);
    if (!found)
        skip();
}

// No driver's handler runs at the rate of the traffic.
static void test_signals(void **state)
{
    (void)state;
    for (int number = SIGRTMIN + 1; number < SIGRTMAX; number++) {
        struct sigaction action;

        assert_int_equal(sigaction(number, NULL, &action), 0);
        assert_ptr_equal(action.sa_handler, SIG_IGN);
    }
}

static void test_calm(void **state)
{
    (void)state;
    // All that a driver says of a vif that is refused stands in the reason, and none of it is an error of ours.
    assert_int_equal(fixture_complaints(), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_plug_ring, fixture_clean),
        cmocka_unit_test_teardown(test_plug_null, fixture_clean),
        cmocka_unit_test_teardown(test_state, fixture_clean),
        cmocka_unit_test_teardown(test_two_of_one, fixture_clean),
        cmocka_unit_test_teardown(test_limit, fixture_clean),
        cmocka_unit_test_teardown(test_refusals, fixture_clean),
        cmocka_unit_test_teardown(test_second_try, fixture_clean),
        cmocka_unit_test_teardown(test_kernels_nic, fixture_clean),
        cmocka_unit_test_teardown(test_signals, fixture_clean),
        cmocka_unit_test_teardown(test_calm, fixture_clean),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
