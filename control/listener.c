// SPDX-License-Identifier: BSD-3-Clause
#include "listener.h"

#include "pidfile.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

// What we bound, so that another daemon's socket is never removed by us.
static struct bound {
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    dev_t device;
    ino_t inode;
} ours[2];
static size_t ours_count;

int group_find(const char *name, gid_t *gid, char *reason, size_t reason_size)
{
    const struct group *group = getgrnam(name);
    const char *wrong = NULL;
    long long number;

    if (group != NULL) {
        *gid = group->gr_gid;
        return 0;
    }
    number = strtonum(name, 0, UINT32_MAX - 1, &wrong);
    if (wrong == NULL) {
        *gid = (gid_t)number;
        return 0;
    }
    snprintf(reason, reason_size, "There is no group \"%s\". Make it with: groupadd --system %s", name, name);
    return -ENOENT;
}

static int user_find(const char *name, uid_t *uid, char *reason, size_t reason_size)
{
    const struct passwd *user = getpwnam(name);
    const char *wrong = NULL;
    long long number;

    if (user != NULL) {
        *uid = user->pw_uid;
        return 0;
    }
    number = strtonum(name, 0, UINT32_MAX - 1, &wrong);
    if (wrong == NULL) {
        *uid = (uid_t)number;
        return 0;
    }
    snprintf(reason, reason_size, "There is no user \"%s\". Make it with: useradd --system %s", name, name);
    return -ENOENT;
}

// Does somebody listen at the address? 0: no, -EADDRINUSE: yes.
static int probe(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int error = 0;

    if (fd < 0)
        return -errno;
    // EAGAIN is a listener whose backlog is full: alive.
    if (connect(fd, (const struct sockaddr *)address, sizeof(*address)) == 0 || errno == EAGAIN)
        error = -EADDRINUSE;
    else if (errno != ECONNREFUSED && errno != ENOENT)
        error = -errno;
    close(fd);
    return error;
}

// Makes way for bind: only a socket on which nobody listens is removed.
static int clear_path(const struct sockaddr_un *address, char *reason, size_t reason_size)
{
    const char *path = address->sun_path;
    struct stat st;
    int error;

    if (lstat(path, &st) != 0) {
        if (errno == ENOENT)
            return 0;
        error = errno;
        snprintf(reason, reason_size, "Can't look at %s: %s.", path, strerror(error));
        return -error;
    }
    if (!S_ISSOCK(st.st_mode)) {
        snprintf(reason, reason_size, "%s exists and is no socket. Remove it, or give another --socket.", path);
        return -ENOTSOCK;
    }
    error = probe(address);
    if (error == -EADDRINUSE) {
        snprintf(reason, reason_size,
                 "Somebody listens on %s already. Stop that process (ss -xlp shows it), or give another --socket.",
                 path);
        return error;
    }
    if (error == 0 && unlink(path) != 0 && errno != ENOENT)
        error = -errno;
    if (error != 0)
        snprintf(reason, reason_size, "Can't replace the old socket %s: %s. Run as its owner or remove it.", path,
                 strerror(-error));
    return error;
}

// uid, gid: -1 leaves ours.
static int bind_and_listen(int fd, const struct sockaddr_un *address, mode_t mode, uid_t uid, gid_t gid)
{
    struct stat st;
    mode_t old;
    int error = 0;

    // The file is born closed to others.
    old = umask(0777 & ~0600);
    if (bind(fd, (const struct sockaddr *)address, sizeof(*address)) != 0)
        error = -errno;
    umask(old);
    if (error != 0)
        return error;
    if (lstat(address->sun_path, &st) != 0)
        return -errno;
    if (ours_count == sizeof(ours) / sizeof(ours[0]))
        return -ENOSPC;
    strlcpy(ours[ours_count].path, address->sun_path, sizeof(ours[ours_count].path));
    ours[ours_count].device = st.st_dev;
    ours[ours_count].inode = st.st_ino;
    ours_count++;
    // The mode first: who gave the file away may not change it any more. Nobody can connect before listen.
    if (chmod(address->sun_path, mode) != 0 ||
        ((uid != (uid_t)-1 || gid != (gid_t)-1) && chown(address->sun_path, uid, gid) != 0) ||
        listen(fd, SOMAXCONN) != 0) {
        error = -errno;
        listener_remove();
    }
    return error;
}

int listener_open(const char *path, mode_t mode, const char *owner, const char *group, char *reason, size_t reason_size)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    uid_t uid = (uid_t)-1;
    gid_t gid = (gid_t)-1;
    int fd, error;

    if (strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path)) {
        snprintf(reason, reason_size, "The socket's path is too long: at most %zu bytes.",
                 sizeof(address.sun_path) - 1);
        return -ENAMETOOLONG;
    }
    if (owner != NULL && (error = user_find(owner, &uid, reason, reason_size)) != 0)
        return error;
    if (group != NULL && (error = group_find(group, &gid, reason, reason_size)) != 0)
        return error;
    if ((error = directory_make(path, 0755, reason, reason_size)) != 0 ||
        (error = clear_path(&address, reason, reason_size)) != 0)
        return error;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        error = -errno;
        snprintf(reason, reason_size, "Can't make a socket: %s.", strerror(-error));
        return error;
    }
    error = bind_and_listen(fd, &address, mode, uid, gid);
    if (error != 0) {
        snprintf(reason, reason_size, "Can't listen on %s: %s. Run as root, or give another --socket.", path,
                 strerror(-error));
        close(fd);
        return error;
    }
    return fd;
}

void listener_remove(void)
{
    struct stat st;

    for (; ours_count > 0; ours_count--) {
        const struct bound *bound = &ours[ours_count - 1];

        if (lstat(bound->path, &st) == 0 && st.st_dev == bound->device && st.st_ino == bound->inode)
            unlink(bound->path);
    }
}
