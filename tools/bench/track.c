// SPDX-License-Identifier: BSD-3-Clause
#include "track.h"

#include <errno.h>
#include <sys/mman.h>

int track_open(struct track *track, uint64_t limit)
{
    *track = (struct track){.size = (size_t)(limit / 8 + 1)};
    track->bits = mmap(NULL, track->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (track->bits == MAP_FAILED) {
        track->bits = NULL;
        return -errno;
    }
    return 0;
}

void track_close(struct track *track)
{
    if (track->bits != NULL)
        munmap(track->bits, track->size);
    track->bits = NULL;
}

uint64_t track_missing(const struct track *track, uint64_t end, struct track_range *ranges, unsigned max)
{
    uint64_t count = 0;
    bool inside = false;

    for (uint64_t seq = 0; seq < end; seq++) {
        // Whole bytes that were seen are nearly all there is.
        if (!inside && (seq & 7) == 0) {
            while (seq + 8 <= end && track->bits[seq >> 3] == 0xff)
                seq += 8;
            if (seq >= end)
                break;
        }
        bool missing = (track->bits[seq >> 3] & 1u << (seq & 7)) == 0;
        if (missing && !inside) {
            if (count < max)
                ranges[count].first = seq;
            count++;
        }
        if (missing && count <= max)
            ranges[count - 1].last = seq;
        inside = missing;
    }
    return count;
}
