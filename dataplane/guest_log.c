// SPDX-License-Identifier: BSD-3-Clause

#include "guest_log.h"

#include "patchbay/limits.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

int guest_log_map(struct guest_log *log, int fd, uint64_t size, uint64_t offset, char *reason, size_t reason_size)
{
    struct stat status;
    void *bits;
    int err;

    // QEMU's is always 0. No offset, no sums of two numbers that aren't ours.
    if (offset != 0) {
        snprintf(reason, reason_size, "a dirty log that begins at byte %llu of its file instead of 0",
                 (unsigned long long)offset);
        return -EINVAL;
    }
    if (size == 0 || size > LIMIT_DIRTY_LOG_BYTES) {
        snprintf(reason, reason_size, "a dirty log of %llu bytes; 1 to %llu are taken", (unsigned long long)size,
                 (unsigned long long)LIMIT_DIRTY_LOG_BYTES);
        return -EINVAL;
    }
    if (fstat(fd, &status) != 0 || status.st_size < 0 || (uint64_t)status.st_size < size) {
        snprintf(reason, reason_size, "a dirty log of %llu bytes in a file that is shorter", (unsigned long long)size);
        return -EINVAL;
    }
    bits = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (bits == MAP_FAILED) {
        err = errno;
        snprintf(reason, reason_size, "a dirty log that can't be mapped: %s", strerror(err));
        return -err;
    }
    *log = (struct guest_log){bits, size};
    return 0;
}

void guest_log_unmap(struct guest_log *log)
{
    if (log->bits != NULL)
        munmap(log->bits, log->size);
    *log = (struct guest_log){NULL, 0};
}
