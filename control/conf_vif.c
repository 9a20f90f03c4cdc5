// SPDX-License-Identifier: BSD-3-Clause
// The standard keys of vifs. Which kind has which stands in the table; whether
// it works now depends on the device and, for guests, on the driver.

#include "conf.h"
#include "render.h"
#include "status.h"

#include <string.h>

static const struct vif *vif_of(const struct conf_subject *subject)
{
    return (const struct vif *)subject->object;
}

static bool is_vhost(const struct conf_subject *subject)
{
    enum vif_kind kind = vif_of(subject)->kind;

    return kind == VIF_VHOST || kind == VIF_VHOST_SERVER;
}

// For what only the device knows. Returns false with the reason.
static bool has_device(const struct conf_subject *subject, char *reason)
{
    if (!subject->there)
        conf_refuse(reason, "its device isn't there; status.reason of the vif says why");
    return subject->there;
}

// For what the guest's driver chooses.
static bool has_driver(const struct conf_subject *subject, char *reason)
{
    if (!has_device(subject, reason))
        return false;
    if (is_vhost(subject) && subject->state.virtio_features == 0) {
        conf_refuse(reason, "it is known once the guest's driver is there, which isn't yet");
        return false;
    }
    return true;
}

static json_t *get_kind(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)row;
    (void)reason;
    return json_string(vif_kind_names[vif_of(subject)->kind]);
}

static json_t *get_link(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    struct status status;

    (void)row;
    (void)reason;
    status_of_vif(vif_of(subject), &status);
    return json_string(status_name(status.state));
}

static json_t *get_mtu(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)row;
    if (!has_driver(subject, reason))
        return NULL;
    if (subject->state.mtu == 0)
        return conf_refuse(reason, is_vhost(subject)
                                       ? "its guest wasn't told one; give QEMU's virtio-net-pci host_mtu=BYTES"
                                       : "the device doesn't tell");
    return json_integer(subject->state.mtu);
}

static json_t *get_mac(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    json_t *mac;

    (void)row;
    if (!has_device(subject, reason))
        return NULL;
    mac = render_mac(subject->state.mac);
    if (!json_is_null(mac))
        return mac;
    json_decref(mac);
    return conf_refuse(reason, "the device has none");
}

static json_t *get_speed(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)row;
    if (!has_device(subject, reason))
        return NULL;
    if (subject->state.speed_mbps == 0)
        return conf_refuse(reason, "the device doesn't tell one; a NIC does while its link is up");
    return json_integer(subject->state.speed_mbps);
}

static json_t *get_queues(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)row;
    return has_device(subject, reason) ? json_integer(subject->state.queue_pairs) : NULL;
}

static json_t *get_ring_size(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    uint16_t size;

    if (!has_driver(subject, reason))
        return NULL;
    size = subject->state.ring_size[strcmp(row->key, "tx_ring_size") == 0];
    return size != 0 ? json_integer(size) : conf_refuse(reason, "the device doesn't tell");
}

static json_t *get_ring(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)row;
    return has_driver(subject, reason) ? render_ring(subject->state.virtio_features) : NULL;
}

static json_t *get_offloads(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)row;
    return has_driver(subject, reason) ? render_offloads(subject->state.virtio_features) : NULL;
}

// What it takes undone, so that Patchbay needn't do it for it.
static json_t *get_taken(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    bool tso = strcmp(row->key, "tso") == 0;

    if (!has_driver(subject, reason))
        return NULL;
    if (tso ? subject->state.takes_tso : subject->state.takes_csum)
        return json_true();
    return conf_refuse(
        reason,
        is_vhost(subject)
            ? "its guest's driver didn't agree to it, so Patchbay does it in software; QEMU's "
              "virtio-net-pci offers it unless told %s=off"
            : "its driver can't, so Patchbay does it in software; a NIC can whose driver has %s in DPDK's "
              "table of features",
        is_vhost(subject) ? (tso ? "guest_tso4 or guest_tso6" : "guest_csum") : (tso ? "TSO" : "L4 checksum offload"));
}

static json_t *get_workers(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)row;
    return has_device(subject, reason) ? render_workers(&subject->state) : NULL;
}

static json_t *get_node(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)row;
    if (!has_driver(subject, reason))
        return NULL;
    if (subject->state.numa_node < 0)
        return conf_refuse(reason, "the machine doesn't tell on which node it is");
    return json_integer(subject->state.numa_node);
}

// In the order of enum vif_kind.
#define ALL(access)                                                                                       \
    {                                                                                                     \
        [VIF_VHOST] = access, [VIF_VHOST_SERVER] = access, [VIF_DEV] = access, [VIF_KERNEL_NEW] = access, \
        [VIF_NONE] = access                                                                               \
    }
#define VHOST                                             \
    {                                                     \
        [VIF_VHOST] = CONF_R, [VIF_VHOST_SERVER] = CONF_R \
    }
#define ETHDEV                                        \
    {                                                 \
        [VIF_DEV] = CONF_R, [VIF_KERNEL_NEW] = CONF_R \
    }
#define SENDERS(access)                                                                                  \
    {                                                                                                    \
        [VIF_VHOST] = access, [VIF_VHOST_SERVER] = access, [VIF_DEV] = access, [VIF_KERNEL_NEW] = access \
    }
#define DEVICE SENDERS(CONF_R)

static const struct conf_row rows[] = {
    {CONF_VIF, "kind", ALL(CONF_R), "string", NULL, NULL, get_kind, NULL, "its kind; never changes"},
    {CONF_VIF, "owner", ALL(CONF_RW), "string|null", NULL, "owner", conf_get_field, NULL,
     "whose it is, e.g. the VM's id; free text"},
    {CONF_VIF, "admin", ALL(CONF_RW), "string", NULL, "admin", conf_get_field, NULL,
     "up, or down: as of all ports on it; the guest's link stays as it is, since vhost-user can't tell it"},
    {CONF_VIF, "link", ALL(CONF_R), "string", NULL, NULL, get_link, NULL, "up, down or failed"},
    {CONF_VIF,
     "mtu",
     {[VIF_VHOST] = CONF_R, [VIF_VHOST_SERVER] = CONF_R, [VIF_DEV] = CONF_RW, [VIF_KERNEL_NEW] = CONF_RW},
     "integer",
     "bytes",
     "mtu",
     get_mtu,
     "kind none takes frames of every length",
     "its MTU: without Ethernet header and tags; longer frames to it are dropped as too_big. A guest's is said where "
     "the VM "
     "is (QEMU: host_mtu=)"},
    {CONF_VIF, "mac", ETHDEV, "string", NULL, NULL, get_mac,
     "the guest's MAC address is set where the VM is (QEMU: mac= of virtio-net-pci), and vhost-user doesn't tell it; "
     "kinds dev and kernel-new have one",
     "its MAC address"},
    {CONF_VIF,
     "speed",
     {[VIF_DEV] = CONF_R},
     "integer",
     "Mbit/s",
     NULL,
     get_speed,
     "there is no line behind it that has one; kind dev tells its NIC's",
     "the speed of its link"},
    {CONF_VIF, "queues", ALL(CONF_R), "integer", NULL, NULL, get_queues, NULL, "queue pairs in use"},
    {CONF_VIF, "rx_ring_size", DEVICE, "integer", "entries", NULL, get_ring_size, "kind none has no rings",
     "of the ring from the guest or NIC"},
    {CONF_VIF, "tx_ring_size", DEVICE, "integer", "entries", NULL, get_ring_size, "kind none has no rings",
     "of the ring to it"},
    {CONF_VIF, "ring", VHOST, "string", NULL, NULL, get_ring, "only virtio has the choice: kinds vhost, vhost-server",
     "split or packed, what the guest's driver chose"},
    {CONF_VIF, "offloads", VHOST, "array", NULL, NULL, get_offloads,
     "only guests negotiate offloads: kinds vhost, vhost-server",
     "what the guest's driver negotiated, in QEMU's words: csum, guest_tso4, …"},
    {CONF_VIF, "csum", DEVICE, "boolean", NULL, NULL, get_taken, "kind none takes no frames",
     "it takes frames without their TCP and UDP checksums, and completes them or has no need to"},
    {CONF_VIF, "tso", DEVICE, "boolean", NULL, NULL, get_taken, "kind none takes no frames",
     "it takes TCP of up to 64 KiB as one frame, over IPv4 and IPv6: a guest as it is, a NIC cuts it up"},
    {CONF_VIF, "worker", SENDERS(CONF_RW), "integer|null", NULL, "worker", conf_get_field,
     "kind none sends nothing, so nobody polls it",
     "index of the worker that is to poll all its queues; null: they are spread by load"},
    {CONF_VIF, "workers", SENDERS(CONF_R), "array", NULL, NULL, get_workers,
     "kind none sends nothing, so nobody polls it",
     "who polls each of its receive queues now; null: the queue is just moving"},
    {CONF_VIF, "numa_node", DEVICE, "integer", NULL, NULL, get_node, "kind none has no memory of its own",
     "of the guest's memory, or of the device"},
};

const struct conf_table conf_vif = {rows, sizeof(rows) / sizeof(rows[0])};
