// SPDX-License-Identifier: BSD-3-Clause
#include "leaving.h"

#include "batch.h"

static struct command_list leaving = TAILQ_HEAD_INITIALIZER(leaving);

void leaving_add(struct command *command)
{
    TAILQ_INSERT_TAIL(&leaving, command, entry);
}

void leaving_look(void)
{
    struct command *command, *next;

    TAILQ_FOREACH_SAFE(command, &leaving, entry, next)
    {
        if (command->batch != NULL ? !batch_all_gone(command->batch) : device_find(command->removed) != NULL)
            continue;
        TAILQ_REMOVE(&leaving, command, entry);
        command_succeed(command);
    }
}

void leaving_stop(void)
{
    struct command *command;

    while ((command = TAILQ_FIRST(&leaving)) != NULL) {
        TAILQ_REMOVE(&leaving, command, entry);
        command_succeed(command);
    }
}
