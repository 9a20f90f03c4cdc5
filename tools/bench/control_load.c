// SPDX-License-Identifier: BSD-3-Clause
//
// Many clients that change wires as fast as they are answered: each a thread
// with a connection and a wire of its own. Says how many changes a second were
// acknowledged, how long one took, and, for comparison, what an fsync takes in
// the directory of the state: a change isn't acknowledged before it is on disk.
// As the clients may be as many as the daemon serves, it is they who look now and
// then how long the last change had to wait for the workers.

#include <bsd/stdlib.h>
#include <bsd/string.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS_MAX = 64, FSYNCS = 200, SAMPLES_MAX = 1 << 20, ANSWER_MAX = 64 * 1024, LOOK_EVERY = 64 };

struct client {
    pthread_t thread;
    unsigned number;
    _Atomic(uint64_t) changes; // written by its thread, read by the main one
    uint64_t refused;          // any status but 200 and 201
    uint64_t looks;            // at the daemon's stats
    double wait_sum, wait_max; // µs, what these said of the last change
    uint32_t *latencies;       // µs, of the first SAMPLES_MAX changes
    int fd;
};

static const char *socket_path;
static atomic_bool stopping;

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static int connect_to_daemon(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    strlcpy(address.sun_path, socket_path, sizeof(address.sun_path));
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
        err(1, "%s", socket_path);
    return fd;
}

static _Thread_local char answer[ANSWER_MAX];

// Sends a request and reads its whole answer into `answer`. Returns the status.
static int ask(int fd, const char *method, const char *path, const char *body)
{
    char request[1024];
    int size = snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n\r\n%s",
                        method, path, strlen(body), body);
    size_t got = 0, wanted = SIZE_MAX;
    int status = 0;

    if (write(fd, request, (size_t)size) != size)
        err(1, "sending");
    while (got < wanted) {
        ssize_t more = read(fd, answer + got, sizeof(answer) - 1 - got);
        const char *end, *length;

        if (more <= 0)
            errx(1, "the daemon closed the connection");
        got += (size_t)more;
        answer[got] = '\0';
        end = wanted == SIZE_MAX ? strstr(answer, "\r\n\r\n") : NULL;
        if (end == NULL)
            continue;
        length = strcasestr(answer, "\r\nContent-Length:");
        if (length == NULL || sscanf(answer, "HTTP/1.1 %d", &status) != 1)
            errx(1, "no answer that this understands: %.100s", answer);
        wanted = (size_t)(end + 4 - answer) + strtoul(length + 17, NULL, 10);
        if (wanted >= sizeof(answer))
            errx(1, "the answer is too long");
    }
    return status;
}

static void look(struct client *client)
{
    static const char key[] = "\"wait_us\":";
    const char *found = ask(client->fd, "GET", "/v1/stats", "") == 200 ? strstr(answer, key) : NULL;
    double wait;

    if (found == NULL)
        errx(1, "no stats that this understands: %.200s", answer);
    wait = strtod(found + strlen(key), NULL);
    client->looks++;
    client->wait_sum += wait;
    if (wait > client->wait_max)
        client->wait_max = wait;
}

static void *run(void *arg)
{
    struct client *client = arg;
    char path[128], body[64];

    snprintf(path, sizeof(path), "/v1/networks/default/wires/load%u", client->number);
    while (!atomic_load(&stopping)) {
        uint64_t began = now_ns(), changes = atomic_load_explicit(&client->changes, memory_order_relaxed);
        int status;

        snprintf(body, sizeof(body), "{\"stall_ms\":%u}", (unsigned)(changes % 50000) + 1);
        status = ask(client->fd, changes == 0 ? "PUT" : "PATCH", path, body);
        if (changes < SAMPLES_MAX)
            client->latencies[changes] = (uint32_t)((now_ns() - began) / 1000);
        atomic_store_explicit(&client->changes, changes + 1, memory_order_relaxed);
        client->refused += status != 200 && status != 201;
        if (changes % LOOK_EVERY == client->number % LOOK_EVERY)
            look(client);
    }
    return NULL;
}

static int compare(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

// The median time of an fsync behind 4 KiB of new data, in µs.
static uint32_t measure_fsync(const char *directory)
{
    static uint32_t times[FSYNCS];
    static const char block[4096];
    char path[1024];
    int fd;

    snprintf(path, sizeof(path), "%s/fsync-XXXXXX", directory);
    fd = mkstemp(path);
    if (fd < 0)
        err(1, "%s", path);
    unlink(path);
    for (size_t i = 0; i < FSYNCS; i++) {
        uint64_t began;

        if (write(fd, block, sizeof(block)) != sizeof(block))
            err(1, "%s", path);
        began = now_ns();
        if (fsync(fd) != 0)
            err(1, "%s", path);
        times[i] = (uint32_t)((now_ns() - began) / 1000);
    }
    close(fd);
    qsort(times, FSYNCS, sizeof(times[0]), compare);
    return times[FSYNCS / 2];
}

static void report(struct client *clients, unsigned count, double seconds, const char *directory)
{
    uint64_t changes = 0, refused = 0, samples = 0, looks = 0;
    double wait_sum = 0, wait_max = 0;
    uint32_t *all;

    for (unsigned i = 0; i < count; i++) {
        uint64_t own = clients[i].changes < SAMPLES_MAX ? clients[i].changes : SAMPLES_MAX;

        changes += clients[i].changes;
        refused += clients[i].refused;
        samples += own;
        looks += clients[i].looks;
        wait_sum += clients[i].wait_sum;
        wait_max = clients[i].wait_max > wait_max ? clients[i].wait_max : wait_max;
    }
    all = calloc(samples > 0 ? samples : 1, sizeof(*all));
    if (all == NULL)
        err(1, NULL);
    samples = 0;
    for (unsigned i = 0; i < count; i++) {
        uint64_t own = clients[i].changes < SAMPLES_MAX ? clients[i].changes : SAMPLES_MAX;

        memcpy(all + samples, clients[i].latencies, own * sizeof(*all));
        samples += own;
    }
    qsort(all, samples, sizeof(*all), compare);
    printf(
        "{\"clients\":%u,\"seconds\":%.1f,\"changes\":%llu,\"refused\":%llu,\"per_second\":%.0f,\"median_us\":%u,"
        "\"p99_us\":%u,\"max_us\":%u,\"fsync_us\":%u,\"wait_max_us\":%.0f,\"wait_mean_us\":%.1f,\"waits_seen\":%llu}\n",
        count, seconds, (unsigned long long)changes, (unsigned long long)refused, (double)changes / seconds,
        samples > 0 ? all[samples / 2] : 0, samples > 0 ? all[samples * 99 / 100] : 0,
        samples > 0 ? all[samples - 1] : 0, measure_fsync(directory), wait_max,
        looks > 0 ? wait_sum / (double)looks : 0, (unsigned long long)looks);
    free(all);
}

// A line a second on stderr: the changes so far.
static void pass_time(const struct client *clients, unsigned count, unsigned seconds, bool progress)
{
    for (unsigned second = 0; second < seconds; second++) {
        uint64_t changes = 0;

        sleep(1);
        for (unsigned i = 0; i < count && progress; i++)
            changes += atomic_load_explicit(&clients[i].changes, memory_order_relaxed);
        if (progress)
            fprintf(stderr, "%llu\n", (unsigned long long)changes);
    }
}

int main(int argc, char *argv[])
{
    static struct client clients[CLIENTS_MAX];
    const char *wrong[2] = {NULL, NULL};
    unsigned count, seconds;
    uint64_t began;

    if (argc != 5 && (argc != 6 || strcmp(argv[5], "progress") != 0))
        errx(2, "usage: patchbay-control-load SOCKET CLIENTS SECONDS STATE-DIRECTORY [progress]");
    socket_path = argv[1];
    count = (unsigned)strtonum(argv[2], 1, CLIENTS_MAX, &wrong[0]);
    seconds = (unsigned)strtonum(argv[3], 1, 86400, &wrong[1]);
    if (wrong[0] != NULL || wrong[1] != NULL)
        errx(2, "CLIENTS is from 1 to %d, SECONDS from 1 to 86400", CLIENTS_MAX);
    signal(SIGPIPE, SIG_IGN);
    for (unsigned i = 0; i < count; i++) {
        clients[i] =
            (struct client){.number = i, .fd = connect_to_daemon(), .latencies = calloc(SAMPLES_MAX, sizeof(uint32_t))};
        if (clients[i].latencies == NULL)
            err(1, NULL);
    }
    began = now_ns();
    for (unsigned i = 0; i < count; i++)
        if ((errno = pthread_create(&clients[i].thread, NULL, run, &clients[i])) != 0)
            err(1, "thread");
    pass_time(clients, count, seconds, argc == 6);
    atomic_store(&stopping, true);
    for (unsigned i = 0; i < count; i++)
        pthread_join(clients[i].thread, NULL);
    report(clients, count, (double)(now_ns() - began) / 1e9, argv[4]);
    for (unsigned i = 0; i < count; i++) {
        close(clients[i].fd);
        free(clients[i].latencies);
    }
    return 0;
}
