// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_TESTS_PATH_RIG_EAL_H
#define PATCHBAY_TESTS_PATH_RIG_EAL_H

// What EAL would be: its clock's frequency, and lcores that are plain threads.

#include <stdint.h>

extern uint64_t rig_tsc_hz;
extern unsigned rig_worker_count;

// Finds the real frequency out, in about 20 ms.
void rig_tsc_measure(void);

// As publish_quiesce; in one thread, where nobody would report, it says that
// the worker is between two loops.
void rig_quiesce(void);
extern void (*rig_quiesce_with)(void);

#endif
