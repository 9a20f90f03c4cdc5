// SPDX-License-Identifier: BSD-3-Clause
#include "rehearsal.h"

#include "compile.h"
#include "model.h"
#include "store.h"
#include "store_copy.h"
#include "store_refusal.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static unsigned problems;

static void report(void *context, enum object_kind kind, const char *network, const char *name, const char *message)
{
    (void)context;
    printf("problem: %s %s%s%s: %s\n", object_kind_name(kind), network, network[0] != '\0' ? "/" : "", name, message);
    problems++;
}

// Messages name the copy where they mean the file.
static void print_reason(const char *reason, const char *copy, const char *path)
{
    const char *found;
    size_t len = strlen(copy);

    fputs("problem: ", stdout);
    while (len > 0 && (found = strstr(reason, copy)) != NULL) {
        printf("%.*s%s", (int)(found - reason), reason, path);
        reason = found + len;
    }
    puts(reason);
    problems++;
}

static void print_vifs(const struct model *model)
{
    static const char *const deeds[VIF_KIND_COUNT] = {[VIF_VHOST] = "connects to its socket",
                                                      [VIF_VHOST_SERVER] = "listens on its socket",
                                                      [VIF_DEV] = "opens the DPDK device",
                                                      [VIF_KERNEL_NEW] = "makes the kernel TAP interface",
                                                      [VIF_NONE] = "has no device"};
    const struct object *object;

    for (object = model_first(model, OBJECT_VIF, NULL, "", false); object != NULL; object = model_next(object)) {
        const struct vif *vif = (const struct vif *)object;

        printf("vif %s  %s%s%s  %s\n", object->name, vif_kind_names[vif->kind], vif->target != NULL ? ":" : "",
               vif->target != NULL ? vif->target : "", deeds[vif->kind]);
    }
}

// "vm1 ─[tap ids]─ vm2", with what keeps it from passing frames as far as the configuration says.
static void print_wire(const struct model *model, const struct wire *wire, struct compiled_wire *compiled)
{
    char path[COMPILE_PATH_MAX][COMPILE_PATH_SIZE];
    size_t count = compile_path(wire, path);

    compile_wire(model, wire, NULL, compiled);
    printf("wire %s/%s  ", wire->object.network, wire->object.name);
    for (size_t i = 0; i < count; i++) {
        bool end = i == 0 || i + 1 == count;

        if (end)
            printf("%s%s", i > 0 ? "── " : "", path[i][0] != '\0' ? path[i] : "-");
        else
            printf("──[%s]", path[i]);
        if (i == 0)
            putchar(' ');
    }
    printf("  %zu leg%s%s\n", compiled->leg_count, compiled->leg_count == 1 ? "" : "s",
           wire->admin == ADMIN_UP ? "" : ", admin down");
}

static void print_wires(const struct model *model)
{
    struct compiled_wire *compiled = malloc(sizeof(*compiled));
    const struct object *object;

    if (compiled == NULL) {
        print_reason("memory is out", "", "");
        return;
    }
    for (object = model_first(model, OBJECT_WIRE, NULL, "", false); object != NULL; object = model_next(object))
        print_wire(model, (const struct wire *)object, compiled);
    free(compiled);
}

static void load(const char *path, const char *copy)
{
    char reason[STORE_REASON_SIZE];
    struct store *store = NULL;
    struct model *model = model_create();
    int version;

    if (model == NULL) {
        print_reason("memory is out", "", "");
        return;
    }
    if (store_open(copy, &store, reason, sizeof(reason)) != 0 ||
        store_load(store, model, report, NULL, reason, sizeof(reason)) != 0) {
        print_reason(reason, copy, path);
    } else {
        version = store_version_before(store);
        if (version != 0 && version != STORE_SCHEMA)
            printf("state schema %d: would be migrated to %d, after a copy to %s.v%d\n", version, STORE_SCHEMA, path,
                   version);
        else
            printf("state schema %d\n", STORE_SCHEMA);
        print_vifs(model);
        print_wires(model);
        printf("generation %llu: %zu networks, %zu vifs, %zu ports, %zu wires\n",
               (unsigned long long)model_generation(model), model_count(model, OBJECT_NETWORK),
               model_count(model, OBJECT_VIF), model_count(model, OBJECT_PORT), model_count(model, OBJECT_WIRE));
    }
    store_close(store);
    model_destroy(model);
}

// A start makes the state's directory, not those above it.
static int report_missing(const char *path)
{
    char directory[PATH_MAX], above[PATH_MAX];
    char *slash;

    if (strlcpy(directory, path, sizeof(directory)) < sizeof(directory) && (slash = strrchr(directory, '/')) != NULL &&
        slash != directory) {
        *slash = '\0';
        strcpy(above, directory);
        slash = strrchr(above, '/');
        if (slash != NULL && slash != above) {
            *slash = '\0';
            if (access(directory, F_OK) != 0 && access(above, F_OK) != 0) {
                printf("problem: %s isn't there, nor %s: mkdir -p %s\n", path, above, above);
                return 1;
            }
        }
    }
    printf("%s isn't there: would be made, and start empty\n", path);
    return 0;
}

int rehearsal_run(const struct options *options)
{
    char reason[STORE_REASON_SIZE], copy[PATH_MAX];
    pid_t holder;
    int error;

    if (strcmp(options->state, ":memory:") == 0) {
        puts("--state :memory: keeps nothing: would start empty");
        return 0;
    }
    error = store_copy_make(options->state, copy, sizeof(copy), &holder, reason, sizeof(reason));
    if (error == -ENOENT)
        return report_missing(options->state);
    if (error != 0) {
        print_reason(reason, "", "");
        return 1;
    }
    printf("%s", options->state);
    if (holder > 0)
        printf(", as it is now: process %d has it locked, the running daemon perhaps", (int)holder);
    putchar('\n');
    load(options->state, copy);
    store_copy_remove(copy);
    if (problems > 0)
        printf("%u problem%s; nothing was touched\n", problems, problems == 1 ? "" : "s");
    else
        puts("no problems; nothing was touched, and no device was looked at");
    return problems > 0 ? 1 : 0;
}
