// SPDX-License-Identifier: BSD-3-Clause

// What librte_vhost calls: connections come and go, drivers start and stop, and
// before and after each message. On its own threads, but destroy_device also
// in the thread that calls rte_vhost_driver_unregister, and new_connection
// also in the one that calls rte_vhost_driver_start.
//
// While it handles most messages the library holds the locks of all queues,
// and sometimes two of its mutexes: nothing here may call rte_vhost_driver_*,
// rte_vhost_vring_call or rte_vhost_enable_guest_notification, or wait for a
// thread that might.

#include "eal.h"
#include "sigbus.h"
#include "vhost_message.h"
#include "vhost_received.h"
#include "vhost_socket.h"
#include "vif_vhost.h"

#include <errno.h>
#include <rte_vhost.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

// The library gives connections numbers below this (RTE_MAX_VHOST_DEVICE).
enum { VIDS = 1024 };

// Whose connection a number is; NULL: nobody's, or one that was superseded.
static _Atomic(struct vif_vhost *) owners[VIDS];

// Begins a callback: finds whose connection it is and takes the lock. NULL:
// nobody's.
static struct vif_vhost *enter(int vid)
{
    struct vif_vhost *vhost = vid >= 0 && vid < VIDS ? atomic_load_explicit(&owners[vid], memory_order_acquire) : NULL;

    if (vhost != NULL)
        pthread_mutex_lock(&vhost->calling);
    return vhost;
}

static void leave(struct vif_vhost *vhost)
{
    pthread_mutex_unlock(&vhost->calling);
}

static void forget_queues(struct vif_vhost *vhost)
{
    memset(vhost->enabled, 0, sizeof(vhost->enabled));
    memset(vhost->disabled, 0, sizeof(vhost->disabled));
    memset(vhost->drained, 0, sizeof(vhost->drained));
    memset(vhost->broken, 0, sizeof(vhost->broken));
}

// A number may have got a new owner already: only ours is taken off.
static void disown(struct vif_vhost *vhost)
{
    struct vif_vhost *expected = vhost;

    if (vhost->vid >= 0)
        atomic_compare_exchange_strong(&owners[vhost->vid], &expected, NULL);
    vhost->vid = -1;
    vhost_received_unwatch(vhost->connection_fd);
    vhost->connection_fd = -1;
    vhost->running = vhost->stopped = vhost->memory = vhost->negotiated = vhost->truncated = false;
    vhost->pending = vhost->failed = NULL;
    forget_queues(vhost);
    // No attachment: no worker uses it.
    guest_log_unmap(&vhost->log);
    memset(vhost->used_log, 0xff, sizeof(vhost->used_log));
    vhost->announce = false;
}

static void drop_connection(struct vif_vhost *vhost)
{
    vif_vhost_detach(vhost);
    disown(vhost);
    vif_vhost_explain(vhost);
}

void vif_vhost_forget(struct vif_vhost *vhost)
{
    pthread_mutex_lock(&vhost->calling);
    disown(vhost);
    leave(vhost);
}

bool vif_vhost_is_connected(struct vif_vhost *vhost)
{
    bool connected;

    pthread_mutex_lock(&vhost->calling);
    connected = vhost->vid >= 0;
    leave(vhost);
    return connected;
}

// True if an access of the library's to the front end's memory failed in this
// thread: that memory is no good until the front end connects anew.
static void check_truncated(struct vif_vhost *vhost)
{
    if (sigbus_tolerated())
        vhost->truncated = true;
}

static void check_empty(struct vif_vhost *vhost)
{
    bool empty = vhost->attached != NULL && attachment_is_empty(vhost->attached);

    pthread_mutex_lock(&vhost->lock);
    vhost->memory_empty = empty;
    pthread_mutex_unlock(&vhost->lock);
}

static int new_device(int vid)
{
    struct vif_vhost *vhost = enter(vid);

    if (vhost != NULL) {
        sigbus_tolerate();
        vhost->running = true;
        vhost->stopped = false;
        vif_vhost_attach(vhost);
        check_empty(vhost);
        leave(vhost);
    }
    // Always a success: else the library calls again after each message, and
    // destroy_device never.
    return 0;
}

static void destroy_device(int vid)
{
    struct vif_vhost *vhost = enter(vid);

    if (vhost == NULL)
        return;
    vhost->running = false;
    vif_vhost_detach(vhost);
    vhost->stopped = true;
    vhost->epoch++;
    memset(vhost->broken, 0, sizeof(vhost->broken));
    memset(vhost->drained, 0, sizeof(vhost->drained));
    vif_vhost_explain(vhost);
    leave(vhost);
}

// Notes what the library has just changed.
static void follow(struct vif_vhost *vhost, const struct vhost_message *message)
{
    uint64_t features = 0;

    switch (message->request) {
    case REQUEST_SET_FEATURES:
        vhost->negotiated = true;
        break;
    case REQUEST_SET_MEM_TABLE:
        vhost->memory = true;
        vhost->failed = NULL;
        break;
    case REQUEST_SET_VRING_ADDR:
        vhost->used_log[message->payload.addr.index] =
            message->payload.addr.flags & 1u << VHOST_VRING_F_LOG ? message->payload.addr.log_guest_addr : UINT64_MAX;
        break;
    case REQUEST_SEND_RARP:
        vhost->announce = true;
        memcpy(vhost->announce_mac, message->payload.mac, sizeof(vhost->announce_mac));
        break;
    case REQUEST_SET_VRING_BASE:
        vhost->broken[message->payload.state.index] = NULL;
        vhost->epoch++;
        break;
    case REQUEST_SET_VRING_ENABLE:
        vhost->enabled[message->payload.state.index] = message->payload.state.num != 0;
        vhost->disabled[message->payload.state.index] = message->payload.state.num == 0;
        vhost->drained[message->payload.state.index] = false;
        break;
    case REQUEST_SET_VRING_KICK:
        // Without protocol features a ring starts enabled.
        if (rte_vhost_get_negotiated_features(vhost->vid, &features) == 0 &&
            !(features & 1ULL << VHOST_USER_F_PROTOCOL_FEATURES))
            vhost->enabled[message->payload.u64 & 0xff] = true;
        break;
    case REQUEST_RESET_OWNER:
        vhost->memory = vhost->negotiated = false;
        memset(vhost->enabled, 0, sizeof(vhost->enabled));
        memset(vhost->disabled, 0, sizeof(vhost->disabled));
        break;
    default:
        break;
    }
}

// Says why a message must not reach the library, in reason; else returns its
// rule.
static const struct vhost_message_rule *judge(const struct vif_vhost *vhost, const struct vhost_message *message,
                                              const void *context, char *reason, size_t reason_size)
{
    const struct vhost_message_rule *rule;

    // Each reply would hold up the library's thread until its timeout, and the
    // front ends of all other vifs with it. Closing is the library's.
    if (vhost->connection_fd >= 0 && vhost_socket_is_stuck(vhost->connection_fd)) {
        shutdown(vhost->connection_fd, SHUT_RDWR);
        snprintf(reason, reason_size, "it reads no replies");
        return NULL;
    }
    rule = vhost_message_check(message, 2u * VIF_QUEUES_MAX, reason, reason_size);

    if (rule != NULL && rule->request == REQUEST_SET_MEM_TABLE && !vhost_message_can_map(context)) {
        snprintf(reason, reason_size, "%s with a region that can't be mapped", rule->name);
        return NULL;
    }
    return rule;
}

// The last message that changes the device failed in the library, or after_message would have been called: its memory
// may be unmapped. So whatever comes next, also what changes nothing, brings nothing back before there is memory anew.
static void note_failure(struct vif_vhost *vhost)
{
    if (vhost->pending == NULL)
        return;
    vhost->failed = vhost->pending;
    vhost->pending = NULL;
    vhost->memory = false;
    vif_vhost_explain(vhost);
}

// What a message may change under the workers is taken away from them before.
// The library's indices have to be right by then too: when it translates ring
// addresses and finds that its index isn't the one in the guest's memory, it
// believes the guest.
static void prepare(struct vif_vhost *vhost, const struct vhost_message_rule *rule)
{
    vhost->pending = rule->name;
    if (vhost->attached != NULL) {
        if (vif_link(vhost->vif) != VIF_LINK_BROKEN) {
            vif_set_link(vhost->vif, VIF_LINK_PAUSED, "the front end is changing its device (%s)", rule->name);
            // Mostly over before anybody could see the state: the count stays.
            atomic_fetch_add_explicit(&vhost->vif->pauses, 1, memory_order_relaxed);
        }
        vif_vhost_detach(vhost);
    }
}

// Handles a SET_LOG_BASE: the library would take an offset and write beyond its
// mapping. Nothing is changed if it is refused.
static int set_log(struct vif_vhost *vhost, const struct vhost_message_rule *rule, const struct vhost_message *message,
                   void *context, char *reason, size_t reason_size)
{
    struct guest_log log = {NULL, 0};
    int fd = vhost_message_take(context);
    int err;

    if (fd < 0) {
        snprintf(reason, reason_size, "%s needs one file descriptor", rule->name);
        return -EINVAL;
    }
    err = guest_log_map(&log, fd, message->payload.log.size, message->payload.log.offset, reason, reason_size);
    close(fd);
    if (err != 0)
        return err;
    prepare(vhost, rule);
    guest_log_unmap(&vhost->log);
    vhost->log = log;
    return 0;
}

// Called before the library handles a message.
static enum rte_vhost_msg_result before_message(int vid, void *context)
{
    struct vif_vhost *vhost = enter(vid);
    const struct vhost_message_rule *rule = NULL;
    struct vhost_message message;
    bool handled = false;
    char reason[128];

    sigbus_tolerate();
    vhost_received_taken();
    memcpy(&message, context, sizeof(message));
    if (vhost != NULL) { // NULL: of a connection that was superseded
        note_failure(vhost);
        rule = judge(vhost, &message, context, reason, sizeof(reason));
        if (rule != NULL && rule->request == REQUEST_SET_LOG_BASE) {
            handled = set_log(vhost, rule, &message, context, reason, sizeof(reason)) == 0;
            rule = handled ? rule : NULL;
        } else if (rule != NULL && rule->changes) {
            prepare(vhost, rule);
        }
        if (rule == NULL)
            eal_log_limited(LOG_LEVEL_WARNING, vhost->vif->slot, "message",
                            "vif %s: the front end's message is refused: %s", vif_name(vhost->vif), reason);
        leave(vhost);
    }
    if (handled)
        return RTE_VHOST_MSG_RESULT_REPLY;
    if (rule != NULL && rule->request == REQUEST_GET_QUEUE_NUM) {
        // The library would answer with the pairs that it takes itself.
        vhost_message_answer(context, VIF_QUEUES_MAX);
        return RTE_VHOST_MSG_RESULT_REPLY;
    }
    if (rule != NULL)
        return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
    vhost_message_close(context);
    return RTE_VHOST_MSG_RESULT_ERR;
}

// Called after the library has handled a message, unless that failed.
static enum rte_vhost_msg_result after_message(int vid, void *context)
{
    struct vif_vhost *vhost = enter(vid);
    struct vhost_message message;

    if (vhost != NULL) {
        memcpy(&message, context, sizeof(message));
        check_truncated(vhost);
        if (vhost->pending != NULL) {
            vhost->pending = NULL;
            follow(vhost, &message);
            vif_vhost_attach(vhost);
        }
        leave(vhost);
    }
    // "Not handled" leaves the library's own result as it is.
    return RTE_VHOST_MSG_RESULT_NOT_HANDLED;
}

static const struct rte_vhost_user_extern_ops message_ops = {
    .pre_msg_handle = before_message,
    .post_msg_handle = after_message,
};

// Takes a connection on, unless the vif has one. The library takes any number
// of connections on one socket. A front end that was killed and comes back may
// be seen before its old connection is gone.
static int accept_connection(struct vif_vhost *vhost, int vid)
{
    const struct vif *vif = vhost->vif;

    if (vhost->vid >= 0) {
        if (vhost->connection_fd < 0 || !vhost_socket_hung_up(vhost->connection_fd)) {
            eal_log_limited(LOG_LEVEL_WARNING, vif->slot, "second",
                            "vif %s: a second front end on %s is refused; one is connected", vif_name(vif),
                            vif->target);
            return -1;
        }
        drop_connection(vhost);
    }
    if (rte_vhost_extern_callback_register(vid, &message_ops, NULL) != 0)
        return -1;
    vhost->vid = vid;
    vhost->connection_fd = vhost_socket_guard(vif->target, vhost->server);
    if (vhost->connection_fd < 0)
        eal_log_limited(LOG_LEVEL_WARNING, vif->slot, "timeout",
                        "vif %s: no timeout could be set on its connection; a front end that hangs holds up the others",
                        vif_name(vif));
    if (vhost->connections++ > 0)
        atomic_fetch_add_explicit(&vhost->vif->reconnects, 1, memory_order_relaxed);
    vhost_received_watch(vhost->connection_fd);
    atomic_store_explicit(&owners[vid], vhost, memory_order_release);
    vif_vhost_explain(vhost);
    return 0;
}

static int new_connection(int vid)
{
    char path[LIMIT_SOCKET_PATH_LEN + 1];
    struct vif_vhost *vhost;
    int err;

    if (vid < 0 || vid >= VIDS || rte_vhost_get_ifname(vid, path, sizeof(path)) != 0)
        return -1;
    vhost = vif_vhost_find(path);
    if (vhost == NULL)
        return -1;
    pthread_mutex_lock(&vhost->calling);
    err = accept_connection(vhost, vid);
    leave(vhost);
    return err;
}

static void destroy_connection(int vid)
{
    struct vif_vhost *vhost;

    vhost_received_close();
    vif_vhost_connection_ends();
    vhost = enter(vid);
    if (vhost != NULL) {
        drop_connection(vhost);
        leave(vhost);
        vif_vhost_lost(vhost);
    }
}

static const struct rte_vhost_device_ops device_ops = {
    .new_device = new_device,
    .destroy_device = destroy_device,
    .new_connection = new_connection,
    .destroy_connection = destroy_connection,
};

int vif_vhost_register_callbacks(const char *path)
{
    return rte_vhost_driver_callback_register(path, &device_ops);
}
