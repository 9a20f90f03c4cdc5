// SPDX-License-Identifier: BSD-3-Clause
//
// dataplane.h in memory: no EAL, no worker, no device. The control side is
// linked with it as patchbayd-control-only, so that its tests need neither
// DPDK nor rights. It is stricter than the real one: whoever breaks the order
// of a change (a leg that names a vif which isn't there, a leg freed while a
// table has it, a vif destroyed under a leg) is aborted on the spot.
//
// fake_command.c lets a test set links, send frames and slow things down.

#include "fake_dataplane.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

pthread_mutex_t fake_lock = PTHREAD_MUTEX_INITIALIZER;
struct fake fake = {.publish_wait_ns = 200000, .worker_count = 1, .fail_on = true};

uint64_t fake_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static uint64_t wall_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

#define REQUIRE(what, condition)                                            \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "fake dataplane: broken contract: %s\n", what); \
            abort();                                                        \
        }                                                                   \
    } while (0)

// ---- life ----

int dataplane_start(const struct dataplane_options *options, char *reason, size_t reason_size)
{
    if (options->workers != NULL && strcmp(options->workers, "999") == 0) {
        snprintf(reason, reason_size, "There is no core 999. Give --workers cores that exist.");
        return -ENODEV;
    }
    for (const char *list = options->workers; list != NULL && (list = strchr(list, ',')) != NULL; list++)
        fake.worker_count++;
    fake.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fake.event_fd < 0)
        return -errno;
    fake.log = options->log;
    fake.log(LOG_LEVEL_NOTICE, "dataplane", "this is the test double: no frame moves");
    return fake_command_start(reason, reason_size);
}

void dataplane_stop(void)
{
    fake_command_stop();
    for (uint32_t slot = 0; slot < LIMIT_VIFS; slot++)
        REQUIRE("dataplane_stop with a vif left", !fake.vifs[slot].exists);
    REQUIRE("dataplane_stop with a leg left", fake.leg_count == 0);
    close(fake.event_fd);
    wire_table_free(fake.current);
    fake.current = NULL;
}

int dataplane_event_fd(void)
{
    return fake.event_fd;
}

bool dataplane_next_event(uint32_t *slot)
{
    static uint32_t cursor;
    bool found = false;
    eventfd_t ignored;

    pthread_mutex_lock(&fake_lock);
    for (uint32_t i = 0; i < LIMIT_VIFS && fake.news > 0 && !found; i++) {
        // On from where the last was found: a scan from the start for each would be quadratic.
        cursor = (cursor + 1) % LIMIT_VIFS;
        if (fake.vifs[cursor].news) {
            fake.vifs[cursor].news = false;
            fake.news--;
            *slot = cursor;
            found = true;
        }
    }
    if (!found)
        eventfd_read(fake.event_fd, &ignored);
    pthread_mutex_unlock(&fake_lock);
    return found;
}

const char *dataplane_dpdk_version(void)
{
    return "none (test double)";
}

// ---- vifs ----

static void set_news(struct fake_vif *vif)
{
    if (!vif->news) {
        vif->news = true;
        fake.news++;
    }
    eventfd_write(fake.event_fd, 1);
}

void fake_set_link(struct fake_vif *vif, enum vif_link link, const char *reason)
{
    vif->state.link = link;
    strlcpy(vif->state.reason, reason, sizeof(vif->state.reason));
    vif->state.changed_ns = wall_clock();
    set_news(vif);
}

void fake_grow(struct fake_vif *vif, uint16_t queues)
{
    vif->state.queue_count = queues;
    set_news(vif);
}

struct fake_vif *fake_find_vif(const char *name)
{
    for (uint32_t slot = 0; slot < LIMIT_VIFS; slot++)
        if (fake.vifs[slot].exists && strcmp(fake.vifs[slot].name, name) == 0)
            return &fake.vifs[slot];
    return NULL;
}

static int refuse_target(const struct vif_config *config, char *reason, size_t reason_size)
{
    if (config->target == NULL)
        return 0;
    if (fake.fail_on && strstr(config->target, "fail:") != NULL) {
        snprintf(reason, reason_size, "The device %s can't be made: it was told to fail.", config->target);
        return -EIO;
    }
    if (strstr(config->target, "nodev:") != NULL) {
        snprintf(reason, reason_size, "There is no device %s.", config->target);
        return -ENODEV;
    }
    if (strstr(config->target, "inuse:") != NULL) {
        snprintf(reason, reason_size, "Somebody listens on %s.", config->target);
        return -EADDRINUSE;
    }
    if (strstr(config->target, "notsock:") != NULL) {
        snprintf(reason, reason_size, "%s exists and is no socket.", config->target);
        return -ENOTSOCK;
    }
    return 0;
}

static int set_mtu(struct fake_vif *vif, uint16_t mtu, char *reason, size_t reason_size)
{
    if (!vif->is_ethdev || vif->mtu_fixed) {
        snprintf(reason, reason_size, "its driver can't set an MTU");
        return -ENOTSUP;
    }
    if (mtu > 9000) {
        snprintf(reason, reason_size, "the device takes an MTU of up to 9000 bytes");
        return -ERANGE;
    }
    vif->state.mtu = mtu != 0 ? mtu : 9000;
    return 0;
}

static uint16_t choose(const struct fake_vif *vif)
{
    return vif->pin > 0 && vif->pin <= fake.worker_count ? vif->pin - 1 : 0;
}

int vif_create(const struct vif_config *config, char *reason, size_t reason_size)
{
    const char *slow = config->target != NULL ? strstr(config->target, "slow:") : NULL;
    struct fake_vif *vif = &fake.vifs[config->slot];
    char waiting[LIMIT_REASON_LEN + 1];
    int error;

    pthread_mutex_lock(&fake_lock);
    strlcpy(fake.making, config->name, sizeof(fake.making));
    pthread_mutex_unlock(&fake_lock);
    if (slow != NULL)
        usleep((useconds_t)atoi(slow + 5) * 1000);
    pthread_mutex_lock(&fake_lock);
    fake.making[0] = '\0';
    REQUIRE("vif_create in a slot that is taken", config->slot < LIMIT_VIFS && !vif->exists);
    error = refuse_target(config, reason, reason_size);
    if (error == 0) {
        memset(vif, 0, sizeof(*vif));
        vif->exists = true;
        strlcpy(vif->name, config->name, sizeof(vif->name));
        vif->state.ring_size[0] = vif->state.ring_size[1] = 256;
        vif->state.queue_pairs = vif->state.queue_count = 1;
        vif->pin = config->pin;
        vif->is_ethdev = config->kind == VIF_DEV || config->kind == VIF_KERNEL_NEW;
        vif->mtu_fixed = config->target != NULL && strstr(config->target, "nomtu:") != NULL;
        vif->state.takes_csum = vif->state.takes_tso = vif->is_ethdev && strstr(config->target, "tso:") != NULL;
        if (vif->is_ethdev)
            vif->state.mtu = 9000;
        if (config->mtu != 0)
            error = set_mtu(vif, config->mtu, reason, reason_size);
        vif->exists = error == 0;
    }
    if (error == 0) {
        vif->state.workers[0] = choose(vif);
        if (config->kind == VIF_VHOST || config->kind == VIF_VHOST_SERVER) {
            snprintf(waiting, sizeof(waiting), "waiting for its socket %.200s", config->target);
            fake_set_link(vif, VIF_LINK_DOWN, waiting);
        } else {
            fake_set_link(vif, VIF_LINK_UP, "");
        }
        fake.vif_count++;
    }
    pthread_mutex_unlock(&fake_lock);
    return error;
}

void vif_list(vif_slot slot, bool listed)
{
    pthread_mutex_lock(&fake_lock);
    if (fake.vifs[slot].exists) {
        fake.vifs[slot].listed = listed;
        fake.vifs[slot].queues = fake.vifs[slot].state.queue_count;
    }
    pthread_mutex_unlock(&fake_lock);
}

bool vif_has_grown(vif_slot slot)
{
    bool grown;

    pthread_mutex_lock(&fake_lock);
    grown =
        fake.vifs[slot].exists && fake.vifs[slot].listed && fake.vifs[slot].state.queue_count > fake.vifs[slot].queues;
    pthread_mutex_unlock(&fake_lock);
    return grown;
}

void vif_place_queue(vif_slot slot, uint16_t queue, unsigned worker)
{
    pthread_mutex_lock(&fake_lock);
    fake.placed = true;
    if (fake.vifs[slot].exists && queue < fake.vifs[slot].state.queue_count)
        fake.vifs[slot].state.workers[queue] = (uint16_t)worker;
    pthread_mutex_unlock(&fake_lock);
}

void vif_queue_left(vif_slot slot, uint16_t queue)
{
    pthread_mutex_lock(&fake_lock);
    REQUIRE("vif_queue_left before publish_done", fake.retired == NULL);
    REQUIRE("vif_queue_left of a queue that is polled",
            !fake.vifs[slot].exists || fake.current->workers[slot][queue] == VIF_WORKER_NONE);
    fake.vifs[slot].left |= (uint16_t)(1u << queue);
    fake.moves++;
    pthread_mutex_unlock(&fake_lock);
}

void vif_pin(vif_slot slot, uint16_t pin)
{
    pthread_mutex_lock(&fake_lock);
    fake.vifs[slot].pin = pin;
    pthread_mutex_unlock(&fake_lock);
}

int vif_set_mtu(vif_slot slot, uint16_t mtu, char *reason, size_t reason_size)
{
    int error;

    pthread_mutex_lock(&fake_lock);
    REQUIRE("vif_set_mtu of a vif that does not exist", fake.vifs[slot].exists);
    error = set_mtu(&fake.vifs[slot], mtu, reason, reason_size);
    pthread_mutex_unlock(&fake_lock);
    return error;
}

void vif_rename(vif_slot slot, const char *name)
{
    pthread_mutex_lock(&fake_lock);
    REQUIRE("vif_rename of a vif that does not exist", fake.vifs[slot].exists);
    strlcpy(fake.vifs[slot].name, name, sizeof(fake.vifs[slot].name));
    pthread_mutex_unlock(&fake_lock);
}

vif_slot vif_listed_next(vif_slot after)
{
    vif_slot found = VIF_SLOT_NONE;

    pthread_mutex_lock(&fake_lock);
    for (vif_slot slot = after == VIF_SLOT_NONE ? 0 : after + 1; slot < LIMIT_VIFS && found == VIF_SLOT_NONE; slot++)
        if (fake.vifs[slot].listed)
            found = slot;
    pthread_mutex_unlock(&fake_lock);
    return found;
}

bool vif_read_queue(vif_slot slot, uint16_t queue, struct queue_count *count)
{
    bool there;

    memset(count, 0, sizeof(*count));
    pthread_mutex_lock(&fake_lock);
    there = fake.vifs[slot].exists && queue < fake.vifs[slot].state.queue_count;
    fake_work();
    if (there) {
        count->worker = fake.vifs[slot].state.workers[queue];
        count->pinned = fake.vifs[slot].pin > 0 && fake.vifs[slot].pin <= fake.worker_count;
        count->busy_cycles = fake.vifs[slot].busy_cycles[queue];
        if (queue == 0) {
            count->received = fake.vifs[slot].count.received;
            count->transmitted = fake.vifs[slot].count.transmitted;
        }
    }
    pthread_mutex_unlock(&fake_lock);
    return there;
}

static bool program_names(const struct hop_program *program, vif_slot slot)
{
    for (uint16_t i = 0; i < program->step_count; i++) {
        const struct hop_step *step = &program->steps[i];

        if (step->kind != HOP_DROP && (step->vif == slot || (step->kind == HOP_BUMP && step->other == slot)))
            return true;
    }
    return false;
}

void vif_destroy(vif_slot slot)
{
    const struct leg *leg;

    pthread_mutex_lock(&fake_lock);
    if (fake.vifs[slot].exists) {
        LIST_FOREACH(leg, &fake.legs, entry)
        REQUIRE("vif_destroy of a vif that a leg names", !program_names(&leg->program, slot));
        for (size_t i = 0; fake.current != NULL && i < fake.current->count; i++)
            REQUIRE("vif_destroy of a vif that the table names", fake.current->entries[i].vif != slot);
        REQUIRE("vif_destroy of a vif that is listed", !fake.vifs[slot].listed);
        REQUIRE("vif_destroy of a vif that workers may still poll", !fake.vifs[slot].polled);
        if (fake.vifs[slot].news)
            fake.news--;
        memset(&fake.vifs[slot], 0, sizeof(fake.vifs[slot]));
        fake.vif_count--;
    }
    pthread_mutex_unlock(&fake_lock);
}

bool vif_read_state(vif_slot slot, struct vif_state *state)
{
    bool exists;

    pthread_mutex_lock(&fake_lock);
    exists = slot < LIMIT_VIFS && fake.vifs[slot].exists;
    if (exists)
        *state = fake.vifs[slot].state;
    pthread_mutex_unlock(&fake_lock);
    return exists;
}

bool vif_read_count(vif_slot slot, struct vif_count *count)
{
    bool exists;

    pthread_mutex_lock(&fake_lock);
    exists = slot < LIMIT_VIFS && fake.vifs[slot].exists;
    if (exists)
        *count = fake.vifs[slot].count;
    pthread_mutex_unlock(&fake_lock);
    return exists;
}

// Only devices of DPDK have such: those of kind dev.
bool vif_each_statistic(vif_slot slot, void (*each)(void *arg, const char *name, uint64_t value), void *arg)
{
    bool exists;

    pthread_mutex_lock(&fake_lock);
    exists = slot < LIMIT_VIFS && fake.vifs[slot].exists;
    if (exists)
        each(arg, "rx_q0_packets", fake.vifs[slot].count.received.frames);
    pthread_mutex_unlock(&fake_lock);
    return exists;
}

// ---- legs ----

static bool program_is_whole(const struct hop_program *program)
{
    if (program->step_count == 0 || program->step_count > HOP_STEPS_MAX)
        return false;
    for (uint16_t i = 0; i < program->step_count; i++) {
        const struct hop_step *step = &program->steps[i];
        bool last = i == program->step_count - 1;

        if (last != (step->kind == HOP_END || step->kind == HOP_DROP))
            return false;
        // A tap whose port has no vif counts what it is offered as down.
        if (step->kind == HOP_TAP && step->vif == VIF_SLOT_NONE)
            continue;
        if (step->kind != HOP_DROP) {
            REQUIRE("a leg names a vif that does not exist", step->vif < LIMIT_VIFS && fake.vifs[step->vif].exists);
            if (step->kind == HOP_BUMP)
                REQUIRE("a bump names an arm that does not exist",
                        step->other < LIMIT_VIFS && fake.vifs[step->other].exists);
        }
    }
    return true;
}

struct leg *leg_create(const struct hop_program *program)
{
    struct leg *leg = calloc(1, sizeof(*leg));

    if (leg == NULL)
        return NULL;
    pthread_mutex_lock(&fake_lock);
    if (program_is_whole(program)) {
        leg->program = *program;
        LIST_INSERT_HEAD(&fake.legs, leg, entry);
        fake.leg_count++;
    } else {
        free(leg);
        leg = NULL;
        errno = EINVAL;
    }
    pthread_mutex_unlock(&fake_lock);
    return leg;
}

static bool table_has(const struct wire_table *table, const struct leg *leg)
{
    for (size_t i = 0; table != NULL && i < table->count; i++)
        if (table->entries[i].leg == leg)
            return true;
    return false;
}

void leg_destroy(struct leg *leg)
{
    if (leg == NULL)
        return;
    pthread_mutex_lock(&fake_lock);
    REQUIRE("leg_destroy of a leg in the current table", !table_has(fake.current, leg));
    for (const struct wire_table *old = fake.retired; old != NULL; old = old->next)
        REQUIRE("leg_destroy before publish_done", !table_has(old, leg));
    LIST_REMOVE(leg, entry);
    fake.leg_count--;
    pthread_mutex_unlock(&fake_lock);
    free(leg);
}

void leg_read(const struct leg *leg, struct leg_count *count)
{
    pthread_mutex_lock(&fake_lock);
    *count = leg->count;
    count->step_count = leg->program.step_count;
    for (uint16_t i = 0; i < leg->program.step_count; i++) {
        count->steps[i].kind = leg->program.steps[i].kind;
        count->steps[i].tag = leg->program.steps[i].tag;
    }
    pthread_mutex_unlock(&fake_lock);
}

// ---- tables ----

static int compare_entries(const void *left, const void *right)
{
    const struct table_entry *a = left, *b = right;

    if (a->vif != b->vif)
        return a->vif < b->vif ? -1 : 1;
    return (a->vlan > b->vlan) - (a->vlan < b->vlan);
}

static bool entries_are_sound(struct wire_table *table)
{
    static uint64_t serial;
    bool shared = false;

    serial++;
    for (size_t i = 0; i < table->count; i++) {
        const struct table_entry *entry = &table->entries[i];

        REQUIRE("a table names a vif that is not listed", entry->vif < LIMIT_VIFS && fake.vifs[entry->vif].listed);
        if (entry->monitor != (entry->leg == NULL))
            return false;
        shared = shared || fake.vifs[entry->vif].seen == serial;
        fake.vifs[entry->vif].seen = serial;
    }
    if (!shared)
        return true;
    qsort(table->entries, table->count, sizeof(table->entries[0]), compare_entries);
    for (size_t i = 1; i < table->count; i++)
        if (table->entries[i - 1].vif == table->entries[i].vif &&
            (table->entries[i - 1].vlan == table->entries[i].vlan || table->entries[i].vlan == TABLE_ANY_VLAN))
            return false;
    return true;
}

// A leg has one source.
static bool legs_are_single(const struct wire_table *table)
{
    static uint64_t serial;

    serial++;
    for (size_t i = 0; i < table->count; i++) {
        struct leg *leg = table->entries[i].leg;

        if (leg != NULL && leg->seen == serial)
            return false;
        if (leg != NULL)
            leg->seen = serial;
    }
    return true;
}

// Who polls what in the table.
static void note_workers(struct wire_table *table)
{
    table->workers = malloc(LIMIT_VIFS * sizeof(table->workers[0]));
    REQUIRE("memory", table->workers != NULL);
    for (vif_slot slot = 0; slot < LIMIT_VIFS; slot++)
        memcpy(table->workers[slot], fake.vifs[slot].state.workers, sizeof(table->workers[0]));
}

// A queue changes its worker by a table in which it has none.
static void check_moves(const struct wire_table *from, const struct wire_table *to)
{
    for (vif_slot slot = 0; slot < LIMIT_VIFS; slot++) {
        struct fake_vif *vif = &fake.vifs[slot];

        for (unsigned queue = 0; vif->current && vif->listed && queue < vif->queues; queue++) {
            uint16_t old = from->workers[slot][queue], new = to->workers[slot][queue];

            REQUIRE("a queue changes its worker at once",
                    old == VIF_WORKER_NONE || new == VIF_WORKER_NONE || old == new);
            REQUIRE("a queue gets a worker before it has left the old one",
                    old != VIF_WORKER_NONE || new == VIF_WORKER_NONE || (vif->left & 1u << queue) != 0);
        }
        vif->left = 0;
    }
}

struct wire_table *wire_table_build(const struct table_entry *entries, size_t count, uint64_t generation)
{
    struct wire_table *table = malloc(sizeof(*table) + (count + 1) * sizeof(table->entries[0]));

    if (table == NULL)
        return NULL;
    table->next = NULL;
    table->workers = NULL;
    table->generation = generation;
    table->count = count;
    if (count > 0)
        memcpy(table->entries, entries, count * sizeof(entries[0]));
    pthread_mutex_lock(&fake_lock);
    for (vif_slot slot = 0; slot < LIMIT_VIFS; slot++)
        fake.vifs[slot].in_build = fake.vifs[slot].listed;
    if (fake.placed)
        note_workers(table);
    if (!entries_are_sound(table) || !legs_are_single(table)) {
        wire_table_free(table);
        table = NULL;
        errno = EINVAL;
    }
    pthread_mutex_unlock(&fake_lock);
    return table;
}

void wire_table_free(struct wire_table *table)
{
    if (table != NULL)
        free(table->workers);
    free(table);
}

uint64_t publish_begin(struct wire_table *table)
{
    uint64_t token;

    pthread_mutex_lock(&fake_lock);
    REQUIRE("generations go up", fake.current == NULL || table->generation >= fake.current->generation);
    if (fake.current != NULL && fake.current->workers != NULL && table->workers != NULL)
        check_moves(fake.current, table);
    token = ++fake.token;
    if (fake.current != NULL) {
        fake.current->until = fake_clock() + fake.publish_wait_ns;
        fake.current->token = token;
        fake.current->next = fake.retired;
        fake.retired = fake.current;
    }
    fake.current = table;
    for (vif_slot slot = 0; slot < LIMIT_VIFS; slot++) {
        fake.vifs[slot].current = fake.vifs[slot].in_build;
        fake.vifs[slot].polled = fake.vifs[slot].polled || fake.vifs[slot].current;
    }
    pthread_mutex_unlock(&fake_lock);
    return token;
}

// Workers have left an older table: what the current ones don't poll is polled by nobody.
static void forget_polled(void)
{
    if (fake.retired != NULL)
        return;
    for (vif_slot slot = 0; slot < LIMIT_VIFS; slot++)
        fake.vifs[slot].polled = fake.vifs[slot].current;
}

bool publish_done(uint64_t token)
{
    struct wire_table **link = &fake.retired;
    uint64_t now = fake_clock();
    bool done = true;

    pthread_mutex_lock(&fake_lock);
    while (*link != NULL) {
        struct wire_table *old = *link;

        if (old->until <= now) {
            *link = old->next;
            forget_polled();
            wire_table_free(old);
        } else {
            done = done && old->token > token;
            link = &old->next;
        }
    }
    pthread_mutex_unlock(&fake_lock);
    return done;
}

// ---- workers ----

// There is no DPDK here, and no socket of its.
int dataplane_telemetry(const char *command, const char *help, telemetry_answer *answer)
{
    (void)command;
    (void)help;
    (void)answer;
    return 0;
}

unsigned worker_count(void)
{
    return fake.worker_count;
}

void fake_work(void)
{
    uint64_t now = fake_clock(), passed = now - fake.worked_until;

    if (fake.loaded && passed > 1000000) {
        for (vif_slot slot = 0; slot < LIMIT_VIFS; slot++) {
            struct fake_vif *vif = &fake.vifs[slot];

            for (unsigned queue = 0; vif->exists && queue < vif->state.queue_count; queue++) {
                vif->busy_cycles[queue] += passed * vif->load[queue] / 100;
                if (vif->state.workers[queue] != VIF_WORKER_NONE)
                    fake.worker_busy[vif->state.workers[queue]] += passed * vif->load[queue] / 100;
            }
        }
        fake.worked_until = now;
    }
    if (!fake.loaded)
        fake.worked_until = now;
}

bool worker_read(unsigned worker, struct worker_count *count)
{
    if (worker >= fake.worker_count)
        return false;
    memset(count, 0, sizeof(*count));
    pthread_mutex_lock(&fake_lock);
    count->loops = fake.loops;
    count->frames = fake.frames;
    fake_work();
    count->core = worker + 1;
    count->cycles = fake.worked_until;
    count->busy_cycles = fake.worker_busy[worker];
    count->sampled_loops = 3;
    for (unsigned i = 0; i < WORKER_STAGE_COUNT; i++)
        count->stages[i] = (struct stage_count){.cycles = 100 + i, .frames = i};
    count->sources = fake.vif_count;
    pthread_mutex_unlock(&fake_lock);
    return true;
}

uint64_t dataplane_tsc_hz(void)
{
    return 1000000000;
}

void workers_wake(void)
{
    pthread_mutex_lock(&fake_lock);
    fake.loops += !fake.stuck;
    pthread_mutex_unlock(&fake_lock);
}
