// SPDX-License-Identifier: BSD-3-Clause
// patchbay-traffic: sends, receives, monitors and reflects frames over virtio-user ports, either as fast as possible
// (rate) or numbered and checked one by one (check). The life of a run: options → DPDK → ports → engine → report.
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/time.h>

#include "traffic.h"

volatile sig_atomic_t traffic_stop;
volatile sig_atomic_t traffic_poke;
static volatile sig_atomic_t opening;

static void on_stop(int signal)
{
    (void)signal;
    if (traffic_stop < 2)
        traffic_stop = traffic_stop + 1;
    // The main thread may be about to enter a blocking call of DPDK while it opens ports: SIGALRM, again and again,
    // gets it out. ports.c ends that timer.
    if (opening) {
        struct itimerval timer = {.it_interval = {.tv_usec = 100000}, .it_value = {.tv_usec = 100000}};
        setitimer(ITIMER_REAL, &timer, NULL);
    }
}

static void on_poke(int signal)
{
    (void)signal;
    traffic_poke = 1;
}

static void on_alarm(int signal)
{
    (void)signal;
}

static void signals_setup(void)
{
    // No SA_RESTART: blocking calls shall be interrupted.
    struct sigaction stop = {.sa_handler = on_stop}, poke = {.sa_handler = on_poke}, wake = {.sa_handler = on_alarm};

    sigaction(SIGINT, &stop, NULL);
    sigaction(SIGTERM, &stop, NULL);
    poke.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &poke, NULL);
    sigaction(SIGALRM, &wake, NULL);
    signal(SIGPIPE, SIG_IGN);
}

int main(int argc, char **argv)
{
    static struct config config;
    struct traffic *t;
    int code = options_parse(&config, argc, argv);

    if (code != 0)
        return code < 0 ? EXIT_DONE : code;
    t = calloc(1, sizeof(*t));
    if (t == NULL)
        err(EXIT_SETUP, "no memory");
    t->config = &config;
    signals_setup();
    if (eal_start(t, argv[0]) < 0) {
        free(t);
        return EXIT_SETUP;
    }
    code = EXIT_SETUP;
    opening = 1;
    bool open = ports_open(t) == 0;
    opening = 0;
    if (open) {
        reflect_setup(t);
        code = config.mode == TRAFFIC_RATE ? rate_run(t) : check_run(t);
    }
    ports_close(t);
    eal_stop();
    free(t);
    return code;
}
