// SPDX-License-Identifier: BSD-3-Clause
#include "export.h"

#include "config.h"
#include "control.h"
#include "held.h"
#include "log.h"
#include "loop.h"
#include "store_refusal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

// A change is in the export within the first; writing takes at most one part in so many of the time.
#define DELAY_NS  ((uint64_t)500000000)
#define SHARE     10
#define FAILED_NS ((uint64_t)10000000000)
#define PRIORITY  10 // nice: below all that anybody waits for

// What the thread is given. It reads it and nothing else; the control thread frees it when the thread is done.
struct snapshot {
    struct held held;
    uint64_t generation;
    char instance[37];
};

static struct {
    bool on;
    char path[PATH_MAX], unfinished[PATH_MAX + 8];
    pthread_t thread;
    pthread_mutex_t lock; // guards what follows up to the line
    pthread_cond_t wake;
    struct snapshot *given; // to write; the thread sets it to NULL when it is done
    bool stop;
    int result;       // of the last writing
    uint64_t took_ns; // it took
    // ---- the control thread's alone
    struct watcher done;
    struct timer timer;
    struct snapshot *writing;
    uint64_t exported; // generation of the last that was written or is being written
    bool failed;       // and that was said
} state = {.lock = PTHREAD_MUTEX_INITIALIZER, .wake = PTHREAD_COND_INITIALIZER, .done = {.fd = -1}};

// ---- the thread ----

static int print_all(const struct snapshot *snapshot, FILE *out)
{
    size_t next = 0;
    int result = 0;

    fprintf(out, "{\"generation\":%llu,\"instance\":\"%s\"", (unsigned long long)snapshot->generation,
            snapshot->instance);
    for (enum object_kind kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
        bool first = true;

        fprintf(out, ",\n\"%s\":[", config_sections[kind]);
        for (; result == 0 && next < snapshot->held.count && snapshot->held.objects[next]->kind == kind; next++) {
            fputs(first ? "\n" : ",\n", out);
            result = config_print_object(snapshot->held.objects[next], out);
            first = false;
        }
        fputc(']', out);
    }
    fputs("}\n", out);
    return result;
}

// Makes a new name's entry in its directory last.
static void sync_directory(void)
{
    char directory[PATH_MAX];
    char *slash;
    int fd;

    strlcpy(directory, state.path, sizeof(directory));
    slash = strrchr(directory, '/');
    slash[slash == directory ? 1 : 0] = '\0';
    fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    fsync(fd);
    close(fd);
}

static int write_export(const struct snapshot *snapshot)
{
    int fd = open(state.unfinished, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0640);
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    int result;

    if (out == NULL) {
        result = -errno;
        if (fd >= 0)
            close(fd);
        return result;
    }
    result = print_all(snapshot, out);
    errno = 0;
    if (result == 0 && (fflush(out) != 0 || ferror(out) || fsync(fd) != 0))
        result = errno != 0 ? -errno : -EIO;
    if (fclose(out) != 0 && result == 0)
        result = -errno;
    if (result == 0 && rename(state.unfinished, state.path) != 0)
        result = -errno;
    if (result == 0)
        sync_directory();
    else
        unlink(state.unfinished);
    return result;
}

static void *run_thread(void *arg)
{
    (void)arg;
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), PRIORITY);
    pthread_mutex_lock(&state.lock);
    while (!state.stop || state.given != NULL) {
        const struct snapshot *snapshot = state.given;
        uint64_t began = clock_now();
        int result;

        if (snapshot == NULL) {
            pthread_cond_wait(&state.wake, &state.lock);
            continue;
        }
        pthread_mutex_unlock(&state.lock);
        result = write_export(snapshot);
        pthread_mutex_lock(&state.lock);
        state.result = result;
        state.took_ns = clock_now() - began;
        state.given = NULL;
        eventfd_write(state.done.fd, 1);
    }
    pthread_mutex_unlock(&state.lock);
    return NULL;
}

// ---- the control thread ----

static void free_snapshot(struct snapshot *snapshot)
{
    if (snapshot == NULL)
        return;
    held_drop(&snapshot->held);
    free(snapshot);
}

static struct snapshot *take_snapshot(void)
{
    struct snapshot *snapshot = calloc(1, sizeof(*snapshot));

    if (snapshot == NULL || held_take(&snapshot->held) != 0) {
        free(snapshot);
        return NULL;
    }
    snapshot->generation = model_generation(control.model);
    strlcpy(snapshot->instance, store_instance(control.store), sizeof(snapshot->instance));
    return snapshot;
}

static void begin(void *arg)
{
    (void)arg;
    state.writing = take_snapshot();
    if (state.writing == NULL) {
        timer_arm(&state.timer, clock_now() + FAILED_NS, begin, NULL);
        return;
    }
    state.exported = state.writing->generation;
    pthread_mutex_lock(&state.lock);
    state.given = state.writing;
    pthread_cond_signal(&state.wake);
    pthread_mutex_unlock(&state.lock);
}

// One that fails is tried again, and said once: the state itself is safe.
static void finish(void)
{
    uint64_t pause = state.took_ns * SHARE > DELAY_NS ? state.took_ns * SHARE : DELAY_NS;

    free_snapshot(state.writing);
    state.writing = NULL;
    if (state.result != 0) {
        if (!state.failed)
            log_message(LOG_LEVEL_WARNING, "export", "%s can't be written: %s; it is older than the state", state.path,
                        strerror(-state.result));
        state.failed = true;
        state.exported = 0;
        timer_arm(&state.timer, clock_now() + FAILED_NS, begin, NULL);
        return;
    }
    if (state.failed)
        log_message(LOG_LEVEL_NOTICE, "export", "%s is fresh again", state.path);
    state.failed = false;
    if (state.exported != model_generation(control.model))
        timer_arm(&state.timer, clock_now() + pause, begin, NULL);
}

static void take_done(void *arg)
{
    eventfd_t count;

    (void)arg;
    if (eventfd_read(state.done.fd, &count) == 0)
        finish();
}

void export_changed(void)
{
    if (state.on && state.writing == NULL && !state.timer.armed && state.exported != model_generation(control.model))
        timer_arm(&state.timer, clock_now() + DELAY_NS, begin, NULL);
}

// Who starts anew because the state file was lost, or short of what couldn't be restored, needs the last export from
// before. A later start that is short of something must not put a shorter one in its place.
static void keep_earlier(bool fresh)
{
    char before[PATH_MAX + 8];
    struct stat status;

    snprintf(before, sizeof(before), "%s.before", state.path);
    if (stat(state.path, &status) != 0 || (!fresh && stat(before, &status) == 0))
        return;
    if (rename(state.path, before) == 0)
        log_message(LOG_LEVEL_NOTICE, "export",
                    "the state %s; the export from before is kept as %s: patchbay apply -f %s --force brings it back",
                    fresh ? "starts empty" : "was not restored whole", before, before);
    else
        log_message(LOG_LEVEL_WARNING, "export", "%s can't be kept: %s", state.path, strerror(errno));
}

int export_start(const char *path, bool fresh, bool whole)
{
    int error;

    if (strcmp(path, ":memory:") == 0)
        return 0;
    error = store_export_path(path, state.path, sizeof(state.path));
    if (error != 0)
        return error;
    snprintf(state.unfinished, sizeof(state.unfinished), "%s.new", state.path);
    if (fresh || !whole)
        keep_earlier(fresh);
    state.done = (struct watcher){.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), .ready = take_done};
    if (state.done.fd < 0 || (error = loop_watch(&state.done)) != 0)
        return error != 0 ? error : -errno;
    error = pthread_create(&state.thread, NULL, run_thread, NULL);
    if (error != 0)
        return -error;
    state.on = true;
    begin(NULL);
    return 0;
}

void export_stop(void)
{
    if (!state.on)
        return;
    state.on = false;
    timer_cancel(&state.timer);
    if (state.exported != model_generation(control.model)) {
        // The thread may still be at one before.
        pthread_mutex_lock(&state.lock);
        while (state.given != NULL) {
            pthread_mutex_unlock(&state.lock);
            usleep(1000);
            pthread_mutex_lock(&state.lock);
        }
        pthread_mutex_unlock(&state.lock);
        free_snapshot(state.writing);
        begin(NULL);
        timer_cancel(&state.timer);
    }
    pthread_mutex_lock(&state.lock);
    state.stop = true;
    pthread_cond_signal(&state.wake);
    pthread_mutex_unlock(&state.lock);
    pthread_join(state.thread, NULL);
    free_snapshot(state.writing);
    state.writing = NULL;
    if (state.result != 0)
        log_message(LOG_LEVEL_WARNING, "export", "%s can't be written: %s; it is older than the state", state.path,
                    strerror(-state.result));
    loop_unwatch(&state.done);
    close(state.done.fd);
}
