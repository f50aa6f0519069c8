// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "base/error.h"

static void every_row_is_complete_and_its_values_are_plausible(void **state)
{
    (void)state;
    for (enum error_code code = 0; code < ERR_COUNT; code++) {
        const struct error_info *info = error_info(code);
        assert_non_null(info->word);
        assert_true(strlen(info->word) > 0);
        assert_true(strlen(info->title) > 0);
        if (code == ERR_NONE) {
            assert_int_equal(info->err, 0);
            assert_int_equal(info->http_status, 200);
        } else {
            assert_true(info->err < 0);
            assert_in_range(info->http_status, 400, 599);
            assert_true(info->return_value != 0);
        }
    }
}

static void code_words_are_unique_and_made_of_lower_case_and_underscores(void **state)
{
    (void)state;
    for (enum error_code a = 0; a < ERR_COUNT; a++) {
        const char *word = error_info(a)->word;
        assert_int_equal(strspn(word, "abcdefghijklmnopqrstuvwxyz_"), strlen(word));
        for (enum error_code b = a + 1; b < ERR_COUNT; b++) {
            assert_string_not_equal(word, error_info(b)->word);
        }
    }
}

static void set_returns_the_errno_and_fills_everything(void **state)
{
    (void)state;
    struct error error;
    memset(&error, 0xff, sizeof(error));
    assert_int_equal(error_set(&error, ERR_NO_SPACE, "needs %d bytes", 7), -ENOSPC);
    assert_int_equal(error.code, ERR_NO_SPACE);
    assert_string_equal(error.detail, "needs 7 bytes");
    assert_string_equal(error.parameter, "");
    assert_string_equal(error.blocked_on, "");

    assert_int_equal(error_param(&error, ERR_BAD_VALUE, "SyncType", "not %s", "6"), -EINVAL);
    assert_string_equal(error.parameter, "SyncType");
    assert_string_equal(error.detail, "not 6");

    assert_int_equal(error_blocked(&error, ERR_IN_USE, "/jobs/1", "held"), -EBUSY);
    assert_string_equal(error.blocked_on, "/jobs/1");
    assert_string_equal(error.parameter, "");
}

static void set_without_a_place_still_returns_the_errno(void **state)
{
    (void)state;
    assert_int_equal(error_set(NULL, ERR_TIMEOUT, "%s", "x"), -ETIMEDOUT);
}

static void a_detail_that_is_too_long_ends_at_a_whole_character(void **state)
{
    (void)state;
    struct error error;
    char text[1024];
    /* A euro sign is three bytes; each shift puts the cut elsewhere. */
    for (size_t shift = 0; shift < 3; shift++) {
        memset(text, 'x', shift);
        for (size_t at = shift; at + 3 < sizeof(text); at += 3) {
            memcpy(text + at, "\xe2\x82\xac", 4);
        }
        error_param(&error, ERR_INTERNAL, text, "%s", text);
        size_t len = strlen(error.detail);
        assert_true(len >= sizeof(error.detail) - 4);
        assert_int_equal((len - shift) % 3, 0);
        assert_int_equal((strlen(error.parameter) - shift) % 3, 0);
    }
    memset(text, 'y', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    error_set(&error, ERR_INTERNAL, "%s", text);
    assert_int_equal(strlen(error.detail), sizeof(error.detail) - 1);
}

static void fail_a_check(void *arg)
{
    CHECK(arg == NULL);
}

static void a_check_aborts_only_when_it_fails(void **state)
{
    (void)state;
    int something;
    assert_true(dies(fail_a_check, &something));
    assert_false(dies(fail_a_check, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_row_is_complete_and_its_values_are_plausible),
        cmocka_unit_test(code_words_are_unique_and_made_of_lower_case_and_underscores),
        cmocka_unit_test(set_returns_the_errno_and_fills_everything),
        cmocka_unit_test(set_without_a_place_still_returns_the_errno),
        cmocka_unit_test(a_detail_that_is_too_long_ends_at_a_whole_character),
        cmocka_unit_test(a_check_aborts_only_when_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
