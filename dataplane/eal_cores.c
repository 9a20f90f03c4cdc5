// SPDX-License-Identifier: BSD-3-Clause

// The choice of the workers' CPUs.

#include "eal_cores.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// Parses the number at *at and moves past it. Returns it, or -1.
static int parse_number(const char **at)
{
    long number = 0;

    if (!isdigit((unsigned char)**at))
        return -1;
    for (; isdigit((unsigned char)**at); (*at)++) {
        number = number * 10 + (**at - '0');
        if (number >= CPU_SETSIZE)
            return -1;
    }
    return (int)number;
}

int eal_cores_parse(const char *list, cpu_set_t *set)
{
    CPU_ZERO(set);
    for (const char *at = list;; at++) {
        int from = parse_number(&at), to = from;

        if (from < 0)
            return -EINVAL;
        if (*at == '-') {
            at++;
            to = parse_number(&at);
            if (to < from)
                return -EINVAL;
        }
        for (int cpu = from; cpu <= to; cpu++) {
            if (CPU_ISSET(cpu, set))
                return -EINVAL;
            CPU_SET(cpu, set);
        }
        if (*at == '\0')
            return 0;
        if (*at != ',')
            return -EINVAL;
    }
}

const char *eal_cores_format(const cpu_set_t *set, char *text, size_t size)
{
    size_t used = 0;

    snprintf(text, size, "none");
    for (int cpu = 0; cpu < CPU_SETSIZE && used < size; cpu++) {
        int last = cpu;

        if (!CPU_ISSET(cpu, set))
            continue;
        while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, set))
            last++;
        used +=
            (size_t)snprintf(text + used, size - used, last > cpu ? "%s%d-%d" : "%s%d", used > 0 ? "," : "", cpu, last);
        cpu = last;
    }
    return text;
}

// Reads a file of sysfs that holds a list of CPUs, perhaps an empty one.
static int read_set(const char *path, cpu_set_t *set)
{
    char line[4096];
    FILE *file = fopen(path, "re");
    const char *read;

    CPU_ZERO(set);
    if (file == NULL)
        return -errno;
    read = fgets(line, sizeof(line), file);
    fclose(file);
    if (read == NULL)
        return 0;
    line[strcspn(line, "\n")] = '\0';
    return line[0] == '\0' ? 0 : eal_cores_parse(line, set);
}

int eal_cores_read(struct eal_cpus *cpus)
{
    if (sched_getaffinity(0, sizeof(cpus->allowed), &cpus->allowed) != 0)
        return -errno;
    // Without sysfs we know of those that we run on, and of none that is isolated.
    if (read_set("/sys/devices/system/cpu/online", &cpus->online) != 0 || CPU_COUNT(&cpus->online) == 0)
        cpus->online = cpus->allowed;
    if (read_set("/sys/devices/system/cpu/isolated", &cpus->isolated) != 0)
        CPU_ZERO(&cpus->isolated);
    CPU_AND(&cpus->isolated, &cpus->isolated, &cpus->online);
    return 0;
}

static int highest(const cpu_set_t *set)
{
    for (int cpu = CPU_SETSIZE - 1; cpu >= 0; cpu--)
        if (CPU_ISSET(cpu, set))
            return cpu;
    return -1;
}

// The user's list, checked.
static int choose_listed(const char *list, const struct eal_cpus *cpus, const cpu_set_t *usable, cpu_set_t *workers,
                         char *reason, size_t reason_size)
{
    char text[256];

    if (eal_cores_parse(list, workers) != 0) {
        snprintf(reason, reason_size,
                 "--workers \"%s\" is no list of CPUs: write numbers and ranges, each CPU once, as in 2,4-6", list);
        return -EINVAL;
    }
    if (CPU_COUNT(workers) > LIMIT_WORKERS) {
        snprintf(reason, reason_size, "--workers %s names %d CPUs; at most %d workers are possible", list,
                 CPU_COUNT(workers), LIMIT_WORKERS);
        return -EINVAL;
    }
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, workers))
            continue;
        if (!CPU_ISSET(cpu, &cpus->online)) {
            snprintf(reason, reason_size, "--workers names CPU %d, which isn't there or isn't online; online: %s", cpu,
                     eal_cores_format(&cpus->online, text, sizeof(text)));
            return -ENODEV;
        }
        if (!CPU_ISSET(cpu, usable)) {
            snprintf(reason, reason_size,
                     "--workers names CPU %d, which this process may not use; it may use %s (see taskset, CPUAffinity= "
                     "and cpusets)",
                     cpu, eal_cores_format(usable, text, sizeof(text)));
            return -EPERM;
        }
    }
    return 0;
}

int eal_cores_choose(const char *list, const struct eal_cpus *cpus, struct eal_cores *cores, char *reason,
                     size_t reason_size)
{
    cpu_set_t usable, isolated, workers, widest;
    char text[256];

    memset(cores, 0, sizeof(*cores));
    CPU_AND(&usable, &cpus->allowed, &cpus->online);
    // The kernel leaves isolated CPUs out of everybody's mask. Where the mask
    // has all the others nobody narrowed it for us, and they are ours to take.
    CPU_OR(&widest, &usable, &cpus->isolated);
    if (CPU_EQUAL(&widest, &cpus->online))
        usable = widest;
    cores->one_cpu = CPU_COUNT(&usable) == 1;
    CPU_AND(&isolated, &usable, &cpus->isolated);

    if (list != NULL) {
        int error = choose_listed(list, cpus, &usable, &workers, reason, reason_size);

        if (error != 0)
            return error;
    } else {
        // At least one CPU that isn't isolated is for the others, if there is any.
        int cpu = highest(CPU_COUNT(&isolated) > 0 && !CPU_EQUAL(&isolated, &usable) ? &isolated : &usable);

        if (cpu < 0) {
            snprintf(reason, reason_size, "this process may use no CPU that is online");
            return -EPERM;
        }
        CPU_ZERO(&workers);
        CPU_SET(cpu, &workers);
    }
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &workers))
            cores->cpus[cores->count++] = cpu;

    // The rest: no worker's, and isolated ones only if there are no others.
    CPU_XOR(&cores->rest, &usable, &workers);
    CPU_AND(&isolated, &isolated, &cores->rest);
    if (!CPU_EQUAL(&isolated, &cores->rest))
        CPU_XOR(&cores->rest, &cores->rest, &isolated);
    if (CPU_COUNT(&cores->rest) == 0) {
        if (!cores->one_cpu) {
            snprintf(reason, reason_size,
                     "--workers %s takes all CPUs that this process may use (%s): leave at least one for the control, "
                     "device and vhost threads",
                     list, eal_cores_format(&usable, text, sizeof(text)));
            return -EINVAL;
        }
        cores->rest = usable;
    }
    return 0;
}
