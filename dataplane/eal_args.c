// SPDX-License-Identifier: BSD-3-Clause

// EAL's command line.

#include "eal_args.h"

#include <errno.h>
#include <glob.h>
#include <rte_config.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// The options that decide something we would; EAL takes unique prefixes of
// long ones too.
static const struct {
    const char *name;
    size_t flag;
} user_options[] = {
    {"l", offsetof(struct eal_user, cores)},
    {"c", offsetof(struct eal_user, cores)},
    {"lcores", offsetof(struct eal_user, cores)},
    {"main-lcore", offsetof(struct eal_user, main_core)},
    {"a", offsetof(struct eal_user, devices)},
    {"b", offsetof(struct eal_user, devices)},
    {"allow", offsetof(struct eal_user, devices)},
    {"block", offsetof(struct eal_user, devices)},
    {"no-pci", offsetof(struct eal_user, devices)},
    {"file-prefix", offsetof(struct eal_user, prefix)},
    {"iova-mode", offsetof(struct eal_user, iova)},
    {"no-huge", offsetof(struct eal_user, no_huge)},
    {"huge-dir", offsetof(struct eal_user, files)},
    {"huge-unlink", offsetof(struct eal_user, files)},
    {"legacy-mem", offsetof(struct eal_user, files)},
    {"in-memory", offsetof(struct eal_user, in_memory)},
    {"m", offsetof(struct eal_user, memory)},
    {"socket-mem", offsetof(struct eal_user, socket_mem)},
    {"no-shconf", offsetof(struct eal_user, no_shconf)},
    {"h", offsetof(struct eal_user, help)},
    {"help", offsetof(struct eal_user, help)},
    {"v", offsetof(struct eal_user, help)},
};

void eal_args_read_user(const char *const *args, size_t count, struct eal_user *user)
{
    memset(user, 0, sizeof(*user));
    for (size_t i = 0; i < count; i++) {
        bool is_long = strncmp(args[i], "--", 2) == 0;
        const char *name = args[i] + (is_long ? 2 : 1);
        size_t len = is_long ? strcspn(name, "=") : 1;

        if (args[i][0] != '-' || name[0] == '\0')
            continue;
        for (size_t j = 0; j < sizeof(user_options) / sizeof(user_options[0]); j++) {
            const char *option = user_options[j].name;
            bool option_is_long = option[1] != '\0';

            if (option_is_long == is_long && strncmp(option, name, len) == 0)
                *(bool *)((char *)user + user_options[j].flag) = true;
        }
    }
}

static int add(struct eal_args *args, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int add(struct eal_args *args, const char *format, ...)
{
    char **values = reallocarray(args->values, (size_t)args->count + 2, sizeof(char *));
    va_list arguments;
    int len;

    if (values == NULL)
        return -ENOMEM;
    args->values = values;
    va_start(arguments, format);
    len = vasprintf(&values[args->count], format, arguments);
    va_end(arguments);
    if (len < 0)
        return -ENOMEM;
    values[++args->count] = NULL;
    return 0;
}

// An lcore has its CPU's number, so that DPDK knows its NUMA node and people
// know it again; CPUs beyond DPDK's numbers get one that is left.
unsigned eal_args_lcores(const struct eal_cores *cores, unsigned lcores[LIMIT_WORKERS])
{
    bool taken[RTE_MAX_LCORE] = {false};
    unsigned main_lcore = 0, next = 0;

    // With one CPU for all, its number is the main lcore's.
    for (unsigned i = 0; i < cores->count; i++)
        if (cores->cpus[i] < RTE_MAX_LCORE && !cores->one_cpu)
            taken[cores->cpus[i]] = true;
    while (main_lcore < RTE_MAX_LCORE && !CPU_ISSET(main_lcore, &cores->rest))
        main_lcore++;
    if (main_lcore == RTE_MAX_LCORE)
        for (main_lcore = 0; taken[main_lcore]; main_lcore++)
            ; // ends: there are fewer workers than lcores
    taken[main_lcore] = true;
    for (unsigned i = 0; i < cores->count; i++) {
        if (cores->cpus[i] < RTE_MAX_LCORE && !cores->one_cpu) {
            lcores[i] = cores->cpus[i];
            continue;
        }
        while (taken[next])
            next++;
        taken[next] = true;
        lcores[i] = next;
    }
    return main_lcore;
}

// "MAIN@(its CPUs),WORKER@CPU,…": the main thread, and with it all that it
// starts, may run on every CPU that is no worker's.
static int add_cores(struct eal_args *args, const struct eal_cores *cores, const struct eal_user *user)
{
    unsigned lcores[LIMIT_WORKERS];
    unsigned main_lcore = eal_args_lcores(cores, lcores);
    char rest[2048];
    char text[sizeof(rest) + LIMIT_WORKERS * 12];
    size_t used;
    int error;

    eal_cores_format(&cores->rest, rest, sizeof(rest));
    used = (size_t)snprintf(text, sizeof(text), "%u@(%s)", main_lcore, rest);
    for (unsigned i = 0; i < cores->count && used < sizeof(text); i++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, ",%u@%u", lcores[i], cores->cpus[i]);
    error = add(args, "--lcores=%s", text);
    if (error == 0 && !user->main_core)
        error = add(args, "--main-lcore=%u", main_lcore);
    return error;
}

static int add_socket_mem(struct eal_args *args, const struct eal_memory *memory)
{
    char text[EAL_NODES * 12];
    size_t used = 0;
    unsigned last = 0;

    for (unsigned node = 0; node < EAL_NODES; node++)
        if (memory->mb[node] > 0)
            last = node;
    for (unsigned node = 0; node <= last; node++)
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%u", node > 0 ? "," : "", memory->mb[node]);
    // What is reserved now is all that there will ever be.
    return add(args, "--socket-mem=%s", text) == 0 && add(args, "--socket-limit=%s", text) == 0 ? 0 : -ENOMEM;
}

static int add_memory(struct eal_args *args, const struct eal_user *user, const struct eal_memory *memory)
{
    bool huge = !user->no_huge && (user->files || user->in_memory || user->socket_mem || memory->huge);
    int error = 0;

    if (!huge) {
        if (!user->no_huge)
            error = add(args, "--no-huge");
        // --in-memory says the same and more; the two together EAL refuses.
        if (error == 0 && !user->no_shconf && !user->in_memory)
            error = add(args, "--no-shconf");
        if (error == 0 && !user->memory)
            error = add(args, "-m%d", EAL_SMALL_MB);
        return error;
    }
    if (!user->files && !user->in_memory)
        error = add(args, "--in-memory");
    // A vif over virtio-user hands its memory to the peer as few descriptors.
    if (error == 0 && !user->files)
        error = add(args, "--single-file-segments");
    if (error == 0 && !user->memory && !user->socket_mem && memory->huge)
        error = add_socket_mem(args, memory);
    return error;
}

// Without a list EAL takes every NIC that is bound to vfio-pci, also those that
// are meant for a VM, and tries itself on those of the kernel. The list names
// one that isn't there; unlike --no-pci it leaves hot-plug as it is.
static int add_devices(struct eal_args *args)
{
    glob_t found;
    int error = add(args, "-apci:ffff:ff:1f.7");

    // The other bus whose devices EAL takes unasked. Named only where it has
    // some: EAL refuses the name of a bus that it has no driver of.
    if (glob("/sys/bus/auxiliary/devices/mlx5_core.sf.*", 0, NULL, &found) == 0) {
        if (error == 0)
            error = add(args, "-aauxiliary:mlx5_core.sf.%u", UINT32_MAX);
        globfree(&found);
    }
    return error;
}

int eal_args_build(const struct dataplane_options *options, const struct eal_user *user, const struct eal_cores *cores,
                   const struct eal_memory *memory, struct eal_args *args)
{
    int error;

    memset(args, 0, sizeof(*args));
    error = add(args, "patchbayd");
    if (error == 0 && !user->prefix)
        error = add(args, "--file-prefix=patchbay-%d", (int)getpid());
    if (error == 0 && !user->iova)
        error = add(args, "--iova-mode=va");
    if (error == 0 && !user->cores)
        error = add_cores(args, cores, user);
    if (error == 0)
        error = add_memory(args, user, memory);
    if (error == 0 && !user->devices)
        error = add_devices(args);
    if (error == 0 && options->no_telemetry)
        error = add(args, "--no-telemetry");
    for (size_t i = 0; error == 0 && i < options->eal_arg_count; i++)
        error = add(args, "%s", options->eal_args[i]);
    if (error != 0)
        eal_args_free(args);
    return error;
}

void eal_args_free(struct eal_args *args)
{
    for (int i = 0; i < args->count; i++)
        free(args->values[i]);
    free(args->values);
    memset(args, 0, sizeof(*args));
}
