// SPDX-License-Identifier: BSD-3-Clause

// Everything that a hot object must not call; the check must refuse all of it.

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

int bad(pthread_mutex_t *lock, int fd);
void *json_object(void);
int rte_log(unsigned level, unsigned type, const char *format, ...);

int bad(pthread_mutex_t *lock, int fd)
{
    volatile char *memory = malloc(10);
    ssize_t len;

    pthread_mutex_lock(lock);
    memset((void *)json_object(), 0, (size_t)fd);
    len = write(fd, (const void *)memory, 10);
    perror("bad");
    syslog(LOG_ERR, "bad");
    rte_log(1, 1, "bad");
    free((void *)memory);
    return (int)len;
}
