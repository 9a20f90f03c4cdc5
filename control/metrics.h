// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_METRICS_H
#define PATCHBAY_METRICS_H

// All counters as metrics: one text, rendered in slices. What is read of a
// wire or a vif is of one moment, so that its sums hold; different ones are of
// different moments.

#include "routes.h"

// GET /metrics on the API's socket.
route_handler metrics_get;

// The text of one scrape. Returns NULL without memory, or with too many scrapes
// at once; the caller destroys it.
struct slices *metrics_render(bool openmetrics, bool detail);

#endif
