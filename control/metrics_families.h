// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_METRICS_FAMILIES_H
#define PATCHBAY_METRICS_FAMILIES_H

// The metrics, in one table in the order of the text: where their samples come
// from, what they are called and mean, how one object's are printed.

#include "metrics_snapshot.h"
#include "metrics_text.h"

// Families of one source stand together; METRICS_WIRE before TEE, LEG and TO, VIF before QUEUE, since they are read
// with them.
enum metrics_source {
    METRICS_HOST,
    METRICS_WORKER,
    METRICS_WIRE,
    METRICS_TEE,
    METRICS_LEG,
    METRICS_TO,
    METRICS_VIF,
    METRICS_QUEUE
};

struct metrics_family {
    const char *name;
    enum metrics_type type;
    const char *unit; // "": none
    enum metrics_source source;
    bool detail; // only with ?detail=1
    // Prints the samples of the source's object `at`.
    void (*print)(struct metrics_text *text, const struct metrics_family *family,
                  const struct metrics_snapshot *snapshot, size_t at);
    size_t offset; // of what it prints, where one function prints several families
    const char *help;
};

// Ends with a name of NULL.
extern const struct metrics_family metrics_families[];

#endif
