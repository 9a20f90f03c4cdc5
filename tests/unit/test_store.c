// SPDX-License-Identifier: BSD-3-Clause
// What is written comes back; what can't be written changes nothing; files
// that aren't ours, are damaged, locked or newer are refused and not touched.

#include "control/request.h"
#include "control/store.h"
#include "control/store_refusal.h"
#include "faulty_vfs.h"
#include "model_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char directory[64];
static char path[128];
static char reason[STORE_REASON_SIZE];

static int set_up(void **state)
{
    (void)state;
    strlcpy(directory, "/tmp/patchbay-unit-store-XXXXXX", sizeof(directory));
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/state/patchbay.db", directory);
    faulty = (struct faulty){.writes_left = -1};
    return 0;
}

static int clean_up(void **state)
{
    (void)state;
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < 4; i++) {
        char file[160];
        snprintf(file, sizeof(file), "%s%s", path, suffixes[i]);
        unlink(file);
    }
    char folder[96];
    snprintf(folder, sizeof(folder), "%s/state", directory);
    rmdir(folder);
    assert_int_equal(rmdir(directory), 0); // nothing else was left behind
    return 0;
}

static struct store *open_store(void)
{
    struct store *store = NULL;
    int ret = store_open(path, &store, reason, sizeof(reason));
    if (ret != 0)
        fail_msg("%s: %s", strerror(-ret), reason);
    return store;
}

static void commit(struct fixture *f, struct store *store)
{
    int ret = store_commit(store, &f->change, NULL, 0, reason, sizeof(reason));
    if (ret != 0)
        fail_msg("%s: %s", strerror(-ret), reason);
    fixture_commit(f);
}

// Reports as text, one line each.
static void collect(void *context, enum object_kind kind, const char *network, const char *name, const char *message)
{
    char line[1024];
    snprintf(line, sizeof(line), "%s %s/%s: %s\n", object_kind_name(kind), network, name, message);
    strlcat(context, line, 8192);
}

// Objects without their addresses and slots.
static char *stored_dump(const struct model *model)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    fprintf(out, "generation %llu\n", (unsigned long long)model_generation(model));
    for (enum object_kind kind = OBJECT_NETWORK; kind < OBJECT_KIND_COUNT; kind++) {
        for (const struct object *o = model_first(model, kind, NULL, NULL, false); o != NULL; o = model_next(o)) {
            json_t *json = request_encode_stored(o);
            char *body = json_dumps(json, JSON_COMPACT);
            fprintf(out, "%s %s/%s %s %llu %s\n", object_kind_name(kind), o->network, o->name, o->uid,
                    (unsigned long long)o->generation, body);
            free(body);
            json_decref(json);
        }
    }
    fclose(out);
    return text;
}

static struct model *load(struct store *store, char *reports)
{
    struct model *model = model_create();
    reports[0] = '\0';
    int ret = store_load(store, model, collect, reports, reason, sizeof(reason));
    if (ret != 0)
        fail_msg("%s: %s", strerror(-ret), reason);
    fixture_verify(model);
    return model;
}

// A new file, and a fixture on the model that comes from it.
static struct store *open_both(struct fixture *f)
{
    char reports[8192];
    struct store *store = open_store();
    f->model = load(store, reports);
    assert_string_equal(reports, "");
    model_begin(f->model, &f->change);
    return store;
}

static void build(struct fixture *f)
{
    static const char *const plugs[] = {"vm1", "vm2", "f1", "f2", "g1", "g2", "ids"};
    for (size_t i = 0; i < sizeof(plugs) / sizeof(plugs[0]); i++)
        fixture_plug(f, plugs[i]);
    fixture_put(f, "vifs/s", "{'kind':'vhost','path':'/s','owner':'\\u00e4\\\"','labels':{'a':'b'}}");
    fixture_put(f, "networks/n", "{'labels':{'x':'y'}}");
    fixture_put(f, "ports/n/p", "{'vif':'s','vlan':7}");
    fixture_put(f, "wires/default/w",
                "{'a':'vm1','b':'vm2','admin':'down','labels':{'l':'m'},'tees':[{'name':'fw','port':'f1',"
                "'out_port':'f2','mode':'bump','on_failure':'open'},{'name':'t','port':'n/p','labels':{'q':'r'}}]}");
    // One that waits for its arms.
    json_t *body = json_object();
    struct error error;
    struct wire *wire = request_decode_tee(fixture_wire(f, "w"), "g", body, &error);
    json_decref(body);
    assert_non_null(wire);
    strlcpy(wire->tees[2].port.port, "g1", sizeof(wire->tees[2].port.port));
    strlcpy(wire->tees[2].port.network, "default", sizeof(wire->tees[2].port.network));
    strlcpy(wire->tees[2].out_port.port, "g2", sizeof(wire->tees[2].out_port.port));
    strlcpy(wire->tees[2].out_port.network, "default", sizeof(wire->tees[2].out_port.network));
    wire->tees[2].mode = TEE_OFF;
    wire->tees[2].when_ready = true;
    model_step(&f->change);
    assert_int_equal(model_put(&f->change, &wire->object), 0);
}

static void test_round_trip(void **state)
{
    (void)state;
    char reports[8192];
    struct fixture f;
    struct store *store = open_both(&f);
    assert_non_null(model_find_network(f.model, "default"));
    char uid[37];
    strlcpy(uid, model_find_network(f.model, "default")->object.uid, sizeof(uid));
    char instance[37];
    strlcpy(instance, store_instance(store), sizeof(instance));
    assert_int_equal(strlen(instance), 36);

    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    char folder[96];
    snprintf(folder, sizeof(folder), "%s/state", directory);
    assert_int_equal(stat(folder, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0750);

    build(&f);
    commit(&f, store);
    struct error error;
    fixture_put(&f, "ports/default/gone", "{}");
    commit(&f, store);
    assert_int_equal(fixture_try_delete(&f, "ports/default/gone", NULL, &error), 0);
    fixture_patch(&f, "wires/default/w", "{'stall_ms':5}");
    fixture_patch(&f, "wires/default/w", "{'stall_ms':6}");
    commit(&f, store);
    commit(&f, store); // an empty one
    char *wanted = stored_dump(f.model);
    store_close(store);

    store = open_store();
    assert_string_not_equal(store_instance(store), instance);
    struct model *model = load(store, reports);
    assert_string_equal(reports, "");
    char *got = stored_dump(model);
    assert_string_equal(got, wanted);
    assert_string_equal(model_find_network(model, "default")->object.uid, uid);
    assert_true(model_find_wire(model, "default", "w")->tees[2].when_ready);
    assert_int_equal(model_slots_taken(model), 8);
    assert_int_equal(model_find_wire(model, "default", "w")->tees[1].object.generation, model_generation(model));
    free(wanted);
    free(got);
    model_destroy(model);
    store_close(store);
    fixture_close(&f);
}

static void test_memory(void **state)
{
    (void)state;
    struct store *store = NULL;
    char reports[8192] = "";
    assert_int_equal(store_open(":memory:", &store, reason, sizeof(reason)), 0);
    struct model *model = load(store, reports);
    assert_int_equal(model_count(model, OBJECT_NETWORK), 1);
    model_destroy(model);
    store_close(store);
    store_close(NULL);
}

// Every write of a commit fails in turn, for lack of space and for good: the file stays as it was, the change can be
// rolled back, and the next commit works.
static void test_failed_commit(void **state)
{
    (void)state;
    static const struct {
        int result;
        int wanted;
        const char *message;
    } faults[] = {{SQLITE_FULL, -ENOSPC, "no space is left"}, {SQLITE_IOERR_WRITE, -EIO, "disk I/O error"}};
    struct fixture f;
    struct store *store = open_both(&f);
    build(&f);
    commit(&f, store);
    char *before = fixture_dump(f.model);
    unsigned failures = 0;
    for (size_t fault = 0; fault < 2; fault++) {
        for (int after = 0;; after++) {
            fixture_patch(&f, "wires/default/w", "{'stall_ms':9}");
            fixture_put(&f, "ports/default/more", "{}");
            struct error error;
            fixture_put(&f, "wires/default/w2", "{}");
            fixture_try_delete(&f, "ports/default/g2", &(struct change_options){.detach = true, .slot = VIF_SLOT_NONE},
                               &error);
            faulty.writes_left = after;
            faulty.result = faults[fault].result;
            int ret = store_commit(store, &f.change, NULL, 0, reason, sizeof(reason));
            faulty.writes_left = -1;
            if (ret == 0)
                break;
            failures++;
            assert_int_equal(ret, faults[fault].wanted);
            assert_non_null(strstr(reason, faults[fault].message));
            assert_non_null(strstr(reason, "nothing was changed"));
            model_rollback(&f.change);
            char *now = fixture_dump(f.model);
            assert_string_equal(now, before);
            free(now);
            model_begin(f.model, &f.change);
        }
        // It went through: take it back, on the disk too.
        fixture_commit(&f);
        struct error error;
        fixture_try_delete(&f, "wires/default/w2", NULL, &error);
        fixture_try_delete(&f, "ports/default/more", NULL, &error);
        commit(&f, store);
        free(before);
        before = fixture_dump(f.model);
    }
    print_message("# %u failed commits\n", failures);
    assert_true(failures >= 4);
    faulty.sync_result = SQLITE_IOERR_FSYNC;
    fixture_put(&f, "ports/default/more", "{}");
    assert_int_equal(store_commit(store, &f.change, NULL, 0, reason, sizeof(reason)), -EIO);
    faulty.sync_result = SQLITE_OK;
    model_rollback(&f.change);
    model_begin(f.model, &f.change);

    // What a new process finds is what was committed, no more and no less.
    unsigned syncs = faulty.syncs;
    fixture_put(&f, "ports/default/last", "{}");
    commit(&f, store);
    assert_true(faulty.syncs > syncs); // durable when it returns
    char *wanted = stored_dump(f.model);
    store_close(store);
    store = open_store();
    char reports[8192];
    struct model *model = load(store, reports);
    assert_string_equal(reports, "");
    char *got = stored_dump(model);
    assert_string_equal(got, wanted);
    free(got);
    free(wanted);
    free(before);
    model_destroy(model);
    store_close(store);
    fixture_close(&f);
}

// ---- files that are refused ----

static void make_folder(void)
{
    char folder[96];
    snprintf(folder, sizeof(folder), "%s/state", directory);
    assert_int_equal(mkdir(folder, 0750), 0);
}

static void write_file(const void *data, size_t size)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    fclose(file);
}

static char *read_file(size_t *size)
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    fseek(file, 0, SEEK_END);
    *size = (size_t)ftell(file);
    rewind(file);
    char *data = malloc(*size + 1);
    assert_int_equal(fread(data, 1, *size, file), *size);
    fclose(file);
    return data;
}

static void run_sql(const char *sql)
{
    sqlite3 *db = NULL;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    char *message = NULL;
    if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    sqlite3_close(db);
}

static void expect_refused(int wanted, const char *message)
{
    size_t size;
    size_t size_after;
    char *before = read_file(&size);
    struct store *store = NULL;
    int ret = store_open(path, &store, reason, sizeof(reason));
    if (ret != wanted || strstr(reason, message) == NULL || strstr(reason, path) == NULL)
        fail_msg("%s (wanted %s): %s", strerror(-ret), strerror(-wanted), reason);
    char *after = read_file(&size_after);
    assert_int_equal(size, size_after);
    assert_memory_equal(before, after, size);
    free(before);
    free(after);
}

static void test_refused(void **state)
{
    (void)state;
    make_folder();
    char text[8192];
    memset(text, 'x', sizeof(text));
    write_file(text, 10);
    expect_refused(-EBADMSG, "not a Patchbay state file");
    write_file(text, sizeof(text));
    expect_refused(-EBADMSG, "move it away to start empty");
    unlink(path);
    run_sql("CREATE TABLE t (x)");
    expect_refused(-EBADMSG, "another program's database");
    run_sql("PRAGMA application_id = 7");
    expect_refused(-EBADMSG, "another program's database");

    unlink(path);
    store_close(open_store());
    run_sql("PRAGMA user_version = 4");
    expect_refused(-EPROTONOSUPPORT, "newer Patchbay (state schema 4, this one reads up to 3)");
    run_sql("PRAGMA user_version = 0");
    expect_refused(-EBADMSG, "damaged");
    run_sql("PRAGMA user_version = 3");
    store_close(open_store());
    // An empty file is a new one.
    write_file("", 0);
    store_close(open_store());
}

static void test_damaged(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct store *store = open_store();
    build(&f);
    for (unsigned i = 0; i < 300; i++) {
        char name[64];
        snprintf(name, sizeof(name), "ports/default/p%u", i);
        fixture_put(&f, name, "{}");
    }
    commit(&f, store);
    store_close(store);
    fixture_close(&f);
    // Pages overwritten, header intact.
    size_t size;
    char *data = read_file(&size);
    assert_true(size > 5 * 4096);
    memset(data + 3 * 4096, 0xa5, 4096);
    write_file(data, size);
    expect_refused(-EBADMSG, "damaged");
    // Cut short.
    write_file(data, 2 * 4096 + 100);
    expect_refused(-EBADMSG, "damaged");
    // The header too.
    memset(data, 0, 16);
    write_file(data, size);
    expect_refused(-EBADMSG, "not a Patchbay state file");
    free(data);
}

static void test_places(void **state)
{
    (void)state;
    struct store *store = NULL;
    char bad[200];
    snprintf(bad, sizeof(bad), "%s/no/such/patchbay.db", directory);
    assert_int_equal(store_open(bad, &store, reason, sizeof(reason)), -ENOENT);
    assert_non_null(strstr(reason, "can't be made"));
    assert_int_equal(store_open(directory, &store, reason, sizeof(reason)), -EINVAL);
    assert_non_null(strstr(reason, "no regular file"));
    // A failure on the very first write leaves no half-made file behind.
    faulty.writes_left = 0;
    faulty.result = SQLITE_FULL;
    assert_int_equal(store_open(path, &store, reason, sizeof(reason)), -ENOSPC);
    assert_int_equal(access(path, F_OK), -1);
}

static void test_locked(void **state)
{
    (void)state;
    struct store *store = open_store();
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        struct store *other = NULL;
        char answer[STORE_REASON_SIZE + 16];
        int ret = store_open(path, &other, reason, sizeof(reason));
        snprintf(answer, sizeof(answer), "%d %s", -ret, reason);
        ssize_t done = write(ends[1], answer, strlen(answer) + 1);
        _exit(done > 0 ? 0 : 1);
    }
    char answer[STORE_REASON_SIZE + 16] = "";
    close(ends[1]);
    assert_true(read(ends[0], answer, sizeof(answer)) > 0);
    close(ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(atoi(answer), EBUSY);
    assert_non_null(strstr(answer, "another process is using it"));
    // It wasn't disturbed.
    struct fixture f;
    fixture_open(&f);
    fixture_put(&f, "networks/n", "{}");
    commit(&f, store);
    fixture_close(&f);
    store_close(store);
    store_close(open_store());
}

// ---- rows that are wrong ----

static void test_tolerant(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct store *store = open_store();
    build(&f);
    commit(&f, store);
    store_close(store);
    fixture_close(&f);
    run_sql("UPDATE object SET body = 'not json' WHERE kind = 'vif' AND name = 'vm1';"
            "UPDATE object SET body = '{\"future\":1}' WHERE kind = 'port' AND name = 'vm2';"
            "UPDATE object SET uid = 'x' WHERE kind = 'port' AND name = 'f1';"
            "DELETE FROM object WHERE kind = 'network' AND name = 'n';"
            "DELETE FROM meta;"
            "INSERT INTO object VALUES ('wire', 'default', 'w3', '11111111-1111-4111-8111-111111111111', 99, "
            "'{\"a\":\"f2\"}');"
            "INSERT INTO object VALUES ('wire', 'default', 'no name', '11111111-1111-4111-8111-111111111111', 3, '{}');"
            "INSERT INTO object VALUES ('alien', 'default', 'x', '11111111-1111-4111-8111-111111111111', 3, '{}');");
    char reports[8192];
    store = open_store();
    struct model *model = load(store, reports);
    static const char *const lines[] = {
        "vif /vm1: left out: the body isn't JSON",
        "port default/vm1: its vif \"vm1\" is missing; it stands on none now",
        "port default/vm2: left out: future: a port has no field \"future\"",
        "port default/f1: left out: its row has no uid",
        "port n/p: left out: there is no network \"n\"",
        "wire default/w: port \"vm2\" at its end b is missing; it is unplugged there now",
        "wire default/w: port \"default/f1\" of its T \"fw\" is missing; the T is off now",
        "wire default/w: port \"n/p\" of its T \"t\" is missing; the T is off now",
        "wire default/no name: left out: name: \"no name\" is no name",
    };
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        if (strstr(reports, lines[i]) == NULL)
            fail_msg("%s isn't in\n%s", lines[i], reports);
    }
    const struct wire *wire = model_find_wire(model, "default", "w");
    assert_string_equal(wire->a, "vm1");
    assert_string_equal(wire->b, "");
    assert_int_equal(wire->tees[0].mode, TEE_OFF);
    assert_string_equal(wire->tees[0].out_port.port, "f2");
    assert_true(wire->tees[2].when_ready);
    assert_non_null(model_find_wire(model, "default", "w3")); // f2 is free, since fw is off
    assert_int_equal(model_generation(model), 99);            // no object is newer than the model
    assert_null(model_find_port(model, "default", "vm2"));
    // The rows are still there, and a new object takes the place of one.
    model_begin(model, &f.change);
    f.model = model;
    fixture_put(&f, "ports/default/vm2", "{}");
    commit(&f, store);
    store_close(store);
    store = open_store();
    model = load(store, reports);
    assert_non_null(model_find_port(model, "default", "vm2"));
    assert_non_null(strstr(reports, "vif /vm1: left out"));
    model_destroy(model);
    store_close(store);
    fixture_close(&f);
}

int main(void)
{
    faulty_vfs_install();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, clean_up),
        cmocka_unit_test_setup_teardown(test_memory, set_up, clean_up),
        cmocka_unit_test_setup_teardown(test_failed_commit, set_up, clean_up),
        cmocka_unit_test_setup_teardown(test_refused, set_up, clean_up),
        cmocka_unit_test_setup_teardown(test_damaged, set_up, clean_up),
        cmocka_unit_test_setup_teardown(test_places, set_up, clean_up),
        cmocka_unit_test_setup_teardown(test_locked, set_up, clean_up),
        cmocka_unit_test_setup_teardown(test_tolerant, set_up, clean_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
