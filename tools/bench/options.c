// SPDX-License-Identifier: BSD-3-Clause
// The command line of patchbay-traffic. Everything that can be judged without a device is judged here.
#include <err.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bsd/stdlib.h>
#include <bsd/string.h>

#include "traffic.h"

enum {
    OPT_PORT = 256,
    OPT_STREAM,
    OPT_MONITOR,
    OPT_REFLECT,
    OPT_SIZE,
    OPT_CORE,
    OPT_BURST,
    OPT_HUGE,
    OPT_WAIT,
    OPT_TOUCH,
    OPT_POOL,
    OPT_DRIVER,
    OPT_WARMUP,
    OPT_SECONDS,
    OPT_WINDOWS,
    OPT_ON_REQUEST,
    OPT_COUNT,
    OPT_DURATION,
    OPT_RATE,
    OPT_SETTLE,
    OPT_STALL,
    OPT_EXPECT,
    OPT_ALLOW_FOREIGN,
    OPT_PROGRESS,
    OPT_HELP,
};

static const struct option options[] = {
    {"port", required_argument, NULL, OPT_PORT},
    {"stream", required_argument, NULL, OPT_STREAM},
    {"monitor", required_argument, NULL, OPT_MONITOR},
    {"reflect", required_argument, NULL, OPT_REFLECT},
    {"size", required_argument, NULL, OPT_SIZE},
    {"core", required_argument, NULL, OPT_CORE},
    {"burst", required_argument, NULL, OPT_BURST},
    {"huge", required_argument, NULL, OPT_HUGE},
    {"wait", required_argument, NULL, OPT_WAIT},
    {"touch", no_argument, NULL, OPT_TOUCH},
    {"pool", required_argument, NULL, OPT_POOL},
    {"driver", required_argument, NULL, OPT_DRIVER},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"windows", required_argument, NULL, OPT_WINDOWS},
    {"on-request", no_argument, NULL, OPT_ON_REQUEST},
    {"count", required_argument, NULL, OPT_COUNT},
    {"duration", required_argument, NULL, OPT_DURATION},
    {"rate", required_argument, NULL, OPT_RATE},
    {"settle", required_argument, NULL, OPT_SETTLE},
    {"stall", required_argument, NULL, OPT_STALL},
    {"expect", required_argument, NULL, OPT_EXPECT},
    {"allow-foreign", no_argument, NULL, OPT_ALLOW_FOREIGN},
    {"progress", no_argument, NULL, OPT_PROGRESS},
    {"help", no_argument, NULL, OPT_HELP},
    {NULL, 0, NULL, 0},
};

static int parse_number(const char *what, const char *text, long long min, long long max, long long *value)
{
    const char *error;

    *value = strtonum(text, min, max, &error);
    if (error == NULL)
        return 0;
    warnx("%s %s is %s: give a number from %lld to %lld", what, text, error, min, max);
    return EXIT_USAGE;
}

static int parse_seconds(const char *what, const char *text, double min, double *value)
{
    char *end;

    *value = strtod(text, &end);
    if (end != text && *end == '\0' && isfinite(*value) && *value >= min && *value <= 1e6)
        return 0;
    warnx("%s %s: give seconds from %g to 1000000", what, text, min);
    return EXIT_USAGE;
}

static int find_port(const struct config *config, const char *what, const char *name, uint16_t *index)
{
    for (unsigned i = 0; i < config->port_count; i++) {
        if (strcmp(config->ports[i].name, name) == 0) {
            *index = (uint16_t)i;
            return 0;
        }
    }
    warnx("%s: no port is named '%s'; name it before, by --port %s=…", what, name, name);
    return EXIT_USAGE;
}

static int parse_port_option(struct port_spec *spec, char *text)
{
    static const struct {
        const char *key;
        long long min, max;
    } keys[] = {{"queue_size", 32, 32768}, {"mrg", 0, 1},  {"in_order", 0, 1}, {"packed", 0, 1},
                {"vectorized", 0, 1},      {"segs", 1, 8}, {"queues", 1, 16},  {"buf", 256, 16384}};
    char *value = text;
    char *key = strsep(&value, "=");
    long long number;

    if (value == NULL && strcmp(key, "server") == 0) {
        spec->server = true;
        return 0;
    }
    for (size_t i = 0; value != NULL && i < sizeof(keys) / sizeof(keys[0]); i++) {
        if (strcmp(key, keys[i].key) != 0)
            continue;
        if (parse_number(key, value, keys[i].min, keys[i].max, &number) != 0)
            return EXIT_USAGE;
        switch (i) {
        case 0:
            if ((number & (number - 1)) != 0) {
                warnx("queue_size %lld: give a power of two", number);
                return EXIT_USAGE;
            }
            spec->queue_size = (uint16_t)number;
            break;
        case 1:
            spec->mrg = number != 0;
            break;
        case 2:
            spec->in_order = number != 0;
            break;
        case 3:
            spec->packed = number != 0;
            break;
        case 4:
            spec->vectorized = number != 0;
            break;
        case 5:
            spec->segs = (uint16_t)number;
            break;
        case 6:
            spec->queues = (uint16_t)number;
            break;
        default:
            spec->buf_size = (uint16_t)number;
            break;
        }
        return 0;
    }
    warnx("port %s: '%s' is no option; there are server, queue_size=, mrg=, in_order=, packed=, vectorized=, buf=, "
          "segs= and queues=",
          spec->name, key);
    return EXIT_USAGE;
}

static int parse_port(struct config *config, char *text)
{
    struct port_spec *spec = &config->ports[config->port_count];
    char *rest = text;
    char *name = strsep(&rest, "=");
    char *word;

    if (config->port_count == TRAFFIC_PORTS_MAX) {
        warnx("more than %d ports", TRAFFIC_PORTS_MAX);
        return EXIT_USAGE;
    }
    // These separate names in --stream and --reflect.
    if (rest == NULL || *name == '\0' || strpbrk(name, ">,: ") != NULL || strlen(name) >= TRAFFIC_NAME_SIZE) {
        warnx("--port %s: give NAME=SOCKETPATH or NAME=dev:DEVARGS, NAME up to %d characters without '>', ',', ':'",
              name, TRAFFIC_NAME_SIZE - 1);
        return EXIT_USAGE;
    }
    for (unsigned i = 0; i < config->port_count; i++) {
        if (strcmp(config->ports[i].name, name) == 0) {
            warnx("--port: the name '%s' is there twice", name);
            return EXIT_USAGE;
        }
    }
    *spec = (struct port_spec){.queues = 1, .queue_size = 256, .segs = 1, .vectorized = true};
    strlcpy(spec->name, name, sizeof(spec->name));
    if (strncmp(rest, "dev:", 4) == 0) {
        spec->is_dev = true;
        word = rest + 4;
        rest = NULL;
    } else {
        word = strsep(&rest, ",");
    }
    if (*word == '\0' || strlcpy(spec->target, word, sizeof(spec->target)) >= sizeof(spec->target)) {
        warnx("port %s: the path or devargs are empty or longer than %d characters", name, TRAFFIC_TARGET_SIZE - 1);
        return EXIT_USAGE;
    }
    // The size of sockaddr_un's path; DPDK would cut a longer one silently.
    if (!spec->is_dev && strlen(spec->target) >= 108) {
        warnx("port %s: a socket's path may have 107 characters", name);
        return EXIT_USAGE;
    }
    while ((word = strsep(&rest, ",")) != NULL) {
        if (parse_port_option(spec, word) != 0)
            return EXIT_USAGE;
    }
    config->port_count++;
    return 0;
}

static int parse_stream(struct config *config, char *text)
{
    struct stream_spec *spec = &config->streams[config->stream_count];
    char *rest = text;
    char *name = strsep(&rest, ">");

    if (config->stream_count == TRAFFIC_STREAMS_MAX) {
        warnx("more than %d streams", TRAFFIC_STREAMS_MAX);
        return EXIT_USAGE;
    }
    if (rest == NULL) {
        warnx("--stream %s: give FROM>TO, in quotes because of the shell", name);
        return EXIT_USAGE;
    }
    *spec = (struct stream_spec){0};
    if (find_port(config, "--stream", name, &spec->tx) != 0)
        return EXIT_USAGE;
    if (*rest == '\0')
        rest = NULL;
    while ((name = strsep(&rest, ",")) != NULL) {
        uint16_t index;
        if (find_port(config, "--stream", name, &index) != 0)
            return EXIT_USAGE;
        spec->rx_mask |= 1u << index;
    }
    for (unsigned i = 0; i < config->stream_count; i++)
        spec->tx_queue += config->streams[i].tx == spec->tx;
    spec->tx_queue %= config->ports[spec->tx].queues;
    config->stream_count++;
    return 0;
}

static int parse_reflect(struct config *config, char *text)
{
    struct reflect_spec *spec = &config->reflects[config->reflect_count];
    char *rest = text;
    char *name = strsep(&rest, ":");

    if (config->reflect_count == TRAFFIC_REFLECTS_MAX) {
        warnx("more than %d appliances", TRAFFIC_REFLECTS_MAX);
        return EXIT_USAGE;
    }
    if (rest == NULL || find_port(config, "--reflect", name, &spec->in) != 0 ||
        find_port(config, "--reflect", rest, &spec->out) != 0 || spec->in == spec->out) {
        warnx("--reflect: give IN:OUT, two different ports");
        return EXIT_USAGE;
    }
    config->reflect_count++;
    return 0;
}

static int parse_size(struct config *config, const char *text)
{
    struct frame_sizes *sizes = &config->sizes;
    long long number;

    if (strcmp(text, "imix") == 0) {
        *sizes = (struct frame_sizes){FRAME_IMIX, frame_imix_len[0], frame_imix_len[FRAME_SIZES_MAX - 1]};
        return 0;
    }
    if (strncmp(text, "random", 6) == 0 && (text[6] == '\0' || text[6] == ':')) {
        number = FRAME_MAX;
        if (text[6] == ':' && parse_number("--size random:", text + 7, FRAME_MIN, FRAME_MAX, &number) != 0)
            return EXIT_USAGE;
        *sizes = (struct frame_sizes){FRAME_RANDOM, FRAME_MIN, (uint16_t)number};
        return 0;
    }
    if (parse_number("--size", text, FRAME_MIN + FRAME_FCS, FRAME_MAX + FRAME_FCS, &number) != 0)
        return EXIT_USAGE;
    *sizes = (struct frame_sizes){FRAME_FIXED, (uint16_t)(number - FRAME_FCS), (uint16_t)(number - FRAME_FCS)};
    return 0;
}

static int check_roles(const struct config *config)
{
    uint32_t reflected = 0;

    for (unsigned i = 0; i < config->reflect_count; i++) {
        uint32_t pair = 1u << config->reflects[i].in | 1u << config->reflects[i].out;
        if ((reflected & pair) != 0) {
            warnx("--reflect: a port can be an arm of one appliance only");
            return EXIT_USAGE;
        }
        reflected |= pair;
    }
    if ((config->monitor_mask & reflected) != 0) {
        warnx("--monitor: an appliance's arm can't be a monitor too");
        return EXIT_USAGE;
    }
    for (unsigned i = 0; i < config->port_count; i++) {
        if (config->ports[i].queues > 1 && config->mode != TRAFFIC_CHECK) {
            warnx("port %s: queues= is for checked streams alone", config->ports[i].name);
            return EXIT_USAGE;
        }
        // A driver takes buffers back when its ring is nearly full: with fewer it would wait for ever.
        if (config->mode == TRAFFIC_RATE && config->ports[i].queue_size > config->pool) {
            warnx("port %s: queue_size %u needs as many buffers: give --pool %u or more", config->ports[i].name,
                  config->ports[i].queue_size, config->ports[i].queue_size);
            return EXIT_USAGE;
        }
    }
    for (unsigned i = 0; i < config->stream_count; i++) {
        const struct stream_spec *stream = &config->streams[i];
        if (((stream->rx_mask | 1u << stream->tx) & reflected) != 0) {
            warnx("--stream: an appliance's arm can't be the end of a stream too");
            return EXIT_USAGE;
        }
        if (stream->rx_mask == 0 && config->mode == TRAFFIC_CHECK) {
            warnx("--stream: a checked stream needs a receiver, FROM>TO");
            return EXIT_USAGE;
        }
        if ((stream->rx_mask & config->monitor_mask) != 0) {
            warnx("--stream: a receiver can't be a monitor too");
            return EXIT_USAGE;
        }
    }
    if (config->stream_count == 0 && config->reflect_count == 0 && config->monitor_mask == 0) {
        warnx("nothing to do: give --stream FROM>TO (or --reflect, --monitor); --help lists all");
        return EXIT_USAGE;
    }
    for (unsigned i = 0; i < config->reflect_count; i++) {
        if (port_is_ring(config, config->reflects[i].in) != port_is_ring(config, config->reflects[i].out)) {
            warnx("--reflect: a socket and a device together need --driver virtio-user");
            return EXIT_USAGE;
        }
    }
    if (config->mode == TRAFFIC_RATE && config->sizes.mode == FRAME_RANDOM) {
        warnx("--size random goes with check; rate takes a number or imix");
        return EXIT_USAGE;
    }
    return 0;
}

static int parse_option(struct config *config, int option, char *text)
{
    long long number = 0;
    uint16_t index;
    int r = 0;

    switch (option) {
    case OPT_PORT:
        return parse_port(config, text);
    case OPT_STREAM:
        return parse_stream(config, text);
    case OPT_MONITOR:
        r = find_port(config, "--monitor", text, &index);
        if (r == 0)
            config->monitor_mask |= 1u << index;
        return r;
    case OPT_REFLECT:
        return parse_reflect(config, text);
    case OPT_SIZE:
        return parse_size(config, text);
    case OPT_CORE:
        r = parse_number("--core", text, 0, 1023, &number);
        config->core = (int)number;
        return r;
    case OPT_BURST:
        r = parse_number("--burst", text, 8, TRAFFIC_BURST_MAX, &number);
        config->burst = (uint16_t)number;
        return r;
    case OPT_HUGE:
        if (strcmp(text, "auto") == 0)
            config->huge = HUGE_AUTO;
        else if (strcmp(text, "on") == 0)
            config->huge = HUGE_ON;
        else if (strcmp(text, "off") == 0)
            config->huge = HUGE_OFF;
        else
            return warnx("--huge %s: give auto, on or off", text), EXIT_USAGE;
        return 0;
    case OPT_WAIT:
        return parse_seconds("--wait", text, 0, &config->wait_s);
    case OPT_TOUCH:
        config->touch = true;
        return 0;
    case OPT_DRIVER:
        if (strcmp(text, "ring") != 0 && strcmp(text, "virtio-user") != 0)
            return warnx("--driver %s: give ring or virtio-user", text), EXIT_USAGE;
        config->virtio_user = strcmp(text, "virtio-user") == 0;
        return 0;
    case OPT_POOL:
        r = parse_number("--pool", text, 1024, 65536, &number);
        config->pool = (unsigned)number;
        return r;
    case OPT_WARMUP:
        return parse_seconds("--warmup", text, 0, &config->warmup_s);
    case OPT_SECONDS:
        return parse_seconds("--seconds", text, 0.01, &config->window_s);
    case OPT_WINDOWS:
        r = parse_number("--windows", text, 1, TRAFFIC_WINDOWS_MAX, &number);
        config->windows = (unsigned)number;
        return r;
    case OPT_ON_REQUEST:
        config->on_request = true;
        return 0;
    case OPT_COUNT:
        r = parse_number("--count", text, 1, (long long)TRAFFIC_COUNT_MAX, &number);
        config->count = (uint64_t)number;
        return r;
    case OPT_DURATION:
        return parse_seconds("--duration", text, 0.01, &config->duration_s);
    case OPT_RATE:
        r = parse_number("--rate", text, 1, 1000000000, &number);
        config->rate_pps = (uint64_t)number;
        return r;
    case OPT_SETTLE:
        return parse_seconds("--settle", text, 0, &config->settle_s);
    case OPT_STALL:
        return parse_seconds("--stall", text, 0.1, &config->stall_s);
    case OPT_EXPECT:
        if (strcmp(text, "lossless") != 0)
            return warnx("--expect %s: only lossless can be expected", text), EXIT_USAGE;
        config->lossless = true;
        return 0;
    case OPT_ALLOW_FOREIGN:
        config->allow_foreign = true;
        return 0;
    case OPT_PROGRESS:
        config->progress = true;
        return 0;
    case OPT_HELP:
        fputs(options_usage, stdout);
        return -1;
    default:
        // getopt_long has said what is wrong.
        fputs("patchbay-traffic --help lists all options\n", stderr);
        return EXIT_USAGE;
    }
}

int options_parse(struct config *config, int argc, char **argv)
{
    int option, r;

    *config = (struct config){
        .core = -1,
        .burst = TRAFFIC_BURST_MAX,
        .sizes = {FRAME_FIXED, FRAME_MIN, FRAME_MIN},
        .wait_s = 10,
        .pool = 2048,
        .warmup_s = 1,
        .window_s = 1,
        .windows = 1,
        .settle_s = 2,
        .stall_s = 30,
    };
    if (argc >= 2 && strcmp(argv[1], "rate") == 0) {
        config->mode = TRAFFIC_RATE;
    } else if (argc >= 2 && strcmp(argv[1], "check") == 0) {
        config->mode = TRAFFIC_CHECK;
    } else {
        bool help = argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
        fputs(options_usage, help ? stdout : stderr);
        return help ? -1 : EXIT_USAGE;
    }
    optind = 2;
    while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        r = parse_option(config, option == 'h' ? OPT_HELP : option, optarg);
        if (r != 0)
            return r;
    }
    if (optind < argc) {
        warnx("'%s' belongs to no option", argv[optind]);
        return EXIT_USAGE;
    }
    if (config->count == 0)
        config->count = config->duration_s > 0 ? TRAFFIC_COUNT_MAX : 1000000;
    return check_roles(config);
}
