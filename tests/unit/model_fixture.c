// SPDX-License-Identifier: BSD-3-Clause
#include "model_fixture.h"
#include "control/request.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t rng_next(struct rng *rng)
{
    uint64_t z = (rng->state += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

unsigned rng_below(struct rng *rng, unsigned limit)
{
    return (unsigned)(rng_next(rng) % limit);
}

void fixture_open(struct fixture *fixture)
{
    fixture->model = model_create();
    assert_non_null(fixture->model);
    model_begin(fixture->model, &fixture->change);
    model_step(&fixture->change);
    assert_int_equal(model_add_default(&fixture->change), 0);
    fixture_commit(fixture);
}

void fixture_close(struct fixture *fixture)
{
    model_rollback(&fixture->change);
    model_destroy(fixture->model);
}

void fixture_commit(struct fixture *fixture)
{
    model_commit(&fixture->change);
    model_begin(fixture->model, &fixture->change);
}

struct path {
    enum object_kind kind;
    char network[80];
    char name[80];
    char tee[80];
};

static struct path parse_path(const char *text)
{
    struct path path = {.kind = OBJECT_WIRE};
    char kind[16] = "";
    if (strncmp(text, "vifs/", 5) == 0 || strncmp(text, "networks/", 9) == 0) {
        assert_int_equal(sscanf(text, "%15[^/]/%79s", kind, path.name), 2);
        path.kind = kind[0] == 'v' ? OBJECT_VIF : OBJECT_NETWORK;
        return path;
    }
    int count = sscanf(text, "%15[^/]/%79[^/]/%79[^/]/%79s", kind, path.network, path.name, path.tee);
    assert_in_range(count, 3, 4);
    if (strcmp(kind, "ports") == 0)
        path.kind = OBJECT_PORT;
    return path;
}

static json_t *parse_json(const char *json, struct error *error)
{
    char *text = strdup(json);
    assert_non_null(text);
    for (char *c = text; *c != '\0'; c++) {
        if (*c == '\'')
            *c = '"';
    }
    json_t *body = request_parse(text, strlen(text), error);
    free(text);
    return body;
}

static int change_body(struct fixture *fixture, const char *where, const char *json, bool patch,
                       const struct change_options *options, struct error *error)
{
    struct path path = parse_path(where);
    struct model_mark mark = model_step(&fixture->change);
    json_t *body = parse_json(json, error);
    if (body == NULL)
        return -EINVAL;
    struct object *next = NULL;
    const struct object *old = model_find(fixture->model, path.kind, path.network, path.name);
    if (path.tee[0] != '\0') {
        assert_non_null(old);
        const struct wire *wire = (const struct wire *)old;
        struct wire *changed =
            patch ? request_patch_tee(wire, path.tee, body, error) : request_decode_tee(wire, path.tee, body, error);
        next = changed != NULL ? &changed->object : NULL;
    } else if (patch) {
        assert_non_null(old);
        next = request_patch(old, body, error);
    } else {
        next = request_decode(path.kind, path.network, path.name, body, error);
    }
    json_decref(body);
    if (next == NULL)
        return -EINVAL;
    int ret = path.tee[0] != '\0' ? change_put_tee(&fixture->change, (struct wire *)next, path.tee, options, error)
                                  : change_put(&fixture->change, next, options, error);
    if (ret < 0)
        model_undo(&fixture->change, mark);
    return ret;
}

int fixture_try_put(struct fixture *fixture, const char *path, const char *json, const struct change_options *options,
                    struct error *error)
{
    return change_body(fixture, path, json, false, options, error);
}

int fixture_try_patch(struct fixture *fixture, const char *path, const char *json, const struct change_options *options,
                      struct error *error)
{
    return change_body(fixture, path, json, true, options, error);
}

int fixture_try_delete(struct fixture *fixture, const char *where, const struct change_options *options,
                       struct error *error)
{
    struct path path = parse_path(where);
    struct model_mark mark = model_step(&fixture->change);
    int ret = path.tee[0] != '\0'
                  ? change_delete_tee(&fixture->change, path.network, path.name, path.tee, options, error)
                  : change_delete(&fixture->change, path.kind, path.network, path.name, options, error);
    if (ret < 0)
        model_undo(&fixture->change, mark);
    return ret;
}

static void must(int ret, const char *path, const struct error *error)
{
    if (ret < 0)
        fail_msg("%s: %s %s: %s", path, error_code_name(error->code), error->field, error->message);
}

void fixture_put(struct fixture *fixture, const char *path, const char *json)
{
    struct error error;
    must(fixture_try_put(fixture, path, json, NULL, &error), path, &error);
}

void fixture_patch(struct fixture *fixture, const char *path, const char *json)
{
    struct error error;
    must(fixture_try_patch(fixture, path, json, NULL, &error), path, &error);
}

void fixture_plug(struct fixture *fixture, const char *name)
{
    char path[160];
    char json[160];
    snprintf(path, sizeof(path), "vifs/%s", name);
    fixture_put(fixture, path, "{'kind':'none'}");
    snprintf(path, sizeof(path), "ports/default/%s", name);
    snprintf(json, sizeof(json), "{'vif':'%s'}", name);
    fixture_put(fixture, path, json);
}

const struct wire *fixture_wire(const struct fixture *fixture, const char *name)
{
    const struct wire *wire = model_find_wire(fixture->model, NETWORK_DEFAULT, name);
    assert_non_null(wire);
    return wire;
}

// ---- looking at all of it ----

static void dump_uses(FILE *out, const struct model *model, const struct object *object)
{
    for (const struct use *use = model_first_use(model, object->kind, object->network, object->name); use != NULL;
         use = model_next_use(use))
        fprintf(out, "  used by %p %s/%s as %d role %d tee %s\n", (const void *)use->user, use->user->network,
                use->user->name, (int)use->as, (int)use->role, use->tee != NULL ? use->tee->object.name : "-");
}

char *fixture_dump(const struct model *model)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    fprintf(out, "generation %llu\n", (unsigned long long)model_generation(model));
    for (enum object_kind kind = OBJECT_NETWORK; kind < OBJECT_KIND_COUNT; kind++) {
        fprintf(out, "%s: %zu\n", object_kind_name(kind), model_count(model, kind));
        for (const struct object *o = model_first(model, kind, NULL, NULL, false); o != NULL; o = model_next(o)) {
            json_t *json = request_encode_stored(o);
            assert_non_null(json);
            char *body = json_dumps(json, JSON_COMPACT);
            fprintf(out, "%p %s/%s %s %llu %s\n", (const void *)o, o->network, o->name, o->uid,
                    (unsigned long long)o->generation, body);
            free(body);
            json_decref(json);
            if (kind == OBJECT_VIF) {
                const struct vif *vif = (const struct vif *)o;
                fprintf(out, "  slot %u\n", (unsigned)vif->slot);
                if (vif->target != NULL)
                    fprintf(out, "  target of %p\n", (const void *)model_find_target(model, vif->kind, vif->target));
            }
            if (kind == OBJECT_VIF || kind == OBJECT_PORT)
                dump_uses(out, model, o);
        }
    }
    for (enum vif_kind kind = VIF_VHOST; kind < VIF_KIND_COUNT; kind++)
        fprintf(out, "vifs of kind %d: %zu\n", (int)kind, model_count_vifs(model, kind));
    assert_int_equal(fclose(out), 0);
    return text;
}

static void expect_use(const struct model *model, enum object_kind kind, const char *network, const char *name,
                       const struct object *user, const struct tee *tee, enum use_as as)
{
    if (name[0] == '\0')
        return;
    for (const struct use *use = model_first_use(model, kind, network, name); use != NULL; use = model_next_use(use)) {
        if (use->user == user && use->tee == tee && use->as == as)
            return;
    }
    fail_msg("%s/%s isn't known to be used by %s/%s as %d", network, name, user->network, user->name, (int)as);
}

static size_t count_uses(const struct model *model, enum object_kind kind)
{
    size_t count = 0;
    for (const struct object *o = model_first(model, kind, NULL, NULL, false); o != NULL; o = model_next(o)) {
        for (const struct use *use = model_first_use(model, kind, o->network, o->name); use != NULL;
             use = model_next_use(use))
            count++;
    }
    return count;
}

void fixture_verify(const struct model *model)
{
    size_t port_uses = 0;
    size_t vif_uses = 0;
    for (enum object_kind kind = OBJECT_NETWORK; kind < OBJECT_KIND_COUNT; kind++) {
        size_t count = 0;
        for (const struct object *o = model_first(model, kind, NULL, NULL, false); o != NULL; o = model_next(o)) {
            count++;
            assert_ptr_equal(model_find(model, kind, o->network, o->name), o);
            if (kind == OBJECT_PORT) {
                const struct port *port = (const struct port *)o;
                vif_uses += port->vif[0] != '\0';
                expect_use(model, OBJECT_VIF, "", port->vif, o, NULL, USE_PORT_VIF);
            }
            if (kind != OBJECT_WIRE)
                continue;
            const struct wire *wire = (const struct wire *)o;
            port_uses += (wire->a[0] != '\0') + (wire->b[0] != '\0');
            expect_use(model, OBJECT_PORT, o->network, wire->a, o, NULL, USE_WIRE_A);
            expect_use(model, OBJECT_PORT, o->network, wire->b, o, NULL, USE_WIRE_B);
            for (size_t i = 0; i < wire->tee_count; i++) {
                const struct tee *tee = &wire->tees[i];
                port_uses += (tee->port.port[0] != '\0') + (tee->out_port.port[0] != '\0');
                expect_use(model, OBJECT_PORT, tee->port.network, tee->port.port, o, tee, USE_TEE_PORT);
                expect_use(model, OBJECT_PORT, tee->out_port.network, tee->out_port.port, o, tee, USE_TEE_OUT_PORT);
            }
        }
        assert_int_equal(count, model_count(model, kind));
    }
    // Uses of what doesn't exist would not be counted here: references always lead somewhere.
    assert_int_equal(count_uses(model, OBJECT_PORT), port_uses);
    assert_int_equal(count_uses(model, OBJECT_VIF), vif_uses);
}
