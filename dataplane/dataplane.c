// SPDX-License-Identifier: BSD-3-Clause

// Start and end of the dataplane, and its one housekeeping thread.

#include "dataplane.h"
#include "copy.h"
#include "eal.h"
#include "event.h"
#include "guest_call.h"
#include "publish.h"
#include "sigbus.h"
#include "vif_ethdev.h"
#include "worker.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <rte_version.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { HOUSEKEEPING_MS = 1000 };

static pthread_t housekeeper;
static int housekeeper_fd = -1; // readable: end

const char *dataplane_dpdk_version(void)
{
    return rte_version();
}

// What nobody tells us has to be asked for, once a second.
static void *housekeeping(void *argument)
{
    struct pollfd end = {.fd = housekeeper_fd, .events = POLLIN};

    (void)argument;
    for (;;) {
        int ready = poll(&end, 1, HOUSEKEEPING_MS);

        // errno says something only of a poll that failed.
        if (ready > 0 || (ready < 0 && errno != EINTR))
            break;
        vif_ethdev_poll_links();
    }
    return NULL;
}

static int housekeeping_start(void)
{
    int rc;

    housekeeper_fd = eventfd(0, EFD_CLOEXEC);
    if (housekeeper_fd < 0)
        return -errno;
    rc = pthread_create(&housekeeper, NULL, housekeeping, NULL);
    if (rc != 0) {
        close(housekeeper_fd);
        housekeeper_fd = -1;
        return -rc;
    }
    pthread_setname_np(housekeeper, "patchbay-house");
    return 0;
}

static void housekeeping_stop(void)
{
    if (housekeeper_fd < 0)
        return;
    (void)eventfd_write(housekeeper_fd, 1);
    pthread_join(housekeeper, NULL);
    close(housekeeper_fd);
    housekeeper_fd = -1;
}

int dataplane_start(const struct dataplane_options *options, char *reason, size_t reason_size)
{
    int rc;

    copy_init();
    rc = eal_start(options, reason, reason_size);
    if (rc != 0)
        return rc;
    if (!guest_call_never_blocks())
        eal_log(
            LOG_LEVEL_WARNING, "vhost",
            "the kernel refuses asynchronous I/O (io_setup; see fs.aio-max-nr and the service's system call filter): "
            "a hostile front end could stop a worker by the eventfd that it is notified by");
    rc = sigbus_install();
    if (rc == 0)
        rc = event_start();
    if (rc == 0)
        rc = publish_start(eal_worker_count());
    if (rc == 0)
        rc = housekeeping_start();
    if (rc != 0) {
        snprintf(reason, reason_size, "the dataplane can't start: %s", strerror(-rc));
        eal_stop();
        return rc;
    }
    rc = worker_start_all(options->poll, reason, reason_size);
    if (rc != 0)
        dataplane_stop();
    return rc;
}

void dataplane_stop(void)
{
    housekeeping_stop();
    worker_stop_all();
    publish_stop();
    event_stop();
    eal_stop();
}
