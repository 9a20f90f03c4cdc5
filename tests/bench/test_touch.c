// SPDX-License-Identifier: BSD-3-Clause
// What tools/bench calls a touched payload: all of it and nothing else is written, each byte is read.
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tools/bench/frame.h"
#include "tools/bench/touch.h"

enum { LONGEST = 1600, ODD = 3 };

// Blocks end where the frame does, so that AddressSanitizer sees one step too far.
static uint8_t *block(uint32_t len)
{
    uint8_t *start = calloc(1, ODD + len);

    assert_non_null(start);
    return start + ODD;
}

static void all_is_written(void **state)
{
    (void)state;
    for (uint32_t len = FRAME_MIN; len < LONGEST; len++) {
        uint8_t *frame = block(len);

        touch_write(frame, len, UINT64_C(0x0707070707070707));
        for (uint32_t i = 0; i < len; i++)
            assert_int_equal(frame[i], i < FRAME_PAYLOAD_AT ? 0 : 7);
        free(frame - ODD);
    }
}

static void all_is_read(void **state)
{
    (void)state;
    for (uint32_t len = 1; len < LONGEST; len += len < 200 ? 1 : 37) {
        uint8_t *frame = block(len);

        for (uint32_t i = 0; i < len; i++) {
            uint64_t before = touch_read(frame, len);

            frame[i]++;
            assert_true(touch_read(frame, len) != before);
        }
        free(frame - ODD);
    }
}

static int widest(void **state)
{
    (void)state;
    touch_init();
    return 0;
}

int main(void)
{
    const struct CMUnitTest any[] = {cmocka_unit_test(all_is_written), cmocka_unit_test(all_is_read)};

    return cmocka_run_group_tests_name("for any CPU", any, NULL, NULL) +
           cmocka_run_group_tests_name("for this CPU", any, widest, NULL);
}
