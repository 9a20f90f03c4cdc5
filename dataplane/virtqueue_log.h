// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VIRTQUEUE_LOG_H
#define PATCHBAY_VIRTQUEUE_LOG_H

// Every write of an engine to guest memory is followed by virtqueue_log, before
// the call ends in which it was made. Where that would cost the common case
// something, ask vq->log once a burst and go another way (target_open).

#include "virtqueue.h"

#include <rte_branch_prediction.h>

// len bytes at host, in the guest's memory, were written. There is a log.
void virtqueue_log_write(const struct virtqueue *vq, const void *host, uint64_t len);

// The same of `descs` descriptors of a packed ring, from index on; some of them
// may not have been.
void virtqueue_log_ring(const struct virtqueue *vq, uint16_t index, uint32_t descs);

// The last count entries of a split ring's used ring, and its index, were.
void virtqueue_log_used(const struct virtqueue *vq, uint16_t count);

static inline void virtqueue_log(const struct virtqueue *vq, const void *host, uint64_t len)
{
    if (unlikely(vq->log != NULL))
        virtqueue_log_write(vq, host, len);
}

#endif
