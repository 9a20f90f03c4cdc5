// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TEST_MODEL_FIXTURE_H
#define PATCHBAY_TEST_MODEL_FIXTURE_H

// What the tests of the pure half share: a model that is filled by JSON, as
// clients write it, its canonical dump, and random numbers with a seed.

#include "control/change.h"
#include "control/model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct rng {
    uint64_t state;
};

// splitmix64: small, and any seed is good.
uint64_t rng_next(struct rng *rng);
// 0 … limit - 1
unsigned rng_below(struct rng *rng, unsigned limit);

// A model with the network `default`, and an open change with a step begun.
struct fixture {
    struct model *model;
    struct model_change change;
};

void fixture_open(struct fixture *fixture);
// Rolls back what isn't committed.
void fixture_close(struct fixture *fixture);
// Commits, and opens the next change.
void fixture_commit(struct fixture *fixture);

// PUT and PATCH of JSON in which ' stands for ". Each is a step that is undone if it fails. Path: "vifs/v1",
// "networks/n", "ports/default/p", "wires/default/w", "tees/default/w/t". Return as change_put.
int fixture_try_put(struct fixture *fixture, const char *path, const char *json, const struct change_options *options,
                    struct error *error);
int fixture_try_patch(struct fixture *fixture, const char *path, const char *json, const struct change_options *options,
                      struct error *error);
int fixture_try_delete(struct fixture *fixture, const char *path, const struct change_options *options,
                       struct error *error);

// The same where it must succeed.
void fixture_put(struct fixture *fixture, const char *path, const char *json);
void fixture_patch(struct fixture *fixture, const char *path, const char *json);

// A vif of kind none and an untagged port on it, both of this name.
void fixture_plug(struct fixture *fixture, const char *name);

const struct wire *fixture_wire(const struct fixture *fixture, const char *name);

// Everything that the model knows, as text: objects in order with uid, generation, slot and address, the counts, and
// every index asked for every object. free() it.
char *fixture_dump(const struct model *model);

// The indices say what the objects say, recounted from scratch.
void fixture_verify(const struct model *model);

#endif
