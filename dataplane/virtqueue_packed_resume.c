// SPDX-License-Identifier: BSD-3-Clause

// Where a packed ring stands when nobody can be asked: after the daemon was
// killed, a front end says what it knew when its device was started (QEMU has
// nothing to restore the index of a packed ring from). The ring itself tells,
// mostly: read from where the device stands, it has what is available, then
// what was used in the lap before, then what was used in this one.
//
// A chain of several descriptors keeps all but its first as the driver wrote them when
// it is used, so they look available. Its first, then a used one, keeps NEXT
// (virtqueue_packed_used), by which they are known. What can't always be told is whether
// the first descriptors behind what the driver wrote last are such a rest, the chain's
// head overwritten, or are available themselves: only if nothing but they is free.

#include "virtqueue_packed_resume.h"

#include "virtqueue_packed.h"

#include <string.h>

const char virtqueue_packed_index_lost[] =
    "packed_index_lost: where its packed rings stood before the front end lost its back end can't be told: "
    "restart the guest's driver, or reboot the guest";

enum {
    PLACES_MAX = 8,                                        // more than a ring without noise has
    PACKED_BEGINNING = 1 << VRING_PACKED_EVENT_F_WRAP_CTR, // descriptor 0 in the first lap
};

struct place {
    uint32_t next;
    bool wrap;
};

struct scan {
    const struct virtqueue *vq;
    // Where a device may stand, in one lap or another.
    uint32_t places[PLACES_MAX];
    uint32_t place_count; // PLACES_MAX + 1: too many
    bool chains;          // the driver may make chains of several descriptors
    bool rests;           // of such chains that were used there may be rests without a head
    bool fresh;           // the driver is in its first lap, and nothing was used yet
};

static uint64_t word_at(const struct virtqueue *vq, uint32_t index)
{
    return virtqueue_packed_word(vq, index);
}

static bool goes_on(uint64_t word)
{
    return virtqueue_packed_flags(word) & VRING_DESC_F_NEXT;
}

// Used where the wrap counter is `wrap`.
static bool is_used(uint64_t word, bool wrap)
{
    return (word & VIRTQUEUE_PACKED_BOTH) == (wrap ? VIRTQUEUE_PACKED_BOTH : 0);
}

// Used, or never written.
static bool is_used_once(uint64_t word)
{
    return is_used(word, false) || is_used(word, true);
}

// Where the chain ends that begins at index: what comes behind it.
static uint32_t end_of(const struct virtqueue *vq, uint32_t index)
{
    for (uint32_t count = 0; count < vq->size; count++) {
        bool on = goes_on(word_at(vq, index));

        if (++index == vq->size)
            index = 0;
        if (!on)
            break;
    }
    return index;
}

static void note_place(struct scan *scan, uint32_t index)
{
    for (uint32_t i = 0; i < scan->place_count && i < PLACES_MAX; i++) {
        if (scan->places[i] == index)
            return;
    }
    if (scan->place_count < PLACES_MAX)
        scan->places[scan->place_count] = index;
    if (scan->place_count <= PLACES_MAX)
        scan->place_count++;
}

// Notes the places that come into question: the ring's beginning; the end of what was used in a lap; the end of what
// the driver made available in a lap, or of the rest of a used chain behind it.
static void scan_ring(struct scan *scan, bool to_guest)
{
    const struct virtqueue *vq = scan->vq;
    const uint32_t last = vq->size - 1u;
    uint64_t before = word_at(vq, last);
    bool next = false;

    // Drivers begin with a ring of zeros and write it in order, the USED bit not before their second lap.
    scan->fresh = before == 0 && virtqueue_packed_address(vq, last) == 0;
    note_place(scan, 0);
    note_place(scan, end_of(vq, 0));
    for (uint32_t index = 0; index < vq->size; index++) {
        uint64_t word = word_at(vq, index);

        if (word & VIRTQUEUE_PACKED_USED)
            scan->fresh = false;
        if (goes_on(word))
            next = true;
        if (is_used_once(word)) {
            uint32_t end = end_of(vq, index);

            if (end <= index || (word_at(vq, end) & VIRTQUEUE_PACKED_BOTH) != (word & VIRTQUEUE_PACKED_BOTH))
                note_place(scan, end);
        } else if (index > 0 && !is_used_once(before) && ((word ^ before) & VIRTQUEUE_PACKED_BOTH) != 0) {
            note_place(scan, index);
            note_place(scan, end_of(vq, index));
        }
        before = word;
    }
    // A driver with indirect tables needs no chains. Buffers to be received into are all alike.
    scan->chains = next || !vq->indirect;
    scan->rests = scan->chains && (next || !to_guest);
}

// What a ring looks like from a place where a device may stand.
struct finding {
    struct place place;
    uint32_t torn; // chains after the first that are used already: it died while it published them
    uint32_t past; // how many descriptors the first and they have
};

// Notes an id of a chain that the driver waits for. False: it is another's.
static bool take_id(uint64_t *ids, uint16_t id)
{
    uint64_t bit = UINT64_C(1) << id % 64;
    bool is_free = !(ids[id / 64] & bit);

    ids[id / 64] |= bit;
    return is_free;
}

// True if all of the ring is as a device at that place leaves it. No id is given out twice at a time: one that is
// shows that a rest was taken for an available chain, since drivers mostly give out first what came back last.
static bool is_sound(const struct scan *scan, struct place place, struct finding *finding)
{
    enum { FIRST, TORN, AVAILABLE, OLD } state = FIRST;
    uint64_t ids[65536 / 64] = {0}; // of chains that the driver waits for
    const struct virtqueue *vq = scan->vq;
    uint32_t index = place.next;
    bool wrap = place.wrap, inside = false, available = false;

    *finding = (struct finding){.place = place};
    for (uint32_t ahead = 0; ahead < vq->size; ahead++) {
        uint64_t word = word_at(vq, index);

        if (inside) {
            if (!virtqueue_packed_is_available(word, state == OLD ? !wrap : wrap))
                return false;
        } else if (virtqueue_packed_is_available(word, wrap)) {
            if (state == OLD)
                return false;
            state = state == FIRST ? TORN : AVAILABLE;
            available = true;
        } else {
            available = false;
            if (is_used(word, wrap)) {
                if (state != TORN)
                    return false;
                finding->torn++;
                if (scan->chains && !take_id(ids, virtqueue_packed_id(word)))
                    return false;
            } else {
                if (!is_used(word, !wrap) && (state == OLD || !scan->rests))
                    return false;
                state = OLD;
            }
        }
        inside = goes_on(word);
        // Only the last one's id counts (virtio 1.2, 2.8.6).
        if (available && !inside && scan->chains && !take_id(ids, virtqueue_packed_id(word)))
            return false;
        if (state == TORN)
            finding->past = ahead + 1;
        if (++index == vq->size) {
            index = 0;
            wrap = !wrap;
        }
    }
    return !inside;
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

    for (uint32_t i = 0; i < scan->place_count && scan->place_count <= PLACES_MAX; i++) {
        for (unsigned wrap = 0; wrap < 2; wrap++) {
            struct place place = {scan->places[i], wrap};
            struct finding finding;

            if (is_sound(scan, place, &finding)) {
                *found = finding;
                count++;
            }
        }
    }
    return count == 1;
}

// Publishes what a device left half published: all but its first chain.
// Of a frame to the guest its length is lost with it; a frame of several
// buffers fills the first, another one the driver drops as too short, and its
// sender still has it, since it is completed last.
static bool finish(const struct virtqueue *vq, struct place place, bool to_guest)
{
    const uint64_t first = word_at(vq, place.next);
    uint32_t index = place.next, room = virtqueue_packed_len(first), len = 0;
    uint64_t word = first, used;

    while (goes_on(word)) { // it ends: the ring is sound
        if (++index == vq->size)
            index = 0;
        word = word_at(vq, index);
        room += virtqueue_packed_len(word);
    }
    if (to_guest && vq->mergeable) {
        uint32_t part = virtqueue_packed_len(first);
        const uint8_t *host;
        uint16_t buffers;

        if (part < vq->hdr_len || (virtqueue_packed_flags(first) & VRING_DESC_F_INDIRECT))
            return false;
        part = vq->hdr_len;
        host = guest_memory_at(vq->memory, virtqueue_packed_address(vq, place.next), &part);
        if (host == NULL || part < vq->hdr_len)
            return false;
        memcpy(&buffers, host + 10, sizeof(buffers));
        if (buffers > 1)
            len = room;
    }
    used = virtqueue_packed_used_word(virtqueue_packed_id(word), len, place.wrap);
    if (goes_on(first))
        used |= (uint64_t)VRING_DESC_F_NEXT << 48;
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

bool virtqueue_packed_resume(struct virtqueue *vq, uint16_t base, bool to_guest)
{
    struct place said = {base & 0x7fff, base >> VRING_PACKED_EVENT_F_WRAP_CTR};
    struct scan scan = {.vq = vq};
    struct finding found = {0};
    // The beginning is also what a front end says that never heard of another place.
    bool unknowing = base == PACKED_BEGINNING;

    scan_ring(&scan, to_guest);
    if (unknowing ? scan.fresh : is_sound(&scan, said, &found) && found.torn == 0) {
        stand_at(vq, said, 0);
        return true;
    }
    if (find_place(&scan, &found)) {
        if (found.torn > 0 && !finish(vq, found.place, to_guest))
            return false;
        stand_at(vq, found.place, found.torn > 0 ? found.past : 0);
        return true;
    }
    stand_at(vq, said, 0);
    return !is_refuted(vq, said) && (!unknowing || is_untouched(vq));
}
