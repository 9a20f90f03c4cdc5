// SPDX-License-Identifier: BSD-3-Clause
// The size that Patchbay promises: 20,000 vifs, 40,000 ports, 10,000 wires,
// all on a state file. The times are printed; what is asserted is that it works
// and that a wire costs what it has, not what it could have.

#include "control/compile.h"
#include "control/request.h"
#include "control/store.h"
#include "model_fixture.h"

#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SCALE = 10 };
#else
enum { SCALE = 1 };
#endif

enum { VIFS = LIMIT_VIFS / SCALE, PORTS = LIMIT_PORTS / SCALE, WIRES = LIMIT_WIRES / SCALE, MONITORS = 1000 / SCALE };

static double now_ms(void)
{
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return (double)time.tv_sec * 1e3 + (double)time.tv_nsec / 1e6;
}

static struct object *put(struct model_change *change, struct object *object)
{
    struct error error;
    model_step(change);
    if (change_put(change, object, NULL, &error) < 0)
        fail_msg("%s: %s", error.field, error.message);
    return object;
}

// Two ports stand on each vif: untagged ones, used by wires and as monitors, and tagged ones that stand by.
static void build(struct model_change *change)
{
    char name[64];
    for (unsigned i = 0; i < VIFS; i++) {
        snprintf(name, sizeof(name), "vif-%05u", i);
        struct vif *vif = (struct vif *)object_create(OBJECT_VIF, "", name);
        vif->kind = VIF_NONE;
        put(change, &vif->object);
    }
    for (unsigned i = 0; i < PORTS; i++) {
        snprintf(name, sizeof(name), "port-%05u", i);
        struct port *port = (struct port *)object_create(OBJECT_PORT, "default", name);
        snprintf(port->vif, sizeof(port->vif), "vif-%05u", i / 2);
        port->vlan = i % 2 == 0 ? 0 : 7;
        put(change, &port->object);
    }
}

static unsigned end_of(unsigned wire, unsigned end)
{
    return 2 * (wire * 2 + end); // an untagged port each
}

static void build_wires(struct model_change *change, unsigned tees)
{
    char name[64];
    for (unsigned i = 0; i < WIRES; i++) {
        snprintf(name, sizeof(name), "wire-%05u", i);
        struct wire *wire = (struct wire *)object_create(OBJECT_WIRE, "default", name);
        snprintf(wire->a, sizeof(wire->a), "port-%05u", end_of(i, 0));
        snprintf(wire->b, sizeof(wire->b), "port-%05u", end_of(i, 1));
        for (unsigned j = 0; j < tees; j++) {
            snprintf(name, sizeof(name), "tap-%u", j);
            struct tee *tee = wire_insert_tee(wire, j, name);
            strlcpy(tee->port.network, "default", sizeof(tee->port.network));
            snprintf(tee->port.port, sizeof(tee->port.port), "port-%05u", 1 + 2 * ((i + j) % MONITORS));
        }
        put(change, &wire->object);
    }
}

static size_t heap(void)
{
    return mallinfo2().uordblks;
}

static void time_compile(const struct model *model)
{
    static struct compiled_wire compiled;
    size_t legs = 0;
    double start = now_ms();
    for (const struct object *o = model_first(model, OBJECT_WIRE, NULL, NULL, false); o != NULL; o = model_next(o)) {
        compile_wire(model, (const struct wire *)o, NULL, &compiled);
        legs += compiled.leg_count;
    }
    double spent = now_ms() - start;
    assert_int_equal(legs, 2 * WIRES);
    print_message("# compile: %.1f ms, %.2f us a wire\n", spent, 1e3 * spent / WIRES);
}

static void run(unsigned tees)
{
    char path[64] = "/tmp/patchbay-unit-scale-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    char reason[1024];
    struct store *store = NULL;
    assert_int_equal(store_open(path, &store, reason, sizeof(reason)), 0);

    struct fixture f;
    fixture_open(&f);
    print_message("# %d vifs, %d ports, %d wires with %u Ts\n", VIFS, PORTS, WIRES, tees);
    size_t used = heap();
    double start = now_ms();
    build(&f.change);
    print_message("# vifs and ports: %.0f ms, %zu bytes each\n", now_ms() - start, (heap() - used) / (VIFS + PORTS));
    used = heap();
    start = now_ms();
    build_wires(&f.change, tees);
    size_t wire_size = (heap() - used) / WIRES;
    print_message("# wires: %.0f ms, %zu bytes each\n", now_ms() - start, wire_size);
#if !defined(__SANITIZE_ADDRESS__)
    assert_true(wire_size < 1024 + tees * 1024);
#endif
    start = now_ms();
    struct wire_list list = {0};
    assert_int_equal(compile_affected(&f.change, &list), 0);
    assert_int_equal(list.count, WIRES);
    wire_list_clear(&list);
    print_message("# affected: %.0f ms\n", now_ms() - start);
    start = now_ms();
    if (store_commit(store, &f.change, NULL, 0, reason, sizeof(reason)) != 0)
        fail_msg("%s", reason);
    fixture_commit(&f);
    print_message("# commit: %.0f ms\n", now_ms() - start);
    time_compile(f.model);

    // A replug that goes through, and one onto a port that is in use.
    start = now_ms();
    struct error error;
    for (unsigned i = 0; i < 1000; i++) {
        struct model_mark mark = model_step(&f.change);
        fixture_try_patch(&f, "wires/default/wire-00001", i % 2 == 0 ? "{'b':null}" : "{'b':'port-00000'}", NULL,
                          &error);
        model_undo(&f.change, mark);
    }
    print_message("# a replug: %.1f us\n", now_ms() - start);
    store_close(store);

    assert_int_equal(store_open(path, &store, reason, sizeof(reason)), 0);
    struct model *model = model_create();
    start = now_ms();
    assert_int_equal(store_load(store, model, NULL, NULL, reason, sizeof(reason)), 0);
    print_message("# load: %.0f ms\n", now_ms() - start);
    assert_int_equal(model_count(model, OBJECT_VIF), VIFS);
    assert_int_equal(model_count(model, OBJECT_PORT), PORTS);
    assert_int_equal(model_count(model, OBJECT_WIRE), WIRES);
    time_compile(model);
    model_destroy(model);
    store_close(store);
    fixture_close(&f);
    unlink(path);
}

static void test_plain_wires(void **state)
{
    (void)state;
    run(0);
}

static void test_full_wires(void **state)
{
    (void)state;
    run(LIMIT_TEES);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_plain_wires), cmocka_unit_test(test_full_wires)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
