// SPDX-License-Identifier: BSD-3-Clause

// EAL's start and end.

#include "eal.h"
#include "eal_args.h"
#include "eal_cores.h"
#include "eal_log.h"
#include "eal_memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
    bool started;
    bool one_cpu;
    unsigned worker_count;
    unsigned lcores[LIMIT_WORKERS];
    char run_dir[256]; // DPDK's, ours to remove; "" if the user chose it
} eal;

static int refuse(char *reason, size_t reason_size, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static int refuse(char *reason, size_t reason_size, int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(reason, reason_size, format, arguments);
    va_end(arguments);
    return error;
}

// ---- DPDK's run directory ----

// Removes a directory that holds plain files and sockets alone.
static void remove_dir(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *entry;

    if (dir == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    while ((entry = readdir(dir)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(fd, entry->d_name, 0);
    closedir(dir);
    rmdir(path);
}

// Whether somebody still answers in a run directory: its owner may live in
// another pid namespace, where its number means nothing to us.
static bool answers(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int len = snprintf(address.sun_path, sizeof(address.sun_path), "%s/dpdk_telemetry.v2", path);
    int fd, error;

    if (len < 0 || (size_t)len >= sizeof(address.sun_path))
        return true; // can't know
    fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return true;
    error = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? 0 : errno;
    close(fd);
    return error != ENOENT && error != ECONNREFUSED;
}

// Removes what killed daemons left beside our own directory: names that only a
// patchbayd gives, of processes that are no more.
static void remove_stale(const char *run_dir)
{
    char parent[sizeof(eal.run_dir)];
    struct dirent *entry;
    DIR *dir;

    snprintf(parent, sizeof(parent), "%s", run_dir);
    dirname(parent);
    dir = opendir(parent);
    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL) {
        char path[sizeof(parent) + sizeof(entry->d_name) + 1];
        char rest;
        int pid;

        if (sscanf(entry->d_name, "patchbay-%d%c", &pid, &rest) != 1 || pid <= 0)
            continue;
        if (kill(pid, 0) == 0 || errno != ESRCH)
            continue;
        snprintf(path, sizeof(path), "%s/%s", parent, entry->d_name);
        if (answers(path))
            continue;
        eal_log(LOG_LEVEL_INFO, "dataplane", "removing %s, which a killed patchbayd left", path);
        remove_dir(path);
    }
    closedir(dir);
}

// ---- start ----

// DPDK's TAP driver asks the kernel for a realtime signal for each frame that
// arrives, unless all those signals have an owner. Without signals it simply
// reads; with them, threads are interrupted at the rate of the traffic, and
// where the queue of signals overflows comes SIGIO, which ends the process. So
// every one that nobody has is taken here.
static void own_realtime_signals(void)
{
    for (int number = SIGRTMIN + 1; number < SIGRTMAX; number++) {
        struct sigaction action;

        if (sigaction(number, NULL, &action) != 0 || action.sa_handler != SIG_DFL)
            continue;
        memset(&action, 0, sizeof(action));
        action.sa_handler = SIG_IGN;
        sigaction(number, &action, NULL);
    }
}

// EAL panics if it can't run a worker where it is told to (a cpuset may forbid
// it): so try that first.
static int try_cores(const struct eal_cores *cores, const cpu_set_t *before, char *reason, size_t reason_size)
{
    int error = 0;

    for (unsigned i = 0; i < cores->count && error == 0; i++) {
        cpu_set_t one;

        CPU_ZERO(&one);
        CPU_SET(cores->cpus[i], &one);
        if (sched_setaffinity(0, sizeof(one), &one) != 0)
            error = refuse(reason, reason_size, -EPERM, "CPU %u can't be used for a worker: %s; is it in our cpuset?",
                           cores->cpus[i], strerror(errno));
    }
    sched_setaffinity(0, sizeof(*before), before);
    return error;
}

// Who decides on cores: --workers, EAL's own options, or we.
static int choose_cores(const struct dataplane_options *options, const struct eal_user *user, struct eal_cores *cores,
                        char *reason, size_t reason_size)
{
    struct eal_cpus cpus;
    int error;

    if (user->cores && options->workers != NULL)
        return refuse(reason, reason_size, -EINVAL,
                      "--workers and EAL's own -l, -c or --lcores exclude each other: leave out one");
    error = eal_cores_read(&cpus);
    if (error != 0)
        return refuse(reason, reason_size, error, "the CPUs that we may use can't be read: %s", strerror(-error));
    error = eal_cores_choose(options->workers, &cpus, cores, reason, reason_size);
    if (error != 0 || user->cores)
        return error;
    return try_cores(cores, &cpus.allowed, reason, reason_size);
}

static int choose_memory(const struct dataplane_options *options, const struct eal_user *user,
                         struct eal_memory *memory, char *reason, size_t reason_size)
{
    struct eal_node nodes[EAL_NODES];
    int error;

    memset(memory, 0, sizeof(*memory));
    // The user told EAL.
    if (user->no_huge || user->files || user->in_memory || user->socket_mem)
        return 0;
    eal_memory_read("/sys", nodes);
    error = eal_memory_choose(options->hugepages_mb, nodes, memory, reason, reason_size);
    if (error != 0)
        return error;
    if (reason[0] != '\0')
        eal_log(LOG_LEVEL_WARNING, "dataplane", "%s", reason);
    if (memory->huge && !eal_memory_try()) {
        if (options->hugepages_mb != HUGEPAGES_AUTO)
            return refuse(reason, reason_size, -ENOMEM,
                          "--hugepages %d: there are free huge pages, but this process may not have them (a cgroup's "
                          "hugetlb limit?); allow it, or start with --hugepages off",
                          options->hugepages_mb);
        eal_log(LOG_LEVEL_WARNING, "dataplane",
                "there are free huge pages, but this process may not have them (a cgroup's hugetlb limit?): going on "
                "without");
        memory->huge = false;
    }
    return 0;
}

// rte_eal_init prints its usage to stdout when it doesn't like an argument.
static int init_silently(int argc, char **argv)
{
    int null = open("/dev/null", O_WRONLY | O_CLOEXEC), kept, result;

    fflush(stdout);
    kept = null < 0 ? -1 : fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    if (kept >= 0)
        dup2(null, STDOUT_FILENO);
    result = rte_eal_init(argc, argv);
    fflush(stdout);
    if (kept >= 0) {
        dup2(kept, STDOUT_FILENO);
        close(kept);
    }
    if (null >= 0)
        close(null);
    return result;
}

// The user's own arguments, which the reason names if EAL takes them ill: it
// says only that something was wrong with one.
static const char *user_arguments(const struct dataplane_options *options, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (size_t i = 0; i < options->eal_arg_count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s", i == 0 ? "; its own arguments were: " : " ",
                                 options->eal_args[i]);
    return text;
}

static int init(const struct dataplane_options *options, struct eal_args *args, char *reason, size_t reason_size)
{
    int argc = args->count, parsed, error;
    char **argv = calloc((size_t)argc + 1, sizeof(*argv)); // EAL permutes it and puts its own pointers in
    char said[512], own[256];

    if (argv == NULL)
        return refuse(reason, reason_size, -ENOMEM, "out of memory");
    memcpy(argv, args->values, (size_t)argc * sizeof(*argv));
    eal_log_capture_begin(false);
    parsed = init_silently(argc, argv);
    error = rte_errno;
    eal_log_capture_end(said, sizeof(said));
    if (parsed >= 0 && parsed < argc - 1)
        error = refuse(reason, reason_size, -EINVAL, "EAL takes no argument \"%s\"", argv[parsed + 1]);
    else if (parsed < 0)
        error = refuse(reason, reason_size, error > 0 ? -error : -EIO, "DPDK's EAL doesn't start: %s%s",
                       said[0] != '\0' ? said : rte_strerror(error), user_arguments(options, own, sizeof(own)));
    else
        error = 0;
    free(argv);
    return error;
}

// The workers are EAL's lcores but the main one, whoever chose them.
static int take_workers(const struct eal_cores *cores, const struct eal_user *user, char *reason, size_t reason_size)
{
    unsigned lcore;

    if (!user->cores) {
        eal.worker_count = cores->count;
        eal.one_cpu = cores->one_cpu;
        eal_args_lcores(cores, eal.lcores);
        return 0;
    }
    RTE_LCORE_FOREACH_WORKER(lcore)
    {
        if (eal.worker_count == LIMIT_WORKERS)
            return refuse(reason, reason_size, -EINVAL, "EAL's own options name more than %d workers", LIMIT_WORKERS);
        eal.lcores[eal.worker_count++] = lcore;
    }
    if (eal.worker_count == 0)
        return refuse(reason, reason_size, -EINVAL,
                      "EAL's own -l, -c or --lcores name one lcore: Patchbay needs one for its main thread and one for "
                      "each worker");
    eal.one_cpu = cores->one_cpu;
    return 0;
}

int eal_start(const struct dataplane_options *options, char *reason, size_t reason_size)
{
    struct eal_user user;
    struct eal_cores cores;
    struct eal_memory memory;
    struct eal_args args;
    int error;

    if (eal.started)
        return refuse(reason, reason_size, -EALREADY, "the dataplane was started before");
    eal_args_read_user(options->eal_args, options->eal_arg_count, &user);
    if (user.help)
        return refuse(reason, reason_size, -EINVAL, "EAL's -h and -v aren't for a daemon: see dpdk-testpmd -h");
    error = eal_log_open(options->log);
    if (error != 0)
        return refuse(reason, reason_size, error, "DPDK's log can't be opened: %s", strerror(-error));
    error = choose_cores(options, &user, &cores, reason, reason_size);
    if (error == 0)
        error = choose_memory(options, &user, &memory, reason, reason_size);
    if (error != 0)
        return error;
    if (eal_args_build(options, &user, &cores, &memory, &args) != 0)
        return refuse(reason, reason_size, -ENOMEM, "out of memory");
    for (int i = 1; i < args.count; i++)
        eal_log(LOG_LEVEL_DEBUG, "dataplane", "EAL argument %s", args.values[i]);

    own_realtime_signals();
    eal.started = true; // also a failed start can't be repeated in this process
    error = init(options, &args, reason, reason_size);
    eal_args_free(&args);
    if (!user.prefix)
        snprintf(eal.run_dir, sizeof(eal.run_dir), "%s", rte_eal_get_runtime_dir());
    if (error == 0)
        error = take_workers(&cores, &user, reason, reason_size);
    if (error != 0) {
        remove_dir(eal.run_dir);
        return error;
    }
    if (eal.run_dir[0] != '\0')
        remove_stale(eal.run_dir);
    reason[0] = '\0';
    return 0;
}

void eal_stop(void)
{
    rte_eal_cleanup();
    if (eal.run_dir[0] != '\0')
        remove_dir(eal.run_dir);
    eal.worker_count = 0;
    eal_log_close();
}

unsigned eal_worker_count(void)
{
    return eal.worker_count;
}

unsigned eal_worker_lcore(unsigned worker)
{
    return eal.lcores[worker];
}

bool eal_one_cpu(void)
{
    return eal.one_cpu;
}
