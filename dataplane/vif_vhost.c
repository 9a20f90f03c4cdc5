// SPDX-License-Identifier: BSD-3-Clause

// The vhost-user vif on the path of a frame: finds the guest's ring, or that
// there is none, and hands over to the virtqueue engine. Hot.
//
// vif->attachment is loaded once per call. A detach sets it to NULL and frees
// only after the workers' loops are over, so what one call of a loop has loaded
// is good for the next ones: complete and flush use it, whatever the pointer
// says by then.

#include "vif_vhost.h"

#include <rte_cycles.h>

static inline struct attachment *attachment_load(struct vif *vif)
{
    return atomic_load_explicit(&vif->attachment, memory_order_acquire);
}

static inline const char *broken_load(struct virtqueue *vq)
{
    return atomic_load_explicit(&vq->broken, memory_order_relaxed);
}

// The ring by which the guest sends, or NULL.
static inline struct virtqueue *from_guest(struct attachment *attachment, uint16_t queue)
{
    struct virtqueue *vq;

    if (unlikely(attachment == NULL || queue >= attachment->queue_pairs))
        return NULL;
    vq = &attachment->queues[queue].from_guest;
    return likely(vq->enabled | vq->retired) && likely(broken_load(vq) == NULL) ? vq : NULL;
}

// The ring by which the guest receives, or NULL.
static inline struct virtqueue *to_guest(struct attachment *attachment, uint16_t queue)
{
    struct virtqueue *vq;

    if (unlikely(attachment == NULL || queue >= attachment->queue_pairs))
        return NULL;
    vq = &attachment->queues[queue].to_guest;
    return likely(vq->enabled) && likely(broken_load(vq) == NULL) ? vq : NULL;
}

static inline struct vif_vhost_queue *queue_of(struct vif *vif, uint16_t queue)
{
    return ((struct vif_vhost *)vif->private)->queues[queue];
}

// After the engine has looked at the ring: the vif learns that it stopped.
static inline void check_broken(struct vif *vif, struct virtqueue *vq)
{
    const char *reason = broken_load(vq);

    if (unlikely(reason != NULL))
        vif_mark_broken(vif, reason);
}

// Why there is no ring to send to. The callbacks set PAUSED before they take
// the attachment away, so whoever has seen NULL sees PAUSED too, or already UP:
// then there is a ring again by now, and the next loop will find it.
static enum transmit_stop stop_reason(struct vif *vif)
{
    enum vif_link link = vif_link(vif);

    return link == VIF_LINK_PAUSED || link == VIF_LINK_UP ? TRANSMIT_PAUSED : TRANSMIT_DOWN;
}

// A burst of one frame that isn't the guest's own: the announcement of its
// address. It goes the way of all its frames, and stays until it was taken.
static uint16_t receive_announcement(struct vif *vif, struct attachment *attachment, struct burst *burst)
{
    burst->count = 1;
    burst->segment_count = 0;
    burst->owned = burst->keep = false;
    burst->offloads = 0;
    burst->frames[0] = (struct frame){.mbuf = NULL};
    frame_set_single(&burst->frames[0], attachment->announcement, sizeof(attachment->announcement));
    queue_of(vif, 0)->receiving = attachment;
    queue_of(vif, 0)->announcing = true;
    return 1;
}

static void complete_announcement(struct vif *vif, uint16_t taken)
{
    struct vif_vhost *vhost = vif->private;

    vhost->queues[0]->announcing = false;
    if (taken == 0)
        return;
    vhost->queues[0]->receiving->announce = false;
    counter_add(&vhost->announced, 1);
}

// A queue that its front end has disabled while others go on (ethtool -L in a
// guest). What the guest had sent by then is forwarded, since nobody sends it
// again: its sockets wait until it is gone. What it sends after the ring was
// empty once must have no effect (QEMU docs/interop/vhost-user.rst, "Ring
// states"): it is taken and counted. But not at once: a guest may use a queue
// that is on again a moment before its front end has told us.
static uint16_t receive_retired(struct vif *vif, uint16_t queue, struct attachment *attachment, struct burst *burst)
{
    struct virtqueue *vq = &attachment->queues[queue].from_guest;
    uint16_t count = burst->count, taken = 0;

    if (count == 0 && !burst->worked) { // behind bad chains there may be frames
        vq->drained = true;
        vq->late_since = 0;
    }
    if (!vq->drained || count == 0)
        return count;
    if (vq->late_since == 0)
        vq->late_since = rte_rdtsc();
    if (rte_rdtsc() - vq->late_since > attachment->patience) {
        taken = count;
        burst->worked = true;
        counter_add(&vif_rxq(vif, queue)->discarded[VIF_DISCARD_QUEUE_OFF], count);
    }
    virtqueue_complete(vq, burst, taken);
    burst->count = 0;
    return 0;
}

static uint16_t receive(struct vif *vif, uint16_t queue, struct burst *burst)
{
    struct attachment *attachment = attachment_load(vif);
    struct virtqueue *vq = from_guest(attachment, queue);
    uint16_t count;

    burst->count = 0;
    if (unlikely(vq == NULL))
        return 0;
    if (unlikely(attachment->announce) && queue == 0)
        return receive_announcement(vif, attachment, burst);
    count = virtqueue_receive(vq, burst, vif_rxq(vif, queue)->discarded);
    if (unlikely(vq->retired))
        count = receive_retired(vif, queue, attachment, burst);
    if (count > 0)
        queue_of(vif, queue)->receiving = attachment;
    check_broken(vif, vq); // it may be seen behind sound frames
    if (unlikely(burst->offloads != 0))
        burst->epoch = attachment->epoch;
    return count;
}

static void complete(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t taken)
{
    struct vif_vhost_queue *from = queue_of(vif, queue);

    if (unlikely(from->announcing))
        complete_announcement(vif, taken);
    else
        virtqueue_complete(&from->receiving->queues[queue].from_guest, burst, taken);
}

static uint16_t transmit(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t first, uint16_t count,
                         enum transmit_stop *stop)
{
    struct attachment *attachment = attachment_load(vif);
    struct virtqueue *vq = to_guest(attachment, queue);
    uint16_t done;

    if (unlikely(vq == NULL)) {
        *stop = stop_reason(vif);
        return 0;
    }
    queue_of(vif, queue)->sending = attachment;
    done = virtqueue_transmit(vq, burst, first, count, stop);
    if (done < count)
        check_broken(vif, vq);
    return done;
}

static uint16_t transmit_tapped(struct vif *vif, uint16_t queue, struct vif *monitor, uint16_t monitor_queue,
                                struct burst *burst, uint16_t first, uint16_t count, enum transmit_stop *stop,
                                struct tap_count *tap)
{
    struct attachment *attachment = attachment_load(vif);
    struct attachment *monitoring = attachment_load(monitor);
    struct virtqueue *vq = to_guest(attachment, queue);
    struct virtqueue *tap_vq = to_guest(monitoring, monitor_queue);
    uint16_t done;

    if (unlikely(vq == NULL)) {
        *stop = stop_reason(vif);
        return 0;
    }
    queue_of(vif, queue)->sending = attachment;
    if (unlikely(tap_vq == NULL)) {
        bool paused = stop_reason(monitor) == TRANSMIT_PAUSED;

        done = virtqueue_transmit(vq, burst, first, count, stop);
        tap->offered += done;
        tap->dropped[paused ? TAP_DROP_PAUSED : TAP_DROP_DOWN] += done;
    } else {
        queue_of(monitor, monitor_queue)->sending = monitoring;
        done = virtqueue_transmit_tapped(vq, tap_vq, burst, first, count, stop, tap);
        check_broken(monitor, tap_vq);
    }
    if (done < count)
        check_broken(vif, vq);
    return done;
}

static uint8_t takes(struct vif *vif, uint16_t queue)
{
    struct virtqueue *vq = to_guest(attachment_load(vif), queue);

    return vq != NULL ? vq->offloads : 0;
}

static void flush(struct vif *vif, uint16_t queue)
{
    if (virtqueue_notify(&queue_of(vif, queue)->sending->queues[queue].to_guest))
        counter_add(&vif_txq(vif, queue)->notified, 1);
}

static bool arm(struct vif *vif, uint16_t queue)
{
    struct attachment *attachment = attachment_load(vif);
    struct virtqueue *vq = from_guest(attachment, queue);

    // Without a ring there is nothing to come; an attach rings the bell. A driver
    // that can't notify us has to be polled.
    if (vq == NULL)
        return true;
    return !(queue == 0 && attachment->announce) && vq->kick_fd >= 0 && virtqueue_arm(vq);
}

static void disarm(struct vif *vif, uint16_t queue)
{
    struct virtqueue *vq = from_guest(attachment_load(vif), queue);

    vif_vhost_wake_calm(&queue_of(vif, queue)->from_guest);
    if (vq != NULL)
        virtqueue_disarm(vq);
}

static int wake_fd(struct vif *vif, uint16_t queue)
{
    return queue_of(vif, queue)->from_guest.set;
}

static int arm_transmit(struct vif *vif, uint16_t queue)
{
    struct virtqueue *vq = to_guest(attachment_load(vif), queue);

    if (vq == NULL || vq->kick_fd < 0)
        return -1;
    vif_vhost_wake_calm(&queue_of(vif, queue)->to_guest);
    return virtqueue_arm(vq) ? queue_of(vif, queue)->to_guest.set : -1;
}

const struct vif_ops vif_vhost_ops = {
    .receive = receive,
    .complete = complete,
    .transmit = transmit,
    .takes = takes,
    .transmit_tapped = transmit_tapped,
    .flush = flush,
    .arm = arm,
    .disarm = disarm,
    .wake_fd = wake_fd,
    .arm_transmit = arm_transmit,
    .create = vif_vhost_create,
    .destroy = vif_vhost_destroy,
    .read_state = vif_vhost_read_state,
    .read_count = vif_vhost_read_count,
};
