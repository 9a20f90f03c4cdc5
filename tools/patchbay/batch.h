// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_CLI_BATCH_H
#define PATCHBAY_CLI_BATCH_H

// Lines of commands as one transaction: `patchbay -f FILE`. Each line's command
// runs as ever, but its changes are noted instead of sent; what it reads is the
// daemon's, with what earlier lines have noted.

#include "command.h"

struct batch {
    json_t *operations; // as POST /v1/transactions takes them; owned
    size_t *lines;      // of each operation
    size_t line;        // being run
};

// Reads and sends the file ("-": standard input). Returns an exit code.
int batch_run(struct call *call, const char *file);

// Notes a change, or reads what a change would see; as client_send.
int batch_send(struct client *client, const char *method, const char *path, const json_t *body, unsigned flags,
               struct reply *reply);

#endif
