// SPDX-License-Identifier: BSD-3-Clause

// What eal_start decides before it starts EAL: cores, memory, arguments. Pure.

#include "dataplane/eal_args.h"
#include "dataplane/eal_cores.h"
#include "dataplane/eal_memory.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

// ---- cores ----

static cpu_set_t set_of(const char *list)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    if (list[0] != '\0')
        assert_int_equal(eal_cores_parse(list, &set), 0);
    return set;
}

static void test_lists(void **state)
{
    static const char *const good[] = {"0", "2,4-6", "0-1023", "7-7", "10,9"};
    static const char *const bad[] = {"",    " 1",  "1 ",  "1,",  ",1",    "1,,2",  "a",
                                      "1-",  "-1",  "3-2", "1,1", "1-3,2", "1024",  "0-1024",
                                      "1;2", "0x1", "+1",  "1.5", "1--2",  "1-2-3", "99999999999"};
    cpu_set_t set;
    char text[4096];

    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(eal_cores_parse(good[i], &set), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        if (eal_cores_parse(bad[i], &set) == 0)
            fail_msg("\"%s\" was taken", bad[i]);
    set = set_of("10,9,0-3,6");
    assert_string_equal(eal_cores_format(&set, text, sizeof(text)), "0-3,6,9-10");
    CPU_ZERO(&set);
    assert_string_equal(eal_cores_format(&set, text, sizeof(text)), "none");
}

static void test_choices(void **state)
{
    static const struct {
        const char *list, *online, *allowed, *isolated;
        int error;
        const char *workers, *rest; // or, in workers, what the reason must name
        bool one_cpu;
    } cases[] = {
        // By default the highest CPU that we may use,
        {NULL, "0-7", "0-7", "", 0, "7", "0-6", false},
        {NULL, "0-7", "2-4", "", 0, "4", "2-3", false},
        // an isolated one if there is one that we may use; the kernel leaves these out of masks.
        {NULL, "0-7", "0-3", "4-5", 0, "3", "0-2", false}, // narrowed: isolated ones aren't ours
        {NULL, "0-5", "0-3", "4-5", 0, "5", "0-3", false},
        {NULL, "0-7", "0-7", "4-5", 0, "5", "0-3,6-7", false},
        {NULL, "0-3", "2-3", "2-3", 0, "3", "2", false}, // nothing but isolated ones
        {NULL, "0-3", "1", "", 0, "1", "1", true},
        // By list.
        {"2,4-6", "0-7", "0-7", "", 0, "2,4-6", "0-1,3,7", false},
        {"4", "0-5", "0-3", "4-5", 0, "4", "0-3", false},
        {"0", "0-1", "0-1", "", 0, "0", "1", false},
        {"1", "0-3", "1", "", 0, "1", "1", true},
        {"9", "0-7", "0-7", "", -ENODEV, "CPU 9", "0-7", false},
        {"2", "0-1,3", "0-1,3", "", -ENODEV, "CPU 2", "0-1,3", false},
        {"3", "0-7", "0-2", "", -EPERM, "CPU 3", "0-2", false},
        {"0-1", "0-1", "0-1", "", -EINVAL, "at least one", "0-1", false},
        {"1,1", "0-1", "0-1", "", -EINVAL, "each CPU once", "2,4-6", false},
        {"0-64", "0-127", "0-127", "", -EINVAL, "at most 64", "0-64", false},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct eal_cpus cpus = {set_of(cases[i].online), set_of(cases[i].allowed), set_of(cases[i].isolated)};
        struct eal_cores cores;
        char reason[512] = "", text[256];
        cpu_set_t workers;

        assert_int_equal(eal_cores_choose(cases[i].list, &cpus, &cores, reason, sizeof(reason)), cases[i].error);
        if (cases[i].error != 0) {
            assert_non_null(strstr(reason, cases[i].workers));
            assert_non_null(strstr(reason, cases[i].rest));
            continue;
        }
        CPU_ZERO(&workers);
        for (unsigned j = 0; j < cores.count; j++)
            CPU_SET(cores.cpus[j], &workers);
        assert_string_equal(eal_cores_format(&workers, text, sizeof(text)), cases[i].workers);
        assert_string_equal(eal_cores_format(&cores.rest, text, sizeof(text)), cases[i].rest);
        assert_int_equal(cores.one_cpu, cases[i].one_cpu);
    }
}

static void test_real_cpus(void **state)
{
    struct eal_cpus cpus;
    struct eal_cores cores;
    char reason[512];

    (void)state;
    assert_int_equal(eal_cores_read(&cpus), 0);
    assert_true(CPU_COUNT(&cpus.online) > 0);
    assert_int_equal(eal_cores_choose(NULL, &cpus, &cores, reason, sizeof(reason)), 0);
    assert_int_equal(cores.count, 1);
}

// ---- memory ----

static void put(const char *root, const char *path, const char *text)
{
    char full[512];
    FILE *file;

    snprintf(full, sizeof(full), "%s%s", root, path);
    for (char *slash = strchr(full + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(full, 0700);
        *slash = '/';
    }
    file = fopen(full, "w");
    assert_non_null(file);
    fputs(text, file);
    fclose(file);
}

static void test_huge_pages(void **state)
{
    char root[] = "/tmp/patchbay-eal-XXXXXX", command[64];
    struct eal_node nodes[EAL_NODES];
    struct eal_memory memory;
    char reason[512];

    (void)state;
    assert_non_null(mkdtemp(root));
    // Two nodes with CPUs and one with memory alone; 64 MB of node 0's pages are promised to somebody.
    put(root, "/devices/system/node/node0/cpulist", "0-3\n");
    put(root, "/devices/system/node/node1/cpulist", "4-7\n");
    put(root, "/devices/system/node/node2/cpulist", "\n");
    put(root, "/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "200\n");
    put(root, "/devices/system/node/node1/hugepages/hugepages-2048kB/free_hugepages", "100\n");
    put(root, "/devices/system/node/node1/hugepages/hugepages-1048576kB/free_hugepages", "2\n");
    put(root, "/devices/system/node/node2/hugepages/hugepages-2048kB/free_hugepages", "500\n");
    put(root, "/kernel/mm/hugepages/hugepages-2048kB/resv_hugepages", "32\n");
    eal_memory_read(root, nodes);
    assert_true(nodes[0].present && nodes[1].present && !nodes[2].present);
    assert_int_equal(nodes[0].free_mb, 336);
    assert_int_equal(nodes[1].free_mb, 136 + 2048);

    assert_int_equal(eal_memory_choose(HUGEPAGES_AUTO, nodes, &memory, reason, sizeof(reason)), 0);
    assert_true(memory.huge && memory.mb[0] == 256 && memory.mb[1] == 256 && memory.mb[2] == 0);
    assert_string_equal(reason, "");
    assert_int_equal(eal_memory_choose(HUGEPAGES_OFF, nodes, &memory, reason, sizeof(reason)), 0);
    assert_false(memory.huge);
    assert_int_equal(eal_memory_choose(336, nodes, &memory, reason, sizeof(reason)), 0);
    assert_true(memory.huge && memory.mb[0] == 336 && memory.mb[1] == 336);
    assert_int_equal(eal_memory_choose(338, nodes, &memory, reason, sizeof(reason)), -ENOMEM);
    assert_non_null(strstr(reason, "336 MB"));
    assert_non_null(strstr(reason, "338 MB"));

    nodes[0].free_mb = 100; // one node is better than none
    assert_int_equal(eal_memory_choose(HUGEPAGES_AUTO, nodes, &memory, reason, sizeof(reason)), 0);
    assert_true(memory.huge && memory.mb[0] == 0 && memory.mb[1] == 256);
    nodes[1].free_mb = 0;
    assert_int_equal(eal_memory_choose(HUGEPAGES_AUTO, nodes, &memory, reason, sizeof(reason)), 0);
    assert_false(memory.huge);
    assert_non_null(strstr(reason, "256 MB"));

    snprintf(command, sizeof(command), "rm -r %s", root);
    assert_int_equal(system(command), 0);
}

// ---- arguments ----

// All arguments, each followed by a space.
static const char *args_of(const char *const *user_args, size_t count, bool huge, char *text, size_t size)
{
    struct dataplane_options options = {.eal_args = user_args, .eal_arg_count = count};
    struct eal_cores cores = {.count = 2, .cpus = {2, 5}};
    struct eal_memory memory = {.huge = huge, .mb = {256, 0, 128}};
    struct eal_user user;
    struct eal_args args;
    size_t used = 0;

    cores.rest = set_of("0-1,3-4");
    eal_args_read_user(user_args, count, &user);
    assert_int_equal(eal_args_build(&options, &user, &cores, &memory, &args), 0);
    assert_string_equal(args.values[0], "patchbayd");
    for (int i = 1; i < args.count; i++)
        used += (size_t)snprintf(text + used, size - used, "%s ", args.values[i]);
    eal_args_free(&args);
    return text;
}

static void test_args(void **state)
{
    static const struct {
        const char *user[3];
        bool huge;
        const char *has[4];
        const char *has_not[4];
    } cases[] = {
        {{NULL},
         false,
         {"--no-huge --no-shconf -m256 ", "--lcores=0@(0-1,3-4),2@2,5@5 --main-lcore=0 ", "--iova-mode=va ",
          "-apci:ffff:ff:1f.7 "},
         {"--in-memory", "--socket-mem"}},
        {{NULL},
         true,
         {"--in-memory --single-file-segments --socket-mem=256,0,128 --socket-limit=256,0,128 "},
         {"--no-huge"}},
        // The user's own win, in whatever way EAL takes them.
        {{"-l", "0-3"}, false, {"-l 0-3"}, {"--lcores", "--main-lcore"}},
        {{"-l0-3"}, false, {"-l0-3"}, {"--lcores", "--main-lcore"}},
        {{"-c", "f"}, false, {"-c f"}, {"--lcores"}},
        {{"--lcores=1@1"}, false, {"--lcores=1@1 "}, {"0@("}},
        {{"--main-lcore=3"}, false, {"--lcores=0@(", "--main-lcore=3"}, {"--main-lcore=0"}},
        {{"--file-prefix", "x"}, false, {"--file-prefix x"}, {"--file-prefix=patchbay"}},
        {{"--file-p=x"}, false, {"--file-p=x"}, {"--file-prefix=patchbay"}},
        {{"--iova-mode=pa"}, false, {"--iova-mode=pa"}, {"--iova-mode=va"}},
        {{"-a", "0000:01:00.0"}, false, {"-a 0000:01:00.0"}, {"-apci:ffff"}},
        {{"--allow=0000:01:00.0"}, false, {"--allow="}, {"-apci:ffff"}},
        {{"-b", "0000:01:00.0"}, false, {"-b 0000"}, {"-apci:ffff"}},
        {{"--no-pci"}, false, {"--no-pci"}, {"-apci:ffff"}},
        {{"--no-huge"}, false, {"--no-shconf -m256", "--no-huge"}, {"--in-memory", "--no-huge --no-shconf"}},
        {{"-m", "64"}, false, {"--no-huge --no-shconf", "-m 64"}, {"-m256"}},
        {{"-m", "64"}, true, {"--in-memory", "-m 64"}, {"--socket-mem", "-m256"}},
        {{"--socket-mem=64"}, false, {"--in-memory", "--socket-mem=64"}, {"--no-huge", "-m256", "--socket-limit"}},
        {{"--in-memory"}, false, {"--single-file-segments", "--in-memory"}, {"--no-huge", "--in-memory --single"}},
        {{"--huge-dir=/h"}, false, {"--huge-dir=/h"}, {"--no-huge", "--in-memory", "--single-file"}},
        {{"--vdev=net_null0"}, false, {"--no-huge", "-apci:ffff", "--vdev=net_null0"}, {NULL}},
        {{"--log-level=lib.eal:8"}, false, {"--lcores=0@(", "--log-level"}, {NULL}},
    };
    char text[1024], prefix[64];

    (void)state;
    snprintf(prefix, sizeof(prefix), "--file-prefix=patchbay-%d ", (int)getpid());
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t count = 0;

        while (cases[i].user[count] != NULL)
            count++;
        args_of(cases[i].user, count, cases[i].huge, text, sizeof(text));
        if (count == 0)
            assert_non_null(strstr(text, prefix));
        for (size_t j = 0; j < 4 && cases[i].has[j] != NULL; j++)
            if (strstr(text, cases[i].has[j]) == NULL)
                fail_msg("case %zu: no \"%s\" in %s", i, cases[i].has[j], text);
        for (size_t j = 0; j < 4 && cases[i].has_not[j] != NULL; j++)
            if (strstr(text, cases[i].has_not[j]) != NULL)
                fail_msg("case %zu: \"%s\" in %s", i, cases[i].has_not[j], text);
    }
}

static void test_lcores(void **state)
{
    // More CPUs than DPDK has numbers for: workers keep theirs where they can, all differ.
    struct eal_cores cores = {.count = 4, .cpus = {3, 127, 130, 200}};
    unsigned lcores[LIMIT_WORKERS];

    (void)state;
    cores.rest = set_of("0-2,4-126");
    assert_int_equal(eal_args_lcores(&cores, lcores), 0);
    assert_int_equal(lcores[0], 3);
    assert_int_equal(lcores[1], 127);
    assert_int_equal(lcores[2], 1);
    assert_int_equal(lcores[3], 2);
    // One CPU for all.
    cores.count = 1;
    cores.cpus[0] = 0;
    cores.rest = set_of("0");
    cores.one_cpu = true;
    assert_int_equal(eal_args_lcores(&cores, lcores), 0);
    assert_int_equal(lcores[0], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists),      cmocka_unit_test(test_choices), cmocka_unit_test(test_real_cpus),
        cmocka_unit_test(test_huge_pages), cmocka_unit_test(test_args),    cmocka_unit_test(test_lcores),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
