// SPDX-License-Identifier: BSD-3-Clause
#include "manager.h"

#include "control.h"
#include "log.h"
#include "loop.h"
#include "patchbay/limits.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { FIRST_FD = 3, STATUS_SIZE = 160 };

#define STATUS_NS (5 * (uint64_t)1000000000)

static struct {
    struct sockaddr_un address;
    socklen_t address_size; // 0: nobody wants to know
    int handed_over;        // descriptors, from FIRST_FD on
    uint64_t watchdog_ns;   // within which it wants to hear of us; 0: it doesn't watch
    struct timer timer;
    char status[STATUS_SIZE];         // told last
    uint64_t loops[LIMIT_WORKERS];    // of the workers at the last look
    uint64_t moved_at[LIMIT_WORKERS]; // when each was last seen to have gone round
    bool stuck;                       // said so
} manager;

// A number that is for this process: a child that inherited the variables must not believe them.
static unsigned long long take_number(const char *name, const char *pid_name)
{
    const char *value = getenv(name), *pid = getenv(pid_name);
    bool ours = pid == NULL ? strcmp(name, "LISTEN_FDS") != 0 : strtol(pid, NULL, 10) == (long)getpid();
    unsigned long long number = value != NULL && ours ? strtoull(value, NULL, 10) : 0;

    unsetenv(name);
    unsetenv(pid_name);
    return number;
}

void manager_start(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    unsigned long long handed_over = take_number("LISTEN_FDS", "LISTEN_PID");

    manager.watchdog_ns = take_number("WATCHDOG_USEC", "WATCHDOG_PID") * 1000;
    manager.handed_over = handed_over < 1000 ? (int)handed_over : 0;
    unsetenv("LISTEN_FDNAMES");
    // "@" stands for the zero byte of an abstract address.
    if (path != NULL && (path[0] == '/' || path[0] == '@') && strlen(path) < sizeof(manager.address.sun_path)) {
        manager.address.sun_family = AF_UNIX;
        strlcpy(manager.address.sun_path, path, sizeof(manager.address.sun_path));
        manager.address_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
        if (path[0] == '@')
            manager.address.sun_path[0] = '\0';
        else
            manager.address_size++;
    }
    unsetenv("NOTIFY_SOCKET");
}

static void tell(const char *text)
{
    int fd;

    if (manager.address_size == 0)
        return;
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    if (sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&manager.address, manager.address_size) <
        0)
        log_message(LOG_LEVEL_WARNING, "manager", "can't tell the service manager %.40s: %s", text, strerror(errno));
    close(fd);
}

// ---- socket activation ----

static int check_socket(const char *path, char *reason, size_t size)
{
    struct sockaddr_un address = {0};
    socklen_t address_size = sizeof(address), option_size = sizeof(int);
    int type = 0, listens = 0;

    if (getsockopt(FIRST_FD, SOL_SOCKET, SO_TYPE, &type, &option_size) != 0 || type != SOCK_STREAM ||
        getsockopt(FIRST_FD, SOL_SOCKET, SO_ACCEPTCONN, &listens, &option_size) != 0 || listens == 0 ||
        getsockname(FIRST_FD, (struct sockaddr *)&address, &address_size) != 0 || address.sun_family != AF_UNIX) {
        snprintf(reason, size,
                 "What the service manager hands over is no listening Unix stream socket. Its unit wants "
                 "ListenStream=%s.",
                 path);
        return -ENOTSOCK;
    }
    if (strncmp(address.sun_path, path, sizeof(address.sun_path)) != 0) {
        snprintf(reason, size, "The service manager hands over %.107s, but --socket says %s. Give both the same path.",
                 address.sun_path, path);
        return -EINVAL;
    }
    return 0;
}

int manager_listen_fd(const char *path, char *reason, size_t reason_size)
{
    int error;

    if (manager.handed_over == 0)
        return -ENOENT;
    for (int i = 0; i < manager.handed_over; i++)
        (void)fcntl(FIRST_FD + i, F_SETFD, FD_CLOEXEC);
    if (manager.handed_over != 1) {
        snprintf(reason, reason_size,
                 "The service manager hands over %d sockets, and patchbayd serves one: ListenStream=%s alone.",
                 manager.handed_over, path);
        return -EINVAL;
    }
    error = check_socket(path, reason, reason_size);
    if (error != 0)
        return error;
    if (fcntl(FIRST_FD, F_SETFL, fcntl(FIRST_FD, F_GETFL) | O_NONBLOCK) < 0) {
        snprintf(reason, reason_size, "The service manager's socket: %s.", strerror(errno));
        return -errno;
    }
    return FIRST_FD;
}

// ---- watchdog ----

// Each worker that sleeps is woken and has until the next look to go round its
// loop, like those that run. False: one hasn't for so long that the manager should act.
static bool workers_move(uint64_t now)
{
    bool all = true;

    for (unsigned i = 0; i < worker_count() && i < LIMIT_WORKERS; i++) {
        struct worker_count count;

        if (!worker_read(i, &count))
            continue;
        if (count.loops != manager.loops[i] || manager.moved_at[i] == 0) {
            manager.loops[i] = count.loops;
            manager.moved_at[i] = now;
        }
        // Half of its time: looks are a quarter apart.
        if (now - manager.moved_at[i] <= manager.watchdog_ns / 2)
            continue;
        if (!manager.stuck)
            log_message(LOG_LEVEL_ERROR, "manager", "worker %u on core %u has not moved for %llu ms", i, count.core,
                        (unsigned long long)((now - manager.moved_at[i]) / 1000000));
        all = false;
    }
    manager.stuck = !all;
    workers_wake();
    return all;
}

static void tell_status(void)
{
    char status[STATUS_SIZE];
    const struct model *model = control.model;

    snprintf(status, sizeof(status), "STATUS=%zu wires, %zu vifs, generation %llu, %s", model_count(model, OBJECT_WIRE),
             model_count(model, OBJECT_VIF), (unsigned long long)model_generation(model),
             manager.stuck ? "a worker is stuck" : "serving");
    if (strcmp(status, manager.status) == 0)
        return;
    strlcpy(manager.status, status, sizeof(manager.status));
    tell(status);
}

static void tick(void *arg)
{
    uint64_t now = clock_now(), interval = STATUS_NS;

    (void)arg;
    if (manager.watchdog_ns != 0) {
        if (manager.watchdog_ns / 4 < interval)
            interval = manager.watchdog_ns / 4;
        if (workers_move(now))
            tell("WATCHDOG=1");
    }
    tell_status();
    timer_arm(&manager.timer, now + interval, tick, NULL);
}

void manager_ready(void)
{
    if (manager.address_size == 0)
        return;
    tell("READY=1");
    tick(NULL);
}

void manager_stopping(void)
{
    timer_cancel(&manager.timer);
    tell("STOPPING=1");
}
