// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_EVENT_STREAM_H
#define PATCHBAY_EVENT_STREAM_H

// GET /v1/events: the event log as it grows, a line each, to clients that keep
// the connection open.
//
// A stream has a place in the log and no queue of its own, so that a client
// that doesn't read costs nothing but that place. When what it hasn't read is
// forgotten it has fallen behind: it gets a last line that says so, if it reads
// on in time, and is cut in any case. Nobody waits for it.

#include "routes.h"

route_handler event_stream_get;

// Follows the event log.
void event_stream_start(void);

// Ends all streams with a last line: the daemon stops. They are sent with the server's next runs.
void event_stream_stop(void);

#endif
