// SPDX-License-Identifier: BSD-3-Clause

// Split ring, to the guest: frames are copied into device-writable buffers, to
// one guest or, for a tap, to two in the same pass.

#include "virtqueue_target.h"

uint16_t virtqueue_split_transmit(struct virtqueue *vq, const struct burst *burst, uint16_t first, uint16_t count,
                                  enum transmit_stop *stop)
{
    if (likely(burst->offloads == 0))
        return transmit_body(vq, false, NULL, false, burst, first, count, stop, NULL, false);
    return transmit_body(vq, false, NULL, false, burst, first, count, stop, NULL, true);
}

uint16_t virtqueue_split_transmit_tapped(struct virtqueue *vq, struct virtqueue *tap, const struct burst *burst,
                                         uint16_t first, uint16_t count, enum transmit_stop *stop,
                                         struct tap_count *counts)
{
    if (likely(burst->offloads == 0))
        return transmit_body(vq, false, tap, false, burst, first, count, stop, counts, false);
    return transmit_body(vq, false, tap, false, burst, first, count, stop, counts, true);
}
