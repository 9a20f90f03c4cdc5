// SPDX-License-Identifier: BSD-3-Clause
#include "pidfile.h"

#include <errno.h>
#include <libutil.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct pidfh *held;

// "/run/patchbay/api.sock" -> "/run/patchbay/patchbayd.pid"
static int path_beside(const char *socket_path, char *path, size_t size)
{
    const char *slash = strrchr(socket_path, '/');
    int len = slash != NULL ? (int)(slash - socket_path) : 0;

    return snprintf(path, size, "%.*s/patchbayd.pid", len, socket_path) >= (int)size ? -ENAMETOOLONG : 0;
}

int directory_make(const char *path, unsigned mode, char *reason, size_t reason_size)
{
    char part[PATH_MAX];

    if (strlcpy(part, path, sizeof(part)) >= sizeof(part)) {
        snprintf(reason, reason_size, "The path %.64s… is too long.", path);
        return -ENAMETOOLONG;
    }
    for (char *slash = strchr(part + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        // The mode as it is meant, not less the umask: others have to pass to reach their sockets.
        if (mkdir(part, mode) == 0 ? chmod(part, mode) != 0 : errno != EEXIST) {
            int error = errno;

            snprintf(reason, reason_size, "Can't make the directory %s: %s. Make it, or run as a user who may.", part,
                     strerror(error));
            return -error;
        }
        *slash = '/';
    }
    return 0;
}

int pidfile_acquire(const char *path, const char *socket_path, char *reason, size_t reason_size)
{
    char beside[PATH_MAX];
    pid_t other = 0;
    int error;

    if (path == NULL) {
        if (path_beside(socket_path, beside, sizeof(beside)) != 0) {
            snprintf(reason, reason_size, "The path of the pidfile is too long; give --pidfile.");
            return -ENAMETOOLONG;
        }
        path = beside;
    }
    error = directory_make(path, 0755, reason, reason_size);
    if (error != 0)
        return error;
    held = pidfile_open(path, 0644, &other);
    if (held == NULL) {
        error = errno;
        if (error == EEXIST)
            snprintf(reason, reason_size,
                     "Patchbay already runs here: pid %d holds %s. Stop it, or give this one another --socket and "
                     "--state.",
                     (int)other, path);
        else
            snprintf(reason, reason_size, "Can't write the pidfile %s: %s. Run as root, or give --pidfile.", path,
                     strerror(error));
        return -error;
    }
    if (pidfile_write(held) != 0) {
        error = errno;
        snprintf(reason, reason_size, "Can't write the pidfile %s: %s.", path, strerror(error));
        pidfile_release();
        return -error;
    }
    return 0;
}

void pidfile_release(void)
{
    if (held != NULL)
        pidfile_remove(held);
    held = NULL;
}
