// SPDX-License-Identifier: BSD-3-Clause
#include "ring.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "front.h"
#include "queue.h"
#include "touch.h"
#include "traffic.h"

enum {
    LINE = 64,
    HEADER = 12,         // bytes of struct virtio_net_hdr_v1
    FRAME_AT = 2 * LINE, // where in a buffer the frame begins; its header stands right before
    PAGE_HUGE = 2 * 1024 * 1024,
    AHEAD = 2, // frames that are fetched before they are touched
};

// Buffers of one port and direction that wait for their turn, first in, first out. Numbers are those of all buffers.
struct fifo {
    uint32_t *numbers;
    uint32_t head, count, size;
};

struct ring_port {
    int fd;
    uint64_t features;
    struct queue rx, tx;
    struct fifo rx_free, tx_free;
    uint64_t written; // touch: makes each payload differ
    uint64_t sum;     // touch: what was read, so that the reads aren't optimized away
};

// The memory that all ports share with all their back ends, so that an appliance can pass a buffer on.
static struct {
    struct front_memory shared;
    size_t stride;      // bytes from buffer to buffer
    uint8_t *buffers;   // after the rings
    uint16_t *len;      // of each prepared transmit buffer
    struct fifo **home; // of each buffer: where it goes when it is free
} memory = {.shared = {.fd = -1}};

static inline uint8_t *buffer_frame(uint32_t number)
{
    return memory.buffers + number * memory.stride + FRAME_AT;
}

static inline void fifo_push(struct fifo *fifo, uint32_t number)
{
    uint32_t at = fifo->head + fifo->count++;

    fifo->numbers[at < fifo->size ? at : at - fifo->size] = number;
}

static inline uint32_t fifo_pop(struct fifo *fifo)
{
    uint32_t number = fifo->numbers[fifo->head];

    if (++fifo->head == fifo->size)
        fifo->head = 0;
    fifo->count--;
    return number;
}

static inline uint32_t fifo_peek(const struct fifo *fifo, uint32_t ahead)
{
    uint32_t at = fifo->head + ahead;

    return fifo->numbers[at < fifo->size ? at : at - fifo->size];
}

// Without the virtio header, and no more than a buffer holds, whatever the back end says.
static inline uint32_t frame_room(uint32_t used_len)
{
    uint32_t len = used_len > HEADER ? used_len - HEADER : 0, room = (uint32_t)(memory.stride - FRAME_AT);

    return len <= room ? len : room;
}

// The frame that queue_take will give after `ahead` others.
static inline const uint8_t *completed_frame(const struct queue *q, unsigned ahead, uint32_t *len)
{
    uint16_t id = queue_peek(q, ahead, len);

    *len = frame_room(*len);
    return buffer_frame(q->buffer_of[id]);
}

static inline void buffer_put(struct queue *q, uint32_t number, uint32_t len, uint16_t flags)
{
    queue_put(q, number, (uintptr_t)buffer_frame(number) - HEADER, len + HEADER, flags);
}

static inline void transmitted_reclaim(struct queue *q)
{
    uint32_t len;

    for (uint16_t left = queue_completed(q, q->size); left > 0; left--) {
        uint32_t number = q->buffer_of[queue_take(q, &len)];
        fifo_push(memory.home[number], number);
    }
}

unsigned ring_transmit(struct port *port, unsigned burst, bool touch)
{
    struct ring_port *ring = port->ring;
    struct queue *q = &ring->tx;
    unsigned count = burst;

    if (q->free_count < burst)
        transmitted_reclaim(q);
    if (count > q->free_count)
        count = q->free_count;
    if (count > ring->tx_free.count)
        count = ring->tx_free.count;
    for (unsigned i = 0; i < count; i++) {
        uint32_t number = fifo_pop(&ring->tx_free);
        if (touch && ring->tx_free.count >= AHEAD) {
            uint32_t soon = fifo_peek(&ring->tx_free, AHEAD - 1);
            touch_prefetch(buffer_frame(soon), memory.len[soon], 1);
        }
        if (touch)
            touch_write(buffer_frame(number), memory.len[number], ++ring->written);
        buffer_put(q, number, memory.len[number], 0);
    }
    if (count > 0)
        queue_publish(q);
    return count;
}

static void receive_refill(struct ring_port *ring)
{
    struct queue *q = &ring->rx;
    uint32_t room = (uint32_t)(memory.stride - FRAME_AT);
    bool any = false;

    for (; q->free_count > 0 && ring->rx_free.count > 0; any = true)
        buffer_put(q, fifo_pop(&ring->rx_free), room, VRING_DESC_F_WRITE);
    if (any)
        queue_publish(q);
}

unsigned ring_receive(struct port *port, unsigned burst, bool touch, uint64_t *bytes)
{
    struct ring_port *ring = port->ring;
    struct queue *q = &ring->rx;
    unsigned count = queue_completed(q, (uint16_t)burst);

    if (count > burst)
        count = burst;
    if (count == 0)
        return 0;
    // All first lines are under way before the first is looked at.
    for (unsigned i = 0; i < count; i++)
        __builtin_prefetch(completed_frame(q, i, &(uint32_t){0}));
    for (unsigned i = 0; i < count; i++) {
        uint32_t soon_len, len, number;

        if (touch && i + AHEAD < count) {
            const uint8_t *soon = completed_frame(q, AHEAD, &soon_len);
            touch_prefetch(soon, soon_len, 0);
        }
        number = q->buffer_of[queue_take(q, &len)];
        len = frame_room(len);
        *bytes += len;
        ring->sum += touch ? touch_read(buffer_frame(number), len) : touch_header(buffer_frame(number));
        fifo_push(memory.home[number], number);
    }
    receive_refill(ring);
    return count;
}

unsigned ring_forward(struct port *from, struct port *to, unsigned burst, uint64_t *bytes)
{
    struct queue *rx = &from->ring->rx, *tx = &to->ring->tx;
    unsigned count = queue_completed(rx, (uint16_t)burst);

    // Buffers that the far side has sent go home to this side's receive ring.
    transmitted_reclaim(tx);
    if (count > burst)
        count = burst;
    if (count > tx->free_count)
        count = tx->free_count;
    for (unsigned i = 0; i < count; i++) {
        const uint8_t *frame = completed_frame(rx, i, &(uint32_t){0});
        __builtin_prefetch(frame - HEADER, 1);
        __builtin_prefetch(frame);
    }
    for (unsigned i = 0; i < count; i++) {
        uint32_t len, number = rx->buffer_of[queue_take(rx, &len)];

        len = frame_room(len);
        *bytes += len;
        // An appliance looks at the Ethernet header, and the virtio header is its own.
        from->ring->sum += touch_header(buffer_frame(number));
        memset(buffer_frame(number) - HEADER, 0, HEADER);
        buffer_put(tx, number, len, 0);
    }
    if (count > 0)
        queue_publish(tx);
    receive_refill(from->ring);
    return count;
}

static size_t align(size_t size, size_t unit)
{
    return (size + unit - 1) / unit * unit;
}

static size_t queue_bytes(uint16_t size)
{
    return align(sizeof(struct vring_desc) * size, LINE) + align(4 + 2 * (size_t)size + 2, 4096) +
           align(4 + sizeof(struct vring_used_elem) * size + 2, 4096);
}

static int queue_setup(struct queue *q, const struct port_spec *spec, uint8_t **at)
{
    const uint16_t size = spec->queue_size;
    uint8_t *start = *at;

    q->size = size;
    q->mask = (uint16_t)(size - 1);
    q->desc = (struct vring_desc *)start;
    q->avail = (struct vring_avail *)(start + sizeof(struct vring_desc) * size);
    q->used = (struct vring_used *)(start + align(sizeof(struct vring_desc) * size + 4 + 2 * (size_t)size + 2, 4096));
    *at += align(queue_bytes(size), 4096);
    if (spec->packed) {
        q->packed = q->avail_wrap = q->used_wrap = true;
        q->in_order = spec->in_order;
        q->driver_event->flags = VRING_PACKED_EVENT_FLAG_DISABLE;
    } else {
        q->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
    }
    q->free_ids = calloc(size, sizeof(*q->free_ids));
    q->buffer_of = calloc(size, sizeof(*q->buffer_of));
    q->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    q->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->free_ids == NULL || q->buffer_of == NULL || q->kick < 0 || q->call < 0)
        return -ENOMEM;
    for (uint16_t i = 0; i < size; i++)
        q->free_ids[i] = i;
    q->free_count = size;
    return 0;
}

static void queue_free(struct queue *q)
{
    if (q->kick > 0)
        close(q->kick);
    if (q->call > 0)
        close(q->call);
    free(q->free_ids);
    free(q->buffer_of);
}

static int fifo_fill(struct fifo *fifo, uint32_t first, uint32_t count)
{
    fifo->numbers = calloc(count, sizeof(*fifo->numbers));
    if (fifo->numbers == NULL)
        return -ENOMEM;
    fifo->size = count;
    for (uint32_t i = 0; i < count; i++) {
        fifo_push(fifo, first + i);
        memory.home[first + i] = fifo;
    }
    return 0;
}

// An odd number of cache lines, so that buffers don't meet in few sets of the caches.
static size_t stride_of(const struct config *config)
{
    return align((size_t)FRAME_AT + (config->sizes.max > 2048 ? config->sizes.max : 2048), LINE) | LINE;
}

static size_t rings_bytes(const struct config *config)
{
    size_t bytes = 0;

    for (unsigned i = 0; i < config->port_count; i++)
        bytes += 2 * align(queue_bytes(config->ports[i].queue_size), 4096);
    return bytes;
}

size_t ring_memory_size(const struct config *config)
{
    size_t buffers = 0;

    for (unsigned i = 0; i < config->port_count; i++)
        buffers += port_is_ring(config, i) ? 2 * config->pool : 0;
    return buffers == 0 ? 0 : align(rings_bytes(config) + buffers * stride_of(config), PAGE_HUGE);
}

static int memory_open(const struct traffic *t, unsigned ports)
{
    const struct config *config = t->config;
    bool huge = strcmp(t->memory, "huge") == 0;
    uint32_t buffers = ports * 2 * config->pool;
    size_t rings = rings_bytes(config);

    memory.stride = stride_of(config);
    memory.shared.size = ring_memory_size(config);
    memory.shared.fd = memfd_create("patchbay-traffic", MFD_CLOEXEC | (huge ? MFD_HUGETLB : 0));
    if (memory.shared.fd < 0 || ftruncate(memory.shared.fd, (off_t)memory.shared.size) != 0)
        goto failed;
    memory.shared.base =
        mmap(NULL, memory.shared.size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory.shared.fd, 0);
    if (memory.shared.base == MAP_FAILED) {
        memory.shared.base = NULL;
        goto failed;
    }
    memory.buffers = (uint8_t *)memory.shared.base + rings;
    memory.len = calloc(buffers, sizeof(*memory.len));
    memory.home = calloc(buffers, sizeof(struct fifo *));
    return memory.len == NULL || memory.home == NULL ? -ENOMEM : 0;

failed:
    warn("no %zu MiB of %smemory for the rings", memory.shared.size >> 20, huge ? "huge page " : "");
    return -ENOMEM;
}

static int port_setup(struct traffic *t, unsigned index, uint8_t **rings, uint32_t *next)
{
    const struct config *config = t->config;
    struct port *port = &t->ports[index];
    struct ring_port *ring = calloc(1, sizeof(*ring));
    uint16_t stream = 0;
    int r;

    if (ring == NULL)
        return -ENOMEM;
    ring->fd = -1;
    port->ring = ring;
    r = queue_setup(&ring->rx, port->spec, rings);
    if (r == 0)
        r = queue_setup(&ring->tx, port->spec, rings);
    if (r == 0)
        r = fifo_fill(&ring->rx_free, *next, config->pool);
    if (r == 0)
        r = fifo_fill(&ring->tx_free, *next + config->pool, config->pool);
    for (unsigned i = 0; i < config->stream_count; i++)
        stream = config->streams[i].tx == index ? (uint16_t)i : stream;
    for (uint32_t i = 0; r == 0 && i < config->pool; i++) {
        uint32_t number = *next + config->pool + i;
        memory.len[number] = frame_len(&config->sizes, stream, i);
        frame_write(buffer_frame(number), memory.len[number], stream, i);
    }
    *next += 2 * config->pool;
    return r;
}

static int port_connect(struct port *port, double deadline)
{
    const struct port_spec *spec = port->spec;
    struct ring_port *ring = port->ring;
    uint64_t wanted = (spec->mrg ? VIRTIO_NET_F_MRG_BIT : 0) | (spec->in_order ? VIRTIO_F_IN_ORDER_BIT : 0) |
                      (spec->packed ? VIRTIO_F_RING_PACKED_BIT : 0);
    struct front_queue queues[FRONT_QUEUES];

    ring->fd = front_connect(spec->name, spec->target, spec->server, deadline);
    if (ring->fd < 0)
        return ring->fd;
    for (unsigned i = 0; i < FRONT_QUEUES; i++) {
        const struct queue *q = i == 0 ? &ring->rx : &ring->tx;
        queues[i] =
            (struct front_queue){q->desc, q->avail, q->used, q->size, q->packed ? 1u << 15 : 0, q->kick, q->call};
    }
    receive_refill(ring);
    return front_start(ring->fd, spec->name, wanted, &ring->features, &memory.shared, queues);
}

int ring_open(struct traffic *t)
{
    struct timespec ts;
    double deadline;
    unsigned count = 0;
    uint32_t next = 0;
    uint8_t *rings;
    int r;

    for (unsigned i = 0; i < t->config->port_count; i++)
        count += port_is_ring(t->config, i);
    if (count == 0)
        return 0;
    r = memory_open(t, count);
    rings = memory.shared.base;
    for (unsigned i = 0; r == 0 && i < t->config->port_count; i++) {
        if (port_is_ring(t->config, i))
            r = port_setup(t, i, &rings, &next);
    }
    clock_gettime(CLOCK_MONOTONIC, &ts);
    deadline = (double)ts.tv_sec + (double)ts.tv_nsec / 1e9 + t->config->wait_s;
    for (unsigned i = 0; r == 0 && i < t->config->port_count; i++) {
        if (port_is_ring(t->config, i))
            r = port_connect(&t->ports[i], deadline);
    }
    return r;
}

void ring_close(struct traffic *t)
{
    for (unsigned i = 0; i < t->config->port_count; i++) {
        struct ring_port *ring = t->ports[i].ring;

        if (ring == NULL)
            continue;
        if (ring->fd >= 0) {
            front_stop(ring->fd);
            close(ring->fd);
        }
        queue_free(&ring->rx);
        queue_free(&ring->tx);
        free(ring->rx_free.numbers);
        free(ring->tx_free.numbers);
        free(ring);
        t->ports[i].ring = NULL;
    }
    if (memory.shared.base != NULL)
        munmap(memory.shared.base, memory.shared.size);
    if (memory.shared.fd >= 0)
        close(memory.shared.fd);
    free(memory.len);
    free(memory.home);
}
