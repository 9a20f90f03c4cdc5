// SPDX-License-Identifier: BSD-3-Clause
#include "store_copy.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TRIES = 50, TRY_AGAIN_US = 10000, LOG_HEADER_SIZE = 32 };

struct bytes {
    char *data; // owned
    size_t size;
};

static int read_whole(int fd, struct bytes *bytes)
{
    struct stat status;
    *bytes = (struct bytes){0};
    if (fstat(fd, &status) != 0)
        return -errno;
    bytes->data = malloc((size_t)status.st_size + 1);
    if (bytes->data == NULL)
        return -ENOMEM;
    while (bytes->size < (size_t)status.st_size) {
        ssize_t got = pread(fd, bytes->data + bytes->size, (size_t)status.st_size - bytes->size, (off_t)bytes->size);
        if (got < 0)
            return -errno;
        // It became shorter meanwhile.
        if (got == 0)
            break;
        bytes->size += (size_t)got;
    }
    return 0;
}

static void free_bytes(struct bytes *bytes)
{
    free(bytes->data);
    *bytes = (struct bytes){0};
}

static bool are_equal(const struct bytes *one, const struct bytes *other)
{
    return one->size == other->size && (one->size == 0 || memcmp(one->data, other->data, one->size) == 0);
}

// The log may come, go and be begun anew at any time, so its name is looked up each time.
static int read_log(const char *path, struct bytes *log)
{
    *log = (struct bytes){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno == ENOENT ? 0 : -errno;
    int ret = read_whole(fd, log);
    close(fd);
    return ret;
}

static bool same_header(const struct bytes *one, const struct bytes *other)
{
    size_t size = one->size < LOG_HEADER_SIZE ? one->size : LOG_HEADER_SIZE;
    size_t other_size = other->size < LOG_HEADER_SIZE ? other->size : LOG_HEADER_SIZE;
    return size == other_size && (size == 0 || memcmp(one->data, other->data, size) == 0);
}

// Returns 0, -EAGAIN or another -errno.
static int read_instant(int fd, const char *log_path, struct bytes *database, struct bytes *log)
{
    struct bytes before = {0}, again = {0}, after = {0};
    int ret = read_log(log_path, &before);
    if (ret == 0)
        ret = read_whole(fd, database);
    if (ret == 0)
        ret = read_log(log_path, log);
    if (ret == 0)
        ret = read_whole(fd, &again);
    if (ret == 0)
        ret = read_log(log_path, &after);
    if (ret == 0 && (!are_equal(database, &again) || !same_header(&before, log) || !same_header(log, &after)))
        ret = -EAGAIN;
    free_bytes(&before);
    free_bytes(&again);
    free_bytes(&after);
    if (ret != 0) {
        free_bytes(database);
        free_bytes(log);
    }
    return ret;
}

static int write_file(const char *path, const struct bytes *bytes)
{
    int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    size_t done = 0;
    int ret = 0;
    while (ret == 0 && done < bytes->size) {
        ssize_t written = write(fd, bytes->data + done, bytes->size - done);
        if (written < 0)
            ret = -errno;
        else
            done += (size_t)written;
    }
    close(fd);
    return ret;
}

static int write_copy(const struct bytes *database, const struct bytes *log, char *copy, size_t size)
{
    const char *folder = getenv("TMPDIR");
    if (snprintf(copy, size, "%s/patchbay-check-XXXXXX", folder != NULL && folder[0] == '/' ? folder : "/tmp") >=
        (int)size - 16)
        return -ENAMETOOLONG;
    if (mkdtemp(copy) == NULL) {
        int ret = -errno;
        copy[0] = '\0';
        return ret;
    }
    char log_path[PATH_MAX];
    strcat(copy, "/state.db");
    snprintf(log_path, sizeof(log_path), "%s-wal", copy);
    int ret = write_file(copy, database);
    if (ret == 0 && log->size > 0)
        ret = write_file(log_path, log);
    if (ret != 0) {
        store_copy_remove(copy);
        copy[0] = '\0';
    }
    return ret;
}

int store_copy_make(const char *path, char *copy, size_t copy_size, pid_t *holder, char *reason, size_t reason_size)
{
    char log_path[PATH_MAX];
    struct bytes database = {0}, log = {0};
    copy[0] = '\0';
    *holder = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int ret = fd < 0 ? -errno : 0;
    if (snprintf(log_path, sizeof(log_path), "%s-wal", path) >= (int)sizeof(log_path))
        ret = -ENAMETOOLONG;
    if (ret == 0) {
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        if (fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK && lock.l_pid > 0)
            *holder = lock.l_pid;
        ret = -EAGAIN;
    }
    for (int i = 0; ret == -EAGAIN && i < TRIES; i++) {
        if (i > 0)
            usleep(TRY_AGAIN_US);
        ret = read_instant(fd, log_path, &database, &log);
    }
    if (fd >= 0)
        close(fd);
    if (ret == -EAGAIN) {
        snprintf(reason, reason_size, "%s changes all the time; try again when fewer changes are made", path);
        return ret;
    }
    if (ret != 0) {
        snprintf(reason, reason_size, "%s can't be read: %s", path, strerror(-ret));
        return ret;
    }
    ret = write_copy(&database, &log, copy, copy_size);
    if (ret != 0)
        snprintf(reason, reason_size, "a copy of %s can't be written: %s; set TMPDIR to a directory with room", path,
                 strerror(-ret));
    free_bytes(&database);
    free_bytes(&log);
    return ret;
}

void store_copy_remove(const char *copy)
{
    char folder[PATH_MAX];
    if (copy[0] == '\0' || strlcpy(folder, copy, sizeof(folder)) >= sizeof(folder))
        return;
    *strrchr(folder, '/') = '\0';
    DIR *directory = opendir(folder);
    if (directory == NULL)
        return;
    const struct dirent *entry;
    while ((entry = readdir(directory)) != NULL)
        if (entry->d_name[0] != '.')
            unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
    rmdir(folder);
}
