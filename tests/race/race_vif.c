// SPDX-License-Identifier: BSD-3-Clause
#include "race_vif.h"

#include "dataplane/copy.h"
#include "dataplane/event.h"
#include "dataplane/publish.h"
#include "dataplane/worker.h"
#include "tests/path/rig_eal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { PATIENCE_S = 60 };

#define MAGIC UINT64_C(0x70617463686261)

struct race_source race_sources[RACE_SOURCES];
_Atomic uint64_t race_errors;
_Atomic bool race_attached;

static struct race_vif *race_of(struct vif *vif)
{
    return vif->private;
}

static void wrong(void)
{
    atomic_fetch_add(&race_errors, 1);
}

// Looks at what hangs behind the vif as a vhost vif's worker does: it must stay
// as it is until the loop is over.
static bool attachment_touch(struct vif *vif)
{
    struct race_attachment *attachment;

    if (!atomic_load_explicit(&race_attached, memory_order_relaxed))
        return true;
    attachment = (void *)atomic_load_explicit(&vif->attachment, memory_order_acquire);
    if (attachment == NULL)
        return false;
    if (attachment->magic != MAGIC)
        wrong();
    return true;
}

static uint16_t receive(struct vif *vif, uint16_t queue, struct burst *burst)
{
    struct race_vif *race = race_of(vif);
    struct race_source *source;
    uint64_t left = LIMIT_BURST_FRAMES;

    (void)queue;
    burst->count = burst->segment_count = 0;
    burst->owned = burst->keep = false;
    burst->offloads = 0;
    if (race->source == RACE_SOURCES || !attachment_touch(vif))
        return 0;
    source = &race_sources[race->source];
    if (!atomic_load_explicit(&race->endless, memory_order_relaxed))
        left = atomic_load_explicit(&race->ready, memory_order_acquire) - source->next;
    if (left > LIMIT_BURST_FRAMES)
        left = LIMIT_BURST_FRAMES;
    for (uint16_t i = 0; i < left; i++) {
        uint64_t number = source->next + i;
        uint8_t *bytes = source->frames[number % (2 * LIMIT_BURST_FRAMES)].bytes;

        memset(bytes, 0x11, 14);
        memcpy(bytes + 14, &race->source, sizeof(race->source));
        memcpy(bytes + 20, &number, sizeof(number));
        memset(&burst->frames[i], 0, sizeof(burst->frames[i]));
        frame_set_single(&burst->frames[i], bytes, 60);
        burst->count++;
    }
    return burst->count;
}

static void complete(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t taken)
{
    struct race_source *source = &race_sources[race_of(vif)->source];

    (void)queue;
    (void)burst;
    source->next += taken;
    atomic_store_explicit(&source->complete, source->next, memory_order_release);
}

// Monitors see a source's frames too, but not each; receivers see each one once.
static void see(const struct frame *frame, bool is_monitor)
{
    struct race_source *source;
    uint64_t number;
    uint32_t index;

    memcpy(&index, frame->data + 14, sizeof(index));
    memcpy(&number, frame->data + 20, sizeof(number));
    if (index >= RACE_SOURCES || frame->len != 60) {
        wrong();
        return;
    }
    source = &race_sources[index];
    if (is_monitor)
        return;
    if (number != source->expected)
        wrong();
    source->expected = number + 1;
}

static uint16_t transmit(struct vif *vif, uint16_t queue, struct burst *burst, uint16_t first, uint16_t count,
                         enum transmit_stop *stop)
{
    struct race_vif *race = race_of(vif);
    uint16_t room = count;

    (void)queue;
    *stop = TRANSMIT_ALL;
    if (!attachment_touch(vif)) {
        // UP: it has come back since.
        *stop = vif_link(vif) == VIF_LINK_PAUSED || vif_link(vif) == VIF_LINK_UP ? TRANSMIT_PAUSED : TRANSMIT_DOWN;
        return 0;
    }
    if (atomic_load_explicit(&race->stuck, memory_order_relaxed)) {
        *stop = TRANSMIT_FULL;
        return 0;
    }
    if (!atomic_load_explicit(&race->never_full, memory_order_relaxed)) {
        race->lcg = race->lcg * 1664525 + 1013904223;
        room = (uint16_t)(race->lcg >> 16) % (count + 8);
    }
    for (uint16_t i = 0; i < count; i++) {
        if (i == room) {
            *stop = TRANSMIT_FULL;
            return i;
        }
        // keep is set by taps alone: frames here are never owned.
        see(&burst->frames[first + i], burst->keep);
        race->got++;
    }
    return count;
}

static void flush(struct vif *vif, uint16_t queue)
{
    (void)queue;
    attachment_touch(vif);
}

static bool arm(struct vif *vif, uint16_t queue)
{
    struct race_vif *race = race_of(vif);
    eventfd_t old;

    (void)queue;
    (void)eventfd_read(race->wake_fd, &old);
    atomic_store_explicit(&race->armed, true, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst);
    if (race->source == RACE_SOURCES ||
        (!atomic_load(&race->endless) &&
         atomic_load_explicit(&race->ready, memory_order_acquire) == race_sources[race->source].next))
        return true;
    atomic_store_explicit(&race->armed, false, memory_order_relaxed);
    return false;
}

static void disarm(struct vif *vif, uint16_t queue)
{
    (void)queue;
    atomic_store_explicit(&race_of(vif)->armed, false, memory_order_relaxed);
}

static int wake_fd(struct vif *vif, uint16_t queue)
{
    (void)queue;
    return race_of(vif)->wake_fd;
}

// A receiver that is stuck is asked to say when it no longer is.
static int arm_transmit(struct vif *vif, uint16_t queue)
{
    (void)queue;
    return attachment_touch(vif) ? race_of(vif)->wake_fd : -1;
}

void race_vif_send(struct race_vif *race, uint64_t count)
{
    atomic_fetch_add_explicit(&race->ready, count, memory_order_release);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&race->armed, memory_order_relaxed))
        (void)eventfd_write(race->wake_fd, 1);
}

static int create(struct vif *vif, const struct vif_config *config, char *reason, size_t reason_size)
{
    struct race_vif *race = calloc(1, sizeof(*race));

    (void)config;
    (void)reason;
    (void)reason_size;
    assert_non_null(race);
    race->vif = vif;
    race->source = RACE_SOURCES;
    race->lcg = vif->slot;
    race->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    assert_true(race->wake_fd >= 0);
    vif->private = race;
    vif_set_link(vif, VIF_LINK_UP, "%s", "");
    return 0;
}

static void destroy(struct vif *vif)
{
    struct race_vif *race = race_of(vif);

    worker_forget_fd(race->wake_fd);
    close(race->wake_fd);
    free((void *)atomic_load(&vif->attachment));
    memset(race, 0xdd, sizeof(*race)); // who still uses it will be seen
    free(race);
}

const struct vif_ops vif_ethdev_ops = {
    .receive = receive,
    .complete = complete,
    .transmit = transmit,
    .flush = flush,
    .arm = arm,
    .disarm = disarm,
    .wake_fd = wake_fd,
    .arm_transmit = arm_transmit,
    .create = create,
    .destroy = destroy,
};

struct race_vif *race_vif_open(vif_slot slot, uint32_t source)
{
    const struct vif_config config = {.slot = slot, .name = "race", .kind = VIF_DEV};
    char reason[100];

    assert_int_equal(0, vif_create(&config, reason, sizeof(reason)));
    race_of(vif_in_slot(slot))->source = source;
    vif_list(slot, true);
    return race_of(vif_in_slot(slot));
}

void race_vif_close(vif_slot slot)
{
    vif_destroy(slot);
}

void race_start(unsigned workers, enum poll_mode poll)
{
    char reason[200];

    memset(race_sources, 0, sizeof(race_sources));
    atomic_store(&race_errors, 0);
    copy_init();
    rig_tsc_measure();
    rig_worker_count = workers;
    assert_int_equal(0, event_start());
    assert_int_equal(0, publish_start(workers));
    assert_int_equal(0, worker_start_all(poll, reason, sizeof(reason)));
}

void race_stop(void)
{
    worker_stop_all();
    publish_stop();
    event_stop();
}

bool race_pause_us(unsigned us)
{
    const struct timespec pause = {.tv_nsec = us * 1000L};

    return nanosleep(&pause, NULL) == 0;
}

bool race_wait(bool (*condition)(void *argument), void *argument)
{
    struct timespec start, now;

    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        if (condition(argument))
            return true;
        race_pause_us(20);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start.tv_sec < PATIENCE_S);
    return false;
}

static bool is_done(void *argument)
{
    return publish_done(*(uint64_t *)argument);
}

void race_publish(const struct table_entry *entries, size_t count)
{
    static uint64_t generation;
    struct wire_table *table = wire_table_build(entries, count, ++generation);
    uint64_t token;

    assert_non_null(table);
    token = publish_begin(table);
    assert_true(race_wait(is_done, &token));
}

struct leg_count race_leg_check(const struct leg *leg)
{
    struct leg_count count;
    uint64_t delivered = 0, dropped = 0;

    leg_read(leg, &count);
    for (uint16_t i = 0; i < count.step_count; i++) {
        uint64_t tap_dropped = 0;

        if (count.steps[i].kind != HOP_TAP) {
            delivered += count.steps[i].delivered.frames;
            continue;
        }
        for (unsigned j = 0; j < TAP_DROP_REASON_COUNT; j++)
            tap_dropped += count.steps[i].tap.dropped[j];
        assert_int_equal(count.steps[i].tap.offered, count.steps[i].tap.copied.frames + tap_dropped);
        assert_int_equal(count.steps[i].tap.offered, count.received.frames);
    }
    for (unsigned j = 0; j < DROP_REASON_COUNT; j++)
        dropped += count.dropped[j];
    assert_int_equal(count.received.frames, delivered + dropped);
    assert_int_equal(count.received.bytes, 60 * count.received.frames);
    return count;
}

void race_publish_eagerly(const struct table_entry *entries, size_t count)
{
    struct wire_table *table = wire_table_build(entries, count, 1);
    uint64_t token;

    assert_non_null(table);
    token = publish_begin(table);
    for (unsigned i = 0; i < 1000000; i++)
        if (publish_done(token))
            return;
    assert_true(race_wait(is_done, &token));
}

void race_unlist_all(void)
{
    for (vif_slot slot = 0; slot < RACE_SLOTS; slot++)
        vif_list(slot, false);
    race_publish(NULL, 0);
}

void race_close_all(void)
{
    race_unlist_all();
    for (vif_slot slot = 0; slot < RACE_SLOTS; slot++)
        race_vif_close(slot);
}
