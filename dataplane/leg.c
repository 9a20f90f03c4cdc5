// SPDX-License-Identifier: BSD-3-Clause

// Making, reading and freeing legs: control's side of leg.h.

#include "leg.h"

#include <errno.h>
#include <rte_cycles.h>
#include <stdlib.h>
#include <string.h>

// Bytes of a tap's drop counters.
enum { DROPS_SIZE = TAP_DROP_REASON_COUNT * sizeof(_Atomic uint64_t) };

static bool step_is_last(const struct hop_step *step)
{
    return step->kind == HOP_END || step->kind == HOP_DROP;
}

static bool rate_is_whole(const struct hop_rate *rate)
{
    return (rate->bps == 0 || (rate->bps >= LIMIT_RATE_BPS_MIN && rate->bps <= LIMIT_RATE_BPS && rate->burst > 0 &&
                               rate->burst <= LIMIT_RATE_BURST)) &&
           (rate->pps == 0 ||
            (rate->pps <= LIMIT_RATE_PPS && rate->frame_burst > 0 && rate->frame_burst <= LIMIT_RATE_BURST_FRAMES));
}

// Every vif exists, and the program ends exactly at its last step.
static bool program_is_whole(const struct hop_program *program)
{
    if (program->step_count == 0 || program->step_count > HOP_STEPS_MAX)
        return false;
    for (uint16_t i = 0; i < program->step_count; i++) {
        const struct hop_step *step = &program->steps[i];

        if (step_is_last(step) != (i == program->step_count - 1))
            return false;
        if (step->vlan > LIMIT_VLAN || (step->kind == HOP_DROP && step->reason >= DROP_REASON_COUNT))
            return false;
        if (step->kind == HOP_TAP && step->vif == VIF_SLOT_NONE)
            continue;
        if (step->kind != HOP_DROP && vif_in_slot(step->vif) == NULL)
            return false;
        if (step->kind == HOP_BUMP && vif_in_slot(step->other) == NULL)
            return false;
        if (!rate_is_whole(&step->rate))
            return false;
    }
    if (hop_rate_is_set(&program->ingress) && (!rate_is_whole(&program->ingress) || program->source_vlan > LIMIT_VLAN ||
                                               vif_in_slot(program->source) == NULL))
        return false;
    return true;
}

static void step_fill(struct leg_step *to, const struct hop_step *from)
{
    to->kind = (uint8_t)from->kind;
    to->reason = (uint8_t)from->reason;
    to->fail_open = from->fail_open;
    to->wait = from->wait;
    to->vlan = from->vlan;
    to->tag = from->tag;
    to->stall_cycles = rte_get_tsc_hz() / 1000 * from->stall_ms;
    to->vif = from->kind == HOP_DROP ? NULL : vif_in_slot(from->vif); // NULL too for VIF_SLOT_NONE
    to->other = from->kind == HOP_BUMP ? vif_in_slot(from->other) : NULL;
}

// Does the step give frames to a port that has a rate?
static bool step_is_limited(const struct hop_step *step)
{
    return step->kind != HOP_DROP && hop_rate_is_set(&step->rate) && step->vif != VIF_SLOT_NONE;
}

// Fills one rate; out: of what is given to the port. Returns false without memory.
static bool rate_fill(struct rate *rate, vif_slot slot, uint16_t vlan, bool out, const struct hop_rate *from)
{
    struct rate_words *words = rate_words_of(vif_in_slot(slot), vlan);

    if (words == NULL)
        return false;
    if (from->bps != 0)
        rate_set(rate, out ? &words->out : &words->in, from->bps, (uint32_t)from->burst, rte_get_tsc_hz());
    if (from->pps != 0)
        rate_set_frames(rate, out ? &words->out_frames : &words->in_frames, from->pps, from->frame_burst,
                        rte_get_tsc_hz());
    return true;
}

// Fills the leg's rates, which lie from `rate` on. Returns false without memory.
static bool rates_fill(struct leg *leg, const struct hop_program *program, struct rate *rate)
{
    if (hop_rate_is_set(&program->ingress)) {
        if (!rate_fill(rate, program->source, program->source_vlan, false, &program->ingress))
            return false;
        leg->ingress = rate++;
        leg->limited = true;
    }
    for (uint16_t i = 0; i < program->step_count; i++) {
        const struct hop_step *step = &program->steps[i];

        if (!step_is_limited(step))
            continue;
        if (!rate_fill(rate, step->vif, step->vlan, true, &step->rate))
            return false;
        leg->steps[i].rate = rate++;
        leg->steps[i].limited = true;
        leg->limited |= step->kind != HOP_TAP;
    }
    return true;
}

// Room for steps, of which some are taps, and rates behind them; all zero. NULL with errno.
static struct leg *leg_alloc(uint16_t step_count, size_t taps, size_t rates)
{
    struct leg *leg;
    size_t size = sizeof(*leg) + step_count * sizeof(leg->steps[0]) + taps * DROPS_SIZE + rates * sizeof(struct rate);

    if (posix_memalign((void **)&leg, 64, size) != 0) {
        errno = ENOMEM;
        return NULL;
    }
    memset(leg, 0, size);
    leg->step_count = step_count;
    return leg;
}

// Where the leg's rates stand: behind the steps.
static struct rate *rates_at(struct leg *leg)
{
    return (struct rate *)(void *)&leg->steps[leg->step_count];
}

// The taps' drop counters stand behind the rates.
static void place_drops(struct leg *leg, size_t rates)
{
    char *drops = (char *)(rates_at(leg) + rates);

    for (uint16_t i = 0; i < leg->step_count; i++) {
        if (leg->steps[i].kind != HOP_TAP)
            continue;
        leg->steps[i].counters.tap_dropped = (_Atomic uint64_t *)(void *)drops;
        drops += DROPS_SIZE;
    }
}

struct leg *leg_create(const struct hop_program *program)
{
    size_t taps = 0, rates = hop_rate_is_set(&program->ingress);
    struct leg *leg;

    if (!program_is_whole(program)) {
        errno = EINVAL;
        return NULL;
    }
    for (uint16_t i = 0; i < program->step_count; i++) {
        taps += program->steps[i].kind == HOP_TAP;
        rates += step_is_limited(&program->steps[i]);
    }
    leg = leg_alloc(program->step_count, taps, rates);
    if (leg == NULL)
        return NULL;
    for (uint16_t i = 0; i < program->step_count; i++)
        step_fill(&leg->steps[i], &program->steps[i]);
    place_drops(leg, rates);
    if (!rates_fill(leg, program, rates_at(leg))) {
        free(leg);
        errno = ENOMEM;
        return NULL;
    }
    return leg;
}

// A leg with the same program whose counters are zero. The rates are the first
// leg's, which it doesn't outlive: constants, with one bucket for all queues.
static struct leg *leg_clone(const struct leg *leg)
{
    struct leg *clone;
    size_t taps = 0;

    for (uint16_t i = 0; i < leg->step_count; i++)
        taps += leg->steps[i].kind == HOP_TAP;
    clone = leg_alloc(leg->step_count, taps, 0);
    if (clone == NULL)
        return NULL;
    clone->limited = leg->limited;
    clone->ingress = leg->ingress;
    for (uint16_t i = 0; i < leg->step_count; i++) {
        const struct leg_step *step = &leg->steps[i];

        clone->steps[i] = (struct leg_step){
            .vif = step->vif,
            .other = step->other,
            .stall_cycles = step->stall_cycles,
            .kind = step->kind,
            .reason = step->reason,
            .fail_open = step->fail_open,
            .wait = step->wait,
            .vlan = step->vlan,
            .tag = step->tag,
            .limited = step->limited,
            .rate = step->rate,
        };
    }
    place_drops(clone, 0);
    return clone;
}

struct leg *leg_of_queue(struct leg *leg, uint16_t queue)
{
    for (; queue > 0; queue--) {
        if (leg->next_queue == NULL)
            leg->next_queue = leg_clone(leg);
        leg = leg->next_queue;
        if (leg == NULL)
            return NULL;
    }
    return leg;
}

void leg_destroy(struct leg *leg)
{
    while (leg != NULL) {
        struct leg *next = leg->next_queue;

        free(leg);
        leg = next;
    }
}

// Adds what one queue's leg has counted.
static void add_queue(const struct leg *leg, struct leg_count *count)
{
    count->received.frames += counter_read(&leg->received);
    count->received.bytes += counter_read(&leg->received_bytes);
    for (unsigned i = 0; i < DROP_REASON_COUNT; i++)
        count->dropped[i] += counter_read(&leg->dropped[i]);
    for (uint16_t i = 0; i < leg->step_count; i++) {
        const struct leg_step *step = &leg->steps[i];
        struct step_count *to = &count->steps[i];

        to->kind = (enum hop_step_kind)step->kind;
        to->tag = step->tag;
        if (step->kind == HOP_TAP) {
            to->tap.offered += counter_read(&step->counters.offered);
            to->tap.copied.frames += counter_read(&step->counters.frames);
            to->tap.copied.bytes += counter_read(&step->counters.bytes);
            to->tap.segmented.frames += counter_read(&step->counters.segmented_frames);
            to->tap.segmented.segments += counter_read(&step->counters.segments);
            for (unsigned j = 0; j < TAP_DROP_REASON_COUNT; j++)
                to->tap.dropped[j] += counter_read(&step->counters.tap_dropped[j]);
        } else {
            to->delivered.frames += counter_read(&step->counters.frames);
            to->delivered.bytes += counter_read(&step->counters.bytes);
            to->segmented.frames += counter_read(&step->counters.segmented_frames);
            to->segmented.segments += counter_read(&step->counters.segments);
        }
    }
}

void leg_read(const struct leg *leg, struct leg_count *count)
{
    memset(count, 0, sizeof(*count));
    count->step_count = leg->step_count;
    for (; leg != NULL; leg = leg->next_queue)
        add_queue(leg, count);
}
