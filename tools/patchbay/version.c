// SPDX-License-Identifier: BSD-3-Clause
#include "field.h"
#include "output.h"
#include "text.h"
#include "verbs.h"

#include <stdio.h>

int version_run(struct call *call)
{
    struct reply reply = {0};
    if (!call->json)
        printf("patchbay %s (API %d.%d)\n", PATCHBAY_VERSION, CLIENT_API_MAJOR, CLIENT_API_MINOR);
    int code = client_do(&call->client, "GET", client_path("version", NULL), NULL, 0, &reply);
    if (code == EXIT_DONE && call->json)
        output_json(reply.body);
    else if (code == EXIT_DONE)
        printf("patchbayd %s (API %s), %s, state schema %llu, pid %llu\n",
               text_clean(field_text(reply.body, "daemon", "?")), text_clean(field_text(reply.body, "api", "?")),
               text_clean(field_text(reply.body, "dpdk", "?")),
               (unsigned long long)field_count(reply.body, "state_schema"),
               (unsigned long long)field_count(reply.body, "pid"));
    client_clear(&reply);
    return code;
}
