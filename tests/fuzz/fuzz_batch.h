// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TESTS_FUZZ_BATCH_H
#define PATCHBAY_TESTS_FUZZ_BATCH_H

// The part of the request target that sends many changes in one body.

#include "control/batch.h"

// Checks what a refusal is answered with.
void fuzz_check_error(const struct error *error);

// Sends the body to POST /v1/transactions or PUT /v1/config. What is taken stays in the open change.
void fuzz_batch(struct model *model, struct model_change *changes, enum batch_kind kind, const char *body, size_t size);

// Exports the state and puts it back: onto itself, where nothing may change, and into an empty model, where the same
// state must come of it. The model is as before.
void fuzz_batch_round_trip(struct model *model, struct model_change *changes);

#endif
