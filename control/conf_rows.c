// SPDX-License-Identifier: BSD-3-Clause
// The standard keys of the host, networks, ports and wires; those of vifs are in conf_vif.c.

#include "compile.h"
#include "conf.h"
#include "control.h"
#include "status.h"

#include <stdlib.h>
#include <string.h>

// ---- the host ----

static json_t *list_words(const char *const *words, size_t count)
{
    json_t *list = json_array();

    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_string(words[i]));
    return list;
}

static json_t *get_vif_kinds(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)subject;
    (void)row;
    (void)reason;
    return list_words(vif_kind_names, VIF_KIND_COUNT);
}

static json_t *get_tee_modes(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)subject;
    (void)row;
    (void)reason;
    return list_words(tee_mode_names, 3);
}

static json_t *get_workers(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)subject;
    (void)row;
    (void)reason;
    return json_integer(worker_count());
}

// What each worker says of itself, in their order.
static json_t *list_workers(json_t *(*pick)(const struct worker_count *count))
{
    json_t *list = json_array();

    for (unsigned worker = 0; worker < worker_count(); worker++) {
        struct worker_count count;

        if (worker_read(worker, &count))
            json_array_append_new(list, pick(&count));
    }
    return list;
}

static json_t *pick_core(const struct worker_count *count)
{
    return json_integer(count->core);
}

static json_t *get_worker_cores(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)subject;
    (void)row;
    (void)reason;
    return list_workers(pick_core);
}

static json_t *pick_node(const struct worker_count *count)
{
    return count->numa_node >= 0 ? json_integer(count->numa_node) : json_null();
}

static json_t *get_worker_nodes(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)subject;
    (void)row;
    (void)reason;
    return list_workers(pick_node);
}

static json_t *get_poll(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    (void)subject;
    (void)row;
    (void)reason;
    return json_string(control.options->poll == POLL_BUSY ? "busy" : "adaptive");
}

// Limits are told by the name of their key.
static json_t *get_limit(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    static const struct {
        const char *key;
        json_int_t value;
    } limits[] = {
        {"vifs_max", LIMIT_VIFS},       {"ports_max", LIMIT_PORTS},
        {"wires_max", LIMIT_WIRES},     {"networks_max", LIMIT_NETWORKS},
        {"tees_max", LIMIT_TEES},       {"ethdevs_max", LIMIT_ETHDEVS},
        {"vhost_max", LIMIT_VHOST},     {"vhost_servers_max", LIMIT_VHOST_SERVERS},
        {"frame_max", LIMIT_FRAME_MAX}, {"labels_max", LIMIT_LABELS},
    };

    (void)subject;
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++)
        if (strcmp(limits[i].key, row->key) == 0)
            return json_integer(limits[i].value);
    return conf_refuse(reason, "it has no such limit");
}

// ---- networks ----

static json_t *get_count(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    enum object_kind kind = strcmp(row->key, "ports") == 0 ? OBJECT_PORT : OBJECT_WIRE;

    (void)reason;
    return json_integer((json_int_t)model_count_in(control.model, kind, subject->object->name));
}

// ---- ports ----

static json_t *get_port_link(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    struct status status;

    (void)row;
    (void)reason;
    status_of_port((const struct port *)subject->object, &status);
    return json_string(status_name(status.state));
}

// May a T that is put in now use the port in this role? As check_put has it: an end or an arm has a port alone,
// taps share theirs.
static json_t *get_port_ability(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    const struct use *first =
        model_first_use(control.model, OBJECT_PORT, subject->object->network, subject->object->name);
    bool is_free = first == NULL || first->role == ROLE_NONE;

    (void)reason;
    if (strcmp(row->key, "tap") == 0)
        return json_boolean(is_free || first->role == ROLE_TAP);
    return json_boolean(is_free);
}

static json_t *get_port_shared(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    bool shared;
    uint16_t vlan;
    vif_slot slot;

    (void)row;
    if (!compile_source(control.model, (const struct port *)subject->object, &slot, &vlan, &shared))
        return conf_refuse(reason, "it has no vif; set one (key vif)");
    return json_boolean(shared);
}

// ---- wires ----

static json_t *get_wire_link(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    struct status status;

    (void)row;
    (void)reason;
    status_of_wire((const struct wire *)subject->object, &status);
    return json_string(status_name(status.state));
}

// The smallest of the ends' that are known.
static json_t *get_wire_mtu(const struct conf_subject *subject, const struct conf_row *row, char *reason)
{
    const struct wire *wire = (const struct wire *)subject->object;
    const char *const ends[] = {wire->a, wire->b};
    uint16_t least = 0;

    (void)row;
    for (size_t i = 0; i < 2; i++) {
        const struct port *port =
            ends[i][0] != '\0' ? model_find_port(control.model, wire->object.network, ends[i]) : NULL;
        const struct vif *vif = port != NULL && port->vif[0] != '\0' ? model_find_vif(control.model, port->vif) : NULL;
        struct conf_subject end;

        if (vif == NULL)
            continue;
        conf_subject_fill(&end, CONF_VIF, &vif->object);
        if (end.there && end.state.mtu != 0 && (least == 0 || end.state.mtu < least))
            least = end.state.mtu;
    }
    if (least == 0)
        return conf_refuse(reason, "no vif at its ends tells its MTU, as NICs and kernel TAPs do");
    return json_integer(least);
}

// ---- the table ----

static const struct conf_row rows[] = {
    {CONF_HOST, "vif_kinds", {CONF_R}, "array", NULL, NULL, get_vif_kinds, NULL, "kinds of vif that can be made"},
    {CONF_HOST, "tee_modes", {CONF_R}, "array", NULL, NULL, get_tee_modes, NULL, "modes that a T can have"},
    {CONF_HOST, "workers", {CONF_R}, "integer", NULL, NULL, get_workers, NULL, "workers that move frames"},
    {CONF_HOST, "worker_cores", {CONF_R}, "array", NULL, NULL, get_worker_cores, NULL, "their CPUs, in order"},
    {CONF_HOST,
     "worker_numa_nodes",
     {CONF_R},
     "array",
     NULL,
     NULL,
     get_worker_nodes,
     NULL,
     "the NUMA nodes of these; null: not known"},
    {CONF_HOST,
     "poll",
     {CONF_R},
     "string",
     NULL,
     NULL,
     get_poll,
     NULL,
     "adaptive (workers sleep without traffic) or busy; set when the daemon starts"},
    {CONF_HOST,
     "frame_max",
     {CONF_R},
     "integer",
     "bytes",
     NULL,
     get_limit,
     NULL,
     "longest frame, tags included, without frame check sequence"},
    {CONF_HOST, "vifs_max", {CONF_R}, "integer", NULL, NULL, get_limit, NULL, "vifs that there may be"},
    {CONF_HOST, "networks_max", {CONF_R}, "integer", NULL, NULL, get_limit, NULL, "networks"},
    {CONF_HOST, "ports_max", {CONF_R}, "integer", NULL, NULL, get_limit, NULL, "ports"},
    {CONF_HOST, "wires_max", {CONF_R}, "integer", NULL, NULL, get_limit, NULL, "wires"},
    {CONF_HOST, "ethdevs_max", {CONF_R}, "integer", NULL, NULL, get_limit, NULL, "vifs of kinds dev and kernel-new"},
    {CONF_HOST, "vhost_max", {CONF_R}, "integer", NULL, NULL, get_limit, NULL, "vifs of kinds vhost and vhost-server"},
    {CONF_HOST, "vhost_servers_max", {CONF_R}, "integer", NULL, NULL, get_limit, NULL, "of these, vhost-server"},
    {CONF_HOST, "labels_max", {CONF_R}, "integer", NULL, NULL, get_limit, NULL, "labels of an object"},

    {CONF_NETWORK, "ports", {CONF_R}, "integer", NULL, NULL, get_count, NULL, "ports that it has"},
    {CONF_NETWORK, "wires", {CONF_R}, "integer", NULL, NULL, get_count, NULL, "wires that it has"},
    {CONF_NETWORK, "tee_modes", {CONF_R}, "array", NULL, NULL, get_tee_modes, NULL, "modes of Ts on its wires"},

    {CONF_PORT, "vif", {CONF_RW}, "string|null", NULL, "vif", conf_get_field, NULL, "the vif behind it; null: none"},
    {CONF_PORT,
     "vlan",
     {CONF_RW},
     "integer|null",
     NULL,
     "vlan",
     conf_get_field,
     NULL,
     "the 802.1Q tag of its vif that it is, 1 to 4094; null: what is untagged, or all if it has the vif alone"},
    {CONF_PORT,
     "ingress_bps",
     {CONF_RW},
     "integer|null",
     "bit/s",
     "ingress_bps",
     conf_get_field,
     NULL,
     "rate of what comes from the port's vif into the wire, without frame check sequences; null: none"},
    {CONF_PORT,
     "ingress_burst",
     {CONF_RW},
     "integer|null",
     "bytes",
     "ingress_burst",
     conf_get_field,
     NULL,
     "how much may come at once after a pause; null: 10 ms at the rate, but at least 65,536"},
    {CONF_PORT,
     "ingress_pps",
     {CONF_RW},
     "integer|null",
     "frames/s",
     "ingress_pps",
     conf_get_field,
     NULL,
     "the same in frames a second, whatever their length; null: none"},
    {CONF_PORT,
     "ingress_burst_frames",
     {CONF_RW},
     "integer|null",
     "frames",
     "ingress_burst_frames",
     conf_get_field,
     NULL,
     "how many may come at once after a pause; null: 10 ms at the rate, but at least 64"},
    {CONF_PORT,
     "egress_bps",
     {CONF_RW},
     "integer|null",
     "bit/s",
     "egress_bps",
     conf_get_field,
     NULL,
     "rate of what is given to the port's vif, be it a wire's end, a bump's arm or a tap's target; null: none"},
    {CONF_PORT,
     "egress_burst",
     {CONF_RW},
     "integer|null",
     "bytes",
     "egress_burst",
     conf_get_field,
     NULL,
     "how much may be given at once after a pause; null: as above"},
    {CONF_PORT,
     "egress_pps",
     {CONF_RW},
     "integer|null",
     "frames/s",
     "egress_pps",
     conf_get_field,
     NULL,
     "the same in frames a second, whatever their length; null: none"},
    {CONF_PORT,
     "egress_burst_frames",
     {CONF_RW},
     "integer|null",
     "frames",
     "egress_burst_frames",
     conf_get_field,
     NULL,
     "how many may be given at once after a pause; null: 10 ms at the rate, but at least 64"},
    {CONF_PORT,
     "admin",
     {CONF_RW},
     "string",
     NULL,
     "admin",
     conf_get_field,
     NULL,
     "up, or down: frames from it and to it are dropped as admin_down, and a bump whose arm it is has failed"},
    {CONF_PORT, "link", {CONF_R}, "string", NULL, NULL, get_port_link, NULL, "up or down: its vif's"},
    {CONF_PORT,
     "shared",
     {CONF_R},
     "boolean",
     NULL,
     NULL,
     get_port_shared,
     NULL,
     "others use its vif too: legs from and to it drop at once when there is no room, whatever on_full says"},
    {CONF_PORT,
     "tap",
     {CONF_R},
     "boolean",
     NULL,
     NULL,
     get_port_ability,
     NULL,
     "a tap could send its copies here: the port is unused, or others do already"},
    {CONF_PORT,
     "bump",
     {CONF_R},
     "boolean",
     NULL,
     NULL,
     get_port_ability,
     NULL,
     "it could be a wire's end or a bump's arm: the port is unused"},

    {CONF_WIRE, "a", {CONF_RW}, "string|null", NULL, "a", conf_get_field, NULL, "the port at end a; null: unplugged"},
    {CONF_WIRE, "b", {CONF_RW}, "string|null", NULL, "b", conf_get_field, NULL, "the port at end b; null: unplugged"},
    {CONF_WIRE, "admin", {CONF_RW}, "string", NULL, "admin", conf_get_field, NULL, "up, or down: frames stop at once"},
    {CONF_WIRE,
     "on_full",
     {CONF_RW},
     "string",
     NULL,
     "on_full",
     conf_get_field,
     NULL,
     "wait, or drop: what becomes of frames when the receiver has no room"},
    {CONF_WIRE,
     "stall_ms",
     {CONF_RW},
     "integer",
     "ms",
     "stall_ms",
     conf_get_field,
     NULL,
     "how long the first frame waits for room before it is dropped"},
    {CONF_WIRE, "link", {CONF_R}, "string", NULL, NULL, get_wire_link, NULL, "up, down or draining"},
    {CONF_WIRE,
     "mtu",
     {CONF_R},
     "integer",
     "bytes",
     NULL,
     get_wire_mtu,
     NULL,
     "the smallest MTU that its ends' vifs tell"},
    {CONF_WIRE, "tee_modes", {CONF_R}, "array", NULL, NULL, get_tee_modes, NULL, "modes that its Ts can have"},
    {CONF_WIRE, "tees_max", {CONF_R}, "integer", NULL, NULL, get_limit, NULL, "Ts that it may have"},
};

const struct conf_table conf_standard = {rows, sizeof(rows) / sizeof(rows[0])};
