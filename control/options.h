// SPDX-License-Identifier: BSD-3-Clause
#ifndef PATCHBAY_OPTIONS_H
#define PATCHBAY_OPTIONS_H

// The command line of patchbayd. One table in options.c parses it and prints
// the help, so the two can't differ.

#include "dataplane/dataplane.h"

#include <sys/types.h>

// Strings belong to argv or are literals.
struct options {
    const char *socket;
    mode_t socket_mode;
    const char *socket_owner; // NULL: ours
    const char *socket_group; // NULL: ours
    const char *read_group;   // who may only read; NULL: nobody
    const char *workers;      // NULL: the dataplane chooses one
    enum poll_mode poll;
    int hugepages_mb;
    const char *vhost_dir;
    const char *vhost_group; // NULL: ours
    mode_t vhost_mode;
    const char *state;
    const char *pidfile;        // NULL: beside the socket
    const char *metrics_socket; // NULL: none
    mode_t metrics_socket_mode;
    const char *metrics_socket_group; // NULL: ours
    const char *metrics_listen;       // NULL: none
    enum log_level log_level;
    bool no_telemetry;           // no socket of DPDK's telemetry
    bool check;                  // only say what a start would do with the state
    const char *const *eal_args; // what stands after "--"
    size_t eal_arg_count;
};

enum options_outcome {
    OPTIONS_RUN,  // go on
    OPTIONS_DONE, // --help or --version was answered: exit 0
    OPTIONS_USAGE // an error was printed: exit 2
};

enum options_outcome options_parse(int argc, char *argv[], struct options *options);

#endif
