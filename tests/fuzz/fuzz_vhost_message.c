// SPDX-License-Identifier: BSD-3-Clause

// The check of a front end's messages before the library may see them. Input:
// how many rings there are, which descriptors came along (a byte each), then
// the message, as the library's handlers get it.

#include "dataplane/vhost_message.h"
#include "fuzz.h"

#include <fcntl.h>
#include <rte_version.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

// The structure of vhost_message.c, in full.
struct context {
    uint32_t request, flags, size;
#if RTE_VERSION >= RTE_VERSION_NUM(25, 3, 0, 0)
    uint8_t payload[1072];
#else
    uint8_t payload[632];
#endif
    int fds[8];
    int fd_count;
} __attribute__((packed));

enum { FDS = 8, OPTIONS = 2 + FDS, KINDS = 3 };

// Descriptors of each kind that a front end might send.
static int kinds[KINDS];

static void open_kinds(void)
{
    if (kinds[0] != 0)
        return;
    kinds[0] = memfd_create("fuzz", MFD_CLOEXEC);
    kinds[1] = eventfd(0, EFD_CLOEXEC);
    kinds[2] = open("/dev/null", O_RDWR | O_CLOEXEC);
    must(kinds[0] > 0 && kinds[1] > 0 && kinds[2] > 0 && ftruncate(kinds[0], 1 << 20) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct vhost_message_rule *rule;
    struct vhost_message message;
    char reason[128] = "";
    unsigned rings;
    struct context *context;
    size_t rest;

    if (size < OPTIONS + 12)
        return 0;
    open_kinds();
    rest = size - OPTIONS;
    rings = 2u * (1 + data[0] % 16);
    // From malloc, so that a byte beyond it is seen. The library clears nothing:
    // an earlier message's bytes are behind this one's.
    context = malloc(sizeof(*context));
    memset(context, 0xa5, sizeof(*context));
    memcpy(context, data + OPTIONS, rest < 12 + sizeof(context->payload) ? rest : 12 + sizeof(context->payload));
    context->fd_count = data[1] % (FDS + 1);
    for (int i = 0; i < FDS; i++)
        context->fds[i] = i < context->fd_count ? fcntl(kinds[data[2 + i] % KINDS], F_DUPFD_CLOEXEC, 3) : -1;

    memcpy(&message, context, sizeof(message));
    rule = vhost_message_check(&message, rings, reason, sizeof(reason));
    if (rule == NULL) {
        must(reason[0] != '\0' && memchr(reason, 0, sizeof(reason)) != NULL);
    } else {
        must(rule->request == message.request && message.size >= rule->size);
        if (rule->ring != RING_NONE)
            must(vhost_message_ring(&message, rule) < rings);
        if (rule->request == REQUEST_SET_MEM_TABLE) {
            uint32_t regions;

            memcpy(&regions, context->payload, sizeof(regions));
            if (vhost_message_can_map(context) && regions == (uint32_t)context->fd_count)
                for (uint32_t i = 0; i < regions; i++)
                    must(data[2 + i] % KINDS == 0); // nothing else can be mapped
        }
    }
    // As for a message that is refused: none is left open.
    vhost_message_close(context);
    must(context->fd_count == 0);
    for (int i = 0; i < FDS; i++)
        must(context->fds[i] == -1);
    free(context);
    return 0;
}
