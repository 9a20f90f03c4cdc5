// SPDX-License-Identifier: BSD-3-Clause

// Commands of DPDK's telemetry socket, on its threads. What they answer is the
// control side's; here it gets into DPDK's form.

#include "dataplane.h"

#include <errno.h>
#include <rte_telemetry.h>
#include <string.h>

enum { COMMANDS_MAX = 8 };

static struct {
    const char *command;
    telemetry_answer *answer;
} commands[COMMANDS_MAX];
static unsigned command_count;

static int put_list(const struct telemetry_reply *reply, struct rte_tel_data *data)
{
    int error = rte_tel_data_start_array(data, RTE_TEL_STRING_VAL);

    for (unsigned i = 0; i < reply->count && error == 0; i++)
        error = rte_tel_data_add_array_string(data, reply->fields[i].text);
    return error;
}

static int put_fields(const struct telemetry_reply *reply, struct rte_tel_data *data)
{
    int error = rte_tel_data_start_dict(data);

    for (unsigned i = 0; i < reply->count && error == 0; i++) {
        const struct telemetry_field *field = &reply->fields[i];

        error = field->is_text ? rte_tel_data_add_dict_string(data, field->name, field->text)
                               : rte_tel_data_add_dict_u64(data, field->name, field->number);
    }
    return error;
}

static int answer_command(const char *command, const char *parameters, struct rte_tel_data *data)
{
    struct telemetry_reply reply = {.count = 0};
    int error = -ENOENT;

    for (unsigned i = 0; i < command_count && error == -ENOENT; i++)
        if (strcmp(commands[i].command, command) == 0)
            error = commands[i].answer(parameters != NULL ? parameters : "", &reply);
    // The library says null to its client.
    if (error != 0)
        return -1;
    return reply.is_list ? put_list(&reply, data) : put_fields(&reply, data);
}

int dataplane_telemetry(const char *command, const char *help, telemetry_answer *answer)
{
    if (command_count == COMMANDS_MAX)
        return -ENOSPC;
    commands[command_count].command = command;
    commands[command_count].answer = answer;
    // Only then, since a client may ask at once.
    __atomic_store_n(&command_count, command_count + 1, __ATOMIC_RELEASE);
    return rte_telemetry_register_cmd(command, answer_command, help);
}
