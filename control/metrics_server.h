// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_METRICS_SERVER_H
#define PATCHBAY_METRICS_SERVER_H

// /metrics and nothing else, for who may read them and not the API: on a Unix
// socket (--metrics-socket) and on a TCP port (--metrics-listen). Control thread only.

#include "options.h"

// Listens where the options say so; does nothing if they don't. Returns 0, or
// -errno with the reason, in a sentence that says what to do.
int metrics_server_start(const struct options *options, char *reason, size_t reason_size);

void metrics_server_stop(void);

// Reads "PORT", "ADDRESS:PORT" or "[ADDRESS]:PORT" (numbers, no names); a port
// alone is one of 127.0.0.1. Returns NULL, or what is wrong with it.
struct sockaddr_storage;
const char *metrics_server_parse(const char *text, struct sockaddr_storage *address, unsigned *size);

#endif
