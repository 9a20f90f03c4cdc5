// SPDX-License-Identifier: BSD-3-Clause
#include "times.h"

#include <time.h>

struct times times_last;

void times_begin(void)
{
    times_last = (struct times){.published = times_last.published};
}

uint64_t times_cpu(void)
{
    struct timespec now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

void times_take(uint64_t *figure, uint64_t *since)
{
    uint64_t now = times_cpu();

    *figure += now - *since;
    *since = now;
}
