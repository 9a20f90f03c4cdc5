// SPDX-License-Identifier: BSD-3-Clause
#include "model_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect_dump(const struct model *model, const char *wanted, uint64_t seed)
{
    char *now = fixture_dump(model);
    if (strcmp(now, wanted) != 0)
        fail_msg("seed %llu: the model isn't as it was:\n%s\nbut was\n%s", (unsigned long long)seed, now, wanted);
    free(now);
}

static void test_put_and_find(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    assert_int_equal(model_generation(f.model), 1);
    fixture_plug(&f, "vm1");
    fixture_plug(&f, "vm2");
    fixture_put(&f, "wires/default/w1", "{'a':'vm1','b':'vm2'}");
    assert_int_equal(f.change.generation, 6); // a step each
    assert_int_equal(model_generation(f.model), 1);
    fixture_commit(&f);
    assert_int_equal(model_generation(f.model), 6);
    const struct wire *wire = fixture_wire(&f, "w1");
    assert_int_equal(wire->object.generation, 6);
    assert_int_equal(wire->stall_ms, DEFAULT_STALL_MS);
    assert_int_equal(strlen(wire->object.uid), 36);
    assert_int_equal(wire->object.uid[14], '4');
    assert_null(model_find_wire(f.model, "other", "w1"));
    assert_null(model_find_vif(f.model, ""));
    char name[200];
    memset(name, 'v', sizeof(name));
    name[199] = '\0';
    assert_null(model_find_vif(f.model, name));

    const struct use *use = model_first_use(f.model, OBJECT_PORT, "default", "vm1");
    assert_non_null(use);
    assert_ptr_equal(use->user, &wire->object);
    assert_int_equal(use->as, USE_WIRE_A);
    assert_null(model_next_use(use));
    fixture_verify(f.model);
    fixture_close(&f);
}

// A name that is the beginning of another, and one that a list ends with.
static void test_pages(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_put(&f, "networks/a", "{}");
    fixture_put(&f, "networks/z", "{}");
    static const char *const names[] = {"p", "p1", "p10", "p2", "q"};
    for (size_t i = 0; i < 5; i++) {
        char path[64];
        snprintf(path, sizeof(path), "ports/default/%s", names[4 - i]);
        fixture_put(&f, path, "{}");
    }
    fixture_put(&f, "ports/a/x", "{}");
    fixture_put(&f, "ports/z/b", "{}");
    size_t i = 0;
    for (const struct object *o = model_first(f.model, OBJECT_PORT, "default", "", false); o != NULL;
         o = model_next_in(o))
        assert_string_equal(o->name, names[i++]);
    assert_int_equal(i, 5);
    assert_int_equal(model_count_in(f.model, OBJECT_PORT, "default"), 5);
    assert_int_equal(model_count_in(f.model, OBJECT_PORT, "none"), 0);
    assert_int_equal(model_count(f.model, OBJECT_PORT), 7);
    assert_string_equal(model_first(f.model, OBJECT_PORT, "default", "p1", true)->name, "p10");
    assert_string_equal(model_first(f.model, OBJECT_PORT, "default", "p1", false)->name, "p1");
    assert_string_equal(model_first(f.model, OBJECT_PORT, "default", "p11", true)->name, "p2");
    assert_null(model_first(f.model, OBJECT_PORT, "default", "q", true));
    assert_null(model_first(f.model, OBJECT_PORT, "b", "", false));
    assert_string_equal(model_first(f.model, OBJECT_PORT, NULL, NULL, false)->name, "x");
    assert_string_equal(model_first(f.model, OBJECT_NETWORK, "", "a", true)->name, "default");
    fixture_close(&f);
}

static void test_targets(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_put(&f, "vifs/v1", "{'kind':'vhost','path':'/run/x/a.sock'}");
    fixture_put(&f, "vifs/d1", "{'kind':'dev','devargs':'net_null0,size=64'}");
    fixture_put(&f, "vifs/k1", "{'kind':'kernel-new','interface':'tap0'}");
    const struct vif *v1 = model_find_vif(f.model, "v1");
    assert_ptr_equal(model_find_target(f.model, VIF_VHOST_SERVER, "/run//x/./a.sock"), v1);
    assert_ptr_equal(model_find_target(f.model, VIF_VHOST, "/run/x/a.sock"), v1);
    assert_null(model_find_target(f.model, VIF_VHOST, "/run/x/.a.sock"));
    assert_null(model_find_target(f.model, VIF_VHOST, "/run/x/a.sock2"));
    assert_ptr_equal(model_find_target(f.model, VIF_DEV, "net_null0"), model_find_vif(f.model, "d1"));
    assert_null(model_find_target(f.model, VIF_DEV, "net_null"));
    assert_null(model_find_target(f.model, VIF_DEV, "tap0"));
    assert_ptr_equal(model_find_target(f.model, VIF_KERNEL_NEW, "tap0"), model_find_vif(f.model, "k1"));
    struct error error;
    assert_int_equal(fixture_try_delete(&f, "vifs/v1", NULL, &error), 0);
    assert_null(model_find_target(f.model, VIF_VHOST, "/run/x/a.sock"));
    fixture_close(&f);
}

static void test_slots(void **state)
{
    (void)state;
    struct model *model = model_create();
    for (vif_slot i = 0; i < LIMIT_VIFS; i++)
        assert_int_equal(model_slot_take(model), i);
    assert_int_equal(model_slot_take(model), VIF_SLOT_NONE);
    model_slot_release(model, 17);
    model_slot_release(model, 17);
    model_slot_release(model, 19999);
    model_slot_release(model, LIMIT_VIFS);
    model_slot_release(model, VIF_SLOT_NONE);
    assert_int_equal(model_slots_taken(model), LIMIT_VIFS - 2);
    assert_int_equal(model_slot_take(model), 17);
    assert_int_equal(model_slot_take(model), 19999);
    assert_int_equal(model_slot_take(model), VIF_SLOT_NONE);
    model_destroy(model);
}

// A slot outlives its vif until the device is gone.
static void test_slot_is_not_reused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_put(&f, "vifs/v1", "{'kind':'none'}");
    assert_int_equal(model_find_vif(f.model, "v1")->slot, 0);
    struct error error;
    assert_int_equal(fixture_try_delete(&f, "vifs/v1", NULL, &error), 0);
    fixture_commit(&f);
    fixture_put(&f, "vifs/v1", "{'kind':'none'}");
    assert_int_equal(model_find_vif(f.model, "v1")->slot, 1);
    model_slot_release(f.model, 0);
    fixture_put(&f, "vifs/v2", "{'kind':'none'}");
    assert_int_equal(model_find_vif(f.model, "v2")->slot, 0);
    // One whose device the caller made before.
    struct change_options options = CHANGE_OPTIONS_DEFAULT;
    options.slot = model_slot_take(f.model);
    assert_int_equal(fixture_try_put(&f, "vifs/v3", "{'kind':'none'}", &options, &error), CHANGE_CREATED);
    assert_int_equal(model_find_vif(f.model, "v3")->slot, 2);
    // A refused one takes none.
    assert_int_equal(fixture_try_put(&f, "vifs/v4", "{'kind':'vhost','path':'x'}", NULL, &error), -EINVAL);
    assert_int_equal(model_slots_taken(f.model), 3);
    fixture_close(&f);
}

// Any change at all, mostly valid ones, of a small world, so that they meet.
static void change_something(struct fixture *f, struct rng *rng)
{
    char path[64];
    char json[600];
    struct error error;
    struct change_options options = CHANGE_OPTIONS_DEFAULT;
    options.detach = rng_below(rng, 2) == 0;
    unsigned i = rng_below(rng, 12);
    unsigned j = rng_below(rng, 12);
    unsigned k = rng_below(rng, 12);
    switch (rng_below(rng, 12)) {
    case 0:
        snprintf(path, sizeof(path), "vifs/v%u", i);
        snprintf(json, sizeof(json), "{'kind':'vhost','path':'/s/%u','owner':'o%u'}", rng_below(rng, 14), j);
        break;
    case 1:
        snprintf(path, sizeof(path), "vifs/v%u", i);
        snprintf(json, sizeof(json), "{'kind':'none','labels':{'l%u':'x'}}", j);
        break;
    case 2:
    case 3:
    case 4:
        snprintf(path, sizeof(path), "ports/%s/p%u", rng_below(rng, 4) == 0 ? "n" : "default", i);
        if (rng_below(rng, 4) == 0) {
            snprintf(json, sizeof(json), "{}");
        } else if (rng_below(rng, 2) == 0) {
            snprintf(json, sizeof(json), "{'vif':'v%u'}", j);
        } else {
            snprintf(json, sizeof(json), "{'vif':'v%u','vlan':%u}", j, k + 1);
        }
        break;
    case 5:
    case 6:
        snprintf(path, sizeof(path), "wires/default/w%u", i % 5);
        snprintf(json, sizeof(json),
                 "{'a':'p%u','b':'p%u','tees':[{'name':'t1','port':'%sp%u','mode':'%s'},"
                 "{'name':'t2','port':'p%u','out_port':'p%u','mode':'%s'}]}",
                 i, j, rng_below(rng, 4) == 0 ? "n/" : "", k, rng_below(rng, 3) == 0 ? "off" : "tap",
                 rng_below(rng, 12), rng_below(rng, 12), rng_below(rng, 2) == 0 ? "bump" : "off");
        break;
    case 7:
        snprintf(path, sizeof(path), "networks/n");
        snprintf(json, sizeof(json), "{'labels':{'x':'%u'}}", i);
        break;
    case 8:
        snprintf(path, sizeof(path), "vifs/v%u", i);
        (void)fixture_try_delete(f, path, &options, &error);
        return;
    case 9:
        snprintf(path, sizeof(path), "ports/default/p%u", i);
        (void)fixture_try_delete(f, path, &options, &error);
        return;
    case 10:
        snprintf(path, sizeof(path), "wires/default/w%u", i % 5);
        (void)fixture_try_delete(f, path, &options, &error);
        return;
    default:
        (void)fixture_try_delete(f, "networks/n", &options, &error);
        return;
    }
    (void)fixture_try_put(f, path, json, NULL, &error);
}

// Random changes, then rollback: all as before, down to the addresses. And in between single steps undone.
static void test_undo(void **state)
{
    (void)state;
    size_t records = 0;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct rng rng = {seed};
        struct fixture f;
        fixture_open(&f);
        for (unsigned i = 0; i < 60; i++)
            change_something(&f, &rng);
        fixture_commit(&f);
        fixture_verify(f.model);
        char *before = fixture_dump(f.model);

        for (unsigned i = 0; i < 20; i++)
            change_something(&f, &rng);
        records += f.change.record_count;
        fixture_verify(f.model);
        char *middle = fixture_dump(f.model);
        struct model_mark mark = model_step(&f.change);
        for (unsigned i = 0; i < 20; i++)
            change_something(&f, &rng);
        model_undo(&f.change, mark);
        expect_dump(f.model, middle, seed);
        assert_int_equal(f.change.generation, mark.generation);
        free(middle);

        model_rollback(&f.change);
        expect_dump(f.model, before, seed);
        free(before);
        model_begin(f.model, &f.change);
        fixture_verify(f.model);
        fixture_close(&f);
    }
    assert_true(records > 1000); // the test tests something
    print_message("# 300 seeds, %zu records undone\n", records);
}

static void test_generations(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    // An empty step makes no generation, one with several objects makes one.
    model_step(&f.change);
    model_step(&f.change);
    assert_true(model_change_is_empty(&f.change));
    fixture_put(&f, "networks/n", "{}");
    assert_int_equal(model_find_network(f.model, "n")->object.generation, 2);
    struct error error;
    assert_int_equal(fixture_try_put(&f, "networks/n", "{}", NULL, &error), CHANGE_SAME);
    assert_int_equal(f.change.generation, 2);
    fixture_plug(&f, "a"); // 3, 4
    fixture_put(&f, "wires/default/w1", "{'a':'a'}");
    fixture_put(&f, "wires/default/w2", "{'tees':[{'name':'t','port':'a','mode':'off'}]}");
    struct change_options detach = CHANGE_OPTIONS_DEFAULT;
    detach.detach = true;
    assert_int_equal(fixture_try_delete(&f, "ports/default/a", &detach, &error), 0);
    assert_int_equal(f.change.generation, 7);
    assert_int_equal(fixture_wire(&f, "w1")->object.generation, 7);
    assert_int_equal(fixture_wire(&f, "w2")->object.generation, 7);
    assert_int_equal(fixture_wire(&f, "w2")->tees[0].object.generation, 7);
    fixture_commit(&f);
    assert_int_equal(model_generation(f.model), 7);
    fixture_close(&f);
}

static void test_labels_and_clone(void **state)
{
    (void)state;
    struct object *object = object_create(OBJECT_WIRE, "default", "w");
    char key[16];
    for (unsigned i = 0; i < LIMIT_LABELS; i++) {
        snprintf(key, sizeof(key), "k%u", (i * 7) % LIMIT_LABELS);
        assert_int_equal(object_set_label(object, key, "v"), 0);
    }
    assert_int_equal(object_set_label(object, "one more", "v"), -ENOSPC);
    assert_int_equal(object_set_label(object, "k3", "w"), 0);
    assert_int_equal(object->label_count, LIMIT_LABELS);
    for (size_t i = 1; i < object->label_count; i++)
        assert_true(strcmp(object->labels[i - 1].key, object->labels[i].key) < 0);
    struct wire *wire = (struct wire *)object;
    for (unsigned i = 0; i < LIMIT_TEES; i++) {
        snprintf(key, sizeof(key), "t%u", i);
        assert_non_null(wire_insert_tee(wire, 0, key));
    }
    assert_null(wire_insert_tee(wire, 0, "t"));
    assert_int_equal(errno, ENOSPC);
    assert_int_equal(object_set_label(&wire->tees[3].object, "x", "y"), 0);
    struct object *copy = object_clone(object);
    assert_true(object_equal(object, copy));
    wire_move_tee((struct wire *)copy, 3, 10);
    assert_false(object_equal(object, copy));
    assert_string_equal(((struct wire *)copy)->tees[10].object.labels[0].value, "y");
    wire_move_tee((struct wire *)copy, 10, 3);
    assert_true(object_equal(object, copy));
    wire_remove_tee((struct wire *)copy, 3);
    assert_false(object_equal(object, copy));
    assert_int_equal(object_set_label(object, "k3", NULL), 0);
    assert_int_equal(object->label_count, LIMIT_LABELS - 1);
    object_destroy(object);
    object_destroy(copy);
    object_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_put_and_find),
        cmocka_unit_test(test_pages),
        cmocka_unit_test(test_targets),
        cmocka_unit_test(test_slots),
        cmocka_unit_test(test_slot_is_not_reused),
        cmocka_unit_test(test_undo),
        cmocka_unit_test(test_generations),
        cmocka_unit_test(test_labels_and_clone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
