// SPDX-License-Identifier: BSD-3-Clause
#include "spread.h"

#include <stddef.h>

static double larger(double one, double other)
{
    return one > other ? one : other;
}

// The queue of worker `from` that leaves the busier of the two with the least. NULL: none lightens it enough.
static struct spread_queue *find_best(struct spread_queue *queues, size_t count, unsigned from, double hottest,
                                      double coldest)
{
    struct spread_queue *best = NULL;
    double least = hottest - SPREAD_GAIN;

    for (size_t i = 0; i < count; i++) {
        double busier = larger(hottest - queues[i].load, coldest + queues[i].load);

        if (queues[i].worker != from || queues[i].stays || busier > least)
            continue;
        best = &queues[i];
        least = busier;
    }
    return best;
}

size_t spread_choose(struct spread_queue *queues, size_t count, unsigned workers, struct spread_move *moves, size_t max)
{
    double loads[LIMIT_WORKERS] = {0};
    size_t made = 0;

    for (size_t i = 0; i < count; i++)
        if (queues[i].worker < workers)
            loads[queues[i].worker] += queues[i].load;
    while (made < max) {
        unsigned hot = 0, cold = 0;
        struct spread_queue *queue;

        for (unsigned i = 1; i < workers; i++) {
            if (loads[i] > loads[hot])
                hot = i;
            if (loads[i] < loads[cold])
                cold = i;
        }
        if (loads[hot] < SPREAD_HOT)
            break;
        queue = find_best(queues, count, hot, loads[hot], loads[cold]);
        if (queue == NULL)
            break;
        moves[made++] = (struct spread_move){
            .slot = queue->slot, .queue = queue->queue, .from = queue->worker, .to = (uint16_t)cold};
        loads[hot] -= queue->load;
        loads[cold] += queue->load;
        queue->worker = (uint16_t)cold;
        queue->stays = true;
    }
    return made;
}
