// SPDX-License-Identifier: BSD-3-Clause
#include "client.h"
#include "output.h"
#include "text.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

// Connects as libcurl did, for the error number, which libcurl doesn't give
// for every way of failing. Returns 0 or -errno.
static int try_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlcpy(address.sun_path, path, sizeof(address.sun_path)) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -errno;
    int error = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : -errno;
    close(fd);
    return error;
}

static const char *user_name(void)
{
    struct passwd *user = getpwuid(geteuid());
    return user == NULL ? text_format("%u", (unsigned)geteuid()) : text_format("%s", user->pw_name);
}

// How to start the daemon here.
static const char *how_to_start(void)
{
    static const char *const units[] = {
        "/etc/systemd/system/patchbayd.service", "/usr/local/lib/systemd/system/patchbayd.service",
        "/usr/lib/systemd/system/patchbayd.service", "/lib/systemd/system/patchbayd.service"};
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
        if (access(units[i], F_OK) == 0)
            return "`sudo systemctl start patchbayd`";
    return "`sudo patchbayd`";
}

// The socket can't be written, or a directory before it can't be searched:
// names the one that it is and the group whose members may.
static void explain_permission(const char *socket)
{
    const char *blocking = socket;
    mode_t needed = S_IWGRP;
    struct stat status;
    char *path = text_format("%s", socket);
    // Each directory from the root on: the first that can't be searched blocks.
    for (char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (access(path, X_OK) != 0 && errno == EACCES) {
            blocking = text_format("%s", path);
            needed = S_IXGRP;
            break;
        }
        *slash = '/';
    }
    if (lstat(blocking, &status) != 0) {
        output_complain("no permission for %s: use sudo", text_clean(blocking));
        return;
    }
    struct group *group = getgrgid(status.st_gid);
    const char *name = group == NULL ? text_format("%u", (unsigned)status.st_gid) : text_format("%s", group->gr_name);
    if ((status.st_mode & needed) && status.st_gid == 0)
        output_complain(
            "no permission for %s: it is root's alone. Use sudo, or start patchbayd with --socket-group, or "
            "--read-group for those who may only look",
            text_clean(blocking));
    else if (status.st_mode & needed)
        output_complain("no permission for %s: its group is %s. Use sudo, or join the group (sudo usermod -aG %s %s) "
                        "and log in again",
                        text_clean(blocking), name, name, user_name());
    else
        output_complain("no permission for %s: it is its owner's alone (mode %04o, group %s). Use sudo, or start "
                        "patchbayd with --socket-group and --socket-mode 0660",
                        text_clean(blocking), (unsigned)(status.st_mode & 07777), name);
}

void client_explain_unreached(const struct client *client, const char *problem)
{
    const char *socket = text_clean(client->socket);
    struct stat status;
    switch (-try_connect(client->socket)) {
    case 0:
        output_complain("patchbayd broke off the conversation: %s. Did it end meanwhile? Its log says why",
                        text_clean(problem));
        break;
    case ENOENT:
    case ENOTDIR:
        output_complain("patchbayd isn't running: there is no socket at %s; start it with %s (or say where it is: "
                        "--socket, PATCHBAY_SOCKET)",
                        socket, how_to_start());
        break;
    case ECONNREFUSED:
        if (lstat(client->socket, &status) == 0 && !S_ISSOCK(status.st_mode))
            output_complain("%s is no socket: say where patchbayd's is (--socket, PATCHBAY_SOCKET)", socket);
        else
            output_complain("patchbayd isn't running: nobody listens on the socket at %s, which one that ended left; "
                            "start it with %s",
                            socket, how_to_start());
        break;
    case EACCES:
    case EPERM:
        explain_permission(client->socket);
        break;
    case EAGAIN:
        output_complain("patchbayd has more clients waiting than it takes: try again");
        break;
    default:
        output_complain("patchbayd can't be reached at %s: %s", socket, text_clean(problem));
    }
}
