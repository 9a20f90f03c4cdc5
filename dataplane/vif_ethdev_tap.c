// SPDX-License-Identifier: BSD-3-Clause

// Frames to a kernel TAP. Hot, with a system call a frame: that is what a TAP is.
//
// Not by the driver's own transmit: it takes 1,522 bytes at most, wants each
// frame in an mbuf, from which the kernel copies it once more, and leaves open why
// it stopped. The write doesn't block: the driver has set the queue so.

#include "vif_ethdev.h"

#include <errno.h>
#include <linux/if_tun.h>
#include <sys/uio.h>

static enum transmit_stop stop_of(int error)
{
    switch (error) {
    case EIO:    // the interface is set down
    case EBADFD: // or deleted
        return TRANSMIT_DOWN;
    case EAGAIN:
    case EINTR:
    case ENOBUFS:
    case ENOMEM:
        return TRANSMIT_FULL;
    default: // the kernel will not have this frame
        return TRANSMIT_TOO_BIG;
    }
}

uint16_t vif_ethdev_tap_transmit(struct ethdev *dev, const struct burst *burst, uint16_t first, uint16_t count,
                                 enum transmit_stop *stop)
{
    static const uint8_t padding[LIMIT_FRAME_WIRE_MIN];
    struct tun_pi packet_info = {0, 0}; // the driver made its queues with it
    struct iovec vector[LIMIT_FRAME_SEGMENTS + 3];
    uint16_t done;

    vector[0].iov_base = &packet_info;
    vector[0].iov_len = sizeof(packet_info);
    for (done = 0; done < count; done++) {
        const struct frame *frame = &burst->frames[first + done];
        int used = 2;

        if (burst->offloads != 0 && frame->offload.wants != 0) {
            *stop = TRANSMIT_OFFLOAD;
            break;
        }
        if (frame->segment_count > LIMIT_FRAME_SEGMENTS + 1 || frame->len > vif_ethdev_frame_max(dev)) {
            *stop = TRANSMIT_TOO_BIG;
            break;
        }
        vector[1].iov_base = (void *)(uintptr_t)frame->data;
        vector[1].iov_len = frame->data_len;
        for (uint16_t i = 0; i + 1 < frame->segment_count; i++) {
            const struct frame_segment *segment = &burst->segments[frame->segment_first + i];

            vector[used].iov_base = (void *)(uintptr_t)segment->data;
            vector[used++].iov_len = segment->len;
        }
        if (frame->len < LIMIT_FRAME_WIRE_MIN) {
            vector[used].iov_base = (void *)(uintptr_t)padding;
            vector[used++].iov_len = LIMIT_FRAME_WIRE_MIN - frame->len;
        }
        if (writev(dev->tap_fd, vector, used) < 0) {
            *stop = stop_of(errno);
            break;
        }
    }
    return done;
}
