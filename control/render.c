// SPDX-License-Identifier: BSD-3-Clause
#include "render.h"

#include "compile.h"
#include "control.h"
#include "devices.h"
#include "live.h"
#include "request.h"
#include "status.h"

#include <linux/virtio_config.h>
#include <stdio.h>
#include <string.h>

// Without memory jansson leaves a field out: the answer is then short of it,
// which is the least of the troubles.
static void put(json_t *object, const char *key, json_t *value)
{
    json_object_set_new(object, key, value);
}

static json_t *begin_status(const struct status *status)
{
    json_t *shown = json_object();
    char since[STATUS_TIME_SIZE];

    status_format_time(status->since, since);
    put(shown, "state", json_string(status_name(status->state)));
    put(shown, "reason", json_string(status->reason));
    put(shown, "since", json_string(since));
    return shown;
}

static json_t *list_users(enum object_kind kind, const struct object *object)
{
    json_t *list = json_array();
    const struct use *use;

    for (use = model_first_use(control.model, kind, object->network, object->name); use != NULL;
         use = model_next_use(use))
        json_array_append_new(list, request_encode_use(use));
    return list;
}

// ---- vif ----

json_t *render_mac(const uint8_t mac[6])
{
    static const uint8_t unknown[6];

    if (memcmp(mac, unknown, sizeof(unknown)) == 0)
        return json_null();
    return json_sprintf("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

json_t *render_ring(uint64_t virtio_features)
{
    if (virtio_features == 0)
        return json_null();
    return json_string(virtio_features & 1ULL << VIRTIO_F_RING_PACKED ? "packed" : "split");
}

json_t *render_offloads(uint64_t features)
{
    static const struct {
        unsigned bit;
        const char *word;
    } offloads[] = {
        {0, "csum"},      {1, "guest_csum"}, {7, "guest_tso4"}, {8, "guest_tso6"},
        {9, "guest_ecn"}, {11, "host_tso4"}, {12, "host_tso6"}, {13, "host_ecn"},
    };
    json_t *words = json_array();

    for (size_t i = 0; i < sizeof(offloads) / sizeof(offloads[0]); i++)
        if (features >> offloads[i].bit & 1)
            json_array_append_new(words, json_string(offloads[i].word));
    return words;
}

// Who polls each of its queues.
json_t *render_workers(const struct vif_state *state)
{
    json_t *workers = json_array();

    for (uint16_t queue = 0; queue < state->queue_count; queue++)
        if (state->workers[queue] != VIF_WORKER_NONE)
            json_array_append_new(workers, json_integer(state->workers[queue]));
        else
            json_array_append_new(workers, json_null());
    return workers;
}

static json_t *render_vif_status(const struct vif *vif)
{
    struct vif_state state = {0};
    struct status status;
    json_t *shown;
    bool there = device_usable(vif->slot) && vif_read_state(vif->slot, &state);

    status_of_vif(vif, &status);
    shown = begin_status(&status);
    put(shown, "worker",
        there && state.queue_count > 0 && state.workers[0] != VIF_WORKER_NONE ? json_integer(state.workers[0])
                                                                              : json_null());
    put(shown, "workers", render_workers(&state));
    put(shown, "queue_pairs", json_integer(state.queue_pairs));
    put(shown, "rx_ring_size", json_integer(state.ring_size[0]));
    put(shown, "tx_ring_size", json_integer(state.ring_size[1]));
    put(shown, "ring", render_ring(state.virtio_features));
    put(shown, "virtio_features", json_sprintf("0x%llx", (unsigned long long)state.virtio_features));
    put(shown, "offloads", render_offloads(state.virtio_features));
    put(shown, "mtu", state.mtu != 0 ? json_integer(state.mtu) : json_null());
    put(shown, "mac", render_mac(state.mac));
    put(shown, "used_by", list_users(OBJECT_VIF, &vif->object));
    return shown;
}

// ---- network, port ----

static json_t *render_network_status(const struct network *network)
{
    json_t *shown = json_object();

    put(shown, "ports", json_integer((json_int_t)model_count_in(control.model, OBJECT_PORT, network->object.name)));
    put(shown, "wires", json_integer((json_int_t)model_count_in(control.model, OBJECT_WIRE, network->object.name)));
    return shown;
}

static json_t *render_port_status(const struct port *port)
{
    struct status status;
    json_t *shown;

    status_of_port(port, &status);
    shown = begin_status(&status);
    put(shown, "used_by", list_users(OBJECT_PORT, &port->object));
    return shown;
}

// ---- wire, tee ----

static json_t *render_tee_status(const struct wire *wire, size_t position)
{
    struct status status;
    json_t *shown;

    status_of_tee(&wire->tees[position], &status);
    shown = begin_status(&status);
    put(shown, "position", json_integer((json_int_t)position));
    return shown;
}

static json_t *render_path(const struct wire *wire)
{
    char path[COMPILE_PATH_MAX][COMPILE_PATH_SIZE];
    size_t count = compile_path(wire, path);
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(path[i]));
    return list;
}

static json_t *render_drain(const struct wire *wire)
{
    struct live_wire *live = live_find(wire->object.network, wire->object.name);
    json_t *shown;

    if (live == NULL || !live->drained || live->drain != NULL)
        return json_null();
    live_read(live);
    shown = json_object();
    put(shown, "late", json_integer((json_int_t)(totals_late(&live->totals) - live->late_before)));
    put(shown, "unreturned", json_integer((json_int_t)live->unreturned));
    return shown;
}

static json_t *render_wire_status(const struct wire *wire)
{
    struct status status;
    json_t *shown;

    status_of_wire(wire, &status);
    shown = begin_status(&status);
    put(shown, "path", render_path(wire));
    put(shown, "drain", render_drain(wire));
    return shown;
}

// Each T that was shown gets its status, if it is still there.
static void add_tee_statuses(json_t *shown, const struct wire *wire)
{
    json_t *tees = json_object_get(shown, "tees"), *tee;
    size_t index;

    json_array_foreach(tees, index, tee)
    {
        const char *uid = json_string_value(json_object_get(tee, "uid"));

        for (size_t i = 0; uid != NULL && i < wire->tee_count; i++)
            if (strcmp(wire->tees[i].object.uid, uid) == 0)
                put(tee, "status", render_tee_status(wire, i));
    }
}

json_t *render_with_status(json_t *shown, const struct object *object)
{
    json_t *status = NULL;

    if (shown == NULL)
        return NULL;
    switch (object->kind) {
    case OBJECT_NETWORK:
        status = render_network_status((const struct network *)object);
        break;
    case OBJECT_VIF:
        status = render_vif_status((const struct vif *)object);
        break;
    case OBJECT_PORT:
        status = render_port_status((const struct port *)object);
        break;
    case OBJECT_WIRE:
        add_tee_statuses(shown, (const struct wire *)object);
        status = render_wire_status((const struct wire *)object);
        break;
    case OBJECT_KIND_COUNT:
        break;
    }
    put(shown, "status", status);
    return shown;
}

json_t *render_tee_with_status(json_t *shown, const struct wire *wire, size_t position)
{
    if (shown != NULL)
        put(shown, "status", render_tee_status(wire, position));
    return shown;
}

json_t *render_object(const struct object *object)
{
    return render_with_status(request_encode(object), object);
}

json_t *render_tee(const struct wire *wire, size_t position)
{
    return render_tee_with_status(request_encode_tee(&wire->tees[position]), wire, position);
}
