// SPDX-License-Identifier: BSD-3-Clause
// Rate mode's own virtio driver: split rings without a packet buffer layer. DPDK's virtio-user costs the generator more
// cycles a frame than a fast device does, and would be what is measured.
#ifndef BENCH_RING_H
#define BENCH_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct traffic;
struct config;
struct port;
struct ring_port;

// Returns the bytes that ring_open will take for these ports.
size_t ring_memory_size(const struct config *config);

// Makes one shared memory for all ports that take this driver, and starts them. Returns 0 or -errno after an error
// message; ring_close must be called in either case.
int ring_open(struct traffic *t);
void ring_close(struct traffic *t);

// Sends up to `burst` prepared frames as the ring has room, after writing their payload if `touch`. Returns how many.
unsigned ring_transmit(struct port *port, unsigned burst, bool touch);

// Takes up to `burst` frames: reads their Ethernet header, or all of them if `touch`, and gives the buffers back.
// Adds their bytes to `bytes`. Returns how many.
unsigned ring_receive(struct port *port, unsigned burst, bool touch, uint64_t *bytes);

// Moves up to `burst` frames from one port's receive ring to the other's transmit ring, in order, without a copy;
// what the latter has no room for stays in the former. Returns how many.
unsigned ring_forward(struct port *from, struct port *to, unsigned burst, uint64_t *bytes);

#endif
