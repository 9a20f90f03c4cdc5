// SPDX-License-Identifier: BSD-3-Clause

// EAL's start and end. It starts once a process, so each case has one of its
// own, with a run directory of its own.

#include "dataplane/dataplane.h"
#include "dataplane/eal.h"
#include "dataplane/eal_log.h"

#include <dirent.h>
#include <errno.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char run_dir[64]; // DPDK's is run_dir/dpdk/patchbay-PID

// What a case's process does; false fails it. Its log is in `log`.
static char log_text[65536];
static struct dataplane_options options;
static char reason[512];

static void log_line(enum log_level level, const char *component, const char *message)
{
    size_t used = strlen(log_text);

    snprintf(log_text + used, sizeof(log_text) - used, "%d %s: %s\n", (int)level, component, message);
}

static bool check(bool right, const char *what, int line)
{
    if (!right)
        fprintf(stderr, "line %d: %s; the reason is \"%s\"; the log:\n%s", line, what, reason, log_text);
    return right;
}

#define CHECK(condition)                             \
    do {                                             \
        if (!check(condition, #condition, __LINE__)) \
            return false;                            \
    } while (0)

static int start_with(const char *workers, int hugepages_mb, const char *const *eal_args, size_t eal_arg_count)
{
    options = (struct dataplane_options){.workers = workers,
                                         .hugepages_mb = hugepages_mb,
                                         .eal_args = eal_args,
                                         .eal_arg_count = eal_arg_count,
                                         .log = log_line};
    return eal_start(&options, reason, sizeof(reason));
}

static bool own_dir_exists(void)
{
    char path[128];

    snprintf(path, sizeof(path), "%s/dpdk/patchbay-%d", run_dir, (int)getpid());
    return access(path, F_OK) == 0;
}

// Runs a case in a process of its own.
static void run_case(bool (*body)(void))
{
    int status = 0;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        setenv("RUNTIME_DIRECTORY", run_dir, 1);
        _exit(body() ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static cpu_set_t affinity(void)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    sched_getaffinity(0, sizeof(set), &set);
    return set;
}

static int take_affinity(void *to)
{
    *(cpu_set_t *)to = affinity();
    return 0;
}

// ---- cases ----

static bool plain_start(void)
{
    cpu_set_t before = affinity(), after, worker, both;

    CHECK(start_with(NULL, HUGEPAGES_OFF, NULL, 0) == 0);
    CHECK(own_dir_exists());
    CHECK(eal_worker_count() == 1);
    rte_eal_remote_launch(take_affinity, &worker, eal_worker_lcore(0));
    rte_eal_wait_lcore(eal_worker_lcore(0));
    after = affinity();
    CHECK(CPU_COUNT(&worker) == 1);
    CPU_AND(&both, &worker, &after);
    CHECK(eal_one_cpu() ? CPU_EQUAL(&worker, &after) : CPU_COUNT(&both) == 0);
    CPU_OR(&both, &worker, &after);
    CHECK(CPU_EQUAL(&both, &before));
    // A normal start is worth no word above debug.
    for (const char *line = log_text; *line != '\0'; line = strchr(line, '\n') + 1)
        CHECK(line[0] == '0' + LOG_LEVEL_DEBUG);
    CHECK(strstr(log_text, "dpdk: EAL: Detected CPU lcores") != NULL);
    CHECK(eal_mempool(0) != NULL);
    CHECK(eal_mempool(0) == eal_mempool(0));
    eal_stop();
    CHECK(!own_dir_exists());
    return true;
}

static unsigned count_lines(const char *part)
{
    unsigned count = 0;

    for (const char *at = strstr(log_text, part); at != NULL; at = strstr(at + 1, part))
        count++;
    return count;
}

static int complain(void *unused)
{
    (void)unused;
    rte_log(RTE_LOG_ERR, RTE_LOGTYPE_USER1, "from a worker\n");
    return 0;
}

// Nobody can fill the log; and a worker doesn't wait for it.
static bool log_limits(void)
{
    CHECK(start_with(NULL, HUGEPAGES_OFF, NULL, 0) == 0);
    for (int i = 0; i < 100; i++) {
        eal_log_limited(LOG_LEVEL_WARNING, 1, "one", "one kind, %d", i);
        eal_log_limited(LOG_LEVEL_WARNING, 2, "one", "one kind, another vif");
        eal_log_limited(LOG_LEVEL_WARNING, 1, "two", "another kind");
        rte_log(RTE_LOG_ERR, RTE_LOGTYPE_USER1, "peer %d is a bad one\n", i);
        rte_log(RTE_LOG_ERR, RTE_LOGTYPE_USER1, "half a line, ");
        rte_log(RTE_LOG_ERR, RTE_LOGTYPE_USER1, "%s\n", i % 2 ? "and this half" : "and that");
    }
    CHECK(count_lines("one kind") == 2 && count_lines("another vif") == 1 && count_lines("another kind") == 1);
    CHECK(count_lines("is a bad one") == 1);
    CHECK(count_lines("3 dpdk: half a line, and this half") == 1);
    CHECK(count_lines("3 dpdk: half a line, and that") == 1);
    rte_eal_remote_launch(complain, NULL, eal_worker_lcore(0));
    rte_eal_wait_lcore(eal_worker_lcore(0));
    CHECK(count_lines("from a worker") == 0);
    eal_log_drain();
    CHECK(count_lines("3 dpdk: from a worker") == 1);
    // Many kinds at once: not all pass, and what passed is whole.
    for (int i = 0; i < 20000; i++)
        eal_log_limited(LOG_LEVEL_WARNING, (vif_slot)i, "flood", "flood");
    CHECK(count_lines("flood") <= 1024);
    eal_stop();
    return true;
}

static bool one_cpu(void)
{
    cpu_set_t one, all = affinity();
    int cpu = 0;

    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    sched_setaffinity(0, sizeof(one), &one);
    CHECK(start_with(NULL, HUGEPAGES_OFF, NULL, 0) == 0);
    CHECK(eal_one_cpu());
    CHECK(eal_worker_count() == 1);
    eal_stop();
    return true;
}

static bool missing_core(void)
{
    CHECK(start_with("1023", HUGEPAGES_OFF, NULL, 0) == -ENODEV);
    CHECK(strstr(reason, "CPU 1023") != NULL);
    // Nothing was started: another try may be better.
    CHECK(start_with(NULL, HUGEPAGES_OFF, NULL, 0) == 0);
    eal_stop();
    return true;
}

static bool too_many_huge_pages(void)
{
    CHECK(start_with(NULL, 1 << 30, NULL, 0) == -ENOMEM);
    CHECK(strstr(reason, "1073741824 MB are wanted") != NULL);
    CHECK(strstr(reason, "--hugepages off") != NULL);
    CHECK(!own_dir_exists());
    return true;
}

static bool unknown_argument(void)
{
    static const char *const own[] = {"--no-such-option"};

    CHECK(start_with(NULL, HUGEPAGES_OFF, own, 1) == -EINVAL);
    CHECK(strstr(reason, "--no-such-option") != NULL);
    CHECK(!own_dir_exists());
    return true;
}

static bool left_over_argument(void)
{
    static const char *const own[] = {"word"};

    CHECK(start_with(NULL, HUGEPAGES_OFF, own, 1) == -EINVAL);
    CHECK(strstr(reason, "\"word\"") != NULL);
    CHECK(!own_dir_exists());
    return true;
}

// The reason has EAL's own words.
static bool unknown_device(void)
{
    static const char *const own[] = {"--vdev=net_nope0"};

    CHECK(start_with(NULL, HUGEPAGES_OFF, own, 1) != 0);
    CHECK(strstr(reason, "failed to parse device \"net_nope0\"") != NULL);
    CHECK(!own_dir_exists());
    return true;
}

static bool own_cores(void)
{
    static const char *const own[] = {"--lcores=3@0,9@0"};

    CHECK(start_with("0", HUGEPAGES_OFF, own, 1) == -EINVAL);
    CHECK(strstr(reason, "--workers and EAL's own") != NULL);
    CHECK(start_with(NULL, HUGEPAGES_OFF, own, 1) == 0);
    CHECK(eal_worker_count() == 1 && eal_worker_lcore(0) == 9);
    eal_stop();
    return true;
}

static bool one_own_core(void)
{
    static const char *const own[] = {"--lcores=3@0"};

    CHECK(start_with(NULL, HUGEPAGES_OFF, own, 1) == -EINVAL);
    CHECK(strstr(reason, "one lcore") != NULL);
    return true;
}

static bool killed_one_before(void)
{
    char of_dead[128], of_living[128], of_others[128];
    int pipe_fds[2];
    char byte = 0;
    pid_t dead;

    CHECK(pipe(pipe_fds) == 0);
    dead = fork();
    if (dead == 0) {
        byte = start_with(NULL, HUGEPAGES_OFF, NULL, 0) == 0 ? 'y' : 'n';
        (void)!write(pipe_fds[1], &byte, 1);
        pause();
    }
    CHECK(read(pipe_fds[0], &byte, 1) == 1 && byte == 'y');
    kill(dead, SIGKILL);
    waitpid(dead, NULL, 0);
    snprintf(of_dead, sizeof(of_dead), "%s/dpdk/patchbay-%d", run_dir, (int)dead);
    CHECK(access(of_dead, F_OK) == 0); // that is how killed ones leave it
    snprintf(of_living, sizeof(of_living), "%s/dpdk/patchbay-%d", run_dir, (int)getppid());
    snprintf(of_others, sizeof(of_others), "%s/dpdk/rte", run_dir);
    CHECK(mkdir(of_living, 0700) == 0 && mkdir(of_others, 0700) == 0);

    CHECK(start_with(NULL, HUGEPAGES_OFF, NULL, 0) == 0);
    CHECK(access(of_dead, F_OK) != 0);
    CHECK(access(of_living, F_OK) == 0);
    CHECK(access(of_others, F_OK) == 0);
    eal_stop();
    CHECK(rmdir(of_living) == 0 && rmdir(of_others) == 0);
    return true;
}

#define CASE(name)                        \
    static void test_##name(void **state) \
    {                                     \
        (void)state;                      \
        run_case(name);                   \
    }
CASE(plain_start)
CASE(log_limits)
CASE(one_cpu)
CASE(missing_core)
CASE(too_many_huge_pages)
CASE(unknown_argument)
CASE(left_over_argument)
CASE(unknown_device)
CASE(own_cores)
CASE(one_own_core)
CASE(killed_one_before)

static int make_run_dir(void **state)
{
    (void)state;
    snprintf(run_dir, sizeof(run_dir), "/tmp/patchbay-start-XXXXXX");
    return mkdtemp(run_dir) == NULL ? -1 : 0;
}

// All that DPDK made but its parent directory is gone.
static int remove_run_dir(void **state)
{
    char path[128];

    (void)state;
    snprintf(path, sizeof(path), "%s/dpdk", run_dir);
    if (rmdir(path) == 0 && rmdir(run_dir) == 0)
        return 0;
    fprintf(stderr, "something is left in %s\n", path);
    return -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain_start),
        cmocka_unit_test(test_log_limits),
        cmocka_unit_test(test_one_cpu),
        cmocka_unit_test(test_missing_core),
        cmocka_unit_test(test_too_many_huge_pages),
        cmocka_unit_test(test_unknown_argument),
        cmocka_unit_test(test_left_over_argument),
        cmocka_unit_test(test_unknown_device),
        cmocka_unit_test(test_own_cores),
        cmocka_unit_test(test_one_own_core),
        cmocka_unit_test(test_killed_one_before),
    };

    return cmocka_run_group_tests(tests, make_run_dir, remove_run_dir);
}
