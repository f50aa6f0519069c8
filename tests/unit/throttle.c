// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/loop.h"
#include "replication/throttle.h"

/* Takes pieces of len as early as allowed for span_ns; answers the bytes. */
static uint64_t drive(struct throttle *throttle, uint64_t len, uint64_t *now_ns, uint64_t span_ns)
{
    uint64_t end_ns = *now_ns + span_ns;
    uint64_t bytes = 0;
    while (*now_ns < end_ns) {
        if (throttle_take(throttle, len, *now_ns)) {
            bytes += len;
            continue;
        }
        uint64_t wait_ns = throttle_wait_ns(throttle, *now_ns);
        assert_true(wait_ns > 0);
        *now_ns += wait_ns;
    }
    return bytes;
}

static void without_a_rate_everything_passes(void **state)
{
    (void)state;
    struct throttle throttle = {0};
    for (unsigned i = 0; i < 1000; i++) {
        assert_true(throttle_take(&throttle, UINT64_MAX, 0));
    }
    assert_int_equal(throttle_wait_ns(&throttle, 0), 0);
}

static void rate_is_kept_for_any_size_of_request(void **state)
{
    (void)state;
    static const uint64_t rates[] = {1000, 1000000, 123456789, 5000000000};
    static const uint64_t lens[] = {1, 512, 65536, 1048576};
    for (unsigned r = 0; r < 4; r++) {
        for (unsigned l = 0; l < 4; l++) {
            if (rates[r] / lens[l] > 1000000) {
                continue; /* too many steps */
            }
            struct throttle throttle = {0};
            uint64_t now_ns = 77;
            throttle_set(&throttle, rates[r], now_ns);
            uint64_t bytes = drive(&throttle, lens[l], &now_ns, 10 * SEC_NS);
            uint64_t expected = rates[r] * 10;
            assert_in_range(
                bytes,
                expected > lens[l] + expected / 1000 ? expected - lens[l] - expected / 1000 : 0,
                expected + expected / 1000 + lens[l] + rates[r] / 20);
        }
    }
}

static void idle_time_is_saved_up_only_as_a_short_burst(void **state)
{
    (void)state;
    struct throttle throttle = {0};
    uint64_t now_ns = 0;
    throttle_set(&throttle, 1000000, now_ns);
    now_ns += 3600 * SEC_NS;
    uint64_t bytes = 0;
    while (throttle_take(&throttle, 1000, now_ns)) {
        bytes += 1000;
    }
    assert_in_range(bytes, 50000, 52000); /* 50 ms of the rate */
}

static void new_rate_counts_from_now(void **state)
{
    (void)state;
    struct throttle throttle = {0};
    throttle_set(&throttle, 1, 0);
    assert_true(throttle_take(&throttle, 1000000, 0)); /* to be paid for in 11 days */
    assert_false(throttle_take(&throttle, 1, SEC_NS));
    throttle_set(&throttle, 1000, SEC_NS);
    assert_true(throttle_take(&throttle, 1000, SEC_NS));
    assert_false(throttle_take(&throttle, 1, SEC_NS));
    assert_int_equal(throttle_wait_ns(&throttle, SEC_NS), SEC_NS);
}

static void huge_debts_do_not_overflow(void **state)
{
    (void)state;
    struct throttle throttle = {0};
    throttle_set(&throttle, 1, UINT64_MAX / 2);
    assert_true(throttle_take(&throttle, UINT64_MAX, UINT64_MAX / 2));
    assert_false(throttle_take(&throttle, 1, UINT64_MAX / 2 + 1));
    assert_true(throttle_wait_ns(&throttle, UINT64_MAX / 2 + 1) > SEC_NS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_a_rate_everything_passes),
        cmocka_unit_test(rate_is_kept_for_any_size_of_request),
        cmocka_unit_test(idle_time_is_saved_up_only_as_a_short_burst),
        cmocka_unit_test(new_rate_counts_from_now),
        cmocka_unit_test(huge_debts_do_not_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
