// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VIF_ETHDEV_H
#define PATCHBAY_VIF_ETHDEV_H

// vifs over DPDK's ethdevs (dev, kernel-new).
//
// Files: vif_ethdev.c moves frames (hot); vif_ethdev_offload.c says what the
// device is to complete in them (hot); vif_ethdev_tap.c writes to a kernel TAP
// (hot); vif_ethdev_wake.c is adaptive polling; vif_ethdev_device.c makes
// and removes devices; vif_ethdev_probe.c finds them, vif_ethdev_kernel.c
// makes kernel TAPs; vif_ethdev_link.c follows the links.

#include "vif.h"

#include <rte_mbuf.h>

// Frames that the device has given and no leg has taken yet: what receive
// shows is the front of it, and while it isn't empty the device isn't polled.
// Owner: the worker that polls the queue.
struct ethdev_rxq {
    _Alignas(64) uint16_t head; // the first that waits
    uint16_t count;             // end of those that wait
    struct rte_mbuf *mbufs[LIMIT_BURST_FRAMES];
};

// Owner: the holder of the vif_txq's lock.
struct ethdev_txq {
    _Alignas(
        64) uint16_t window; // frames to try at once; small while the device is full, so that few are copied in vain
};

struct ethdev {
    // Read by workers; constant once the vif exists.
    uint16_t port;
    uint16_t segments_max; // of one mbuf that is sent; 1: chains aren't
    uint16_t tso_max;      // the same of one that the device is to segment
    uint16_t room;         // bytes of a frame that one fresh mbuf takes
    bool rx_interrupt;     // to be enabled before one sleeps on a wake_fd
    bool wake_is_event;    // wake_fd is an eventfd, to be read empty
    uint8_t offloads;      // that the device does itself (enum offload)
    bool sums_ip;          // and the checksum of IPv4's header
    int tap_fd;            // a kernel TAP's queue; −1: the device is another
    // Bytes; written by control (vif_ethdev_set_mtu), relaxed: it stands for itself.
    _Atomic uint32_t frame_max;
    struct rte_mempool *pool;
    int wake_fd[VIF_QUEUES_MAX]; // −1: the queue has none
    int quiet_fd;                // an eventfd that nobody rings: what a device that is gone waits for; −1: none
    // The device is no more (its kernel interface was deleted): it is neither
    // read nor waited for. Set once by whoever sees it first.
    _Atomic bool gone;
    struct ethdev_rxq rxq[VIF_QUEUES_MAX];
    struct ethdev_txq txq[VIF_QUEUES_MAX];

    // Cold.
    struct vif *vif;
    struct ethdev *next;  // in the list of vif_ethdev_link.c
    bool link_events;     // the device tells of its link itself
    uint16_t mtu_max;     // that it takes
    _Atomic uint16_t mtu; // written by control
    bool is_tap;
    uint16_t ring_size[2];
    uint8_t mac[6];
    struct rte_device *device;
};

#define VIF_ETHDEV_TAP_GONE \
    "its kernel interface was deleted, perhaps with its network namespace; remove the vif and make it again"

static inline struct ethdev *vif_ethdev(const struct vif *vif)
{
    return vif->private;
}

// The longest frame that it is given, tag included: bytes.
static inline uint32_t vif_ethdev_frame_max(const struct ethdev *dev)
{
    return atomic_load_explicit(&dev->frame_max, memory_order_relaxed);
}

// ---- hot ----

uint16_t vif_ethdev_receive(struct vif *vif, uint16_t queue, struct burst *burst);
void vif_ethdev_complete(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t taken);
uint16_t vif_ethdev_transmit(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t first, uint16_t count,
                             enum transmit_stop *stop);

// Which offloads the device does itself (vif_ops.takes).
uint8_t vif_ethdev_takes(struct vif *vif, uint16_t queue);

// Says in a fresh mbuf, which holds a copy of the frame, what the device is to
// complete. Returns false if it isn't one that the device can be asked to: what
// then stands in the mbuf is for freeing it.
bool vif_ethdev_offload(const struct ethdev *dev, const struct frame_offload *offload, struct rte_mbuf *mbuf);

// Polls the device into the queue's (empty) stash. Returns how many frames
// wait there now.
uint16_t vif_ethdev_poll(struct vif *vif, uint16_t queue);

// The transmit of a kernel TAP: a write a frame, from where the frame is.
uint16_t vif_ethdev_tap_transmit(struct ethdev *dev, const struct burst *burst, uint16_t first, uint16_t count,
                                 enum transmit_stop *stop);

// ---- adaptive polling ----

bool vif_ethdev_arm(struct vif *vif, uint16_t queue);
void vif_ethdev_disarm(struct vif *vif, uint16_t queue);
int vif_ethdev_wake_fd(struct vif *vif, uint16_t queue);

// Finds out what the device's queues can do; after its start.
void vif_ethdev_wake_init(struct ethdev *dev, uint16_t queues);

// ---- devices ----

// As vif_set_mtu. By control, or by the device thread before control knows the vif.
int vif_ethdev_set_mtu(struct vif *vif, uint16_t mtu, char *reason, size_t reason_size);

// Makes the device that devargs names and finds its port. Returns 0 or -errno
// with the reason.
int vif_ethdev_probe(const char *devargs, uint16_t *port, char *reason, size_t reason_size);

// The same, of a device whose bus and name are known.
int vif_ethdev_probe_named(const char *devargs, const char *bus, const char *name, uint16_t *port, char *reason,
                           size_t reason_size);

// Makes a kernel TAP for a vif, under a name of its own; once it is started, it
// gets the name it is to have, and is up. Both return 0 or -errno with the reason.
int vif_ethdev_kernel_probe(const struct vif *vif, const char *interface, uint16_t *port, char *reason,
                            size_t reason_size);
int vif_ethdev_kernel_name(const struct vif *vif, const char *interface, char *reason, size_t reason_size);

// Sets the MTU of a TAP's interface, which must be in our network namespace. Returns 0 or -errno with the reason.
int vif_ethdev_kernel_set_mtu(int tap_fd, uint16_t mtu, char *reason, size_t reason_size);

// Closes a port, stopped or never started, and removes its device.
void vif_ethdev_remove(uint16_t port, struct rte_device *device);

// ---- links ----

// Follows the link of a started device from now on, and sets its vif's link as it
// is. Returns 0 or -errno with the reason.
int vif_ethdev_link_add(struct ethdev *dev, char *reason, size_t reason_size);

// No more; when it returns no thread but the caller's knows the device.
void vif_ethdev_link_remove(struct ethdev *dev);

// Looks at the links of all ethdevs that don't tell of changes themselves. To
// be called each second, by any thread but a worker.
void vif_ethdev_poll_links(void);

#endif
