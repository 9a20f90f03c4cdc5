// SPDX-License-Identifier: BSD-3-Clause
#include "stats.h"

#include "check.h"
#include "control.h"
#include "devices.h"
#include "read.h"
#include "times.h"

#define DISCARD_KEY(symbol, key, help) key,
static const char *const discard_keys[] = {VIF_DISCARD_REASONS(DISCARD_KEY)};

static json_t *render_frames(const struct frame_count *count)
{
    return json_pack("{sI sI}", "frames", (json_int_t)count->frames, "bytes", (json_int_t)count->bytes);
}

static json_t *render_discarded(const uint64_t discarded[VIF_DISCARD_REASON_COUNT])
{
    json_t *shown = json_object();
    uint64_t total = 0;

    for (size_t i = 0; i < VIF_DISCARD_REASON_COUNT; i++)
        total += discarded[i];
    json_object_set_new(shown, "total", json_integer((json_int_t)total));
    for (size_t i = 0; i < VIF_DISCARD_REASON_COUNT; i++)
        if (discarded[i] != 0)
            json_object_set_new(shown, discard_keys[i], json_integer((json_int_t)discarded[i]));
    return shown;
}

static json_t *render_queues(const struct vif *vif)
{
    json_t *queues = json_array();
    struct queue_count count;

    for (uint16_t queue = 0; device_usable(vif->slot) && vif_read_queue(vif->slot, queue, &count); queue++)
        json_array_append_new(
            queues,
            json_pack("{sI so so so sI sI}", "queue", (json_int_t)queue, "worker",
                      count.worker != VIF_WORKER_NONE ? json_integer((json_int_t)count.worker) : json_null(),
                      "received", render_frames(&count.received), "transmitted", render_frames(&count.transmitted),
                      "notified", (json_int_t)count.notified, "busy_cycles", (json_int_t)count.busy_cycles));
    return queues;
}

void stats_vif(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    struct vif_count count = {0};
    const struct vif *vif;
    struct error error;

    (void)parameters;
    if (read_refuses_body(exchange))
        return;
    vif = (const struct vif *)check_find(control.model, OBJECT_VIF, "", target->name, &error);
    if (vif == NULL) {
        exchange_fail(exchange, &error);
        return;
    }
    // Without a device all are zero.
    if (device_usable(vif->slot))
        vif_read_count(vif->slot, &count);
    exchange_answer(exchange, 200,
                    json_pack("{ss ss so so so sI sI sI sI sI sI so}", "vif", vif->object.name, "uid", vif->object.uid,
                              "received", render_frames(&count.received), "transmitted",
                              render_frames(&count.transmitted), "discarded", render_discarded(count.discarded),
                              "rx_missed", (json_int_t)count.rx_missed, "rx_errors", (json_int_t)count.rx_errors,
                              "notified", (json_int_t)count.notified, "announced", (json_int_t)count.announced,
                              "reconnects", (json_int_t)count.reconnects, "pauses", (json_int_t)count.pauses, "queues",
                              render_queues(vif)),
                    EXCHANGE_NO_ETAG);
}

// Who polls what, and what it costs: of all vifs, by name.
static json_t *render_all_queues(void)
{
    json_t *queues = json_array(), *queue;
    const struct object *object;
    size_t i;

    for (object = model_first(control.model, OBJECT_VIF, NULL, "", false); object != NULL;
         object = model_next(object)) {
        json_t *own = render_queues((const struct vif *)object);

        json_array_foreach(own, i, queue)
        {
            // A kind that sends nothing has no queue that anybody polls.
            if (json_is_null(json_object_get(queue, "worker")))
                continue;
            json_object_set_new(queue, "vif", json_string(object->name));
            json_array_append(queues, queue);
        }
        json_decref(own);
    }
    return queues;
}

#define STAGE_KEY(symbol, key, help) key,
static const char *const stage_keys[] = {WORKER_STAGES(STAGE_KEY)};

static json_t *render_stages(const struct worker_count *count)
{
    json_t *stages = json_object();

    for (size_t i = 0; i < WORKER_STAGE_COUNT; i++)
        json_object_set_new(stages, stage_keys[i],
                            json_pack("{sI sI}", "cycles", (json_int_t)count->stages[i].cycles, "frames",
                                      (json_int_t)count->stages[i].frames));
    return stages;
}

static json_t *render_worker(unsigned worker, const struct worker_count *count)
{
    return json_pack("{sI sI sI sI sI sI sI sI sI s{sI sI} so}", "worker", (json_int_t)worker, "core",
                     (json_int_t)count->core, "loops", (json_int_t)count->loops, "frames", (json_int_t)count->frames,
                     "busy_cycles", (json_int_t)count->busy_cycles, "empty_cycles", (json_int_t)count->empty_cycles,
                     "cycles", (json_int_t)count->cycles, "sleeps", (json_int_t)count->sleeps, "sources",
                     (json_int_t)count->sources, "sampled", "loops", (json_int_t)count->sampled_loops, "frames",
                     (json_int_t)count->sampled_frames, "stages", render_stages(count));
}

static json_t *render_workers(void)
{
    json_t *workers = json_array();

    for (unsigned worker = 0; worker < worker_count(); worker++) {
        struct worker_count count;

        if (worker_read(worker, &count))
            json_array_append_new(workers, render_worker(worker, &count));
    }
    return workers;
}

static json_t *render_change(void)
{
    const struct times *times = &times_last;

    return json_pack("{sI sI sf sf sf sf sf}", "tables", (json_int_t)times->published, "wires",
                     (json_int_t)times->wires, "compile_us", (double)times->compile_ns / 1e3, "build_us",
                     (double)times->build_ns / 1e3, "publish_us", (double)times->publish_ns / 1e3, "store_us",
                     (double)times->store_ns / 1e3, "wait_us", (double)times->wait_ns / 1e3);
}

void stats_host(struct exchange *exchange, const struct target *target, const struct parameters *parameters)
{
    const struct model *model = control.model;

    json_t *shown;

    (void)target;
    if (read_refuses_body(exchange))
        return;
    shown = json_pack(
        "{sI s{sI sI sI sI} so sI so}", "generation", (json_int_t)model_generation(model), "objects", "vifs",
        (json_int_t)model_count(model, OBJECT_VIF), "networks", (json_int_t)model_count(model, OBJECT_NETWORK), "ports",
        (json_int_t)model_count(model, OBJECT_PORT), "wires", (json_int_t)model_count(model, OBJECT_WIRE),
        "last_change", render_change(), "tsc_hz", (json_int_t)dataplane_tsc_hz(), "workers", render_workers());
    if (parameters->queues)
        json_object_set_new(shown, "queues", render_all_queues());
    exchange_answer(exchange, 200, shown, EXCHANGE_NO_ETAG);
}
