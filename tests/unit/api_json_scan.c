// SPDX-License-Identifier: Apache-2.0
#include "testing.h"

#include <stdio.h>
#include <string.h>

#include "api/json_scan.h"

static int scan(const char *text, size_t len, struct strbuf *out)
{
    struct error error = {0};
    int err = json_scan(text, len, out, &error);
    assert_int_equal(err != 0, error.code != ERR_NONE);
    if (err != 0) {
        assert_int_equal(error.code, ERR_BAD_JSON);
        assert_true(error.detail[0] != '\0');
    }
    return err;
}

static void what_json_is_is_taken(void **state)
{
    static const struct {
        const char *text;
        const char *canonical;
    } cases[] = {
        {"{}", "{}"},
        {" { } \r\n\t", "{}"},
        {"[]", "[]"},
        {"{\"a\" : [ 1 , 2 ] }", "{\"a\":[\"\3771\",\"\3772\"]}"},
        {"-0", "\"\xff-0\""},
        {"18446744073709551616", "\"\37718446744073709551616\""},
        {"1.5e+30", "\"\3771.5e+30\""},
        {"0.1", "\"\3770.1\""},
        {"true", "true"},
        {"null", "null"},
        {"\"\\u00e4\\ud83d\\ude00\"", "\"\\u00e4\\ud83d\\ude00\""},
        {"\"\xc3\xa4\xf0\x9f\x98\x80\"", "\"\xc3\xa4\xf0\x9f\x98\x80\""},
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\""},
        {"\"a b\"", "\"a b\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct strbuf out = STRBUF_INIT;
        assert_int_equal(scan(cases[i].text, strlen(cases[i].text), &out), 0);
        assert_string_equal(strbuf_str(&out), cases[i].canonical);
        cJSON *tree = cJSON_ParseWithLength(out.data, out.len);
        assert_non_null(tree);
        cJSON_Delete(tree);
        strbuf_fini(&out);
    }
}

static void what_json_is_not_is_refused(void **state)
{
    static const char *const cases[] = {
        "",
        " ",
        "{",
        "}",
        "[",
        "]",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\" 1}",
        "{1:1}",
        "{}{}",
        "{} x",
        "[1 2]",
        "{\"a\":1 \"b\":2}",
        "01",
        "-",
        "-a",
        "+1",
        ".5",
        "1.",
        "1.e1",
        "1e",
        "1e+",
        "0x10",
        "1_000",
        "NaN",
        "Infinity",
        "-Infinity",
        "tru",
        "TRUE",
        "True",
        "nul",
        "undefined",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\x41\"",
        "\"\\u12\"",
        "\"\\u12g4\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"\\ud800x\"",
        "\"\\ud800\\u0041\"",
        "\"\\udc00\"",
        "\"a\nb\"",
        "\"\x01\"",
        "// c\n{}",
        "/* c */{}",
        "\xef\xbb\xbf{}",
        "\"\x80\"",
        "\"\xc0\x80\"",
        "\"\xed\xa0\x80\"",
        "\"\xf4\x90\x80\x80\"",
        "\"\xe2\x82\"",
        "\"\xff\"",
        "[\"\3771\"]",
        "\xff",
        "{\"\xff\":1}",
        "\v{}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct strbuf out = STRBUF_INIT;
        if (scan(cases[i], strlen(cases[i]), &out) == 0) {
            fail_msg("taken: %s", cases[i]);
        }
        strbuf_fini(&out);
    }
}

static void a_nul_byte_is_refused_wherever_it_is(void **state)
{
    static const char *const cases[] = {"\0{}", "{\0}", "{}\0", "{\"a\0\":1}", "[1\0]", "\"\\\0\""};
    static const size_t lens[] = {3, 3, 3, 8, 4, 4};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct strbuf out = STRBUF_INIT;
        assert_int_not_equal(scan(cases[i], lens[i], &out), 0);
        strbuf_fini(&out);
    }
}

static void nest(struct strbuf *text, unsigned depth, const char *open, const char *close)
{
    for (unsigned i = 0; i < depth; i++) {
        strbuf_puts(text, open);
    }
    strbuf_puts(text, "1");
    for (unsigned i = 0; i < depth; i++) {
        strbuf_puts(text, close);
    }
}

static void depth_is_limited(void **state)
{
    static const char *const pairs[][2] = {{"[", "]"}, {"{\"a\":", "}"}};
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        for (unsigned depth = JSON_DEPTH_MAX; depth <= JSON_DEPTH_MAX + 1; depth++) {
            struct strbuf text = STRBUF_INIT;
            struct strbuf out = STRBUF_INIT;
            nest(&text, depth, pairs[i][0], pairs[i][1]);
            assert_int_equal(scan(text.data, text.len, &out) == 0, depth == JSON_DEPTH_MAX);
            strbuf_fini(&text);
            strbuf_fini(&out);
        }
    }
    /* A million brackets cost neither stack nor time. */
    char *deep = malloc(1000000);
    struct strbuf out = STRBUF_INIT;
    memset(deep, '[', 1000000);
    assert_int_not_equal(scan(deep, 1000000, &out), 0);
    strbuf_fini(&out);
    free(deep);
}

static void the_number_of_values_is_limited(void **state)
{
    (void)state;
    for (unsigned n = JSON_VALUES_MAX - 1; n <= JSON_VALUES_MAX; n++) {
        struct strbuf text = STRBUF_INIT;
        struct strbuf out = STRBUF_INIT;
        strbuf_puts(&text, "[0");
        for (unsigned i = 1; i < n; i++) {
            strbuf_puts(&text, ",0");
        }
        strbuf_puts(&text, "]");
        assert_int_equal(scan(text.data, text.len, &out) == 0, n == JSON_VALUES_MAX - 1);
        strbuf_fini(&text);
        strbuf_fini(&out);
    }
}

static void an_error_says_where(void **state)
{
    struct error error = {0};
    struct strbuf out = STRBUF_INIT;
    (void)state;
    assert_int_not_equal(json_scan("{\n \"a\": 01}", 11, &out, &error), 0);
    assert_string_equal(error.detail, "Line 2, byte 8: a number has a leading zero.");
    strbuf_fini(&out);
}

static void the_body_has_to_be_an_object(void **state)
{
    static const char *const cases[] = {"[]", "1", "\"a\"", "true", "null"};
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct json_doc doc;
        struct error error = {0};
        assert_int_not_equal(json_doc_parse(&doc, cases[i], strlen(cases[i]), &error), 0);
        assert_int_equal(error.code, ERR_BAD_JSON);
    }
    struct json_doc doc;
    struct error error = {0};
    assert_int_equal(json_doc_parse(&doc, "", 0, &error), 0);
    assert_string_equal(strbuf_str(&doc.canonical), "{}");
    json_doc_free(&doc);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_json_is_is_taken),
        cmocka_unit_test(what_json_is_not_is_refused),
        cmocka_unit_test(a_nul_byte_is_refused_wherever_it_is),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(the_number_of_values_is_limited),
        cmocka_unit_test(an_error_says_where),
        cmocka_unit_test(the_body_has_to_be_an_object),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
