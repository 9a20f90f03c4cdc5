// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VLAN_H
#define PATCHBAY_VLAN_H

// 802.1Q tags of ports that are one VLAN of their vif: popped when a frame is
// received, pushed when it is given away. Other tags, and 802.1ad ones, are
// payload.

#include "hop.h"

enum { VLAN_TAG_LEN = 4 };

// Makes views of frames [first, first + count) with the tag (priority 0)
// behind their addresses. The views own nothing; the burst's frames stay as
// they are. Returns &scratch->tagged, whose frames begin at 0.
struct burst *vlan_push(const struct burst *burst, uint16_t first, uint16_t count, uint16_t vlan,
                        struct hop_scratch *scratch);

// Takes the frame's tag off, if it has one, and returns it (0: untagged or
// priority-tagged, which is left in). headers (18 bytes) keeps what was
// judged: the frame's view begins there, so that a guest can't change it any more.
// Returns -1 for a frame that is none without its tag.
int vlan_pop(struct burst *burst, uint16_t at, uint8_t *headers);

#endif
