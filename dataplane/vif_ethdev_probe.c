// SPDX-License-Identifier: BSD-3-Clause

// Finding a device for a vif, and saying well why there is none.

#include "eal.h"
#include "eal_log.h"
#include "vif_ethdev.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <rte_bus.h>
#include <rte_dev.h>
#include <rte_devargs.h>
#include <rte_errno.h>
#include <rte_ethdev.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

// ---- what can't or may not be made ----

// A driver that can block would stop every wire of its worker.
static const struct {
    const char *name;
    const char *instead;
} refused[] = {
    {"net_af_packet", "use kernel-new:NAME, which makes a TAP, and bridge or route it"},
    {"eth_af_packet", "use kernel-new:NAME, which makes a TAP, and bridge or route it"},
};

static int check_driver(const char *driver, char *reason, size_t reason_size)
{
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (strncmp(driver, refused[i].name, strlen(refused[i].name)) == 0)
            return refuse(reason, reason_size, -ENOTSUP,
                          "DPDK's %s driver can block while it sends, which would stop all wires of a worker: %s",
                          refused[i].name, refused[i].instead);
    return 0;
}

// The name of what a link in sysfs points to, or NULL.
static const char *link_name(const char *link, char *target)
{
    ssize_t len = readlink(link, target, PATH_MAX - 1);

    if (len < 0)
        return NULL;
    target[len] = '\0';
    return basename(target);
}

// Whether DPDK can work with the kernel driver that a PCI device has: the ones
// made for that, and those that share the device with DPDK.
static bool is_usable_kernel_driver(const char *driver)
{
    static const char *const usable[] = {"vfio-pci", "igb_uio", "uio_pci_generic", "mlx4_core", "mlx5_core", "mana"};

    for (size_t i = 0; i < sizeof(usable) / sizeof(usable[0]); i++)
        if (strcmp(driver, usable[i]) == 0)
            return true;
    return false;
}

static int check_pci(const char *name, char *reason, size_t reason_size)
{
    char address[32], path[PATH_MAX], target[PATH_MAX];
    unsigned domain, bus, device, function;
    const char *driver;
    char rest;

    if (sscanf(name, "%x:%x:%x.%x%c", &domain, &bus, &device, &function, &rest) != 4) {
        domain = 0;
        if (sscanf(name, "%x:%x.%x%c", &bus, &device, &function, &rest) != 3)
            return 0; // another bus' device, or something that DPDK will complain of
    }
    snprintf(address, sizeof(address), "%04x:%02x:%02x.%x", domain, bus, device, function);
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", address);
    if (access(path, F_OK) != 0)
        return refuse(reason, reason_size, -ENODEV, "there is no PCI device %s (see lspci -D)", address);
    snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver", address);
    driver = link_name(path, target);
    if (driver == NULL)
        return refuse(reason, reason_size, -ENODEV,
                      "%s has no driver; give it to DPDK: modprobe vfio-pci && dpdk-devbind.py --bind=vfio-pci %s",
                      address, address);
    if (!is_usable_kernel_driver(driver))
        return refuse(reason, reason_size, -EBUSY,
                      "%s is still the kernel's (driver %s); give it to DPDK: modprobe vfio-pci && dpdk-devbind.py "
                      "--bind=vfio-pci %s",
                      address, driver, address);
    return 0;
}

// ---- ports ----

// The first port of a device that DPDK has under this name; RTE_MAX_ETHPORTS: none.
static uint16_t find_port(const char *bus, const char *name)
{
    // Also those that another device (a bond) owns.
    for (uint16_t port = rte_eth_find_next(0); port < RTE_MAX_ETHPORTS; port = rte_eth_find_next(port + 1)) {
        struct rte_eth_dev_info info;

        if (rte_eth_dev_info_get(port, &info) == 0 && info.device != NULL &&
            strcmp(rte_dev_name(info.device), name) == 0 && strcmp(rte_bus_name(rte_dev_bus(info.device)), bus) == 0)
            return port;
    }
    return RTE_MAX_ETHPORTS;
}

void vif_ethdev_remove(uint16_t port, struct rte_device *device)
{
    int error;

    rte_eth_dev_close(port);
    error = rte_dev_remove(device);
    if (error != 0)
        eal_log(LOG_LEVEL_WARNING, "dataplane", "DPDK doesn't let go of a device: %s", rte_strerror(-error));
}

int vif_ethdev_probe_named(const char *devargs, const char *bus, const char *name, uint16_t *port, char *reason,
                           size_t reason_size)
{
    struct rte_eth_dev_info info;
    char said[512];
    int error;

    if (find_port(bus, name) != RTE_MAX_ETHPORTS)
        return refuse(reason, reason_size, -EEXIST,
                      "DPDK has the device %s already: another vif uses it, or EAL was given it at its start", name);
    if (rte_eth_dev_count_total() >= RTE_MAX_ETHPORTS)
        return refuse(reason, reason_size, -ENOSPC, "this DPDK takes %d ethdevs at most", RTE_MAX_ETHPORTS);

    eal_log_capture_begin(true);
    error = rte_dev_probe(devargs);
    eal_log_capture_end(said, sizeof(said));
    if (error == -EEXIST)
        return refuse(reason, reason_size, -EEXIST, "DPDK has the device %s already", name);
    if (error == -ENOTSUP && said[0] == '\0')
        return refuse(reason, reason_size, -ENODEV, "DPDK has no driver for %s", name);
    if (error != 0)
        return refuse(reason, reason_size, error == -1 ? -ENODEV : error, "DPDK can't make %s: %s", name,
                      said[0] != '\0' ? said
                      : error == -1   ? "its driver doesn't say why; check its arguments"
                                      : rte_strerror(-error));
    *port = find_port(bus, name);
    if (*port == RTE_MAX_ETHPORTS)
        return refuse(reason, reason_size, -ENODEV, "%s is a device of DPDK's, but no Ethernet one", name);
    error = rte_eth_dev_info_get(*port, &info);
    if (error == 0)
        error = check_driver(info.driver_name, reason, reason_size);
    else
        refuse(reason, reason_size, error, "%s doesn't say what it is: %s", name, rte_strerror(-error));
    if (error != 0)
        vif_ethdev_remove(*port, info.device);
    return error;
}

int vif_ethdev_probe(const char *devargs, uint16_t *port, char *reason, size_t reason_size)
{
    struct rte_devargs parsed;
    char said[512];
    int error;

    error = check_driver(strncmp(devargs, "vdev:", 5) == 0 ? devargs + 5 : devargs, reason, reason_size);
    if (error != 0)
        return error;
    eal_log_capture_begin(true);
    error = rte_devargs_parse(&parsed, devargs);
    eal_log_capture_end(said, sizeof(said));
    if (error == 0 && (parsed.bus == NULL || parsed.name[0] == '\0')) {
        free(parsed.data);
        error = -EINVAL;
    }
    if (error == -EFAULT)
        return refuse(reason, reason_size, -ENODEV,
                      "no DPDK driver takes \"%.*s\": write a PCI address (0000:03:00.0) or a virtual device "
                      "(net_ring0)",
                      (int)strcspn(devargs, ","), devargs);
    if (error != 0)
        return refuse(reason, reason_size, -EINVAL, "\"%s\" isn't what DPDK calls a device: %s", devargs,
                      said[0] != '\0' ? said : rte_strerror(-error));
    if (strcmp(rte_bus_name(parsed.bus), "pci") == 0)
        error = check_pci(parsed.name, reason, reason_size);
    if (error == 0)
        error = vif_ethdev_probe_named(devargs, rte_bus_name(parsed.bus), parsed.name, port, reason, reason_size);
    free(parsed.data);
    return error;
}
