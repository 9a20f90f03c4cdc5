// SPDX-License-Identifier: BSD-3-Clause
// The shapes of wires that the documents show, one by one, as text. The
// property test beside this one covers all the others.

#include "control/compile.h"
#include "model_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct compiled_wire compiled;

static const char *vif_name(const struct model *model, vif_slot slot)
{
    for (const struct object *o = model_first(model, OBJECT_VIF, "", "", false); o != NULL; o = model_next_in(o)) {
        if (((const struct vif *)o)->slot == slot)
            return o->name;
    }
    return "-";
}

static void print_step(FILE *out, const struct model *model, const struct hop_step *step)
{
    static const char *const reasons[DROP_REASON_COUNT] = {[DROP_DOWN] = "down",
                                                           [DROP_BUMP_DOWN] = "bump_down",
                                                           [DROP_UNPLUGGED] = "unplugged",
                                                           [DROP_ADMIN_DOWN] = "admin_down",
                                                           [DROP_LATE] = "late"};
    switch (step->kind) {
    case HOP_TAP:
        fprintf(out, " tap%u>%s", step->tag, vif_name(model, step->vif));
        break;
    case HOP_BUMP:
        fprintf(out, " bump%u>%s<%s", step->tag, vif_name(model, step->vif), vif_name(model, step->other));
        fprintf(out, "%s", step->fail_open ? "(open)" : "");
        break;
    case HOP_END:
        fprintf(out, " end>%s", vif_name(model, step->vif));
        break;
    case HOP_DROP:
        fprintf(out, " drop:%s", reasons[step->reason]);
        break;
    }
    if (step->vlan != 0)
        fprintf(out, "@%u", step->vlan);
    if (step->wait)
        fprintf(out, "(wait %u)", step->stall_ms);
    if (step->rate.bps != 0)
        fprintf(out, "(rate %llu %llu)", (unsigned long long)step->rate.bps, (unsigned long long)step->rate.burst);
    if (step->rate.pps != 0)
        fprintf(out, "(frames %u %u)", step->rate.pps, step->rate.frame_burst);
}

// One line a leg: "a vm1: tap0>ids end>vm2(wait 100)".
static void expect_legs(const struct fixture *f, const char *wire, const struct compile_options *options,
                        const char *wanted)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    compile_wire(f->model, fixture_wire(f, wire), options, &compiled);
    for (size_t i = 0; i < compiled.leg_count; i++) {
        const struct compiled_leg *leg = &compiled.legs[i];
        fprintf(out, "%s %s %s", leg->key, leg->direction == LEG_A_TO_B ? "->" : "<-", vif_name(f->model, leg->vif));
        if (leg->vlan != TABLE_ANY_VLAN)
            fprintf(out, "@%u", leg->vlan);
        fprintf(out, "%s:", leg->held ? " held" : "");
        if (leg->program.ingress.bps != 0)
            fprintf(out, " from %s@%u (rate %llu %llu)", vif_name(f->model, leg->program.source),
                    leg->program.source_vlan, (unsigned long long)leg->program.ingress.bps,
                    (unsigned long long)leg->program.ingress.burst);
        if (leg->program.ingress.pps != 0)
            fprintf(out, " from %s@%u (frames %u %u)", vif_name(f->model, leg->program.source),
                    leg->program.source_vlan, leg->program.ingress.pps, leg->program.ingress.frame_burst);
        for (uint16_t j = 0; j < leg->program.step_count; j++)
            print_step(out, f->model, &leg->program.steps[j]);
        fprintf(out, "\n");
    }
    for (size_t i = 0; i < compiled.monitor_count; i++)
        fprintf(out, "monitor %s%s\n", vif_name(f->model, compiled.monitors[i].vif),
                compiled.monitors[i].vlan == TABLE_ANY_VLAN ? "" : "@");
    fclose(out);
    if (strcmp(text, wanted) != 0)
        fail_msg("got\n%swanted\n%s", text, wanted);
    free(text);
}

static void build(struct fixture *f, const char *wire)
{
    fixture_open(f);
    static const char *const plugs[] = {"vm1", "vm2", "f1", "f2", "g1", "g2", "m1", "m2", "nic"};
    for (size_t i = 0; i < sizeof(plugs) / sizeof(plugs[0]); i++)
        fixture_plug(f, plugs[i]);
    fixture_put(f, "ports/default/nic5", "{'vif':'nic','vlan':5}");
    fixture_put(f, "ports/default/free", "{}");
    fixture_put(f, "wires/default/w", wire);
}

static void test_plain(void **state)
{
    (void)state;
    struct fixture f;
    build(&f, "{'a':'vm1','b':'vm2'}");
    expect_legs(&f, "w", NULL, "a -> vm1: end>vm2(wait 100)\nb <- vm2: end>vm1(wait 100)\n");
    fixture_patch(&f, "wires/default/w", "{'on_full':'drop'}");
    expect_legs(&f, "w", NULL, "a -> vm1: end>vm2\nb <- vm2: end>vm1\n");
    fixture_patch(&f, "wires/default/w", "{'admin':'down'}");
    expect_legs(&f, "w", NULL, "a -> vm1: drop:admin_down\nb <- vm2: drop:admin_down\n");
    fixture_patch(&f, "wires/default/w", "{'admin':'up','b':null}");
    expect_legs(&f, "w", NULL, "a -> vm1: drop:unplugged\n");
    fixture_patch(&f, "wires/default/w", "{'b':'free'}");
    expect_legs(&f, "w", NULL, "a -> vm1: drop:down\n");
    fixture_patch(&f, "wires/default/w", "{'a':null,'b':null}");
    expect_legs(&f, "w", NULL, "");
    fixture_close(&f);
}

// The same in frames: by default 10 ms at the rate, but not less than 64.
static void test_frame_rates(void **state)
{
    (void)state;
    struct fixture f;
    build(&f, "{'a':'vm1','b':'vm2','tees':[{'name':'tap1','port':'m1'}]}");
    fixture_patch(&f, "ports/default/vm1", "{'ingress_pps':1000,'egress_pps':1000000000}");
    fixture_patch(&f, "ports/default/vm2", "{'ingress_pps':100000,'egress_pps':5,'egress_burst_frames':3}");
    fixture_patch(&f, "ports/default/m1", "{'egress_pps':1,'egress_bps':8000,'ingress_burst_frames':9}");
    expect_legs(&f, "w", NULL,
                "a -> vm1: from vm1@0 (frames 1000 64) tap0>m1(rate 8000 65536)(frames 1 64) end>vm2(wait "
                "100)(frames 5 3)\n"
                "b <- vm2: from vm2@0 (frames 100000 1000) tap0>m1(rate 8000 65536)(frames 1 64) end>vm1(wait "
                "100)(frames 1000000000 1048576)\n"
                "monitor m1\n");
    struct compiled_wire before = compiled;
    fixture_patch(&f, "ports/default/vm1", "{'ingress_burst_frames':65}");
    compile_wire(f.model, fixture_wire(&f, "w"), NULL, &compiled);
    assert_false(compile_program_equal(&before.legs[0].program, &compiled.legs[0].program));
    assert_true(compile_program_equal(&before.legs[1].program, &compiled.legs[1].program));
    fixture_close(&f);
}

// A port's rates go with it: its own as a source, and in each step that gives it frames.
static void test_rates(void **state)
{
    (void)state;
    struct fixture f;
    build(&f, "{'a':'vm1','b':'vm2','tees':[{'name':'tap1','port':'m1'},"
              "{'name':'fw','port':'f1','out_port':'f2','mode':'bump'}]}");
    fixture_patch(&f, "ports/default/vm1", "{'ingress_bps':8000,'egress_bps':1000000000,'egress_burst':7}");
    fixture_patch(&f, "ports/default/f1", "{'ingress_bps':1000000000000,'egress_bps':200000000}");
    fixture_patch(&f, "ports/default/m1", "{'egress_bps':8001}");
    // By default 10 ms at the rate, but not less than 64 KiB nor more than 256 MiB.
    expect_legs(&f, "w", NULL,
                "a -> vm1: from vm1@0 (rate 8000 65536) tap0>m1(rate 8001 65536) bump1>f1<f2(wait 10)(rate 200000000 "
                "250000) end>vm2(wait 100)\n"
                "b <- vm2: bump1>f2<f1(wait 10) tap0>m1(rate 8001 65536) end>vm1(wait 100)(rate 1000000000 7)\n"
                "fw.port <- f1: from f1@0 (rate 1000000000000 268435456) tap0>m1(rate 8001 65536) end>vm1(wait "
                "100)(rate 1000000000 7)\n"
                "fw.out_port -> f2: end>vm2(wait 100)\n"
                "monitor m1\n");
    struct compiled_wire before = compiled;
    fixture_patch(&f, "ports/default/vm1", "{'ingress_bps':9000}");
    compile_wire(f.model, fixture_wire(&f, "w"), NULL, &compiled);
    assert_false(compile_program_equal(&before.legs[0].program, &compiled.legs[0].program));
    assert_true(compile_program_equal(&before.legs[1].program, &compiled.legs[1].program));
    // A burst without a rate is nothing.
    fixture_patch(&f, "ports/default/vm1", "{'ingress_bps':null,'ingress_burst':5,'egress_bps':null}");
    fixture_patch(&f, "ports/default/f1", "{'ingress_bps':null,'egress_bps':null}");
    fixture_patch(&f, "ports/default/m1", "{'egress_bps':null}");
    expect_legs(&f, "w", NULL,
                "a -> vm1: tap0>m1 bump1>f1<f2(wait 10) end>vm2(wait 100)\n"
                "b <- vm2: bump1>f2<f1(wait 10) tap0>m1 end>vm1(wait 100)\n"
                "fw.port <- f1: tap0>m1 end>vm1(wait 100)\n"
                "fw.out_port -> f2: end>vm2(wait 100)\n"
                "monitor m1\n");
    fixture_close(&f);
}

// The example of the design.
static void test_tap_bump_tap(void **state)
{
    (void)state;
    struct fixture f;
    build(&f, "{'a':'vm1','b':'vm2','tees':[{'name':'tap1','port':'m1'},"
              "{'name':'fw','port':'f1','out_port':'f2','mode':'bump'},{'name':'tap2','port':'m2'}]}");
    expect_legs(&f, "w", NULL,
                "a -> vm1: tap0>m1 bump1>f1<f2(wait 10) tap2>m2 end>vm2(wait 100)\n"
                "b <- vm2: tap2>m2 bump1>f2<f1(wait 10) tap0>m1 end>vm1(wait 100)\n"
                "fw.port <- f1: tap0>m1 end>vm1(wait 100)\n"
                "fw.out_port -> f2: tap2>m2 end>vm2(wait 100)\n"
                "monitor m1\nmonitor m2\n");
    char name[COMPILE_KEY_SIZE];
    compile_step_name(fixture_wire(&f, "w"), LEG_A_TO_B, &compiled.legs[0].program.steps[1], name);
    assert_string_equal(name, "fw.port");
    compile_step_name(fixture_wire(&f, "w"), LEG_B_TO_A, &compiled.legs[1].program.steps[1], name);
    assert_string_equal(name, "fw.out_port");
    compile_step_name(fixture_wire(&f, "w"), LEG_B_TO_A, &compiled.legs[1].program.steps[3], name);
    assert_string_equal(name, "a");

    struct compile_options options = {.held = true};
    expect_legs(&f, "w", &options,
                "a -> vm1 held: tap0>m1 bump1>f1<f2(wait 10) tap2>m2 end>vm2(wait 100)\n"
                "b <- vm2 held: tap2>m2 bump1>f2<f1(wait 10) tap0>m1 end>vm1(wait 100)\n"
                "fw.port <- f1: tap0>m1 end>vm1(wait 100)\n"
                "fw.out_port -> f2: tap2>m2 end>vm2(wait 100)\n"
                "monitor m1\nmonitor m2\n");
    options = (struct compile_options){.phases = {[1] = PHASE_SETTLING}};
    expect_legs(&f, "w", &options,
                "a -> vm1: tap0>m1 tap2>m2 end>vm2(wait 100)\n"
                "b <- vm2: tap2>m2 tap0>m1 end>vm1(wait 100)\n"
                "monitor m1\nmonitor f1\nmonitor f2\nmonitor m2\n");
    options = (struct compile_options){.phases = {[1] = PHASE_ENTERING}};
    expect_legs(&f, "w", &options,
                "a -> vm1: tap0>m1 tap2>m2 end>vm2(wait 100)\n"
                "b <- vm2: tap2>m2 tap0>m1 end>vm1(wait 100)\n"
                "fw.port <- f1: tap0>m1 end>vm1(wait 100)\n"
                "fw.out_port -> f2: tap2>m2 end>vm2(wait 100)\n"
                "monitor m1\nmonitor m2\n");
    options = (struct compile_options){.phases = {[1] = PHASE_LEAVING}};
    expect_legs(&f, "w", &options,
                "a -> vm1: tap0>m1 tap2>m2 end>vm2(wait 100)\n"
                "b <- vm2: tap2>m2 tap0>m1 end>vm1(wait 100)\n"
                "fw.port <- f1: drop:late\n"
                "fw.out_port -> f2: drop:late\n"
                "monitor m1\nmonitor m2\n");
    fixture_patch(&f, "wires/default/w", "{'admin':'down'}");
    expect_legs(&f, "w", NULL,
                "a -> vm1: drop:admin_down\nb <- vm2: drop:admin_down\nfw.port <- f1: drop:admin_down\n"
                "fw.out_port -> f2: drop:admin_down\nmonitor m1\nmonitor m2\n");
    fixture_patch(&f, "wires/default/w", "{'admin':'up','b':null}");
    expect_legs(&f, "w", NULL,
                "a -> vm1: tap0>m1 bump1>f1<f2(wait 10) tap2>m2 drop:unplugged\n"
                "fw.port <- f1: tap0>m1 end>vm1(wait 100)\n"
                "fw.out_port -> f2: tap2>m2 drop:unplugged\n"
                "monitor m1\nmonitor m2\n");
    fixture_patch(&f, "tees/default/w/fw", "{'mode':'off'}");
    expect_legs(&f, "w", NULL, "a -> vm1: tap0>m1 tap2>m2 drop:unplugged\nmonitor m1\nmonitor m2\n");
    fixture_close(&f);
}

static void test_bumps_in_series(void **state)
{
    (void)state;
    struct fixture f;
    build(&f, "{'a':'vm1','b':'vm2','tees':["
              "{'name':'f','port':'f1','out_port':'f2','mode':'bump','on_failure':'open','stall_ms':7},"
              "{'name':'t','port':'m1'},{'name':'g','port':'g1','out_port':'g2','mode':'bump'}]}");
    expect_legs(&f, "w", NULL,
                "a -> vm1: bump0>f1<f2(open)(wait 7) tap1>m1 bump2>g1<g2(wait 10) end>vm2(wait 100)\n"
                "b <- vm2: bump2>g2<g1(wait 10) tap1>m1 bump0>f2<f1(open)(wait 7) end>vm1(wait 100)\n"
                "f.port <- f1: end>vm1(wait 100)\n"
                "f.out_port -> f2: tap1>m1 bump2>g1<g2(wait 10) end>vm2(wait 100)\n"
                "g.port <- g1: tap1>m1 bump0>f2<f1(open)(wait 7) end>vm1(wait 100)\n"
                "g.out_port -> g2: end>vm2(wait 100)\n"
                "monitor m1\n");
    // An arm without vif: the open one is passed by, the closed one ends the program. What has a vif stays a source.
    fixture_put(&f, "ports/default/f2", "{}");
    fixture_put(&f, "ports/default/g1", "{}");
    expect_legs(&f, "w", NULL,
                "a -> vm1: tap1>m1 drop:bump_down\n"
                "b <- vm2: drop:bump_down\n"
                "f.port <- f1: end>vm1(wait 100)\n"
                "g.out_port -> g2: end>vm2(wait 100)\n"
                "monitor m1\n");
    fixture_close(&f);
}

static void test_taps(void **state)
{
    (void)state;
    struct fixture f;
    build(&f, "{'a':'vm1','b':'vm2','tees':[{'name':'one','port':'m1','direction':'a-to-b'},"
              "{'name':'two','port':'m1','direction':'b-to-a'},{'name':'split','port':'m1','out_port':'m2'},"
              "{'name':'off','port':'g1','mode':'off'},{'name':'nowhere','port':'free'}]}");
    expect_legs(&f, "w", NULL,
                "a -> vm1: tap0>m1 tap2>m1 tap4>- end>vm2(wait 100)\n"
                "b <- vm2: tap4>- tap2>m2 tap1>m1 end>vm1(wait 100)\n"
                "monitor m1\nmonitor m2\n");
    char path[COMPILE_PATH_MAX][COMPILE_PATH_SIZE];
    assert_int_equal(compile_path(fixture_wire(&f, "w"), path), 6);
    assert_string_equal(path[0], "vm1");
    assert_string_equal(path[3], "tap split");
    assert_string_equal(path[4], "tap nowhere");
    assert_string_equal(path[5], "vm2");
    assert_true(compile_is_monitor(f.model, model_find_port(f.model, "default", "m2")));
    assert_false(compile_is_monitor(f.model, model_find_port(f.model, "default", "g1")));
    assert_false(compile_is_monitor(f.model, model_find_port(f.model, "default", "vm1")));
    fixture_close(&f);
}

// A NIC that several wires share: by tag, and nobody waits for it, nor does it wait for anybody.
static void test_shared(void **state)
{
    (void)state;
    struct fixture f;
    build(&f, "{'a':'vm1','b':'nic5','tees':[{'name':'t','port':'nic'},"
              "{'name':'fw','port':'f1','out_port':'f2','mode':'bump'}]}");
    expect_legs(&f, "w", NULL,
                "a -> vm1: tap0>nic bump1>f1<f2(wait 10) end>nic@5\n"
                "b <- nic@5: bump1>f2<f1 tap0>nic end>vm1\n"
                "fw.port <- f1: tap0>nic end>vm1(wait 100)\n"
                "fw.out_port -> f2: end>nic@5\n"
                "monitor nic@\n");
    assert_int_equal(compiled.monitors[0].vlan, TABLE_UNTAGGED);
    // The other port goes: a tagged one is shared also when it is alone …
    fixture_patch(&f, "tees/default/w/t", "{'port':'m1'}");
    struct error error;
    assert_int_equal(fixture_try_delete(&f, "ports/default/nic", NULL, &error), 0);
    expect_legs(&f, "w", NULL,
                "a -> vm1: tap0>m1 bump1>f1<f2(wait 10) end>nic@5\n"
                "b <- nic@5: bump1>f2<f1 tap0>m1 end>vm1\n"
                "fw.port <- f1: tap0>m1 end>vm1(wait 100)\n"
                "fw.out_port -> f2: end>nic@5\n"
                "monitor m1\n");
    // … an untagged one isn't.
    fixture_patch(&f, "ports/default/nic5", "{'vlan':null}");
    fixture_patch(&f, "wires/default/w", "{'tees':[]}");
    expect_legs(&f, "w", NULL, "a -> vm1: end>nic(wait 100)\nb <- nic: end>vm1(wait 100)\n");
    fixture_close(&f);
}

static void test_equal(void **state)
{
    (void)state;
    struct fixture f;
    build(&f, "{'a':'vm1','b':'vm2','tees':[{'name':'t','port':'m1'}]}");
    static struct compiled_wire other;
    // What was in the buffer before doesn't matter.
    memset(&other, 0xa5, sizeof(other));
    compile_wire(f.model, fixture_wire(&f, "w"), NULL, &compiled);
    compile_wire(f.model, fixture_wire(&f, "w"), NULL, &other);
    assert_true(compile_program_equal(&compiled.legs[0].program, &other.legs[0].program));
    assert_false(compile_program_equal(&compiled.legs[0].program, &other.legs[1].program));
    fixture_patch(&f, "wires/default/w", "{'stall_ms':5}");
    compile_wire(f.model, fixture_wire(&f, "w"), NULL, &other);
    assert_false(compile_program_equal(&compiled.legs[0].program, &other.legs[0].program));
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),        cmocka_unit_test(test_rates),           cmocka_unit_test(test_frame_rates),
        cmocka_unit_test(test_tap_bump_tap), cmocka_unit_test(test_bumps_in_series), cmocka_unit_test(test_taps),
        cmocka_unit_test(test_shared),       cmocka_unit_test(test_equal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
