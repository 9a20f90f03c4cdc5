// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_GUEST_LOG_H
#define PATCHBAY_GUEST_LOG_H

// The dirty log of a live migration: a bitmap in memory of the front end's, a
// bit for each 4 KiB page of guest memory (docs/interop/vhost-user.rst,
// "Migration"). The front end takes bits away, a word at a time and atomically,
// and then sends these pages once more. So whoever writes to guest memory
// writes first and then sets the bit: in the other order the page could be sent
// between the two, as it was before, and never again.

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GUEST_LOG_PAGE = 4096 };

struct guest_log {
    uint8_t *bits; // shared with the front end, which may truncate it: see sigbus.h
    uint64_t size; // bytes
};

// Sets the bits of the guest physical range [address, address + len). What lies
// beyond the log is left out: the front end has asked for no more.
static inline void guest_log_mark(const struct guest_log *log, uint64_t address, uint64_t len)
{
    uint64_t page = address / GUEST_LOG_PAGE;
    uint64_t last = (address + (len - 1)) / GUEST_LOG_PAGE;

    if (len == 0)
        return;
    // The release, with the front end's own atomic operation, keeps the bytes
    // before the bit. Always a store: a bit that is seen set may be taken away
    // before the bytes are seen.
    for (; page <= last && page / 8 < log->size; page++)
        __atomic_fetch_or(&log->bits[page / 8], (uint8_t)(1u << page % 8), __ATOMIC_RELEASE);
}

// Maps a log of size bytes from a file of the front end's. The caller keeps the
// descriptor. Returns 0, or -errno with why in reason (reason_size bytes); then
// log is as it was.
int guest_log_map(struct guest_log *log, int fd, uint64_t size, uint64_t offset, char *reason, size_t reason_size);

// Unmaps it, if there is one. Nobody uses it any more.
void guest_log_unmap(struct guest_log *log);

#endif
