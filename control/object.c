// SPDX-License-Identifier: BSD-3-Clause
// Versions of objects, by themselves: made, copied, compared, freed. The model
// that holds them is in model.c.

#include "model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static const char *const kind_names[OBJECT_KIND_COUNT] = {"network", "vif", "port", "wire"};
static const size_t kind_sizes[OBJECT_KIND_COUNT] = {sizeof(struct network), sizeof(struct vif), sizeof(struct port),
                                                     sizeof(struct wire)};

const char *const vif_kind_names[] = {[VIF_VHOST] = "vhost",
                                      [VIF_VHOST_SERVER] = "vhost-server",
                                      [VIF_DEV] = "dev",
                                      [VIF_KERNEL_NEW] = "kernel-new",
                                      [VIF_NONE] = "none"};
const char *const tee_mode_names[] = {[TEE_OFF] = "off", [TEE_TAP] = "tap", [TEE_BUMP] = "bump"};

const char *vif_target_field(enum vif_kind kind)
{
    static const char *const fields[VIF_KIND_COUNT] = {
        [VIF_VHOST] = "path", [VIF_VHOST_SERVER] = "path", [VIF_DEV] = "devargs", [VIF_KERNEL_NEW] = "interface"};
    return fields[kind];
}

const char *object_kind_name(enum object_kind kind)
{
    return kind_names[kind];
}

void object_make_uid(char uid[static 37])
{
    unsigned char random[16];
    // 16 bytes are never cut short nor interrupted once the kernel's pool is ready; before it is, the call waits.
    while (getrandom(random, sizeof(random), 0) != (ssize_t)sizeof(random))
        ;
    random[6] = (unsigned char)((random[6] & 0x0f) | 0x40); // version 4, RFC 9562 section 5.4
    random[8] = (unsigned char)((random[8] & 0x3f) | 0x80); // variant
    static const char digits[] = "0123456789abcdef";
    char *out = uid;
    for (size_t i = 0; i < sizeof(random); i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *out++ = '-';
        *out++ = digits[random[i] >> 4];
        *out++ = digits[random[i] & 0x0f];
    }
    *out = '\0';
}

bool object_uid_valid(const char *uid)
{
    static const char form[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    size_t i = 0;
    for (; form[i] != '\0'; i++) {
        if (form[i] == '-' ? uid[i] != '-' : uid[i] == '\0' || strchr("0123456789abcdef", uid[i]) == NULL)
            return false;
    }
    return uid[i] == '\0';
}

static void init_header(struct object *object, enum object_kind kind, const char *network, const char *name)
{
    object->kind = kind;
    strlcpy(object->network, network != NULL ? network : "", sizeof(object->network));
    strlcpy(object->name, name, sizeof(object->name));
    object_make_uid(object->uid);
}

struct object *object_create(enum object_kind kind, const char *network, const char *name)
{
    struct object *object = calloc(1, kind_sizes[kind]);
    if (object == NULL)
        return NULL;
    init_header(object, kind, network, name);
    if (kind == OBJECT_VIF) {
        ((struct vif *)object)->slot = VIF_SLOT_NONE;
    } else if (kind == OBJECT_WIRE) {
        ((struct wire *)object)->stall_ms = DEFAULT_STALL_MS;
    }
    return object;
}

static void free_labels(struct object *object)
{
    for (size_t i = 0; i < object->label_count; i++)
        free(object->labels[i].value);
    free(object->labels);
    object->labels = NULL;
    object->label_count = 0;
}

void object_destroy(struct object *object)
{
    if (object == NULL)
        return;
    if (object->held > 0) {
        object->held--;
        return;
    }
    free_labels(object);
    if (object->kind == OBJECT_VIF) {
        struct vif *vif = (struct vif *)object;
        free(vif->target);
        free(vif->owner);
        free(vif->target_key);
    } else if (object->kind == OBJECT_WIRE) {
        struct wire *wire = (struct wire *)object;
        for (size_t i = 0; i < wire->tee_count; i++)
            free_labels(&wire->tees[i].object);
        free(wire->tees);
        free(wire->uses);
    }
    free(object);
}

struct object *object_hold(const struct object *object)
{
    struct object *held = (struct object *)object;

    held->held++;
    return held;
}

// Replaces the borrowed labels of a flat copy by own ones. On failure the copy has those that it got.
static int clone_labels(struct object *copy)
{
    const struct label *from = copy->labels;
    size_t count = copy->label_count;
    copy->labels = NULL;
    copy->label_count = 0;
    if (count == 0)
        return 0;
    copy->labels = calloc(count, sizeof(*copy->labels));
    if (copy->labels == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        copy->labels[i] = from[i];
        copy->labels[i].value = strdup(from[i].value);
        if (copy->labels[i].value == NULL)
            return -ENOMEM;
        copy->label_count++;
    }
    return 0;
}

static int clone_string(char **string)
{
    if (*string == NULL)
        return 0;
    *string = strdup(*string);
    return *string != NULL ? 0 : -ENOMEM;
}

static int clone_wire(struct wire *copy, const struct wire *wire)
{
    copy->uses = NULL;
    copy->use_count = 0;
    copy->tees = NULL;
    copy->tee_count = 0;
    if (wire->tee_count == 0)
        return 0;
    copy->tees = malloc(wire->tee_count * sizeof(*copy->tees));
    if (copy->tees == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < wire->tee_count; i++) {
        copy->tees[i] = wire->tees[i];
        copy->tee_count++;
        if (clone_labels(&copy->tees[i].object) != 0)
            return -ENOMEM;
    }
    return 0;
}

struct object *object_clone(const struct object *object)
{
    struct object *copy = malloc(kind_sizes[object->kind]);
    if (copy == NULL)
        return NULL;
    memcpy(copy, object, kind_sizes[object->kind]);
    memset(&copy->node, 0, sizeof(copy->node));
    copy->held = 0;
    // Whatever fails below, the copy owns all that it still points to and may be destroyed.
    int ret = clone_labels(copy);
    if (copy->kind == OBJECT_VIF) {
        struct vif *vif = (struct vif *)copy;
        vif->target_key = NULL;
        int target = clone_string(&vif->target);
        int owner = clone_string(&vif->owner);
        ret = ret != 0 ? ret : target != 0 ? target : owner;
    } else if (copy->kind == OBJECT_WIRE) {
        int tees = clone_wire((struct wire *)copy, (const struct wire *)object);
        ret = ret != 0 ? ret : tees;
    }
    if (ret != 0) {
        object_destroy(copy);
        return NULL;
    }
    return copy;
}

static bool strings_equal(const char *one, const char *other)
{
    return one == NULL || other == NULL ? one == other : strcmp(one, other) == 0;
}

static bool labels_equal(const struct object *one, const struct object *other)
{
    if (one->label_count != other->label_count)
        return false;
    for (size_t i = 0; i < one->label_count; i++) {
        if (strcmp(one->labels[i].key, other->labels[i].key) != 0 ||
            strcmp(one->labels[i].value, other->labels[i].value) != 0)
            return false;
    }
    return true;
}

static bool refs_equal(const struct port_ref *one, const struct port_ref *other)
{
    return strcmp(one->network, other->network) == 0 && strcmp(one->port, other->port) == 0;
}

static bool tees_equal(const struct tee *one, const struct tee *other)
{
    return strcmp(one->object.name, other->object.name) == 0 && labels_equal(&one->object, &other->object) &&
           refs_equal(&one->port, &other->port) && refs_equal(&one->out_port, &other->out_port) &&
           one->mode == other->mode && one->direction == other->direction && one->on_failure == other->on_failure &&
           one->stall_ms == other->stall_ms && one->when_ready == other->when_ready;
}

static bool wires_equal(const struct wire *one, const struct wire *other)
{
    if (strcmp(one->a, other->a) != 0 || strcmp(one->b, other->b) != 0 || one->admin != other->admin ||
        one->on_full != other->on_full || one->stall_ms != other->stall_ms || one->tee_count != other->tee_count)
        return false;
    for (size_t i = 0; i < one->tee_count; i++) {
        if (!tees_equal(&one->tees[i], &other->tees[i]))
            return false;
    }
    return true;
}

bool object_equal(const struct object *one, const struct object *other)
{
    if (one->kind != other->kind || strcmp(one->network, other->network) != 0 || strcmp(one->name, other->name) != 0 ||
        !labels_equal(one, other))
        return false;
    switch (one->kind) {
    case OBJECT_VIF: {
        const struct vif *v = (const struct vif *)one;
        const struct vif *w = (const struct vif *)other;
        return v->kind == w->kind && strings_equal(v->target, w->target) && strings_equal(v->owner, w->owner) &&
               v->pin == w->pin && v->admin == w->admin && v->mtu == w->mtu;
    }
    case OBJECT_PORT: {
        const struct port *p = (const struct port *)one;
        const struct port *q = (const struct port *)other;
        return strcmp(p->vif, q->vif) == 0 && p->vlan == q->vlan && p->admin == q->admin &&
               port_rates_equal(&p->ingress, &q->ingress) && port_rates_equal(&p->egress, &q->egress);
    }
    case OBJECT_WIRE:
        return wires_equal((const struct wire *)one, (const struct wire *)other);
    default:
        return true;
    }
}

int object_set_label(struct object *object, const char *key, const char *value)
{
    size_t i = 0;
    int order = 1;
    while (i < object->label_count && (order = strcmp(object->labels[i].key, key)) < 0)
        i++;
    bool found = i < object->label_count && order == 0;
    if (value == NULL) {
        if (found) {
            free(object->labels[i].value);
            object->label_count--;
            memmove(&object->labels[i], &object->labels[i + 1], (object->label_count - i) * sizeof(*object->labels));
        }
        return 0;
    }
    if (!found && object->label_count >= LIMIT_LABELS)
        return -ENOSPC;
    char *copy = strdup(value);
    if (copy == NULL)
        return -ENOMEM;
    if (found) {
        free(object->labels[i].value);
        object->labels[i].value = copy;
        return 0;
    }
    struct label *labels = reallocarray(object->labels, object->label_count + 1, sizeof(*labels));
    if (labels == NULL) {
        free(copy);
        return -ENOMEM;
    }
    object->labels = labels;
    memmove(&labels[i + 1], &labels[i], (object->label_count - i) * sizeof(*labels));
    // The rest of the array is compared and copied by value, so no byte may be left undefined.
    memset(&labels[i], 0, sizeof(labels[i]));
    strlcpy(labels[i].key, key, sizeof(labels[i].key));
    labels[i].value = copy;
    object->label_count++;
    return 0;
}

void object_clear_labels(struct object *object)
{
    free_labels(object);
}

struct tee *wire_insert_tee(struct wire *wire, size_t position, const char *name)
{
    if (wire->tee_count >= LIMIT_TEES || position > wire->tee_count) {
        errno = ENOSPC;
        return NULL;
    }
    struct tee *tees = reallocarray(wire->tees, wire->tee_count + 1, sizeof(*tees));
    if (tees == NULL) {
        errno = ENOMEM;
        return NULL;
    }
    wire->tees = tees;
    struct tee *tee = &tees[position];
    memmove(tee + 1, tee, (wire->tee_count - position) * sizeof(*tee));
    memset(tee, 0, sizeof(*tee));
    init_header(&tee->object, OBJECT_WIRE, wire->object.network, name);
    tee->mode = TEE_TAP;
    tee->stall_ms = DEFAULT_BUMP_STALL_MS;
    wire->tee_count++;
    return tee;
}

void wire_remove_tee(struct wire *wire, size_t position)
{
    struct tee *tee = &wire->tees[position];
    free_labels(&tee->object);
    wire->tee_count--;
    memmove(tee, tee + 1, (wire->tee_count - position) * sizeof(*tee));
}

void wire_move_tee(struct wire *wire, size_t from, size_t to)
{
    struct tee moved = wire->tees[from];
    if (from < to) {
        memmove(&wire->tees[from], &wire->tees[from + 1], (to - from) * sizeof(moved));
    } else {
        memmove(&wire->tees[to + 1], &wire->tees[to], (from - to) * sizeof(moved));
    }
    wire->tees[to] = moved;
}

int wire_find_tee(const struct wire *wire, const char *name)
{
    for (size_t i = 0; i < wire->tee_count; i++) {
        if (strcmp(wire->tees[i].object.name, name) == 0)
            return (int)i;
    }
    return -1;
}
