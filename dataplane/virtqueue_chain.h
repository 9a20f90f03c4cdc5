// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VIRTQUEUE_CHAIN_H
#define PATCHBAY_VIRTQUEUE_CHAIN_H

// A walk over a descriptor chain, whatever its ring. `packed` is a constant
// where speed matters.
//
//     begin, by the ring's own function, with a local copy of the head in desc
//     for (;;) {
//         resolve: from here on desc is a buffer
//         if (!(desc.flags & VRING_DESC_F_NEXT)) break;
//         next
//     }
//     end, which a packed ring needs to know what to give back

#include "virtqueue_packed.h"
#include "virtqueue_split.h"

struct virtqueue_chain {
    union {
        struct virtqueue_table table;        // split
        struct virtqueue_packed_chain chain; // packed
    };
};

static inline bool virtqueue_chain_resolve(bool packed, const struct virtqueue *vq, struct virtqueue_chain *chain,
                                           struct vring_desc *desc)
{
    return packed ? virtqueue_packed_chain_resolve(vq, &chain->chain, desc)
                  : virtqueue_table_resolve(vq, &chain->table, desc);
}

static inline bool virtqueue_chain_next(bool packed, struct virtqueue *vq, struct virtqueue_chain *chain,
                                        struct vring_desc *desc)
{
    return packed ? virtqueue_packed_chain_next(vq, &chain->chain, desc) : virtqueue_table_next(&chain->table, desc);
}

// False: the ring is stopped.
static inline bool virtqueue_chain_end(bool packed, struct virtqueue *vq, struct virtqueue_chain *chain)
{
    return !packed || virtqueue_packed_chain_end(vq, &chain->chain);
}

#endif
