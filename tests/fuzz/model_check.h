// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TESTS_FUZZ_MODEL_CHECK_H
#define PATCHBAY_TESTS_FUZZ_MODEL_CHECK_H

// What must be so of any model, however it came about.

#include "control/model.h"

#include <errno.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static inline void must(bool so)
{
    if (!so)
        abort();
}

// Every object is one that check would let in again and that reads back from
// both of its JSON forms as what it is; every reference leads somewhere; every
// wire compiles to legs with an end.
void model_check(const struct model *model);

#endif
