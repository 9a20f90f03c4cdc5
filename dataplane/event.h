// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EVENT_H
#define PATCHBAY_EVENT_H

// Start and end of event.c; event_post stands in vif.h, the taking side in
// dataplane.h.
int event_start(void);
void event_stop(void);

#endif
