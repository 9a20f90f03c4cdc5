// SPDX-License-Identifier: BSD-3-Clause

// Notifications of packed rings, both ways (virtio 1.2, 2.8.10 and 2.8.14). The
// driver's event structure says what it wants to hear of used descriptors, ours
// what we want to hear of available ones; each is read and written whole.

#include "guest_call.h"
#include "virtqueue_packed.h"

static void device_event_set(const struct virtqueue *vq, uint16_t off_wrap, uint16_t flags)
{
    __atomic_store_n((uint32_t *)(void *)vq->device_event, (uint32_t)flags << 16 | off_wrap, __ATOMIC_RELAXED);
    virtqueue_log(vq, vq->device_event, sizeof(*vq->device_event));
}

// True if the driver wants to hear of the `used` descriptors before vq->next.
// What means nothing is taken for yes: a notification too many does no harm.
static bool is_wanted(const struct virtqueue *vq, uint32_t used)
{
    uint32_t event = __atomic_load_n((const uint32_t *)(const void *)vq->driver_event, __ATOMIC_RELAXED);
    uint16_t off_wrap = (uint16_t)event;
    uint32_t back;
    uint16_t at;

    switch (event >> 16 & 3) {
    case VRING_PACKED_EVENT_FLAG_DISABLE:
        return false;
    case VRING_PACKED_EVENT_FLAG_DESC:
        break;
    default:
        return true;
    }
    at = off_wrap & ((1 << VRING_PACKED_EVENT_F_WRAP_CTR) - 1);
    if (!vq->event_idx || at >= vq->size)
        return true;
    // The descriptor at vq->next with the same wrap counter isn't used yet; in
    // the lap before, those from vq->next on are the oldest. What lies in the
    // lap to come looks like the lap before: that tells the driver too much
    // only when it has seen nothing for a whole ring.
    if (off_wrap >> VRING_PACKED_EVENT_F_WRAP_CTR == vq->wrap) {
        if (at >= vq->next)
            return false;
        back = vq->next - at;
    } else {
        back = (uint32_t)vq->next + vq->size - at;
    }
    return back <= used;
}

bool virtqueue_packed_notify(struct virtqueue *vq)
{
    uint32_t used = vq->unsignalled;
    bool valid = vq->signalled_valid;

    if (valid && used == 0)
        return false;
    vq->unsignalled = 0;
    vq->signalled_valid = true;
    if (vq->call_fd < 0)
        return false;
    // Our store of the used flags may not move below this load of the driver's
    // event structure: the driver writes that, fences, and looks at the flags
    // once more. Without the fence both could read the old value, and the guest
    // would sleep on a ring that has frames.
    atomic_thread_fence(memory_order_seq_cst);
    if (!is_wanted(vq, valid ? used : vq->size))
        return false;
    guest_call(vq->call_fd);
    return true;
}

bool virtqueue_packed_arm(struct virtqueue *vq)
{
    vq->armed = true;
    if (vq->event_idx)
        device_event_set(vq, (uint16_t)(vq->next | vq->wrap << VRING_PACKED_EVENT_F_WRAP_CTR),
                         VRING_PACKED_EVENT_FLAG_DESC);
    else
        device_event_set(vq, 0, VRING_PACKED_EVENT_FLAG_ENABLE);
    // Our store of the wish to be notified may not move below this load of the
    // next descriptor's flags: the driver writes these, fences, and looks at our
    // wish. Without the fence it could see no wish and we no frame: the queue
    // would sleep with a frame in it.
    atomic_thread_fence(memory_order_seq_cst);
    if (!virtqueue_packed_is_available(virtqueue_packed_word(vq, vq->next), vq->wrap))
        return true;
    virtqueue_packed_disarm(vq);
    return false;
}

void virtqueue_packed_disarm(struct virtqueue *vq)
{
    vq->armed = false;
    device_event_set(vq, 0, VRING_PACKED_EVENT_FLAG_DISABLE);
}
