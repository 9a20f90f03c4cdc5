// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_WRITE_H
#define PATCHBAY_WRITE_H

#include "routes.h"

// PUT, PATCH and DELETE of any object: the request becomes a command, which is
// answered when apply is done with it.
route_handler write_object;

// POST /v1/transactions and PUT /v1/config: many changes in one command.
route_handler write_transaction, write_config;

#endif
