// SPDX-License-Identifier: BSD-3-Clause
#include "stale.h"

#include "control.h"
#include "live.h"
#include "log.h"
#include "status.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static struct wire_list stale;
// Those of them that are being drained.
static struct wire_list postponed;

static int add(struct wire_list *list, const char *network, const char *name)
{
    if (list->count == list->size) {
        size_t size = list->size > 0 ? list->size * 2 : 16;
        struct wire_name *larger = reallocarray(list->items, size, sizeof(*larger));

        if (larger == NULL)
            return -ENOMEM;
        list->items = larger;
        list->size = size;
    }
    strlcpy(list->items[list->count].network, network, LIMIT_NAME_LEN + 1);
    strlcpy(list->items[list->count].name, name, LIMIT_NAME_LEN + 1);
    list->count++;
    return 0;
}

void stale_start(void)
{
    const struct object *port, *wire;

    for (port = model_first(control.model, OBJECT_PORT, NULL, "", false); port != NULL; port = model_next(port))
        status_refresh_port((const struct port *)port);
    for (wire = model_first(control.model, OBJECT_WIRE, NULL, "", false); wire != NULL; wire = model_next(wire))
        if (add(&stale, wire->network, wire->name) != 0)
            log_message(LOG_LEVEL_ERROR, "apply", "memory is out: wire %s stays down", wire->name);
}

void stale_device_came(const struct device *device)
{
    if (compile_wires_of_vif(control.model, device->name, &stale) != 0)
        log_message(LOG_LEVEL_ERROR, "apply", "memory is out: the wires of vif %s stay down", device->name);
}

bool stale_pending(void)
{
    return stale.count > 0;
}

static bool is_draining(const struct wire_name *name)
{
    const struct live_wire *live = live_find(name->network, name->name);

    return live != NULL && live->drain != NULL;
}

int stale_collect(const struct model_change *change, struct wire_list *affected)
{
    int error = compile_affected(change, affected);

    for (size_t i = 0; i < stale.count && error == 0; i++)
        error = add(is_draining(&stale.items[i]) ? &postponed : affected, stale.items[i].network, stale.items[i].name);
    if (error != 0)
        return error;
    wire_list_clear(&stale);
    wire_list_sort(affected);
    return 0;
}

void stale_return(const struct wire_list *affected)
{
    for (size_t i = 0; i < affected->count; i++)
        if (add(&stale, affected->items[i].network, affected->items[i].name) != 0)
            break;
}

void stale_resume(void)
{
    struct wire_list waiting = postponed;

    postponed = (struct wire_list){0};
    for (size_t i = 0; i < waiting.count; i++)
        if (add(is_draining(&waiting.items[i]) ? &postponed : &stale, waiting.items[i].network,
                waiting.items[i].name) != 0)
            log_message(LOG_LEVEL_ERROR, "apply", "memory is out: wire %s is not up to date", waiting.items[i].name);
    wire_list_clear(&waiting);
}
