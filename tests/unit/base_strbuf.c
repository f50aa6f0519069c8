// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <errno.h>
#include <string.h>

#include "base/strbuf.h"

static void text_grows_and_ends_with_zero(void **state)
{
    (void)state;
    struct strbuf buf = STRBUF_INIT;
    assert_string_equal(strbuf_str(&buf), "");
    char expected[4001] = "";
    for (int i = 0; i < 1000; i++) {
        strbuf_putc(&buf, 'a');
        strbuf_puts(&buf, "bc");
        strbuf_printf(&buf, "%d", i % 10);
        memcpy(expected + 4 * i, (char[]){'a', 'b', 'c', (char)('0' + i % 10)}, 4);
        assert_int_equal(buf.len, strlen(strbuf_str(&buf)));
    }
    assert_string_equal(strbuf_str(&buf), expected);
    assert_int_equal(strbuf_error(&buf), 0);
    strbuf_fini(&buf);
}

static void printf_of_every_length_is_whole(void **state)
{
    (void)state;
    for (int n = 0; n < 300; n++) {
        struct strbuf buf;
        strbuf_init(&buf);
        strbuf_printf(&buf, "%*s", n, "");
        assert_int_equal(buf.len, n);
        strbuf_printf(&buf, "%s%s", "xyz", "!");
        assert_int_equal(buf.len, n + 4);
        assert_string_equal(strbuf_str(&buf) + n, "xyz!");
        strbuf_fini(&buf);
    }
}

static void bytes_may_contain_zero(void **state)
{
    (void)state;
    struct strbuf buf = STRBUF_INIT;
    strbuf_add(&buf, "a\0b", 3);
    strbuf_add(&buf, NULL, 0);
    assert_int_equal(buf.len, 3);
    assert_memory_equal(buf.data, "a\0b", 4);
    strbuf_truncate(&buf, 1);
    assert_string_equal(strbuf_str(&buf), "a");
    strbuf_reset(&buf);
    assert_string_equal(strbuf_str(&buf), "");
    strbuf_fini(&buf);
}

static void an_error_stays_and_nothing_is_added_after_it(void **state)
{
    (void)state;
    struct strbuf buf = STRBUF_INIT;
    strbuf_puts(&buf, "ok");
    strbuf_add(&buf, "x", SIZE_MAX / 2);
    assert_int_equal(strbuf_error(&buf), -EOVERFLOW);
    strbuf_puts(&buf, "more");
    strbuf_printf(&buf, "%s", "more");
    strbuf_printf(&buf, "%0200d", 1);
    assert_string_equal(strbuf_str(&buf), "ok");
    assert_null(strbuf_steal(&buf));
    strbuf_puts(&buf, "new");
    assert_int_equal(strbuf_error(&buf), 0);
    strbuf_fini(&buf);
}

static void what_is_written_by_hand_is_added(void **state)
{
    (void)state;
    struct strbuf buf = STRBUF_INIT;
    for (size_t i = 0; i < 1000; i++) {
        char *room = strbuf_room(&buf, 7);
        assert_non_null(room);
        memcpy(room, "abcdefg", 7);
        strbuf_wrote(&buf, i % 8);
        assert_int_equal(strlen(strbuf_str(&buf)), buf.len);
    }
    assert_int_equal(buf.len, 3500);
    assert_memory_equal(buf.data, "aababcabcdabcdeabcdefabcdefga", 29);
    strbuf_add(&buf, "x", SIZE_MAX / 2);
    assert_null(strbuf_room(&buf, 1));
    strbuf_fini(&buf);
}

static void stealing_leaves_an_empty_buffer(void **state)
{
    (void)state;
    struct strbuf buf = STRBUF_INIT;
    char *text = strbuf_steal(&buf);
    assert_string_equal(text, "");
    free(text);
    strbuf_puts(&buf, "hello");
    text = strbuf_steal(&buf);
    assert_string_equal(text, "hello");
    assert_int_equal(buf.len, 0);
    free(text);
    strbuf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_grows_and_ends_with_zero),
        cmocka_unit_test(printf_of_every_length_is_whole),
        cmocka_unit_test(bytes_may_contain_zero),
        cmocka_unit_test(an_error_stays_and_nothing_is_added_after_it),
        cmocka_unit_test(what_is_written_by_hand_is_added),
        cmocka_unit_test(stealing_leaves_an_empty_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
