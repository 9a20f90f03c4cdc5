// SPDX-License-Identifier: BSD-3-Clause
#include "options.h"

#include "log.h"
#include "metrics_server.h"
#include "patchbay/limits.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

// Takes the value of one option. Returns NULL, or what is wrong with it.
typedef const char *set_fn(struct options *options, const char *value);

static const char *set_path(const char **path, const char *value)
{
    if (value[0] != '/')
        return "must be an absolute path";
    *path = value;
    return NULL;
}

static const char *set_socket(struct options *options, const char *value)
{
    if (strlen(value) > LIMIT_SOCKET_PATH_LEN)
        return "is too long: a socket's path has at most 107 bytes";
    return set_path(&options->socket, value);
}

// Permissions are octal, as chmod takes them; strtonum reads decimal only.
static const char *set_mode(mode_t *mode, const char *value)
{
    unsigned parsed = 0;
    size_t len = strspn(value, "01234567");

    if (len == 0 || len > 4 || value[len] != '\0')
        return "must be an octal mode such as 0660";
    for (size_t i = 0; i < len; i++)
        parsed = parsed * 8 + (unsigned)(value[i] - '0');
    if (parsed > 0777)
        return "must be at most 0777";
    *mode = parsed;
    return NULL;
}

static const char *set_socket_mode(struct options *options, const char *value)
{
    return set_mode(&options->socket_mode, value);
}

static const char *set_text(const char **text, const char *value)
{
    if (value[0] == '\0')
        return "must not be empty";
    *text = value;
    return NULL;
}

static const char *set_socket_owner(struct options *options, const char *value)
{
    return set_text(&options->socket_owner, value);
}

static const char *set_read_group(struct options *options, const char *value)
{
    return set_text(&options->read_group, value);
}

static const char *set_socket_group(struct options *options, const char *value)
{
    return set_text(&options->socket_group, value);
}

// "2,4-6": whether these cores exist is for the dataplane to say.
static const char *set_workers(struct options *options, const char *value)
{
    const char *wrong = "must be a list of cores such as 2 or 2,4-6";
    const char *rest = value;

    for (;;) {
        unsigned long first, last;
        char *end;

        if (!isdigit((unsigned char)*rest))
            return wrong;
        last = first = strtoul(rest, &end, 10);
        if (*end == '-') {
            if (!isdigit((unsigned char)end[1]))
                return wrong;
            last = strtoul(end + 1, &end, 10);
        }
        if (last < first || last > 65535)
            return wrong;
        if (*end == '\0')
            break;
        if (*end != ',')
            return wrong;
        rest = end + 1;
    }
    options->workers = value;
    return NULL;
}

static const char *set_poll(struct options *options, const char *value)
{
    if (strcmp(value, "adaptive") == 0)
        options->poll = POLL_ADAPTIVE;
    else if (strcmp(value, "busy") == 0)
        options->poll = POLL_BUSY;
    else
        return "must be adaptive or busy";
    return NULL;
}

static const char *set_hugepages(struct options *options, const char *value)
{
    const char *wrong = NULL;

    if (strcmp(value, "auto") == 0)
        options->hugepages_mb = HUGEPAGES_AUTO;
    else if (strcmp(value, "off") == 0)
        options->hugepages_mb = HUGEPAGES_OFF;
    else
        options->hugepages_mb = (int)strtonum(value, 1, 1 << 20, &wrong);
    return wrong != NULL ? "must be auto, off or a number of megabytes (1 to 1048576)" : NULL;
}

static const char *set_vhost_dir(struct options *options, const char *value)
{
    return set_path(&options->vhost_dir, value);
}

static const char *set_vhost_group(struct options *options, const char *value)
{
    return set_text(&options->vhost_group, value);
}

static const char *set_vhost_mode(struct options *options, const char *value)
{
    return set_mode(&options->vhost_mode, value);
}

static const char *set_state(struct options *options, const char *value)
{
    if (strcmp(value, ":memory:") == 0) {
        options->state = value;
        return NULL;
    }
    return set_path(&options->state, value) != NULL ? "must be an absolute path or :memory:" : NULL;
}

static const char *set_pidfile(struct options *options, const char *value)
{
    return set_path(&options->pidfile, value);
}

static const char *set_metrics_socket(struct options *options, const char *value)
{
    if (strlen(value) > LIMIT_SOCKET_PATH_LEN)
        return "is too long: a socket's path has at most 107 bytes";
    return set_path(&options->metrics_socket, value);
}

static const char *set_metrics_socket_mode(struct options *options, const char *value)
{
    return set_mode(&options->metrics_socket_mode, value);
}

static const char *set_metrics_socket_group(struct options *options, const char *value)
{
    return set_text(&options->metrics_socket_group, value);
}

static const char *set_metrics_listen(struct options *options, const char *value)
{
    struct sockaddr_storage address;
    unsigned size;

    options->metrics_listen = value;
    return metrics_server_parse(value, &address, &size);
}

static const char *set_no_telemetry(struct options *options, const char *value)
{
    (void)value;
    options->no_telemetry = true;
    return NULL;
}

static const char *set_log_level(struct options *options, const char *value)
{
    return log_level_parse(value, &options->log_level) != 0 ? "must be error, warning, notice, info or debug" : NULL;
}

static const char *set_check(struct options *options, const char *value)
{
    (void)value;
    options->check = true;
    return NULL;
}

static const struct option_row {
    const char *name;
    const char *value; // name of the value in the help; NULL: takes none
    set_fn *set;       // NULL: answered by options_parse itself
    const char *help;
} rows[] = {
    {"socket", "PATH", set_socket, "the API's socket (/run/patchbay/api.sock)"},
    {"socket-mode", "MODE", set_socket_mode, "its permissions; who may write controls the traffic (0660)"},
    {"socket-owner", "USER", set_socket_owner, "its owner (the daemon's own user)"},
    {"socket-group", "GROUP", set_socket_group, "its group (the daemon's own)"},
    {"read-group", "GROUP", set_read_group, "members may connect as well, and only read (nobody)"},
    {"workers", "CORES", set_workers, "cores that move frames, e.g. 2,4-6 (one, the highest it may use)"},
    {"poll", "adaptive|busy", set_poll, "sleep when there is no traffic, or never (adaptive)"},
    {"hugepages", "auto|off|MB", set_hugepages, "megabytes of huge pages a node (auto: 256 if free, else none)"},
    {"vhost-dir", "DIR", set_vhost_dir, "where relative vhost-user paths are (/run/patchbay-vhost)"},
    {"vhost-group", "GROUP", set_vhost_group, "group of that directory and of vhost-server sockets (ours)"},
    {"vhost-mode", "MODE", set_vhost_mode, "permissions of vhost-server sockets (0660)"},
    {"state", "FILE|:memory:", set_state, "where the configuration is kept (/var/lib/patchbay/state.db)"},
    {"pidfile", "FILE", set_pidfile, "held while running (patchbayd.pid beside the socket)"},
    {"metrics-socket", "PATH", set_metrics_socket, "a socket of its own for /metrics, and nothing else (none)"},
    {"metrics-socket-mode", "MODE", set_metrics_socket_mode, "its permissions (0660)"},
    {"metrics-socket-group", "GROUP", set_metrics_socket_group, "its group (the daemon's own)"},
    {"metrics-listen", "[ADDR:]PORT", set_metrics_listen,
     "/metrics over TCP, of 127.0.0.1 if no address is given (none)"},
    {"no-telemetry", NULL, set_no_telemetry, "no socket of DPDK's telemetry, whose readers see counters and devices"},
    {"log-level", "LEVEL", set_log_level, "error, warning, notice, info or debug (info)"},
    {"check", NULL, set_check, "say what a start would do with the state, touch nothing, and exit"},
    {"help", NULL, NULL, "print this and exit"},
    {"version", NULL, NULL, "print the version and exit"},
};

enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]) };

static void print_help(void)
{
    puts("Usage: patchbayd [OPTION]... [-- EAL OPTION...]\n"
         "\n"
         "Patchbay's daemon: wires between virtual machines and NICs, with Ts to watch or\n"
         "intercept their traffic. Runs in the foreground and logs to stderr; patchbay(1)\n"
         "controls it over its socket.\n");
    for (size_t i = 0; i < ROW_COUNT; i++) {
        char left[48];

        snprintf(left, sizeof(left), "--%s%s%s", rows[i].name, rows[i].value != NULL ? "=" : "",
                 rows[i].value != NULL ? rows[i].value : "");
        printf("  %-27s %s\n", left, rows[i].help);
    }
    puts("\nDefaults are in brackets. What follows -- goes to DPDK's EAL as it is and wins\n"
         "over what Patchbay passes, e.g. -- --log-level=lib.vhost:debug.\n"
         "Exit status: 0 ended by a signal, or --check found no problem; 1 could not start\n"
         "or run, or it found some; 2 wrong usage.");
}

static void set_defaults(struct options *options)
{
    *options = (struct options){
        .socket = "/run/patchbay/api.sock",
        .socket_mode = 0660,
        .poll = POLL_ADAPTIVE,
        .hugepages_mb = HUGEPAGES_AUTO,
        .vhost_dir = "/run/patchbay-vhost",
        .vhost_mode = 0660,
        .metrics_socket_mode = 0660,
        .state = "/var/lib/patchbay/state.db",
        .log_level = LOG_LEVEL_INFO,
    };
}

static enum options_outcome take_row(struct options *options, const struct option_row *row, const char *value)
{
    const char *wrong;

    if (strcmp(row->name, "help") == 0) {
        print_help();
        return OPTIONS_DONE;
    }
    if (strcmp(row->name, "version") == 0) {
        puts("patchbayd " PATCHBAY_VERSION);
        return OPTIONS_DONE;
    }
    wrong = row->set(options, value);
    if (wrong != NULL) {
        fprintf(stderr, "patchbayd: --%s %s; it was given \"%s\".\n", row->name, wrong, value);
        return OPTIONS_USAGE;
    }
    return OPTIONS_RUN;
}

enum options_outcome options_parse(int argc, char *argv[], struct options *options)
{
    struct option longs[ROW_COUNT + 1] = {0};
    int chosen, index = -1;

    set_defaults(options);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        longs[i].name = rows[i].name;
        longs[i].has_arg = rows[i].value != NULL ? required_argument : no_argument;
    }
    // "+": stop at the first word that is no option, which then is an error,
    // rather than reorder what stands after "--".
    while ((chosen = getopt_long(argc, argv, "+", longs, &index)) != -1) {
        enum options_outcome outcome;

        if (chosen != 0 || index < 0) {
            fputs("Try patchbayd --help.\n", stderr);
            return OPTIONS_USAGE;
        }
        outcome = take_row(options, &rows[index], optarg);
        if (outcome != OPTIONS_RUN)
            return outcome;
    }
    if (optind < argc && strcmp(argv[optind - 1], "--") != 0) {
        fprintf(stderr,
                "patchbayd: \"%s\" is no option; options for DPDK's EAL stand after \"--\". Try patchbayd --help.\n",
                argv[optind]);
        return OPTIONS_USAGE;
    }
    options->eal_args = (const char *const *)&argv[optind];
    options->eal_arg_count = (size_t)(argc - optind);
    return OPTIONS_RUN;
}
