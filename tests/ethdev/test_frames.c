// SPDX-License-Identifier: BSD-3-Clause

// Frames through an ethdev: a software ring whose far end is its near end, so
// that what is transmitted is received again. Counts exact, no buffer lost.

#include "fixture.h"

#include <rte_ethdev.h>
#include <string.h>

enum { RING_ROOM = 1023 }; // of net_ring's rings of 1,024

static struct vif *ring;
static enum transmit_stop stop;

static int make_ring(void **state)
{
    (void)state;
    fixture_clear();
    ring = fixture_make(VIF_DEV, "net_ring0");
    assert_int_equal(vif_link(ring), VIF_LINK_UP);
    return 0;
}

static int remove_ring(void **state)
{
    if (vif_in_slot(ring->slot) == ring)
        fixture_remove(ring);
    return fixture_clean(state);
}

static uint16_t transmit(struct burst *burst, uint16_t first, uint16_t count)
{
    return ring->ops->transmit(ring, 0, burst, first, count, &stop);
}

static uint16_t receive(void)
{
    return ring->ops->receive(ring, 0, &fixture_in);
}

static void complete(uint16_t taken)
{
    ring->ops->complete(ring, 0, &fixture_in, taken);
}

static uint64_t discarded(enum vif_discard_reason reason)
{
    return counter_read(&vif_rxq(ring, 0)->discarded[reason]);
}

static void test_sizes(void **state)
{
    static const uint32_t sizes[] = {14,   15,   17,   18,   42,   59,   60,   61,   64,   65,   1514,
                                     1518, 2047, 2048, 2049, 4096, 4097, 8192, 9000, 9215, 9216, LIMIT_FRAME_MIN};
    static const uint32_t pieces[] = {0, 1, 13, 64, 700, 2048, 5000};

    (void)state;
    for (size_t p = 0; p < sizeof(pieces) / sizeof(pieces[0]); p++) {
        for (uint32_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            fixture_clear();
            if (pieces[p] > 0 && sizes[i] / pieces[p] > LIMIT_FRAME_SEGMENTS)
                continue;
            fixture_add(i, sizes[i], pieces[p]);
            assert_int_equal(transmit(&fixture_out.burst, 0, 1), 1);
            assert_int_equal(stop, TRANSMIT_ALL);
            assert_int_equal(receive(), 1);
            assert_true(fixture_in.owned);
            fixture_check(&fixture_in, 0, i, sizes[i]);
            complete(1);
            assert_int_equal(fixture_buffers_out(ring), 0);
        }
    }
    assert_int_equal(receive(), 0);
}

static void test_stash(void **state)
{
    uint32_t expected = 0;
    uint16_t count;

    (void)state;
    for (uint32_t i = 0; i < 150; i++) {
        fixture_clear();
        fixture_add(i, 100 + i, 0);
        assert_int_equal(transmit(&fixture_out.burst, 0, 1), 1);
    }
    // Some leave, some stay; those are seen again, in order, and nothing is polled meanwhile.
    for (uint16_t take = 0; (count = receive()) > 0; take = (take + 7) % 11) {
        uint16_t taken = take < count ? take : count;

        for (uint16_t i = 0; i < count; i++)
            fixture_check(&fixture_in, i, expected + i, 100 + expected + i);
        complete(taken);
        expected += taken;
        assert_int_equal(fixture_buffers_out(ring), 150 - expected);
    }
    assert_int_equal(expected, 150);
}

static void test_burst_budget(void **state)
{
    uint32_t expected = 0;
    uint16_t count;

    (void)state;
    fixture_clear();
    for (uint32_t i = 0; i < 20; i++)
        fixture_add(i, 9216, 0);
    assert_int_equal(transmit(&fixture_out.burst, 0, 20), 20);
    // A burst ends with the frame that reaches 64 KiB.
    while ((count = receive()) > 0) {
        assert_true(count <= 8);
        for (uint16_t i = 0; i < count; i++)
            fixture_check(&fixture_in, i, expected++, 9216);
        complete(count);
    }
    assert_int_equal(expected, 20);
}

// Owned frames go on as they are: the same mbuf comes back.
static void test_zero_copy(void **state)
{
    struct rte_mbuf *mbufs[4];
    static const uint32_t sizes[4] = {60, 1514, 59, 9000}; // the short one is copied, to be padded

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        fixture_clear();
        fixture_add(i, sizes[i], 0);
        assert_int_equal(transmit(&fixture_out.burst, 0, 1), 1);
    }
    assert_int_equal(receive(), 4);
    for (uint16_t i = 0; i < 4; i++)
        mbufs[i] = fixture_in.frames[i].mbuf;
    // As if it had come that short.
    rte_pktmbuf_trim(mbufs[2], 1);
    frame_set_single(&fixture_in.frames[2], fixture_in.frames[2].data, 59);
    assert_int_equal(transmit(&fixture_in, 0, 4), 4);
    for (uint16_t i = 0; i < 4; i++)
        assert_int_equal(fixture_in.frames[i].mbuf == NULL, i != 2);
    complete(4);
    assert_int_equal(receive(), 4);
    for (uint16_t i = 0; i < 4; i++) {
        fixture_check(&fixture_in, i, i, sizes[i]);
        if (i != 2)
            assert_ptr_equal(fixture_in.frames[i].mbuf, mbufs[i]);
    }
    complete(4);
    assert_int_equal(fixture_buffers_out(ring), 0);
}

// A view that isn't all of its mbuf (a tag was popped) is copied.
static void test_view_of_part(void **state)
{
    (void)state;
    fixture_add(7, 500, 0);
    assert_int_equal(transmit(&fixture_out.burst, 0, 1), 1);
    assert_int_equal(receive(), 1);
    frame_set_single(&fixture_in.frames[0], fixture_in.frames[0].data, 300);
    assert_int_equal(transmit(&fixture_in, 0, 1), 1);
    assert_non_null(fixture_in.frames[0].mbuf);
    complete(1);
    assert_int_equal(receive(), 1);
    fixture_check(&fixture_in, 0, 7, 300);
    complete(1);
}

static void test_keep(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 10; i++)
        fixture_add(i, 1000 * (i % 3) + 200, 0);
    assert_int_equal(transmit(&fixture_out.burst, 0, 10), 10);
    assert_int_equal(receive(), 10);
    fixture_in.keep = true;
    assert_int_equal(transmit(&fixture_in, 0, 10), 10);
    assert_int_equal(transmit(&fixture_in, 3, 2), 2); // and two of them once more
    for (uint16_t i = 0; i < 10; i++) {
        assert_int_equal(rte_mbuf_refcnt_read(fixture_in.frames[i].mbuf), i == 3 || i == 4 ? 3 : 2);
        fixture_check(&fixture_in, i, i, 1000 * (i % 3) + 200);
    }
    fixture_in.keep = false;
    complete(10);
    assert_int_equal(fixture_buffers_out(ring), 13); // those of 2,200 bytes are two buffers each
    assert_int_equal(receive(), 12);
    complete(12);
    assert_int_equal(fixture_buffers_out(ring), 0);
}

// Full: what went is counted, what didn't stays whole, in order, and is tried again.
static void test_full(void **state)
{
    uint32_t sent = 0, received = 0;
    uint16_t count;

    (void)state;
    for (uint32_t i = 0; i < FIXTURE_FRAMES; i++)
        fixture_add(i, 64, 0);
    do {
        count = transmit(&fixture_out.burst, 0, FIXTURE_FRAMES);
        sent += count;
    } while (count == FIXTURE_FRAMES);
    assert_int_equal(stop, TRANSMIT_FULL);
    assert_int_equal(sent, RING_ROOM);
    assert_int_equal(fixture_buffers_out(ring), RING_ROOM);
    assert_int_equal(transmit(&fixture_out.burst, 0, FIXTURE_FRAMES), 0);
    assert_int_equal(stop, TRANSMIT_FULL);
    assert_int_equal(fixture_buffers_out(ring), RING_ROOM);
    while ((count = receive()) > 0) {
        for (uint16_t i = 0; i < count; i++)
            fixture_check(&fixture_in, i, received++ % FIXTURE_FRAMES, 64);
        complete(count);
    }
    assert_int_equal(received, RING_ROOM);
    assert_int_equal(transmit(&fixture_out.burst, 0, FIXTURE_FRAMES), FIXTURE_FRAMES);
}

static void test_full_owned(void **state)
{
    uint16_t count;
    struct rte_mbuf *mbufs[FIXTURE_FRAMES];

    (void)state;
    for (uint32_t i = 0; i < FIXTURE_FRAMES; i++)
        fixture_add(i, 64, 0);
    assert_int_equal(transmit(&fixture_out.burst, 0, FIXTURE_FRAMES), FIXTURE_FRAMES);
    assert_int_equal(receive(), FIXTURE_FRAMES);
    // The ring is empty now; leave it 10 places.
    for (uint32_t left = RING_ROOM - 10; left > 0;) {
        uint16_t some = left < FIXTURE_FRAMES ? (uint16_t)left : FIXTURE_FRAMES;

        assert_int_equal(transmit(&fixture_out.burst, 0, some), some);
        left -= some;
    }
    for (uint16_t i = 0; i < FIXTURE_FRAMES; i++)
        mbufs[i] = fixture_in.frames[i].mbuf;
    count = transmit(&fixture_in, 0, FIXTURE_FRAMES);
    assert_int_equal(count, 10);
    assert_int_equal(stop, TRANSMIT_FULL);
    for (uint16_t i = 0; i < FIXTURE_FRAMES; i++) {
        if (i < 10)
            assert_null(fixture_in.frames[i].mbuf);
        else
            assert_ptr_equal(fixture_in.frames[i].mbuf, mbufs[i]);
    }
    // The same with references: those of the unsent are given back.
    fixture_in.keep = true;
    assert_int_equal(transmit(&fixture_in, 10, FIXTURE_FRAMES - 10), 0);
    fixture_in.keep = false;
    for (uint16_t i = 10; i < FIXTURE_FRAMES; i++)
        assert_int_equal(rte_mbuf_refcnt_read(mbufs[i]), 1);
    complete(10);
    assert_int_equal(receive(), FIXTURE_FRAMES - 10);
    fixture_check(&fixture_in, 0, 10, 64);
    complete(FIXTURE_FRAMES - 10);
}

// A worker's burst is used over and over: what a borrowed frame has for an mbuf
// is another's, perhaps by now the very one that the copy gets.
static void test_stale_mbufs(void **state)
{
    struct rte_mempool *pool = vif_ethdev(ring)->pool;
    struct rte_mbuf *mbufs[FIXTURE_FRAMES];

    (void)state;
    for (uint32_t i = 0; i < FIXTURE_FRAMES; i++)
        fixture_add(i, 64, 0);
    for (int sent = 0; sent < RING_ROOM - 3; sent++)
        assert_int_equal(transmit(&fixture_out.burst, (uint16_t)(sent % FIXTURE_FRAMES), 1), 1);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(rte_pktmbuf_alloc_bulk(pool, mbufs, FIXTURE_FRAMES), 0);
        for (int i = 0; i < FIXTURE_FRAMES; i++)
            fixture_out.burst.frames[i].mbuf = mbufs[i];
        rte_pktmbuf_free_bulk(mbufs, FIXTURE_FRAMES);
        // The pool gives the last first: each order is one of them right.
        for (int i = 0; round == 1 && i < FIXTURE_FRAMES; i++)
            fixture_out.burst.frames[i].mbuf = mbufs[FIXTURE_FRAMES - 1 - i];
        fixture_out.burst.keep = round == 1;
        assert_int_equal(transmit(&fixture_out.burst, 0, FIXTURE_FRAMES), round == 0 ? 3 : 0);
        assert_int_equal(stop, TRANSMIT_FULL);
        assert_int_equal(fixture_buffers_out(ring), RING_ROOM);
    }
}

static void test_no_buffers(void **state)
{
    struct rte_mempool *pool = vif_ethdev(ring)->pool;
    static struct rte_mbuf *taken[20000];
    unsigned count = 0;

    (void)state;
    while ((taken[count] = rte_pktmbuf_alloc(pool)) != NULL)
        count++;
    for (uint32_t i = 0; i < 10; i++)
        fixture_add(i, i == 2 ? 9000 : 64, 0);
    assert_int_equal(transmit(&fixture_out.burst, 0, 10), 0);
    assert_int_equal(stop, TRANSMIT_NO_MBUF);
    // Two small ones fit, the big one not any more; its first buffers come back.
    for (int i = 0; i < 4; i++)
        rte_pktmbuf_free(taken[--count]);
    assert_int_equal(transmit(&fixture_out.burst, 0, 10), 2);
    assert_int_equal(stop, TRANSMIT_NO_MBUF);
    assert_int_equal(rte_mempool_avail_count(pool), 2);
    assert_int_equal(receive(), 2);
    complete(2);
    // Frames that have buffers of their own need none.
    assert_int_equal(transmit(&fixture_out.burst, 0, 2), 2);
    assert_int_equal(receive(), 2);
    rte_pktmbuf_free(taken[--count]);
    assert_int_equal(transmit(&fixture_in, 0, 2), 2);
    assert_int_equal(stop, TRANSMIT_ALL);
    complete(2);
    assert_int_equal(receive(), 2);
    complete(2);
    while (count > 0)
        rte_pktmbuf_free(taken[--count]);
    assert_int_equal(fixture_buffers_out(ring), 0);
}

// A frame that some other program put into the ring.
static void inject(uint32_t len, const uint32_t *pieces, size_t count)
{
    struct rte_mempool *pool = vif_ethdev(ring)->pool;
    struct rte_mbuf *head = NULL, *tail = NULL;
    uint32_t at = 0;

    for (size_t i = 0; i < count; i++) {
        struct rte_mbuf *mbuf = rte_pktmbuf_alloc(pool);

        assert_non_null(mbuf);
        for (uint32_t j = 0; j < pieces[i]; j++)
            *rte_pktmbuf_mtod_offset(mbuf, uint8_t *, j) = (uint8_t)(at + j);
        mbuf->data_len = (uint16_t)pieces[i];
        at += pieces[i];
        if (head == NULL)
            head = mbuf;
        else
            tail->next = mbuf;
        tail = mbuf;
        head->nb_segs = (uint16_t)(i + 1);
    }
    assert_int_equal(at, len);
    head->pkt_len = len;
    assert_int_equal(rte_eth_tx_burst(vif_ethdev(ring)->port, 0, &head, 1), 1);
}

static void test_odd_frames(void **state)
{
    static const uint32_t many_pieces[] = {10, 0, 1, 0, 89};
    static const uint32_t late_start[] = {0, 0, 50, 14};
    uint32_t giant[5] = {2048, 2048, 2048, 2048, 1025};
    uint32_t thousand[300];

    (void)state;
    inject(13, (uint32_t[]){13}, 1); // a runt
    inject(14, (uint32_t[]){14}, 1);
    inject(9217, giant, 5);
    inject(100, many_pieces, 5);
    for (int i = 0; i < 300; i++)
        thousand[i] = 1;
    inject(300, thousand, 300); // more pieces than a frame may have
    inject(64, late_start, 4);
    assert_int_equal(receive(), 3);
    assert_int_equal(discarded(VIF_DISCARD_RUNT), 1);
    assert_int_equal(discarded(VIF_DISCARD_GIANT), 2);
    assert_int_equal(fixture_in.frames[0].len, 14);
    assert_int_equal(fixture_in.frames[1].len, 100);
    assert_int_equal(fixture_in.frames[1].segment_count, 3);
    assert_int_equal(fixture_in.segments[fixture_in.frames[1].segment_first].data[0], 10);
    assert_int_equal(fixture_in.segments[fixture_in.frames[1].segment_first + 1].data[88], 99);
    assert_int_equal(fixture_in.frames[2].len, 64);
    assert_int_equal(fixture_in.frames[2].segment_count, 2);
    assert_int_equal(fixture_in.frames[2].data[0], 0);
    complete(3);
    assert_int_equal(fixture_buffers_out(ring), 0);
    // Chains of 250 pieces: a burst ends where its segments do, and nothing is lost.
    for (int n = 0; n < 10; n++)
        inject(250, thousand, 250);
    for (int seen = 0; seen < 10;) {
        uint16_t count = receive();

        assert_true(count > 0 && fixture_in.segment_count <= LIMIT_BURST_SEGMENTS);
        complete(count);
        seen += count;
    }
    assert_int_equal(fixture_buffers_out(ring), 0);
}

static void test_too_big(void **state)
{
    struct vif *null = fixture_make(VIF_DEV, "net_null0"); // takes no chains
    struct vif_state shown = {0};

    (void)state;
    assert_true(vif_read_state(null->slot, &shown));
    for (uint32_t i = 0; i < 4; i++)
        fixture_add(i, i == 2 ? shown.mtu + 19u : shown.mtu + 18u, 0);
    assert_int_equal(null->ops->transmit(null, 0, &fixture_out.burst, 0, 4, &stop), 2);
    assert_int_equal(stop, TRANSMIT_TOO_BIG);
    assert_int_equal(null->ops->transmit(null, 0, &fixture_out.burst, 3, 1, &stop), 1);
    assert_int_equal(stop, TRANSMIT_ALL);
    // A chain that was received elsewhere is made one buffer.
    fixture_clear();
    fixture_add(1, 2000, 100);
    assert_int_equal(transmit(&fixture_out.burst, 0, 1), 1);
    assert_int_equal(receive(), 1);
    assert_int_equal(null->ops->transmit(null, 0, &fixture_in, 0, 1, &stop), 1);
    complete(1);
    vif_destroy(null->slot);
    assert_int_equal(fixture_buffers_out(ring), 0);
}

static void test_down(void **state)
{
    (void)state;
    fixture_add(1, 64, 0);
    vif_set_link(ring, VIF_LINK_DOWN, "as a test");
    assert_int_equal(transmit(&fixture_out.burst, 0, 1), 0);
    assert_int_equal(stop, TRANSMIT_DOWN);
    vif_ethdev_poll_links(); // it isn't
    assert_int_equal(transmit(&fixture_out.burst, 0, 1), 1);
}

static void test_arm(void **state)
{
    (void)state;
    assert_int_equal(ring->ops->wake_fd(ring, 0), -1); // no interrupts: polled each millisecond
    assert_true(ring->ops->arm(ring, 0));
    fixture_add(1, 64, 0);
    assert_int_equal(transmit(&fixture_out.burst, 0, 1), 1);
    assert_false(ring->ops->arm(ring, 0)); // looked again, and keeps what it saw
    assert_false(ring->ops->arm(ring, 0));
    assert_int_equal(receive(), 1);
    fixture_check(&fixture_in, 0, 1, 64);
    complete(1);
    assert_true(ring->ops->arm(ring, 0));
}

// Whatever waits in the stash or in the device when the vif goes is freed;
// remove_ring checks it.
static void test_left_behind(void **state)
{
    (void)state;
    for (uint32_t i = 0; i < 40; i++)
        fixture_add(i, 64, 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(transmit(&fixture_out.burst, 0, 40), 40);
    assert_int_equal(receive(), FIXTURE_FRAMES);
    complete(20);
}

int main(void)
{
#define RING_TEST(name) cmocka_unit_test_setup_teardown(name, make_ring, remove_ring)
    const struct CMUnitTest tests[] = {
        RING_TEST(test_sizes),      RING_TEST(test_stash),        RING_TEST(test_burst_budget),
        RING_TEST(test_zero_copy),  RING_TEST(test_view_of_part), RING_TEST(test_keep),
        RING_TEST(test_full),       RING_TEST(test_full_owned),   RING_TEST(test_stale_mbufs),
        RING_TEST(test_no_buffers), RING_TEST(test_odd_frames),   RING_TEST(test_too_big),
        RING_TEST(test_down),       RING_TEST(test_arm),          RING_TEST(test_left_behind),
    };

    return cmocka_run_group_tests(tests, fixture_start, fixture_stop);
}
