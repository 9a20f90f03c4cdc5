// SPDX-License-Identifier: BSD-3-Clause
// Keys beyond the standard: what a library or a protocol has and others may
// not. An extension brings its own table like this one and registers it.

#include "conf.h"

static json_t *get_features(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)row;
    if (!subject->there || subject->state.virtio_features == 0)
        return conf_refuse(reason, "the guest's driver isn't there yet");
    return json_sprintf("0x%llx", (unsigned long long)subject->state.virtio_features);
}

static void add_statistic(void *arg, const char *name, uint64_t value)
{
    json_object_set_new(arg, name, json_integer((json_int_t)value));
}

static json_t *get_xstats(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    const struct vif *vif = (const struct vif *)subject->object;
    json_t *statistics;

    (void)row;
    if (!subject->there)
        return conf_refuse(reason, "its device isn't there; status.reason of the vif says why");
    statistics = json_object();
    if (vif_each_statistic(vif->slot, add_statistic, statistics))
        return statistics;
    json_decref(statistics);
    return conf_refuse(reason, "its driver has no extended statistics");
}

static const struct conf_row rows[] = {
    {CONF_VIF,
     "x-dpdk-xstats",
     {[VIF_DEV] = CONF_R, [VIF_KERNEL_NEW] = CONF_R},
     "object",
     NULL,
     NULL,
     get_xstats,
     "extended statistics are DPDK drivers': kinds dev, kernel-new",
     "the extended statistics of its DPDK driver, by their names there"},
    {CONF_VIF,
     "x-virtio-features",
     {[VIF_VHOST] = CONF_R, [VIF_VHOST_SERVER] = CONF_R},
     "string",
     NULL,
     NULL,
     get_features,
     "only guests negotiate virtio features: kinds vhost, vhost-server",
     "the feature bits that the guest's driver negotiated, in hexadecimal"},
};

const struct conf_table conf_extension = {rows, sizeof(rows) / sizeof(rows[0])};
