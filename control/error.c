// SPDX-License-Identifier: BSD-3-Clause
#include "error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

// A character that was cut in half would make the whole answer invalid JSON.
static void trim_partial_character(char *text)
{
    size_t len = strlen(text);
    size_t start = len;
    while (start > 0 && ((unsigned char)text[start - 1] & 0xc0) == 0x80)
        start--;
    if (start == 0)
        return;
    unsigned char lead = (unsigned char)text[start - 1];
    size_t want = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (len - (start - 1) < want)
        text[start - 1] = '\0';
}

int error_set(struct error *error, enum patchbay_error code, const char *field, const char *format, ...)
{
    error_clear(error);
    error->code = code;
    snprintf(error->field, sizeof(error->field), "%s", field != NULL ? field : "");
    va_list args;
    va_start(args, format);
    vsnprintf(error->message, sizeof(error->message), format, args);
    va_end(args);
    trim_partial_character(error->field);
    trim_partial_character(error->message);
    return -EINVAL;
}

void error_clear(struct error *error)
{
    error->code = PATCHBAY_OK;
    error->field[0] = '\0';
    error->message[0] = '\0';
    error->user_count = 0;
    error->user_total = 0;
}

void error_add_user(struct error *error, enum use_as as, const char *network, const char *name, const char *tee)
{
    error->user_total++;
    if (error->user_count == ERROR_USERS_MAX)
        return;
    struct user *user = &error->users[error->user_count++];
    user->as = as;
    snprintf(user->network, sizeof(user->network), "%s", network);
    snprintf(user->name, sizeof(user->name), "%s", name);
    snprintf(user->tee, sizeof(user->tee), "%s", tee != NULL ? tee : "");
}

void error_prefix(struct error *error, const char *format, ...)
{
    char field[sizeof(error->field)];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(field, sizeof(field), format, args);
    va_end(args);
    if (len < 0 || (size_t)len >= sizeof(field))
        return;
    snprintf(field + len, sizeof(field) - (size_t)len, "%s", error->field);
    memcpy(error->field, field, sizeof(field));
    trim_partial_character(error->field);
}

void error_strip(struct error *error, const char *prefix)
{
    size_t len = strlen(prefix);
    if (strncmp(error->field, prefix, len) == 0)
        memmove(error->field, error->field + len, strlen(error->field + len) + 1);
}

struct code_row {
    const char *name;
    int status;
};

#define CODE_ROW(symbol, code, status, help) [PATCHBAY_ERROR_##symbol] = {code, status},
static const struct code_row codes[PATCHBAY_ERROR_COUNT] = {PATCHBAY_ERRORS(CODE_ROW)};

const char *error_code_name(enum patchbay_error code)
{
    return code > PATCHBAY_OK && code < PATCHBAY_ERROR_COUNT ? codes[code].name : "Internal";
}

int error_http_status(enum patchbay_error code)
{
    return code > PATCHBAY_OK && code < PATCHBAY_ERROR_COUNT ? codes[code].status : 500;
}
