// SPDX-License-Identifier: BSD-3-Clause
//
// The test's own way into the test double: one command a line over a Unix
// socket, one line back.
//
//   link VIF up|down|paused|broken [REASON]
//   features VIF BITS        what its driver negotiated, in hexadecimal
//   send VIF VLAN COUNT LEN   frames arrive at a vif (VLAN 0: untagged) and
//                             go the way that the current table says
//   grow VIF QUEUES           its guest has many queues
//   load VIF QUEUE PERCENT    what the queue costs its worker
//   moves                     how often a queue has left its worker
//   publish-wait MICROSECONDS how long workers stay in an old table
//   full VIF on|off           whether it has room for taps' copies
//   fail on|off               whether targets with "fail:" fail
//   stuck on|off              whether the worker hangs
//   vif VIF                   its counters
//   table                     what is there
//   making                    the vif that is being made

#include "fake_dataplane.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct {
    char path[LIMIT_SOCKET_PATH_LEN + 1];
    int listen_fd;
    pthread_t thread;
    bool running;
} server = {.listen_fd = -1};

static void add(struct frame_count *count, uint64_t frames, uint64_t len)
{
    count->frames += frames;
    count->bytes += frames * len;
}

static bool is_up(vif_slot slot)
{
    return fake.vifs[slot].state.link == VIF_LINK_UP;
}

static void tap(struct step_count *step, vif_slot slot, uint64_t frames, uint64_t len)
{
    step->tap.offered += frames;
    if (slot != VIF_SLOT_NONE && fake.vifs[slot].full) {
        step->tap.dropped[TAP_DROP_RING_FULL] += frames;
    } else if (slot != VIF_SLOT_NONE && is_up(slot)) {
        add(&step->tap.copied, frames, len);
        add(&fake.vifs[slot].count.transmitted, frames, len);
    } else {
        step->tap.dropped[TAP_DROP_DOWN] += frames;
    }
}

static void deliver(struct leg *leg, uint16_t index, uint64_t frames, uint64_t len)
{
    vif_slot slot = leg->program.steps[index].vif;

    if (is_up(slot)) {
        add(&leg->count.steps[index].delivered, frames, len);
        add(&fake.vifs[slot].count.transmitted, frames, len);
    } else {
        leg->count.dropped[DROP_DOWN] += frames;
    }
}

// What a worker does with a burst, as far as counters can tell.
static void run_leg(struct leg *leg, uint64_t frames, uint64_t len)
{
    add(&leg->count.received, frames, len);
    for (uint16_t i = 0; i < leg->program.step_count; i++) {
        const struct hop_step *step = &leg->program.steps[i];

        switch (step->kind) {
        case HOP_TAP:
            tap(&leg->count.steps[i], step->vif, frames, len);
            break;
        case HOP_BUMP:
            if (is_up(step->vif) && is_up(step->other)) {
                deliver(leg, i, frames, len);
                return;
            }
            if (!step->fail_open) {
                leg->count.dropped[DROP_BUMP_DOWN] += frames;
                return;
            }
            break;
        case HOP_END:
            deliver(leg, i, frames, len);
            return;
        case HOP_DROP:
            leg->count.dropped[step->reason] += frames;
            return;
        }
    }
}

static const struct table_entry *find_entry(vif_slot slot, uint16_t vlan, bool *wired)
{
    *wired = false;
    for (size_t i = 0; fake.current != NULL && i < fake.current->count; i++) {
        const struct table_entry *entry = &fake.current->entries[i];

        if (entry->vif != slot)
            continue;
        *wired = true;
        if (entry->vlan == TABLE_ANY_VLAN || entry->vlan == vlan)
            return entry;
    }
    return NULL;
}

static void send_frames(struct fake_vif *vif, uint16_t vlan, uint64_t frames, uint64_t len, char *answer, size_t size)
{
    bool wired;
    const struct table_entry *entry = find_entry((vif_slot)(vif - fake.vifs), vlan, &wired);

    if (entry != NULL && entry->held) {
        snprintf(answer, size, "held");
        return;
    }
    add(&vif->count.received, frames, len);
    fake.frames += frames;
    if (entry == NULL)
        vif->count.discarded[wired ? VIF_DISCARD_UNKNOWN_VLAN : VIF_DISCARD_UNWIRED] += frames;
    else if (entry->monitor)
        vif->count.discarded[VIF_DISCARD_MONITOR] += frames;
    else
        run_leg(entry->leg, frames, len);
}

static enum vif_link parse_link(const char *word)
{
    if (strcmp(word, "up") == 0)
        return VIF_LINK_UP;
    if (strcmp(word, "paused") == 0)
        return VIF_LINK_PAUSED;
    return strcmp(word, "broken") == 0 ? VIF_LINK_BROKEN : VIF_LINK_DOWN;
}

static void describe_table(char *answer, size_t size)
{
    size_t held = 0, monitors = 0;

    for (size_t i = 0; fake.current != NULL && i < fake.current->count; i++) {
        held += fake.current->entries[i].held;
        monitors += fake.current->entries[i].monitor;
    }
    snprintf(answer, size, "generation=%llu entries=%zu held=%zu monitors=%zu legs=%u vifs=%u",
             fake.current != NULL ? (unsigned long long)fake.current->generation : 0,
             fake.current != NULL ? fake.current->count : 0, held, monitors, fake.leg_count, fake.vif_count);
}

static void answer_vif(const struct fake_vif *vif, char *answer, size_t size)
{
    snprintf(answer, size, "received=%llu transmitted=%llu unwired=%llu monitor=%llu queues=%u",
             (unsigned long long)vif->count.received.frames, (unsigned long long)vif->count.transmitted.frames,
             (unsigned long long)vif->count.discarded[VIF_DISCARD_UNWIRED],
             (unsigned long long)vif->count.discarded[VIF_DISCARD_MONITOR], vif->queues);
}

static void set_load(struct fake_vif *vif, unsigned queue, unsigned percent)
{
    fake_work();
    fake.loaded = true;
    vif->load[queue] = percent;
}

// As after a driver has come with them. VIRTIO_NET_F_GUEST_CSUM, _GUEST_TSO4, _GUEST_TSO6 are bits 1, 7 and 8.
static void set_features(struct fake_vif *vif, uint64_t features)
{
    vif->state.virtio_features = features;
    vif->state.takes_csum = (features & 1 << 1) != 0;
    vif->state.takes_tso = vif->state.takes_csum && (features & (1 << 7 | 1 << 8)) == (1 << 7 | 1 << 8);
}

static void run_command(char *line, char *answer, size_t size)
{
    unsigned long long frames, len, wait, features;
    char name[64], word[64];
    struct fake_vif *vif = NULL;
    unsigned vlan;
    int at = 0;

    strlcpy(answer, "ok", size);
    if (sscanf(line, "%*63s %63s", name) == 1)
        vif = fake_find_vif(name);
    if (sscanf(line, "link %63s %63s%n", name, word, &at) == 2 && vif != NULL)
        fake_set_link(vif, parse_link(word), line[at] == ' ' ? line + at + 1 : "");
    else if (sscanf(line, "features %63s %llx", name, &features) == 2 && vif != NULL)
        set_features(vif, features);
    else if (sscanf(line, "send %63s %u %llu %llu", name, &vlan, &frames, &len) == 4 && vif != NULL)
        send_frames(vif, (uint16_t)vlan, frames, len, answer, size);
    else if (sscanf(line, "grow %63s %u", name, &vlan) == 2 && vif != NULL && vlan <= VIF_QUEUES_MAX)
        fake_grow(vif, (uint16_t)vlan);
    else if (sscanf(line, "load %63s %u %llu", name, &vlan, &frames) == 3 && vif != NULL && vlan < VIF_QUEUES_MAX)
        set_load(vif, vlan, (unsigned)frames);
    else if (strcmp(line, "moves") == 0)
        snprintf(answer, size, "%llu", (unsigned long long)fake.moves);
    else if (sscanf(line, "publish-wait %llu", &wait) == 1)
        fake.publish_wait_ns = wait * 1000;
    else if (sscanf(line, "full %63s %63s", name, word) == 2 && vif != NULL)
        vif->full = strcmp(word, "on") == 0;
    else if (sscanf(line, "fail %63s", word) == 1)
        fake.fail_on = strcmp(word, "on") == 0;
    else if (sscanf(line, "stuck %63s", word) == 1)
        fake.stuck = strcmp(word, "on") == 0;
    else if (strncmp(line, "vif ", 4) == 0 && vif != NULL)
        answer_vif(vif, answer, size);
    else if (strcmp(line, "making") == 0)
        strlcpy(answer, fake.making, size);
    else if (strcmp(line, "table") == 0)
        describe_table(answer, size);
    else
        strlcpy(answer, "error: no such command or vif", size);
}

static void serve(int fd)
{
    FILE *stream = fdopen(fd, "r+");
    char line[512], answer[512];

    if (stream == NULL) {
        close(fd);
        return;
    }
    while (fgets(line, sizeof(line), stream) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        pthread_mutex_lock(&fake_lock);
        run_command(line, answer, sizeof(answer));
        pthread_mutex_unlock(&fake_lock);
        fprintf(stream, "%s\n", answer);
        fflush(stream);
    }
    fclose(stream);
}

static void *run(void *arg)
{
    int fd;

    (void)arg;
    while ((fd = accept4(server.listen_fd, NULL, NULL, SOCK_CLOEXEC)) >= 0)
        serve(fd);
    return NULL;
}

int fake_command_start(char *reason, size_t reason_size)
{
    const char *path = getenv("PATCHBAY_FAKE");
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    if (path == NULL)
        return 0;
    strlcpy(address.sun_path, path, sizeof(address.sun_path));
    strlcpy(server.path, path, sizeof(server.path));
    unlink(path);
    server.listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server.listen_fd < 0 || bind(server.listen_fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
        listen(server.listen_fd, 4) != 0 || pthread_create(&server.thread, NULL, run, NULL) != 0) {
        snprintf(reason, reason_size, "The test double can't listen on %s: %s.", path, strerror(errno));
        return -EIO;
    }
    server.running = true;
    return 0;
}

void fake_command_stop(void)
{
    if (!server.running)
        return;
    // Wakes accept; a test that still talks is cut off with the process.
    shutdown(server.listen_fd, SHUT_RDWR);
    pthread_detach(server.thread);
    unlink(server.path);
    server.running = false;
}
