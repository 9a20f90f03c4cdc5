// SPDX-License-Identifier: BSD-3-Clause
// Which queues move: enough to even the load out, and then none; never to and fro.

#include "control/spread.h"
#include "model_fixture.h"

#include <stdlib.h>
#include <string.h>

enum { QUEUES = 64 };

static double load_of(const struct spread_queue *queues, size_t count, unsigned worker)
{
    double load = 0;
    for (size_t i = 0; i < count; i++)
        load += queues[i].worker == worker ? queues[i].load : 0;
    return load;
}

static double hottest(const struct spread_queue *queues, size_t count, unsigned workers)
{
    double most = 0;
    for (unsigned i = 0; i < workers; i++)
        most = load_of(queues, count, i) > most ? load_of(queues, count, i) : most;
    return most;
}

static size_t choose(struct spread_queue *queues, size_t count, unsigned workers)
{
    struct spread_move moves[QUEUES];
    struct spread_queue before[QUEUES];
    memcpy(before, queues, count * sizeof(*queues));
    size_t made = spread_choose(queues, count, workers, moves, QUEUES);
    for (size_t i = 0; i < made; i++) {
        bool found = false;
        for (size_t j = 0; j < count; j++) {
            if (queues[j].slot != moves[i].slot || queues[j].queue != moves[i].queue)
                continue;
            assert_int_equal(before[j].worker, moves[i].from);
            assert_int_equal(queues[j].worker, moves[i].to);
            assert_true(moves[i].from != moves[i].to && moves[i].to < workers);
            assert_false(before[j].stays);
            found = true;
        }
        assert_true(found);
    }
    return made;
}

static void test_one_by_one(void **state)
{
    (void)state;
    static const struct {
        unsigned workers;
        size_t moves;
        double wanted; // of the hottest, after it
        size_t count;
        struct spread_queue queues[6];
    } cases[] = {
        {2, 0, 0.4, 2, {{1, 0, 0, false, 0.2}, {2, 0, 0, false, 0.2}}},                          // nobody is hot
        {2, 0, 0.9, 1, {{1, 0, 0, false, 0.9}}},                                                 // nothing would be won
        {2, 1, 0.5, 2, {{1, 0, 0, false, 0.5}, {2, 0, 0, false, 0.5}}},                          // half each
        {2, 0, 1.0, 2, {{1, 0, 0, true, 0.5}, {2, 0, 0, true, 0.5}}},                            // pinned
        {2, 1, 0.5, 2, {{1, 0, 0, true, 0.5}, {2, 0, 0, false, 0.5}}},                           // one of them
        {2, 0, 0.55, 4, {{1, 0, 0, false, 0.3}, {1, 1, 0, false, 0.25}, {2, 0, 1, false, 0.5}}}, // even enough
        {2, 2, 0.5, 4, {{1, 0, 0, false, .25}, {1, 1, 0, false, .25}, {1, 2, 0, false, .25}, {1, 3, 0, false, .25}}},
        {4, 3, 0.25, 4, {{1, 0, 0, false, .25}, {1, 1, 0, false, .25}, {1, 2, 0, false, .25}, {1, 3, 0, false, .25}}},
        // One on the move is nobody's, and not to be moved.
        {2, 0, 0.4, 2, {{1, 0, VIF_WORKER_NONE, false, 0.9}, {2, 0, 0, false, 0.4}}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct spread_queue queues[6];
        memcpy(queues, cases[i].queues, sizeof(queues));
        assert_int_equal(choose(queues, cases[i].count, cases[i].workers), cases[i].moves);
        assert_float_equal(hottest(queues, cases[i].count, cases[i].workers), cases[i].wanted, 1e-9);
    }
}

// At most so many, the best first.
static void test_max(void **state)
{
    (void)state;
    struct spread_queue queues[4] = {
        {1, 0, 0, false, 0.1}, {2, 0, 0, false, 0.5}, {3, 0, 0, false, 0.2}, {4, 0, 0, false, 0.2}};
    struct spread_move moves[1];
    assert_int_equal(spread_choose(queues, 4, 2, moves, 1), 1);
    assert_int_equal(moves[0].slot, 2);
    assert_int_equal(spread_choose(queues, 4, 2, moves, 0), 0);
}

// Whatever the loads: a move makes it better, and once a decision is carried out the next one finds nothing, even if
// all is measured a little differently.
static void test_rest(void **state)
{
    (void)state;
    srand(1);
    for (unsigned round = 0; round < 20000; round++) {
        struct spread_queue queues[QUEUES] = {0};
        size_t count = 1 + (size_t)rand() % QUEUES;
        unsigned workers = 2 + (unsigned)rand() % 7;
        for (size_t i = 0; i < count; i++)
            queues[i] = (struct spread_queue){.slot = (vif_slot)i,
                                              .worker = (uint16_t)(rand() % (int)workers),
                                              .stays = rand() % 8 == 0,
                                              .load = (double)(rand() % 1000) / 1000 * workers / (double)count};
        double before = hottest(queues, count, workers);
        size_t moves = choose(queues, count, workers);
        double after = hottest(queues, count, workers);
        assert_true(after <= before + 1e-9);
        assert_true(moves <= count);
        for (size_t i = 0; i < count; i++) {
            queues[i].stays = false;
            queues[i].load *= 0.99 + (double)(rand() % 1000) / 50000;
        }
        // Those that had to stay may go now; who moved doesn't go back for such a little.
        struct spread_queue again[QUEUES];
        memcpy(again, queues, sizeof(queues));
        choose(again, count, workers);
        assert_int_equal(choose(again, count, workers), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one_by_one),
        cmocka_unit_test(test_max),
        cmocka_unit_test(test_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
