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
    return rte_spinlock_trylock(&vif_txq(vif, 0)->lock);
}

void txq_release(struct vif *vif)
{
    rte_spinlock_unlock(&vif_txq(vif, 0)->lock);
}

bool txq_is_locked(struct vif *vif)
{
    return rte_spinlock_is_locked(&vif_txq(vif, 0)->lock);
}

// ---- guests ----

int vif_vhost_create(struct vif *vif, const struct vif_config *config, char *reason, size_t reason_size)
{
    struct vif_vhost *vhost = calloc(1, sizeof(*vhost));

    (void)config;
    (void)reason;
    (void)reason_size;
    assert_non_null(vhost);
    vhost->vif = vif;
    for (unsigned pair = 0; pair < GUEST_PAIRS; pair++) {
        struct vif_vhost_queue *queue = aligned_alloc(64, sizeof(*queue));

        assert_non_null(queue);
        memset(queue, 0, sizeof(*queue));
        vhost->queues[pair] = queue;
        assert_int_equal(0, vif_vhost_wake_open(&queue->from_guest));
        assert_int_equal(0, vif_vhost_wake_open(&queue->to_guest));
    }
    vif->private = vhost;
    vif->copies = true;
    return 0;
}

void vif_vhost_destroy(struct vif *vif)
{
    struct vif_vhost *vhost = vif->private;

    for (unsigned pair = 0; pair < GUEST_PAIRS; pair++) {
        vif_vhost_wake_close(&vhost->queues[pair]->from_guest);
        vif_vhost_wake_close(&vhost->queues[pair]->to_guest);
        free(vhost->queues[pair]);
    }
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

static struct driver *tx_of(struct guest *guest, unsigned pair)
{
    assert_true(pair < guest->pairs);
    return pair == 0 ? &guest->tx : &guest->more_tx[pair - 1];
}

static struct driver *rx_of(struct guest *guest, unsigned pair)
{
    assert_true(pair < guest->pairs);
    return pair == 0 ? &guest->rx : &guest->more_rx[pair - 1];
}

static void ring_open(struct driver *driver, const struct driver_options *options)
{
    driver_open(driver, options);
    driver->vq.kick_fd = eventfd_open();
    driver->vq.call_fd = eventfd_open();
}

static void ring_close(struct driver *driver)
{
    close(driver->vq.kick_fd);
    close(driver->vq.call_fd);
    driver_close(driver);
}

void guest_open(struct guest *guest, vif_slot slot, const struct guest_options *options)
{
    struct vif_config config = {.slot = slot, .name = "guest", .kind = VIF_VHOST};
    char reason[100];

    memset(guest, 0, sizeof(*guest));
    guest->slot = slot;
    assert_int_equal(0, vif_create(&config, reason, sizeof(reason)));
    guest->vif = vif_in_slot(slot);
    guest->pairs = guest->in_use = options->pairs > 0 ? options->pairs : 1;
    assert_int_equal(0, vif_grow(guest->vif, guest->pairs));
    for (unsigned pair = 0; pair < guest->pairs; pair++) {
        ring_open(tx_of(guest, pair), &options->tx);
        ring_open(rx_of(guest, pair), &options->rx);
        guest->posted[pair] = calloc(rx_of(guest, pair)->size, sizeof(guest->posted[pair][0]));
        assert_non_null(guest->posted[pair]);
    }
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
    attachment->queue_pairs = guest->pairs;
    attachment->patience = UINT64_C(500000000);
    for (unsigned pair = 0; pair < guest->pairs; pair++) {
        struct virtqueue *from_guest = &tx_of(guest, pair)->vq, *to_guest = &rx_of(guest, pair)->vq;

        from_guest->enabled = to_guest->enabled = pair < guest->in_use;
        from_guest->retired = pair > 0 && pair >= guest->in_use;
        attachment->queues[pair].from_guest = *from_guest;
        attachment->queues[pair].to_guest = *to_guest;
        assert_int_equal(0, vif_vhost_wake_add(&vhost->queues[pair]->from_guest, from_guest->kick_fd));
        assert_int_equal(0, vif_vhost_wake_add(&vhost->queues[pair]->to_guest, to_guest->kick_fd));
    }
    atomic_store(&guest->vif->tx_count, guest->in_use);
    guest->attachment = attachment;
    atomic_store(&guest->vif->attachment, attachment);
    vif_set_link(guest->vif, VIF_LINK_UP, "%s", "");
    for (unsigned pair = 0; pair < guest->pairs; pair++) {
        vif_vhost_wake_ring(&vhost->queues[pair]->from_guest);
        vif_vhost_wake_ring(&vhost->queues[pair]->to_guest);
    }
}

void guest_detach(struct guest *guest, enum vif_link link)
{
    struct vif_vhost *vhost = guest->vif->private;

    vif_set_link(guest->vif, link, "gone");
    atomic_store(&guest->vif->attachment, NULL);
    rig_quiesce();
    // What the engine knows goes back to the driver's side, as librte_vhost keeps it.
    for (unsigned pair = 0; pair < guest->pairs; pair++) {
        tx_of(guest, pair)->vq = guest->attachment->queues[pair].from_guest;
        rx_of(guest, pair)->vq = guest->attachment->queues[pair].to_guest;
        vif_vhost_wake_remove(&vhost->queues[pair]->from_guest, tx_of(guest, pair)->vq.kick_fd);
        vif_vhost_wake_remove(&vhost->queues[pair]->to_guest, rx_of(guest, pair)->vq.kick_fd);
    }
    free(guest->attachment);
    guest->attachment = NULL;
}

void guest_close(struct guest *guest)
{
    if (guest->attachment != NULL)
        guest_detach(guest, VIF_LINK_DOWN);
    vif_list(guest->slot, false);
    for (unsigned pair = 0; pair < guest->pairs; pair++) {
        ring_close(tx_of(guest, pair));
        ring_close(rx_of(guest, pair));
        free(guest->posted[pair]);
    }
    vif_destroy(guest->slot);
}

void guest_send_on(struct guest *guest, uint16_t queue, uint32_t number, uint32_t len, uint16_t tag)
{
    struct driver *tx = tx_of(guest, queue);
    uint8_t bytes[12 + LIMIT_FRAME_MAX + 64] = {0};
    uint8_t hdr_len = tx->vq.hdr_len;
    uint64_t at = driver_alloc(tx, hdr_len + len);

    frame_make(bytes + hdr_len, len, tag, number);
    driver_write(tx, at, bytes, hdr_len + len);
    if (number % 4 == 3) { // now and then a header of its own
        struct driver_piece pieces[] = {{at, hdr_len, 0}, {at + hdr_len, len, 0}};

        driver_add(tx, pieces, 2, LAYOUT_INDIRECT);
    } else if (number % 8 == 6 && len > 20) { // or cut within the addresses and the tag
        struct driver_piece pieces[] = {
            {at, hdr_len + 5u, 0}, {at + hdr_len + 5, 8, 0}, {at + hdr_len + 13, len - 13, 0}};

        driver_add(tx, pieces, 3, LAYOUT_INDIRECT);
    } else {
        driver_add_one(tx, at, hdr_len + len, 0);
    }
    driver_publish(tx);
}

void guest_send(struct guest *guest, uint32_t number, uint32_t len, uint16_t tag)
{
    guest_send_on(guest, 0, number, len, tag);
}

void guest_post_on(struct guest *guest, uint16_t queue, unsigned count, uint32_t len)
{
    struct driver *rx = rx_of(guest, queue);

    for (unsigned i = 0; i < count; i++) {
        uint64_t at = driver_alloc(rx, len);
        uint16_t head = driver_add_one(rx, at, len, VRING_DESC_F_WRITE);

        guest->posted[queue][head] = (struct driver_piece){at, len, 0};
    }
    driver_publish(rx);
}

void guest_post(struct guest *guest, unsigned count, uint32_t len)
{
    guest_post_on(guest, 0, count, len);
}

uint32_t guest_take(struct guest *guest, uint8_t *bytes)
{
    return guest_take_on(guest, 0, bytes);
}

uint32_t guest_take_on(struct guest *guest, uint16_t queue, uint8_t *bytes)
{
    struct driver *rx = rx_of(guest, queue);
    uint8_t hdr_len = rx->vq.hdr_len;
    uint8_t all[12 + LIMIT_FRAME_MAX + 16];
    uint32_t have = 0, buffers = 1, len;
    uint16_t head;

    for (uint32_t i = 0; i < buffers; i++) {
        if (!driver_take(rx, &head, &len)) {
            assert_int_equal(0, i); // the buffers of a frame come all at once
            return 0;
        }
        assert_true(len <= guest->posted[queue][head].len);
        assert_true(have + len <= sizeof(all));
        driver_read(rx, guest->posted[queue][head].address, all + have, len);
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

static void forget_sent_on(struct driver *tx)
{
    uint16_t head;
    uint32_t len;

    while (driver_take(tx, &head, &len))
        assert_int_equal(0, len);
}

uint32_t guest_unsent_on(struct guest *guest, uint16_t queue)
{
    struct driver *tx = tx_of(guest, queue);

    if (tx->packed.ring != NULL) {
        forget_sent_on(tx);
        return tx->size - tx->packed.id_count;
    }
    return (uint16_t)(tx->avail_idx - __atomic_load_n(&tx->used->idx, __ATOMIC_ACQUIRE));
}

uint32_t guest_unsent(struct guest *guest)
{
    return guest_unsent_on(guest, 0);
}

void guest_forget_sent(struct guest *guest)
{
    for (unsigned pair = 0; pair < guest->pairs; pair++)
        forget_sent_on(tx_of(guest, pair));
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
