// SPDX-License-Identifier: BSD-3-Clause
#include "error.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

// The length of the UTF-8 character at text, 0 if there is none (RFC 3629 section 4: no overlong forms, no surrogates).
static size_t character_len(const unsigned char *text)
{
    unsigned char lead = text[0];
    size_t len = lead < 0x80 ? 1 : lead >= 0xf0 && lead <= 0xf4 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc2 ? 2 : 0;
    if (lead > 0xf4)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    }
    if ((lead == 0xe0 && text[1] < 0xa0) || (lead == 0xed && text[1] > 0x9f) || (lead == 0xf0 && text[1] < 0x90) ||
        (lead == 0xf4 && text[1] > 0x8f))
        return 0;
    return len;
}

// Messages quote what clients sent, also bytes of a path or header that aren't UTF-8, and are cut anywhere; but they
// go into JSON and on terminals. What can't be there becomes a question mark.
void error_make_printable(char *text)
{
    unsigned char *out = (unsigned char *)text;
    for (const unsigned char *in = out; *in != '\0';) {
        size_t len = character_len(in);
        if (len == 0 || *in < 0x20 || *in == 0x7f) {
            *out++ = '?';
            in++;
            // One mark stands for the whole of a broken character.
            while ((*in & 0xc0) == 0x80)
                in++;
            continue;
        }
        memmove(out, in, len);
        out += len;
        in += len;
    }
    *out = '\0';
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
    error_make_printable(error->field);
    error_make_printable(error->message);
    return -EINVAL;
}

void error_clear(struct error *error)
{
    error->code = PATCHBAY_OK;
    error->field[0] = '\0';
    error->message[0] = '\0';
    error->index = -1;
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
    error_make_printable(error->field);
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
