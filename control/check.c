// SPDX-License-Identifier: BSD-3-Clause
#include "check.h"
#include "names.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- what every object must have ----

static int check_name(const char *name, const char *field, struct error *error)
{
    if (names_valid(name))
        return 0;
    return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field, "\"%.80s\" is no name: use " NAMES_RULE, name);
}

static int check_limit(size_t count, size_t limit, const char *what, const char *name, struct error *error)
{
    if (count < limit)
        return 0;
    return error_set(error, PATCHBAY_ERROR_LIMIT_REACHED, NULL,
                     "there are %zu %s already, as many as there may be (%s); delete one first", count, what, name);
}

static int check_network_exists(const struct model *model, const char *network, struct error *error)
{
    if (model_find_network(model, network) != NULL)
        return 0;
    return check_refuse_missing(model, PATCHBAY_ERROR_NOT_FOUND, NULL, OBJECT_NETWORK, "", network, error);
}

// ---- networks and vifs ----

static int check_network(const struct model *model, const struct network *old, struct error *error)
{
    if (old != NULL)
        return 0;
    return check_limit(model_count(model, OBJECT_NETWORK), LIMIT_NETWORKS, "networks", "LIMIT_NETWORKS", error);
}

static int check_path(const char *path, struct error *error)
{
    if (path[0] != '/')
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "path",
                         "a socket's path must be absolute; \"%.100s\" doesn't begin with /", path);
    size_t len = strlen(path);
    if (len > LIMIT_SOCKET_PATH_LEN)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "path",
                         "a socket's path may have %d bytes, this one has %zu; use a shorter directory",
                         LIMIT_SOCKET_PATH_LEN, len);
    if (path[len - 1] == '/')
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "path", "\"%.107s\" is a directory; name the socket in it",
                         path);
    return 0;
}

static int check_devargs(const char *devargs, struct error *error)
{
    size_t name_len = strcspn(devargs, ",");
    if (name_len == 0 || strcspn(devargs, " \t") < name_len)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "devargs",
                         "devargs begin with a device, such as 0000:03:00.0 or net_af_xdp0,iface=eth1");
    if (strlen(devargs) > LIMIT_TARGET_LEN)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "devargs", "devargs may have %d bytes, these have %zu",
                         LIMIT_TARGET_LEN, strlen(devargs));
    return 0;
}

// The kernel takes more, but the name also goes through devargs, where `,` and `=` end a value, and the TAP driver
// reads `%` as a number to fill in.
static int check_interface(const char *interface, struct error *error)
{
    if (strlen(interface) > LIMIT_IFNAME_LEN || !names_valid(interface))
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "interface",
                         "\"%.80s\" can't be an interface's name: use 1 to %d of A-Z a-z 0-9 . _ -, the first a letter "
                         "or digit",
                         interface, LIMIT_IFNAME_LEN);
    return 0;
}

static int check_target(const struct vif *vif, struct error *error)
{
    const char *field = vif_target_field(vif->kind);
    if (field == NULL) {
        if (vif->target == NULL)
            return 0;
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "kind", "kind none has no device");
    }
    if (vif->target == NULL || vif->target[0] == '\0')
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field, "kind %s needs %s", vif_kind_names[vif->kind], field);
    for (const char *c = vif->target; *c != '\0'; c++) {
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            return error_set(error, PATCHBAY_ERROR_BAD_VALUE, field, "%s has a control character", field);
    }
    switch (vif->kind) {
    case VIF_VHOST:
    case VIF_VHOST_SERVER:
        return check_path(vif->target, error);
    case VIF_DEV:
        return check_devargs(vif->target, error);
    default:
        return check_interface(vif->target, error);
    }
}

static int check_vif_limits(const struct model *model, const struct vif *next, struct error *error)
{
    int ret = check_limit(model_count(model, OBJECT_VIF), LIMIT_VIFS, "vifs", "LIMIT_VIFS", error);
    if (ret != 0)
        return ret;
    size_t clients = model_count_vifs(model, VIF_VHOST);
    size_t servers = model_count_vifs(model, VIF_VHOST_SERVER);
    switch (next->kind) {
    case VIF_VHOST:
        ret = check_limit(clients, LIMIT_VHOST, "vifs of kind vhost", "LIMIT_VHOST", error);
        break;
    case VIF_VHOST_SERVER:
        ret = check_limit(servers, LIMIT_VHOST_SERVERS, "vifs of kind vhost-server", "LIMIT_VHOST_SERVERS", error);
        break;
    case VIF_DEV:
    case VIF_KERNEL_NEW:
        return check_limit(model_count_vifs(model, VIF_DEV) + model_count_vifs(model, VIF_KERNEL_NEW), LIMIT_ETHDEVS,
                           "vifs of the kinds dev and kernel-new", "LIMIT_ETHDEVS", error);
    default:
        return 0;
    }
    if (ret != 0)
        return ret;
    // Both kinds share librte_vhost's one descriptor set: a connection each, and a listener for each server.
    size_t descriptors = clients + 2 * servers + (next->kind == VIF_VHOST_SERVER ? 2 : 1);
    if (descriptors > 2 * LIMIT_VHOST_SERVERS)
        return error_set(
            error, PATCHBAY_ERROR_LIMIT_REACHED, NULL,
            "%zu vifs of kind vhost and %zu of kind vhost-server fill DPDK's descriptor set (a vhost-server "
            "takes two of its %d places; LIMIT_VHOST_SERVERS); delete one first",
            clients, servers, 2 * LIMIT_VHOST_SERVERS);
    return 0;
}

static int check_vif(const struct model *model, const struct vif *old, const struct vif *next, struct error *error)
{
    if (old != NULL && old->kind != next->kind)
        return error_set(error, PATCHBAY_ERROR_IMMUTABLE, "kind",
                         "vif \"%s\" is of kind %s and can't become %s; delete it and create it again",
                         next->object.name, vif_kind_names[old->kind], vif_kind_names[next->kind]);
    int ret = check_target(next, error);
    if (ret != 0)
        return ret;
    const char *field = vif_target_field(next->kind);
    if (old != NULL && field != NULL && strcmp(old->target, next->target) != 0)
        return error_set(error, PATCHBAY_ERROR_IMMUTABLE, field,
                         "the %s of vif \"%s\" can't change; delete it and create it again", field, next->object.name);
    if (next->mtu != 0 && next->kind != VIF_DEV && next->kind != VIF_KERNEL_NEW)
        return error_set(
            error, PATCHBAY_ERROR_CAP_NOT_SUPPORTED, "mtu",
            "a vif of kind %s can't be told an MTU: %s; kinds dev and kernel-new can", vif_kind_names[next->kind],
            next->kind == VIF_NONE ? "it takes frames of every length"
                                   : "vhost-user has no word for it from this side, so give the guest's device "
                                     "host_mtu=BYTES where the VM is (QEMU)");
    if (next->owner != NULL && strlen(next->owner) > LIMIT_OWNER_LEN)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "owner", "owner may have %d bytes", LIMIT_OWNER_LEN);
    if (old != NULL)
        return 0;
    ret = check_vif_limits(model, next, error);
    if (ret != 0 || field == NULL)
        return ret;
    const struct vif *holder = model_find_target(model, next->kind, next->target);
    if (holder != NULL)
        return error_set(error, PATCHBAY_ERROR_TARGET_IN_USE, field,
                         "vif \"%s\" has %s %.200s already; delete it first, or use another", holder->object.name,
                         field, holder->target);
    return 0;
}

// ---- ports ----

static int check_vlan(const struct model *model, const struct port *next, struct error *error)
{
    for (const struct use *use = model_first_use_of_vlan(model, next->vif, next->vlan);
         use != NULL && use->vlan == next->vlan; use = model_next_use(use)) {
        const struct port *other = (const struct port *)use->user;
        if (strcmp(other->object.network, next->object.network) == 0 &&
            strcmp(other->object.name, next->object.name) == 0)
            continue;
        if (next->vlan == 0)
            return error_set(error, PATCHBAY_ERROR_VLAN_TAKEN, "vlan",
                             "port \"%s/%s\" has vif \"%s\" untagged already; give one of them a vlan",
                             other->object.network, other->object.name, next->vif);
        return error_set(error, PATCHBAY_ERROR_VLAN_TAKEN, "vlan",
                         "port \"%s/%s\" has VLAN %u of vif \"%s\" already; choose another", other->object.network,
                         other->object.name, (unsigned)next->vlan, next->vif);
    }
    return 0;
}

static int check_port(const struct model *model, const struct port *old, const struct port *next, struct error *error)
{
    int ret = check_network_exists(model, next->object.network, error);
    if (ret == 0 && old == NULL)
        ret = check_limit(model_count(model, OBJECT_PORT), LIMIT_PORTS, "ports", "LIMIT_PORTS", error);
    if (ret != 0)
        return ret;
    if (next->vlan > LIMIT_VLAN)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "vlan", "vlan must be null or from 1 to %d, not %u",
                         LIMIT_VLAN, (unsigned)next->vlan);
    if (next->vif[0] == '\0')
        return 0;
    if (model_find_vif(model, next->vif) == NULL)
        return check_refuse_missing(model, PATCHBAY_ERROR_NO_SUCH_REF, "vif", OBJECT_VIF, "", next->vif, error);
    return check_vlan(model, next, error);
}

// ---- wires ----

static bool roles_agree(enum port_role one, enum port_role other)
{
    return one == ROLE_NONE || other == ROLE_NONE || (one == ROLE_TAP && other == ROLE_TAP);
}

struct claim {
    enum use_as as;
    const struct tee *tee;
    size_t position; // of the T
    const char *network;
    const char *port;
};

enum { CLAIMS_MAX = 2 + 2 * LIMIT_TEES };

static size_t list_claims(const struct wire *wire, struct claim claims[static CLAIMS_MAX])
{
    size_t count = 0;
    if (wire->a[0] != '\0')
        claims[count++] = (struct claim){USE_WIRE_A, NULL, 0, wire->object.network, wire->a};
    if (wire->b[0] != '\0')
        claims[count++] = (struct claim){USE_WIRE_B, NULL, 0, wire->object.network, wire->b};
    for (size_t i = 0; i < wire->tee_count; i++) {
        const struct tee *tee = &wire->tees[i];
        if (tee->port.port[0] != '\0')
            claims[count++] = (struct claim){USE_TEE_PORT, tee, i, tee->port.network, tee->port.port};
        if (tee->out_port.port[0] != '\0')
            claims[count++] = (struct claim){USE_TEE_OUT_PORT, tee, i, tee->out_port.network, tee->out_port.port};
    }
    return count;
}

static void name_claim(const struct claim *claim, char *field, size_t size)
{
    static const char *const fields[] = {
        [USE_WIRE_A] = "a", [USE_WIRE_B] = "b", [USE_TEE_PORT] = "port", [USE_TEE_OUT_PORT] = "out_port"};
    if (claim->tee == NULL) {
        snprintf(field, size, "%s", fields[claim->as]);
    } else {
        snprintf(field, size, "tees[%zu].%s", claim->position, fields[claim->as]);
    }
}

// Everybody whose use of the claimed port excludes the claim: others in the model, and the wire's own claims before it.
static int check_claim(const struct model *model, const struct wire *wire, const struct claim *claims, size_t index,
                       struct error *error)
{
    const struct claim *claim = &claims[index];
    char field[sizeof("tees[16].out_port") + 8];
    name_claim(claim, field, sizeof(field));
    if (model_find_port(model, claim->network, claim->port) == NULL) {
        if (model_find_network(model, claim->network) == NULL)
            return check_refuse_missing(model, PATCHBAY_ERROR_NO_SUCH_REF, field, OBJECT_NETWORK, "", claim->network,
                                        error);
        return check_refuse_missing(model, PATCHBAY_ERROR_NO_SUCH_REF, field, OBJECT_PORT, claim->network, claim->port,
                                    error);
    }
    enum port_role role = claim->tee != NULL ? tee_role(claim->tee) : ROLE_END;
    struct error found;
    error_clear(&found);
    for (size_t i = 0; i < index; i++) {
        if (strcmp(claims[i].port, claim->port) == 0 && strcmp(claims[i].network, claim->network) == 0 &&
            !roles_agree(role, claims[i].tee != NULL ? tee_role(claims[i].tee) : ROLE_END))
            error_add_user(&found, claims[i].as, wire->object.network, wire->object.name,
                           claims[i].tee != NULL ? claims[i].tee->object.name : NULL);
    }
    for (const struct use *use = model_first_use(model, OBJECT_PORT, claim->network, claim->port); use != NULL;
         use = model_next_use(use)) {
        // Roles come in order: after these nothing disagrees.
        if (use->role == ROLE_NONE || (use->role == ROLE_TAP && role == ROLE_TAP) || role == ROLE_NONE)
            break;
        bool own =
            strcmp(use->user->name, wire->object.name) == 0 && strcmp(use->user->network, wire->object.network) == 0;
        if (!own && !roles_agree(role, use->role))
            error_add_user(&found, use->as, use->user->network, use->user->name,
                           use->tee != NULL ? use->tee->object.name : NULL);
    }
    if (found.user_total == 0)
        return 0;
    const struct user *first = &found.users[0];
    error_set(
        error, PATCHBAY_ERROR_PORT_IN_USE, field,
        "port \"%s/%s\" is already %s of wire \"%s/%s\"%s%s%s; a port is one wire end, or one arm of a bump, or the "
        "target of any number of taps: use another, or take it out there first",
        claim->network, claim->port,
        first->as == USE_WIRE_A     ? "end a"
        : first->as == USE_WIRE_B   ? "end b"
        : first->as == USE_TEE_PORT ? "port"
                                    : "out_port",
        first->network, first->name, first->tee[0] != '\0' ? ", T \"" : "", first->tee,
        first->tee[0] != '\0' ? "\"" : "");
    error->user_count = found.user_count;
    error->user_total = found.user_total;
    memcpy(error->users, found.users, found.user_count * sizeof(found.users[0]));
    return -EINVAL;
}

static int check_tee(const struct wire *wire, size_t position, struct error *error)
{
    const struct tee *tee = &wire->tees[position];
    int ret = check_name(tee->object.name, "name", error);
    if (ret != 0)
        return ret;
    if (wire_find_tee(wire, tee->object.name) != (int)position)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "name",
                         "wire \"%s\" would have two Ts called \"%s\"; rename one", wire->object.name,
                         tee->object.name);
    if (tee_is_bump(tee) && tee->out_port.port[0] == '\0')
        return error_set(
            error, PATCHBAY_ERROR_BUMP_NEEDS_OUT, "out_port",
            "a bump sends frames in by `port` and takes them back from `out_port`; give T \"%s\" an out_port",
            tee->object.name);
    if ((tee_is_bump(tee) || tee->mode == TEE_TAP) && tee->port.port[0] == '\0')
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "port", "T \"%s\" of mode %s needs a port; or make it `off`",
                         tee->object.name, tee_mode_names[tee->mode]);
    if (tee->port.port[0] != '\0' && strcmp(tee->port.port, tee->out_port.port) == 0 &&
        strcmp(tee->port.network, tee->out_port.network) == 0)
        return error_set(error, PATCHBAY_ERROR_SAME_PORT, "out_port",
                         "port and out_port of T \"%s\" are the same; they must be two, or out_port null",
                         tee->object.name);
    if (tee->stall_ms < 1 || tee->stall_ms > LIMIT_STALL_MS)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "stall_ms", "stall_ms must be from 1 to %d, not %u",
                         LIMIT_STALL_MS, (unsigned)tee->stall_ms);
    return 0;
}

static int check_wire(const struct model *model, const struct wire *old, const struct wire *next, struct error *error)
{
    int ret = check_network_exists(model, next->object.network, error);
    if (ret == 0 && old == NULL)
        ret = check_limit(model_count(model, OBJECT_WIRE), LIMIT_WIRES, "wires", "LIMIT_WIRES", error);
    if (ret != 0)
        return ret;
    if (next->stall_ms < 1 || next->stall_ms > LIMIT_STALL_MS)
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "stall_ms", "stall_ms must be from 1 to %d, not %u",
                         LIMIT_STALL_MS, (unsigned)next->stall_ms);
    if (next->a[0] != '\0' && strcmp(next->a, next->b) == 0)
        return error_set(error, PATCHBAY_ERROR_SAME_PORT, "b",
                         "both ends would be port \"%s\"; a wire joins two different ports", next->a);
    for (size_t i = 0; i < next->tee_count; i++) {
        ret = check_tee(next, i, error);
        if (ret != 0) {
            error_prefix(error, "tees[%zu].", i);
            return ret;
        }
    }
    struct claim claims[CLAIMS_MAX];
    size_t count = list_claims(next, claims);
    for (size_t i = 0; i < count && ret == 0; i++)
        ret = check_claim(model, next, claims, i, error);
    return ret;
}

int check_put(const struct model *model, const struct object *old, const struct object *next, struct error *error)
{
    error_clear(error);
    int ret = check_name(next->name, "name", error);
    if (ret != 0)
        return ret;
    switch (next->kind) {
    case OBJECT_NETWORK:
        return check_network(model, (const struct network *)old, error);
    case OBJECT_VIF:
        return check_vif(model, (const struct vif *)old, (const struct vif *)next, error);
    case OBJECT_PORT:
        return check_port(model, (const struct port *)old, (const struct port *)next, error);
    default:
        return check_wire(model, (const struct wire *)old, (const struct wire *)next, error);
    }
}

// ---- taking out ----

static void add_network_users(const struct model *model, const char *network, enum object_kind kind, enum use_as as,
                              struct error *error)
{
    for (const struct object *o = model_first(model, kind, network, "", false); o != NULL; o = model_next_in(o))
        error_add_user(error, as, o->network, o->name, NULL);
}

static void add_users(const struct model *model, const struct object *object, struct error *error)
{
    for (const struct use *use = model_first_use(model, object->kind, object->network, object->name); use != NULL;
         use = model_next_use(use))
        error_add_user(error, use->as, use->user->network, use->user->name,
                       use->tee != NULL ? use->tee->object.name : NULL);
}

int check_delete(const struct model *model, const struct object *object, struct error *error)
{
    error_clear(error);
    const char *advice = "";
    char times[32] = "once";
    switch (object->kind) {
    case OBJECT_NETWORK:
        if (strcmp(object->name, NETWORK_DEFAULT) == 0)
            return error_set(error, PATCHBAY_ERROR_IMMUTABLE, NULL, "the network \"%s\" always exists", object->name);
        add_network_users(model, object->name, OBJECT_WIRE, USE_NETWORK_WIRE, error);
        add_network_users(model, object->name, OBJECT_PORT, USE_NETWORK_PORT, error);
        advice = "it has ports or wires; delete these first";
        break;
    case OBJECT_VIF:
        add_users(model, object, error);
        advice = "ports stand on it; give them another vif, or delete with ?detach=1, which leaves them without";
        break;
    case OBJECT_PORT:
        add_users(model, object, error);
        advice =
            "wires or Ts use it; replug them, or delete with ?detach=1, which unplugs the wires and turns the Ts off";
        break;
    default:
        return 0;
    }
    if (error->user_total == 0)
        return 0;
    if (error->user_total > 1)
        snprintf(times, sizeof(times), "%zu times", error->user_total);
    // error_set forgets the users, and the list is too large to be copied twice for that.
    error->code = PATCHBAY_ERROR_IN_USE;
    snprintf(error->message, sizeof(error->message), "%s \"%s\" is used (%s): %s", object_kind_name(object->kind),
             object->name, times, advice);
    return -EINVAL;
}
