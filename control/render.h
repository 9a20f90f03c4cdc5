// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_RENDER_H
#define PATCHBAY_RENDER_H

// Objects as the API shows them: the configuration as request.c encodes it,
// and the status.

#include "model.h"

#include <jansson.h>

// A whole object of the model. New reference; NULL: no memory.
json_t *render_object(const struct object *object);
json_t *render_tee(const struct wire *wire, size_t position);

// Puts the status of the object as it is now into what was rendered of one of its
// versions (shown without status). Takes and returns the reference.
json_t *render_with_status(json_t *shown, const struct object *object);
json_t *render_tee_with_status(json_t *shown, const struct wire *wire, size_t position);

// Parts of a vif's status, which its conf has, too. mac all zero: null. ring: what kind of rings the guest's driver
// chose; null while there is none. offloads: what it negotiated, by the names that QEMU gives the bits (virtio 1.2,
// 5.1.3).
json_t *render_mac(const uint8_t mac[6]);
json_t *render_ring(uint64_t virtio_features);
// Who polls each of its receive queues; null: nobody just now.
json_t *render_workers(const struct vif_state *state);
json_t *render_offloads(uint64_t features);

#endif
