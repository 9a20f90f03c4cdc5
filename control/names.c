// SPDX-License-Identifier: BSD-3-Clause
#include "names.h"
#include "patchbay/limits.h"

#include <string.h>

// isalnum() goes by the locale; names don't.
static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static char fold_case(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool names_valid(const char *name)
{
    if (!is_alnum(name[0]))
        return false;
    for (size_t i = 1; name[i] != '\0'; i++) {
        if (i >= LIMIT_NAME_LEN || (!is_alnum(name[i]) && strchr("._-", name[i]) == NULL))
            return false;
    }
    return true;
}

static unsigned min(unsigned one, unsigned other)
{
    return one < other ? one : other;
}

// Optimal string alignment, by rows; only the diagonal band that can still be within the limit is filled, since this
// runs over thousands of names while other requests wait.
unsigned names_distance(const char *one, const char *other, unsigned limit)
{
    size_t one_len = strlen(one);
    size_t other_len = strlen(other);
    if (one_len > LIMIT_NAME_LEN || other_len > LIMIT_NAME_LEN ||
        (one_len > other_len ? one_len - other_len : other_len - one_len) > limit)
        return limit + 1;

    // Three rows in turn; a swap looks two back. Outside of the band stands what is too far.
    unsigned rows[3][LIMIT_NAME_LEN + 2];
    const unsigned far = limit + 1;
    for (size_t r = 0; r < 3; r++) {
        for (size_t j = 0; j <= other_len; j++)
            rows[r][j] = far;
    }
    for (size_t j = 0; j <= other_len && j <= limit; j++)
        rows[0][j] = (unsigned)j;

    for (size_t i = 1; i <= one_len; i++) {
        unsigned *row = rows[i % 3];
        const unsigned *above = rows[(i + 2) % 3];
        const unsigned *above2 = rows[(i + 1) % 3];
        size_t first = i > limit ? i - limit : 0;
        size_t last = i + limit < other_len ? i + limit : other_len;
        unsigned best = far;
        // What a reader of this row may see on both sides of the band.
        if (first > 0)
            row[first - 1] = far;
        row[last + 1] = far;
        for (size_t j = first; j <= last; j++) {
            if (j == 0) {
                row[0] = (unsigned)i;
            } else {
                char c = fold_case(one[i - 1]);
                char d = fold_case(other[j - 1]);
                unsigned cost = min(min(above[j], row[j - 1]) + 1, above[j - 1] + (c != d));
                if (i > 1 && j > 1 && c == fold_case(other[j - 2]) && d == fold_case(one[i - 2]))
                    cost = min(cost, above2[j - 2] + 1);
                row[j] = min(cost, far);
            }
            best = min(best, row[j]);
        }
        if (best >= far)
            return far;
    }
    return rows[one_len % 3][other_len];
}

void names_nearest_init(struct names_nearest *nearest, const char *wanted)
{
    // A third of the name may be wrong; beyond that a suggestion is a riddle.
    size_t allowed = strlen(wanted) / 3;
    nearest->wanted = wanted;
    nearest->best = NULL;
    nearest->distance = (allowed < 1 ? 1 : allowed > 3 ? 3 : (unsigned)allowed) + 1;
}

void names_nearest_offer(struct names_nearest *nearest, const char *candidate)
{
    if (nearest->distance == 0)
        return;
    unsigned distance = names_distance(nearest->wanted, candidate, nearest->distance - 1);
    if (distance < nearest->distance) {
        nearest->distance = distance;
        nearest->best = candidate;
    }
}
