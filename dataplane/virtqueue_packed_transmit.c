// SPDX-License-Identifier: BSD-3-Clause

// Packed ring, to the guest: frames are copied into device-writable buffers, to
// one guest or, for a tap, to two in the same pass, of which one may have a
// split ring.

#include "virtqueue_target.h"

uint16_t virtqueue_packed_transmit(struct virtqueue *vq, const struct burst *burst, uint16_t first, uint16_t count,
                                   enum transmit_stop *stop)
{
    if (likely(burst->offloads == 0))
        return transmit_body(vq, true, NULL, false, burst, first, count, stop, NULL, false);
    return transmit_body(vq, true, NULL, false, burst, first, count, stop, NULL, true);
}

uint16_t virtqueue_packed_transmit_tapped(struct virtqueue *vq, struct virtqueue *tap, const struct burst *burst,
                                          uint16_t first, uint16_t count, enum transmit_stop *stop,
                                          struct tap_count *counts)
{
    if (unlikely(burst->offloads != 0)) // long frames, mostly: the kinds of ring cost little of them
        return transmit_body(vq, vq->packed, tap, tap->packed, burst, first, count, stop, counts, true);
    if (!vq->packed)
        return transmit_body(vq, false, tap, true, burst, first, count, stop, counts, false);
    if (!tap->packed)
        return transmit_body(vq, true, tap, false, burst, first, count, stop, counts, false);
    return transmit_body(vq, true, tap, true, burst, first, count, stop, counts, false);
}
