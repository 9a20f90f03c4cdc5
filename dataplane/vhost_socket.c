// SPDX-License-Identifier: BSD-3-Clause

#include "vhost_socket.h"

#include "patchbay/limits.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

// Peers send header and payload in one call, and replies are tiny: sound ones
// never come near it. All connections share the library's one thread, so this
// is also what a hostile one may take from each message of the others.
enum { MESSAGE_TIMEOUT_MS = 100 };

int vhost_socket_check(const char *path, char *reason, size_t reason_size)
{
    char directory[LIMIT_SOCKET_PATH_LEN + 1];
    struct stat status;
    char *slash;

    if (path == NULL || path[0] != '/') {
        snprintf(reason, reason_size, "the socket's path must be absolute, e.g. /run/patchbay-vhost/vm1.sock");
        return -EINVAL;
    }
    if (strlen(path) > LIMIT_SOCKET_PATH_LEN) {
        snprintf(reason, reason_size, "the socket's path has %zu bytes; at most %d fit into a socket address",
                 strlen(path), LIMIT_SOCKET_PATH_LEN);
        return -EINVAL;
    }
    memcpy(directory, path, strlen(path) + 1);
    slash = strrchr(directory, '/');
    if (slash[1] == '\0') {
        snprintf(reason, reason_size, "the socket's path must not end in a slash");
        return -EINVAL;
    }
    slash[slash == directory] = '\0';
    if (stat(directory, &status) != 0) {
        int err = errno;

        snprintf(reason, reason_size, "directory %s: %s; create it first", directory, strerror(err));
        return -err;
    }
    if (!S_ISDIR(status.st_mode)) {
        snprintf(reason, reason_size, "%s is no directory", directory);
        return -ENOTDIR;
    }
    if (stat(path, &status) == 0 && !S_ISSOCK(status.st_mode)) {
        snprintf(reason, reason_size, "%s exists and is no socket; choose another path or remove it", path);
        return -ENOTSOCK;
    }
    return 0;
}

int vhost_socket_group(const char *name, gid_t *gid, char *reason, size_t reason_size)
{
    char buffer[16384]; // a group's members
    struct group group, *found = NULL;

    *gid = (gid_t)-1;
    if (name == NULL)
        return 0;
    if (getgrnam_r(name, &group, buffer, sizeof(buffer), &found) != 0 || found == NULL) {
        snprintf(reason, reason_size, "there is no group %s", name);
        return -EINVAL;
    }
    *gid = group.gr_gid;
    return 0;
}

static void fill_address(struct sockaddr_un *address, const char *path)
{
    memset(address, 0, sizeof(*address));
    address->sun_family = AF_UNIX;
    memcpy(address->sun_path, path, strnlen(path, sizeof(address->sun_path) - 1));
}

// Removes a socket that nobody listens on; what a kill -9 leaves.
static int remove_stale(const char *path, char *reason, size_t reason_size)
{
    struct sockaddr_un address;
    struct stat status;
    int err = 0, fd;

    if (lstat(path, &status) != 0) {
        if (errno == ENOENT)
            return 0;
        err = errno;
        snprintf(reason, reason_size, "%s: %s", path, strerror(err));
        return -err;
    }
    if (!S_ISSOCK(status.st_mode)) {
        snprintf(reason, reason_size, "%s exists and is no socket; choose another path or remove it", path);
        return -ENOTSOCK;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        err = errno;
        snprintf(reason, reason_size, "no socket: %s", strerror(err));
        return -err;
    }
    fill_address(&address, path);
    if (connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        err = errno;
    close(fd);
    if (err == ENOENT)
        return 0; // it has just gone
    if (err == EACCES || err == EPERM) {
        snprintf(reason, reason_size, "%s exists and may not be connected to; remove it or give patchbayd the rights",
                 path);
        return -err;
    }
    if (err != ECONNREFUSED) { // someone accepts, or will when its backlog is shorter
        snprintf(reason, reason_size, "another process listens on %s; choose another path or stop it", path);
        return -EADDRINUSE;
    }
    if (unlink(path) != 0 && errno != ENOENT) {
        err = errno;
        snprintf(reason, reason_size, "the stale socket %s can't be removed: %s", path, strerror(err));
        return -err;
    }
    return 0;
}

int vhost_socket_clear(const char *path, char *reason, size_t reason_size)
{
    struct sockaddr_un address;
    int err, fd;

    err = remove_stale(path, reason, reason_size);
    if (err != 0)
        return err;
    // The library doesn't say why a bind failed, and after one it must not be
    // told to forget the path: it would unlink what isn't ours.
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        err = errno;
        snprintf(reason, reason_size, "no socket: %s", strerror(err));
        return -err;
    }
    fill_address(&address, path);
    if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        err = errno;
    else
        unlink(path);
    close(fd);
    if (err != 0)
        snprintf(reason, reason_size, "%s can't be bound: %s", path, strerror(err));
    return -err;
}

int vhost_socket_own(const char *path, mode_t mode, gid_t gid, char *reason, size_t reason_size)
{
    char by_fd[32];
    struct stat status;
    int err = 0, fd;

    // By descriptor: whoever may write in the directory could put a link to
    // another file in the path's place.
    fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) != 0)
        err = errno;
    else if (!S_ISSOCK(status.st_mode) || status.st_nlink != 1 || status.st_uid != geteuid())
        err = EEXIST;
    if (err != 0) {
        snprintf(reason, reason_size, "%s isn't the socket that was just bound there: %s", path, strerror(err));
        goto out;
    }
    if (gid != (gid_t)-1 && fchownat(fd, "", (uid_t)-1, gid, AT_EMPTY_PATH) != 0) {
        err = errno;
        snprintf(reason, reason_size, "%s can't be given to group %u: %s", path, (unsigned)gid, strerror(err));
        goto out;
    }
    snprintf(by_fd, sizeof(by_fd), "/proc/self/fd/%d", fd);
    if (chmod(by_fd, mode) != 0) {
        err = errno;
        snprintf(reason, reason_size, "%s can't be given mode %04o: %s", path, (unsigned)mode, strerror(err));
    }
out:
    if (fd >= 0)
        close(fd);
    return -err;
}

bool vhost_socket_is_bound(const char *path)
{
    struct sockaddr_un address;
    bool bound;
    // Of another type than what listens there, so it can't be accepted.
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return true; // not known: then the attempt says why
    fill_address(&address, path);
    bound = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 || errno == EPROTOTYPE;
    close(fd);
    return bound;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

// True if fd is a connection that belongs to path and has no timeout yet.
static bool is_new_connection(int fd, const char *path, bool server)
{
    struct sockaddr_un address = {.sun_family = AF_UNSPEC};
    struct timeval timeout = {0};
    socklen_t len = sizeof(address);
    int listens = 0, err;

    err = server ? getsockname(fd, (struct sockaddr *)&address, &len)
                 : getpeername(fd, (struct sockaddr *)&address, &len);
    if (err != 0 || address.sun_family != AF_UNIX || len <= offsetof(struct sockaddr_un, sun_path))
        return false;
    address.sun_path[sizeof(address.sun_path) - 1] = '\0';
    // An accepted socket has the listener's name. The name of the one that we
    // connected to is as its owner wrote it, perhaps relative.
    if (strcmp(server ? path : base_name(path), server ? address.sun_path : base_name(address.sun_path)) != 0)
        return false;
    len = sizeof(listens);
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) != 0 || listens)
        return false;
    len = sizeof(timeout);
    return getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, &len) == 0 && timeout.tv_sec == 0 && timeout.tv_usec == 0;
}

// What this thread accepted or connected last: the library calls back in the same
// thread, right after it.
static _Thread_local int latest = -1;

// The whole process's accept and connect, librte_vhost's above all: just what the kernel's
// do, and noted. Under other names here, since the C library declares them with a type
// of its own.
int vhost_socket_accept(int fd, struct sockaddr *address, socklen_t *len) __asm__("accept");
int vhost_socket_connect(int fd, const struct sockaddr *address, socklen_t len) __asm__("connect");

int vhost_socket_accept(int fd, struct sockaddr *address, socklen_t *len)
{
    latest = (int)syscall(SYS_accept, fd, address, len);
    return latest;
}

int vhost_socket_connect(int fd, const struct sockaddr *address, socklen_t len)
{
    int err = (int)syscall(SYS_connect, fd, address, len);

    latest = err == 0 ? fd : -1;
    return err;
}

// All descriptors are looked at, some microseconds each: of hundreds of guests with many queues
// there are a hundred thousand. For where the library's calls don't come by here.
static int find_connection(const char *path, bool server)
{
    DIR *directory = opendir("/proc/self/fd");
    struct dirent *entry;
    int found = -1;

    if (directory == NULL)
        return -1;
    while ((entry = readdir(directory)) != NULL) {
        int fd = atoi(entry->d_name); // "." and "..": 0

        if (is_new_connection(fd, path, server))
            found = fd;
    }
    closedir(directory);
    return found;
}

int vhost_socket_guard(const char *path, bool server)
{
    const struct timeval timeout = {.tv_usec = MESSAGE_TIMEOUT_MS * 1000};
    int fd = is_new_connection(latest, path, server) ? latest : find_connection(path, server);

    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)) == 0 &&
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout)) == 0)
        return fd;
    return -1;
}

bool vhost_socket_is_stuck(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLOUT};

    return poll(&poll_fd, 1, 0) == 0;
}

bool vhost_socket_hung_up(int fd)
{
    struct pollfd poll_fd = {.fd = fd, .events = POLLRDHUP};

    return poll(&poll_fd, 1, 0) == 1 && poll_fd.revents != 0;
}
