// SPDX-License-Identifier: Apache-2.0
#include "testing.h"

#include <string.h>

#include "api/json_out.h"
#include "api/json_scan.h"

static void strings_are_escaped(void **state)
{
    static const struct {
        const char *text;
        const char *json;
    } cases[] = {
        {"", "\"\""},
        {"plain", "\"plain\""},
        {"\"\\/", "\"\\\"\\\\/\""},
        {"a\nb\rc\td", "\"a\\nb\\rc\\td\""},
        {"\x01\x1f\x7f", "\"\\u0001\\u001f\\u007f\""},
        {"\b\f", "\"\\u0008\\u000c\""},
        {"\xc3\xbc \xf0\x9f\x98\x80", "\"\xc3\xbc \xf0\x9f\x98\x80\""},
        {"\xff", "\"\xef\xbf\xbd\""},
        {"a\xc3", "\"a\xef\xbf\xbd\""},
        {"\xc3(", "\"\xef\xbf\xbd(\""},
        {"\xed\xa0\x80", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
        {"</script>", "\"</script>\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct strbuf buf = STRBUF_INIT;
        json_out_string(&buf, cases[i].text);
        assert_string_equal(strbuf_str(&buf), cases[i].json);
        strbuf_fini(&buf);
    }
}

/* Whatever bytes are written, what comes out is JSON. */
static void every_pair_of_bytes_gives_valid_json(void **state)
{
    (void)state;
    for (unsigned a = 1; a < 256; a++) {
        for (unsigned b = 1; b < 256; b++) {
            char text[3] = {(char)a, (char)b, '\0'};
            struct strbuf buf = STRBUF_INIT;
            struct strbuf scanned = STRBUF_INIT;
            struct error error;
            json_out_string(&buf, text);
            assert_int_equal(json_scan(buf.data, buf.len, &scanned, &error), 0);
            strbuf_fini(&scanned);
            strbuf_fini(&buf);
        }
    }
}

/* Texts are looked at several bytes at a time. */
static void a_byte_is_escaped_wherever_it_stands(void **state)
{
    enum { LEN = 25 };
    (void)state;
    for (unsigned c = 1; c < 256; c++) {
        char alone[2] = {(char)c, '\0'};
        struct strbuf one = STRBUF_INIT;
        json_out_string(&one, alone);
        strbuf_truncate(&one, one.len - 1);
        for (unsigned at = 0; at < LEN; at++) {
            char text[LEN + 1] = "abcdefghijklmnopqrstuvwxy";
            struct strbuf buf = STRBUF_INIT;
            struct strbuf expected = STRBUF_INIT;
            strbuf_printf(&expected, "\"%.*s%s%s\"", (int)at, text, strbuf_str(&one) + 1,
                          text + at + 1);
            text[at] = (char)c;
            json_out_string(&buf, text);
            assert_string_equal(strbuf_str(&buf), strbuf_str(&expected));
            strbuf_fini(&expected);
            strbuf_fini(&buf);
        }
        strbuf_fini(&one);
    }
}

static void objects_and_arrays_are_well_formed(void **state)
{
    struct strbuf buf = STRBUF_INIT;
    struct json_out json;
    (void)state;
    json_out_init(&json, &buf);
    out_begin_object(&json.out, NULL);
    out_begin_array(&json.out, "Empty");
    out_end_array(&json.out);
    out_begin_array(&json.out, "Members");
    out_begin_object(&json.out, NULL);
    out_end_object(&json.out);
    out_begin_object(&json.out, NULL);
    out_number(&json.out, "a", 0);
    out_number(&json.out, "b", UINT64_MAX);
    out_end_object(&json.out);
    out_number(&json.out, NULL, 10);
    out_text(&json.out, NULL, "x");
    out_null(&json.out, NULL);
    out_end_array(&json.out);
    out_bool(&json.out, "Yes", true);
    out_bool(&json.out, "No", false);
    out_text(&json.out, "Nothing", NULL);
    out_raw(&json.out, "Raw", "{\"k\":[1]}");
    out_raw(&json.out, "NoRaw", "");
    out_end_object(&json.out);
    assert_string_equal(strbuf_str(&buf),
                        "{\"Empty\":[],\"Members\":[{},{\"a\":0,\"b\":18446744073709551615},10,"
                        "\"x\",null],\"Yes\":true,\"No\":false,\"Nothing\":null,"
                        "\"Raw\":{\"k\":[1]},\"NoRaw\":null}");
    strbuf_fini(&buf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(strings_are_escaped),
        cmocka_unit_test(every_pair_of_bytes_gives_valid_json),
        cmocka_unit_test(a_byte_is_escaped_wherever_it_stands),
        cmocka_unit_test(objects_and_arrays_are_well_formed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
