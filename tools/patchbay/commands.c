// SPDX-License-Identifier: BSD-3-Clause
#include "command.h"
#include "verbs.h"

#include <stdio.h>

#include "output.h"
#include "text.h"

const struct option_spec global_options[] = {
    {"socket", "PATH", "the daemon's socket (PATCHBAY_SOCKET, else /run/patchbay/api.sock)", false},
    {"network", "NETWORK", "the network of the wires and ports that are named (default)", false},
    {"json", NULL, "the daemon's own JSON instead of text, refusals too", false},
    {"no-color", NULL, "no colours; NO_COLOR in the environment does the same", false},
    {"file", "FILE", "commands from FILE (-: standard input), one a line, all of them or none; the same as -f FILE",
     false},
    {"timeout", "SECONDS", "how long to wait for an answer (30)", false},
    {"help", NULL, "help, for the command if there is one", false},
    {0},
};

// Options that several commands have are written once.
#define OWNER                                                               \
    {                                                                       \
        "owner", "OWNER", "whose it is, e.g. the VM's id; free text", false \
    }
#define LABEL                                 \
    {                                         \
        "label", "KEY=VALUE", "a label", true \
    }
#define DETACH                                                                                 \
    {                                                                                          \
        "detach", NULL, "even if it is used: wire ends become empty, Ts are turned off", false \
    }
#define NAMES                                               \
    {                                                       \
        "names", NULL, "the names alone, one a line", false \
    }
#define BEFORE                                                         \
    {                                                                  \
        "before", "TEE", "next to this T, on the side of end a", false \
    }
#define AFTER                                                         \
    {                                                                 \
        "after", "TEE", "next to this T, on the side of end b", false \
    }
#define QUIET                                                                                      \
    {                                                                                              \
        "quiet-ms", "MS", "a bump that is taken out has drained after so much silence (10)", false \
    }
#define DRAIN                                                                     \
    {                                                                             \
        "drain-ms", "MS", "and at the latest after this (200); 0: at once", false \
    }
#define FORCE                                                                               \
    {                                                                                       \
        "force", NULL, "insert the bump even if an arm is down, which cuts the wire", false \
    }
#define READY                                                                   \
    {                                                                           \
        "when-ready", NULL, "insert the bump as soon as its arms are up", false \
    }
#define END \
    {       \
        0   \
    }

static const struct option_spec plug_options[] = {
    {"port", "PORT", "the port's name, if not the vif's", false},
    {"vlan", "VLAN", "the port is this tag of the vif (1-4094); several ports may then share it", false},
    OWNER,
    LABEL,
    END,
};
static const struct option_spec qemu_options[] = {
    {"qemu", NULL, "print QEMU's options", false},
    {"memory", "SIZE", "the guest's memory, e.g. 512M (the default) or 4G; none: leave memory out", false},
    {"no-kvm", NULL, "for a guest without KVM: no MSI-X, on which QEMU 7.2 crashes then", false},
    END,
};
static const struct option_spec detach_options[] = {DETACH, END};
static const struct option_spec wire_add_options[] = {
    {"on-full", "wait|drop", "what to do when the receiver has no room (wait)", false},
    {"stall-ms", "MS", "how long to wait for a receiver before frames are dropped (100)", false},
    {"admin", "up|down", "down: frames stop at once (up)", false},
    LABEL,
    END,
};
static const struct option_spec drain_options[] = {QUIET, DRAIN, END};
static const struct option_spec names_options[] = {NAMES, END};
static const struct option_spec key_options[] = {{"names", NULL, "the keys alone, one a line", false}, END};
static const struct option_spec tap_options[] = {
    {"out", "PORT", "copies of frames from b to a go to this port", false},
    {"direction", "both|a-to-b|b-to-a", "which frames are copied (both)", false},
    BEFORE,
    AFTER,
    LABEL,
    END,
};
static const struct option_spec bump_options[] = {
    {"on-failure", "open|closed", "what becomes of frames when an arm is down: pass it by, or stop (closed)", false},
    {"stall-ms", "MS", "how long to wait for the appliance before frames are dropped (10)", false},
    FORCE,
    READY,
    BEFORE,
    AFTER,
    LABEL,
    END,
};
static const struct option_spec tee_set_options[] = {FORCE, READY, QUIET, DRAIN, END};
static const struct option_spec move_options[] = {BEFORE, AFTER, END};
static const struct option_spec vif_options[] = {OWNER, LABEL, END};
static const struct option_spec port_options[] = {
    {"vif", "VIF", "the vif behind it (none: the port is empty)", false},
    {"vlan", "VLAN", "the port is this tag of the vif (1-4094)", false},
    LABEL,
    END,
};
static const struct option_spec label_options[] = {LABEL, END};
static const struct option_spec stats_options[] = {
    {"vif", "VIF", "of this vif", false},
    {"cycles", NULL, "where the workers' cycles go: cycles a frame by stage, time without frames", false},
    {"queues", NULL, "which worker polls which queue, and what it costs it", false},
    {"watch", "[SECONDS]", "rates, again and again (every second)", false},
    {"count", "N", "with --watch: end after N intervals", false},
    END,
};

static const struct option_spec audit_options[] = {
    {"limit", "N", "so many rows (20; at most 1000)", false},
    {"after", "ROW", "those after this row, instead of the last", false},
    END,
};

#define CONF_HELP "ENTITY is host, network:NAME, port:[NETWORK/]NAME, vif:NAME or wire:[NETWORK/]NAME. "
#define SET_HELP  "KEY= sets the default again, label.KEY=VALUE a label. Keys: "
static const struct option_spec top_options[] = {
    {"sort", "frames|bits|drops|name", "the wires' order (frames)", false},
    {"interval", "SECONDS", "between two looks (1)", false},
    {"rows", "N", "so many wires (what fits; 20 where there is no terminal; with --json all)", false},
    {"once", NULL, "one interval, then end", false},
    END,
};
static const struct option_spec events_options[] = {
    {"since", "SEQ", "begin after this event, if the daemon still has it; INSTANCE:SEQ: of this run", false},
    {"count", "N", "end after N events", false},
    END,
};

static const struct option_spec apply_options[] = {
    {"file", "FILE", "what the state is to be (-: standard input); the same as -f FILE", false},
    {"dry-run", NULL, "show what would be done, and do nothing", false},
    {"force", NULL, "also if the state was changed since the file was exported, and if a bump's arm is down", false},
    END,
};

static int help_run(struct call *call);

const struct command commands[] = {
    {"plug", "NAME KIND[:TARGET]", NULL, plug_options, "make a vif and the port of the same name",
     "KIND:TARGET is vhost:PATH (connects to QEMU's server=on socket), vhost-server:PATH (listens), dev:DEVARGS (any "
     "DPDK device), kernel-new:INTERFACE (makes a kernel TAP interface) or none. A vif that exists with this kind and "
     "target is used; if the port is refused, a vif that was made for it is taken away again.",
     plug_run, true},
    {"plug", "VIF...", "qemu", qemu_options, "print the QEMU options for these vifs",
     "The memory's options, which come once, and a chardev, netdev and virtio-net-pci device for each, whose MAC "
     "address follows from the vif's name. QEMU must be given all NICs of a guest in one command.",
     qemu_run, false},
    {"unplug", "NAME", NULL, detach_options, "remove a port and its vif", "A vif that other ports share stays.",
     plug_unplug, true},
    {"wire add", "NAME A B", NULL, wire_add_options, "make a wire between two ports", "An end may be -, for none.",
     wire_add, true},
    {"wire replug", "WIRE a|b PORT", NULL, NULL, "move one end to another port",
     "The Ts and the counters stay with the wire.", wire_replug, true},
    {"wire unplug", "WIRE a|b", NULL, NULL, "leave one end empty", "", wire_unplug, true},
    {"wire up", "WIRE", NULL, NULL, "let frames pass", "", wire_up, true},
    {"wire down", "WIRE", NULL, NULL, "stop frames", "", wire_down, true},
    {"wire set", "WIRE KEY=VALUE...", NULL, NULL, "change a wire", SET_HELP "admin, on_full, stall_ms.", wire_set,
     true},
    {"wire show", "WIRE", NULL, NULL, "show a wire in detail", "The same as show WIRE.", show_run, false},
    {"wire rm", "WIRE", NULL, NULL, "remove a wire with its Ts", "Ports and vifs stay.", wire_rm, true},
    {"wire ls", "", NULL, names_options, "list wires", "", wire_ls, false},
    {"tap add", "WIRE PORT [NAME]", NULL, tap_options, "copy a wire's frames to a port",
     "NAME defaults to the port's without a trailing -in, the place to last.", tee_add_tap, true},
    {"tap rm", "WIRE TEE", NULL, NULL, "remove a tap", "", tee_rm_tap, true},
    {"bump add", "WIRE PORT OUT_PORT [NAME]", NULL, bump_options, "lead a wire through an appliance with two arms",
     "Frames from a to b go into PORT and come back from OUT_PORT. NAME defaults to PORT's without a trailing -in, "
     "the place to last.",
     tee_add_bump, true},
    {"bump rm", "WIRE TEE", NULL, drain_options, "take a bump out",
     "Waits until the appliance has given back what it holds.", tee_rm_bump, true},
    {"tee set", "WIRE TEE KEY=VALUE...", NULL, tee_set_options, "change a T",
     SET_HELP "mode (tap, bump, off), port, out_port, direction, on_failure, stall_ms.", tee_set, true},
    {"tee move", "WIRE TEE", NULL, move_options, "move a T along its wire", "", tee_move, true},
    {"tee show", "WIRE TEE", NULL, NULL, "show a T", "", tee_show, false},
    {"tee ls", "WIRE", NULL, names_options, "list a wire's Ts, in order", "", tee_ls, false},
    {"vif add", "NAME KIND[:TARGET]", NULL, vif_options, "make a vif without a port", "Kinds: see plug.", vif_add,
     true},
    {"vif set", "VIF KEY=VALUE...", NULL, NULL, "change a vif",
     SET_HELP
     "owner, admin (up or down), worker (that polls all its queues; empty: any), mtu (of kinds dev and kernel-new).",
     vif_set, true},
    {"vif show", "VIF", NULL, NULL, "show a vif", "", vif_show, false},
    {"vif rm", "VIF", NULL, detach_options, "remove a vif", "", vif_rm, true},
    {"vif ls", "", NULL, names_options, "list vifs", "", vif_ls, false},
    {"port add", "NAME", NULL, port_options, "make a port", "", port_add, true},
    {"port set", "PORT KEY=VALUE...", NULL, NULL, "change a port",
     SET_HELP
     "vif, vlan, admin, ingress_bps, ingress_burst (bytes), ingress_pps, ingress_burst_frames, and egress_… as well.",
     port_set, true},
    {"port show", "PORT", NULL, NULL, "show a port", "", port_show, false},
    {"port rm", "PORT", NULL, detach_options, "remove a port", "Its vif stays.", port_rm, true},
    {"port ls", "", NULL, names_options, "list ports", "", port_ls, false},
    {"network add", "NAME", NULL, label_options, "make a network", "", network_add, true},
    {"network set", "NETWORK KEY=VALUE...", NULL, NULL, "change a network's labels",
     "label.KEY=VALUE sets a label, label.KEY= removes it.", network_set, true},
    {"network show", "NETWORK", NULL, NULL, "show a network", "", network_show, false},
    {"network rm", "NETWORK", NULL, NULL, "remove an empty network", "", network_rm, true},
    {"network ls", "", NULL, names_options, "list networks", "", network_ls, false},
    {"conf list", "ENTITY", NULL, key_options, "list what something can do and be told",
     CONF_HELP "Only keys that work now are listed.", conf_list, false},
    {"conf get", "ENTITY KEY", NULL, NULL, "show one of these keys",
     CONF_HELP "A key that can't work now ends with exit status 4 and why.", conf_get, false},
    {"conf set", "ENTITY KEY=VALUE", NULL, NULL, "set a key",
     CONF_HELP "Numbers may end in k, M, G or T (thousands). KEY= puts the default back.", conf_set, true},
    {"conf unset", "ENTITY KEY", NULL, NULL, "put a key's default back", CONF_HELP, conf_unset, true},
    {"show", "[WIRE]", NULL, NULL, "draw the wires with their states",
     "Failures come first. Without --network, of all networks, and all vifs and ports as tables; with WIRE, this one "
     "in "
     "detail.",
     show_run, false},
    {"stats", "[WIRE]", NULL, stats_options, "show counters",
     "Without WIRE or --vif, a line a wire and the workers. --watch goes on when patchbayd is restarted: it says so, "
     "waits "
     "for it and gives no rates for the time between; with --json such a gap is a line {\"gap\": {\"seconds\", "
     "\"instance\"}}. --cycles has the stages of a frame's path as the daemon measures them, in one of 64 loops; see "
     "docs/performance.md. --queues has the receive queues of all vifs: who polls them, and how much of its time that "
     "takes.",
     stats_run, false},
    {"top", "", NULL, top_options, "watch the busiest wires and the workers",
     "Rates of all networks' wires: frames and bits delivered, frames dropped; of the workers the share of time in "
     "which they move frames. Redraws on a terminal, prints one table after the other elsewhere.",
     top_run, false},
    {"events", "", NULL, events_options, "follow what happens",
     "Links of vifs, states of wires, bumps that fail and recover, taps that are overloaded, and who changed the "
     "configuration; a line each, with --json the daemon's own. Goes on when patchbayd is restarted. Where events are "
     "missing, since the daemon keeps a limited number of them and none over a restart, a line says so.",
     events_run, false},
    {"export", "[FILE]", NULL, NULL, "write the whole desired state to a file",
     "As JSON, an object a line; without FILE on standard output. `patchbay apply` reads it.", state_export, false},
    {"apply", "", NULL, apply_options, "make the state what a file says",
     "Prints the plan, + created, - deleted, ~ changed, and does it: what the file doesn't have is deleted, what is "
     "the "
     "same isn't touched. If the state has changed since the file was exported, by its \"generation\", it is refused "
     "unless there is nothing to do; leave that line out of files that are to win always.",
     state_apply, false},
    {"audit", "", NULL, audit_options, "show who changed what, and when",
     "The daemon keeps the last 10,000 changes, each in the transaction that made it. What was refused changed nothing "
     "and isn't in it. BY is the process that asked, as it was called when it connected.",
     audit_run, false},
    {"version", "", NULL, NULL, "show the versions of patchbay and patchbayd", "", version_run, false},
    {"help", "[COMMAND...]", NULL, NULL, "explain commands", "", help_run, false},
};
const size_t command_count = sizeof(commands) / sizeof(*commands);

static int help_run(struct call *call)
{
    const char *words = "";
    for (size_t i = 0; i < call->argument_count; i++)
        words = text_format("%s%s%s", words, i == 0 ? "" : " ", call->arguments[i]);
    if ((call->json ? help_print_json(words) : help_print(words)) > 0)
        return EXIT_DONE;
    return command_misused(call->command, "there is no command \"%s\"; patchbay --help lists all", text_clean(words));
}
