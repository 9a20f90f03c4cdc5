// SPDX-License-Identifier: BSD-3-Clause
// Every refusal of check and change, by code, field and what its message says.

#include "control/check.h"
#include "model_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct refusal {
    const char *path;
    const char *json;
    enum patchbay_error code;
    const char *field;
    const char *message; // some of it
};

// vm1 ─ [fw: f1, f2] ─ [ids: ids] ─ vm2, on vifs of their names; ports `nic` (untagged) and `nic5` (VLAN 5) on vif nic
// and `free` without vif; network n with port p.
static void build(struct fixture *f)
{
    fixture_open(f);
    static const char *const plugs[] = {"vm1", "vm2", "vm3", "f1", "f2", "ids", "nic"};
    for (size_t i = 0; i < sizeof(plugs) / sizeof(plugs[0]); i++)
        fixture_plug(f, plugs[i]);
    fixture_put(f, "ports/default/nic5", "{'vif':'nic','vlan':5}");
    fixture_put(f, "ports/default/free", "{}");
    fixture_put(f, "networks/n", "{}");
    fixture_put(f, "ports/n/p", "{}");
    fixture_put(f, "vifs/sock", "{'kind':'vhost','path':'/run/a.sock'}");
    fixture_put(f, "vifs/dev", "{'kind':'dev','devargs':'net_null0'}");
    fixture_put(f, "wires/default/w1",
                "{'a':'vm1','b':'vm2','tees':["
                "{'name':'fw','port':'f1','out_port':'f2','mode':'bump'},{'name':'ids','port':'ids'}]}");
    fixture_commit(f);
}

static void expect(const struct refusal *refusal, int ret, const struct error *error)
{
    if (ret >= 0)
        fail_msg("%s %s: not refused", refusal->path, refusal->json);
    if (error->code != refusal->code || strcmp(error->field, refusal->field) != 0 ||
        strstr(error->message, refusal->message) == NULL)
        fail_msg("%s %s: %s \"%s\": %s", refusal->path, refusal->json, error_code_name(error->code), error->field,
                 error->message);
}

static const struct refusal refusals[] = {
    {"vifs/-x", "{'kind':'none'}", PATCHBAY_ERROR_BAD_VALUE, "name", "the first a letter or digit"},
    {"vifs/x", "{'kind':'vhost'}", PATCHBAY_ERROR_BAD_VALUE, "path", "kind vhost needs path"},
    {"vifs/x", "{'kind':'vhost','path':''}", PATCHBAY_ERROR_BAD_VALUE, "path", "needs path"},
    {"vifs/x", "{'kind':'vhost','path':'a.sock'}", PATCHBAY_ERROR_BAD_VALUE, "path", "absolute"},
    {"vifs/x", "{'kind':'vhost','path':'/run/'}", PATCHBAY_ERROR_BAD_VALUE, "path", "directory"},
    {"vifs/x", "{'kind':'dev','devargs':''}", PATCHBAY_ERROR_BAD_VALUE, "devargs", "needs devargs"},
    {"vifs/x", "{'kind':'dev','devargs':',a=b'}", PATCHBAY_ERROR_BAD_VALUE, "devargs", "begin with a device"},
    {"vifs/x", "{'kind':'dev','devargs':'net_ null'}", PATCHBAY_ERROR_BAD_VALUE, "devargs", "begin with a device"},
    {"vifs/x", "{'kind':'kernel-new','interface':'a,b=c'}", PATCHBAY_ERROR_BAD_VALUE, "interface", "1 to 15"},
    {"vifs/x", "{'kind':'kernel-new','interface':'abcdefghijklmnop'}", PATCHBAY_ERROR_BAD_VALUE, "interface", "15"},
    {"vifs/x", "{'kind':'kernel-new','interface':'tap%d'}", PATCHBAY_ERROR_BAD_VALUE, "interface", "tap%d"},
    {"vifs/x", "{'kind':'vhost-server','path':'/run/./a.sock'}", PATCHBAY_ERROR_TARGET_IN_USE, "path", "vif \"sock\""},
    {"vifs/x", "{'kind':'dev','devargs':'net_null0,size=1'}", PATCHBAY_ERROR_TARGET_IN_USE, "devargs", "\"dev\""},
    {"vifs/sock", "{'kind':'none'}", PATCHBAY_ERROR_IMMUTABLE, "kind", "delete it and create it again"},
    {"vifs/sock", "{'kind':'vhost','path':'/run/b.sock'}", PATCHBAY_ERROR_IMMUTABLE, "path", "can't change"},
    {"vifs/dev", "{'kind':'dev','devargs':'net_null1'}", PATCHBAY_ERROR_IMMUTABLE, "devargs", "can't change"},

    {"ports/nowhere/x", "{}", PATCHBAY_ERROR_NOT_FOUND, "", "no network \"nowhere\""},
    {"ports/defalt/x", "{}", PATCHBAY_ERROR_NOT_FOUND, "", "did you mean \"default\"?"},
    {"ports/default/x", "{'vif':'vm9'}", PATCHBAY_ERROR_NO_SUCH_REF, "vif", "did you mean \"vm1\"?"},
    {"ports/default/x", "{'vif':'something'}", PATCHBAY_ERROR_NO_SUCH_REF, "vif", "create it first"},
    {"ports/default/x", "{'vif':'vm1'}", PATCHBAY_ERROR_VLAN_TAKEN, "vlan", "give one of them a vlan"},
    {"ports/default/x", "{'vif':'nic','vlan':5}", PATCHBAY_ERROR_VLAN_TAKEN, "vlan", "\"default/nic5\" has VLAN 5"},
    {"ports/default/nic5", "{'vif':'nic'}", PATCHBAY_ERROR_VLAN_TAKEN, "vlan", "default/nic\""},

    {"wires/nowhere/x", "{}", PATCHBAY_ERROR_NOT_FOUND, "", "no network \"nowhere\""},
    {"wires/default/x", "{'a':'vm33'}", PATCHBAY_ERROR_NO_SUCH_REF, "a", "did you mean \"vm3\"?"},
    {"wires/default/x", "{'a':'vm3','b':'p'}", PATCHBAY_ERROR_NO_SUCH_REF, "b", "in network \"default\""},
    {"wires/default/x", "{'a':'vm3','b':'vm3'}", PATCHBAY_ERROR_SAME_PORT, "b", "two different ports"},
    {"wires/default/x", "{'a':'vm1'}", PATCHBAY_ERROR_PORT_IN_USE, "a", "end a of wire \"default/w1\""},
    {"wires/default/x", "{'b':'f2'}", PATCHBAY_ERROR_PORT_IN_USE, "b", "out_port of wire \"default/w1\", T \"fw\""},
    {"wires/default/x", "{'b':'ids'}", PATCHBAY_ERROR_PORT_IN_USE, "b", "T \"ids\""},
    {"wires/default/x", "{'tees':[{'name':'t','port':'vm2'}]}", PATCHBAY_ERROR_PORT_IN_USE, "tees[0].port", "end b"},
    {"wires/default/x", "{'tees':[{'name':'t','port':'f1'}]}", PATCHBAY_ERROR_PORT_IN_USE, "tees[0].port", "\"fw\""},
    {"wires/default/x", "{'a':'vm3','tees':[{'name':'t','port':'vm3'}]}", PATCHBAY_ERROR_PORT_IN_USE, "tees[0].port",
     "end a of wire \"default/x\""},
    {"wires/default/x",
     "{'tees':[{'name':'t','port':'free'},{'name':'u','port':'nic','out_port':'free','mode':'bump'}]}",
     PATCHBAY_ERROR_PORT_IN_USE, "tees[1].out_port", "T \"t\""},
    {"wires/default/x", "{'tees':[{'name':'t','port':'nic','out_port':'ids','mode':'bump'}]}",
     PATCHBAY_ERROR_PORT_IN_USE, "tees[0].out_port", "T \"ids\""},
    {"wires/default/x", "{'tees':[{'name':'t','port':'m/p'}]}", PATCHBAY_ERROR_NO_SUCH_REF, "tees[0].port",
     "network \"m\""},
    {"wires/default/x", "{'tees':[{'name':'t','port':'n/q'}]}", PATCHBAY_ERROR_NO_SUCH_REF, "tees[0].port",
     "did you mean \"p\"?"},
    {"wires/default/x", "{'tees':[{'name':'t','port':'nic','mode':'bump'}]}", PATCHBAY_ERROR_BUMP_NEEDS_OUT,
     "tees[0].out_port", "give T \"t\" an out_port"},
    {"wires/default/x", "{'tees':[{'name':'t'}]}", PATCHBAY_ERROR_BAD_VALUE, "tees[0].port", "needs a port"},
    {"wires/default/x", "{'tees':[{'name':'t','out_port':'nic','mode':'bump'}]}", PATCHBAY_ERROR_BAD_VALUE,
     "tees[0].port", "mode bump needs a port"},
    {"wires/default/x", "{'tees':[{'name':'t','port':'nic','out_port':'default/nic','mode':'off'}]}",
     PATCHBAY_ERROR_SAME_PORT, "tees[0].out_port", "must be two"},
    {"wires/default/x", "{'tees':[{'name':'t','port':'ids'},{'name':'t','port':'ids'}]}", PATCHBAY_ERROR_BAD_VALUE,
     "tees[1].name", "two Ts called \"t\""},

    {"tees/default/w1/new", "{'port':'vm1'}", PATCHBAY_ERROR_PORT_IN_USE, "port", "end a"},
    {"tees/default/w1/new", "{'port':'free','mode':'bump'}", PATCHBAY_ERROR_BUMP_NEEDS_OUT, "out_port", "out_port"},
    {"tees/default/w1/ids", "{'port':'vm1'}", PATCHBAY_ERROR_PORT_IN_USE, "port", "end a"},
};

static void test_puts(void **state)
{
    (void)state;
    struct fixture f;
    build(&f);
    char *before = fixture_dump(f.model);
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        struct error error;
        size_t slots = model_slots_taken(f.model);
        int ret = fixture_try_put(&f, refusals[i].path, refusals[i].json, NULL, &error);
        expect(&refusals[i], ret, &error);
        assert_true(model_change_is_empty(&f.change));
        assert_int_equal(model_slots_taken(f.model), slots);
    }
    char *after = fixture_dump(f.model);
    assert_string_equal(before, after);
    free(before);
    free(after);
    fixture_close(&f);
}

static void test_path_lengths(void **state)
{
    (void)state;
    struct fixture f;
    build(&f);
    struct error error;
    char json[1200];
    char path[120];
    memset(path, 'x', sizeof(path));
    path[0] = '/';
    path[LIMIT_SOCKET_PATH_LEN + 1] = '\0';
    snprintf(json, sizeof(json), "{'kind':'vhost','path':'%s'}", path);
    assert_int_equal(fixture_try_put(&f, "vifs/x", json, NULL, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_BAD_VALUE);
    assert_non_null(strstr(error.message, "107 bytes, this one has 108"));
    path[LIMIT_SOCKET_PATH_LEN] = '\0';
    snprintf(json, sizeof(json), "{'kind':'vhost','path':'%s'}", path);
    assert_int_equal(fixture_try_put(&f, "vifs/x", json, NULL, &error), CHANGE_CREATED);

    char devargs[LIMIT_TARGET_LEN + 2];
    memset(devargs, 'd', sizeof(devargs));
    devargs[LIMIT_TARGET_LEN + 1] = '\0';
    snprintf(json, sizeof(json), "{'kind':'dev','devargs':'%s'}", devargs);
    assert_int_equal(fixture_try_put(&f, "vifs/y", json, NULL, &error), -EINVAL);
    assert_non_null(strstr(error.message, "511 bytes"));
    devargs[LIMIT_TARGET_LEN] = '\0';
    snprintf(json, sizeof(json), "{'kind':'dev','devargs':'%s'}", devargs);
    assert_int_equal(fixture_try_put(&f, "vifs/y", json, NULL, &error), CHANGE_CREATED);
    fixture_close(&f);
}

// What must not be refused although it is close to it.
static void test_allowed(void **state)
{
    (void)state;
    struct fixture f;
    build(&f);
    // A monitor serves many Ts, of other networks too; a T that is off excludes nobody.
    fixture_put(&f, "wires/n/x", "{'a':'p','tees':[{'name':'t','port':'default/ids','out_port':'default/free'}]}");
    fixture_put(&f, "wires/default/y",
                "{'a':'vm3','tees':[{'name':'t','port':'ids'},{'name':'u','port':'vm1','mode':'off'},"
                "{'name':'v','port':'f1','out_port':'f2','mode':'off'}]}");
    // A wire may take its own ports again, the other way round.
    fixture_patch(&f, "wires/default/w1", "{'a':'vm2','b':'vm1'}");
    fixture_patch(&f, "tees/default/w1/fw", "{'port':'f2','out_port':'f1'}");
    // A port whose vif changes keeps its uses.
    fixture_put(&f, "ports/default/vm2", "{}");
    // Both ends on one NIC.
    fixture_put(&f, "wires/default/z", "{'a':'nic','b':'nic5'}");
    fixture_verify(f.model);
    // Ports of one name in two networks are two.
    fixture_put(&f, "ports/n/free", "{}");
    fixture_put(&f, "tees/default/y/two", "{'port':'n/free','out_port':'free','mode':'off'}");
    // Now the T that was off wants what others have.
    struct error error;
    assert_int_equal(fixture_try_patch(&f, "tees/default/y/v", "{'mode':'bump'}", NULL, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_PORT_IN_USE);
    assert_string_equal(error.field, "port");
    assert_int_equal(error.user_total, 1);
    assert_string_equal(error.users[0].tee, "fw");
    fixture_close(&f);
}

// Ts that are off hold the port too, and wires named before and after the one that has it as an arm.
static void test_behind_references(void **state)
{
    (void)state;
    struct fixture f;
    build(&f);
    fixture_put(&f, "wires/default/a0", "{'tees':[{'name':'t','port':'f1','mode':'off'}]}");
    fixture_put(&f, "wires/default/z9", "{'tees':[{'name':'t','port':'f1','mode':'off'}]}");
    static const char *const claims[] = {"{'a':'f1'}", "{'tees':[{'name':'t','port':'f1'}]}",
                                         "{'tees':[{'name':'t','port':'f1','out_port':'free','mode':'bump'}]}"};
    for (size_t i = 0; i < 3; i++) {
        struct error error;
        assert_int_equal(fixture_try_put(&f, "wires/default/x", claims[i], NULL, &error), -EINVAL);
        assert_int_equal(error.code, PATCHBAY_ERROR_PORT_IN_USE);
        assert_int_equal(error.user_total, 1);
        assert_string_equal(error.users[0].tee, "fw");
    }
    fixture_close(&f);
}

static void test_deletes(void **state)
{
    (void)state;
    struct fixture f;
    build(&f);
    static const struct refusal deletes[] = {
        {"networks/default", "", PATCHBAY_ERROR_IMMUTABLE, "", "always exists"},
        {"networks/n", "", PATCHBAY_ERROR_IN_USE, "", "delete these first"},
        {"vifs/vm1", "", PATCHBAY_ERROR_IN_USE, "", "?detach=1"},
        {"ports/default/ids", "", PATCHBAY_ERROR_IN_USE, "", "used (once)"},
        {"ports/default/x", "", PATCHBAY_ERROR_NOT_FOUND, "", "no port \"x\""},
        {"wires/default/w2", "", PATCHBAY_ERROR_NOT_FOUND, "", "did you mean \"w1\"?"},
        {"wires/nn/w1", "", PATCHBAY_ERROR_NOT_FOUND, "", "no network \"nn\" "},
        {"tees/default/w1/id", "", PATCHBAY_ERROR_NOT_FOUND, "", "did you mean \"ids\"?"},
        {"tees/default/w1/zzzzz", "", PATCHBAY_ERROR_NOT_FOUND, "", "it has 2"},
    };
    for (size_t i = 0; i < sizeof(deletes) / sizeof(deletes[0]); i++) {
        struct error error;
        if (strcmp(deletes[i].path, "wires/nn/w1") == 0) {
            assert_null(check_find(f.model, OBJECT_WIRE, "nn", "w1", &error));
            assert_int_equal(error.code, PATCHBAY_ERROR_NOT_FOUND);
            assert_non_null(strstr(error.message, "no network \"nn\""));
            continue;
        }
        int ret = fixture_try_delete(&f, deletes[i].path, NULL, &error);
        expect(&deletes[i], ret, &error);
    }
    struct error error;
    fixture_put(&f, "wires/n/x", "{'tees':[{'name':'t','out_port':'default/vm1','mode':'off'}]}");
    assert_int_equal(fixture_try_delete(&f, "ports/default/vm1", NULL, &error), -EINVAL);
    assert_int_equal(error.user_total, 2);
    assert_int_equal(error.user_count, 2);
    assert_int_equal(error.users[0].as, USE_WIRE_A);
    assert_string_equal(error.users[0].name, "w1");
    assert_string_equal(error.users[0].network, "default");
    assert_int_equal(error.users[1].as, USE_TEE_OUT_PORT);
    assert_string_equal(error.users[1].network, "n");
    assert_string_equal(error.users[1].tee, "t");
    assert_int_equal(fixture_try_delete(&f, "vifs/nic", NULL, &error), -EINVAL);
    assert_int_equal(error.user_total, 2);
    assert_int_equal(error.users[0].as, USE_PORT_VIF);
    assert_int_equal(fixture_try_delete(&f, "networks/n", NULL, &error), -EINVAL);
    assert_int_equal(error.user_total, 2);
    assert_int_equal(error.users[0].as, USE_NETWORK_WIRE);
    assert_int_equal(error.users[1].as, USE_NETWORK_PORT);
    fixture_close(&f);
}

static void test_many_users(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fixture_plug(&f, "mon");
    for (unsigned i = 0; i < 100; i++) {
        char path[64];
        snprintf(path, sizeof(path), "wires/default/w%u", i);
        fixture_put(&f, path, "{'tees':[{'name':'t','port':'mon'}]}");
    }
    struct error error;
    assert_int_equal(fixture_try_delete(&f, "ports/default/mon", NULL, &error), -EINVAL);
    assert_int_equal(error.user_total, 100);
    assert_int_equal(error.user_count, ERROR_USERS_MAX);
    fixture_put(&f, "wires/default/other", "{}");
    assert_int_equal(fixture_try_patch(&f, "wires/default/other", "{'a':'mon'}", NULL, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_PORT_IN_USE);
    assert_int_equal(error.user_total, 100);
    fixture_close(&f);
}

static void fill(struct fixture *f, const char *kind, const char *field, unsigned from, unsigned count)
{
    char path[64];
    char json[128];
    for (unsigned i = from; i < from + count; i++) {
        snprintf(path, sizeof(path), "vifs/x%u", i);
        snprintf(json, sizeof(json), "{'kind':'%s','%s':'%s%u'}", kind, field, field[0] == 'p' ? "/s" : "d", i);
        fixture_put(f, path, json);
    }
}

static void expect_limit(struct fixture *f, const char *path, const char *json, const char *limit)
{
    struct error error;
    assert_int_equal(fixture_try_put(f, path, json, NULL, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_LIMIT_REACHED);
    assert_non_null(strstr(error.message, limit));
}

static void test_vif_limits(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    fill(&f, "dev", "devargs", 0, LIMIT_ETHDEVS - 1);
    fill(&f, "kernel-new", "interface", 100, 1);
    expect_limit(&f, "vifs/one", "{'kind':'kernel-new','interface':'one'}", "LIMIT_ETHDEVS");
    expect_limit(&f, "vifs/one", "{'kind':'dev','devargs':'one'}", "LIMIT_ETHDEVS");
    fill(&f, "vhost", "path", 1000, LIMIT_VHOST);
    expect_limit(&f, "vifs/one", "{'kind':'vhost','path':'/one'}", "LIMIT_VHOST)");
    fill(&f, "vhost-server", "path", 3000, LIMIT_VHOST_SERVERS - LIMIT_VHOST / 2);
    expect_limit(&f, "vifs/one", "{'kind':'vhost-server','path':'/one'}", "descriptor set");
    fixture_close(&f);
    fixture_open(&f);
    fill(&f, "vhost-server", "path", 0, LIMIT_VHOST_SERVERS);
    expect_limit(&f, "vifs/one", "{'kind':'vhost-server','path':'/one'}", "LIMIT_VHOST_SERVERS");
    expect_limit(&f, "vifs/one", "{'kind':'vhost','path':'/one'}", "descriptor set");
    fixture_close(&f);
    // One place is left, and a server takes two.
    fixture_open(&f);
    fill(&f, "vhost-server", "path", 0, LIMIT_VHOST_SERVERS - 1);
    fill(&f, "vhost", "path", 1000, 1);
    expect_limit(&f, "vifs/one", "{'kind':'vhost-server','path':'/one'}", "descriptor set");
    fill(&f, "vhost", "path", 1001, 1);
    fixture_close(&f);
}

static void test_counts(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    char path[64];
    for (unsigned i = 1; i < LIMIT_NETWORKS; i++) {
        snprintf(path, sizeof(path), "networks/n%u", i);
        fixture_put(&f, path, "{}");
    }
    expect_limit(&f, "networks/one", "{}", "LIMIT_NETWORKS");
    for (unsigned i = 0; i < LIMIT_WIRES; i++) {
        snprintf(path, sizeof(path), "wires/default/w%u", i);
        fixture_put(&f, path, "{}");
    }
    expect_limit(&f, "wires/default/one", "{}", "LIMIT_WIRES");
    fixture_patch(&f, "wires/default/w7", "{'admin':'down'}"); // a change isn't one more
    for (unsigned i = 0; i < LIMIT_PORTS; i++) {
        snprintf(path, sizeof(path), "ports/default/p%u", i);
        fixture_put(&f, path, "{}");
    }
    expect_limit(&f, "ports/default/one", "{}", "LIMIT_PORTS");
    // Suggestions work where only the neighbours are looked at.
    struct error error;
    assert_null(check_find(f.model, OBJECT_PORT, "default", "p12345x", &error));
    assert_non_null(strstr(error.message, "did you mean \"p12345\"?"));
    for (unsigned i = 0; i < LIMIT_VIFS; i++) {
        snprintf(path, sizeof(path), "vifs/v%u", i);
        fixture_put(&f, path, "{'kind':'none'}");
    }
    expect_limit(&f, "vifs/one", "{'kind':'none'}", "LIMIT_VIFS");
    // One deleted, but its device is still there: no slot, and the message says to wait.
    assert_int_equal(fixture_try_delete(&f, "vifs/v5", NULL, &error), 0);
    expect_limit(&f, "vifs/one", "{'kind':'none'}", "try again when it is gone");
    model_slot_release(f.model, 5);
    fixture_put(&f, "vifs/one", "{'kind':'none'}");
    fixture_close(&f);
}

static void test_match(void **state)
{
    (void)state;
    struct object object = {.kind = OBJECT_WIRE, .name = "w", .generation = 17};
    struct error error;
    static const struct {
        bool exists;
        const char *if_match;
        const char *if_none_match;
        enum patchbay_error code;
    } cases[] = {
        {true, NULL, NULL, PATCHBAY_OK},
        {false, NULL, NULL, PATCHBAY_OK},
        {true, "\"17\"", NULL, PATCHBAY_OK},
        {true, "*", NULL, PATCHBAY_OK},
        {false, "*", NULL, PATCHBAY_ERROR_STALE},
        {true, "\"16\"", NULL, PATCHBAY_ERROR_STALE},
        {true, "\"1\"", NULL, PATCHBAY_ERROR_STALE},
        {true, "\"170\"", NULL, PATCHBAY_ERROR_STALE},
        {false, "\"17\"", NULL, PATCHBAY_ERROR_STALE},
        {true, "W/\"17\"", NULL, PATCHBAY_ERROR_STALE},
        {true, "\"1\", \"17\" ,\"18\"", NULL, PATCHBAY_OK},
        {true, "17", NULL, PATCHBAY_ERROR_MALFORMED},
        {true, "\"17", NULL, PATCHBAY_ERROR_MALFORMED},
        {true, "", NULL, PATCHBAY_ERROR_MALFORMED},
        {true, "\"17\" \"18\"", NULL, PATCHBAY_ERROR_MALFORMED},
        {false, "\"\"", NULL, PATCHBAY_ERROR_STALE},
        {true, NULL, "*", PATCHBAY_ERROR_EXISTS},
        {false, NULL, "*", PATCHBAY_OK},
        {true, NULL, "\"17\"", PATCHBAY_ERROR_EXISTS},
        {true, NULL, "\"16\"", PATCHBAY_OK},
        {false, NULL, "\"\"", PATCHBAY_OK},
        {true, NULL, "x", PATCHBAY_ERROR_MALFORMED},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int ret = check_match(cases[i].exists ? &object : NULL, cases[i].if_match, cases[i].if_none_match, &error);
        if (error.code != cases[i].code || (ret == 0) != (cases[i].code == PATCHBAY_OK))
            fail_msg("case %zu: %d %s", i, ret, error_code_name(error.code));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_puts),       cmocka_unit_test(test_path_lengths),
        cmocka_unit_test(test_allowed),    cmocka_unit_test(test_behind_references),
        cmocka_unit_test(test_deletes),    cmocka_unit_test(test_many_users),
        cmocka_unit_test(test_vif_limits), cmocka_unit_test(test_counts),
        cmocka_unit_test(test_match),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
