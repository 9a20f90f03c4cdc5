// SPDX-License-Identifier: BSD-3-Clause

// kernel-new: the far end is a real kernel interface, which may move to
// another network namespace, go down, or be deleted there. Needs root.

#include "dataplane/worker.h"
#include "fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <rte_ethdev.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define ETHERTYPE 0x88b5 // for experiments

static char namespace[32];
static char interface[IFNAMSIZ];
static enum transmit_stop stop;

static void run(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void run(const char *format, ...)
{
    char command[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    if (system(command) != 0)
        fail_msg("%s", command);
}

static int start(void **state)
{
    snprintf(namespace, sizeof(namespace), "ethdev-test-%d", (int)getpid());
    snprintf(interface, sizeof(interface), "eth%d", (int)getpid());
    return fixture_start(state);
}

static struct vif *make_tap(void)
{
    if (geteuid() != 0 || access("/dev/net/tun", R_OK | W_OK) != 0) {
        print_message("needs root and /dev/net/tun\n");
        skip();
    }
    fixture_clear();
    return fixture_make(VIF_KERNEL_NEW, interface);
}

// A raw socket on the interface; in the namespace if there is one.
static int open_far_end(bool in_namespace)
{
    struct sockaddr_ll address = {.sll_family = AF_PACKET, .sll_protocol = htons(ETHERTYPE)};
    int size = 8 << 20, fd, home = -1;

    if (in_namespace) {
        char path[64];
        int there;

        home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        snprintf(path, sizeof(path), "/run/netns/%s", namespace);
        there = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(setns(there, CLONE_NEWNET), 0);
        close(there);
    }
    fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETHERTYPE));
    assert_true(fd >= 0);
    address.sll_ifindex = (int)if_nametoindex(interface);
    assert_true(address.sll_ifindex > 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    (void)setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &(int){1}, sizeof(int));
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &(struct timeval){.tv_sec = 60}, sizeof(struct timeval));
    if (home >= 0) {
        assert_int_equal(setns(home, CLONE_NEWNET), 0);
        close(home);
    }
    return fd;
}

// Receives what has our EtherType (the kernel sends of its own accord too),
// until `wanted` came or 5 s are over; each checked against number and size.
static uint32_t receive_all(struct vif *vif, uint32_t wanted, const uint32_t *sizes, size_t size_count)
{
    const struct timespec pause = {.tv_nsec = 1000 * 1000};
    uint32_t got = 0;

    for (int idle = 0; got < wanted && idle < 5000;) {
        uint16_t count = vif->ops->receive(vif, 0, &fixture_in);

        if (count == 0) {
            idle++;
            nanosleep(&pause, NULL);
            continue;
        }
        for (uint16_t i = 0; i < count; i++) {
            if (fixture_in.frames[i].data[12] != ETHERTYPE >> 8 || fixture_in.frames[i].data[13] != (ETHERTYPE & 0xff))
                continue;
            // What a kernel sends it doesn't pad.
            assert_int_equal(fixture_in.frames[i].len, sizes[got % size_count]);
            if (sizes[got % size_count] >= LIMIT_FRAME_WIRE_MIN)
                fixture_check(&fixture_in, i, got, sizes[got % size_count]);
            got++;
        }
        vif->ops->complete(vif, 0, &fixture_in, count);
    }
    return got;
}

// The vif's reason, as others read it.
static const char *reason_of(struct vif *vif)
{
    static struct vif_state shown;

    assert_true(vif_read_state(vif->slot, &shown));
    return shown.reason;
}

static void exchange(struct vif *vif, int far, const uint32_t *sizes, size_t size_count, uint32_t count)
{
    uint8_t bytes[LIMIT_FRAME_MAX + 64];

    // To the kernel: what transmit says that it took arrives, no more and no less.
    for (uint32_t sent = 0; sent < count;) {
        uint16_t some = 0;

        for (fixture_clear(); some < FIXTURE_FRAMES && sent + some < count; some++)
            fixture_add(sent + some, sizes[(sent + some) % size_count], some % 2 == 0 ? 0 : 100);
        assert_int_equal(vif->ops->transmit(vif, 0, &fixture_out.burst, 0, some, &stop), some);
        assert_int_equal(stop, TRANSMIT_ALL);
        for (uint16_t i = 0; i < some; i++, sent++) {
            uint32_t len = sizes[sent % size_count], padded = len < LIMIT_FRAME_WIRE_MIN ? LIMIT_FRAME_WIRE_MIN : len;
            struct burst one = {.count = 1};

            assert_int_equal(recv(far, bytes, sizeof(bytes), 0), padded);
            frame_set_single(&one.frames[0], bytes, padded);
            fixture_check(&one, 0, sent, len);
        }
    }
    assert_int_equal(recv(far, bytes, sizeof(bytes), MSG_DONTWAIT), -1);
    // From it.
    for (uint32_t i = 0; i < count; i++) {
        fixture_clear();
        fixture_add(i, sizes[i % size_count], 0);
        assert_int_equal(send(far, fixture_out.bytes[0], sizes[i % size_count], 0), sizes[i % size_count]);
    }
    assert_int_equal(receive_all(vif, count, sizes, size_count), count);
}

static void test_exchange(void **state)
{
    static const uint32_t sizes[] = {60, 14, 1514, 61, 20, 1000, 59};
    struct vif *vif = make_tap();
    struct vif_state shown;
    int far;

    (void)state;
    assert_true(if_nametoindex(interface) != 0);
    assert_int_equal(vif_link(vif), VIF_LINK_UP);
    assert_true(vif_read_state(vif->slot, &shown));
    assert_in_range(shown.mtu, 1500, 9202);
    far = open_far_end(false);
    exchange(vif, far, sizes, sizeof(sizes) / sizeof(sizes[0]), 400);
    close(far);
    fixture_remove(vif);
    assert_int_equal(if_nametoindex(interface), 0);
}

static void test_jumbo(void **state)
{
    static const uint32_t sizes[] = {9214, 2048, 2049, 5000, 60};
    struct vif *vif = make_tap();
    int far;

    (void)state;
    run("ip link set %s mtu 9200", interface);
    far = open_far_end(false);
    exchange(vif, far, sizes, sizeof(sizes) / sizeof(sizes[0]), 100);
    close(far);
    fixture_remove(vif);
}

static unsigned long interface_mtu(void)
{
    char path[64], text[16] = "";
    FILE *file;

    snprintf(path, sizeof(path), "/sys/class/net/%s/mtu", interface);
    file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(text, sizeof(text), file));
    fclose(file);
    return strtoul(text, NULL, 10);
}

static void expect_mtu(const struct vif *vif, unsigned mtu, unsigned long kernels)
{
    struct vif_state shown;

    assert_true(vif_read_state(vif->slot, &shown));
    assert_int_equal(shown.mtu, mtu);
    assert_int_equal(interface_mtu(), kernels);
}

static void test_mtu(void **state)
{
    static const uint32_t sizes[] = {1314, 60};
    struct vif *vif = make_tap();
    char reason[LIMIT_REASON_LEN + 1] = "";
    int far;

    (void)state;
    expect_mtu(vif, LIMIT_MTU, 1500);
    assert_int_equal(vif_set_mtu(vif->slot, 1300, reason, sizeof(reason)), 0);
    expect_mtu(vif, 1300, 1300);
    far = open_far_end(false);
    exchange(vif, far, sizes, 2, 100);
    // With a header and a tag, and a byte more.
    fixture_clear();
    fixture_add(1, 1318, 0);
    assert_int_equal(vif->ops->transmit(vif, 0, &fixture_out.burst, 0, 1, &stop), 1);
    fixture_clear();
    fixture_add(1, 1319, 0);
    assert_int_equal(vif->ops->transmit(vif, 0, &fixture_out.burst, 0, 1, &stop), 0);
    assert_int_equal(stop, TRANSMIT_TOO_BIG);
    close(far);
    assert_int_equal(vif_set_mtu(vif->slot, LIMIT_MTU + 1, reason, sizeof(reason)), -ERANGE);
    assert_non_null(strstr(reason, "up to 9198"));
    expect_mtu(vif, 1300, 1300);
    assert_int_equal(vif_set_mtu(vif->slot, 0, reason, sizeof(reason)), 0);
    expect_mtu(vif, LIMIT_MTU, 1500);
    // Once it has moved, an interface of its name here is somebody else's.
    run("ip netns add %s", namespace);
    run("ip link set %s netns %s", interface, namespace);
    run("ip tuntap add dev %s mode tap", interface);
    assert_int_equal(vif_set_mtu(vif->slot, 1300, reason, sizeof(reason)), -EIO);
    assert_non_null(strstr(reason, "another network namespace"));
    expect_mtu(vif, LIMIT_MTU, 1500);
    run("ip link del %s", interface);
    fixture_remove(vif);
    run("ip netns del %s", namespace);
}

// The interface goes to another namespace and works there; then it is deleted from there.
static void test_moved_and_deleted(void **state)
{
    static const uint32_t sizes[] = {60, 1514};
    struct vif *vif = make_tap();
    struct pollfd wake;
    int far;

    (void)state;
    run("ip netns add %s", namespace);
    run("ip link set %s netns %s", interface, namespace);
    fixture_wait_link(vif, VIF_LINK_DOWN, true); // the kernel sets it down as it moves it
    assert_non_null(strstr(reason_of(vif), interface));
    run("ip -n %s link set %s up", namespace, interface);
    fixture_wait_link(vif, VIF_LINK_UP, false); // told at once
    far = open_far_end(true);
    exchange(vif, far, sizes, 2, 100);
    close(far);
    // Another interface of the name, here, is none of ours.
    run("ip tuntap add dev %s mode tap && ip link set %s up", interface, interface);
    run("ip -n %s link set %s down", namespace, interface);
    fixture_wait_link(vif, VIF_LINK_DOWN, true);
    run("ip link del %s", interface);
    run("ip -n %s link set %s up", namespace, interface);
    fixture_wait_link(vif, VIF_LINK_UP, false);

    run("ip netns del %s", namespace);
    fixture_wait_link(vif, VIF_LINK_BROKEN, false);
    assert_non_null(strstr(reason_of(vif), "deleted"));
    fixture_clear();
    fixture_add(1, 64, 0);
    assert_int_equal(vif->ops->transmit(vif, 0, &fixture_out.burst, 0, 1, &stop), 0);
    assert_int_equal(stop, TRANSMIT_DOWN);
    assert_int_equal(vif->ops->receive(vif, 0, &fixture_in), 0);
    // A worker that waits for it sleeps.
    assert_true(vif->ops->arm(vif, 0));
    wake = (struct pollfd){.fd = vif->ops->wake_fd(vif, 0), .events = POLLIN};
    assert_true(wake.fd >= 0);
    assert_int_equal(poll(&wake, 1, 50), 0);
    fixture_remove(vif);
    assert_int_equal(rte_eth_dev_count_total(), 0);
    // And once more.
    fixture_remove(make_tap());
}

// Removed while its interface is elsewhere: it goes from there too, and an
// interface here that has the name by now stays as it is.
static void test_removed_elsewhere(void **state)
{
    struct vif *vif = make_tap();
    char path[64], flags[16] = "";
    FILE *file;

    (void)state;
    run("ip netns add %s", namespace);
    run("ip link set %s netns %s", interface, namespace);
    run("ip tuntap add dev %s mode tap && ip link set %s up", interface, interface);
    fixture_remove(vif);
    snprintf(path, sizeof(path), "/sys/class/net/%s/flags", interface);
    file = fopen(path, "re");
    assert_non_null(file);
    assert_non_null(fgets(flags, sizeof(flags), file));
    fclose(file);
    assert_true(strtoul(flags, NULL, 16) & IFF_UP);
    run("ip link del %s", interface);
    run("test -z \"$(ip -n %s -o link show dev %s 2>&- )\"", namespace, interface);
    run("ip netns del %s", namespace);
}

static void test_down(void **state)
{
    struct vif *vif = make_tap();

    (void)state;
    fixture_add(1, 64, 0);
    run("ip link set %s down", interface);
    // Known to transmit before anybody looked at the link.
    assert_int_equal(vif->ops->transmit(vif, 0, &fixture_out.burst, 0, 1, &stop), 0);
    assert_int_equal(stop, TRANSMIT_DOWN);
    vif_ethdev_poll_links();
    assert_int_equal(vif_link(vif), VIF_LINK_DOWN);
    assert_non_null(strstr(reason_of(vif), "ip link set"));
    run("ip link set %s up", interface);
    fixture_wait_link(vif, VIF_LINK_UP, false);
    assert_int_equal(vif->ops->transmit(vif, 0, &fixture_out.burst, 0, 1, &stop), 1);
    fixture_remove(vif);
}

// As a worker does it: in its epoll set, edge-triggered, then armed.
static void test_wake(void **state)
{
    static const uint32_t size = 60;
    struct vif *vif = make_tap();
    struct epoll_event event = {.events = EPOLLIN | EPOLLET};
    int set = epoll_create1(EPOLL_CLOEXEC), fd = vif->ops->wake_fd(vif, 0), far;

    (void)state;
    run("sysctl -qw net.ipv6.conf.%s.disable_ipv6=1", interface); // which says hello
    far = open_far_end(false);
    assert_true(fd >= 0);
    assert_int_equal(epoll_ctl(set, EPOLL_CTL_ADD, fd, &event), 0);
    (void)receive_all(vif, 0, &size, 1);
    for (uint32_t i = 0; i < 100; i++) {
        uint16_t count;

        while (!vif->ops->arm(vif, 0)) {
            count = vif->ops->receive(vif, 0, &fixture_in);
            vif->ops->complete(vif, 0, &fixture_in, count);
        }
        assert_true(epoll_wait(set, &event, 1, 0) >= 0); // of what arm has seen
        fixture_clear();
        fixture_add(0, size, 0);
        assert_int_equal(send(far, fixture_out.bytes[0], size, 0), size);
        assert_int_equal(epoll_wait(set, &event, 1, 60000), 1);
        vif->ops->disarm(vif, 0);
        assert_int_equal(receive_all(vif, 1, &size, 1), 1);
    }
    // A frame before arming isn't slept over.
    assert_int_equal(send(far, fixture_out.bytes[0], size, 0), size);
    assert_false(vif->ops->arm(vif, 0));
    assert_int_equal(receive_all(vif, 1, &size, 1), 1);
    close(set);
    close(far);
    fixture_remove(vif);
}

static void test_refusals(void **state)
{
    struct vif *vif = make_tap();

    (void)state;
    fixture_refuse(VIF_KERNEL_NEW, interface, -EEXIST, "already");
    fixture_refuse(VIF_KERNEL_NEW, "lo", -EEXIST, "an interface lo already (ip -d link show lo): choose another name");
    fixture_refuse(VIF_KERNEL_NEW, "", -EINVAL, "\"\" is no name");
    fixture_refuse(VIF_KERNEL_NEW, "a-name-that-is-long", -EINVAL, "1 to 15");
    fixture_refuse(VIF_KERNEL_NEW, "a%d", -EINVAL, "no name");
    fixture_refuse(VIF_KERNEL_NEW, "a,mac=fixed", -EINVAL, "no name");
    fixture_refuse(VIF_KERNEL_NEW, "a/b", -EINVAL, "no name");
    fixture_refuse(VIF_KERNEL_NEW, "..", -EINVAL, "no name");
    fixture_refuse(VIF_KERNEL_NEW, "a b", -EINVAL, "no name");
    fixture_remove(vif);
}

static void test_plug(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct vif *vif = make_tap();

        fixture_add(1, 64, 0);
        assert_int_equal(vif->ops->transmit(vif, 0, &fixture_out.burst, 0, 1, &stop), 1);
        fixture_remove(vif);
        assert_int_equal(if_nametoindex(interface), 0);
    }
    // Two at once: the link thread serves both.
    for (int i = 0; i < 5; i++) {
        struct vif *one = make_tap(), *other = fixture_make(VIF_KERNEL_NEW, "ethdev-other");

        run("ip link set ethdev-other down");
        vif_ethdev_poll_links();
        assert_int_equal(vif_link(one), VIF_LINK_UP);
        assert_int_equal(vif_link(other), VIF_LINK_DOWN);
        run("ip link set ethdev-other up");
        fixture_wait_link(other, VIF_LINK_UP, false);
        fixture_remove(one);
        fixture_remove(other);
    }
}

static void test_calm(void **state)
{
    (void)state;
    assert_int_equal(fixture_complaints(), 0);
}

// After a test, and what one that failed half-way has left.
static int clean(void **state)
{
    char command[128];
    int error = fixture_clean(state);

    snprintf(command, sizeof(command), "ip netns del %s 2>&-; ip link del %s 2>&-", namespace, interface);
    if (system(command) == 0)
        print_message("removed what a failed test left\n");
    return error;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_exchange, clean),
        cmocka_unit_test_teardown(test_jumbo, clean),
        cmocka_unit_test_teardown(test_mtu, clean),
        cmocka_unit_test_teardown(test_moved_and_deleted, clean),
        cmocka_unit_test_teardown(test_removed_elsewhere, clean),
        cmocka_unit_test_teardown(test_down, clean),
        cmocka_unit_test_teardown(test_wake, clean),
        cmocka_unit_test_teardown(test_refusals, clean),
        cmocka_unit_test_teardown(test_plug, clean),
        cmocka_unit_test_teardown(test_calm, clean),
    };

    return cmocka_run_group_tests(tests, start, fixture_stop);
}
