// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TELEMETRY_H
#define PATCHBAY_TELEMETRY_H

// Commands /patchbay/… of DPDK's telemetry socket. They come on threads of
// DPDK, which wait until the control thread has answered: nothing of the model
// is touched by anybody else.

// Registers the commands; the dataplane runs. Returns 0 or -errno.
int telemetry_start(void);

// Answers no more; who waits gives up by himself.
void telemetry_stop(void);

#endif
