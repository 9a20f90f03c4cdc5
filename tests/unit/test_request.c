// SPDX-License-Identifier: BSD-3-Clause
// Decoding and encoding: what clients may write, what they may not, and what
// they are told then.

#include "control/request.h"
#include "model_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// ---- bodies ----

static void expect_refused_body(const char *body, size_t size, enum patchbay_error code, const char *message)
{
    struct error error;
    // In memory of just this size, so that a sanitizer sees a read behind it.
    char *copy = malloc(size != 0 ? size : 1);
    memcpy(copy, body, size);
    json_t *json = request_parse(copy, size, &error);
    free(copy);
    if (json != NULL)
        fail_msg("not refused: %.60s", body);
    if (error.code != code || strstr(error.message, message) == NULL)
        fail_msg("%.60s: %s: %s", body, error_code_name(error.code), error.message);
}

static void test_bodies(void **state)
{
    (void)state;
    static const struct {
        const char *body;
        enum patchbay_error code;
        const char *message;
    } cases[] = {
        {"", PATCHBAY_ERROR_MALFORMED, "empty"},
        {"   ", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"{", PATCHBAY_ERROR_MALFORMED, "line 1"},
        {"{\"a\":1}x", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"[]", PATCHBAY_ERROR_MALFORMED, "not an array"},
        {"5", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"null", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"{'a':1}", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"{\"a\":1,\"a\":2}", PATCHBAY_ERROR_MALFORMED, "duplicate"},
        {"{\"a\":{\"b\":1,\"b\":1}}", PATCHBAY_ERROR_MALFORMED, "duplicate"},
        {"{\"a\":\"\xff\"}", PATCHBAY_ERROR_MALFORMED, "unable to decode byte"},
        {"{\"a\":\"\xc0\xaf\"}", PATCHBAY_ERROR_MALFORMED, "unable to decode byte"},
        {"{\"a\":\"\\ud800\"}", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"{\"a\":\"\\u0000\"}", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"{\"a\\u0000b\":1}", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"{\"a\":99999999999999999999}", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"{\"a\":1e999}", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"{\"a\":01}", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"{\"a\":NaN}", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"{\"a\":\"x\ny\"}", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]", PATCHBAY_ERROR_TOO_LARGE, "17 levels deep; 16"},
        {"[[[[[[[[[[[[[[[[[", PATCHBAY_ERROR_TOO_LARGE, "17 levels"},
        {"\"\\", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
        {"]]]]]]{", PATCHBAY_ERROR_MALFORMED, "isn't JSON"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        expect_refused_body(cases[i].body, strlen(cases[i].body), cases[i].code, cases[i].message);
    expect_refused_body("{}\0", 3, PATCHBAY_ERROR_MALFORMED, "isn't JSON");

    // 16 levels, and brackets in strings, are fine.
    struct error error;
    const char *deep = "{\"a\":[[[[[[[[[[[[[[[\"[[[[[[[[\\\"[[[[\"]]]]]]]]]]]]]]]}";
    json_t *json = request_parse(deep, strlen(deep), &error);
    assert_non_null(json);
    json_decref(json);

    size_t size = LIMIT_REQUEST_BYTES + 1;
    char *large = malloc(size);
    memset(large, ' ', size);
    memcpy(large, "{}", 2);
    json = request_parse(large, size - 1, &error);
    assert_non_null(json);
    json_decref(json);
    expect_refused_body(large, size, PATCHBAY_ERROR_TOO_LARGE, "1048576 bytes, this one has 1048577");
    memset(large, '[', size - 1);
    expect_refused_body(large, size - 1, PATCHBAY_ERROR_TOO_LARGE, "levels deep");
    free(large);
}

// ---- fields ----

struct refusal {
    const char *path;
    const char *json;
    enum patchbay_error code;
    const char *field;
    const char *message;
};

static const struct refusal put_refusals[] = {
    {"vifs/v", "{}", PATCHBAY_ERROR_BAD_VALUE, "kind", "a vif needs kind"},
    {"vifs/v", "{'kind':null}", PATCHBAY_ERROR_BAD_VALUE, "kind", "needs kind"},
    {"vifs/v", "{'kind':'tap'}", PATCHBAY_ERROR_BAD_VALUE, "kind",
     "kind must be \"vhost\", \"vhost-server\", \"dev\", \"kernel-new\" or \"none\", not \"tap\""},
    {"vifs/v", "{'kind':5}", PATCHBAY_ERROR_BAD_VALUE, "kind", "not a number"},
    {"vifs/v", "{'kind':'none','path':'/x'}", PATCHBAY_ERROR_BAD_VALUE, "path", "kind none has no path; leave it out"},
    {"vifs/v", "{'kind':'dev','path':'/x'}", PATCHBAY_ERROR_BAD_VALUE, "path", "its field is devargs"},
    {"vifs/v", "{'kind':'vhost','path':['/x']}", PATCHBAY_ERROR_BAD_VALUE, "path", "a string or null, not an array"},
    {"vifs/v", "{'kind':'vhost','path':'/x\\u0007'}", PATCHBAY_ERROR_BAD_VALUE, "path", "control character"},
    {"vifs/v", "{'kind':'none','owner':{}}", PATCHBAY_ERROR_BAD_VALUE, "owner", "not an object"},
    {"vifs/v", "{'kind':'none','owner':'a\\nb'}", PATCHBAY_ERROR_BAD_VALUE, "owner", "control character"},
    {"vifs/v", "{'kind':'none','name':'w'}", PATCHBAY_ERROR_BAD_VALUE, "name", "the path says \"v\""},
    {"vifs/v", "{'kind':'none','name':5}", PATCHBAY_ERROR_BAD_VALUE, "name", "must be a string"},
    {"vifs/v", "{'kind':'none','ownr':'x'}", PATCHBAY_ERROR_UNKNOWN_FIELD, "ownr", "did you mean \"owner\"?"},
    {"vifs/v", "{'kind':'none','zzzzzz':'x'}", PATCHBAY_ERROR_UNKNOWN_FIELD, "zzzzzz",
     "a vif has no field \"zzzzzz\"; it has name, kind, path, devargs, interface, owner, admin, worker, mtu, labels"},
    {"vifs/v", "{'kind':'none','worker':64}", PATCHBAY_ERROR_BAD_VALUE, "worker",
     "null or a whole number from 0 to 63"},
    {"vifs/v", "{'kind':'dev','devargs':'d','mtu':67}", PATCHBAY_ERROR_BAD_VALUE, "mtu", "from 68 to 9198, not 67"},
    {"vifs/v", "{'kind':'none','worker':-1}", PATCHBAY_ERROR_BAD_VALUE, "worker", "from 0 to 63, not -1"},
    {"vifs/v", "{'kind':'none','labels':[]}", PATCHBAY_ERROR_BAD_VALUE, "labels", "an object of strings"},
    {"vifs/v", "{'kind':'none','labels':{'a':5}}", PATCHBAY_ERROR_BAD_VALUE, "labels.a", "must be a string"},
    {"vifs/v", "{'kind':'none','labels':{'a':null}}", PATCHBAY_ERROR_BAD_VALUE, "labels.a", "not null"},
    {"vifs/v", "{'kind':'none','labels':{'':'x'}}", PATCHBAY_ERROR_BAD_VALUE, "labels.", "1 to 63"},
    {"vifs/v", "{'kind':'none','labels':{'a\\n':'x'}}", PATCHBAY_ERROR_BAD_VALUE, "labels.a?", "control"},
    {"ports/default/p", "{'vif':5}", PATCHBAY_ERROR_BAD_VALUE, "vif", "a name or null, not a number"},
    {"ports/default/p", "{'vif':''}", PATCHBAY_ERROR_BAD_VALUE, "vif", "null means none"},
    {"ports/default/p", "{'vif':'a/b'}", PATCHBAY_ERROR_BAD_VALUE, "vif", "can't be the name of a vif"},
    {"ports/default/p", "{'vlan':0}", PATCHBAY_ERROR_BAD_VALUE, "vlan", "null or a whole number from 1 to 4094, not 0"},
    {"ports/default/p", "{'vlan':4095}", PATCHBAY_ERROR_BAD_VALUE, "vlan", "not 4095"},
    {"ports/default/p", "{'vlan':-1}", PATCHBAY_ERROR_BAD_VALUE, "vlan", "not -1"},
    {"ports/default/p", "{'vlan':65537}", PATCHBAY_ERROR_BAD_VALUE, "vlan", "not 65537"},
    {"ports/default/p", "{'vlan':4294967297}", PATCHBAY_ERROR_BAD_VALUE, "vlan", "not 4294967297"},
    {"ports/default/p", "{'vlan':5.5}", PATCHBAY_ERROR_BAD_VALUE, "vlan", "a number with a fraction"},
    {"ports/default/p", "{'vlan':5.0}", PATCHBAY_ERROR_BAD_VALUE, "vlan", "a number with a fraction"},
    {"ports/default/p", "{'vlan':'5'}", PATCHBAY_ERROR_BAD_VALUE, "vlan", "not a string"},
    {"ports/default/p", "{'vlan':true}", PATCHBAY_ERROR_BAD_VALUE, "vlan", "not true"},
    {"wires/default/w", "{'stall_ms':0}", PATCHBAY_ERROR_BAD_VALUE, "stall_ms", "from 1 to 60000"},
    {"wires/default/w", "{'admin':'UP'}", PATCHBAY_ERROR_BAD_VALUE, "admin", "\"up\" or \"down\", not \"UP\""},
    {"wires/default/w", "{'on_full':'block'}", PATCHBAY_ERROR_BAD_VALUE, "on_full", "\"wait\" or \"drop\""},
    {"wires/default/w", "{'stall':5}", PATCHBAY_ERROR_UNKNOWN_FIELD, "stall", "a wire has no field"},
    {"wires/default/w", "{'tees':{}}", PATCHBAY_ERROR_BAD_VALUE, "tees", "an array of Ts"},
    {"wires/default/w", "{'tees':[5]}", PATCHBAY_ERROR_BAD_VALUE, "tees[0]", "a T must be an object, not a number"},
    {"wires/default/w", "{'tees':[{}]}", PATCHBAY_ERROR_BAD_VALUE, "tees[0].name", "needs a name"},
    {"wires/default/w", "{'tees':[{'name':'a/b'}]}", PATCHBAY_ERROR_BAD_VALUE, "tees[0].name", "first a letter"},
    {"wires/default/w", "{'tees':[{'name':'t','mode':'on'}]}", PATCHBAY_ERROR_BAD_VALUE, "tees[0].mode", "\"bump\""},
    {"wires/default/w", "{'tees':[{'name':'t','before':'x'}]}", PATCHBAY_ERROR_UNKNOWN_FIELD, "tees[0].before",
     "the order of `tees`"},
    {"wires/default/w", "{'tees':[{'name':'t','when_ready':true}]}", PATCHBAY_ERROR_UNKNOWN_FIELD, "tees[0].when_ready",
     "no field"},
    {"wires/default/w", "{'tees':[{'name':'t','port':'a/b/c'}]}", PATCHBAY_ERROR_BAD_VALUE, "tees[0].port",
     "network/port"},
    {"wires/default/w", "{'tees':[{'name':'t','port':'/p'}]}", PATCHBAY_ERROR_BAD_VALUE, "tees[0].port",
     "network/port"},
    {"wires/default/w", "{'tees':[{'name':'t','port':'n/'}]}", PATCHBAY_ERROR_BAD_VALUE, "tees[0].port",
     "network/port"},
    {"wires/default/w", "{'tees':[{'name':'t','port':7}]}", PATCHBAY_ERROR_BAD_VALUE, "tees[0].port", "a port"},
    {"wires/default/w", "{'tees':[{'name':'t','labels':{'x':1}}]}", PATCHBAY_ERROR_BAD_VALUE, "tees[0].labels.x",
     "must be a string"},
    {"networks/n", "{'ports':[]}", PATCHBAY_ERROR_UNKNOWN_FIELD, "ports", "a network has no field"},
};

static const struct refusal patch_refusals[] = {
    {"wires/default/w", "{'uid':'x'}", PATCHBAY_ERROR_BAD_VALUE, "uid", "only read"},
    {"wires/default/w", "{'status':{}}", PATCHBAY_ERROR_BAD_VALUE, "status", "only read"},
    {"wires/default/w", "{'name':'x'}", PATCHBAY_ERROR_BAD_VALUE, "name", "can't change"},
    {"vifs/v", "{'kind':null}", PATCHBAY_ERROR_BAD_VALUE, "kind", "needs kind"},
    {"vifs/v", "{'kind':'none'}", PATCHBAY_ERROR_IMMUTABLE, "kind", "can't become none"},
    {"vifs/v", "{'path':null}", PATCHBAY_ERROR_BAD_VALUE, "path", "needs path"},
    {"tees/default/w/t", "{'moed':'off'}", PATCHBAY_ERROR_UNKNOWN_FIELD, "moed", "did you mean \"mode\"?"},
    {"tees/default/w/u", "{'mode':'off'}", PATCHBAY_ERROR_NOT_FOUND, "", "did you mean \"t\"?"},
};

static void expect(const struct refusal *refusal, int ret, const struct error *error)
{
    if (ret >= 0)
        fail_msg("%s %s: not refused", refusal->path, refusal->json);
    if (error->code != refusal->code || strcmp(error->field, refusal->field) != 0 ||
        strstr(error->message, refusal->message) == NULL)
        fail_msg("%s %s: %s \"%s\": %s", refusal->path, refusal->json, error_code_name(error->code), error->field,
                 error->message);
    json_t *json = request_encode_error(error);
    assert_non_null(json);
    assert_non_null(json_object_get(json_object_get(json, "error"), "field"));
    json_decref(json);
}

static void build(struct fixture *f)
{
    fixture_open(f);
    fixture_put(f, "vifs/v", "{'kind':'vhost','path':'/s'}");
    fixture_put(f, "ports/default/p", "{}");
    fixture_put(f, "wires/default/w", "{'tees':[{'name':'t','port':'p'}]}");
    fixture_commit(f);
}

static void test_refusals(void **state)
{
    (void)state;
    struct fixture f;
    struct error error;
    build(&f);
    for (size_t i = 0; i < sizeof(put_refusals) / sizeof(put_refusals[0]); i++)
        expect(&put_refusals[i], fixture_try_put(&f, put_refusals[i].path, put_refusals[i].json, NULL, &error), &error);
    for (size_t i = 0; i < sizeof(patch_refusals) / sizeof(patch_refusals[0]); i++)
        expect(&patch_refusals[i], fixture_try_patch(&f, patch_refusals[i].path, patch_refusals[i].json, NULL, &error),
               &error);
    assert_true(model_change_is_empty(&f.change));

    // Lengths, counts.
    char json[8192];
    char text[600];
    memset(text, 'x', sizeof(text));
    snprintf(json, sizeof(json), "{'kind':'none','owner':'%.256s'}", text);
    assert_int_equal(fixture_try_put(&f, "vifs/o", json, NULL, &error), -EINVAL);
    assert_non_null(strstr(error.message, "255 bytes"));
    snprintf(json, sizeof(json), "{'labels':{'a':'%.256s'}}", text);
    assert_int_equal(fixture_try_put(&f, "networks/l", json, NULL, &error), -EINVAL);
    assert_string_equal(error.field, "labels.a");
    snprintf(json, sizeof(json), "{'labels':{'%.64s':'a'}}", text);
    assert_int_equal(fixture_try_put(&f, "networks/l", json, NULL, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_BAD_VALUE);
    size_t len = (size_t)snprintf(json, sizeof(json), "{'labels':{");
    for (unsigned i = 0; i <= LIMIT_LABELS; i++)
        len += (size_t)snprintf(json + len, sizeof(json) - len, "%s'k%u':'v'", i > 0 ? "," : "", i);
    snprintf(json + len, sizeof(json) - len, "}}");
    assert_int_equal(fixture_try_put(&f, "networks/l", json, NULL, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_LIMIT_REACHED);
    len = (size_t)snprintf(json, sizeof(json), "{'tees':[");
    for (unsigned i = 0; i <= LIMIT_TEES; i++)
        len += (size_t)snprintf(json + len, sizeof(json) - len, "%s{'name':'t%u','port':'p'}", i > 0 ? "," : "", i);
    snprintf(json + len, sizeof(json) - len, "]}");
    assert_int_equal(fixture_try_put(&f, "wires/default/w", json, NULL, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_LIMIT_REACHED);
    assert_string_equal(error.field, "tees[16]");
    // Names in the path that would be cut to others'.
    snprintf(json, sizeof(json), "ports/default/%.70s", text);
    assert_int_equal(fixture_try_put(&f, json, "{}", NULL, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_BAD_VALUE);
    snprintf(json, sizeof(json), "tees/default/w/%.70s", text);
    assert_int_equal(fixture_try_put(&f, json, "{'port':'p'}", NULL, &error), -EINVAL);
    assert_int_equal(error.code, PATCHBAY_ERROR_BAD_VALUE);
    fixture_close(&f);
}

// ---- what goes in comes out ----

static void expect_json(json_t *json, const char *wanted)
{
    char *text = json_dumps(json, JSON_COMPACT);
    for (char *c = text; *c != '\0'; c++)
        *c = (char)(*c == '"' ? '\'' : *c);
    assert_string_equal(text, wanted);
    free(text);
    json_decref(json);
}

static json_t *encode(const struct object *object)
{
    json_t *json = request_encode(object);
    assert_int_equal(json_string_length(json_object_get(json, "uid")), 36);
    json_object_del(json, "uid");
    size_t i;
    json_t *tee;
    json_array_foreach(json_object_get(json, "tees"), i, tee)
    {
        assert_int_equal(json_string_length(json_object_get(tee, "uid")), 36);
        json_object_del(tee, "uid");
    }
    return json;
}

static void test_encode(void **state)
{
    (void)state;
    struct fixture f;
    build(&f);
    fixture_put(&f, "networks/n", "{'labels':{'b':'2','a':'1'}}");
    expect_json(encode(&model_find_network(f.model, "n")->object), "{'name':'n','labels':{'a':'1','b':'2'}}");
    expect_json(
        encode(&model_find_vif(f.model, "v")->object),
        "{'name':'v','kind':'vhost','path':'/s','owner':null,'admin':'up','worker':null,'mtu':null,'labels':{}}");
    fixture_put(&f, "vifs/k", "{'kind':'kernel-new','interface':'t0','owner':'ä','worker':0,'labels':{'x':''}}");
    expect_json(encode(&model_find_vif(f.model, "k")->object),
                "{'name':'k','kind':'kernel-new','interface':'t0','owner':'ä','admin':'up','worker':0,'mtu':null,'"
                "labels':{'x':''}}");
    fixture_put(&f, "vifs/n", "{'kind':'none'}");
    expect_json(encode(&model_find_vif(f.model, "n")->object),
                "{'name':'n','kind':'none','owner':null,'admin':'up','worker':null,'mtu':null,'labels':{}}");
    expect_json(
        encode(&model_find_port(f.model, "default", "p")->object),
        "{'name':'p','vif':null,'vlan':null,'admin':'up','ingress_bps':null,'ingress_burst':null,'ingress_pps':null,"
        "'ingress_burst_frames':null,'egress_bps':null,'egress_burst':null,'egress_pps':null,'egress_burst_frames':"
        "null,"
        "'labels':{}}");
    fixture_put(&f, "ports/n/q", "{'vif':'v','vlan':7}");
    expect_json(
        encode(&model_find_port(f.model, "n", "q")->object),
        "{'name':'q','vif':'v','vlan':7,'admin':'up','ingress_bps':null,'ingress_burst':null,'ingress_pps':null,"
        "'ingress_burst_frames':null,'egress_bps':null,'egress_burst':null,'egress_pps':null,'egress_burst_frames':"
        "null,"
        "'labels':{}}");
    fixture_put(&f, "tees/default/w/u",
                "{'port':'n/q','out_port':'default/p','mode':'off','direction':'b-to-a','on_failure':'open'}");
    expect_json(
        encode(&fixture_wire(&f, "w")->object),
        "{'name':'w','a':null,'b':null,'admin':'up','on_full':'wait','stall_ms':100,'labels':{},'tees':["
        "{'name':'t','port':'p','out_port':null,'mode':'tap','direction':'both','on_failure':'closed','stall_ms':10,"
        "'labels':{}},"
        "{'name':'u','port':'n/q','out_port':'p','mode':'off','direction':'b-to-a','on_failure':'open','stall_ms':10,"
        "'labels':{}}]}");
    // GET | PUT is idle for every object.
    struct error error;
    for (enum object_kind kind = OBJECT_NETWORK; kind < OBJECT_KIND_COUNT; kind++) {
        for (const struct object *o = model_first(f.model, kind, NULL, NULL, false); o != NULL; o = model_next(o)) {
            json_t *json = request_encode(o);
            json_object_set_new(json, "status", json_pack("{s:s}", "state", "up"));
            struct object *next = request_decode(kind, o->network, o->name, json, &error);
            json_decref(json);
            assert_non_null(next);
            assert_int_equal(change_put(&f.change, next, NULL, &error), CHANGE_SAME);
        }
    }
    fixture_close(&f);
}

static void test_patch(void **state)
{
    (void)state;
    struct fixture f;
    struct error error;
    build(&f);
    fixture_put(&f, "ports/default/q", "{}");
    fixture_put(&f, "wires/default/w",
                "{'a':'q','admin':'down','stall_ms':7,'labels':{'x':'1','y':'2'},'tees':[{'name':'t','port':'p'}]}");
    fixture_patch(&f, "wires/default/w", "{'labels':{'x':null,'z':'3'},'stall_ms':null}");
    expect_json(
        encode(&fixture_wire(&f, "w")->object),
        "{'name':'w','a':'q','b':null,'admin':'down','on_full':'wait','stall_ms':100,'labels':{'y':'2','z':'3'},"
        "'tees':[{'name':'t','port':'p','out_port':null,'mode':'tap','direction':'both','on_failure':'closed',"
        "'stall_ms':10,'labels':{}}]}");
    assert_int_equal(fixture_try_patch(&f, "wires/default/w", "{}", NULL, &error), CHANGE_SAME);
    fixture_patch(&f, "wires/default/w", "{'labels':null,'tees':null,'a':null,'admin':null}");
    expect_json(encode(&fixture_wire(&f, "w")->object),
                "{'name':'w','a':null,'b':null,'admin':'up','on_full':'wait','stall_ms':100,'labels':{},'tees':[]}");
    // Removing makes room for what the same patch adds.
    char json[2048];
    size_t len = (size_t)snprintf(json, sizeof(json), "{'labels':{");
    for (unsigned i = 0; i < LIMIT_LABELS; i++)
        len += (size_t)snprintf(json + len, sizeof(json) - len, "%s'k%u':'v'", i > 0 ? "," : "", i);
    snprintf(json + len, sizeof(json) - len, "}}");
    fixture_patch(&f, "ports/default/p", json);
    fixture_patch(&f, "ports/default/p", "{'labels':{'new':'v','k3':null}}");
    assert_int_equal(model_find_port(f.model, "default", "p")->object.label_count, LIMIT_LABELS);
    fixture_close(&f);
}

static void test_errors(void **state)
{
    (void)state;
    struct fixture f;
    struct error error;
    build(&f);
    assert_int_equal(fixture_try_delete(&f, "ports/default/p", NULL, &error), -EINVAL);
    json_t *json = request_encode_error(&error);
    json_t *body = json_object_get(json, "error");
    assert_string_equal(json_string_value(json_object_get(body, "code")), "InUse");
    assert_true(json_is_null(json_object_get(body, "field")));
    expect_json(json_incref(json_object_get(body, "details")),
                "{'used_by':[{'kind':'tee','network':'default','wire':'w','tee':'t','as':'port'}]}");
    json_decref(json);
    static const struct {
        struct user user;
        const char *json;
    } users[] = {
        {{USE_WIRE_B, "n", "w", ""}, "{'kind':'wire','network':'n','wire':'w','as':'b'}"},
        {{USE_PORT_VIF, "n", "p", ""}, "{'kind':'port','network':'n','port':'p'}"},
        {{USE_NETWORK_PORT, "n", "p", ""}, "{'kind':'port','network':'n','port':'p'}"},
        {{USE_NETWORK_WIRE, "n", "w", ""}, "{'kind':'wire','network':'n','wire':'w'}"},
        {{USE_TEE_OUT_PORT, "n", "w", "t"}, "{'kind':'tee','network':'n','wire':'w','tee':'t','as':'out_port'}"},
    };
    for (size_t i = 0; i < sizeof(users) / sizeof(users[0]); i++)
        expect_json(request_encode_user(&users[i].user), users[i].json);
    expect_json(request_encode_use(model_first_use(f.model, OBJECT_PORT, "default", "p")),
                "{'kind':'tee','network':'default','wire':'w','tee':'t','as':'port'}");
    error_set(&error, PATCHBAY_ERROR_PORT_IN_USE, "a", "x");
    for (unsigned i = 0; i < ERROR_USERS_MAX + 5; i++)
        error_add_user(&error, USE_WIRE_A, "n", "w", NULL);
    json = request_encode_error(&error);
    body = json_object_get(json_object_get(json, "error"), "details");
    assert_int_equal(json_array_size(json_object_get(body, "used_by")), ERROR_USERS_MAX);
    assert_int_equal(json_integer_value(json_object_get(body, "total")), ERROR_USERS_MAX + 5);
    json_decref(json);
    fixture_close(&f);
}

// Bodies that are damaged at random are refused or mean something; nothing else happens. The sanitizers look on.
static void test_damaged(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        "{\"kind\":\"vhost\",\"path\":\"/s\",\"owner\":\"x\",\"labels\":{\"a\":\"b\"}}",
        "{\"vif\":\"v\",\"vlan\":12,\"labels\":{}}",
        "{\"a\":\"p\",\"b\":null,\"tees\":[{\"name\":\"t\",\"port\":\"default/p\",\"mode\":\"bump\",\"stall_ms\":10}]}",
        "{\"port\":\"p\",\"out_port\":null,\"before\":\"t\",\"direction\":\"both\"}",
    };
    static const char bytes[] = "{}[]\",:\\u0\x80\xff/ntesl-1e.";
    struct fixture f;
    build(&f);
    size_t parsed = 0;
    size_t decoded = 0;
    for (uint64_t seed = 1; seed <= 40000; seed++) {
        struct rng rng = {seed};
        char text[200];
        unsigned which = rng_below(&rng, 4);
        strlcpy(text, bodies[which], sizeof(text));
        size_t size = strlen(text);
        for (unsigned i = 0; i <= rng_below(&rng, 3); i++)
            text[rng_below(&rng, (unsigned)size)] = bytes[rng_below(&rng, sizeof(bytes) - 1)];
        struct error error;
        json_t *json = request_parse(text, size, &error);
        if (json == NULL) {
            assert_int_not_equal(error.code, PATCHBAY_OK);
            continue;
        }
        parsed++;
        struct object *next;
        if (which == 3) {
            struct wire *wire = request_decode_tee(fixture_wire(&f, "w"), "new", json, &error);
            next = wire != NULL ? &wire->object : NULL;
        } else {
            enum object_kind kind = which == 0 ? OBJECT_VIF : which == 1 ? OBJECT_PORT : OBJECT_WIRE;
            next = request_decode(kind, kind == OBJECT_VIF ? "" : "default", "x", json, &error);
        }
        json_decref(json);
        if (next == NULL) {
            assert_int_not_equal(error.code, PATCHBAY_OK);
            assert_int_not_equal(error.message[0], '\0');
            json = request_encode_error(&error);
            assert_non_null(json);
            json_decref(json);
            continue;
        }
        decoded++;
        struct model_mark mark = model_step(&f.change);
        if (change_put(&f.change, next, NULL, &error) >= 0)
            model_undo(&f.change, mark);
    }
    print_message("# of 40000 bodies %zu were JSON, %zu were objects\n", parsed, decoded);
    assert_true(decoded > 100 && parsed > decoded);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bodies), cmocka_unit_test(test_refusals), cmocka_unit_test(test_encode),
        cmocka_unit_test(test_patch),  cmocka_unit_test(test_errors),   cmocka_unit_test(test_damaged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
