// SPDX-License-Identifier: BSD-3-Clause
#include "acceptor.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

// Without descriptors for a new connection the listener stays readable: look again after this.
enum { PAUSE_NS = 100000000 };

static void watch(struct acceptor *acceptor)
{
    if (!acceptor->watching && acceptor->watcher.fd >= 0 && acceptor->count < acceptor->limit)
        acceptor->watching = loop_watch(&acceptor->watcher) == 0;
}

static void unwatch(struct acceptor *acceptor)
{
    if (acceptor->watching)
        loop_unwatch(&acceptor->watcher);
    acceptor->watching = false;
}

static void watch_again(void *arg)
{
    watch(arg);
}

static void accept_all(void *arg)
{
    struct acceptor *acceptor = arg;

    while (acceptor->count < acceptor->limit) {
        int fd = accept4(acceptor->watcher.fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd >= 0) {
            acceptor->take(fd);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
            unwatch(acceptor);
            timer_arm(&acceptor->again, clock_now() + PAUSE_NS, watch_again, acceptor);
            return;
        } else if (errno != ECONNABORTED && errno != EINTR) {
            return;
        }
    }
    unwatch(acceptor);
}

int acceptor_start(struct acceptor *acceptor, int listen_fd, unsigned limit, void (*take)(int fd))
{
    int error;

    *acceptor = (struct acceptor){
        .watcher = {.fd = listen_fd, .ready = accept_all, .arg = acceptor}, .limit = limit, .take = take};
    // One from a service manager may block, as it is made: accept_all would never come back.
    if (fcntl(listen_fd, F_SETFL, fcntl(listen_fd, F_GETFL) | O_NONBLOCK) != 0)
        return -errno;
    error = loop_watch(&acceptor->watcher);
    acceptor->watching = error == 0;
    return error;
}

void acceptor_stop(struct acceptor *acceptor)
{
    if (acceptor->take == NULL)
        return;
    unwatch(acceptor);
    timer_cancel(&acceptor->again);
    close(acceptor->watcher.fd);
    acceptor->watcher.fd = -1;
    acceptor->take = NULL;
}

void acceptor_came(struct acceptor *acceptor)
{
    acceptor->count++;
}

void acceptor_left(struct acceptor *acceptor)
{
    acceptor->count--;
    watch(acceptor);
}
