// SPDX-License-Identifier: BSD-3-Clause
#include "control/error.h"
#include "control/names.h"
#include "model_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_valid(void **state)
{
    (void)state;
    char longest[65];
    memset(longest, 'x', 64);
    longest[64] = '\0';
    assert_false(names_valid(longest));
    longest[63] = '\0';
    assert_true(names_valid(longest));
    static const char *const good[] = {"a", "0", "vm1", "A.b_c-d", "7c0b5a3e-1111-4222-8333-444455556666"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_true(names_valid(good[i]));
    static const char *const bad[] = {"", ".", "..", "-a", "_a", "a b", "a/b", "ä", "a\n", "a\x7f", " a"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(names_valid(bad[i]));
}

// The textbook table, to hold the banded one against.
static unsigned plain_distance(const char *one, const char *other)
{
    size_t m = strlen(one);
    size_t n = strlen(other);
    unsigned table[16][16];
    for (size_t i = 0; i <= m; i++) {
        for (size_t j = 0; j <= n; j++) {
            if (i == 0 || j == 0) {
                table[i][j] = (unsigned)(i + j);
                continue;
            }
            unsigned best = table[i - 1][j - 1] + (one[i - 1] != other[j - 1]);
            best = table[i - 1][j] + 1 < best ? table[i - 1][j] + 1 : best;
            best = table[i][j - 1] + 1 < best ? table[i][j - 1] + 1 : best;
            if (i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1] &&
                table[i - 2][j - 2] + 1 < best)
                best = table[i - 2][j - 2] + 1;
            table[i][j] = best;
        }
    }
    return table[m][n];
}

static void test_distance(void **state)
{
    (void)state;
    assert_int_equal(names_distance("vm1", "vm1", 3), 0);
    assert_int_equal(names_distance("VM1", "vm1", 3), 0);
    assert_int_equal(names_distance("stall_sm", "stall_ms", 3), 1);
    assert_int_equal(names_distance("", "abc", 3), 3);
    assert_int_equal(names_distance("", "abcd", 3), 4);
    for (uint64_t seed = 1; seed <= 20000; seed++) {
        struct rng rng = {seed};
        char words[2][12];
        for (size_t w = 0; w < 2; w++) {
            size_t len = rng_below(&rng, 10);
            for (size_t i = 0; i < len; i++)
                words[w][i] = (char)('a' + rng_below(&rng, 3));
            words[w][len] = '\0';
        }
        unsigned limit = rng_below(&rng, 5);
        unsigned plain = plain_distance(words[0], words[1]);
        unsigned banded = names_distance(words[0], words[1], limit);
        if (banded != (plain > limit ? limit + 1 : plain))
            fail_msg("seed %llu: %s %s limit %u: %u, should be %u", (unsigned long long)seed, words[0], words[1], limit,
                     banded, plain);
    }
}

static void test_nearest(void **state)
{
    (void)state;
    struct names_nearest nearest;
    names_nearest_init(&nearest, "on_ful");
    names_nearest_offer(&nearest, "on_failure");
    names_nearest_offer(&nearest, "on_full");
    names_nearest_offer(&nearest, "admin");
    assert_string_equal(nearest.best, "on_full");
    names_nearest_init(&nearest, "zebra");
    names_nearest_offer(&nearest, "admin");
    assert_null(nearest.best);
}

// Whatever is quoted, a message goes into JSON and on a terminal.
static void test_error_is_printable(void **state)
{
    (void)state;
    struct error error;
    error_set(&error, PATCHBAY_ERROR_BAD_VALUE, "f\xff", "a\x1b[2Jb\n\xc3\x28 \xe2\x82 \xf0\x9f\x98\x80 %s",
              "\xed\xa0\x80|\xc0\xaf|\xf5\x80\x80\x80|ä");
    assert_string_equal(error.field, "f?");
    assert_string_equal(error.message, "a?[2Jb?"
                                       "?( ? \xf0\x9f\x98\x80 ?|?|?|ä");
    char text[1000];
    memset(text, 'x', sizeof(text));
    memcpy(text + 510, "ä", 2);
    text[999] = '\0';
    error_set(&error, PATCHBAY_ERROR_BAD_VALUE, NULL, "%s", text);
    assert_int_equal(strlen(error.message), 511);
    assert_string_equal(error.message + 509, "x?");
    assert_string_equal(error_code_name(PATCHBAY_ERROR_CAP_NOT_SUPPORTED), "CapNotSupported");
    assert_int_equal(error_http_status(PATCHBAY_ERROR_CAP_NOT_SUPPORTED), 472);
    assert_int_equal(error_http_status(PATCHBAY_ERROR_MALFORMED), 400);
    assert_int_equal(error_http_status(PATCHBAY_ERROR_STORAGE_FULL), 507);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_valid),
        cmocka_unit_test(test_distance),
        cmocka_unit_test(test_nearest),
        cmocka_unit_test(test_error_is_printable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
