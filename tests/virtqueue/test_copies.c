// SPDX-License-Identifier: BSD-3-Clause

// Every variant of the copies that this CPU can run, not only the one that
// copy_init would choose: each length and offset, up to pages that nobody may
// touch, and not a byte beside.

#include "dataplane/copy.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROOM = 16384 };

static const struct {
    const char *name;
    void (*large)(uint8_t *dst, const uint8_t *src, size_t len);
    void (*twice)(uint8_t *dst, uint8_t *dst2, const uint8_t *src, size_t len);
} variants[] = {
    {"sse", copy_large_sse, copy_large_twice_sse},
    {"avx2", copy_large_avx2, copy_large_twice_avx2},
    {"avx512", copy_large_avx512, copy_large_twice_avx512},
};

static bool runs_here(unsigned variant)
{
    __builtin_cpu_init();
    return variant == 0 || (variant == 1 && __builtin_cpu_supports("avx2")) ||
           (variant == 2 && __builtin_cpu_supports("avx512f"));
}

// ROOM bytes that end just before a page that can't be touched, and begin just
// behind one.
static uint8_t *guarded(void)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *map = mmap(NULL, ROOM + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    assert_true(map != MAP_FAILED);
    assert_int_equal(0, mprotect(map + page, ROOM, PROT_READ | PROT_WRITE));
    return map + page;
}

static uint8_t *src, *dst, *dst2;

static void one(size_t len, size_t src_at, size_t dst_at, size_t dst2_at)
{
    const size_t around = 70;

    for (unsigned twice = 0; twice < 2; twice++) {
        uint8_t *to[] = {dst + dst_at, dst2 + dst2_at};

        for (unsigned i = 0; i < 2; i++) {
            size_t before = (size_t)(to[i] - (i == 0 ? dst : dst2)), after = ROOM - before - len;

            memset(to[i] - (before < around ? before : around), 0xa5,
                   (before < around ? before : around) + len + (after < around ? after : around));
        }
        if (twice)
            copy_bytes_twice(to[0], to[1], src + src_at, len);
        else
            copy_bytes(to[0], src + src_at, len);
        for (unsigned i = 0; i <= twice; i++) {
            size_t before = (size_t)(to[i] - (i == 0 ? dst : dst2)), after = ROOM - before - len;

            assert_memory_equal(src + src_at, to[i], len);
            for (size_t k = 1; k <= around; k++) {
                if (k <= before)
                    assert_int_equal(0xa5, to[i][-(ptrdiff_t)k]);
                if (k <= after)
                    assert_int_equal(0xa5, to[i][len + k - 1]);
            }
        }
    }
}

static void test_copies(void **state)
{
    (void)state;
    src = guarded();
    dst = guarded();
    dst2 = guarded();
    for (size_t i = 0; i < ROOM; i++)
        src[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + 1) == 0xa5 ? 0 : (uint8_t)(i * 7 + (i >> 8) * 13 + 1);
    for (unsigned v = 0; v < sizeof(variants) / sizeof(variants[0]); v++) {
        if (!runs_here(v)) {
            print_message("not run: this CPU has no %s\n", variants[v].name);
            continue;
        }
        copy_large = variants[v].large;
        copy_large_twice = variants[v].twice;
        for (size_t len = 0; len <= 9216; len += len < 700 ? 1 : len < 2100 ? 37 : 501) {
            // In front, behind, and across; aligned and not.
            one(len, 0, 0, 0);
            one(len, ROOM - len, ROOM - len, ROOM - len);
            one(len, len % 64, 64 + len % 31, 128 + len % 17);
            one(len, 1, 4095, 4033);
        }
        one(9216, ROOM - 9216, 0, ROOM - 9216);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_copies)};

    return cmocka_run_group_tests_name("virtqueue: copies", tests, NULL, NULL);
}
