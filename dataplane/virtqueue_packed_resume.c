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

// What comes behind the chain that begins at the ring's first descriptor, or that goes on there.
static uint32_t first_end(const struct virtqueue *vq)
{
    for (uint32_t index = 0; index < vq->size; index++) {
        if (!goes_on(word_at(vq, index)))
            return index + 1 < vq->size ? index + 1 : 0;
    }
    return 0;
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
    uint64_t word = word_at(vq, last), before;
    uint32_t end = first_end(vq);
    bool next = false;

    // Drivers begin with a ring of zeros, but for ids, and write it in order, the USED bit not before their second lap.
    scan->fresh = (word & ~(UINT64_C(0xffff) << 32)) == 0 && virtqueue_packed_address(vq, last) == 0;
    note_place(scan, 0);
    note_place(scan, end);
    for (uint32_t index = vq->size; index-- > 0; word = before) {
        before = word_at(vq, index > 0 ? index - 1 : 0);
        if (!goes_on(word))
            end = index < last ? index + 1 : 0; // else that of the descriptor behind it
        if (word & VIRTQUEUE_PACKED_USED)
            scan->fresh = false;
        if (goes_on(word))
            next = true;
        if (is_used_once(word)) {
            if (end <= index || ((word_at(vq, end) ^ word) & VIRTQUEUE_PACKED_BOTH) != 0)
                note_place(scan, end);
        } else if (index > 0 && !is_used_once(before) && ((word ^ before) & VIRTQUEUE_PACKED_BOTH) != 0) {
            note_place(scan, index);
            note_place(scan, end);
        }
    }
    // A driver with indirect tables needs no chains. Buffers to be received into are all alike.
    scan->chains = next || !vq->indirect;
    scan->rests = scan->chains && (next || !to_guest);
}

// What a ring looks like from a place where a device may stand.
struct finding {
    struct place place;
    uint32_t torn;  // chains after the first that are used already: it died while it published them
    uint32_t past;  // how many descriptors the first and they have; 0: none is
    uint64_t first; // the first one's head, and
    uint32_t room;  // bytes, and
    uint16_t id;
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
        if (state == TORN && finding->torn == 0) {
            if (!inside)
                finding->first = word;
            finding->room += virtqueue_packed_len(word);
            finding->id = virtqueue_packed_id(word);
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
    if (finding->torn == 0)
        finding->past = 0;
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

// Where a device goes on that was found there, once what it left half published is complete.
static struct place goes_on_at(const struct virtqueue *vq, const struct finding *finding)
{
    uint32_t next = finding->place.next + finding->past;

    return next < vq->size ? (struct place){next, finding->place.wrap}
                           : (struct place){next - vq->size, !finding->place.wrap};
}

static bool is_same(struct place one, struct place other)
{
    return one.next == other.next && one.wrap == other.wrap;
}

enum where { NOWHERE, THERE, ANYWHERE };

// Where the ring is sound. A chain that wasn't published yet may look like the rest of a used one: both mean the same.
static enum where find_place(const struct scan *scan, struct finding *found)
{
    enum where where = NOWHERE;

    if (scan->place_count > PLACES_MAX)
        return NOWHERE;
    for (uint32_t i = 0; i < scan->place_count; i++) {
        for (unsigned wrap = 0; wrap < 2; wrap++) {
            struct place place = {scan->places[i], wrap};
            struct finding finding;

            if (!is_sound(scan, place, &finding))
                continue;
            if (where != NOWHERE && !is_same(goes_on_at(scan->vq, &finding), goes_on_at(scan->vq, found)))
                return ANYWHERE;
            if (where == NOWHERE || finding.torn > found->torn)
                *found = finding;
            where = THERE;
        }
    }
    return where;
}

// How many buffers the frame has that begins in the descriptor at index (virtio 1.2, 5.1.6.1); 0: it can't be read.
static uint16_t frame_buffers(const struct virtqueue *vq, uint32_t index)
{
    uint32_t part = vq->hdr_len;
    const uint8_t *host = guest_memory_at(vq->memory, virtqueue_packed_address(vq, index), &part);
    uint16_t buffers = 0;

    if (host != NULL && part >= vq->hdr_len)
        memcpy(&buffers, host + 10, sizeof(buffers));
    return buffers;
}

// Where the last frame begins of those that were being published to a guest with mergeable buffers, if not all of its
// buffers were; else found->past. *first_len: what is known of the length in the first buffer: a frame of several
// fills it.
static uint32_t find_cut(const struct virtqueue *vq, const struct finding *found, uint32_t *first_len)
{
    uint32_t index = found->place.next, begin = 0, left = 0;
    bool inside = false;

    for (uint32_t ahead = 0; ahead < found->past; ahead++) {
        if (!inside) {
            if (left == 0) {
                begin = ahead;
                left = RTE_MAX(frame_buffers(vq, index), 1);
                if (ahead == 0 && left > 1)
                    *first_len = found->room;
            }
            left--;
        }
        inside = goes_on(word_at(vq, index));
        if (++index == vq->size)
            index = 0;
    }
    return left > 0 ? begin : found->past;
}

// Takes the lengths out of used chains that nobody sees yet, from `ahead` on.
static void empty(const struct virtqueue *vq, const struct finding *found, uint32_t ahead)
{
    for (; ahead < found->past; ahead++) {
        uint32_t index = found->place.next + ahead;
        bool wrap = index < vq->size ? found->place.wrap : !found->place.wrap;
        uint64_t word, *at;

        at = (uint64_t *)(void *)&vq->ring[index < vq->size ? index : index - vq->size].len;
        word = __atomic_load_n(at, __ATOMIC_RELAXED);
        if (!is_used(word, wrap))
            continue; // not a chain's head
        word &= ~((uint64_t)VRING_DESC_F_WRITE << 48 | UINT32_MAX);
        __atomic_store_n(at, word, __ATOMIC_RELAXED);
        virtqueue_log(vq, at, sizeof(*at));
    }
}

// Publishes what a device left half published: all but its first chain.
// Of a frame to the guest its length is lost with it; a frame of several
// buffers fills the first, another one the driver drops as too short, as it does one of which only some buffers are
// there. Their senders still have them, since they are completed last. False: it can't be, or the driver has changed
// it.
static bool finish(const struct virtqueue *vq, const struct finding *found, bool to_guest)
{
    uint64_t *at = (uint64_t *)(void *)&vq->ring[found->place.next].len, word = found->first, used;
    uint32_t len = 0, cut = found->past;

    if (to_guest && vq->mergeable) {
        if (virtqueue_packed_flags(found->first) & VRING_DESC_F_INDIRECT)
            return false;
        cut = find_cut(vq, found, &len);
        if (cut == 0)
            len = 0;
        empty(vq, found, cut > 0 ? cut : 1);
    }
    used = virtqueue_packed_used_word(found->id, len, found->place.wrap);
    if (goes_on(found->first))
        used |= (uint64_t)VRING_DESC_F_NEXT << 48;
    if (!__atomic_compare_exchange_n(at, &word, used, false, __ATOMIC_RELEASE, __ATOMIC_RELAXED))
        return false;
    virtqueue_log(vq, at, sizeof(used));
    return true;
}

static void stand_at(struct virtqueue *vq, struct place place)
{
    vq->next = (uint16_t)place.next;
    vq->wrap = place.wrap;
}

bool virtqueue_packed_resume(struct virtqueue *vq, uint16_t base, bool to_guest, bool believe)
{
    struct place said = {base & 0x7fff, base >> VRING_PACKED_EVENT_F_WRAP_CTR};
    struct scan scan = {.vq = vq}, again = {.vq = vq};
    struct finding found = {0}, same = {0};
    // The beginning is also what a front end says that never heard of another place.
    bool unknowing = base == PACKED_BEGINNING;
    enum where where;

    scan_ring(&scan, to_guest);
    if (unknowing ? scan.fresh : is_sound(&scan, said, &found) && found.torn == 0) {
        stand_at(vq, said);
        return true;
    }
    where = find_place(&scan, &found);
    // What a driver is just writing to a new ring may look half published.
    if (unknowing && is_untouched(vq) && !is_refuted(vq, said) && (where != THERE || found.torn > 0)) {
        stand_at(vq, said);
        return true;
    }
    if (where == THERE) {
        // A driver that is writing isn't taken at its word before it stands.
        scan_ring(&again, to_guest);
        if (find_place(&again, &same) != THERE || !is_same(found.place, same.place) || found.past != same.past)
            return false;
        if (same.torn > 0 && !finish(vq, &same, to_guest))
            return false;
        stand_at(vq, goes_on_at(vq, &same));
        return true;
    }
    stand_at(vq, said);
    return believe && !unknowing && where == NOWHERE && !is_refuted(vq, said);
}
