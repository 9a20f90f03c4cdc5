// SPDX-License-Identifier: BSD-3-Clause
#include "model_check.h"

#include "control/check.h"
#include "control/compile.h"
#include "control/request.h"

#include <string.h>

static void check_forms(const struct object *object)
{
    json_t *shown = request_encode(object), *stored = request_encode_stored(object);
    struct error error;
    struct object *again;
    char *text;

    must(shown != NULL && stored != NULL);
    text = json_dumps(shown, JSON_COMPACT);
    must(text != NULL);
    json_decref(shown);
    shown = request_parse(text, strlen(text), &error);
    free(text);
    must(shown != NULL);
    again = request_decode(object->kind, object->network, object->name, shown, &error);
    must(again != NULL);
    // The API doesn't show when_ready, so a T that waits for its arms is the store's alone to give back.
    for (size_t i = 0; object->kind == OBJECT_WIRE && i < ((struct wire *)again)->tee_count; i++)
        ((struct wire *)again)->tees[i].when_ready = ((const struct wire *)object)->tees[i].when_ready;
    must(object_equal(again, object));
    object_destroy(again);
    again = request_decode_stored(object->kind, object->network, object->name, stored, &error);
    must(again != NULL && object_equal(again, object));
    object_destroy(again);
    json_decref(shown);
    json_decref(stored);
}

static void check_wire(const struct model *model, const struct wire *wire)
{
    static struct compiled_wire compiled;

    must(wire->a[0] == '\0' || model_find_port(model, wire->object.network, wire->a) != NULL);
    must(wire->b[0] == '\0' || model_find_port(model, wire->object.network, wire->b) != NULL);
    for (size_t i = 0; i < wire->tee_count; i++) {
        const struct tee *tee = &wire->tees[i];

        must(tee->port.port[0] == '\0' || model_find_port(model, tee->port.network, tee->port.port) != NULL);
        must(tee->out_port.port[0] == '\0' ||
             model_find_port(model, tee->out_port.network, tee->out_port.port) != NULL);
    }
    compile_wire(model, wire, NULL, &compiled);
    must(compiled.leg_count <= COMPILE_LEGS_MAX && compiled.monitor_count <= COMPILE_MONITORS_MAX);
    for (size_t i = 0; i < compiled.leg_count; i++) {
        const struct hop_program *program = &compiled.legs[i].program;

        must(program->step_count > 0 && program->step_count <= HOP_STEPS_MAX);
        must(program->steps[program->step_count - 1].kind == HOP_END ||
             program->steps[program->step_count - 1].kind == HOP_DROP);
    }
}

void model_check(const struct model *model)
{
    for (size_t kind = 0; kind < OBJECT_KIND_COUNT; kind++) {
        const struct object *object = model_first(model, (enum object_kind)kind, NULL, "", false);

        for (; object != NULL; object = model_next(object)) {
            must(model_find(model, object->kind, object->network, object->name) == object);
            check_forms(object);
            must(kind >= OBJECT_PORT ? model_find_network(model, object->network) != NULL : object->network[0] == '\0');
            if (kind == OBJECT_PORT && ((const struct port *)object)->vif[0] != '\0')
                must(model_find_vif(model, ((const struct port *)object)->vif) != NULL);
            if (kind == OBJECT_WIRE)
                check_wire(model, (const struct wire *)object);
        }
    }
}
