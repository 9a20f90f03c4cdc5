// SPDX-License-Identifier: BSD-3-Clause

// Where a packed ring stands when nobody can be asked: after the daemon was
// killed, a front end says what it knew when its device was started (QEMU has
// nothing to restore the index of a packed ring from). The ring itself tells,
// mostly: read from where the device stands, it has what is available, then
// what was used in the lap before, then what was used in this one.
//
// What can't always be told apart: a chain of several descriptors keeps all but its
// first as the driver wrote them when it is used, so they look available. Drivers with
// indirect tables make no such chains; with others the front end is believed, unless the
// ring shows that it is wrong.

#include "virtqueue_packed_resume.h"

#include "virtqueue_packed.h"

const char virtqueue_packed_index_lost[] =
    "packed_index_lost: where its packed rings stood before the front end lost its back end can't be told: "
    "restart the guest's driver, or reboot the guest";

enum {
    STEPS_MAX = 3,
    PACKED_BEGINNING = 1 << VRING_PACKED_EVENT_F_WRAP_CTR, // descriptor 0 in the first lap
};

struct place {
    uint32_t next;
    bool wrap;
};

struct scan {
    const struct virtqueue *vq;
    // Where the USED bit isn't what it is in the descriptor before: the ends of
    // what was used in a lap.
    uint32_t steps[STEPS_MAX];
    uint32_t step_count; // STEPS_MAX + 1: more than a ring without noise has
    bool chains;         // some descriptor goes on to another
    bool fresh;          // the driver is in its first lap, and nothing was used yet
};

static uint64_t word_at(const struct virtqueue *vq, uint32_t index)
{
    return virtqueue_packed_word(vq, index);
}

// Used where the wrap counter is `wrap`.
static bool is_used(uint64_t word, bool wrap)
{
    return (word & VIRTQUEUE_PACKED_BOTH) == (wrap ? VIRTQUEUE_PACKED_BOTH : 0);
}

static void scan_ring(struct scan *scan)
{
    const uint32_t last = scan->vq->size - 1u;
    bool before = word_at(scan->vq, 0) & VIRTQUEUE_PACKED_USED;

    // Drivers begin with a ring of zeros and write it in order, the USED bit not before their second lap.
    scan->fresh = word_at(scan->vq, last) == 0 && virtqueue_packed_address(scan->vq, last) == 0;
    for (uint32_t index = 0; index < scan->vq->size; index++) {
        uint64_t word = word_at(scan->vq, index);
        bool used = word & VIRTQUEUE_PACKED_USED;

        if (used != before && scan->step_count <= STEPS_MAX) {
            if (scan->step_count < STEPS_MAX)
                scan->steps[scan->step_count] = index;
            scan->step_count++;
        }
        before = used;
        if (virtqueue_packed_flags(word) & VRING_DESC_F_NEXT)
            scan->chains = true;
        if (used)
            scan->fresh = false;
    }
}

// What a ring looks like from a place where a device may stand.
struct finding {
    struct place place;
    uint32_t torn; // descriptors after it that are used already: it died while it published them
    bool full;     // all of them are available
};

// True if all of the ring is as a device at that place leaves it that was
// given no chains.
static bool is_sound(const struct virtqueue *vq, struct place place, struct finding *finding)
{
    enum { FIRST, TORN, AVAILABLE, OLD } state = FIRST;
    uint32_t index = place.next;
    bool wrap = place.wrap;

    *finding = (struct finding){.place = place};
    for (uint32_t ahead = 0; ahead < vq->size; ahead++) {
        uint64_t word = word_at(vq, index);

        if (virtqueue_packed_is_available(word, wrap)) {
            if (state == OLD)
                return false;
            state = state == FIRST ? TORN : AVAILABLE;
        } else if (is_used(word, wrap)) {
            if (state != TORN)
                return false;
            finding->torn++;
        } else if (is_used(word, !wrap)) {
            state = OLD;
        } else {
            return false;
        }
        if (++index == vq->size) {
            index = 0;
            wrap = !wrap;
        }
    }
    finding->full = state != OLD && finding->torn == 0;
    return true;
}

// True if the ring shows that the device doesn't stand there: something is used
// that it has yet to come to, or was never made available after it came by.
static bool is_refuted(const struct virtqueue *vq, struct place place)
{
    for (uint32_t index = 0; index < vq->size; index++) {
        if (is_used(word_at(vq, index), index >= place.next ? place.wrap : !place.wrap))
            return true;
    }
    return false;
}

// True if what is available at that place may be the rest of the chain that was
// used before it: it ends with the same buffer id.
static bool may_be_rest(const struct virtqueue *vq, struct place place)
{
    uint64_t before = word_at(vq, place.next > 0 ? place.next - 1 : vq->size - 1u);
    bool wrap = place.next > 0 ? place.wrap : !place.wrap;
    uint64_t word = 0;

    if (!is_used(before, wrap))
        return false;
    for (uint32_t ahead = 0; ahead < vq->size; ahead++) {
        uint32_t index = place.next + ahead;

        wrap = index < vq->size ? place.wrap : !place.wrap;
        word = word_at(vq, index < vq->size ? index : index - vq->size);
        if (!virtqueue_packed_is_available(word, wrap))
            return false;
        if (!(virtqueue_packed_flags(word) & VRING_DESC_F_NEXT))
            return virtqueue_packed_id(word) == virtqueue_packed_id(before);
    }
    return false;
}

// True if no device has written to what tells the driver when to notify it, since the driver set the ring up. Ours does
// so before it takes anything (attachment.c), as others do.
static bool is_untouched(const struct virtqueue *vq)
{
    return __atomic_load_n((const uint32_t *)(const void *)vq->device_event, __ATOMIC_RELAXED) == 0;
}

// The one place where the ring is sound; false: there is none, or several.
static bool find_place(const struct scan *scan, struct finding *found)
{
    unsigned count = 0;

    if (scan->step_count > STEPS_MAX)
        return false;
    for (uint32_t i = 0; i <= scan->step_count; i++) {
        for (unsigned wrap = 0; wrap < 2; wrap++) {
            struct place place = {i == 0 ? 0 : scan->steps[i - 1], wrap};
            struct finding finding;

            if (is_sound(scan->vq, place, &finding)) {
                *found = finding;
                count++;
            }
        }
    }
    return count == 1;
}

// Publishes what a device left half published: all but its first descriptor.
// Of a frame to the guest its length is lost with it; a frame of several
// buffers fills the first, another one the driver drops as too short, and its
// sender still has it, since it is completed last.
static bool finish(const struct virtqueue *vq, struct place place, bool to_guest)
{
    uint64_t word = word_at(vq, place.next);
    uint64_t used;
    uint32_t len = 0;

    if (virtqueue_packed_flags(word) & (VRING_DESC_F_NEXT | VRING_DESC_F_INDIRECT))
        return false;
    if (to_guest && vq->mergeable) {
        uint32_t part = virtqueue_packed_len(word);
        const uint8_t *host;
        uint16_t buffers;

        if (part < vq->hdr_len)
            return false;
        part = vq->hdr_len;
        host = guest_memory_at(vq->memory, virtqueue_packed_address(vq, place.next), &part);
        if (host == NULL || part < vq->hdr_len)
            return false;
        memcpy(&buffers, host + 10, sizeof(buffers));
        if (buffers > 1)
            len = virtqueue_packed_len(word);
    }
    used = virtqueue_packed_used_word(virtqueue_packed_id(word), len, place.wrap);
    __atomic_store_n((uint64_t *)(void *)&vq->ring[place.next].len, used, __ATOMIC_RELEASE);
    virtqueue_log(vq, &vq->ring[place.next].len, sizeof(used));
    return true;
}

static void stand_at(struct virtqueue *vq, struct place place, uint32_t ahead)
{
    uint32_t next = place.next + ahead;

    vq->next = (uint16_t)(next < vq->size ? next : next - vq->size);
    vq->wrap = next < vq->size ? place.wrap : !place.wrap;
}

// True if a place at which a ring is sound is the one although the driver may make chains of several descriptors, so
// that what looks available there may be what is left of a used one: the last that was used, or one that new ones
// have overwritten in part. Behind the latter come used ones, or, in a ring that is full, the device's place.
static bool is_certain(const struct scan *scan, const struct finding *found, bool may_be_full)
{
    return found->torn == 0 && !may_be_rest(scan->vq, found->place) && (may_be_full || !found->full);
}

bool virtqueue_packed_resume(struct virtqueue *vq, uint16_t base, bool to_guest)
{
    struct place said = {base & 0x7fff, base >> VRING_PACKED_EVENT_F_WRAP_CTR};
    struct scan scan = {.vq = vq};
    struct finding found = {0};
    bool chains, sound, unknowing;

    scan_ring(&scan);
    chains = !vq->indirect || scan.chains;
    // The beginning is also what a front end says that never heard of another place.
    unknowing = base == PACKED_BEGINNING;
    sound = find_place(&scan, &found);
    // A ring that is full of buffers to be received into is as it should be, from the start on.
    if ((unknowing && scan.fresh) ||
        (sound && found.place.next == said.next && found.place.wrap == said.wrap && found.torn == 0 &&
         (!unknowing || !chains || is_certain(&scan, &found, to_guest)))) {
        stand_at(vq, said, 0);
        return true;
    }
    if (sound && (!chains || is_certain(&scan, &found, to_guest && !scan.chains))) {
        if (found.torn > 0 && !finish(vq, found.place, to_guest))
            return false;
        stand_at(vq, found.place, found.torn > 0 ? found.torn + 1 : 0);
        return true;
    }
    stand_at(vq, said, 0);
    return !is_refuted(vq, said) && (!unknowing || is_untouched(vq));
}
