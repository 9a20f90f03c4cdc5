// SPDX-License-Identifier: BSD-3-Clause
#include "batch.h"
#include "command.h"
#include "output.h"
#include "patchbay/limits.h"
#include "text.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int run(int argc, char *argv[])
{
    const char *socket = getenv("PATCHBAY_SOCKET");
    struct call call = {
        .client = {.socket = socket != NULL && *socket != '\0' ? socket : "/run/patchbay/api.sock", .timeout_s = 30},
        .network = "default",
    };
    // For the build and its tests only, hence in no help.
    if (argc == 2 && strcmp(argv[1], "--dump-man") == 0) {
        document_man();
        return EXIT_DONE;
    }
    if (argc == 2 && strcmp(argv[1], "--dump-completion") == 0) {
        completion_print();
        return EXIT_DONE;
    }
    int code = command_parse(argc, argv, &call);
    if (code != EXIT_DONE || (call.command == NULL && call.file == NULL))
        return code;
    call.client.json = call.json;
    call.client.command = call.command;
    if (strlen(call.client.socket) > LIMIT_SOCKET_PATH_LEN) {
        output_complain("the socket's path is too long: at most %d bytes", LIMIT_SOCKET_PATH_LEN);
        return EXIT_USAGE;
    }
    code = call.command != NULL ? call.command->run(&call) : batch_run(&call, call.file);
    client_close(&call.client);
    return code;
}

// Looked for before anything is read: what is wrong with the other words is told as JSON, too.
static bool wants_json(char *argv[])
{
    for (char **word = argv; *word != NULL && strcmp(*word, "--") != 0; word++)
        if (strcmp(*word, "--json") == 0)
            return true;
    return false;
}

int main(int argc, char *argv[])
{
    output_start();
    output.json = wants_json(argv);
    int code = output_finish(run(argc, argv));
    text_release(0);
    return code;
}
