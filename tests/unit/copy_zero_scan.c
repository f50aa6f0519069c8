// SPDX-License-Identifier: Apache-2.0
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/random.h"
#include "base/slice.h"
#include "replication/zero_scan.h"

enum { GRANULE = 64, SHORTEST = 512, MAX_RUNS = 64 };

/* The runs as one would find them by looking at every granule. */
static unsigned plain_scan(const uint8_t *data, size_t len, struct zero_run *runs)
{
    unsigned n_runs = 0;
    size_t data_start = 0;
    for (size_t at = 0; at < len;) {
        size_t end = at;
        while (end < len && mem_is_zero(data + end, len - end < GRANULE ? len - end : GRANULE)) {
            end = end + GRANULE < len ? end + GRANULE : len;
        }
        if (end - at >= SHORTEST || (at == 0 && end == len)) {
            if (at > data_start) {
                runs[n_runs++] = (struct zero_run){data_start, at - data_start, false};
            }
            runs[n_runs++] = (struct zero_run){at, end - at, true};
            data_start = end;
        }
        at = end > at ? end : at + GRANULE;
    }
    if (data_start < len) {
        runs[n_runs++] = (struct zero_run){data_start, len - data_start, false};
    }
    return n_runs;
}

static void finds_what_looking_everywhere_finds(void **state)
{
    (void)state;
    static uint8_t data[16384];
    struct random random;
    for (unsigned seed = 0; seed < 20000; seed++) {
        random_seed(&random, seed);
        size_t len = 1 + random_below(&random, sizeof(data));
        memset(data, 0, sizeof(data));
        for (uint64_t n = random_below(&random, 12); n > 0; n--) {
            size_t at = random_below(&random, len);
            size_t run = 1 + random_below(&random, random_chance(&random, 1, 2) ? 4 : len - at);
            random_fill(&random, data + at, run < len - at ? run : len - at);
        }
        struct zero_run expected[MAX_RUNS], found[MAX_RUNS];
        unsigned n_expected = plain_scan(data, len, expected);
        unsigned n_found = zero_scan(data, len, GRANULE, SHORTEST, found, MAX_RUNS);
        assert_int_equal(n_found, n_expected);
        for (unsigned i = 0; i < n_found; i++) {
            assert_int_equal(found[i].offset, expected[i].offset);
            assert_int_equal(found[i].len, expected[i].len);
            assert_int_equal(found[i].zero, expected[i].zero);
        }
    }
}

static void more_runs_than_there_is_room_for_stay_data(void **state)
{
    (void)state;
    static uint8_t data[16384];
    memset(data, 0, sizeof(data));
    for (size_t at = 0; at < sizeof(data); at += 1024) {
        memset(data + at, 0xff, 512);
    }
    for (unsigned max = 1; max <= 40; max++) {
        struct zero_run runs[40];
        unsigned n_runs = zero_scan(data, sizeof(data), GRANULE, SHORTEST, runs, max);
        assert_in_range(n_runs, 1, max);
        size_t at = 0;
        for (unsigned i = 0; i < n_runs; i++) {
            assert_int_equal(runs[i].offset, at);
            assert_true(!runs[i].zero || mem_is_zero(data + at, runs[i].len));
            at += runs[i].len;
        }
        assert_int_equal(at, sizeof(data));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_what_looking_everywhere_finds),
        cmocka_unit_test(more_runs_than_there_is_room_for_stay_data),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
