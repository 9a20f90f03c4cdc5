// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_READ_H
#define PATCHBAY_READ_H

#include "routes.h"

// GET of objects and lists. They are answered at once, also while changes are on their way.
route_handler read_version, read_object, read_list, read_tees, read_tee;

// Refuses a GET with a body. Returns true if it was refused.
bool read_refuses_body(struct exchange *exchange);

// Answers a GET by its conditions alone, if they say so: 304 where the client has this version of the configuration
// (If-None-Match), 412 where it wants another (If-Match), 400 where they are no conditions. Returns true if it did.
bool read_settles(struct exchange *exchange, uint64_t generation);

#endif
