// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/random.h"
#include "base/timefmt.h"

static void points_in_time_are_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } table[] = {
        {"1970-01-01T00:00:00Z", 0},
        {"1970-01-01T00:00:00.001Z", 1},
        {"2000-02-29T23:59:59Z", 951868799000},
        {"2025-01-02T03:04:05.678Z", 1735787045678},
        {"2025-01-02T03:04:05.6789999Z", 1735787045678},
        {"2025-01-02T03:04:05.6Z", 1735787045600},
        {"2025-01-02t03:04:05z", 1735787045000},
        {"2025-01-02 03:04:05Z", 1735787045000},
        {"2025-01-02T05:34:05+02:30", 1735787045000},
        {"2025-01-01T22:04:05-05:00", 1735787045000},
        {"1970-01-01T01:00:00+01:00", 0},
        {"2016-12-31T23:59:60Z", 1483228800000},
        {"9999-12-31T23:59:59.999Z", 253402300799999},
        {"20250102030405.678000+000", 1735787045678},
        {"20250102053405.678999+150", 1735787045678},
        {"20250101220405.000000-300", 1735787045000},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        uint64_t ms = 1;
        int err = timefmt_parse_time(table[i].text, &ms);
        if (err || ms != table[i].ms) {
            fail_msg("%s: %d, %llu", table[i].text, err, (unsigned long long)ms);
        }
    }
}

static void bad_points_in_time_are_refused(void **state)
{
    (void)state;
    static const char *const table[] = {
        "",
        "2025",
        "2025-01-02",
        "2025-01-02T03:04:05",
        "2025-01-02T03:04Z",
        "2025-13-01T00:00:00Z",
        "2025-00-01T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "2025-04-31T00:00:00Z",
        "2025-01-00T00:00:00Z",
        "2025-01-01T24:00:00Z",
        "2025-01-01T00:60:00Z",
        "2025-01-01T00:00:61Z",
        "2025-01-01T00:00:00.Z",
        "2025-01-01T00:00:00Zx",
        "2025-01-01T00:00:00+1",
        "2025-01-01T00:00:00+24:00",
        "2025-01-01T00:00:00+00:60",
        "2025-01-01T00:00:00+0000",
        "+2025-01-01T00:00:00Z",
        "2025-1-1T00:00:00Z",
        "20250102030405.678000:000",
        "20250102030405.67800 +000",
        "2025****030405.678000+000",
        "20251302030405.678000+000",
        "20250102030405,678000+000",
        "20250102030405.678000+00x",
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        uint64_t ms;
        if (timefmt_parse_time(table[i], &ms) != -EINVAL) {
            fail_msg("accepted: '%s'", table[i]);
        }
    }
    uint64_t ms;
    assert_int_equal(timefmt_parse_time("1969-12-31T23:59:59Z", &ms), -ERANGE);
    assert_int_equal(timefmt_parse_time("0000-01-01T00:00:00Z", &ms), -ERANGE);
}

static void formatting_agrees_with_the_c_library_and_parses_back(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 21);
    for (int i = 0; i < 20000; i++) {
        uint64_t ms =
            i < 800 ? (uint64_t)i * 86400000 * 31 : random_below(&random, 253402300800000);
        char text[TIMEFMT_SIZE];
        char expected[TIMEFMT_SIZE];
        time_t seconds = (time_t)(ms / 1000);
        struct tm tm;
        gmtime_r(&seconds, &tm);
        size_t len = strftime(expected, sizeof(expected), "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(expected + len, sizeof(expected) - len, ".%03uZ", (unsigned)(ms % 1000));
        timefmt_rfc3339(ms, text);
        assert_string_equal(text, expected);
        uint64_t back;
        assert_int_equal(timefmt_parse_time(text, &back), 0);
        assert_int_equal(back, ms);
    }
    char text[TIMEFMT_SIZE];
    timefmt_rfc3339(UINT64_MAX, text);
    assert_true(strlen(text) < TIMEFMT_SIZE);
}

#define DAY 86400000ull

static void durations_are_parsed(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t ms;
    } table[] = {
        {"PT30S", 30000},
        {"PT0S", 0},
        {"PT0.5S", 500},
        {"PT0,5S", 500},
        {"PT1.5H", 5400000},
        {"PT0.0001S", 1},
        {"PT0.00000000000001S", 1},
        {"PT0.000S", 0},
        {"P1D", DAY},
        {"P2W", 14 * DAY},
        {"P1DT2H3M4.5S", DAY + 7384500},
        {"PT90M", 5400000},
        {"P0.5D", DAY / 2},
        {"P1W1D", 8 * DAY},
        {"500ms", 500},
        {"0s", 0},
        {"30s", 30000},
        {"1.5s", 1500},
        {"5m", 300000},
        {"2h", 7200000},
        {"1d", DAY},
        {"00000000000030.000000:000", 30000},
        {"00000001020304.500000:000", DAY + 7384500},
        {"00000000000000.000001:000", 1},
        {"99999999235959.999000:000", 99999999 * DAY + 86399999},
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        uint64_t ms = 77;
        int err = timefmt_parse_duration(table[i].text, &ms);
        if (err || ms != table[i].ms) {
            fail_msg("%s: %d, %llu", table[i].text, err, (unsigned long long)ms);
        }
    }
}

static void bad_durations_are_refused(void **state)
{
    (void)state;
    static const char *const table[] = {
        "",
        "P",
        "PT",
        "P1DT",
        "T30S",
        "30",
        "s",
        "-5s",
        "+5s",
        "5 s",
        "5S",
        "5sec",
        " 5s",
        "P1Y",
        "P1M",
        "PT1D",
        "P1H",
        "PT5",
        "PT1S1M",
        "PT1S1S",
        "PT1.5M1S",
        "PT.5S",
        "PT5.S",
        "P-1D",
        "-P1D",
        "PTT1S",
        "pt1s",
        "PT1Sx",
        "00000000240000.000000:000",
        "00000000006000.000000:000",
        "00000000000060.000000:000",
        "00000000000030.000000+000",
        "00000000000030.000000:001",
        "0000000000003*.000000:000",
    };
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        uint64_t ms;
        if (timefmt_parse_duration(table[i], &ms) != -EINVAL) {
            fail_msg("accepted: '%s'", table[i]);
        }
    }
    uint64_t ms;
    assert_int_equal(timefmt_parse_duration("18446744073709551616s", &ms), -ERANGE);
    assert_int_equal(timefmt_parse_duration("18446744073709551615ms", &ms), 0);
    assert_int_equal(timefmt_parse_duration("18446744073709551615.1ms", &ms), -ERANGE);
    assert_int_equal(timefmt_parse_duration("18446744073709552s", &ms), -ERANGE);
    assert_int_equal(timefmt_parse_duration("P99999999999999999D", &ms), -ERANGE);
}

static void durations_are_formatted_and_parse_back(void **state)
{
    (void)state;
    static const struct {
        uint64_t ms;
        const char *text;
    } table[] = {
        {0, "PT0S"},
        {1, "PT0.001S"},
        {500, "PT0.5S"},
        {30000, "PT30S"},
        {60000, "PT1M"},
        {3600000, "PT1H"},
        {3601000, "PT1H1S"},
        {DAY, "P1D"},
        {DAY + 7200000, "P1DT2H"},
        {DAY + 20, "P1DT0.02S"},
        {8 * DAY + 7384500, "P8DT2H3M4.5S"},
    };
    char text[TIMEFMT_SIZE];
    for (size_t i = 0; i < ARRAY_LEN(table); i++) {
        timefmt_duration(table[i].ms, text);
        assert_string_equal(text, table[i].text);
    }
    struct random random;
    random_seed(&random, 4);
    for (int i = 0; i < 20000; i++) {
        uint64_t ms = random_u64(&random) >> random_below(&random, 64);
        uint64_t back;
        timefmt_duration(ms, text);
        assert_int_equal(timefmt_parse_duration(text, &back), 0);
        assert_true(back == ms);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_in_time_are_parsed),
        cmocka_unit_test(bad_points_in_time_are_refused),
        cmocka_unit_test(formatting_agrees_with_the_c_library_and_parses_back),
        cmocka_unit_test(durations_are_parsed),
        cmocka_unit_test(bad_durations_are_refused),
        cmocka_unit_test(durations_are_formatted_and_parse_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
