// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TESTS_FUZZ_H
#define PATCHBAY_TESTS_FUZZ_H

// What the targets share.

#include "dataplane/offload.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void must(bool so)
{
    if (!so)
        abort();
}

// What the receivers of a frame rely on.
static inline void check_offload(const struct frame_offload *offload, uint32_t len, uint8_t agreed)
{
    uint8_t type = offload->gso_type & (uint8_t)~VIRTIO_NET_HDR_GSO_ECN;

    must((offload->wants & ~agreed) == 0);
    must((offload->flags & ~VIRTIO_NET_HDR_F_NEEDS_CSUM) == 0);
    must((offload->flags != 0) == (offload->wants != 0));
    must(type == VIRTIO_NET_HDR_GSO_NONE || type == VIRTIO_NET_HDR_GSO_TCPV4 || type == VIRTIO_NET_HDR_GSO_TCPV6);
    if (offload->flags != 0) {
        must(offload->csum_start >= LIMIT_FRAME_MIN);
        must((uint32_t)offload->csum_start + offload->csum_offset + 2 <= len);
    }
    if (type != VIRTIO_NET_HDR_GSO_NONE) {
        must(offload->flags != 0 && offload->gso_size > 0 && offload->hdr_len <= len);
        must(offload->wants & (type == VIRTIO_NET_HDR_GSO_TCPV4 ? OFFLOAD_TSO4 : OFFLOAD_TSO6));
    } else {
        must(offload->gso_type == 0);
        must(len <= LIMIT_FRAME_MAX);
    }
}

#endif
