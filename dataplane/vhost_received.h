// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_VHOST_RECEIVED_H
#define PATCHBAY_VHOST_RECEIVED_H

// Descriptors that came with a message which librte_vhost gave up before it
// asked us (a ring above 255): it forgets them, and a front end that sends such
// messages over and over would use all of ours up.
//
// The library reads messages by recvmsg, on one thread, and calls before_message
// or, when it drops the connection, destroy_connection on the same. So
// vhost_received.c has a recvmsg of its own, which the dynamic linker prefers
// for the whole process: it does just what the kernel's does, and on watched
// sockets notes which descriptors came.

// Begins and ends noting what comes by the connection fd. Any thread.
void vhost_received_watch(int fd);
void vhost_received_unwatch(int fd);

// The calling thread's last message is in the library's hands and ours, with
// its descriptors.
void vhost_received_taken(void);

// The connection ends: closes what came with a last message that was not taken.
void vhost_received_close(void);

#endif
