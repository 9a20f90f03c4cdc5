// SPDX-License-Identifier: BSD-3-Clause

// Which vifs have news for the control thread: one bit a slot, one eventfd.
// Setting a bit twice is one event, so nothing can overflow.

#include "event.h"
#include "vif.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { WORD_BITS = 64, WORDS = (LIMIT_VIFS + WORD_BITS - 1) / WORD_BITS };

// Set by anyone, cleared by the control thread.
static _Atomic uint64_t news[WORDS];
static int news_fd = -1;

int event_start(void)
{
    news_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return news_fd < 0 ? -errno : 0;
}

void event_stop(void)
{
    close(news_fd);
    news_fd = -1;
    for (unsigned i = 0; i < WORDS; i++)
        atomic_store(&news[i], 0);
}

int dataplane_event_fd(void)
{
    return news_fd;
}

void event_post(vif_slot slot)
{
    uint64_t bit = UINT64_C(1) << (slot % WORD_BITS);

    if (atomic_fetch_or(&news[slot / WORD_BITS], bit) & bit)
        return; // still to be taken
    if (news_fd >= 0)
        (void)eventfd_write(news_fd, 1);
}

bool dataplane_next_event(uint32_t *slot)
{
    eventfd_t count;

    // Calm the fd first: a bit that is set after the scan passed it comes with
    // a write of its own.
    (void)eventfd_read(news_fd, &count);
    for (unsigned i = 0; i < WORDS; i++) {
        uint64_t word = atomic_load(&news[i]);

        if (word != 0) {
            unsigned bit = (unsigned)__builtin_ctzll(word);

            atomic_fetch_and(&news[i], ~(UINT64_C(1) << bit));
            *slot = i * WORD_BITS + bit;
            return true;
        }
    }
    return false;
}
