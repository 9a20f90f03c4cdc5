// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EVENT_TAP_H
#define PATCHBAY_EVENT_TAP_H

// Events about taps whose monitor can't keep up: "tap_overloaded" with phase
// begin when copies are being lost, end after five seconds without loss. Found
// by looking at the counters each second, a few hundred wires at a time;
// nothing is looked at while no frame moves and no tap is overloaded.
//
// Control thread only.

void event_tap_start(void);
void event_tap_stop(void);

#endif
