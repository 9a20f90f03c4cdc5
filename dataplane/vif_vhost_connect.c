// SPDX-License-Identifier: BSD-3-Clause

// Connecting vhost vifs to front ends that listen (QEMU's server=on): at once
// if one does, later when one appears, again when it has gone.
//
// The library would do it by itself, but its way can't be made safe: when a
// connection ends while its path is unregistered, what it notes down for the
// next attempt may outlive the path, so that its thread goes on with freed
// memory; and a front end that hangs up at once has its connection taken off a
// list before its thread has put it there. So the library is asked for one
// connection without reconnecting, and told to forget the path when that ends.
// What has no connection is unknown to it and costs it nothing.
//
// One thread for all; it exists while there are such vifs. Locks: `connecting`
// is held while the library is called, and never by a callback; `starting` is
// waited for by the library's thread before it forgets a connection, and held
// by nobody who waits for that thread.

#include "eal_log.h"
#include "vhost_socket.h"
#include "vif_vhost.h"

#include <errno.h>
#include <poll.h>
#include <rte_vhost.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { RETRY_MS = 250 };

static pthread_mutex_t connecting = PTHREAD_MUTEX_INITIALIZER; // the list, and calls of rte_vhost_driver_*
static LIST_HEAD(, vif_vhost) clients = LIST_HEAD_INITIALIZER(clients);
static pthread_t connector;
static bool stop;     // under connecting
static int bell = -1; // an eventfd: look at once
static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local bool starting_here;

static uint64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void forget_path(struct vif_vhost *vhost)
{
    rte_vhost_driver_unregister(vhost->vif->target);
    vif_vhost_forget(vhost);
    vhost->registered = false;
}

// One attempt. Returns 0 also if nobody answers: registered says.
static int try_once(struct vif_vhost *vhost, char *reason, size_t reason_size)
{
    const char *path = vhost->vif->target;
    char said[256];
    int err;

    vhost->next_try = now_ms() + RETRY_MS;
    // Most of the time nobody is there: a look is cheaper than the library.
    if (!vhost_socket_is_bound(path))
        return 0;
    err = vif_vhost_register(vhost, RTE_VHOST_USER_CLIENT | RTE_VHOST_USER_NO_RECONNECT, reason, reason_size);
    if (err != 0)
        return err;
    vhost->registered = true;
    atomic_store(&vhost->lost, false);
    eal_log_capture_begin(true);
    pthread_mutex_lock(&starting);
    starting_here = true;
    err = rte_vhost_driver_start(path);
    starting_here = false;
    pthread_mutex_unlock(&starting);
    eal_log_capture_end(said, sizeof(said));
    // It says yes also when it made nothing of the connection, since we or a
    // limit refused it.
    if (err != 0 || (!vif_vhost_is_connected(vhost) && !atomic_load(&vhost->lost)))
        forget_path(vhost);
    return 0;
}

// Does what is due for a vif. Returns in how many ms to look again, -1: when
// the bell rings.
static int tend(struct vif_vhost *vhost)
{
    char reason[LIMIT_REASON_LEN + 1];
    uint64_t now = now_ms();

    if (vhost->registered && !atomic_load(&vhost->lost))
        return -1;
    if (vhost->registered)
        forget_path(vhost);
    // Also what connects and hangs up in a loop gets one attempt in that time.
    if (now < vhost->next_try)
        return (int)(vhost->next_try - now);
    if (try_once(vhost, reason, sizeof(reason)) != 0)
        vif_set_link(vhost->vif, VIF_LINK_DOWN, "%s", reason);
    return vhost->registered ? -1 : RETRY_MS;
}

static void *connect_all(void *argument)
{
    struct pollfd ring = {.fd = bell, .events = POLLIN};
    eventfd_t value;

    pthread_mutex_lock(&connecting);
    while (!stop) {
        struct vif_vhost *vhost;
        int wait = -1;

        LIST_FOREACH(vhost, &clients, client_link)
        {
            int due = tend(vhost);

            if (due >= 0 && (wait < 0 || due < wait))
                wait = due;
        }
        pthread_mutex_unlock(&connecting);
        if (poll(&ring, 1, wait) == 1)
            (void)eventfd_read(bell, &value);
        pthread_mutex_lock(&connecting);
    }
    pthread_mutex_unlock(&connecting);
    return argument;
}

// With the first vif.
static int start_thread(char *reason, size_t reason_size)
{
    int err;

    bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (bell < 0) {
        err = errno;
    } else {
        stop = false;
        err = pthread_create(&connector, NULL, connect_all, NULL);
        if (err == 0) {
            pthread_setname_np(connector, "vhost-connect");
            return 0;
        }
        close(bell);
        bell = -1;
    }
    snprintf(reason, reason_size, "no thread to connect to front ends: %s", strerror(err));
    return -err;
}

int vif_vhost_connect(struct vif_vhost *vhost, char *reason, size_t reason_size)
{
    int err = 0;

    pthread_mutex_lock(&connecting);
    if (LIST_EMPTY(&clients))
        err = start_thread(reason, reason_size);
    if (err != 0) {
        pthread_mutex_unlock(&connecting);
        return err;
    }
    LIST_INSERT_HEAD(&clients, vhost, client_link);
    err = try_once(vhost, reason, reason_size);
    (void)eventfd_write(bell, 1); // one more to look after
    pthread_mutex_unlock(&connecting);
    if (err != 0)
        vif_vhost_disconnect(vhost);
    return err;
}

void vif_vhost_disconnect(struct vif_vhost *vhost)
{
    bool last;

    pthread_mutex_lock(&connecting);
    LIST_REMOVE(vhost, client_link);
    last = LIST_EMPTY(&clients);
    stop = last;
    if (vhost->registered)
        forget_path(vhost);
    pthread_mutex_unlock(&connecting);
    if (last) { // vifs are made and unmade by one thread: none comes meanwhile
        (void)eventfd_write(bell, 1);
        pthread_join(connector, NULL);
        close(bell);
        bell = -1;
    }
}

void vif_vhost_connection_ends(void)
{
    if (!starting_here) {
        pthread_mutex_lock(&starting);
        pthread_mutex_unlock(&starting);
    }
}

void vif_vhost_lost(struct vif_vhost *vhost)
{
    atomic_store(&vhost->lost, true);
    if (!vhost->server)
        (void)eventfd_write(bell, 1);
}
