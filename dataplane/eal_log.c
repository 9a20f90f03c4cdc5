// SPDX-License-Identifier: BSD-3-Clause

// One way out for messages: ours, and DPDK's.

#include "eal_log.h"
#include "eal.h"

#include <errno.h>
#include <fnmatch.h>
#include <pthread.h>
#include <rte_lcore.h>
#include <rte_log.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum {
    LINE_SIZE = 512,
    CAPTURE_LINES = 3,
    LIMITED_PLACES = 1024,
    LIMITED_PROBES = 16,
    LIMITED_SECONDS = 10,
    PENDING_LINES = 16
};

static _Atomic(void (*)(enum log_level, const char *, const char *)) sink;
static FILE *dpdk_stream;

static void emit(enum log_level level, const char *component, const char *message)
{
    void (*to)(enum log_level, const char *, const char *) = atomic_load(&sink);

    if (to != NULL)
        to(level, component, message);
}

void eal_log(enum log_level level, const char *component, const char *format, ...)
{
    char line[LINE_SIZE];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    emit(level, component, line);
}

// ---- messages that a peer can cause at will ----

// A small table of what was said lately: kinds of ours, and lines of DPDK's.
// Where it is full, what is new is suppressed: it bounds the log's rate as a whole too.
static struct said {
    const void *kind; // compared as a pointer: it is a static string
    uint32_t of;      // a slot; a line's hash
    uint64_t until;   // seconds
    uint64_t suppressed;
} limited[LIMITED_PLACES];
static pthread_mutex_t limited_lock = PTHREAD_MUTEX_INITIALIZER;

static struct said *limited_find(const void *kind, uint32_t of, uint64_t now)
{
    size_t home = ((uintptr_t)kind / 8 * 31 + of) % LIMITED_PLACES;
    struct said *old = NULL;

    for (size_t i = 0; i < LIMITED_PROBES; i++) {
        struct said *said = &limited[(home + i) % LIMITED_PLACES];

        if (said->kind == kind && said->of == of)
            return said;
        if (old == NULL && now >= said->until)
            old = said;
    }
    if (old != NULL)
        *old = (struct said){.kind = kind, .of = of};
    return old;
}

// Returns whether the message may pass, and how many of its like were
// suppressed since the last that did.
static bool limited_pass(const void *kind, uint32_t of, uint64_t *suppressed)
{
    struct timespec now;
    struct said *said;
    bool pass;

    clock_gettime(CLOCK_MONOTONIC, &now);
    *suppressed = 0;
    pthread_mutex_lock(&limited_lock);
    said = limited_find(kind, of, (uint64_t)now.tv_sec);
    pass = said != NULL && (uint64_t)now.tv_sec >= said->until;
    if (pass) {
        *suppressed = said->suppressed;
        said->suppressed = 0;
        said->until = (uint64_t)now.tv_sec + LIMITED_SECONDS;
    } else if (said != NULL) {
        said->suppressed++;
    }
    pthread_mutex_unlock(&limited_lock);
    return pass;
}

void eal_log_limited(enum log_level level, vif_slot slot, const char *kind, const char *format, ...)
{
    char line[LINE_SIZE];
    uint64_t suppressed;
    va_list arguments;
    int len;

    if (!limited_pass(kind, slot, &suppressed))
        return;
    va_start(arguments, format);
    len = vsnprintf(line, sizeof(line), format, arguments);
    va_end(arguments);
    if (suppressed > 0 && len >= 0 && (size_t)len < sizeof(line))
        snprintf(line + len, sizeof(line) - (size_t)len, " (%llu more like this suppressed)",
                 (unsigned long long)suppressed);
    emit(level, "dataplane", line);
}

// ---- DPDK's messages ----

// What DPDK says at a normal start or a normal change, with more alarm than
// it deserves here. Shell patterns.
static const char *const noise[] = {
    "EAL: No free * kB hugepages reported on node *",
    "EAL: No available * kB hugepages reported*",
    "EAL: * hugepages of size * reserved, but no mounted hugetlbfs found for that size",
    "EAL: Static memory layout is selected*",
    "EAL: No legacy callbacks, legacy socket not created",
    "EAL: WARNING: Main core has no memory on local socket!",
    "TELEMETRY: *",
    // A machine without PCI.
    "EAL: rte_pci_scan(): opendir failed: No such file or directory",
    "EAL: Scan for (pci) bus failed.",
    // What it adds to any driver's own reason.
    "EAL: Driver cannot attach the device *",
    "EAL: Failed to attach device on primary process",
    // The TAP driver, told to use no signals (eal_start), and without secondary processes to tell of its queues.
    "*tun_alloc(): All rt-signals are in use*",
    "*tun_alloc(): No Rx trigger signal available*",
    "*tap_mp_req_on_rxtx(): Failed to send start req to secondary*",
    // It wants a queueing discipline for flow rules, which nobody here makes.
    "tap_nl_dump_ext_ack(): *",
    "qdisc_create_*(): *",
    "eth_dev_tap_create(): *: failed to create * qdisc.",
    "eth_dev_tap_create():  Disabling rte flow support: *",
};

static _Thread_local struct {
    bool on;
    bool quiet;
    unsigned count;
    char lines[CAPTURE_LINES][LINE_SIZE];
} capture;

// What workers said, until another thread hands it on.
static struct {
    atomic_flag lock;
    unsigned count;
    _Atomic uint64_t lost;
    struct {
        enum log_level level;
        char line[LINE_SIZE];
    } lines[PENDING_LINES];
} pending = {.lock = ATOMIC_FLAG_INIT};

static bool on_worker(void)
{
    unsigned lcore = rte_lcore_id();

    return lcore != LCORE_ID_ANY && lcore != rte_get_main_lcore();
}

static void pending_add(enum log_level level, const char *line)
{
    if (atomic_flag_test_and_set_explicit(&pending.lock, memory_order_acquire)) {
        atomic_fetch_add(&pending.lost, 1); // never wait for one who may be preempted
        return;
    }
    if (pending.count < PENDING_LINES) {
        pending.lines[pending.count].level = level;
        snprintf(pending.lines[pending.count++].line, LINE_SIZE, "%s", line);
    } else {
        atomic_fetch_add(&pending.lost, 1);
    }
    atomic_flag_clear_explicit(&pending.lock, memory_order_release);
}

static enum log_level our_level(int dpdk_level)
{
    switch (dpdk_level) {
    case RTE_LOG_EMERG:
    case RTE_LOG_ALERT:
    case RTE_LOG_CRIT:
    case RTE_LOG_ERR:
        return LOG_LEVEL_ERROR;
    case RTE_LOG_WARNING:
        return LOG_LEVEL_WARNING;
    case RTE_LOG_NOTICE:
        return LOG_LEVEL_INFO;
    default: // DPDK's info is a report on each step
        return LOG_LEVEL_DEBUG;
    }
}

// A line without its numbers, which differ where its kind doesn't.
static uint32_t hash_of(const char *line)
{
    uint32_t hash = 2166136261;

    for (; *line != '\0'; line++)
        if (*line < '0' || *line > '9')
            hash = (hash ^ (uint8_t)*line) * 16777619;
    return hash;
}

// What a driver or a vhost peer has DPDK say over and over is said once in 10 s.
static void dpdk_emit(enum log_level level, const char *line)
{
    static const char kind[] = "dpdk";
    uint64_t suppressed = 0;

    if (level < LOG_LEVEL_DEBUG && !limited_pass(kind, hash_of(line), &suppressed))
        return;
    if (suppressed > 0)
        eal_log(level, kind, "%s (%llu more like this suppressed)", line, (unsigned long long)suppressed);
    else
        emit(level, kind, line);
}

static void dpdk_line(const char *line, enum log_level level)
{
    if (line[0] == '\0')
        return;
    for (size_t i = 0; i < sizeof(noise) / sizeof(noise[0]); i++)
        if (fnmatch(noise[i], line, 0) == 0)
            level = LOG_LEVEL_DEBUG;
    if (capture.on && level <= LOG_LEVEL_WARNING) {
        // The last ones say the most; the very last may repeat the one before.
        if (capture.count == CAPTURE_LINES) {
            memmove(capture.lines[0], capture.lines[1], sizeof(capture.lines[0]) * (CAPTURE_LINES - 1));
            capture.count--;
        }
        snprintf(capture.lines[capture.count++], LINE_SIZE, "%s", line);
        if (capture.quiet)
            level = LOG_LEVEL_DEBUG;
    }
    if (on_worker())
        pending_add(level, line);
    else
        dpdk_emit(level, line);
}

void eal_log_drain(void)
{
    char lines[PENDING_LINES][LINE_SIZE];
    enum log_level levels[PENDING_LINES];
    unsigned count;
    uint64_t lost;

    // Another thread is at it; what it leaves comes next time.
    if (atomic_flag_test_and_set_explicit(&pending.lock, memory_order_acquire))
        return;
    count = pending.count;
    for (unsigned i = 0; i < count; i++) {
        levels[i] = pending.lines[i].level;
        memcpy(lines[i], pending.lines[i].line, LINE_SIZE);
    }
    pending.count = 0;
    lost = atomic_exchange(&pending.lost, 0);
    atomic_flag_clear_explicit(&pending.lock, memory_order_release);

    for (unsigned i = 0; i < count; i++)
        dpdk_emit(levels[i], lines[i]);
    if (lost > 0)
        eal_log(LOG_LEVEL_WARNING, "dpdk", "%llu more messages of workers were not kept", (unsigned long long)lost);
}

// The stream is unbuffered, so this runs within the caller's vfprintf, under
// the stream's lock; a message without newline is completed by the next.
static ssize_t dpdk_write(void *cookie, const char *data, size_t size)
{
    static char line[LINE_SIZE];
    static size_t used;
    enum log_level level = our_level(rte_log_cur_msg_loglevel());

    (void)cookie;
    for (size_t i = 0; i < size; i++) {
        if (data[i] != '\n' && used < sizeof(line) - 1) {
            line[used++] = data[i];
            continue;
        }
        line[used] = '\0';
        used = 0;
        dpdk_line(line, level);
        if (data[i] != '\n')
            line[used++] = data[i];
    }
    return (ssize_t)size;
}

void eal_log_capture_begin(bool quiet)
{
    capture.on = true;
    capture.quiet = quiet;
    capture.count = 0;
}

const char *eal_log_capture_end(char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (unsigned i = 0; i < capture.count && used < size; i++) {
        int len = snprintf(text + used, size - used, "%s%s", i > 0 ? "; " : "", capture.lines[i]);

        if (len < 0)
            break;
        used += (size_t)len;
    }
    capture.on = false;
    return text;
}

int eal_log_open(void (*to)(enum log_level level, const char *component, const char *message))
{
    cookie_io_functions_t functions = {.write = dpdk_write};

    atomic_store(&sink, to);
    if (dpdk_stream == NULL) {
        dpdk_stream = fopencookie(NULL, "w", functions);
        if (dpdk_stream == NULL)
            return -errno;
        setvbuf(dpdk_stream, NULL, _IONBF, 0);
    }
    rte_openlog_stream(dpdk_stream);
    return 0;
}

void eal_log_close(void)
{
    eal_log_drain();
    // The stream itself stays: a thread of DPDK's may be just writing to it.
    rte_openlog_stream(NULL);
    atomic_store(&sink, NULL);
}
