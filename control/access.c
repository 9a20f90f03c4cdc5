// SPDX-License-Identifier: BSD-3-Clause
#include "access.h"

#include "listener.h"
#include "patchbay/limits.h"

#include <errno.h>
#include <grp.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct {
    bool has_readers;
    gid_t readers;
    const char *readers_name; // of the options
    // Of the socket's file; who they are may change anything.
    uid_t owner;
    gid_t group;
    mode_t mode;
    // Connections of users that are neither root nor ours.
    struct {
        uid_t uid;
        unsigned count;
    } users[LIMIT_CLIENTS];
    unsigned others;
} access_rules;

// Reading and writing are what connect wants.
enum { MAY_CONNECT = 06 };

// The list that the file's mode means, and the group: user, group, the readers, the mask, others (acl(5)). It is
// written as the kernel takes it, since one entry isn't worth a library.
static int set_list(const char *path, mode_t mode, gid_t readers)
{
    const __u16 group_mode = (mode >> 3) & 07;
    const struct posix_acl_xattr_entry entries[] = {
        {ACL_USER_OBJ, (mode >> 6) & 07, (__u32)ACL_UNDEFINED_ID},
        {ACL_GROUP_OBJ, group_mode, (__u32)ACL_UNDEFINED_ID},
        {ACL_GROUP, MAY_CONNECT, readers},
        {ACL_MASK, group_mode | MAY_CONNECT, (__u32)ACL_UNDEFINED_ID},
        {ACL_OTHER, mode & 07, (__u32)ACL_UNDEFINED_ID},
    };
    struct {
        struct posix_acl_xattr_header header;
        struct posix_acl_xattr_entry entries[sizeof(entries) / sizeof(entries[0])];
    } list = {.header = {POSIX_ACL_XATTR_VERSION}};

    memcpy(list.entries, entries, sizeof(entries));
    return setxattr(path, "system.posix_acl_access", &list, sizeof(list), 0) != 0 ? -errno : 0;
}

int access_start(const struct options *options, char *reason, size_t reason_size)
{
    struct stat st;
    int error;

    if (options->read_group == NULL)
        return 0;
    error = group_find(options->read_group, &access_rules.readers, reason, reason_size);
    if (error != 0)
        return error;
    if (stat(options->socket, &st) != 0 || set_list(options->socket, options->socket_mode, access_rules.readers) != 0) {
        error = -errno;
        snprintf(reason, reason_size,
                 "Can't let group %s connect to %s: %s. The socket's owner must be patchbayd's user, and its file "
                 "system must know access lists (tmpfs does); or leave out --read-group.",
                 options->read_group, options->socket, strerror(-error));
        return error;
    }
    access_rules.has_readers = true;
    access_rules.readers_name = options->read_group;
    access_rules.owner = st.st_uid;
    access_rules.group = st.st_gid;
    access_rules.mode = options->socket_mode;
    return 0;
}

static bool is_privileged(uid_t uid)
{
    return uid == 0 || uid == geteuid();
}

// Is the process at the other end in the group, by its own or an additional one?
static bool has_group(int fd, gid_t own, gid_t wanted)
{
    // As many as a process can have (NGROUPS_MAX) is too much for the stack.
    socklen_t size = 0;
    gid_t *groups;
    bool found = own == wanted;

    if (found || getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, NULL, &size) == 0 || errno != ERANGE)
        return found;
    groups = malloc(size);
    if (groups != NULL && getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &size) == 0)
        for (size_t i = 0; i < size / sizeof(*groups) && !found; i++)
            found = groups[i] == wanted;
    free(groups);
    return found;
}

enum access access_of_socket(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof(peer);

    // Without readers whom the file's mode lets connect may do all.
    if (!access_rules.has_readers)
        return ACCESS_WRITE;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return ACCESS_NONE;
    if (is_privileged(peer.uid) || peer.uid == access_rules.owner ||
        ((access_rules.mode >> 3 & MAY_CONNECT) == MAY_CONNECT && has_group(fd, peer.gid, access_rules.group)))
        return ACCESS_WRITE;
    if (has_group(fd, peer.gid, access_rules.readers))
        return ACCESS_READ;
    return (access_rules.mode & 02) != 0 ? ACCESS_WRITE : ACCESS_NONE;
}

int access_check(enum access access, bool read_only, uid_t uid, struct error *error)
{
    const struct group *group;
    char name[64];

    if (access == ACCESS_WRITE || (access == ACCESS_READ && read_only))
        return 0;
    if (access == ACCESS_NONE)
        return error_set(error, PATCHBAY_ERROR_FORBIDDEN, NULL,
                         "User %u is neither in the socket's group nor in %s, which may read. Become a member of one "
                         "and connect anew.",
                         (unsigned)uid, access_rules.readers_name);
    group = getgrgid(access_rules.group);
    if (group != NULL)
        strlcpy(name, group->gr_name, sizeof(name));
    else
        snprintf(name, sizeof(name), "%u", (unsigned)access_rules.group);
    return error_set(error, PATCHBAY_ERROR_FORBIDDEN, NULL,
                     "User %u may only read, as a member of %s. Changes are for root and members of %s.", (unsigned)uid,
                     access_rules.readers_name, name);
}

bool access_admit(uid_t uid)
{
    size_t at = 0;

    if (is_privileged(uid))
        return true;
    for (; at < LIMIT_CLIENTS; at++)
        if (access_rules.users[at].count > 0 && access_rules.users[at].uid == uid)
            break;
    for (size_t i = 0; at == LIMIT_CLIENTS && i < LIMIT_CLIENTS; i++)
        if (access_rules.users[i].count == 0)
            at = i;
    if (at == LIMIT_CLIENTS || access_rules.others >= LIMIT_CLIENTS_OTHERS ||
        access_rules.users[at].count >= LIMIT_CLIENTS_USER)
        return false;
    access_rules.users[at].uid = uid;
    access_rules.users[at].count++;
    access_rules.others++;
    return true;
}

void access_leave(uid_t uid)
{
    if (is_privileged(uid))
        return;
    for (size_t i = 0; i < LIMIT_CLIENTS; i++) {
        if (access_rules.users[i].count == 0 || access_rules.users[i].uid != uid)
            continue;
        access_rules.users[i].count--;
        access_rules.others--;
        return;
    }
}
