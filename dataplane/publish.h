// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_PUBLISH_H
#define PATCHBAY_PUBLISH_H

// Who has which table; see publish.c. publish_begin, publish_done and
// publish_quiesce stand in dataplane.h and vif.h.

#include "wire_table.h"

struct rte_rcu_qsbr;

// Thread ids in it are worker indices.
extern struct rte_rcu_qsbr *publish_qsbr;

int publish_start(unsigned workers);
void publish_stop(void);

#endif
