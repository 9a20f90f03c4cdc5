// SPDX-License-Identifier: BSD-3-Clause
#include "device_thread.h"

#include "log.h"
#include "loop.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

STAILQ_HEAD(job_queue, device_job);

// lock guards queued, finished and stopping; done_watcher.fd wakes the control thread.
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static struct job_queue queued = STAILQ_HEAD_INITIALIZER(queued);
static struct job_queue finished = STAILQ_HEAD_INITIALIZER(finished);
static bool stopping;

static pthread_t thread;
static bool running;
static struct watcher done_watcher = {.fd = -1};

static void work(struct device_job *job)
{
    if (job->verb == DEVICE_DESTROY) {
        vif_destroy(job->config.slot);
        return;
    }
    job->reason[0] = '\0';
    if (job->abandoned) {
        job->result = -ECANCELED;
        return;
    }
    job->result = vif_create(&job->config, job->reason, sizeof(job->reason));
    if (job->result != 0 && job->reason[0] == '\0')
        strlcpy(job->reason, strerror(-job->result), sizeof(job->reason));
}

static void *run(void *arg)
{
    (void)arg;
    pthread_setname_np(pthread_self(), "device");
    pthread_mutex_lock(&lock);
    for (;;) {
        struct device_job *job = STAILQ_FIRST(&queued);

        if (job == NULL && stopping)
            break;
        if (job == NULL) {
            pthread_cond_wait(&wake, &lock);
            continue;
        }
        STAILQ_REMOVE_HEAD(&queued, entry);
        // Nothing new is made on the way out: what isn't there need not be removed.
        job->abandoned = stopping;
        pthread_mutex_unlock(&lock);
        work(job);
        pthread_mutex_lock(&lock);
        // One wake-up for all that is finished by the time it is taken.
        if (STAILQ_EMPTY(&finished))
            eventfd_write(done_watcher.fd, 1);
        STAILQ_INSERT_TAIL(&finished, job, entry);
    }
    pthread_mutex_unlock(&lock);
    return NULL;
}

static void take_finished(void *arg)
{
    struct job_queue taken = STAILQ_HEAD_INITIALIZER(taken);
    struct device_job *job;
    eventfd_t ignored;

    (void)arg;
    eventfd_read(done_watcher.fd, &ignored);
    pthread_mutex_lock(&lock);
    STAILQ_CONCAT(&taken, &finished);
    pthread_mutex_unlock(&lock);
    while ((job = STAILQ_FIRST(&taken)) != NULL) {
        STAILQ_REMOVE_HEAD(&taken, entry);
        job->done(job);
    }
}

int device_thread_start(void)
{
    int error;

    done_watcher = (struct watcher){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = take_finished};
    if (done_watcher.fd < 0)
        return -errno;
    error = loop_watch(&done_watcher);
    if (error == 0)
        error = -pthread_create(&thread, NULL, run, NULL);
    running = error == 0;
    return error;
}

bool device_thread_stop(uint64_t deadline)
{
    struct timespec until = {.tv_sec = (time_t)(deadline / 1000000000), .tv_nsec = (long)(deadline % 1000000000)};

    if (!running)
        return true;
    pthread_mutex_lock(&lock);
    stopping = true;
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
    // clock_now's time.
    if (pthread_clockjoin_np(thread, NULL, CLOCK_MONOTONIC, &until) != 0)
        return false;
    running = false;
    loop_unwatch(&done_watcher);
    close(done_watcher.fd);
    return true;
}

void device_submit(struct device_job *job)
{
    pthread_mutex_lock(&lock);
    STAILQ_INSERT_TAIL(&queued, job, entry);
    pthread_cond_signal(&wake);
    pthread_mutex_unlock(&lock);
}
