// SPDX-License-Identifier: BSD-3-Clause

// The vif `none`: always there, takes every frame and sends none. For scale
// and for tests; and a wire into it counts what it carries.

#include "vif.h"

// Nothing is read and nothing kept: an mbuf stays the burst's, and its
// source's complete frees it.
static uint16_t transmit(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t first, uint16_t count,
                         enum transmit_stop *stop)
{
    (void)vif;
    (void)queue;
    (void)burst;
    (void)first;
    *stop = TRANSMIT_ALL;
    return count;
}

static int create(struct vif *vif, const struct vif_config *config, char *reason, size_t reason_size)
{
    (void)config;
    (void)reason;
    (void)reason_size;
    vif_set_link(vif, VIF_LINK_UP, "%s", "");
    return 0;
}

static void destroy(struct vif *vif)
{
    (void)vif;
}

const struct vif_ops vif_none_ops = {
    .transmit = transmit,
    .create = create,
    .destroy = destroy,
};
