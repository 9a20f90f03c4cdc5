// SPDX-License-Identifier: BSD-3-Clause
#include "change.h"
#include "check.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct change_options default_options = CHANGE_OPTIONS_DEFAULT;

static int refuse_no_memory(struct error *error)
{
    return error_set(error, PATCHBAY_ERROR_UNAVAILABLE, NULL, "out of memory; nothing was changed, try again");
}

// Takes back what an operation did that failed half-way, and leaves what its step did before.
static void undo_operation(struct model_change *change, const struct model_change *before)
{
    model_undo(change, (struct model_mark){.record_count = before->record_count, .generation = before->generation});
    change->step_fresh = before->step_fresh;
}

// ---- put ----

static void inherit_tees(struct wire *next, const struct wire *old, const struct change_options *options)
{
    for (size_t i = 0; i < next->tee_count; i++) {
        struct tee *tee = &next->tees[i];
        int position = old != NULL ? wire_find_tee(old, tee->object.name) : -1;
        const struct tee *was = position >= 0 ? &old->tees[position] : NULL;
        if (was != NULL)
            memcpy(tee->object.uid, was->object.uid, sizeof(tee->object.uid));
        // A body says `off` of a T that waits, so that GET | PUT keeps it waiting; only another mode ends that, or
        // being told so.
        tee->when_ready = tee->mode == TEE_OFF && was != NULL && was->when_ready && options->when_ready != 0;
    }
}

// What belongs to the incarnation and not to its configuration.
static void inherit(struct object *next, const struct object *old, const struct change_options *options)
{
    if (old != NULL) {
        memcpy(next->uid, old->uid, sizeof(next->uid));
        if (next->kind == OBJECT_VIF)
            ((struct vif *)next)->slot = ((const struct vif *)old)->slot;
    }
    if (next->kind == OBJECT_WIRE)
        inherit_tees((struct wire *)next, (const struct wire *)old, options);
}

static bool refs_equal(const struct port_ref *one, const struct port_ref *other)
{
    return strcmp(one->port, other->port) == 0 && strcmp(one->network, other->network) == 0;
}

// Would frames that pass now go into this bump after the change?
static bool is_entering(const struct tee *tee, const struct wire *old)
{
    if (tee->mode != TEE_BUMP || tee->on_failure != FAIL_CLOSED)
        return false;
    int position = wire_find_tee(old, tee->object.name);
    if (position < 0)
        return true;
    const struct tee *was = &old->tees[position];
    return was->mode != TEE_BUMP || was->on_failure != FAIL_CLOSED || !refs_equal(&was->port, &tee->port) ||
           !refs_equal(&was->out_port, &tee->out_port);
}

// NULL if the arm is up; else why it isn't.
static const char *why_arm_is_down(const struct model *model, const struct port_ref *ref,
                                   const struct change_options *options)
{
    const struct port *port = model_find_port(model, ref->network, ref->port);
    if (port == NULL || port->vif[0] == '\0')
        return "has no vif";
    const struct vif *vif = model_find_vif(model, port->vif);
    if (port->admin == ADMIN_DOWN || (vif != NULL && vif->admin == ADMIN_DOWN))
        return "is administratively down";
    return vif != NULL && options->vif_is_up(options->context, vif) ? NULL : "isn't up";
}

static int check_bumps(const struct model *model, struct wire *next, const struct wire *old,
                       const struct change_options *options, struct error *error)
{
    if (options->vif_is_up == NULL || (old == NULL && options->when_ready != 1))
        return 0;
    for (size_t i = 0; i < next->tee_count; i++) {
        struct tee *tee = &next->tees[i];
        if (old != NULL ? !is_entering(tee, old) : tee->mode != TEE_BUMP || tee->on_failure != FAIL_CLOSED)
            continue;
        const char *field = "port";
        const struct port_ref *ref = &tee->port;
        const char *why = why_arm_is_down(model, ref, options);
        if (why == NULL) {
            field = "out_port";
            ref = &tee->out_port;
            why = why_arm_is_down(model, ref, options);
        }
        if (why == NULL)
            continue;
        if (options->when_ready == 1) {
            tee->mode = TEE_OFF;
            tee->when_ready = true;
        } else if (!options->force) {
            char path[48];
            snprintf(path, sizeof(path), "tees[%zu].%s", i, field);
            return error_set(
                error, PATCHBAY_ERROR_BUMP_DOWN, path,
                "T \"%s\" would cut wire \"%s\": its %s \"%s/%s\" %s and on_failure is closed; bring the arm up "
                "first, set on_failure to open, or ask for ?when_ready=1 or ?force=1",
                tee->object.name, next->object.name, field, ref->network, ref->port, why);
        }
    }
    return 0;
}

static int give_slot(struct model *model, struct vif *vif, const struct change_options *options, struct error *error)
{
    vif->slot = options->slot != VIF_SLOT_NONE ? options->slot : model_slot_take(model);
    if (vif->slot != VIF_SLOT_NONE)
        return 0;
    return error_set(
        error, PATCHBAY_ERROR_LIMIT_REACHED, NULL,
        "all %d places for vifs are taken (LIMIT_VIFS); if one was just deleted, try again when it is gone",
        LIMIT_VIFS);
}

static int put_version(struct model_change *change, struct object *next, const struct change_options *options,
                       bool checked, struct error *error)
{
    struct model *model = change->model;
    if (options == NULL)
        options = &default_options;
    error_clear(error);

    const struct object *old = model_find(model, next->kind, next->network, next->name);
    inherit(next, old, options);
    int ret = checked ? check_put(model, old, next, error) : 0;
    if (ret == 0 && next->kind == OBJECT_WIRE)
        ret = check_bumps(model, (struct wire *)next, (const struct wire *)old, options, error);
    if (ret == 0 && old != NULL && object_equal(old, next)) {
        object_destroy(next);
        return CHANGE_SAME;
    }
    if (ret == 0 && old == NULL && next->kind == OBJECT_VIF)
        ret = give_slot(model, (struct vif *)next, options, error);
    if (ret != 0) {
        object_destroy(next);
        return ret;
    }
    bool took_slot = old == NULL && next->kind == OBJECT_VIF && options->slot == VIF_SLOT_NONE;
    vif_slot slot = took_slot ? ((struct vif *)next)->slot : VIF_SLOT_NONE;
    if (model_put(change, next) != 0) {
        if (took_slot)
            model_slot_release(model, slot);
        return refuse_no_memory(error);
    }
    return old != NULL ? CHANGE_UPDATED : CHANGE_CREATED;
}

int change_put(struct model_change *change, struct object *next, const struct change_options *options,
               struct error *error)
{
    return put_version(change, next, options, true, error);
}

int change_put_unchecked(struct model_change *change, struct object *next, const struct change_options *options,
                         struct error *error)
{
    return put_version(change, next, options, false, error);
}

// ---- delete ----

static int detach_vif(struct model_change *change, const char *name)
{
    const struct use *use;
    while ((use = model_first_use(change->model, OBJECT_VIF, "", name)) != NULL) {
        struct port *port = (struct port *)object_clone(use->user);
        if (port == NULL)
            return -ENOMEM;
        port->vif[0] = '\0';
        int ret = model_put(change, &port->object);
        if (ret != 0)
            return ret;
    }
    return 0;
}

static bool detach_ref(struct port_ref *ref, const char *network, const char *port)
{
    if (strcmp(ref->port, port) != 0 || strcmp(ref->network, network) != 0)
        return false;
    memset(ref, 0, sizeof(*ref));
    return true;
}

static int detach_port(struct model_change *change, const char *network, const char *name)
{
    const struct use *use;
    while ((use = model_first_use(change->model, OBJECT_PORT, network, name)) != NULL) {
        struct wire *wire = (struct wire *)object_clone(use->user);
        if (wire == NULL)
            return -ENOMEM;
        if (strcmp(wire->object.network, network) == 0) {
            if (strcmp(wire->a, name) == 0)
                memset(wire->a, 0, sizeof(wire->a));
            if (strcmp(wire->b, name) == 0)
                memset(wire->b, 0, sizeof(wire->b));
        }
        for (size_t i = 0; i < wire->tee_count; i++) {
            struct tee *tee = &wire->tees[i];
            bool port = detach_ref(&tee->port, network, name);
            bool out_port = detach_ref(&tee->out_port, network, name);
            if (port || out_port) {
                tee->mode = TEE_OFF;
                tee->when_ready = false;
            }
        }
        int ret = model_put(change, &wire->object);
        if (ret != 0)
            return ret;
    }
    return 0;
}

int change_delete(struct model_change *change, enum object_kind kind, const char *network, const char *name,
                  const struct change_options *options, struct error *error)
{
    if (options == NULL)
        options = &default_options;
    const struct object *object = check_find(change->model, kind, network, name, error);
    if (object == NULL)
        return -EINVAL;
    struct model_change before = *change;
    int ret = 0;
    if (options->detach && kind == OBJECT_VIF) {
        ret = detach_vif(change, object->name);
    } else if (options->detach && kind == OBJECT_PORT) {
        ret = detach_port(change, object->network, object->name);
    }
    if (ret == 0) {
        ret = check_delete(change->model, object, error);
        if (ret == 0)
            ret = model_remove(change, kind, object->network, object->name);
    }
    if (ret == 0)
        return 0;
    undo_operation(change, &before);
    return ret == -EINVAL ? ret : refuse_no_memory(error);
}

// ---- Ts ----

int change_put_tee(struct model_change *change, struct wire *next, const char *tee,
                   const struct change_options *options, struct error *error)
{
    const struct wire *old = model_find_wire(change->model, next->object.network, next->object.name);
    bool is_new = old == NULL || wire_find_tee(old, tee) < 0;
    char prefix[sizeof("tees[16].") + 8];
    snprintf(prefix, sizeof(prefix), "tees[%d].", wire_find_tee(next, tee));
    int ret = change_put(change, &next->object, options, error);
    if (ret < 0)
        error_strip(error, prefix);
    return ret == CHANGE_UPDATED && is_new ? CHANGE_CREATED : ret;
}

// A clone of the wire in which the T's position is then known. NULL with the error filled.
static struct wire *open_tee(const struct model *model, const char *network, const char *wire, const char *tee,
                             int *position, struct error *error)
{
    const struct object *old = check_find(model, OBJECT_WIRE, network, wire, error);
    if (old == NULL)
        return NULL;
    *position = check_find_tee((const struct wire *)old, tee, error);
    if (*position < 0)
        return NULL;
    struct object *next = object_clone(old);
    if (next == NULL)
        refuse_no_memory(error);
    return (struct wire *)next;
}

int change_delete_tee(struct model_change *change, const char *network, const char *wire, const char *tee,
                      const struct change_options *options, struct error *error)
{
    int position;
    struct wire *next = open_tee(change->model, network, wire, tee, &position, error);
    if (next == NULL)
        return -EINVAL;
    wire_remove_tee(next, (size_t)position);
    int ret = change_put(change, &next->object, options, error);
    return ret < 0 ? ret : 0;
}

int change_promote(struct model_change *change, const char *network, const char *wire, const char *tee,
                   struct error *error)
{
    int position;
    struct wire *next = open_tee(change->model, network, wire, tee, &position, error);
    if (next == NULL)
        return -EINVAL;
    struct tee *waiting = &next->tees[position];
    if (!waiting->when_ready) {
        object_destroy(&next->object);
        return error_set(error, PATCHBAY_ERROR_BAD_VALUE, "mode", "T \"%s\" of wire \"%s\" isn't waiting for its arms",
                         tee, wire);
    }
    waiting->mode = TEE_BUMP;
    int ret = change_put(change, &next->object, NULL, error);
    return ret < 0 ? ret : 0;
}
