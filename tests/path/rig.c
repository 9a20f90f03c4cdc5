// SPDX-License-Identifier: BSD-3-Clause
#include "rig.h"

#include "dataplane/vif_vhost.h"
#include "rig_eal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

struct leg_count leg_check(const struct leg *leg)
{
    struct leg_count count;
    uint64_t delivered = 0, bytes = 0, dropped = 0;

    leg_read(leg, &count);
    for (uint16_t i = 0; i < count.step_count; i++) {
        const struct step_count *step = &count.steps[i];
        uint64_t tap_dropped = 0;

        if (step->kind != HOP_TAP) {
            delivered += step->delivered.frames;
            bytes += step->delivered.bytes;
            continue;
        }
        for (unsigned j = 0; j < TAP_DROP_REASON_COUNT; j++)
            tap_dropped += step->tap.dropped[j];
        assert_int_equal(step->tap.offered, step->tap.copied.frames + tap_dropped);
    }
    for (unsigned j = 0; j < DROP_REASON_COUNT; j++)
        dropped += count.dropped[j];
    assert_int_equal(count.received.frames, delivered + dropped);
    if (dropped == 0)
        assert_int_equal(count.received.bytes, bytes);
    return count;
}

bool txq_try(struct vif *vif)
{
    return rte_spinlock_trylock(&vif->txq[0].lock);
}

void txq_release(struct vif *vif)
{
    rte_spinlock_unlock(&vif->txq[0].lock);
}

bool txq_is_locked(struct vif *vif)
{
    return rte_spinlock_is_locked(&vif->txq[0].lock);
}

// ---- guests ----

int vif_vhost_create(struct vif *vif, const struct vif_config *config, char *reason, size_t reason_size)
{
    size_t size = (sizeof(struct vif_vhost) + sizeof(struct vif_vhost_queue) + 63) / 64 * 64;
    struct vif_vhost *vhost = aligned_alloc(64, size);

    (void)config;
    (void)reason;
    (void)reason_size;
    assert_non_null(vhost);
    memset(vhost, 0, size);
    vhost->vif = vif;
    assert_int_equal(0, vif_vhost_wake_open(&vhost->queues[0].from_guest));
    assert_int_equal(0, vif_vhost_wake_open(&vhost->queues[0].to_guest));
    vif->private = vhost;
    vif->copies = true;
    return 0;
}

void vif_vhost_destroy(struct vif *vif)
{
    struct vif_vhost *vhost = vif->private;

    vif_vhost_wake_close(&vhost->queues[0].from_guest);
    vif_vhost_wake_close(&vhost->queues[0].to_guest);
    free(vhost);
}

void vif_vhost_read_state(struct vif *vif, struct vif_state *state)
{
    (void)vif;
    (void)state;
}

void vif_vhost_read_count(struct vif *vif, struct vif_count *count)
{
    (void)vif;
    (void)count;
}

static int eventfd_open(void)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

void guest_open(struct guest *guest, vif_slot slot, const struct guest_options *options)
{
    struct vif_config config = {.slot = slot, .name = "guest", .kind = VIF_VHOST};
    char reason[100];

    memset(guest, 0, sizeof(*guest));
    guest->slot = slot;
    assert_int_equal(0, vif_create(&config, reason, sizeof(reason)));
    guest->vif = vif_in_slot(slot);
    guest->vif->worker = 0;
    driver_open(&guest->tx, &options->tx);
    driver_open(&guest->rx, &options->rx);
    guest->posted = calloc(guest->rx.size, sizeof(guest->posted[0]));
    assert_non_null(guest->posted);
    guest->tx.vq.kick_fd = eventfd_open();
    guest->tx.vq.call_fd = eventfd_open();
    guest->rx.vq.kick_fd = eventfd_open();
    guest->rx.vq.call_fd = eventfd_open();
    vif_list(slot, true);
    if (!options->detached)
        guest_attach(guest);
}

void guest_attach(struct guest *guest)
{
    struct vif_vhost *vhost = guest->vif->private;
    struct attachment *attachment = aligned_alloc(64, (sizeof(*attachment) + 63) / 64 * 64);

    assert_non_null(attachment);
    memset(attachment, 0, sizeof(*attachment));
    attachment->queue_pairs = 1;
    attachment->queues[0].from_guest = guest->tx.vq;
    attachment->queues[0].to_guest = guest->rx.vq;
    assert_int_equal(0, vif_vhost_wake_add(&vhost->queues[0].from_guest, guest->tx.vq.kick_fd));
    assert_int_equal(0, vif_vhost_wake_add(&vhost->queues[0].to_guest, guest->rx.vq.kick_fd));
    guest->attachment = attachment;
    atomic_store(&guest->vif->attachment, attachment);
    vif_set_link(guest->vif, VIF_LINK_UP, "%s", "");
    vif_vhost_wake_ring(&vhost->queues[0].from_guest);
    vif_vhost_wake_ring(&vhost->queues[0].to_guest);
}

void guest_detach(struct guest *guest, enum vif_link link)
{
    struct vif_vhost *vhost = guest->vif->private;

    vif_set_link(guest->vif, link, "gone");
    atomic_store(&guest->vif->attachment, NULL);
    rig_quiesce();
    // What the engine knows goes back to the driver's side, as librte_vhost keeps it.
    guest->tx.vq = guest->attachment->queues[0].from_guest;
    guest->rx.vq = guest->attachment->queues[0].to_guest;
    vif_vhost_wake_remove(&vhost->queues[0].from_guest, guest->tx.vq.kick_fd);
    vif_vhost_wake_remove(&vhost->queues[0].to_guest, guest->rx.vq.kick_fd);
    free(guest->attachment);
    guest->attachment = NULL;
}

void guest_close(struct guest *guest)
{
    if (guest->attachment != NULL)
        guest_detach(guest, VIF_LINK_DOWN);
    vif_list(guest->slot, false);
    close(guest->tx.vq.kick_fd);
    close(guest->tx.vq.call_fd);
    close(guest->rx.vq.kick_fd);
    close(guest->rx.vq.call_fd);
    driver_close(&guest->tx);
    driver_close(&guest->rx);
    free(guest->posted);
    vif_destroy(guest->slot);
}

void guest_send(struct guest *guest, uint32_t number, uint32_t len, uint16_t tag)
{
    uint8_t bytes[12 + LIMIT_FRAME_MAX + 64] = {0};
    uint8_t hdr_len = guest->tx.vq.hdr_len;
    uint64_t at = driver_alloc(&guest->tx, hdr_len + len);

    frame_make(bytes + hdr_len, len, tag, number);
    driver_write(&guest->tx, at, bytes, hdr_len + len);
    if (number % 4 == 3) { // now and then a header of its own
        struct driver_piece pieces[] = {{at, hdr_len, 0}, {at + hdr_len, len, 0}};

        driver_add(&guest->tx, pieces, 2, LAYOUT_INDIRECT);
    } else if (number % 8 == 6 && len > 20) { // or cut within the addresses and the tag
        struct driver_piece pieces[] = {
            {at, hdr_len + 5u, 0}, {at + hdr_len + 5, 8, 0}, {at + hdr_len + 13, len - 13, 0}};

        driver_add(&guest->tx, pieces, 3, LAYOUT_INDIRECT);
    } else {
        driver_add_one(&guest->tx, at, hdr_len + len, 0);
    }
    driver_publish(&guest->tx);
}

void guest_post(struct guest *guest, unsigned count, uint32_t len)
{
    for (unsigned i = 0; i < count; i++) {
        uint64_t at = driver_alloc(&guest->rx, len);
        uint16_t head = driver_add_one(&guest->rx, at, len, VRING_DESC_F_WRITE);

        guest->posted[head] = (struct driver_piece){at, len, 0};
    }
    driver_publish(&guest->rx);
}

uint32_t guest_take(struct guest *guest, uint8_t *bytes)
{
    struct driver *rx = &guest->rx;
    uint8_t hdr_len = rx->vq.hdr_len;
    uint8_t all[12 + LIMIT_FRAME_MAX + 16];
    uint32_t have = 0, buffers = 1, len;
    uint16_t head;

    for (uint32_t i = 0; i < buffers; i++) {
        if (!driver_take(rx, &head, &len)) {
            assert_int_equal(0, i); // the buffers of a frame come all at once
            return 0;
        }
        assert_true(len <= guest->posted[head].len);
        assert_true(have + len <= sizeof(all));
        driver_read(rx, guest->posted[head].address, all + have, len);
        have += len;
        if (i == 0 && hdr_len == 12) {
            assert_true(have >= 12);
            buffers = all[10] | (uint32_t)all[11] << 8;
            assert_true(buffers >= 1 && buffers <= rx->size);
        }
    }
    for (unsigned i = 0; i < 10; i++)
        assert_int_equal(0, all[i]);
    memcpy(bytes, all + hdr_len, have - hdr_len);
    return have - hdr_len;
}

uint32_t guest_unsent(struct guest *guest)
{
    if (guest->tx.packed.ring != NULL) {
        guest_forget_sent(guest);
        return guest->tx.size - guest->tx.packed.id_count;
    }
    return (uint16_t)(guest->tx.avail_idx - __atomic_load_n(&guest->tx.used->idx, __ATOMIC_ACQUIRE));
}

void guest_forget_sent(struct guest *guest)
{
    uint16_t head;
    uint32_t len;

    while (driver_take(&guest->tx, &head, &len))
        assert_int_equal(0, len);
}

// ---- frames ----

enum { MACS_LEN = 12, TAG_LEN = 4 };

void frame_make(uint8_t *bytes, uint32_t len, uint16_t tag, uint32_t number)
{
    uint8_t whole[LIMIT_FRAME_MAX + 64];
    uint32_t at = MACS_LEN;

    assert_true(len <= LIMIT_FRAME_MAX + 16);
    for (uint32_t i = 0; i < MACS_LEN; i++)
        whole[i] = (uint8_t)(number >> i % 4 * 8) ^ (uint8_t)(0x20 + i);
    if (tag != 0) {
        whole[at++] = 0x81;
        whole[at++] = 0x00;
        whole[at++] = (uint8_t)(tag >> 8);
        whole[at++] = (uint8_t)tag;
    }
    whole[at++] = 0x88;
    whole[at++] = 0xb5;
    memcpy(whole + at, &number, sizeof(number));
    at += sizeof(number);
    for (uint32_t i = 0; at < len; i++)
        whole[at++] = (uint8_t)(number * 13 + i * 7 + (i >> 8));
    memcpy(bytes, whole, len);
}

void frame_expect(const uint8_t *bytes, uint32_t len, uint32_t want_len, uint16_t tag, uint32_t number)
{
    uint8_t want[LIMIT_FRAME_MAX + 64];

    assert_int_equal(want_len, len);
    frame_make(want, len, tag, number);
    assert_memory_equal(want, bytes, len);
}

uint32_t frame_number(const uint8_t *bytes, uint32_t len)
{
    uint32_t at = MACS_LEN + 2, number;

    if (bytes[12] == 0x81 && bytes[13] == 0)
        at += TAG_LEN;
    assert_true(len >= at + sizeof(number));
    memcpy(&number, bytes + at, sizeof(number));
    return number;
}
