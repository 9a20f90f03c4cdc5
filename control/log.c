// SPDX-License-Identifier: BSD-3-Clause
#include "log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const struct {
    enum log_level level;
    const char *name;
} levels[] = {{LOG_LEVEL_ERROR, "error"},
              {LOG_LEVEL_WARNING, "warning"},
              {LOG_LEVEL_NOTICE, "notice"},
              {LOG_LEVEL_INFO, "info"},
              {LOG_LEVEL_DEBUG, "debug"}};

enum { LINE_SIZE = 2048 };

// Written once, before there is a second thread.
static enum log_level shown_level = LOG_LEVEL_INFO;
static bool to_journal;

// systemd names the device and inode of the stream it gave us; a stderr that
// was redirected since is not the journal, whatever the environment says.
static bool stderr_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    unsigned long long device, inode;

    if (stream == NULL || sscanf(stream, "%llu:%llu", &device, &inode) != 2 || fstat(STDERR_FILENO, &st) != 0)
        return false;
    return st.st_dev == device && st.st_ino == inode;
}

void log_start(enum log_level level)
{
    shown_level = level;
    to_journal = stderr_is_journal();
}

const char *log_level_name(enum log_level level)
{
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++)
        if (levels[i].level == level)
            return levels[i].name;
    return NULL;
}

int log_level_parse(const char *name, enum log_level *level)
{
    for (size_t i = 0; i < sizeof(levels) / sizeof(levels[0]); i++) {
        if (strcmp(levels[i].name, name) == 0) {
            *level = levels[i].level;
            return 0;
        }
    }
    return -EINVAL;
}

static int format_prefix(char *line, size_t size, enum log_level level, const char *component)
{
    const char *name = log_level_name(level);
    struct timespec now;
    struct tm utc;

    if (to_journal)
        return snprintf(line, size, "<%d>%s: ", (int)level, component);
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    return snprintf(line, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %-7s %s: ", utc.tm_year + 1900, utc.tm_mon + 1,
                    utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec, now.tv_nsec / 1000000,
                    name != NULL ? name : "error", component);
}

void log_write(enum log_level level, const char *component, const char *message)
{
    char line[LINE_SIZE];
    size_t used;

    if (level > shown_level)
        return;
    used = (size_t)format_prefix(line, sizeof(line) / 2, level, component);
    if (used >= sizeof(line) / 2)
        used = sizeof(line) / 2 - 1;
    for (const char *c = message; *c != '\0' && used < sizeof(line) - 1; c++)
        line[used++] = (unsigned char)*c < 0x20 || *c == 0x7f ? '?' : *c;
    line[used++] = '\n';
    // A log that can't be written has nobody to complain to.
    if (write(STDERR_FILENO, line, used) < 0)
        return;
}

void log_message(enum log_level level, const char *component, const char *format, ...)
{
    char message[LINE_SIZE];
    va_list args;

    if (level > shown_level)
        return;
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    log_write(level, component, message);
}
