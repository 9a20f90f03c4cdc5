// SPDX-License-Identifier: BSD-3-Clause
#include "text.h"

#include "output.h"
#include "patchbay/limits.h"

#include <err.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct {
    void **blocks;
    size_t count;
    size_t capacity;
} pool;

void *text_keep(void *block)
{
    if (block == NULL)
        errx(1, "out of memory");
    if (pool.count == pool.capacity) {
        pool.capacity = pool.capacity == 0 ? 256 : pool.capacity * 2;
        pool.blocks = reallocarray(pool.blocks, pool.capacity, sizeof(*pool.blocks));
        if (pool.blocks == NULL)
            errx(1, "out of memory");
    }
    pool.blocks[pool.count++] = block;
    return block;
}

char *text_format(const char *format, ...)
{
    char *text = NULL;
    va_list arguments;
    va_start(arguments, format);
    int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    return text_keep(length < 0 ? NULL : text);
}

char *text_slice(const char *text, size_t length)
{
    return text_keep(strndup(text, length));
}

size_t text_mark(void)
{
    return pool.count;
}

void text_release(size_t mark)
{
    while (pool.count > mark)
        free(pool.blocks[--pool.count]);
    if (pool.count == 0) {
        free(pool.blocks);
        pool.blocks = NULL;
        pool.capacity = 0;
    }
}

char *text_clean(const char *text)
{
    unsigned char *clean = text_keep(strdup(text));
    const unsigned char *from = (const unsigned char *)text;
    unsigned char *to = clean;
    while (*from != '\0') {
        // U+0080–U+009F are control characters too; in UTF-8 they are 0xc2 and one more byte.
        bool c1 = from[0] == 0xc2 && from[1] >= 0x80 && from[1] <= 0x9f;
        if (c1 || *from < 0x20 || *from == 0x7f) {
            *to++ = '?';
            from += c1 ? 2 : 1;
        } else if (*from >= 0x80 && !output.utf8) {
            // One mark for the whole character, not for each of its bytes.
            *to++ = '?';
            from++;
            while ((*from & 0xc0) == 0x80)
                from++;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
    return (char *)clean;
}

static bool is_alphanumeric(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool text_is_name(const char *text)
{
    size_t length = strlen(text);
    if (length < 1 || length > LIMIT_NAME_LEN || !is_alphanumeric(text[0]))
        return false;
    for (size_t i = 1; i < length; i++)
        if (!is_alphanumeric(text[i]) && strchr("._-", text[i]) == NULL)
            return false;
    return true;
}

// Edits (insert, remove, replace, swap of neighbours) from one text to the
// other, or INT_MAX for texts so long that nobody mistyped them.
static int distance(const char *a, const char *b)
{
    enum { LONGEST = 40 };
    size_t a_length = strlen(a), b_length = strlen(b);
    if (a_length > LONGEST || b_length > LONGEST)
        return INT_MAX;
    int d[LONGEST + 1][LONGEST + 1];
    for (size_t i = 0; i <= a_length; i++)
        d[i][0] = (int)i;
    for (size_t j = 0; j <= b_length; j++)
        d[0][j] = (int)j;
    for (size_t i = 1; i <= a_length; i++) {
        for (size_t j = 1; j <= b_length; j++) {
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best)
                best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best)
                best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best)
                best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[a_length][b_length];
}

const char *text_nearest(const char *text, const char *const *texts, size_t count)
{
    const char *nearest = NULL;
    // A third of the word may be wrong; more is another word.
    int best = (int)(strlen(text) + 2) / 3 + 1;
    for (size_t i = 0; i < count; i++) {
        int edits = distance(text, texts[i]);
        if (edits < best) {
            best = edits;
            nearest = texts[i];
        }
    }
    return nearest;
}

char *text_count(uint64_t count)
{
    char *plain = text_format("%llu", (unsigned long long)count);
    size_t length = strlen(plain);
    char *grouped = text_keep(malloc(length + length / 3 + 1));
    size_t at = 0;
    for (size_t i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0)
            grouped[at++] = ',';
        grouped[at++] = plain[i];
    }
    grouped[at] = '\0';
    return grouped;
}

// Three significant digits with a decimal prefix.
static char *scaled(double value, const char *unit)
{
    static const char *const prefixes[] = {"", "k", "M", "G", "T", "P", "E"};
    size_t prefix = 0;
    // 999.5 would be printed as 1000.
    while (value >= 999.5 && prefix + 1 < sizeof(prefixes) / sizeof(*prefixes)) {
        value /= 1000;
        prefix++;
    }
    int digits = value < 9.995 ? 2 : value < 99.95 ? 1 : 0;
    if (prefix == 0 && value == floor(value))
        digits = 0;
    return text_format("%.*f %s%s", digits, value, prefixes[prefix], unit);
}

char *text_bytes(uint64_t bytes)
{
    return scaled((double)bytes, "B");
}

char *text_rate(double per_second, const char *unit)
{
    return scaled(per_second, unit);
}
