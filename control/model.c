// SPDX-License-Identifier: BSD-3-Clause
// The indices. All are trees whose nodes lie in the versions themselves: what
// can fail (memory) happens before a version is linked, so unlinking and
// linking, and with them rollback, can't fail.

#include "model_private.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

RB_HEAD(object_tree, object);
RB_HEAD(use_tree, use);
RB_HEAD(target_tree, vif);

enum { SLOT_WORDS = (LIMIT_VIFS + 63) / 64 };

struct model {
    struct object_tree objects[OBJECT_KIND_COUNT];
    size_t counts[OBJECT_KIND_COUNT];
    struct use_tree port_uses;
    struct use_tree vif_uses;
    struct target_tree targets;
    size_t vif_counts[VIF_KIND_COUNT];
    uint64_t generation;
    uint64_t slots[SLOT_WORDS]; // a bit each; set: taken
    size_t slot_count;          // taken
    size_t slot_hint;           // no free slot is in a word before this one
};

static int compare_objects(const struct object *one, const struct object *other)
{
    int order = strcmp(one->network, other->network);
    return order != 0 ? order : strcmp(one->name, other->name);
}

// A use without user is a probe that comes before all uses of its port, or of its VLAN of a vif.
static int compare_uses(const struct use *one, const struct use *other)
{
    int order = strcmp(one->network, other->network);
    if (order == 0)
        order = strcmp(one->name, other->name);
    if (order != 0 || one == other)
        return order;
    if (one->role != other->role)
        return one->role < other->role ? -1 : 1;
    if (one->vlan != other->vlan)
        return one->vlan < other->vlan ? -1 : 1;
    if (one->user == NULL || other->user == NULL)
        return (one->user != NULL) - (other->user != NULL);
    order = compare_objects(one->user, other->user);
    if (order != 0)
        return order;
    if (one->as != other->as)
        return one->as < other->as ? -1 : 1;
    // Ts of one version: they lie in one array, so the pointers' order is their order on the wire.
    return (one->tee > other->tee) - (one->tee < other->tee);
}

// A vif with an empty name is a probe.
static int compare_targets(const struct vif *one, const struct vif *other)
{
    int order = strcmp(one->target_key, other->target_key);
    return order != 0 ? order : strcmp(one->object.name, other->object.name);
}

// RB_GENERATE_STATIC needs a macro __unused that glibc hasn't.
#define STATIC_MAYBE_UNUSED __attribute__((unused)) static
RB_GENERATE_INTERNAL(object_tree, object, node, compare_objects, STATIC_MAYBE_UNUSED)
RB_GENERATE_INTERNAL(use_tree, use, node, compare_uses, STATIC_MAYBE_UNUSED)
RB_GENERATE_INTERNAL(target_tree, vif, target_node, compare_targets, STATIC_MAYBE_UNUSED)

struct model *model_create(void)
{
    struct model *model = calloc(1, sizeof(*model));
    if (model == NULL)
        return NULL;
    for (size_t i = 0; i < OBJECT_KIND_COUNT; i++)
        RB_INIT(&model->objects[i]);
    RB_INIT(&model->port_uses);
    RB_INIT(&model->vif_uses);
    RB_INIT(&model->targets);
    return model;
}

void model_destroy(struct model *model)
{
    if (model == NULL)
        return;
    for (size_t i = 0; i < OBJECT_KIND_COUNT; i++) {
        struct object *object;
        while ((object = RB_ROOT(&model->objects[i])) != NULL) {
            RB_REMOVE(object_tree, &model->objects[i], object);
            object_destroy(object);
        }
    }
    free(model);
}

uint64_t model_generation(const struct model *model)
{
    return model->generation;
}

void model_set_generation(struct model *model, uint64_t generation)
{
    model->generation = generation;
}

// ---- targets ----

// What two vifs may not share, as a string whose first byte tells the name spaces apart. NULL: no memory.
static char *make_target_key(enum vif_kind kind, const char *target)
{
    size_t len = strlen(target);
    char *key = malloc(len + 2);
    if (key == NULL)
        return NULL;
    char *out = key;
    if (kind == VIF_VHOST || kind == VIF_VHOST_SERVER) {
        *out++ = 'p';
        for (const char *in = target; *in != '\0'; in++) {
            bool after_slash = out[-1] == '/';
            if (after_slash && *in == '/')
                continue;
            if (after_slash && in[0] == '.' && in[1] == '/') {
                in++;
                continue;
            }
            *out++ = *in;
        }
    } else if (kind == VIF_DEV) {
        *out++ = 'd';
        size_t name_len = strcspn(target, ",");
        memcpy(out, target, name_len);
        out += name_len;
    } else {
        *out++ = 'i';
        memcpy(out, target, len);
        out += len;
    }
    *out = '\0';
    return key;
}

const struct vif *model_find_target(const struct model *model, enum vif_kind kind, const char *target)
{
    struct vif probe = {.target_key = make_target_key(kind, target)};
    if (probe.target_key == NULL)
        return NULL;
    // The macros want the head without const; finding doesn't write.
    struct vif *vif = RB_NFIND(target_tree, &((struct model *)model)->targets, &probe);
    if (vif != NULL && strcmp(vif->target_key, probe.target_key) != 0)
        vif = NULL;
    free(probe.target_key);
    return vif;
}

// ---- versions in and out of the indices ----

static void add_use(struct wire *wire, enum use_as as, const struct tee *tee, const char *network, const char *name)
{
    if (name[0] == '\0')
        return;
    wire->uses[wire->use_count++] = (struct use){.network = network,
                                                 .name = name,
                                                 .as = as,
                                                 .role = tee != NULL ? tee_role(tee) : ROLE_END,
                                                 .user = &wire->object,
                                                 .tee = tee};
}

static int prepare_wire(struct wire *wire)
{
    size_t count = (wire->a[0] != '\0') + (wire->b[0] != '\0');
    for (size_t i = 0; i < wire->tee_count; i++)
        count += (wire->tees[i].port.port[0] != '\0') + (wire->tees[i].out_port.port[0] != '\0');
    wire->use_count = 0;
    free(wire->uses);
    wire->uses = NULL;
    if (count == 0)
        return 0;
    wire->uses = calloc(count, sizeof(*wire->uses));
    if (wire->uses == NULL)
        return -ENOMEM;
    add_use(wire, USE_WIRE_A, NULL, wire->object.network, wire->a);
    add_use(wire, USE_WIRE_B, NULL, wire->object.network, wire->b);
    for (size_t i = 0; i < wire->tee_count; i++) {
        const struct tee *tee = &wire->tees[i];
        add_use(wire, USE_TEE_PORT, tee, tee->port.network, tee->port.port);
        add_use(wire, USE_TEE_OUT_PORT, tee, tee->out_port.network, tee->out_port.port);
    }
    return 0;
}

int model_prepare_version(struct object *object)
{
    if (object->kind == OBJECT_WIRE)
        return prepare_wire((struct wire *)object);
    if (object->kind == OBJECT_VIF) {
        struct vif *vif = (struct vif *)object;
        free(vif->target_key);
        vif->target_key = NULL;
        if (vif->target != NULL) {
            vif->target_key = make_target_key(vif->kind, vif->target);
            if (vif->target_key == NULL)
                return -ENOMEM;
        }
    } else if (object->kind == OBJECT_PORT) {
        struct port *port = (struct port *)object;
        port->use =
            (struct use){.network = "", .name = port->vif, .as = USE_PORT_VIF, .vlan = port->vlan, .user = object};
    }
    return 0;
}

void model_link_version(struct model *model, struct object *object)
{
    RB_INSERT(object_tree, &model->objects[object->kind], object);
    model->counts[object->kind]++;
    if (object->kind == OBJECT_WIRE) {
        struct wire *wire = (struct wire *)object;
        for (size_t i = 0; i < wire->use_count; i++)
            RB_INSERT(use_tree, &model->port_uses, &wire->uses[i]);
    } else if (object->kind == OBJECT_PORT) {
        struct port *port = (struct port *)object;
        if (port->vif[0] != '\0')
            RB_INSERT(use_tree, &model->vif_uses, &port->use);
    } else if (object->kind == OBJECT_VIF) {
        struct vif *vif = (struct vif *)object;
        model->vif_counts[vif->kind]++;
        if (vif->target_key != NULL)
            RB_INSERT(target_tree, &model->targets, vif);
    }
}

void model_unlink_version(struct model *model, struct object *object)
{
    RB_REMOVE(object_tree, &model->objects[object->kind], object);
    model->counts[object->kind]--;
    if (object->kind == OBJECT_WIRE) {
        struct wire *wire = (struct wire *)object;
        for (size_t i = 0; i < wire->use_count; i++)
            RB_REMOVE(use_tree, &model->port_uses, &wire->uses[i]);
    } else if (object->kind == OBJECT_PORT) {
        struct port *port = (struct port *)object;
        if (port->vif[0] != '\0')
            RB_REMOVE(use_tree, &model->vif_uses, &port->use);
    } else if (object->kind == OBJECT_VIF) {
        struct vif *vif = (struct vif *)object;
        model->vif_counts[vif->kind]--;
        if (vif->target_key != NULL)
            RB_REMOVE(target_tree, &model->targets, vif);
    }
}

int model_insert(struct model *model, struct object *object)
{
    if (model_find(model, object->kind, object->network, object->name) != NULL)
        return -EEXIST;
    int ret = model_prepare_version(object);
    if (ret != 0)
        return ret;
    if (object->kind == OBJECT_VIF && ((struct vif *)object)->slot == VIF_SLOT_NONE) {
        vif_slot slot = model_slot_take(model);
        if (slot == VIF_SLOT_NONE)
            return -ENOSPC;
        ((struct vif *)object)->slot = slot;
    }
    model_link_version(model, object);
    return 0;
}

// ---- looking things up ----

static void init_probe(struct object *probe, const char *network, const char *name)
{
    probe->network[0] = '\0';
    probe->name[0] = '\0';
    strlcpy(probe->network, network != NULL ? network : "", sizeof(probe->network));
    strlcpy(probe->name, name != NULL ? name : "", sizeof(probe->name));
}

// Longer than any name that is in the model: cut short it might be found by mistake.
static bool is_too_long(const char *name)
{
    return name != NULL && strnlen(name, LIMIT_NAME_LEN + 1) > LIMIT_NAME_LEN;
}

const struct object *model_find(const struct model *model, enum object_kind kind, const char *network, const char *name)
{
    if (is_too_long(network) || is_too_long(name))
        return NULL;
    struct object probe;
    init_probe(&probe, network, name);
    return RB_FIND(object_tree, (struct object_tree *)&model->objects[kind], &probe);
}

const struct network *model_find_network(const struct model *model, const char *name)
{
    return (const struct network *)model_find(model, OBJECT_NETWORK, "", name);
}

const struct vif *model_find_vif(const struct model *model, const char *name)
{
    return (const struct vif *)model_find(model, OBJECT_VIF, "", name);
}

const struct port *model_find_port(const struct model *model, const char *network, const char *name)
{
    return (const struct port *)model_find(model, OBJECT_PORT, network, name);
}

const struct wire *model_find_wire(const struct model *model, const char *network, const char *name)
{
    return (const struct wire *)model_find(model, OBJECT_WIRE, network, name);
}

const struct object *model_first(const struct model *model, enum object_kind kind, const char *network,
                                 const char *name, bool after)
{
    struct object_tree *tree = (struct object_tree *)&model->objects[kind];
    if (network == NULL)
        return RB_MIN(object_tree, tree);
    if (is_too_long(network))
        return NULL;
    // A longer name than can be is cut: what comes after it also comes after its beginning, unless that itself is one.
    struct object probe;
    init_probe(&probe, network, name);
    const struct object *object = RB_NFIND(object_tree, tree, &probe);
    if (object != NULL && name != NULL && (after || is_too_long(name)) && compare_objects(object, &probe) == 0)
        object = model_next(object);
    return object != NULL && strcmp(object->network, network) == 0 ? object : NULL;
}

const struct object *model_next(const struct object *object)
{
    return RB_NEXT(object_tree, NULL, (struct object *)object);
}

const struct object *model_after(const struct model *model, enum object_kind kind, const char *network,
                                 const char *name)
{
    struct object_tree *tree = (struct object_tree *)&model->objects[kind];
    struct object probe;
    init_probe(&probe, network, name);
    const struct object *object = RB_NFIND(object_tree, tree, &probe);
    return object != NULL && compare_objects(object, &probe) == 0 ? model_next(object) : object;
}

const struct object *model_prev(const struct object *object)
{
    return RB_PREV(object_tree, NULL, (struct object *)object);
}

const struct object *model_next_in(const struct object *object)
{
    const struct object *next = model_next(object);
    return next != NULL && strcmp(next->network, object->network) == 0 ? next : NULL;
}

size_t model_count(const struct model *model, enum object_kind kind)
{
    return model->counts[kind];
}

size_t model_count_in(const struct model *model, enum object_kind kind, const char *network)
{
    size_t count = 0;
    for (const struct object *o = model_first(model, kind, network, "", false); o != NULL; o = model_next_in(o))
        count++;
    return count;
}

size_t model_count_vifs(const struct model *model, enum vif_kind kind)
{
    return model->vif_counts[kind];
}

const struct use *model_first_use(const struct model *model, enum object_kind kind, const char *network,
                                  const char *name)
{
    struct use_tree *tree = (struct use_tree *)(kind == OBJECT_PORT ? &model->port_uses : &model->vif_uses);
    struct use probe = {.network = network != NULL ? network : "", .name = name};
    const struct use *use = RB_NFIND(use_tree, tree, &probe);
    return use != NULL && strcmp(use->network, probe.network) == 0 && strcmp(use->name, name) == 0 ? use : NULL;
}

const struct use *model_first_use_of_vlan(const struct model *model, const char *vif, uint16_t vlan)
{
    struct use probe = {.network = "", .name = vif, .vlan = vlan};
    const struct use *use = RB_NFIND(use_tree, (struct use_tree *)&model->vif_uses, &probe);
    return use != NULL && strcmp(use->name, vif) == 0 && use->vlan == vlan ? use : NULL;
}

const struct use *model_next_use(const struct use *use)
{
    const struct use *next = RB_NEXT(use_tree, NULL, (struct use *)use);
    return next != NULL && strcmp(next->network, use->network) == 0 && strcmp(next->name, use->name) == 0 ? next : NULL;
}

// ---- vif slots ----

vif_slot model_slot_take(struct model *model)
{
    for (size_t word = model->slot_hint; word < SLOT_WORDS; word++) {
        model->slot_hint = word;
        if (model->slots[word] == UINT64_MAX)
            continue;
        vif_slot slot = (vif_slot)(word * 64) + (vif_slot)__builtin_ctzll(~model->slots[word]);
        if (slot >= LIMIT_VIFS)
            break;
        model->slots[word] |= UINT64_C(1) << (slot % 64);
        model->slot_count++;
        return slot;
    }
    return VIF_SLOT_NONE;
}

void model_slot_release(struct model *model, vif_slot slot)
{
    uint64_t bit = UINT64_C(1) << (slot % 64);
    if (slot >= LIMIT_VIFS || (model->slots[slot / 64] & bit) == 0)
        return;
    model->slots[slot / 64] &= ~bit;
    model->slot_count--;
    if (slot / 64 < model->slot_hint)
        model->slot_hint = slot / 64;
}

size_t model_slots_taken(const struct model *model)
{
    return model->slot_count;
}
