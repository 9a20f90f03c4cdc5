// SPDX-License-Identifier: BSD-3-Clause

// Making a vhost-user vif, unmaking it, and its state for readers. librte_vhost
// speaks the protocol for us; its own frame path isn't used.

#include "eal.h"
#include "offload.h"
#include "vhost_socket.h"
#include "vif_vhost.h"

#include <errno.h>
#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <rte_vhost.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// What is offered. All else is taken off what the library would offer: UFO (Linux
// has none any more; USO the library doesn't know). The control queue, by which a
// guest says how many queues it uses, is the front end's own (QEMU's). Without
// GUEST_ANNOUNCE QEMU has us announce a guest after its migration (SEND_RARP): that is
// counted and needs nothing of the guest. (rte_vhost_driver_set_features would change
// the library's idea of when a device is ready.)
static const uint64_t virtio_features =
    1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_F_ANY_LAYOUT | 1ULL << VIRTIO_NET_F_MRG_RXBUF |
    1ULL << VIRTIO_RING_F_INDIRECT_DESC | 1ULL << VIRTIO_F_RING_PACKED | 1ULL << VIRTIO_F_IN_ORDER |
    1ULL << VIRTIO_RING_F_EVENT_IDX | 1ULL << VHOST_USER_F_PROTOCOL_FEATURES | 1ULL << VHOST_F_LOG_ALL |
    1ULL << VIRTIO_NET_F_CSUM | 1ULL << VIRTIO_NET_F_GUEST_CSUM | 1ULL << VIRTIO_NET_F_HOST_TSO4 |
    1ULL << VIRTIO_NET_F_HOST_TSO6 | 1ULL << VIRTIO_NET_F_HOST_ECN | 1ULL << VIRTIO_NET_F_GUEST_TSO4 |
    1ULL << VIRTIO_NET_F_GUEST_TSO6 | 1ULL << VIRTIO_NET_F_GUEST_ECN | 1ULL << VIRTIO_NET_F_MTU |
    1ULL << VIRTIO_NET_F_MQ | 1ULL << VIRTIO_NET_F_CTRL_VQ;
static const uint64_t protocol_features = 1ULL << VHOST_USER_PROTOCOL_F_REPLY_ACK |
                                          1ULL << VHOST_USER_PROTOCOL_F_STATUS |
                                          1ULL << VHOST_USER_PROTOCOL_F_LOG_SHMFD | 1ULL << VHOST_USER_PROTOCOL_F_RARP |
                                          1ULL << VHOST_USER_PROTOCOL_F_NET_MTU | 1ULL << VHOST_USER_PROTOCOL_F_MQ;

static LIST_HEAD(, vif_vhost) all = LIST_HEAD_INITIALIZER(all);
static unsigned all_count, server_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; // a leaf: nothing is called under it

// Paths that the library holds and can't be told to forget; see vif_vhost_create.
struct lost_path {
    LIST_ENTRY(lost_path) link;
    char path[LIMIT_SOCKET_PATH_LEN + 1];
};
static LIST_HEAD(, lost_path) lost = LIST_HEAD_INITIALIZER(lost);

struct vif_vhost *vif_vhost_find(const char *path)
{
    struct vif_vhost *vhost;

    pthread_mutex_lock(&lock);
    LIST_FOREACH(vhost, &all, link)
    {
        if (strcmp(vhost->vif->target, path) == 0)
            break;
    }
    pthread_mutex_unlock(&lock);
    return vhost;
}

// Adds the vif to the list unless its path or the library's room is taken.
static int list_add(struct vif_vhost *vhost, char *reason, size_t reason_size)
{
    const char *path = vhost->vif->target;
    const struct vif_vhost *other;
    const struct lost_path *gone;
    int err = 0;

    pthread_mutex_lock(&lock);
    LIST_FOREACH(other, &all, link)
    {
        if (strcmp(other->vif->target, path) == 0) {
            snprintf(reason, reason_size, "vif %s has the path %s already", vif_name(other->vif), path);
            err = -EEXIST;
        }
    }
    LIST_FOREACH(gone, &lost, link)
    {
        if (strcmp(gone->path, path) == 0) {
            snprintf(reason, reason_size, "%s was taken from patchbayd while it bound it; restart it or choose another",
                     path);
            err = -EADDRINUSE;
        }
    }
    // A listening vif takes two places in the library's descriptor set, the
    // others one; one is the library's own.
    if (err == 0 && (all_count >= LIMIT_VHOST || (vhost->server && server_count >= LIMIT_VHOST_SERVERS) ||
                     all_count + server_count + 1 + vhost->server >= 1024)) {
        snprintf(reason, reason_size,
                 "no room for another vhost vif: %u exist, %u of them listening; at most %d, or %d", all_count,
                 server_count, LIMIT_VHOST, LIMIT_VHOST_SERVERS);
        err = -ENOSPC;
    }
    if (err == 0) {
        LIST_INSERT_HEAD(&all, vhost, link);
        all_count++;
        server_count += vhost->server;
    }
    pthread_mutex_unlock(&lock);
    return err;
}

static void list_remove(struct vif_vhost *vhost)
{
    pthread_mutex_lock(&lock);
    LIST_REMOVE(vhost, link);
    all_count--;
    server_count -= vhost->server;
    pthread_mutex_unlock(&lock);
}

static void lose_path(const char *path)
{
    struct lost_path *gone = calloc(1, sizeof(*gone));

    if (gone == NULL)
        return;
    snprintf(gone->path, sizeof(gone->path), "%s", path);
    pthread_mutex_lock(&lock);
    LIST_INSERT_HEAD(&lost, gone, link);
    pthread_mutex_unlock(&lock);
}

void vif_vhost_queue_free(struct vif_vhost_queue *queue)
{
    if (queue == NULL)
        return;
    // Closing removes a descriptor from a worker's set: nobody else has it.
    vif_vhost_wake_close(&queue->from_guest);
    vif_vhost_wake_close(&queue->to_guest);
    free(queue);
}

static struct vif_vhost_queue *queue_new(void)
{
    struct vif_vhost_queue *queue = aligned_alloc(64, sizeof(*queue));

    if (queue == NULL)
        return NULL;
    memset(queue, 0, sizeof(*queue));
    queue->from_guest = queue->to_guest = (struct vhost_wake){-1, -1};
    if (vif_vhost_wake_open(&queue->from_guest) == 0 && vif_vhost_wake_open(&queue->to_guest) == 0)
        return queue;
    vif_vhost_queue_free(queue);
    return NULL;
}

int vif_vhost_grow(struct vif_vhost *vhost, uint16_t count)
{
    for (uint16_t pair = 0; pair < count; pair++) {
        if (vhost->queues[pair] == NULL)
            vhost->queues[pair] = queue_new();
        if (vhost->queues[pair] == NULL)
            return -ENOMEM;
    }
    return vif_grow(vhost->vif, count);
}

static void vhost_free(struct vif_vhost *vhost)
{
    if (vhost == NULL)
        return;
    for (unsigned pair = 0; pair < VIF_QUEUES_MAX; pair++)
        vif_vhost_queue_free(vhost->queues[pair]);
    pthread_mutex_destroy(&vhost->lock);
    pthread_mutex_destroy(&vhost->calling);
    free(vhost);
}

static struct vif_vhost *vhost_new(struct vif *vif, bool server)
{
    struct vif_vhost *vhost = calloc(1, sizeof(*vhost));

    if (vhost == NULL)
        return NULL;
    vhost->vif = vif;
    vhost->server = server;
    vhost->vid = -1;
    vhost->connection_fd = -1;
    for (unsigned ring = 0; ring < 2 * VIF_QUEUES_MAX; ring++)
        vhost->known[ring] = -1;
    memset(vhost->used_log, 0xff, sizeof(vhost->used_log));
    pthread_mutex_init(&vhost->lock, NULL);
    pthread_mutex_init(&vhost->calling, NULL);
    if (vif_vhost_grow(vhost, 1) != 0) {
        vhost_free(vhost);
        return NULL;
    }
    return vhost;
}

int vif_vhost_register(const struct vif_vhost *vhost, uint64_t flags, char *reason, size_t reason_size)
{
    const char *path = vhost->vif->target;
    uint64_t offered = 0;

    if (rte_vhost_driver_register(path, flags) != 0) {
        snprintf(reason, reason_size, "librte_vhost has no room for another socket, or no file descriptor is left");
        return -ENOSPC;
    }
    if (rte_vhost_driver_get_features(path, &offered) != 0 ||
        rte_vhost_driver_disable_features(path, offered & ~virtio_features) != 0 ||
        rte_vhost_driver_set_protocol_features(path, protocol_features) != 0 ||
        vif_vhost_register_callbacks(path) != 0) {
        snprintf(reason, reason_size, "librte_vhost has forgotten %s", path); // not without a bug
        return -EIO;
    }
    return 0;
}

static int listen_on(const struct vif_vhost *vhost, char *reason, size_t reason_size)
{
    const char *path = vhost->vif->target;
    int err = vif_vhost_register(vhost, 0, reason, reason_size);

    if (err != 0 || rte_vhost_driver_start(path) == 0)
        return err;
    // It failed to bind although we could a moment ago. It has closed its
    // descriptor and, told to forget the path, would close that number
    // again and unlink what isn't ours. So it is left alone.
    lose_path(path);
    snprintf(reason, reason_size, "librte_vhost could not bind %s: something has just taken its place", path);
    return -EADDRINUSE;
}

int vif_vhost_create(struct vif *vif, const struct vif_config *config, char *reason, size_t reason_size)
{
    struct vif_vhost *vhost;
    bool server = config->kind == VIF_VHOST_SERVER;
    gid_t gid;
    int err;

    err = vhost_socket_check(config->target, reason, reason_size);
    if (err == 0 && server)
        err = vhost_socket_group(config->socket_group, &gid, reason, reason_size);
    if (err != 0)
        return err;
    vhost = vhost_new(vif, server);
    if (vhost == NULL) {
        snprintf(reason, reason_size, "out of memory or file descriptors");
        return -ENOMEM;
    }
    err = list_add(vhost, reason, reason_size);
    if (err != 0) {
        vhost_free(vhost);
        return err;
    }
    vif->private = vhost;
    vif->copies = true;
    // Before the library knows the path: nobody calls back yet.
    vif_vhost_explain(vhost);
    if (server)
        err = vhost_socket_clear(config->target, reason, reason_size);
    else
        err = vif_vhost_connect(vhost, reason, reason_size);
    if (err == 0 && server)
        err = listen_on(vhost, reason, reason_size);
    if (err == 0 && server) {
        err = vhost_socket_own(config->target, config->socket_mode, gid, reason, reason_size);
        if (err != 0)
            rte_vhost_driver_unregister(config->target);
    }
    if (err != 0) {
        list_remove(vhost);
        vif->private = NULL;
        vhost_free(vhost);
    }
    return err;
}

void vif_vhost_destroy(struct vif *vif)
{
    struct vif_vhost *vhost = vif->private;

    if (vhost == NULL)
        return;
    // Either detaches by way of destroy_device, in this thread. After it nobody
    // calls back for this vif.
    if (vhost->server) {
        rte_vhost_driver_unregister(vif->target);
        vif_vhost_forget(vhost);
    } else {
        vif_vhost_disconnect(vhost);
    }
    list_remove(vhost);
    vif->private = NULL;
    vhost_free(vhost);
}

void vif_vhost_read_state(struct vif *vif, struct vif_state *state)
{
    struct vif_vhost *vhost = vif->private;

    pthread_mutex_lock(&vhost->lock);
    if (vhost->attached != NULL) {
        const struct attachment *attachment = vhost->attached;

        state->queue_pairs = attachment_pairs_in_use(attachment);
        state->ring_size[0] = attachment->queues[0].from_guest.size;
        state->ring_size[1] = attachment->queues[0].to_guest.size;
        state->virtio_features = attachment->features;
        state->takes_csum = (offload_to_guest(attachment->features) & OFFLOAD_CSUM) != 0;
        state->takes_tso = (offload_to_guest(attachment->features) & OFFLOAD_TSO) == OFFLOAD_TSO;
        state->numa_node = attachment->numa_node;
        state->mtu = attachment->mtu;
        if (state->link == VIF_LINK_UP && vhost->memory_empty && attachment_is_empty(attachment))
            snprintf(state->reason, sizeof(state->reason),
                     "the guest's memory looks empty: is it shared? QEMU needs share=on");
    }
    pthread_mutex_unlock(&vhost->lock);
}

void vif_vhost_read_count(struct vif *vif, struct vif_count *count)
{
    struct vif_vhost *vhost = vif->private;

    count->announced += counter_read(&vhost->announced);
    pthread_mutex_lock(&vhost->lock);
    count->discarded[VIF_DISCARD_BAD_CHAIN] += vhost->bad_chains;
    for (unsigned pair = 0; vhost->attached != NULL && pair < vhost->attached->queue_pairs; pair++)
        count->discarded[VIF_DISCARD_BAD_CHAIN] += counter_read(&vhost->attached->queues[pair].to_guest.bad_chains);
    pthread_mutex_unlock(&vhost->lock);
}
