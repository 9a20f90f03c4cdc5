// SPDX-License-Identifier: BSD-3-Clause
// What PUT, PATCH and DELETE do beyond checking: identity, detach, bumps that
// wait for their arms, places of Ts.

#include "model_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void build(struct fixture *f)
{
    fixture_open(f);
    static const char *const plugs[] = {"vm1", "vm2", "f1", "f2", "ids"};
    for (size_t i = 0; i < sizeof(plugs) / sizeof(plugs[0]); i++)
        fixture_plug(f, plugs[i]);
    fixture_put(f, "wires/default/w1",
                "{'a':'vm1','b':'vm2','tees':[{'name':'fw','port':'f1','out_port':'f2','mode':'bump'},"
                "{'name':'ids','port':'ids'}]}");
    fixture_commit(f);
}

static void test_identity(void **state)
{
    (void)state;
    struct fixture f;
    build(&f);
    struct error error;
    char uids[3][37];
    const struct wire *wire = fixture_wire(&f, "w1");
    strlcpy(uids[0], wire->object.uid, 37);
    strlcpy(uids[1], wire->tees[0].object.uid, 37);
    strlcpy(uids[2], wire->tees[1].object.uid, 37);
    uint64_t generation = wire->object.generation;

    // The same again, in another order of fields and with the defaults written out: nothing changes.
    assert_int_equal(fixture_try_put(&f, "wires/default/w1",
                                     "{'tees':[{'mode':'bump','name':'fw','out_port':'default/f2','port':'f1',"
                                     "'stall_ms':10,'labels':{},'uid':'x','status':{'a':1}},"
                                     "{'name':'ids','port':'ids','out_port':null,'direction':'both'}],'b':'vm2',"
                                     "'a':'vm1','on_full':'wait','admin':'up','stall_ms':100,'uid':5}",
                                     NULL, &error),
                     CHANGE_SAME);
    assert_true(model_change_is_empty(&f.change));

    // The Ts in another order, one changed: same uids.
    assert_int_equal(fixture_try_put(&f, "wires/default/w1",
                                     "{'a':'vm1','b':'vm2','tees':[{'name':'ids','port':'ids','direction':'a-to-b'},"
                                     "{'name':'fw','port':'f1','out_port':'f2','mode':'bump'}]}",
                                     NULL, &error),
                     CHANGE_UPDATED);
    wire = fixture_wire(&f, "w1");
    assert_true(wire->object.generation > generation);
    assert_string_equal(wire->object.uid, uids[0]);
    assert_string_equal(wire->tees[0].object.uid, uids[2]);
    assert_string_equal(wire->tees[1].object.uid, uids[1]);

    // A T by itself keeps its uid; one that is deleted and made again has another.
    assert_int_equal(fixture_try_put(&f, "tees/default/w1/ids", "{'port':'ids'}", NULL, &error), CHANGE_UPDATED);
    assert_string_equal(fixture_wire(&f, "w1")->tees[0].object.uid, uids[2]);
    assert_int_equal(fixture_try_delete(&f, "tees/default/w1/ids", NULL, &error), 0);
    assert_int_equal(fixture_wire(&f, "w1")->tee_count, 1);
    assert_int_equal(fixture_try_put(&f, "tees/default/w1/ids", "{'port':'ids'}", NULL, &error), CHANGE_CREATED);
    assert_string_not_equal(fixture_wire(&f, "w1")->tees[1].object.uid, uids[2]);

    const struct vif *vif = model_find_vif(f.model, "vm1");
    vif_slot slot = vif->slot;
    strlcpy(uids[0], vif->object.uid, 37);
    fixture_patch(&f, "vifs/vm1", "{'owner':'vm-1','labels':{'a':'b'}}");
    vif = model_find_vif(f.model, "vm1");
    assert_int_equal(vif->slot, slot);
    assert_string_equal(vif->object.uid, uids[0]);
    fixture_close(&f);
}

// Each field by itself is a change, the same again is none.
static void test_every_field(void **state)
{
    (void)state;
    static const struct {
        const char *path;
        const char *json;
    } patches[] = {
        {"networks/default", "{'labels':{'a':'b'}}"},
        {"networks/default", "{'labels':{'a':'c'}}"},
        {"vifs/vm1", "{'owner':'x'}"},
        {"vifs/vm1", "{'owner':'y'}"},
        {"vifs/vm1", "{'owner':null}"},
        {"vifs/vm1", "{'admin':'down'}"},
        {"vifs/vm1", "{'worker':3}"},
        {"vifs/vm1", "{'labels':{'a':'b'}}"},
        {"ports/default/vm1", "{'vlan':5}"},
        {"ports/default/vm1", "{'admin':'down'}"},
        {"ports/default/vm1", "{'ingress_bps':8000}"},
        {"ports/default/vm1", "{'ingress_bps':1000000000000}"},
        {"ports/default/vm1", "{'ingress_burst':9000}"},
        {"ports/default/vm1", "{'egress_bps':1000000}"},
        {"ports/default/vm1", "{'egress_burst':9000}"},
        {"ports/default/vm1", "{'egress_bps':null}"},
        {"ports/default/vm1", "{'ingress_pps':1}"},
        {"ports/default/vm1", "{'ingress_burst_frames':1}"},
        {"ports/default/vm1", "{'egress_pps':1000000000}"},
        {"ports/default/vm1", "{'egress_burst_frames':9}"},
        {"ports/default/vm1", "{'vif':'more'}"},
        {"ports/default/vm1", "{'vif':null}"},
        {"ports/default/vm1", "{'labels':{'a':'b'}}"},
        {"wires/default/w1", "{'a':null}"},
        {"wires/default/w1", "{'b':null}"},
        {"wires/default/w1", "{'admin':'down'}"},
        {"wires/default/w1", "{'on_full':'drop'}"},
        {"wires/default/w1", "{'stall_ms':99}"},
        {"wires/default/w1", "{'labels':{'a':'b'}}"},
        {"tees/default/w1/fw", "{'on_failure':'open'}"},
        {"tees/default/w1/fw", "{'stall_ms':11}"},
        {"tees/default/w1/fw", "{'labels':{'a':'b'}}"},
        {"tees/default/w1/fw", "{'port':'vm1'}"},
        {"tees/default/w1/fw", "{'out_port':'vm2'}"},
        {"tees/default/w1/fw", "{'mode':'off'}"},
        {"tees/default/w1/fw", "{'before':'ids','after':null,'out_port':null}"},
        {"tees/default/w1/ids", "{'direction':'a-to-b'}"},
        {"tees/default/w1/ids", "{'direction':'b-to-a'}"},
        {"tees/default/w1/ids", "{'before':'fw'}"},
        {"tees/default/w1/ids", "{'mode':'off'}"},
        {"wires/default/w1", "{'tees':[]}"},
    };
    struct fixture f;
    struct error error;
    build(&f);
    fixture_put(&f, "vifs/more", "{'kind':'none'}");
    for (size_t i = 0; i < sizeof(patches) / sizeof(patches[0]); i++) {
        uint64_t generation = f.change.generation;
        int ret = fixture_try_patch(&f, patches[i].path, patches[i].json, NULL, &error);
        if (ret != CHANGE_UPDATED || f.change.generation != generation + 1)
            fail_msg("%s %s: %d %s", patches[i].path, patches[i].json, ret, ret < 0 ? error.message : "");
        ret = fixture_try_patch(&f, patches[i].path, patches[i].json, NULL, &error);
        if (ret != CHANGE_SAME || f.change.generation != generation + 1)
            fail_msg("%s %s again: %d", patches[i].path, patches[i].json, ret);
    }
    fixture_close(&f);
}

static void expect_order(const struct fixture *f, const char *wanted)
{
    char order[256] = "";
    const struct wire *wire = fixture_wire(f, "w1");
    for (size_t i = 0; i < wire->tee_count; i++) {
        strlcat(order, wire->tees[i].object.name, sizeof(order));
        strlcat(order, " ", sizeof(order));
    }
    assert_string_equal(order, wanted);
}

static void test_places(void **state)
{
    (void)state;
    struct fixture f;
    build(&f);
    struct error error;
    fixture_put(&f, "tees/default/w1/x", "{'port':'ids'}");
    expect_order(&f, "fw ids x ");
    fixture_put(&f, "tees/default/w1/y", "{'port':'ids','before':'fw'}");
    expect_order(&f, "y fw ids x ");
    fixture_put(&f, "tees/default/w1/z", "{'port':'ids','after':'fw'}");
    expect_order(&f, "y fw z ids x ");
    fixture_patch(&f, "tees/default/w1/y", "{'after':'x'}");
    expect_order(&f, "fw z ids x y ");
    fixture_patch(&f, "tees/default/w1/y", "{'before':'z'}");
    expect_order(&f, "fw y z ids x ");
    fixture_patch(&f, "tees/default/w1/fw", "{'after':'z'}");
    expect_order(&f, "y z fw ids x ");
    // A T that stands there already: no change at all; nor does PUT without place move one.
    assert_int_equal(fixture_try_patch(&f, "tees/default/w1/fw", "{'before':'ids'}", NULL, &error), CHANGE_SAME);
    assert_int_equal(fixture_try_put(&f, "tees/default/w1/z", "{'port':'ids'}", NULL, &error), CHANGE_SAME);
    static const struct {
        const char *json;
        enum patchbay_error code;
        const char *field;
    } refused[] = {
        {"{'before':'nobody'}", PATCHBAY_ERROR_NO_SUCH_REF, "before"},
        {"{'after':'fw'}", PATCHBAY_ERROR_BAD_VALUE, "after"},
        {"{'before':'x','after':'y'}", PATCHBAY_ERROR_BAD_VALUE, "after"},
        {"{'before':5}", PATCHBAY_ERROR_BAD_VALUE, "before"},
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        assert_int_equal(fixture_try_patch(&f, "tees/default/w1/fw", refused[i].json, NULL, &error), -EINVAL);
        assert_int_equal(error.code, refused[i].code);
        assert_string_equal(error.field, refused[i].field);
    }
    expect_order(&f, "y z fw ids x ");
    for (unsigned i = 5; i < LIMIT_TEES; i++) {
        char path[64];
        snprintf(path, sizeof(path), "tees/default/w1/t%u", i);
        fixture_put(&f, path, "{'port':'ids'}");
    }
    assert_int_equal(fixture_try_put(&f, "tees/default/w1/more", "{'port':'ids'}", NULL, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_LIMIT_REACHED);
    fixture_close(&f);
}

static void test_detach_port(void **state)
{
    (void)state;
    struct fixture f;
    build(&f);
    fixture_put(&f, "networks/n", "{}");
    fixture_put(&f, "wires/n/w", "{'tees':[{'name':'t','port':'default/ids'}]}");
    struct change_options options = CHANGE_OPTIONS_DEFAULT;
    options.detach = true;
    struct error error;
    assert_int_equal(fixture_try_delete(&f, "ports/default/ids", &options, &error), 0);
    const struct wire *wire = fixture_wire(&f, "w1");
    assert_int_equal(wire->tee_count, 2);
    assert_int_equal(wire->tees[1].mode, TEE_OFF);
    assert_string_equal(wire->tees[1].port.port, "");
    assert_int_equal(wire->tees[0].mode, TEE_BUMP);
    assert_int_equal(model_find_wire(f.model, "n", "w")->tees[0].mode, TEE_OFF);
    assert_int_equal(fixture_try_delete(&f, "ports/default/f2", &options, &error), 0);
    wire = fixture_wire(&f, "w1");
    assert_int_equal(wire->tees[0].mode, TEE_OFF);
    assert_string_equal(wire->tees[0].port.port, "f1");
    assert_string_equal(wire->tees[0].out_port.port, "");
    assert_int_equal(fixture_try_delete(&f, "ports/default/vm2", &options, &error), 0);
    assert_string_equal(fixture_wire(&f, "w1")->b, "");
    assert_string_equal(fixture_wire(&f, "w1")->a, "vm1");
    fixture_verify(f.model);
    fixture_close(&f);
}

static void test_detach_vif(void **state)
{
    (void)state;
    struct fixture f;
    build(&f);
    fixture_put(&f, "ports/default/vm1-5", "{'vif':'vm1','vlan':5}");
    struct change_options options = CHANGE_OPTIONS_DEFAULT;
    options.detach = true;
    struct error error;
    assert_int_equal(fixture_try_delete(&f, "vifs/vm1", &options, &error), 0);
    assert_null(model_find_vif(f.model, "vm1"));
    assert_string_equal(model_find_port(f.model, "default", "vm1")->vif, "");
    assert_string_equal(model_find_port(f.model, "default", "vm1-5")->vif, "");
    assert_int_equal(model_find_port(f.model, "default", "vm1-5")->vlan, 5);
    assert_string_equal(fixture_wire(&f, "w1")->a, "vm1"); // the port keeps its uses
    // What is in a network is never deleted with it, and a refusal leaves all as it was.
    fixture_put(&f, "networks/n", "{}");
    fixture_put(&f, "ports/n/p", "{}");
    assert_int_equal(fixture_try_delete(&f, "networks/n", &options, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_IN_USE);
    assert_non_null(model_find_port(f.model, "n", "p"));
    fixture_verify(f.model);
    fixture_close(&f);
}

// ---- bumps whose arms are down ----

static bool is_up(void *context, const struct vif *vif)
{
    const char *const *down = context;
    for (; *down != NULL; down++) {
        if (strcmp(*down, vif->object.name) == 0)
            return false;
    }
    return true;
}

static void test_bump_down(void **state)
{
    (void)state;
    struct fixture f;
    build(&f);
    fixture_plug(&f, "g1");
    fixture_plug(&f, "g2");
    const char *down[] = {"g2", NULL};
    struct change_options options = CHANGE_OPTIONS_DEFAULT;
    options.vif_is_up = is_up;
    options.context = down;
    struct error error;
    const char *bump = "{'port':'g1','out_port':'g2','mode':'bump'}";

    assert_int_equal(fixture_try_put(&f, "tees/default/w1/b", bump, &options, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_BUMP_DOWN);
    assert_string_equal(error.field, "out_port");
    assert_non_null(strstr(error.message, "?when_ready=1"));
    // Open, forced, or on a wire that nobody uses yet: all right.
    struct model_mark mark = model_step(&f.change);
    assert_int_equal(fixture_try_put(&f, "tees/default/w1/b",
                                     "{'port':'g1','out_port':'g2','mode':'bump','on_failure':'open'}", &options,
                                     &error),
                     CHANGE_CREATED);
    assert_int_equal(fixture_try_patch(&f, "tees/default/w1/b", "{'on_failure':'closed'}", &options, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_BUMP_DOWN);
    model_undo(&f.change, mark);
    options.force = true;
    assert_int_equal(fixture_try_put(&f, "tees/default/w1/b", bump, &options, &error), CHANGE_CREATED);
    options.force = false;
    // It is in: what changes nothing about its arms isn't refused.
    assert_int_equal(fixture_try_patch(&f, "tees/default/w1/b", "{'stall_ms':5}", &options, &error), CHANGE_UPDATED);
    assert_int_equal(fixture_try_patch(&f, "wires/default/w1", "{'admin':'down'}", &options, &error), CHANGE_UPDATED);
    assert_int_equal(fixture_try_patch(&f, "tees/default/w1/b", "{'port':'g2','out_port':'g1'}", &options, &error),
                     -EINVAL);
    assert_string_equal(error.field, "port");
    model_undo(&f.change, mark);
    assert_int_equal(fixture_try_put(&f, "wires/default/new",
                                     "{'tees':[{'name':'b','port':'g1','out_port':'g2','mode':'bump'}]}", &options,
                                     &error),
                     CHANGE_CREATED);
    model_undo(&f.change, mark);
    // An arm without vif.
    fixture_put(&f, "ports/default/g1", "{}");
    down[0] = NULL;
    assert_int_equal(fixture_try_put(&f, "tees/default/w1/b", bump, &options, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_BUMP_DOWN);
    assert_non_null(strstr(error.message, "has no vif"));
    fixture_close(&f);
}

static void test_when_ready(void **state)
{
    (void)state;
    struct fixture f;
    build(&f);
    fixture_plug(&f, "g1");
    fixture_plug(&f, "g2");
    const char *down[] = {"g2", NULL};
    struct change_options options = CHANGE_OPTIONS_DEFAULT;
    options.vif_is_up = is_up;
    options.context = down;
    options.when_ready = 1;
    struct error error;
    const char *bump = "{'port':'g1','out_port':'g2','mode':'bump'}";
    assert_int_equal(fixture_try_put(&f, "tees/default/w1/b", bump, &options, &error), CHANGE_CREATED);
    const struct tee *tee = &fixture_wire(&f, "w1")->tees[2];
    assert_int_equal(tee->mode, TEE_OFF);
    assert_true(tee->when_ready);
    // Asking again changes nothing; its arms are taken although it is off.
    assert_int_equal(fixture_try_put(&f, "tees/default/w1/b", bump, &options, &error), CHANGE_SAME);
    assert_int_equal(fixture_try_put(&f, "wires/default/x", "{'a':'g1'}", NULL, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_PORT_IN_USE);
    // GET | PUT says off and leaves it waiting.
    options.when_ready = -1;
    assert_int_equal(fixture_try_patch(&f, "tees/default/w1/b", "{'mode':'off'}", &options, &error), CHANGE_SAME);
    assert_int_equal(fixture_try_patch(&f, "wires/default/w1", "{'stall_ms':50}", &options, &error), CHANGE_UPDATED);
    assert_true(fixture_wire(&f, "w1")->tees[2].when_ready);
    // Promoted.
    struct model_mark mark = model_step(&f.change);
    assert_int_equal(change_promote(&f.change, "default", "w1", "b", &error), 0);
    tee = &fixture_wire(&f, "w1")->tees[2];
    assert_int_equal(tee->mode, TEE_BUMP);
    assert_false(tee->when_ready);
    assert_int_equal(change_promote(&f.change, "default", "w1", "b", &error), -EINVAL);
    assert_int_equal(change_promote(&f.change, "default", "w1", "nobody", &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_NOT_FOUND);
    model_undo(&f.change, mark);
    // Another mode, or being told so, ends the waiting.
    assert_int_equal(fixture_try_patch(&f, "tees/default/w1/b", "{'mode':'tap'}", &options, &error), CHANGE_UPDATED);
    assert_false(fixture_wire(&f, "w1")->tees[2].when_ready);
    model_undo(&f.change, mark);
    options.when_ready = 0;
    assert_int_equal(fixture_try_patch(&f, "tees/default/w1/b", "{}", &options, &error), CHANGE_UPDATED);
    assert_false(fixture_wire(&f, "w1")->tees[2].when_ready);
    model_undo(&f.change, mark);
    // Losing an arm does too.
    options = (struct change_options)CHANGE_OPTIONS_DEFAULT;
    options.detach = true;
    assert_int_equal(fixture_try_delete(&f, "ports/default/g1", &options, &error), 0);
    assert_false(fixture_wire(&f, "w1")->tees[2].when_ready);
    fixture_close(&f);
    // Arms that are up: it enters at once.
    build(&f);
    options = (struct change_options)CHANGE_OPTIONS_DEFAULT;
    down[0] = NULL;
    options.vif_is_up = is_up;
    options.context = down;
    options.when_ready = 1;
    fixture_plug(&f, "g1");
    fixture_plug(&f, "g2");
    assert_int_equal(fixture_try_put(&f, "tees/default/w1/b", bump, &options, &error), CHANGE_CREATED);
    assert_int_equal(fixture_wire(&f, "w1")->tees[2].mode, TEE_BUMP);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_identity),    cmocka_unit_test(test_every_field), cmocka_unit_test(test_places),
        cmocka_unit_test(test_detach_port), cmocka_unit_test(test_detach_vif),  cmocka_unit_test(test_bump_down),
        cmocka_unit_test(test_when_ready),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
