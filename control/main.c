// SPDX-License-Identifier: BSD-3-Clause
//
// patchbayd: starts what the rest is made of, in order, runs the control
// thread's loop, and takes all down again. A start that fails says in one line
// what is wrong and what to do.

#include "access.h"
#include "apply.h"
#include "conf.h"
#include "control.h"
#include "devices.h"
#include "event_log.h"
#include "event_state.h"
#include "event_stream.h"
#include "event_tap.h"
#include "events.h"
#include "export.h"
#include "listener.h"
#include "log.h"
#include "loop.h"
#include "manager.h"
#include "metrics_server.h"
#include "openapi.h"
#include "options.h"
#include "pidfile.h"
#include "rehearsal.h"
#include "restore.h"
#include "routes.h"
#include "server.h"
#include "status.h"
#include "store_refusal.h"
#include "telemetry.h"
#include "trail.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

// The exit status, as patchbayd(8) has it. The unit starts nothing anew that ended with one of the last two: what is
// wrong stays so until a person mends it, and four starts a second would fill the journal with its description.
enum { EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_STATE = 3 };

// A clean end takes less than a second: so much for what hangs.
#define STOP_NS 700000000

struct control control;

static struct watcher signals = {.fd = -1};
static bool stopping;
// Written by start_all: the state file is none that this daemon could read, now or later.
static bool state_refused;

static void take_signal(void *arg)
{
    struct signalfd_siginfo info;

    (void)arg;
    if (read(signals.fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    log_message(LOG_LEVEL_NOTICE, "main", "stopping, on signal %s", strsignal((int)info.ssi_signo));
    stopping = true;
}

// To be called before there is a second thread, so that all inherit the mask.
static int catch_signals(void)
{
    sigset_t mask;

    signal(SIGPIPE, SIG_IGN);
    // A state file that reaches the limit of a file's size is a refused request, not the end.
    signal(SIGXFSZ, SIG_IGN);
    sigemptyset(&mask);
    sigaddset(&mask, SIGTERM);
    sigaddset(&mask, SIGINT);
    if (sigprocmask(SIG_BLOCK, &mask, NULL) != 0)
        return -errno;
    signals = (struct watcher){.fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK), .ready = take_signal};
    return signals.fd < 0 ? -errno : loop_watch(&signals);
}

// A thousand guests have a dozen descriptors each.
static void raise_limits(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) != 0)
        log_message(LOG_LEVEL_WARNING, "main", "the limit of open files stays low: %s", strerror(errno));
}

// The directory in which front ends make their sockets, and we ours.
static int make_vhost_dir(const struct options *options, char *reason, size_t size)
{
    char inside[4096];
    struct stat st;
    gid_t gid = 0;
    int error;

    if (options->vhost_group != NULL && (error = group_find(options->vhost_group, &gid, reason, size)) != 0)
        return error;
    if (stat(options->vhost_dir, &st) == 0)
        return 0;
    snprintf(inside, sizeof(inside), "%s/", options->vhost_dir);
    error = directory_make(inside, 0755, reason, size);
    if (error == 0 && options->vhost_group != NULL &&
        (chown(options->vhost_dir, (uid_t)-1, gid) != 0 || chmod(options->vhost_dir, 02770) != 0)) {
        error = -errno;
        snprintf(reason, size, "Can't give the directory %s to group %s: %s.", options->vhost_dir, options->vhost_group,
                 strerror(-error));
    }
    return error;
}

static int start_dataplane(const struct options *options, char *reason, size_t size)
{
    const struct dataplane_options wanted = {
        .workers = options->workers,
        .poll = options->poll,
        .hugepages_mb = options->hugepages_mb,
        .no_telemetry = options->no_telemetry,
        .eal_args = options->eal_args,
        .eal_arg_count = options->eal_arg_count,
        .log = log_write,
    };

    return dataplane_start(&wanted, reason, size);
}

static void on_device_gone(void)
{
    apply_device_gone();
}

static void on_device_came(struct device *device)
{
    const struct vif *vif = model_find_vif(control.model, device->name);

    if (vif != NULL)
        status_refresh_vif_alone(vif);
    apply_device_came(device);
}

// The API's socket: the service manager's, or one of our own.
static int open_socket(const struct options *options, char *reason, size_t size)
{
    int fd = manager_listen_fd(options->socket, reason, size), error;

    if (fd == -ENOENT)
        fd = listener_open(options->socket, options->socket_mode, options->socket_owner, options->socket_group, reason,
                           size);
    if (fd < 0)
        return fd;
    error = access_start(options, reason, size);
    if (error != 0) {
        close(fd);
        return error;
    }
    return fd;
}

// Each step undoes itself when it fails; those before it are undone by stop_all.
static int start_all(const struct options *options, char *reason, size_t size)
{
    static const struct devices_events events = {.came = on_device_came, .gone = on_device_gone};
    int listen_fd, error;

    control.options = options;
    if ((error = loop_start()) != 0 || (error = catch_signals()) != 0) {
        snprintf(reason, size, "Can't set up the event loop: %s.", strerror(-error));
        return error;
    }
    if ((error = pidfile_acquire(options->pidfile, options->socket, reason, size)) != 0 ||
        (error = make_vhost_dir(options, reason, size)) != 0)
        return error;
    listen_fd = open_socket(options, reason, size);
    if (listen_fd < 0)
        return listen_fd;
    error = restore_load(options->state, reason, size);
    state_refused = error == -EBADMSG || error == -EPROTONOSUPPORT;
    if (error != 0 || (error = start_dataplane(options, reason, size)) != 0) {
        close(listen_fd);
        return error;
    }
    control.dataplane_runs = true;
    event_log_start(store_instance(control.store));
    event_stream_start();
    event_tap_start();
    devices_start(&events);
    if ((error = device_thread_start()) != 0 || (error = events_start()) != 0) {
        snprintf(reason, size, "Can't start the device thread: %s.", strerror(-error));
        close(listen_fd);
        return error;
    }
    if ((error = restore_devices(&stopping, reason, size)) != 0) {
        close(listen_fd);
        return error;
    }
    apply_start();
    error = export_start(options->state, store_version_before(control.store) == 0, restore_is_whole());
    if (error != 0)
        log_message(LOG_LEVEL_WARNING, "export", "there will be no export of the state: %s", strerror(-error));
    if ((error = telemetry_start()) != 0) {
        snprintf(reason, size, "Can't add commands to DPDK's telemetry: %s.", strerror(-error));
        close(listen_fd);
        return error;
    }
    if ((error = metrics_server_start(options, reason, size)) != 0) {
        close(listen_fd);
        return error;
    }
    return server_start(listen_fd, routes_handle, routes_body_limit, reason, size);
}

static uint64_t earlier(uint64_t one, uint64_t other)
{
    return one < other ? one : other;
}

static void run(void)
{
    bool ready = false;

    while (!stopping) {
        server_run();
        apply_run();
        if (!ready && apply_is_idle()) {
            log_message(LOG_LEVEL_NOTICE, "main", "ready, on %s", control.options->socket);
            manager_ready();
            ready = true;
        }
        loop_wait(earlier(server_deadline(), apply_deadline()));
    }
}

// Ends the dataplane's part. False: something hangs, so the process has to go with it.
static bool stop_dataplane(uint64_t deadline)
{
    if (!apply_stop(deadline)) {
        log_message(LOG_LEVEL_WARNING, "main", "a worker does not answer");
        return false;
    }
    devices_stop();
    if (!device_thread_stop(deadline)) {
        log_message(LOG_LEVEL_WARNING, "main", "a device does not answer");
        return false;
    }
    devices_free();
    events_stop();
    return true;
}

// In reverse order. Files go first and in any case: what hangs must not leave them behind.
static void stop_all(void)
{
    uint64_t deadline = clock_now() + STOP_NS;
    bool clean = true;

    manager_stopping();
    listener_remove();
    if (control.dataplane_runs)
        clean = stop_dataplane(deadline);
    apply_stop_waiting();
    event_stream_stop();
    metrics_server_stop();
    telemetry_stop();
    // Of what hangs, requests may be left unanswered, which libmicrohttpd can't stop with.
    if (clean)
        server_stop(deadline);
    else
        server_run();
    if (control.model != NULL) {
        trail_stop();
        export_stop();
    }
    event_tap_stop();
    event_state_stop();
    event_log_stop();
    store_close(control.store);
    pidfile_release();
    if (!clean)
        _exit(1);
    if (control.dataplane_runs)
        dataplane_stop();
    model_destroy(control.model);
    close(signals.fd);
    loop_stop();
}

// A reason of several lines: what is wrong, then the commands that help.
static void log_reason(char *reason)
{
    for (char *line = strsep(&reason, "\n"); line != NULL; line = strsep(&reason, "\n"))
        log_message(LOG_LEVEL_ERROR, "main", "%s", line);
}

int main(int argc, char *argv[])
{
    struct options options;
    char reason[STORE_REASON_SIZE] = "";
    int error;

    // For docs/openapi.yaml and its test only, hence in no help.
    if (argc == 2 && strcmp(argv[1], "--dump-openapi") == 0)
        return openapi_print(stdout) != 0;
    conf_register(&conf_standard);
    conf_register(&conf_vif);
    conf_register(&conf_extension);
    // For the build and its tests only, hence in no help.
    if (argc == 2 && strcmp(argv[1], "--dump-conf") == 0) {
        conf_document(stdout);
        return 0;
    }
    switch (options_parse(argc, argv, &options)) {
    case OPTIONS_RUN:
        break;
    case OPTIONS_DONE:
        return 0;
    case OPTIONS_USAGE:
        return EXIT_USAGE;
    }
    manager_start();
    // Once, for all files that are made from here on.
    umask(0027);
    if (options.check)
        return rehearsal_run(&options);
    log_start(options.log_level);
    log_message(LOG_LEVEL_NOTICE, "main", "patchbayd " PATCHBAY_VERSION ", pid %d", (int)getpid());
    raise_limits();
    error = start_all(&options, reason, sizeof(reason));
    if (error != 0)
        log_reason(reason);
    else
        run();
    stop_all();
    if (state_refused)
        return EXIT_STATE;
    return error != 0 ? EXIT_FAILED : 0;
}
