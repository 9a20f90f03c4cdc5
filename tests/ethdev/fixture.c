// SPDX-License-Identifier: BSD-3-Clause

#include "fixture.h"
#include "dataplane/eal.h"

#include <errno.h>
#include <rte_mempool.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

enum { SLOTS = 64, HEADER = 18 }; // the addresses, an EtherType for experiments, the number

struct fixture_frames fixture_out;
struct burst fixture_in;

static _Atomic unsigned complaints;

static void log_line(enum log_level level, const char *component, const char *message)
{
    if (level > LOG_LEVEL_WARNING)
        return;
    atomic_fetch_add(&complaints, 1);
    fprintf(stderr, "log <%d> %s: %s\n", (int)level, component, message);
}

unsigned fixture_complaints(void)
{
    return atomic_load(&complaints);
}

int fixture_start(void **state)
{
    struct dataplane_options options = {.poll = POLL_ADAPTIVE, .hugepages_mb = HUGEPAGES_OFF, .log = log_line};
    char reason[512];

    (void)state;
    if (dataplane_start(&options, reason, sizeof(reason)) == 0)
        return 0;
    fprintf(stderr, "the dataplane doesn't start: %s\n", reason);
    return -1;
}

int fixture_stop(void **state)
{
    (void)state;
    dataplane_stop();
    return 0;
}

int fixture_clean(void **state)
{
    (void)state;
    for (vif_slot slot = 0; slot < SLOTS; slot++)
        vif_destroy(slot);
    return 0;
}

static int make(enum vif_kind kind, const char *target, vif_slot *slot, char *reason, size_t reason_size)
{
    struct vif_config config = {.kind = kind, .name = "test", .target = target, .socket_mode = 0600};

    for (*slot = 0; vif_in_slot(*slot) != NULL; ++*slot)
        assert_true(*slot < SLOTS);
    config.slot = *slot;
    reason[0] = '\0';
    return vif_create(&config, reason, reason_size);
}

struct vif *fixture_make(enum vif_kind kind, const char *target)
{
    char reason[512];
    vif_slot slot;
    int error = make(kind, target, &slot, reason, sizeof(reason));

    if (error != 0)
        fail_msg("%s isn't made: %d, %s", target, error, reason);
    return vif_in_slot(slot);
}

void fixture_refuse(enum vif_kind kind, const char *target, int error, const char *part)
{
    char reason[512];
    vif_slot slot;
    int got = make(kind, target, &slot, reason, sizeof(reason));

    if (got != error || strstr(reason, part) == NULL)
        fail_msg("%s: %d, \"%s\" where %d and \"%s\" were expected", target, got, reason, error, part);
    assert_null(vif_in_slot(slot));
}

unsigned fixture_buffers_out(struct vif *vif)
{
    return rte_mempool_in_use_count(vif_ethdev(vif)->pool);
}

void fixture_remove(struct vif *vif)
{
    struct rte_mempool *pool = vif_ethdev(vif)->pool;
    unsigned others = 0;

    for (vif_slot slot = 0; slot < SLOTS; slot++)
        others += vif_in_slot(slot) != NULL && vif_in_slot(slot) != vif;
    vif_destroy(vif->slot);
    if (others == 0)
        assert_int_equal(rte_mempool_in_use_count(pool), 0);
}

void fixture_wait_link(struct vif *vif, enum vif_link link, bool poll)
{
    const struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

    for (int i = 0; vif_link(vif) != link; i++) {
        if (i == 1000)
            fail_msg("the link is %d, not %d", (int)vif_link(vif), (int)link);
        if (poll)
            vif_ethdev_poll_links();
        nanosleep(&pause, NULL);
    }
}

// ---- frames ----

void fixture_clear(void)
{
    memset(&fixture_out.burst, 0, sizeof(fixture_out.burst));
}

static uint8_t byte_of(uint32_t number, uint32_t offset)
{
    return (uint8_t)(number * 31 + offset * 7 + (offset >> 8));
}

void fixture_add(uint32_t number, uint32_t len, uint32_t piece)
{
    struct burst *burst = &fixture_out.burst;
    uint8_t *bytes = fixture_out.bytes[burst->count];
    struct frame *frame = &burst->frames[burst->count++];

    memset(bytes, 0xff, 6);
    memcpy(bytes + 6, "\x02\0\0\0\0\x01\x88\xb5", 8);
    for (uint32_t i = 14; i < len; i++)
        bytes[i] = byte_of(number, i);
    if (len >= HEADER)
        memcpy(bytes + 14, &number, sizeof(number));
    frame_set_single(frame, bytes, len);
    if (piece == 0 || piece >= len)
        return;
    frame->data_len = piece;
    frame->segment_first = burst->segment_count;
    for (uint32_t at = piece; at < len; at += piece) {
        struct frame_segment *segment = &burst->segments[burst->segment_count++];

        segment->data = bytes + at;
        segment->len = len - at < piece ? len - at : piece;
        frame->segment_count++;
    }
}

// The frame's bytes one after the other.
static void flatten(const struct burst *burst, uint16_t at, uint8_t *to)
{
    const struct frame *frame = &burst->frames[at];
    uint32_t used = frame->data_len;

    memcpy(to, frame->data, used);
    for (uint16_t i = 0; i + 1 < frame->segment_count; i++) {
        const struct frame_segment *segment = &burst->segments[frame->segment_first + i];

        assert_true(segment->len > 0);
        memcpy(to + used, segment->data, segment->len);
        used += segment->len;
    }
    assert_int_equal(used, frame->len);
}

uint32_t fixture_number(const struct burst *burst, uint16_t at)
{
    uint8_t bytes[LIMIT_FRAME_MAX];
    uint32_t number;

    assert_true(burst->frames[at].len >= HEADER);
    flatten(burst, at, bytes);
    memcpy(&number, bytes + 14, sizeof(number));
    return number;
}

void fixture_check(const struct burst *burst, uint16_t at, uint32_t number, uint32_t len)
{
    uint8_t bytes[LIMIT_FRAME_MAX];
    uint32_t padded = len < LIMIT_FRAME_WIRE_MIN ? LIMIT_FRAME_WIRE_MIN : len;

    assert_int_equal(burst->frames[at].len, padded);
    flatten(burst, at, bytes);
    for (uint32_t i = len < HEADER ? 14 : HEADER; i < padded; i++)
        if (bytes[i] != (i < len ? byte_of(number, i) : 0))
            fail_msg("frame %u of %u bytes: byte %u is %u", number, len, i, bytes[i]);
    if (len >= HEADER)
        assert_memory_equal(bytes + 14, &number, sizeof(number));
    assert_memory_equal(bytes + 12, "\x88\xb5", 2);
}
