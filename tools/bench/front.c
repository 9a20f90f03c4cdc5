// SPDX-License-Identifier: BSD-3-Clause
#include "front.h"

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <bsd/string.h>

#include "traffic.h"

enum {
    GET_FEATURES = 1,
    SET_FEATURES = 2,
    SET_OWNER = 3,
    SET_MEM_TABLE = 5,
    SET_VRING_NUM = 8,
    SET_VRING_ADDR = 9,
    SET_VRING_BASE = 10,
    GET_VRING_BASE = 11,
    SET_VRING_KICK = 12,
    SET_VRING_CALL = 13,
    GET_PROTOCOL_FEATURES = 15,
    SET_PROTOCOL_FEATURES = 16,
    SET_VRING_ENABLE = 18,
};

enum {
    MESSAGE_VERSION = 1,
    MESSAGE_REPLY = 1 << 2,
    REPLY_S = 10, // a back end that says nothing for so long is broken
    STOP_S = 2,
    RETRY_US = 50 * 1000,
};

struct message {
    uint32_t request;
    uint32_t flags;
    uint32_t size; // bytes of payload
    union {
        uint64_t number;
        struct {
            uint32_t index, number;
        } state;
        struct {
            uint32_t index, flags;
            uint64_t desc, used, avail, log;
        } address;
        struct {
            uint32_t count, padding;
            uint64_t guest_address, size, user_address, offset;
        } memory;
    } u;
} __attribute__((packed));

#define HEADER_SIZE offsetof(struct message, u)

static double now_s(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void timeout_set(int fd, int seconds)
{
    struct timeval timeout = {.tv_sec = seconds};

    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
}

// Takes a socket away that nobody listens on, left by a killed process.
static int path_clear(const char *name, const struct sockaddr_un *address)
{
    struct stat status;
    int probe, r;

    if (lstat(address->sun_path, &status) != 0)
        return 0;
    probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    r = connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 ? EADDRINUSE : errno;
    close(probe);
    if (S_ISSOCK(status.st_mode) && r == ECONNREFUSED && unlink(address->sun_path) == 0)
        return 0;
    warnx("port %s: %s exists and isn't a socket that was left over", name, address->sun_path);
    return -EADDRINUSE;
}

int front_connect(const char *name, const char *path, bool server, double deadline)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd, peer = -1, error = 0;

    strlcpy(address.sun_path, path, sizeof(address.sun_path));
    if (server && path_clear(name, &address) < 0)
        return -EADDRINUSE;
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | (server ? SOCK_NONBLOCK : 0), 0);
    if (fd < 0)
        return -errno;
    if (server && (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, 1) != 0)) {
        error = errno;
        warn("port %s: can't listen on %s", name, path);
        close(fd);
        return -error;
    }
    do {
        if (server)
            peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        else
            peer = connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ? fd : -1;
        error = errno;
        if (peer < 0)
            usleep(RETRY_US);
    } while (peer < 0 && traffic_stop == 0 && now_s() < deadline);
    if (peer < 0)
        warnx("port %s: no vhost-user back end on %s: %s", name, path,
              traffic_stop != 0 ? "interrupted" : strerror(error));
    if (server && peer >= 0)
        unlink(path);
    if (peer != fd)
        close(fd);
    if (peer >= 0)
        timeout_set(peer, REPLY_S);
    return peer >= 0 ? peer : -ETIMEDOUT;
}

static int message_send(int fd, struct message *message, uint32_t request, uint32_t size, int pass)
{
    union {
        struct cmsghdr header;
        char bytes[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec data = {.iov_base = message, .iov_len = HEADER_SIZE + size};
    struct msghdr header = {.msg_iov = &data, .msg_iovlen = 1};

    message->request = request;
    message->flags = MESSAGE_VERSION;
    message->size = size;
    if (pass >= 0) {
        header.msg_control = control.bytes;
        header.msg_controllen = sizeof(control.bytes);
        control.header.cmsg_level = SOL_SOCKET;
        control.header.cmsg_type = SCM_RIGHTS;
        control.header.cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(&control.header), &pass, sizeof(pass));
    }
    return sendmsg(fd, &header, MSG_NOSIGNAL) == (ssize_t)(HEADER_SIZE + size) ? 0 : -EIO;
}

// Sends a request without payload, or with what is in `message`, and reads its answer of `answer` bytes into it.
static int message_ask(int fd, struct message *message, uint32_t request, uint32_t size, uint32_t answer)
{
    if (message_send(fd, message, request, size, -1) < 0)
        return -EIO;
    if (recv(fd, message, HEADER_SIZE, MSG_WAITALL) != (ssize_t)HEADER_SIZE || message->request != request ||
        (message->flags & MESSAGE_REPLY) == 0 || message->size != answer)
        return -EPROTO;
    return recv(fd, &message->u, answer, MSG_WAITALL) == (ssize_t)answer ? 0 : -EPROTO;
}

static int send_number(int fd, uint32_t request, uint64_t number, int pass)
{
    struct message message = {.u.number = number};

    return message_send(fd, &message, request, sizeof(message.u.number), pass);
}

static int send_state(int fd, uint32_t request, uint32_t index, uint32_t number)
{
    struct message message = {.u.state = {index, number}};

    return message_send(fd, &message, request, sizeof(message.u.state), -1);
}

static int negotiate(int fd, const char *name, uint64_t wanted, uint64_t *features)
{
    struct message message = {0};
    int r = message_ask(fd, &message, GET_FEATURES, 0, sizeof(message.u.number));

    if (r < 0)
        return r;
    *features = message.u.number & (wanted | VIRTIO_F_VERSION_1_BIT | VHOST_USER_F_PROTOCOL_BIT);
    if ((*features & VIRTIO_F_VERSION_1_BIT) == 0) {
        warnx("port %s: the back end doesn't offer virtio 1.0", name);
        return -ENOTSUP;
    }
    if ((wanted & ~*features & VIRTIO_F_RING_PACKED_BIT) != 0) {
        warnx("port %s: the back end doesn't offer packed rings", name);
        return -ENOTSUP;
    }
    if ((*features & VHOST_USER_F_PROTOCOL_BIT) != 0) {
        // None is needed, but with the bit negotiated both must be said.
        r = message_ask(fd, &message, GET_PROTOCOL_FEATURES, 0, sizeof(message.u.number));
        if (r == 0)
            r = send_number(fd, SET_PROTOCOL_FEATURES, 0, -1);
    }
    if (r == 0)
        r = message_send(fd, &message, SET_OWNER, 0, -1);
    return r == 0 ? send_number(fd, SET_FEATURES, *features, -1) : r;
}

static int memory_share(int fd, const struct front_memory *memory)
{
    struct message message = {0};
    uint64_t address = (uintptr_t)memory->base;

    message.u.memory.count = 1;
    message.u.memory.guest_address = address;
    message.u.memory.user_address = address;
    message.u.memory.size = memory->size;
    return message_send(fd, &message, SET_MEM_TABLE, sizeof(message.u.memory), memory->fd);
}

static int queue_start(int fd, uint32_t index, const struct front_queue *queue)
{
    struct message message = {.u.address = {.index = index,
                                            .desc = (uintptr_t)queue->desc,
                                            .used = (uintptr_t)queue->used,
                                            .avail = (uintptr_t)queue->avail}};
    int r = send_state(fd, SET_VRING_NUM, index, queue->size);

    if (r == 0)
        r = send_state(fd, SET_VRING_BASE, index, queue->base);
    if (r == 0)
        r = message_send(fd, &message, SET_VRING_ADDR, sizeof(message.u.address), -1);
    if (r == 0)
        r = send_number(fd, SET_VRING_CALL, index, queue->call);
    // Last, since it starts the queue.
    return r == 0 ? send_number(fd, SET_VRING_KICK, index, queue->kick) : r;
}

int front_start(int fd, const char *name, uint64_t wanted, uint64_t *features, const struct front_memory *memory,
                const struct front_queue queues[FRONT_QUEUES])
{
    struct message message = {0};
    int r = negotiate(fd, name, wanted, features);

    if (r == 0)
        r = memory_share(fd, memory);
    for (uint32_t i = 0; r == 0 && i < FRONT_QUEUES; i++)
        r = queue_start(fd, i, &queues[i]);
    for (uint32_t i = 0; r == 0 && i < FRONT_QUEUES && (*features & VHOST_USER_F_PROTOCOL_BIT) != 0; i++)
        r = send_state(fd, SET_VRING_ENABLE, i, 1);
    // Messages are handled in order: once this one is answered, all are done.
    if (r == 0)
        r = message_ask(fd, &message, GET_FEATURES, 0, sizeof(message.u.number));
    if (r < 0)
        warnx("port %s: the back end broke off the vhost-user set-up: %s", name, strerror(-r));
    return r;
}

void front_stop(int fd)
{
    timeout_set(fd, STOP_S);
    for (uint32_t i = 0; i < FRONT_QUEUES; i++) {
        struct message message = {.u.state = {i, 0}};
        if (message_ask(fd, &message, GET_VRING_BASE, sizeof(message.u.state), sizeof(message.u.state)) < 0)
            return;
    }
}
