// SPDX-License-Identifier: BSD-3-Clause
// Which wires a change concerns. A random one is held against the truth:
// every wire that compiles differently before and after must be in the list.

#include "control/compile.h"
#include "model_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void expect_list(struct fixture *f, const char *wanted)
{
    struct wire_list list = {0};
    char text[1024] = "";
    assert_int_equal(compile_affected(&f->change, &list), 0);
    for (size_t i = 0; i < list.count; i++) {
        strlcat(text, list.items[i].name, sizeof(text));
        strlcat(text, " ", sizeof(text));
    }
    wire_list_clear(&list);
    assert_string_equal(text, wanted);
    fixture_commit(f);
}

static void test_lists(void **state)
{
    (void)state;
    struct fixture f;
    struct error error;
    fixture_open(&f);
    static const char *const plugs[] = {"vm1", "vm2", "vm3", "vm4", "ids", "nic"};
    for (size_t i = 0; i < 6; i++)
        fixture_plug(&f, plugs[i]);
    expect_list(&f, "");
    fixture_put(&f, "wires/default/w2", "{'a':'vm3','b':'vm4','tees':[{'name':'t','port':'ids'}]}");
    fixture_put(&f, "wires/default/w1", "{'a':'vm1','b':'nic','tees':[{'name':'t','port':'ids','mode':'off'}]}");
    expect_list(&f, "w1 w2 ");
    fixture_patch(&f, "vifs/vm1", "{'owner':'me'}");
    fixture_patch(&f, "ports/default/vm1", "{'labels':{'a':'b'}}");
    expect_list(&f, "");
    fixture_patch(&f, "vifs/vm1", "{'worker':1}");
    expect_list(&f, "");
    fixture_patch(&f, "vifs/vm1", "{'admin':'down'}");
    expect_list(&f, "w1 ");
    fixture_patch(&f, "ports/default/vm4", "{'admin':'down'}");
    expect_list(&f, "w2 ");
    fixture_patch(&f, "vifs/vm1", "{'admin':null}");
    fixture_patch(&f, "ports/default/vm4", "{'admin':null}");
    expect_list(&f, "w1 w2 ");
    fixture_patch(&f, "ports/default/ids", "{'vif':null}");
    expect_list(&f, "w1 w2 ");
    // The second port makes the NIC a shared one, the third changes nothing for anybody.
    fixture_put(&f, "ports/default/n5", "{'vif':'nic','vlan':5}");
    expect_list(&f, "w1 ");
    fixture_put(&f, "ports/default/n6", "{'vif':'nic','vlan':6}");
    expect_list(&f, "");
    assert_int_equal(fixture_try_delete(&f, "ports/default/n5", NULL, &error), 0);
    expect_list(&f, "");
    fixture_patch(&f, "ports/default/n6", "{'vif':'ids'}");
    expect_list(&f, "w1 ");
    assert_int_equal(fixture_try_delete(&f, "wires/default/w2", NULL, &error), 0);
    expect_list(&f, "w2 ");
    fixture_close(&f);
}

static char *compile_text(const struct model *model, const struct wire *wire)
{
    static struct compiled_wire compiled;
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (wire != NULL) {
        compile_wire(model, wire, NULL, &compiled);
        for (size_t i = 0; i < compiled.leg_count; i++) {
            const struct compiled_leg *leg = &compiled.legs[i];
            fprintf(out, "%s %d %u %u:", leg->key, (int)leg->direction, leg->vif, leg->vlan);
            fprintf(out, " pps %u,%u", leg->program.ingress.pps, leg->program.ingress.frame_burst);
            fprintf(out, " in %u@%u %llu,%llu", leg->program.source, leg->program.source_vlan,
                    (unsigned long long)leg->program.ingress.bps, (unsigned long long)leg->program.ingress.burst);
            for (uint16_t j = 0; j < leg->program.step_count; j++) {
                const struct hop_step *step = &leg->program.steps[j];
                fprintf(out, " %u,%u", step->rate.pps, step->rate.frame_burst);
                fprintf(out, " %llu,%llu", (unsigned long long)step->rate.bps, (unsigned long long)step->rate.burst);
                fprintf(out, " %d %u %u %u %d %d %u %d %u", (int)step->kind, step->vif, step->other, step->vlan,
                        step->fail_open, step->wait, step->stall_ms, (int)step->reason, step->tag);
            }
            fprintf(out, "\n");
        }
        for (size_t i = 0; i < compiled.monitor_count; i++)
            fprintf(out, "monitor %u %u\n", compiled.monitors[i].vif, compiled.monitors[i].vlan);
    }
    fclose(out);
    return text;
}

enum { WIRES = 5, PORTS = 2 * WIRES + 12, VIFS = 8 };

static void change_something(struct fixture *f, struct rng *rng)
{
    char path[64];
    char json[512];
    struct error error;
    struct change_options options = CHANGE_OPTIONS_DEFAULT;
    options.detach = true;
    // Ends, arms and monitors come from different ports, or most wires would be refused.
    unsigned port = rng_below(rng, PORTS);
    unsigned wire = rng_below(rng, WIRES);
    switch (rng_below(rng, 10)) {
    case 0:
    case 1:
    case 2:
        snprintf(path, sizeof(path), "ports/default/p%u", port);
        snprintf(json, sizeof(json), "p%u", port);
        if (rng_below(rng, 3) == 0 && model_find_port(f->model, "default", json) != NULL) {
            static const char *const fields[] = {"ingress_bps", "ingress_burst", "ingress_pps", "ingress_burst_frames",
                                                 "egress_bps",  "egress_burst",  "egress_pps",  "egress_burst_frames"};

            snprintf(json, sizeof(json), "{'%s':%u}", fields[rng_below(rng, 8)], 8000 + rng_below(rng, 3));
            (void)fixture_try_patch(f, path, json, NULL, &error);
            return;
        }
        snprintf(json, sizeof(json), rng_below(rng, 3) == 0 ? "{'vif':'v%u'}" : "{'vif':'v%u','vlan':%u}",
                 rng_below(rng, VIFS), 1 + rng_below(rng, 30));
        (void)fixture_try_put(f, path, json, NULL, &error);
        return;
    case 3:
        if (rng_below(rng, 6) == 0) {
            snprintf(path, sizeof(path), "vifs/v%u", rng_below(rng, VIFS));
            (void)fixture_try_delete(f, path, &options, &error);
        } else {
            snprintf(path, sizeof(path), "ports/default/p%u", port);
            (void)fixture_try_delete(f, path, rng_below(rng, 2) == 0 ? &options : NULL, &error);
        }
        return;
    case 4:
    case 5:
        snprintf(path, sizeof(path), "vifs/v%u", rng_below(rng, VIFS));
        (void)fixture_try_put(f, path, "{'kind':'none'}", NULL, &error);
        return;
    case 6:
        snprintf(path, sizeof(path), "wires/default/w%u", wire);
        if (rng_below(rng, 4) == 0)
            (void)fixture_try_delete(f, path, &options, &error);
        return;
    default:
        snprintf(path, sizeof(path), "wires/default/w%u", wire);
        snprintf(json, sizeof(json),
                 "{'a':'p%u','b':'p%u','tees':[{'name':'t','port':'p%u','mode':'tap'},"
                 "{'name':'u','port':'p%u','out_port':'p%u','mode':'%s'}]}",
                 2 * wire, 2 * wire + 1, 2 * WIRES + rng_below(rng, 4), 2 * WIRES + 4 + rng_below(rng, 4),
                 2 * WIRES + 8 + rng_below(rng, 4), rng_below(rng, 2) == 0 ? "off" : "bump");
        (void)fixture_try_put(f, path, json, NULL, &error);
        return;
    }
}

static void test_random(void **state)
{
    (void)state;
    size_t differing = 0;
    for (uint64_t seed = 1; seed <= 400; seed++) {
        struct rng rng = {seed};
        struct fixture f;
        fixture_open(&f);
        char path[64];
        for (unsigned i = 0; i < VIFS; i++) {
            snprintf(path, sizeof(path), "vifs/v%u", i);
            fixture_put(&f, path, "{'kind':'none'}");
        }
        for (unsigned i = 0; i < PORTS; i++) {
            snprintf(path, sizeof(path), "ports/default/p%u", i);
            fixture_put(&f, path, "{}");
        }
        for (unsigned i = 0; i < 50; i++)
            change_something(&f, &rng);
        fixture_commit(&f);
        for (unsigned round = 0; round < 10; round++) {
            char *before[WIRES];
            char name[16];
            for (unsigned i = 0; i < WIRES; i++) {
                snprintf(name, sizeof(name), "w%u", i);
                before[i] = compile_text(f.model, model_find_wire(f.model, "default", name));
            }
            for (unsigned i = 0; i <= round % 4; i++)
                change_something(&f, &rng);
            struct wire_list list = {0};
            assert_int_equal(compile_affected(&f.change, &list), 0);
            for (unsigned i = 0; i < WIRES; i++) {
                snprintf(name, sizeof(name), "w%u", i);
                char *after = compile_text(f.model, model_find_wire(f.model, "default", name));
                bool differs = strcmp(before[i], after) != 0;
                bool listed = false;
                for (size_t j = 0; j < list.count; j++)
                    listed |= strcmp(list.items[j].name, name) == 0;
                if (differs && !listed)
                    fail_msg("seed %llu round %u: %s was\n%sand is\n%sbut isn't in the list", (unsigned long long)seed,
                             round, name, before[i], after);
                differing += differs;
                free(before[i]);
                free(after);
            }
            wire_list_clear(&list);
            fixture_commit(&f);
        }
        fixture_close(&f);
    }
    print_message("# %zu wires compiled differently\n", differing);
    assert_true(differing > 500);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lists), cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
