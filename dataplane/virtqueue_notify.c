// SPDX-License-Identifier: BSD-3-Clause

// Notifications of split rings, both ways (virtio 1.2, 2.7.7 and 2.7.10). The call
// here is the one system call that a worker makes for a guest, and only when
// the guest asked for it.

#include "guest_call.h"
#include "virtqueue_split.h"

// The driver's used_event: behind the available ring. Ours, avail_event: behind
// the used ring.
static uint16_t used_event(const struct virtqueue *vq)
{
    return __atomic_load_n(&vq->avail->ring[vq->size], __ATOMIC_RELAXED);
}

static void avail_event_set(const struct virtqueue *vq, uint16_t index)
{
    uint16_t *event = (uint16_t *)(void *)&vq->used->ring[vq->size];

    __atomic_store_n(event, index, __ATOMIC_RELAXED);
    virtqueue_log(vq, event, sizeof(*event));
}

bool virtqueue_split_notify(struct virtqueue *vq)
{
    uint16_t old = vq->signalled_used;
    bool valid = vq->signalled_valid;

    if (valid && old == vq->last_used)
        return false;
    if (vq->call_fd < 0) {
        vq->signalled_used = vq->last_used;
        vq->signalled_valid = true;
        return false;
    }
    // Our store of used->idx may not move below this load of the driver's
    // flags or used_event: the driver sets these, fences, and looks at
    // used->idx once more. Without the fence both could read the old value,
    // and the guest would sleep on a ring that has frames.
    atomic_thread_fence(memory_order_seq_cst);
    vq->signalled_used = vq->last_used;
    vq->signalled_valid = true;
    if (vq->event_idx) {
        if (valid && !vring_need_event(used_event(vq), vq->last_used, old))
            return false;
    } else if (__atomic_load_n(&vq->avail->flags, __ATOMIC_RELAXED) & VRING_AVAIL_F_NO_INTERRUPT) {
        return false;
    }
    guest_call(vq->call_fd);
    return true;
}

static void used_flags_set(const struct virtqueue *vq, uint16_t flags)
{
    __atomic_store_n(&vq->used->flags, flags, __ATOMIC_RELAXED);
    virtqueue_log(vq, &vq->used->flags, sizeof(vq->used->flags));
}

bool virtqueue_split_arm(struct virtqueue *vq)
{
    vq->armed = true;
    if (vq->event_idx)
        avail_event_set(vq, vq->last_avail);
    else
        used_flags_set(vq, 0);
    // Our store of the wish to be notified may not move below this load of
    // avail->idx: the driver stores avail->idx, fences, and looks at our wish.
    // Without the fence it could see no wish and we no frame: the queue would
    // sleep with a frame in it.
    atomic_thread_fence(memory_order_seq_cst);
    if (__atomic_load_n(&vq->avail->idx, __ATOMIC_ACQUIRE) == vq->last_avail)
        return true;
    virtqueue_split_disarm(vq);
    return false;
}

void virtqueue_split_disarm(struct virtqueue *vq)
{
    vq->armed = false;
    // With event_idx a stale avail_event behind us does it: the driver
    // notifies once in 65,536 buffers.
    if (!vq->event_idx)
        used_flags_set(vq, VRING_USED_F_NO_NOTIFY);
}
