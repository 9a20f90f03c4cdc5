// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_STATS_H
#define PATCHBAY_STATS_H

#include "routes.h"

// Counters of a wire, of a vif, of the host.
route_handler stats_wire, stats_vif, stats_host;

#endif
