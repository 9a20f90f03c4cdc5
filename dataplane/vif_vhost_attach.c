// SPDX-License-Identifier: BSD-3-Clause

// Attaching a vhost vif to its guest's driver and detaching it. On the
// library's threads, from its callbacks; a worker never waits for them, they
// wait for the workers.

#include "guest_call.h"
#include "sigbus.h"
#include "vif_vhost.h"

#include <string.h>

// Wakes the guest on both rings of each pair: it may have been told nothing of
// what it got just before a detach, and the engine has forgotten what it
// signalled.
static void signal_guest(struct attachment *attachment)
{
    for (unsigned ring = 0; ring < 2u * attachment->queue_pairs; ring++) {
        int fd = attachment_ring(attachment, ring)->call_fd;

        if (fd >= 0)
            guest_call(fd);
    }
}

// The worker's wait for the guest's kicks; and, since it may wait for something
// else by now, a wake-up.
static int wakes_add(struct vif_vhost *vhost, const struct attachment *attachment)
{
    int err = 0;

    for (unsigned pair = 0; pair < attachment->queue_pairs && err == 0; pair++) {
        err = vif_vhost_wake_add(&vhost->queues[pair]->from_guest, attachment->queues[pair].from_guest.kick_fd);
        if (err == 0)
            err = vif_vhost_wake_add(&vhost->queues[pair]->to_guest, attachment->queues[pair].to_guest.kick_fd);
    }
    return err;
}

static void wakes_remove(struct vif_vhost *vhost, const struct attachment *attachment)
{
    for (unsigned pair = 0; pair < attachment->queue_pairs; pair++) {
        vif_vhost_wake_remove(&vhost->queues[pair]->from_guest, attachment->queues[pair].from_guest.kick_fd);
        vif_vhost_wake_remove(&vhost->queues[pair]->to_guest, attachment->queues[pair].to_guest.kick_fd);
    }
}

static void wakes_ring(struct vif_vhost *vhost)
{
    for (unsigned pair = 0; pair < vhost->vif->queue_count; pair++) {
        vif_vhost_wake_ring(&vhost->queues[pair]->from_guest);
        vif_vhost_wake_ring(&vhost->queues[pair]->to_guest);
    }
}

// Why it is stopped, or NULL.
static const char *stopped_by(struct virtqueue *vq)
{
    return atomic_load_explicit(&vq->broken, memory_order_relaxed);
}

// Why one of the rings is stopped, or NULL.
static const char *find_stopped(struct attachment *attachment)
{
    const char *reason = NULL;

    for (unsigned ring = 0; ring < 2u * attachment->queue_pairs; ring++)
        if (stopped_by(attachment_ring(attachment, ring)) != NULL)
            reason = stopped_by(attachment_ring(attachment, ring));
    return reason;
}

// Queues that were stopped stay so until the driver resets its device: what is
// in the ring hasn't become true by a message. Returns why one is stopped.
static const char *restore_broken(const struct vif_vhost *vhost, struct attachment *attachment)
{
    for (unsigned ring = 0; ring < 2u * attachment->queue_pairs; ring++)
        if (vhost->broken[ring] != NULL)
            atomic_store_explicit(&attachment_ring(attachment, ring)->broken, vhost->broken[ring],
                                  memory_order_relaxed);
    return find_stopped(attachment);
}

// A worker has the rings before the vif is up, and says that one is broken only of a
// vif that is. Either it sees the link that was set by now, or this sees the ring that
// it stopped: each stores its own before it looks at the other's (vif_mark_broken).
static void tell_broken(struct vif *vif, struct attachment *attachment)
{
    const char *reason;

    atomic_thread_fence(memory_order_seq_cst);
    reason = find_stopped(attachment);
    if (reason != NULL)
        vif_mark_broken(vif, reason);
}

// reason is static.
static void set_broken(struct vif *vif, const char *reason)
{
    atomic_store_explicit(&vif->broken_reason, reason, memory_order_release);
    vif_set_link(vif, VIF_LINK_BROKEN, "%s", reason);
}

// How a queue that isn't enabled is to be treated: as one of which the guest
// makes no use any more, if it goes on with the first. While that is off, too, the
// device is being stopped, and what is in its rings has to stay there.
static void mark_retired(const struct vif_vhost *vhost, struct attachment *attachment)
{
    for (unsigned pair = 1; pair < attachment->queue_pairs && vhost->enabled[1]; pair++) {
        struct virtqueue *vq = &attachment->queues[pair].from_guest;

        vq->retired = vq->desc != NULL && vhost->disabled[2 * pair + 1];
        vq->drained = vhost->drained[2 * pair + 1];
    }
}

// The workers give frames to the queues that the guest looks at.
static void count_queues(struct vif *vif, const struct attachment *attachment)
{
    uint16_t count = attachment_tx_pairs(attachment);

    atomic_store_explicit(&vif->tx_count, count > 0 ? count : 1, memory_order_release);
}

// "I am here", from the guest's address to everyone: a reverse ARP request for
// itself (RFC 903), which switches learn from and nobody answers.
static void write_announcement(struct attachment *attachment, const uint8_t mac[6])
{
    static const uint8_t request[] = {
        0x80, 0x35,             // EtherType
        0,    1,    8, 0, 6, 4, // Ethernet addresses, for IPv4 ones
        0,    3,                // "request reverse"
    };
    uint8_t *frame = attachment->announcement;

    memset(frame, 0, sizeof(attachment->announcement));
    memset(frame, 0xff, 6);
    memcpy(frame + 6, mac, 6);
    memcpy(frame + 12, request, sizeof(request));
    memcpy(frame + 22, mac, 6); // whose: sender and target
    memcpy(frame + 32, mac, 6);
    attachment->announce = true;
}

void vif_vhost_attach(struct vif_vhost *vhost)
{
    struct vif *vif = vhost->vif;
    const struct attachment_config config = {
        .enabled = vhost->enabled,
        .known = vhost->known,
        .used_log = vhost->used_log,
        .log = &vhost->log,
    };
    struct attachment *attachment;
    char reason[LIMIT_REASON_LEN + 1];
    const char *broken;

    if (!vhost->running || !vhost->memory || vhost->truncated || vhost->pending != NULL) {
        vif_vhost_explain(vhost);
        return;
    }
    attachment = attachment_create(vif, vhost->vid, &config, reason, sizeof(reason));
    // Looking for the place of a packed ring reads it, before anything is watched.
    if (sigbus_tolerated()) {
        vhost->truncated = true;
        if (attachment != NULL)
            attachment_free(attachment);
        vif_vhost_explain(vhost);
        return;
    }
    if (attachment == NULL) {
        vif_set_link(vif, VIF_LINK_DOWN, "%s", reason);
        return;
    }
    if (vif_vhost_grow(vhost, attachment->queue_pairs) != 0) {
        attachment_free(attachment);
        vif_set_link(vif, VIF_LINK_DOWN, "no memory or file descriptors for the guest's queues");
        return;
    }
    mark_retired(vhost, attachment);
    if (wakes_add(vhost, attachment) != 0) {
        wakes_remove(vhost, attachment);
        attachment_free(attachment);
        vif_set_link(vif, VIF_LINK_DOWN, "no memory for waiting for the guest's notifications");
        return;
    }
    attachment->epoch = vhost->epoch;
    broken = restore_broken(vhost, attachment);
    if (vhost->announce)
        write_announcement(attachment, vhost->announce_mac);
    pthread_mutex_lock(&vhost->lock);
    vhost->attached = attachment;
    pthread_mutex_unlock(&vhost->lock);
    count_queues(vif, attachment);
    atomic_store_explicit(&vif->attachment, attachment, memory_order_release);
    if (broken != NULL)
        set_broken(vif, broken);
    else if (attachment_pairs_in_use(attachment) == 0)
        vif_set_link(vif, VIF_LINK_DOWN, "the front end has disabled its queues");
    else
        vif_set_link(vif, VIF_LINK_UP, "%s", "");
    tell_broken(vif, attachment);
    wakes_ring(vhost);
    signal_guest(attachment);
}

void vif_vhost_detach(struct vif_vhost *vhost)
{
    struct vif *vif = vhost->vif;
    struct attachment *attachment = vhost->attached;

    if (attachment == NULL)
        return;
    atomic_store_explicit(&vif->attachment, NULL, memory_order_release);
    publish_quiesce();
    for (unsigned ring = 0; ring < 2u * attachment->queue_pairs; ring++) {
        const struct virtqueue *vq = attachment_ring(attachment, ring);

        vhost->broken[ring] = atomic_load_explicit((_Atomic(const char *) *)&vq->broken, memory_order_relaxed);
        vhost->drained[ring] = vq->drained;
        // There are pages of ours now where the guest's were, and the library keeps the mapping for as long as it is
        // told the same table: no reset makes it the guest's again.
        if (vhost->broken[ring] == attachment_memory_gone)
            vhost->truncated = true;
    }
    if (vhost->announce)
        vhost->announce = attachment->announce;
    attachment_push(attachment, vhost->known);
    pthread_mutex_lock(&vhost->lock);
    vhost->attached = NULL;
    for (unsigned pair = 0; pair < attachment->queue_pairs; pair++)
        vhost->bad_chains += counter_read(&attachment->queues[pair].to_guest.bad_chains);
    pthread_mutex_unlock(&vhost->lock);
    wakes_remove(vhost, attachment);
    attachment_free(attachment);
}

void vif_vhost_explain(struct vif_vhost *vhost)
{
    struct vif *vif = vhost->vif;

    if (vhost->vid < 0 && vhost->server)
        vif_set_link(vif, VIF_LINK_DOWN, "waiting for a front end to connect to %s", vif->target);
    else if (vhost->vid < 0)
        vif_set_link(vif, VIF_LINK_DOWN, "waiting for its socket %s (start QEMU with server=on)", vif->target);
    else if (vhost->truncated)
        vif_set_link(vif, VIF_LINK_BROKEN, "its shared memory was truncated, or huge pages ran out: restart the VM");
    else if (vhost->failed != NULL)
        vif_set_link(vif, VIF_LINK_DOWN, "the front end's %s failed; waiting for it to set its memory again",
                     vhost->failed);
    else if (vhost->stopped)
        vif_set_link(vif, VIF_LINK_DOWN, "the guest's driver has stopped its device, or the guest is rebooting");
    else if (vhost->negotiated && !vhost->memory)
        vif_set_link(vif, VIF_LINK_DOWN,
                     "connected; the front end has shared no memory yet (QEMU needs share=on for the guest's memory)");
    else
        vif_set_link(vif, VIF_LINK_DOWN, "connected; the guest's driver isn't ready");
}
