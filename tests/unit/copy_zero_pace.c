// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include "base/loop.h"
#include "replication/zero_pace.h"

/* It only notes them: whatever the length, it takes the same. */
static void a_device_that_notes_zeros_gets_many(void **state)
{
    struct zero_pace pace;
    (void)state;
    zero_pace_init(&pace, ZERO_PACE_LEAST);
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(pace.max, ZERO_PACE_LEAST << i);
        zero_pace_done(&pace, pace.max, 2 * MS_NS);
    }
    assert_int_equal(pace.max, ZERO_PACE_MOST);
    zero_pace_done(&pace, pace.max, MS_NS);
    assert_int_equal(pace.max, ZERO_PACE_MOST);
}

/* 10 ms for each MiB. */
static void a_device_that_writes_zeros_gets_few(void **state)
{
    struct zero_pace pace;
    (void)state;
    zero_pace_init(&pace, ZERO_PACE_MOST);
    /* A short one tells what the shortest takes, and nothing else. */
    zero_pace_done(&pace, 64 << 10, 10 * MS_NS / 16);
    assert_int_equal(pace.max, ZERO_PACE_MOST);
    for (unsigned i = 0; i < 20; i++) {
        zero_pace_done(&pace, pace.max, (pace.max >> 20) * 10 * MS_NS);
        assert_true(pace.max >= ZERO_PACE_LEAST);
    }
    assert_int_equal(pace.max, ZERO_PACE_LEAST);
}

/* Between fast and slow nothing changes. */
static void it_comes_to_rest(void **state)
{
    struct zero_pace pace;
    (void)state;
    zero_pace_init(&pace, 4 * ZERO_PACE_LEAST);
    zero_pace_done(&pace, 4096, MS_NS);
    for (unsigned i = 0; i < 20; i++) {
        zero_pace_done(&pace, pace.max, 6 * MS_NS);
        assert_int_equal(pace.max, 4 * ZERO_PACE_LEAST);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_device_that_notes_zeros_gets_many),
        cmocka_unit_test(a_device_that_writes_zeros_gets_few),
        cmocka_unit_test(it_comes_to_rest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
