// SPDX-License-Identifier: BSD-3-Clause

// kernel-new: a TAP of the kernel's, made for the vif and gone with it.
//
// DPDK's driver knows its interface by the name that it was made with, and
// sets it up and down by that name. Once the interface has been moved to another
// network namespace, an interface of that name here is somebody else's. So it is
// made with a name that nobody else gives, and renamed once the driver has
// started it: what the driver does by name after that fails, which does no harm.

#include "vif_ethdev.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

static int refuse(char *reason, size_t reason_size, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int refuse(char *reason, size_t reason_size, int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, reason_size, format, arguments);
    va_end(arguments);
    return error;
}

// What the kernel takes as an interface's name, less what means something else
// to it (%) or to DPDK's parser (the punctuation).
static bool is_interface_name(const char *name)
{
    size_t len = strlen(name);

    if (len == 0 || len > LIMIT_IFNAME_LEN || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return false;
    for (size_t i = 0; i < len; i++)
        if (!isgraph((unsigned char)name[i]) || strchr("/:%,=[]()\"'\\", name[i]) != NULL)
            return false;
    return true;
}

static int check_tun(char *reason, size_t reason_size)
{
    int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    if (fd >= 0) {
        close(fd);
        return 0;
    }
    switch (errno) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return refuse(reason, reason_size, -ENODEV,
                      "there is no /dev/net/tun, which makes kernel interfaces: modprobe tun");
    case EPERM:
    case EACCES:
        return refuse(reason, reason_size, -EPERM,
                      "/dev/net/tun, which makes kernel interfaces, isn't for us: start patchbayd as root or with "
                      "CAP_NET_ADMIN, in a container with --device /dev/net/tun");
    default:
        return refuse(reason, reason_size, -errno, "/dev/net/tun can't be opened: %s", strerror(errno));
    }
}

static int refuse_taken(const char *interface, char *reason, size_t reason_size)
{
    return refuse(
        reason, reason_size, -EEXIST,
        "the kernel has an interface %s already (ip -d link show %s): choose another name; if it is a left-over "
        "TAP, ip link del %s",
        interface, interface, interface);
}

// The name that DPDK's driver has for it: at most 15 characters, as pids have 7.
static void first_name(const struct vif *vif, char name[IFNAMSIZ])
{
    snprintf(name, IFNAMSIZ, "pb%u-%u", vif->slot % LIMIT_VIFS, (unsigned)getpid() % 10000000);
}

int vif_ethdev_kernel_probe(const struct vif *vif, const char *interface, uint16_t *port, char *reason,
                            size_t reason_size)
{
    char name[32], first[IFNAMSIZ], devargs[64];
    int error;

    if (!is_interface_name(interface))
        return refuse(reason, reason_size, -EINVAL,
                      "\"%s\" is no name for a kernel interface: 1 to %d letters, digits or -_.@+", interface,
                      LIMIT_IFNAME_LEN);
    error = check_tun(reason, reason_size);
    if (error != 0)
        return error;
    if (if_nametoindex(interface) != 0)
        return refuse_taken(interface, reason, reason_size);
    first_name(vif, first);
    snprintf(name, sizeof(name), "net_tap_pb%u", vif->slot);
    snprintf(devargs, sizeof(devargs), "%s,iface=%s", name, first);
    error = vif_ethdev_probe_named(devargs, "vdev", name, port, reason, reason_size);
    if (error != 0 && strstr(reason, strerror(EPERM)) != NULL)
        return refuse(reason, reason_size, -EPERM,
                      "the kernel doesn't let us make the interface %s: start patchbayd as root or with CAP_NET_ADMIN",
                      interface);
    return error;
}

// Sets an interface up or down.
static int set_up(int fd, struct ifreq *request, bool up)
{
    if (ioctl(fd, SIOCGIFFLAGS, request) != 0)
        return -errno;
    if (up)
        request->ifr_flags |= IFF_UP;
    else
        request->ifr_flags &= (short)~IFF_UP;
    return ioctl(fd, SIOCSIFFLAGS, request) == 0 ? 0 : -errno;
}

int vif_ethdev_kernel_name(const struct vif *vif, const char *interface, char *reason, size_t reason_size)
{
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    struct ifreq request = {0};
    int error;

    if (fd < 0)
        return refuse(reason, reason_size, -errno, "no socket to set up the interface %s: %s", interface,
                      strerror(errno));
    first_name(vif, request.ifr_name);
    // Kernels before 6.2 rename only what is down.
    error = set_up(fd, &request, false);
    if (error == 0) {
        snprintf(request.ifr_newname, sizeof(request.ifr_newname), "%s", interface);
        if (ioctl(fd, SIOCSIFNAME, &request) != 0)
            error = -errno;
    }
    if (error == 0) {
        snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", interface);
        error = set_up(fd, &request, true);
    }
    close(fd);
    if (error == -EEXIST)
        return refuse_taken(interface, reason, reason_size);
    if (error != 0)
        return refuse(reason, reason_size, error, "the interface %s can't be set up: %s", interface, strerror(-error));
    return 0;
}

// Is the TAP's interface in our network namespace? Where the kernel can't tell (before 5.12) it is taken to be.
static bool is_here(int tap_fd)
{
    int fd = ioctl(tap_fd, TUNGETDEVNETNS);
    struct stat its, ours;
    bool here;

    if (fd < 0)
        return errno != EPERM;
    here = fstat(fd, &its) == 0 && stat("/proc/self/ns/net", &ours) == 0 && its.st_ino == ours.st_ino &&
           its.st_dev == ours.st_dev;
    close(fd);
    return here;
}

int vif_ethdev_kernel_set_mtu(int tap_fd, uint16_t mtu, char *reason, size_t reason_size)
{
    struct ifreq request = {0};
    int fd, error = 0;

    if (ioctl(tap_fd, TUNGETIFF, &request) != 0)
        return refuse(reason, reason_size, -EIO, "%s", VIF_ETHDEV_TAP_GONE);
    // Another of its name may be here instead.
    if (!is_here(tap_fd))
        return refuse(reason, reason_size, -EIO,
                      "its interface %s is in another network namespace: set its MTU there (ip link set %s mtu %u), or "
                      "bring it back first",
                      request.ifr_name, request.ifr_name, mtu);
    fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return refuse(reason, reason_size, -EIO, "no socket to set an MTU: %s", strerror(errno));
    request.ifr_mtu = mtu;
    if (ioctl(fd, SIOCSIFMTU, &request) != 0)
        error = refuse(reason, reason_size, errno == EINVAL ? -ERANGE : -EIO,
                       "the kernel doesn't take an MTU of %u bytes for the interface %s: %s", mtu, request.ifr_name,
                       strerror(errno));
    close(fd);
    return error;
}
