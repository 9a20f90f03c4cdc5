// SPDX-License-Identifier: BSD-3-Clause

// Making an attachment from what librte_vhost holds, and freeing it. The
// library has checked some of it; here everything is checked that a worker
// relies on, since the library's checks have gaps (a ring whose last part lies
// outside the memory keeps its address, a size may change after the address).

#include "attachment.h"

#include "eal.h"
#include "offload.h"
#include "sigbus.h"
#include "virtqueue_packed_resume.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vhost_types.h>
#include <linux/virtio_config.h>
#include <linux/virtio_net.h>
#include <linux/virtio_ring.h>
#include <rte_cycles.h>
#include <rte_vhost.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

const char attachment_memory_gone[] = "its shared memory was truncated, or huge pages ran out: restart the VM";

enum {
    RING_SIZE_MAX = 32768, // virtio 1.2, 2.7
    LOOKS = 10,            // see attachment.h; few, since other vifs' front ends wait meanwhile
};

static int by_size_descending(const void *a, const void *b)
{
    uint64_t one = ((const struct guest_region *)a)->size;
    uint64_t other = ((const struct guest_region *)b)->size;

    return one < other ? 1 : one > other ? -1 : 0;
}

// Takes the regions over, the largest first, since a lookup goes from the front.
static int load_memory(struct guest_memory *memory, int vid, char *reason, size_t reason_size)
{
    struct rte_vhost_memory *table = NULL;

    if (rte_vhost_get_mem_table(vid, &table) != 0) {
        snprintf(reason, reason_size, "out of memory");
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < table->nregions && memory->count < GUEST_MEMORY_REGIONS; i++) {
        const struct rte_vhost_mem_region *from = &table->regions[i];

        if (from->size == 0)
            continue;
        if (from->guest_phys_addr + (from->size - 1) < from->guest_phys_addr) {
            snprintf(reason, reason_size, "a region of the guest's memory goes beyond the end of the address space");
            free(table);
            return -EINVAL;
        }
        memory->regions[memory->count++] =
            (struct guest_region){from->guest_phys_addr, from->size, from->host_user_addr - from->guest_phys_addr};
    }
    free(table);
    if (memory->count == 0) {
        snprintf(reason, reason_size, "the front end shared no memory: QEMU needs share=on for the guest's memory");
        return -EINVAL;
    }
    qsort(memory->regions, memory->count, sizeof(memory->regions[0]), by_size_descending);
    for (uint32_t i = 0; i < memory->count; i++) {
        for (uint32_t k = 0; k < i; k++) {
            const struct guest_region *a = &memory->regions[i];
            const struct guest_region *b = &memory->regions[k];

            if (a->guest <= b->guest + (b->size - 1) && b->guest <= a->guest + (a->size - 1)) {
                snprintf(reason, reason_size, "two regions of the guest's memory overlap");
                return -EINVAL;
            }
        }
    }
    return 0;
}

// True if the host range [address, address + size) lies in one region.
static bool is_in_memory(const struct guest_memory *memory, const void *address, size_t size)
{
    for (uint32_t i = 0; i < memory->count; i++) {
        const struct guest_region *region = &memory->regions[i];
        uint64_t into = (uint64_t)(uintptr_t)address - (region->guest + region->offset);

        if (into < region->size)
            return size <= region->size - into;
    }
    return false;
}

// A descriptor of our own for the library's eventfd, since it closes its own
// while workers may still use it; in *copy, −1 for none and for what isn't an
// eventfd: a write to it could block a worker or go anywhere. Returns 0 or -errno:
// a guest that isn't called would sleep for ever.
static int dup_eventfd(const struct vif *vif, int fd, const char *what, int *copy)
{
    char path[32], target[32];
    ssize_t len;
    int flags, own;

    *copy = -1;
    if (fd < 0)
        return 0;
    own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (own < 0)
        return -errno;
    snprintf(path, sizeof(path), "/proc/self/fd/%d", own);
    len = readlink(path, target, sizeof(target));
    if (len != (ssize_t)strlen("anon_inode:[eventfd]") || memcmp(target, "anon_inode:[eventfd]", (size_t)len) != 0) {
        eal_log_limited(LOG_LEVEL_WARNING, vif->slot, "eventfd",
                        "vif %s: the front end's %s descriptor is no eventfd; it isn't used", vif_name(vif), what);
        close(own);
        return 0;
    }
    flags = fcntl(own, F_GETFL);
    if (flags < 0 || fcntl(own, F_SETFL, flags | O_NONBLOCK) != 0) {
        close(own);
        return 0;
    }
    *copy = own;
    return 0;
}

// As the library and the protocol have it: the wrap counter in bit 15.
static uint16_t packed_place(const struct virtqueue *vq)
{
    return (uint16_t)(vq->next | vq->wrap << 15);
}

// As virtqueue_packed_resume. A driver that lives may be in the middle of writing a chain or a batch, its first
// descriptor last, and then the ring tells nothing: it gets a moment to come to its end.
static bool resume(struct attachment *attachment, struct virtqueue *vq, uint16_t base, bool to_guest)
{
    for (; attachment->looks > 0; attachment->looks--) {
        if (virtqueue_packed_resume(vq, base, to_guest, false))
            return true;
        usleep(1000);
    }
    return virtqueue_packed_resume(vq, base, to_guest, true);
}

// Where a packed ring goes on, once load_ring knows all else of it. The index
// that the library has is the front end's; it is ours when it is the one that we
// told the front end or the library last.
static int find_packed_place(struct attachment *attachment, unsigned ring, int32_t known, char *reason,
                             size_t reason_size)
{
    const struct vif *vif = attachment->vif;
    struct virtqueue *vq = attachment_ring(attachment, ring);
    uint16_t base = vq->last_avail;

    vq->last_avail = vq->last_used = 0; // of split rings
    vq->next = base & 0x7fff;
    vq->wrap = base >> 15;
    if (vq->next >= vq->size) {
        snprintf(reason, reason_size, "the front end has ring %u begin at descriptor %u, but it has %u", ring, vq->next,
                 vq->size);
        return -EINVAL;
    }
    if (base == known)
        return 0;
    if (!resume(attachment, vq, base, ring % 2 == 0)) {
        eal_log_limited(LOG_LEVEL_WARNING, vif->slot, "lost", "vif %s: ring %u: %s", vif_name(vif), ring,
                        virtqueue_packed_index_lost);
        atomic_store_explicit(&vq->broken, virtqueue_packed_index_lost, memory_order_relaxed);
    } else if (packed_place(vq) != base) {
        eal_log_limited(LOG_LEVEL_INFO, vif->slot, "resume",
                        "vif %s: ring %u goes on at descriptor %u, where its memory shows that it stopped; the front "
                        "end said %u",
                        vif_name(vif), ring, vq->next, base & 0x7fff);
    }
    return 0;
}

// The guest's address of a place in its memory.
static uint64_t guest_address(const struct guest_memory *memory, const void *place)
{
    for (uint32_t i = 0; i < memory->count; i++) {
        const struct guest_region *region = &memory->regions[i];
        uint64_t guest = (uint64_t)(uintptr_t)place - region->offset;

        if (guest - region->guest < region->size)
            return guest;
    }
    return 0;
}

static int load_ring(struct attachment *attachment, unsigned ring, const struct attachment_config *config, char *reason,
                     size_t reason_size)
{
    struct virtqueue *vq = attachment_ring(attachment, ring);
    const uint64_t features = attachment->features;
    const struct guest_memory *memory = &attachment->memory;
    struct rte_vhost_vring vring;
    size_t size;
    int err;

    if (rte_vhost_get_vhost_vring(attachment->vid, ring, &vring) != 0 || vring.desc == NULL || vring.avail == NULL ||
        vring.used == NULL) {
        snprintf(reason, reason_size, "ring %u has no address yet", ring);
        return -EAGAIN;
    }
    vq->packed = features & (1ULL << VIRTIO_F_RING_PACKED);
    if (vring.size == 0 || vring.size > RING_SIZE_MAX || (!vq->packed && (vring.size & (vring.size - 1)) != 0)) {
        snprintf(reason, reason_size, "ring %u has %u entries, which is no %s up to %u", ring, vring.size,
                 vq->packed ? "number" : "power of 2", RING_SIZE_MAX);
        return -EINVAL;
    }
    // virtio 1.2, 2.7 and 2.8: sizes and alignment of the three parts.
    size = vring.size;
    if (!is_in_memory(memory, vring.desc, 16 * size) ||
        !is_in_memory(memory, vring.avail, vq->packed ? sizeof(*vring.driver_event) : 6 + 2 * size) ||
        !is_in_memory(memory, vring.used, vq->packed ? sizeof(*vring.device_event) : 6 + 8 * size)) {
        snprintf(reason, reason_size, "ring %u doesn't lie in the guest's memory", ring);
        return -EINVAL;
    }
    if ((uintptr_t)vring.desc % 16 != 0 || (uintptr_t)vring.avail % (vq->packed ? 4 : 2) != 0 ||
        (uintptr_t)vring.used % 4 != 0) {
        snprintf(reason, reason_size, "ring %u isn't aligned", ring);
        return -EINVAL;
    }
    if (vq->packed) {
        vq->ring = vring.desc_packed;
        vq->driver_event = vring.driver_event;
        vq->device_event = vring.device_event;
    } else {
        vq->desc = vring.desc;
        vq->avail = vring.avail;
        vq->used = vring.used;
    }
    vq->memory = memory;
    vq->size = (uint16_t)vring.size;
    // virtio 1.2, 5.1.6.1: a legacy driver has num_buffers only with mergeable buffers.
    vq->hdr_len = features & (1ULL << VIRTIO_F_VERSION_1 | 1ULL << VIRTIO_NET_F_MRG_RXBUF) ? 12 : 10;
    vq->event_idx = features & (1ULL << VIRTIO_RING_F_EVENT_IDX);
    vq->indirect = features & (1ULL << VIRTIO_RING_F_INDIRECT_DESC);
    vq->mergeable = features & (1ULL << VIRTIO_NET_F_MRG_RXBUF);
    vq->offloads = ring % 2 == 0 ? offload_to_guest(features) : offload_from_guest(features);
    vq->in_order = features & (1ULL << VIRTIO_F_IN_ORDER);
    vq->enabled = config->enabled[ring];
    vq->log = attachment->log.bits != NULL ? &attachment->log : NULL;
    vq->used_size = vq->packed ? 4 : 6 + 8 * (uint32_t)vring.size;
    vq->used_log = config->used_log[ring] != UINT64_MAX ? config->used_log[ring] : guest_address(memory, vring.used);
    if (rte_vhost_get_vring_base(attachment->vid, ring, &vq->last_avail, &vq->last_used) != 0) {
        snprintf(reason, reason_size, "ring %u has no index yet", ring);
        return -EAGAIN;
    }
    if (vq->packed) {
        err = find_packed_place(attachment, ring, config->known[ring], reason, reason_size);
        if (err != 0)
            return err;
    }
    // Until a worker arms it (a worker that never sleeps never does): the driver shall not notify us. It is also the
    // trace of a device in a ring of which nothing was used yet, for a later resume.
    virtqueue_disarm(vq);
    err = dup_eventfd(attachment->vif, vring.kickfd, "kick", &vq->kick_fd);
    if (err == 0)
        err = dup_eventfd(attachment->vif, vring.callfd, "call", &vq->call_fd);
    if (err != 0)
        snprintf(reason, reason_size,
                 "no file descriptor for the eventfds of ring %u: %s (raise patchbayd's limit of open files)", ring,
                 strerror(-err));
    return err;
}

// From the SIGBUS handler, on the worker that made the access. The engine reads
// zeros to the end of its burst and then finds its queues stopped.
static void memory_is_gone(void *argument)
{
    struct attachment *attachment = argument;

    for (unsigned ring = 0; ring < 2u * attachment->queue_pairs; ring++)
        atomic_store_explicit(&attachment_ring(attachment, ring)->broken, attachment_memory_gone, memory_order_relaxed);
    vif_mark_broken(attachment->vif, attachment_memory_gone);
}

static int watch_memory(struct attachment *attachment, char *reason, size_t reason_size)
{
    for (uint32_t i = 0; i < attachment->memory.count; i++) {
        const struct guest_region *region = &attachment->memory.regions[i];

        attachment->watches[i] =
            sigbus_watch((void *)(uintptr_t)(region->guest + region->offset), region->size, memory_is_gone, attachment);
        if (attachment->watches[i] < 0) {
            snprintf(reason, reason_size, "too many regions of guests' memory in all");
            return -ENOSPC;
        }
    }
    if (attachment->log.bits != NULL) {
        int *watch = &attachment->watches[GUEST_MEMORY_REGIONS];

        *watch = sigbus_watch(attachment->log.bits, attachment->log.size, memory_is_gone, attachment);
        if (*watch < 0) {
            snprintf(reason, reason_size, "too many regions of guests' memory in all");
            return -ENOSPC;
        }
    }
    return 0;
}

// Writes are logged while the driver's features say so (VHOST_F_LOG_ALL is in
// them, though no driver knows it) and there is a log.
static void take_log(struct attachment *attachment, const struct guest_log *log)
{
    uint64_t end = 0;

    if (log == NULL || log->bits == NULL || !(attachment->features & 1ULL << VHOST_F_LOG_ALL))
        return;
    attachment->log = *log;
    for (uint32_t i = 0; i < attachment->memory.count; i++) {
        const struct guest_region *region = &attachment->memory.regions[i];

        if (region->guest + (region->size - 1) > end)
            end = region->guest + (region->size - 1);
    }
    if (end / GUEST_LOG_PAGE / 8 >= log->size)
        eal_log_limited(LOG_LEVEL_WARNING, attachment->vif->slot, "log",
                        "vif %s: the front end's dirty log ends before the guest's memory; what is written behind "
                        "its end will be missing after the migration",
                        vif_name(attachment->vif));
}

static void forget_ring(struct virtqueue *vq)
{
    if (vq->kick_fd >= 0)
        close(vq->kick_fd);
    if (vq->call_fd >= 0)
        close(vq->call_fd);
    memset(vq, 0, sizeof(*vq));
    vq->kick_fd = vq->call_fd = -1;
}

// The pairs after the first: those that the front end has set up, wholly. One that
// it has enabled must be sound.
static int load_more(struct attachment *attachment, const struct attachment_config *config, char *reason,
                     size_t reason_size)
{
    for (uint16_t pair = 1; pair < VIF_QUEUES_MAX; pair++) {
        int err = 0;

        for (unsigned ring = 2u * pair; ring < 2u * pair + 2 && err == 0; ring++)
            err = load_ring(attachment, ring, config, reason, reason_size);
        if (err == 0) {
            attachment->queue_pairs = pair + 1;
            continue;
        }
        forget_ring(&attachment->queues[pair].to_guest);
        forget_ring(&attachment->queues[pair].from_guest);
        if (err != -EAGAIN && (config->enabled[2 * pair] || config->enabled[2 * pair + 1]))
            return err;
    }
    return 0;
}

struct attachment *attachment_create(struct vif *vif, int vid, const struct attachment_config *config, char *reason,
                                     size_t reason_size)
{
    size_t size = (sizeof(struct attachment) + 63) / 64 * 64;
    struct attachment *attachment = aligned_alloc(64, size);
    int err;

    if (attachment == NULL) {
        snprintf(reason, reason_size, "out of memory");
        return NULL;
    }
    memset(attachment, 0, size);
    attachment->looks = LOOKS;
    attachment->vid = vid;
    attachment->numa_node = rte_vhost_get_numa_node(vid);
    attachment->vif = vif;
    attachment->queue_pairs = 1;
    attachment->patience = rte_get_tsc_hz();
    for (unsigned i = 0; i <= GUEST_MEMORY_REGIONS; i++)
        attachment->watches[i] = -1;
    for (unsigned ring = 0; ring < 2u * VIF_QUEUES_MAX; ring++)
        attachment_ring(attachment, ring)->kick_fd = attachment_ring(attachment, ring)->call_fd = -1;
    err = load_memory(&attachment->memory, vid, reason, reason_size);
    if (err == 0 && rte_vhost_get_negotiated_features(vid, &attachment->features) != 0)
        err = -EINVAL;
    if (err == 0)
        take_log(attachment, config->log);
    if (err == 0 && rte_vhost_get_mtu(vid, &attachment->mtu) != 0)
        attachment->mtu = 0;
    for (unsigned ring = 0; ring < 2 && err == 0; ring++)
        err = load_ring(attachment, ring, config, reason, reason_size);
    if (err == 0)
        err = load_more(attachment, config, reason, reason_size);
    if (err == 0)
        err = watch_memory(attachment, reason, reason_size);
    if (err != 0) {
        attachment_free(attachment);
        return NULL;
    }
    return attachment;
}

uint16_t attachment_pairs_in_use(const struct attachment *attachment)
{
    uint16_t pairs = 0;

    while (pairs < attachment->queue_pairs && attachment->queues[pairs].to_guest.enabled &&
           attachment->queues[pairs].from_guest.enabled)
        pairs++;
    return pairs;
}

uint16_t attachment_tx_pairs(const struct attachment *attachment)
{
    uint16_t pairs = 0;

    while (pairs < attachment->queue_pairs && attachment->queues[pairs].to_guest.enabled)
        pairs++;
    return pairs;
}

void attachment_push(const struct attachment *attachment, int32_t *known)
{
    for (unsigned ring = 0; ring < 2u * attachment->queue_pairs; ring++) {
        const struct virtqueue *vq = attachment_ring((struct attachment *)attachment, ring);

        if (vq->desc == NULL)
            continue;
        if (vq->packed) {
            known[ring] = packed_place(vq);
            rte_vhost_set_vring_base(attachment->vid, ring, packed_place(vq), packed_place(vq));
        } else {
            rte_vhost_set_vring_base(attachment->vid, ring, vq->last_avail, vq->last_used);
        }
    }
}

void attachment_free(struct attachment *attachment)
{
    for (unsigned i = 0; i <= GUEST_MEMORY_REGIONS; i++) {
        if (attachment->watches[i] >= 0)
            sigbus_unwatch(attachment->watches[i]);
    }
    for (unsigned ring = 0; ring < 2u * attachment->queue_pairs; ring++) {
        const struct virtqueue *vq = attachment_ring(attachment, ring);

        if (vq->kick_fd >= 0)
            close(vq->kick_fd);
        if (vq->call_fd >= 0)
            close(vq->call_fd);
    }
    free(attachment);
}

static bool is_zero(const void *start, size_t size)
{
    const volatile uint64_t *words = start; // the guest's: each is read once

    for (size_t i = 0; i < size / sizeof(*words); i++) {
        if (words[i] != 0)
            return false;
    }
    return true;
}

bool attachment_is_empty(const struct attachment *attachment)
{
    for (uint32_t i = 0; i < attachment->memory.count; i++) {
        const struct guest_region *region = &attachment->memory.regions[i];
        uintptr_t start = (region->guest + region->offset + 7) & ~(uintptr_t)7;

        if (region->size >= 4096 && !is_zero((const void *)start, 4088))
            return false;
    }
    for (unsigned pair = 0; pair < attachment->queue_pairs; pair++) {
        const struct virtqueue *vq = &attachment->queues[pair].to_guest;

        // A driver has posted receive buffers before it needs a frame, from the first descriptor on; a table is up to
        // 512 KiB, and to read 16 of them would take the caller's time.
        if (vq->desc != NULL && !is_zero(vq->desc, vq->size < 256 ? 16 * (size_t)vq->size : 4096))
            return false;
    }
    return true;
}
