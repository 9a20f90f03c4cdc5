// SPDX-License-Identifier: BSD-3-Clause

// A dataplane without control plane, driven by lines on its standard input:
// what the vhost tests talk to. Answers each line with one line.
//
//   vif SLOT KIND TARGET MODE [GROUP]   ok | error ERRNO REASON
//   rm SLOT                             ok
//   wires A:B[:MONITOR] …               ok; the whole table anew
//   queue SLOT QUEUE                    queue WORKER RECEIVED TRANSMITTED
//   place SLOT QUEUE WORKER             ok; moves it, by two tables
//   state SLOT                          state LINK PAIRS RX TX FEATURES REASON
//   count SLOT                          count RECEIVED TRANSMITTED DISCARDED NOTIFIED RECONNECTS ANNOUNCED
//   leg WIRE DIRECTION                  leg RECEIVED DELIVERED DROPPED TAPPED TAP-DROPPED
//
// Usage: vhost-host busy|adaptive

#include "dataplane/dataplane.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { SLOTS = LIMIT_VHOST, WIRES = 16 };

static struct wire {
    vif_slot ends[2];
    vif_slot monitor;
    struct leg *legs[2];
} wires[WIRES];
static size_t wire_count;
static bool exists[SLOTS];
static uint64_t generation;

static void log_line(enum log_level level, const char *component, const char *message)
{
    fprintf(stderr, "%d %s: %s\n", (int)level, component, message);
}

static struct leg *make_leg(vif_slot to, vif_slot monitor)
{
    struct hop_program program = {0};

    if (monitor != VIF_SLOT_NONE)
        program.steps[program.step_count++] = (struct hop_step){.kind = HOP_TAP, .vif = monitor};
    program.steps[program.step_count++] =
        (struct hop_step){.kind = HOP_END, .vif = to, .wait = true, .stall_ms = 60000};
    return leg_create(&program);
}

// Publishes the table of all wires and waits until no worker uses the old one.
static bool publish(void)
{
    const struct timespec pause = {.tv_nsec = 100000};
    struct table_entry entries[3 * WIRES];
    struct wire_table *table;
    size_t count = 0;
    uint64_t token;

    for (size_t i = 0; i < wire_count; i++) {
        for (int end = 0; end < 2; end++)
            entries[count++] =
                (struct table_entry){.vif = wires[i].ends[end], .vlan = TABLE_ANY_VLAN, .leg = wires[i].legs[end]};
        if (wires[i].monitor != VIF_SLOT_NONE)
            entries[count++] = (struct table_entry){.vif = wires[i].monitor, .vlan = TABLE_ANY_VLAN, .monitor = true};
    }
    table = wire_table_build(entries, count, ++generation);
    if (table == NULL)
        return false;
    token = publish_begin(table);
    while (!publish_done(token))
        nanosleep(&pause, NULL);
    return true;
}

static void set_wires(char *spec)
{
    struct leg *old[2 * WIRES];
    size_t old_count = 0;
    char *save = NULL;

    for (size_t i = 0; i < wire_count; i++) {
        old[old_count++] = wires[i].legs[0];
        old[old_count++] = wires[i].legs[1];
    }
    wire_count = 0;
    for (char *word = strtok_r(spec, " ", &save); word != NULL && wire_count < WIRES;
         word = strtok_r(NULL, " ", &save)) {
        struct wire *wire = &wires[wire_count++];

        wire->monitor = VIF_SLOT_NONE;
        sscanf(word, "%u:%u:%u", &wire->ends[0], &wire->ends[1], &wire->monitor);
        wire->legs[0] = make_leg(wire->ends[1], wire->monitor);
        wire->legs[1] = make_leg(wire->ends[0], wire->monitor);
    }
    puts(publish() ? "ok" : "error 12 no table");
    for (size_t i = 0; i < old_count; i++)
        leg_destroy(old[i]);
}

static void make_vif(char *arguments)
{
    static const char *const kinds[] = {"vhost", "vhost-server", "dev", "kernel-new", "none"};
    char kind[32] = "", target[512] = "", group[64] = "", name[32], reason[256] = "";
    struct vif_config config = {.name = name, .target = target};
    int rc;

    sscanf(arguments, "%u %31s %511s %o %63s", &config.slot, kind, target, &config.socket_mode, group);
    snprintf(name, sizeof(name), "vif%u", config.slot);
    while (config.kind < VIF_NONE && strcmp(kinds[config.kind], kind) != 0)
        config.kind++;
    config.socket_group = group[0] != '\0' ? group : NULL;
    rc = vif_create(&config, reason, sizeof(reason));
    if (rc != 0) {
        printf("error %d %s\n", -rc, reason);
        return;
    }
    exists[config.slot] = true;
    vif_list(config.slot, true);
    puts(publish() ? "ok" : "error 12 no table");
}

static void remove_vif(vif_slot slot)
{
    vif_list(slot, false);
    if (publish())
        vif_destroy(slot);
    exists[slot] = false;
    puts("ok");
}

static void print_state(vif_slot slot)
{
    static const char *const links[] = {"down", "up", "paused", "broken"};
    struct vif_state state;

    if (!vif_read_state(slot, &state)) {
        puts("error 2 no such vif");
        return;
    }
    printf("state %s %u %u %u %#llx %s\n", links[state.link], state.queue_pairs, state.ring_size[0], state.ring_size[1],
           (unsigned long long)state.virtio_features, state.reason);
}

static void print_queue(vif_slot slot, uint16_t queue)
{
    struct queue_count count;

    if (!vif_read_queue(slot, queue, &count))
        puts("error 2 no such queue");
    else
        printf("queue %u %llu %llu\n", count.worker, (unsigned long long)count.received.frames,
               (unsigned long long)count.transmitted.frames);
}

static void place_queue(vif_slot slot, uint16_t queue, unsigned worker)
{
    vif_place_queue(slot, queue, VIF_WORKER_NONE);
    publish();
    vif_queue_left(slot, queue);
    vif_place_queue(slot, queue, worker);
    puts(publish() ? "ok" : "error 12 no table");
}

static void print_count(vif_slot slot)
{
    struct vif_count count;
    uint64_t discarded = 0;

    if (!vif_read_count(slot, &count)) {
        puts("error 2 no such vif");
        return;
    }
    for (int i = 0; i < VIF_DISCARD_REASON_COUNT; i++)
        discarded += count.discarded[i];
    printf("count %llu %llu %llu %llu %llu %llu\n", (unsigned long long)count.received.frames,
           (unsigned long long)count.transmitted.frames, (unsigned long long)discarded,
           (unsigned long long)count.notified, (unsigned long long)count.reconnects,
           (unsigned long long)count.announced);
}

static void print_leg(unsigned wire, unsigned direction)
{
    struct leg_count count;
    uint64_t delivered = 0, dropped = 0, tapped = 0, tap_dropped = 0;

    leg_read(wires[wire].legs[direction], &count);
    for (int i = 0; i < DROP_REASON_COUNT; i++)
        dropped += count.dropped[i];
    for (uint16_t i = 0; i < count.step_count; i++) {
        delivered += count.steps[i].delivered.frames;
        tapped += count.steps[i].tap.copied.frames;
        for (int k = 0; k < TAP_DROP_REASON_COUNT; k++)
            tap_dropped += count.steps[i].tap.dropped[k];
    }
    printf("leg %llu %llu %llu %llu %llu\n", (unsigned long long)count.received.frames, (unsigned long long)delivered,
           (unsigned long long)dropped, (unsigned long long)tapped, (unsigned long long)tap_dropped);
}

// As control: a vif whose guest has many queues gets them polled.
static void take_events(void)
{
    uint32_t slot;
    bool grown = false;

    while (dataplane_next_event(&slot)) {
        if (vif_has_grown(slot)) {
            vif_list(slot, true);
            grown = true;
        }
    }
    if (grown)
        publish();
}

// One line at a time is there, so that none hides in stdin's buffer.
static bool wait_for_line(void)
{
    struct pollfd fds[] = {{.fd = 0, .events = POLLIN}, {.fd = dataplane_event_fd(), .events = POLLIN}};

    do {
        take_events();
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return false;
    } while (!fds[0].revents);
    return true;
}

int main(int argc, char *argv[])
{
    struct dataplane_options options = {
        .poll = argc > 1 && strcmp(argv[1], "busy") == 0 ? POLL_BUSY : POLL_ADAPTIVE,
        .hugepages_mb = HUGEPAGES_OFF,
        .log = log_line,
    };
    char reason[256] = "", line[1024];
    struct rlimit descriptors;

    // As patchbayd does.
    if (getrlimit(RLIMIT_NOFILE, &descriptors) == 0) {
        descriptors.rlim_cur = descriptors.rlim_max;
        setrlimit(RLIMIT_NOFILE, &descriptors);
    }
    if (dataplane_start(&options, reason, sizeof(reason)) != 0) {
        printf("error 5 %s\n", reason);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    puts("ready");
    while (wait_for_line() && fgets(line, sizeof(line), stdin) != NULL) {
        char *arguments = line + strcspn(line, " \n");
        unsigned a = 0, b = 0, c = 0;

        line[strcspn(line, "\n")] = '\0';
        if (*arguments != '\0')
            *arguments++ = '\0';
        sscanf(arguments, "%u %u %u", &a, &b, &c);
        if (strcmp(line, "vif") == 0)
            make_vif(arguments);
        else if (strcmp(line, "rm") == 0 && a < SLOTS)
            remove_vif(a);
        else if (strcmp(line, "wires") == 0)
            set_wires(arguments);
        else if (strcmp(line, "state") == 0)
            print_state(a);
        else if (strcmp(line, "queue") == 0)
            print_queue(a, (uint16_t)b);
        else if (strcmp(line, "place") == 0 && c < worker_count())
            place_queue(a, (uint16_t)b, c);
        else if (strcmp(line, "count") == 0)
            print_count(a);
        else if (strcmp(line, "leg") == 0 && a < wire_count && b < 2)
            print_leg(a, b);
        else
            puts("error 22 what?");
        take_events();
    }
    set_wires(line + strlen(line));
    for (vif_slot slot = 0; slot < SLOTS; slot++) {
        if (exists[slot])
            remove_vif(slot);
    }
    dataplane_stop();
    return 0;
}
