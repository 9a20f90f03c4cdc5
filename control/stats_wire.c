// SPDX-License-Identifier: BSD-3-Clause
#include "stats.h"

#include "check.h"
#include "control.h"
#include "live.h"
#include "read.h"
#include "request.h"

#include <string.h>

#define DROP_KEY(symbol, key, help) key,
static const char *const drop_keys[] = {DROP_REASONS(DROP_KEY)};
static const char *const tap_drop_keys[] = {TAP_DROP_REASONS(DROP_KEY)};

static json_t *render_frames(const struct frame_count *count)
{
    return json_pack("{sI sI}", "frames", (json_int_t)count->frames, "bytes", (json_int_t)count->bytes);
}

// Only where frames were segmented.
static void add_segmented(json_t *shown, const struct segment_count *count)
{
    if (count->segments > 0)
        json_object_set_new(
            shown, "segmented",
            json_pack("{sI sI}", "frames", (json_int_t)count->frames, "segments", (json_int_t)count->segments));
}

// One key per reason that isn't zero, and the total.
static json_t *render_dropped(const uint64_t *dropped, const char *const *keys, size_t count)
{
    json_t *shown = json_object();
    uint64_t total = 0;

    for (size_t i = 0; i < count; i++)
        total += dropped[i];
    json_object_set_new(shown, "total", json_integer((json_int_t)total));
    for (size_t i = 0; i < count; i++)
        if (dropped[i] != 0)
            json_object_set_new(shown, keys[i], json_integer((json_int_t)dropped[i]));
    return shown;
}

static void add_frames(struct frame_count *sum, const struct frame_count *more)
{
    sum->frames += more->frames;
    sum->bytes += more->bytes;
}

static json_t *render_leg(const struct leg_total *leg, struct frame_count *delivered)
{
    json_t *places = json_array();
    const struct to_total *to;

    TAILQ_FOREACH(to, &leg->to, entry)
    {
        json_t *place = json_pack("{ss sI sI}", "to", to->key, "frames", (json_int_t)to->shown.frames, "bytes",
                                  (json_int_t)to->shown.bytes);

        add_frames(delivered, &to->shown);
        add_segmented(place, &to->segmented);
        json_array_append_new(places, place);
    }
    return json_pack("{ss so so so so}", "from", leg->key, "received", render_frames(&leg->shown.received), "delivered",
                     render_frames(delivered), "dropped",
                     render_dropped(leg->shown.dropped, drop_keys, DROP_REASON_COUNT), "to", places);
}

// The legs that run or have counted something, and their sums.
static json_t *render_direction(const struct totals *totals, enum leg_direction direction)
{
    struct frame_count received = {0}, delivered = {0};
    uint64_t dropped[DROP_REASON_COUNT] = {0};
    json_t *legs = json_array();
    const struct leg_total *leg;

    TAILQ_FOREACH(leg, &totals->legs, entry)
    {
        struct frame_count leg_delivered = {0};

        if (leg->direction != direction || (leg->refs == 0 && leg->shown.received.frames == 0))
            continue;
        json_array_append_new(legs, render_leg(leg, &leg_delivered));
        add_frames(&received, &leg->shown.received);
        add_frames(&delivered, &leg_delivered);
        for (size_t i = 0; i < DROP_REASON_COUNT; i++)
            dropped[i] += leg->shown.dropped[i];
    }
    return json_pack("{so so so so}", "received", render_frames(&received), "delivered", render_frames(&delivered),
                     "dropped", render_dropped(dropped, drop_keys, DROP_REASON_COUNT), "legs", legs);
}

static json_t *render_tee_count(const struct tee *tee, const struct totals *totals)
{
    static const struct tee_sum nothing;
    const struct tee_total *total = totals_find_tee(totals, tee->object.uid);
    const struct tee_sum *sum = total != NULL ? &total->shown : &nothing;
    json_t *shown = json_pack("{ss ss ss}", "name", tee->object.name, "uid", tee->object.uid, "mode",
                              request_tee_mode_name(tee->mode));

    if (tee->mode == TEE_TAP) {
        json_object_set_new(shown, "offered", json_integer((json_int_t)sum->tap.offered));
        json_object_set_new(shown, "copied", render_frames(&sum->tap.copied));
        add_segmented(shown, &sum->tap.segmented);
        json_object_set_new(shown, "dropped", render_dropped(sum->tap.dropped, tap_drop_keys, TAP_DROP_REASON_COUNT));
    }
    if (tee->mode == TEE_BUMP) {
        json_object_set_new(shown, "into", render_frames(&sum->into));
        json_object_set_new(shown, "out", render_frames(&sum->out));
        json_object_set_new(shown, "late", json_integer((json_int_t)sum->late));
    }
    return shown;
}

void stats_wire(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    struct live_wire *live = live_find(target->network, target->name);
    const struct wire *wire;
    struct totals nothing;
    const struct totals *totals = &nothing;
    struct error error;
    json_t *tees;

    (void)parameters;
    if (read_refuses_body(exchange))
        return;
    wire = (const struct wire *)check_find(control.model, OBJECT_WIRE, target->network, target->name, &error);
    if (wire == NULL) {
        exchange_fail(exchange, &error);
        return;
    }
    totals_init(&nothing);
    if (live != NULL) {
        live_read(live);
        totals = &live->totals;
    }
    tees = json_array();
    for (size_t i = 0; i < wire->tee_count; i++)
        json_array_append_new(tees, render_tee_count(&wire->tees[i], totals));
    exchange_answer(exchange, 200,
                    json_pack("{ss ss ss so so so}", "wire", wire->object.name, "network", wire->object.network, "uid",
                              wire->object.uid, "a_to_b", render_direction(totals, LEG_A_TO_B), "b_to_a",
                              render_direction(totals, LEG_B_TO_A), "tees", tees),
                    EXCHANGE_NO_ETAG);
}
