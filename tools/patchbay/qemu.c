// SPDX-License-Identifier: BSD-3-Clause
#include "change.h"
#include "field.h"
#include "output.h"
#include "text.h"
#include "verbs.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

// A MAC address that is the same whenever the same vif is asked for: 52:54,
// which marks it as given out locally, and a hash (FNV-1a) of the name.
static const char *mac_of(const char *name)
{
    uint32_t hash = 2166136261u;
    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return text_format("52:54:%02x:%02x:%02x:%02x", hash >> 24, hash >> 16 & 0xff, hash >> 8 & 0xff, hash & 0xff);
}

// In a value of QEMU's options a comma is doubled.
static const char *qemu_value(const char *value)
{
    const char *escaped = "";
    for (; *value != '\0'; value += strcspn(value, ",")) {
        if (*value == ',') {
            escaped = text_format("%s,,", escaped);
            value++;
        }
        escaped = text_format("%s%s", escaped, text_slice(value, strcspn(value, ",")));
    }
    return escaped;
}

static void add(json_t *options, const char *option, const char *value)
{
    json_array_append_new(options, json_string(option));
    json_array_append_new(options, json_string(value));
}

// "512M", "4G", as QEMU takes it; "none" for no memory at all.
static int check_memory(const struct call *call, const char *memory)
{
    size_t digits = strspn(memory, "0123456789");
    const char *unit = memory + digits;
    if (strcmp(memory, "none") == 0)
        return EXIT_DONE;
    if (digits == 0 || digits > 12 || memory[0] == '0' || strlen(unit) > 1 || strchr("MG", *unit) == NULL)
        return command_misused(call->command, "--memory is a size such as 512M or 4G, or none, not \"%s\"",
                               text_clean(memory));
    return EXIT_DONE;
}

// A vif's chardev, netdev and device.
static int add_vif(struct call *call, const char *name, json_t *options)
{
    struct reply reply = {0};
    int code = client_do(&call->client, "GET", client_path("vifs", name, NULL), NULL, 0, &reply);
    const char *kind = code == EXIT_DONE ? field_text(reply.body, "kind", "") : "";
    const char *path = field_text(reply.body, "path", "");
    bool listens = strcmp(kind, "vhost-server") == 0;
    if (code == EXIT_DONE && !listens && strcmp(kind, "vhost") != 0) {
        output_complain("vif %s is of kind %s, which QEMU can't be given: only vhost and vhost-server are", name,
                        text_clean(kind));
        code = EXIT_REFUSED;
    }
    // These options are meant for $(…), where the shell splits at white space
    // and nothing else can quote it; control characters have no business there.
    if (code == EXIT_DONE && (strpbrk(path, " \t\n*?[") != NULL || strcmp(path, text_clean(path)) != 0)) {
        output_complain("the socket's path of vif %s has characters that the shell splits or replaces: %s", name,
                        text_clean(path));
        code = EXIT_REFUSED;
    }
    if (code == EXIT_DONE) {
        // An id of QEMU must begin with a letter, hence the prefix. With server=on QEMU waits for us, with reconnect it
        // tries again every second, so neither side must be started first.
        add(options, "-chardev",
            text_format("socket,id=patchbay-%s-socket,path=%s,%s", name, qemu_value(path),
                        listens ? "reconnect=1" : "server=on"));
        add(options, "-netdev", text_format("vhost-user,id=patchbay-%s,chardev=patchbay-%s-socket", name, name));
        add(options, "-device",
            text_format("virtio-net-pci,netdev=patchbay-%s,mac=%s%s", name, mac_of(name),
                        command_has(call, "no-kvm") ? ",vectors=0" : ""));
    }
    client_clear(&reply);
    return code;
}

int qemu_run(struct call *call)
{
    const char *memory = command_option(call, "memory");
    if (memory == NULL)
        memory = "512M";
    int code = check_memory(call, memory);
    json_t *options = json_array();
    size_t i;
    const json_t *option;
    if (code == EXIT_DONE && strcmp(memory, "none") != 0) {
        // Patchbay reads and writes the guest's memory, so QEMU must share it.
        add(options, "-m", memory);
        add(options, "-object", text_format("memory-backend-memfd,id=patchbay-memory,size=%s,share=on", memory));
        add(options, "-machine", "memory-backend=patchbay-memory");
    }
    for (size_t vif = 0; vif < call->argument_count && code == EXIT_DONE; vif++)
        code = change_name(call, vif, "vif") == NULL ? EXIT_USAGE : add_vif(call, call->arguments[vif], options);
    if (code == EXIT_DONE && call->json)
        output_json(options);
    else if (code == EXIT_DONE)
        json_array_foreach(options, i, option) printf("%s%c", json_string_value(option), i % 2 == 0 ? ' ' : '\n');
    json_decref(options);
    return code;
}
