// SPDX-License-Identifier: Apache-2.0
#include "testing.h"

#include <stdio.h>
#include <string.h>

#include "api/json_args.h"
#include "api_fake.h"

/* Binds members, to which a good Element is added where they have none, to the table Everything. */
static int bind_text(const char *text, size_t len, struct arena *arena, struct values **ret_values,
                     struct error *error)
{
    struct json_doc doc;
    *error = (struct error){0};
    int err = json_doc_parse(&doc, text, len, error);
    if (err == 0) {
        err = json_args(&doc, arena, fake_everything, fake_n_everything, ret_values, error);
        json_doc_free(&doc);
    }
    return err;
}

struct given {
    struct arena arena;
    struct values *values;
    struct error error;
};

/* given_end() follows, whatever it returns. */
static int give(const char *members, struct given *given)
{
    char text[4096];
    int len = strstr(members, "\"Element\"") != NULL
                  ? snprintf(text, sizeof(text), "{%s}", members)
                  : snprintf(text, sizeof(text), "{\"Element\":\"/volumes/1\"%s%s}",
                             members[0] != '\0' ? "," : "", members);
    assert_true(len < (int)sizeof(text));
    *given = (struct given){.values = NULL};
    arena_init(&given->arena);
    return bind_text(text, (size_t)len, &given->arena, &given->values, &given->error);
}

static void given_end(struct given *given)
{
    arena_fini(&given->arena);
}

/* Members that are taken, as in printf(). */
__attribute__((format(printf, 2, 3))) static const struct values *given_ok(struct given *given,
                                                                           const char *format, ...)
{
    char members[1024];
    va_list args;
    va_start(args, format);
    assert_true(vsnprintf(members, sizeof(members), format, args) < (int)sizeof(members));
    va_end(args);
    if (give(members, given) != 0) {
        fail_msg("%s: %s", members, given->error.detail);
    }
    return given->values;
}

static void expect_error(const char *members, enum error_code code, const char *parameter)
{
    struct given given;
    int err = give(members, &given);
    const struct error *error = &given.error;
    if (err == 0 || error->code != code || strcmp(error->parameter, parameter) != 0) {
        fail_msg("%s: got %s for '%s' (%s), not %s for '%s'", members,
                 error_info(error->code)->word, error->parameter, error->detail,
                 error_info(code)->word, parameter);
    }
    assert_null(given.values);
    assert_int_equal(err, error_info(code)->err);
    given_end(&given);
}

/* Every kind of JSON value for every scalar: what does not fit is wrong_type, by name. */
static void a_wrong_type_is_refused_for_every_parameter(void **state)
{
    static const char *const kinds[] = {"\"word\"", "true", "5", "5.5", "{}", "[]", "[5]", "-5"};
    enum { STRING, BOOLEAN, NUMBER, FRACTION, OBJECT, ARRAY, ARRAY5, NEGATIVE };
    static const struct {
        const char *name;
        unsigned fits; /* kinds that are no wrong_type */
        unsigned bad_value;
    } params[] = {
        {"Text", 1 << STRING, 0},
        {"Flag", 1 << BOOLEAN, 0},
        {"Tiny", 1 << NUMBER, 1 << NEGATIVE},
        {"Small", 1 << NUMBER, 1 << NEGATIVE},
        {"Middle", 1 << NUMBER, 1 << NEGATIVE},
        {"Large", 1 << NUMBER, 1 << NEGATIVE | 1 << STRING},
        {"Color", 0, 1 << STRING | 1 << NUMBER | 1 << NEGATIVE},
        {"When", 0, 1 << STRING},
        {"Element", 0, 1 << STRING},
        {"Size", 1 << NUMBER, 1 << NEGATIVE | 1 << STRING},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(params) / sizeof(params[0]); i++) {
        for (unsigned kind = 0; kind < sizeof(kinds) / sizeof(kinds[0]); kind++) {
            char members[200];
            snprintf(members, sizeof(members), "\"%s\":%s", params[i].name, kinds[kind]);
            if ((params[i].fits & 1u << kind) == 0) {
                expect_error(members,
                             (params[i].bad_value & 1u << kind) != 0 ? ERR_BAD_VALUE
                                                                     : ERR_WRONG_TYPE,
                             params[i].name);
            } else {
                struct given given;
                assert_true(args_present(given_ok(&given, "%s", members), params[i].name));
                given_end(&given);
            }
        }
    }
}

static void arrays_want_arrays_and_name_the_entry_that_is_wrong(void **state)
{
    (void)state;
    expect_error("\"Names\":\"one\"", ERR_WRONG_TYPE, "Names");
    expect_error("\"Names\":{}", ERR_WRONG_TYPE, "Names");
    expect_error("\"Names\":[1]", ERR_WRONG_TYPE, "Names[0]");
    expect_error("\"Names\":[\"a\",null,false]", ERR_WRONG_TYPE, "Names[2]");
    expect_error("\"Elements\":[\"/volumes/1\",\"volumes/2\"]", ERR_BAD_VALUE, "Elements[1]");
    expect_error("\"Colors\":[2,\"green\",4]", ERR_BAD_VALUE, "Colors[2]");
    expect_error("\"Names\":[[\"a\"]]", ERR_WRONG_TYPE, "Names[0]");
    expect_error("\"Goals\":[{\"Label\":\"x\"},{\"Label\":\"x\",\"Limits\":[1,-1]}]", ERR_BAD_VALUE,
                 "Goals[1].Limits[1]");
    expect_error("\"Goals\":[{\"Label\":\"x\"},{}]", ERR_MISSING_PARAMETER, "Goals[1].Label");
}

static void numbers_keep_every_digit(void **state)
{
    static const struct {
        const char *text;
        uint64_t number;
    } cases[] = {
        {"0", 0},
        {"9007199254740991", 9007199254740991u},
        {"9007199254740993", 9007199254740993u},
        {"18446744073709551615", UINT64_MAX},
        {"\"18446744073709551615\"", UINT64_MAX},
        {"\"9007199254740993\"", 9007199254740993u},
        {"\"0\"", 0},
        {"\"007\"", 7},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct given given;
        const struct values *values = given_ok(&given, "\"Large\":%s", cases[i].text);
        assert_true(args_number(values, "Large", 1) == cases[i].number);
        given_end(&given);
    }
}

static void numbers_out_of_range_are_bad_values(void **state)
{
    static const struct {
        const char *name;
        const char *largest;
        const char *beyond;
    } cases[] = {
        {"Tiny", "255", "256"},
        {"Small", "65535", "65536"},
        {"Middle", "4294967295", "4294967296"},
        {"Large", "18446744073709551615", "18446744073709551616"},
        {"Large", "\"18446744073709551615\"", "\"18446744073709551616\""},
        {"Large", "1", "99999999999999999999999999999999999999999999"},
        {"Large", "1", "\"-1\""},
        {"Large", "1", "\"+1\""},
        {"Large", "1", "\" 1\""},
        {"Large", "1", "\"1 \""},
        {"Large", "1", "\"\""},
        {"Large", "1", "\"1.0\""},
        {"Large", "1", "\"0x1\""},
        {"Tiny", "0", "-0"},
        {"Color", "32768", "65536"},
        {"Color", "2", "0"},
        {"Color", "\"GREEN\"", "\"Greenish\""},
        {"Color", "\"dark-red\"", "\"Dark\""},
        {"Color", "\"dark_red\"", "\"2\""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct given given;
        given_ok(&given, "\"%s\":%s", cases[i].name, cases[i].largest);
        given_end(&given);
        char members[200];
        snprintf(members, sizeof(members), "\"%s\":%s", cases[i].name, cases[i].beyond);
        expect_error(members, ERR_BAD_VALUE, cases[i].name);
    }
}

static void fractions_and_exponents_are_no_integers(void **state)
{
    static const char *const names[] = {"Tiny", "Small", "Middle", "Large", "Color"};
    static const char *const numbers[] = {"1.0", "1e0", "1E1", "2.5", "1e400"};
    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        for (size_t j = 0; j < sizeof(numbers) / sizeof(numbers[0]); j++) {
            char members[100];
            snprintf(members, sizeof(members), "\"%s\":%s", names[i], numbers[j]);
            expect_error(members, ERR_WRONG_TYPE, names[i]);
        }
    }
}

static void an_enumeration_is_taken_by_number_and_by_name(void **state)
{
    static const char *const forms[] = {"2", "\"Dark Red\"", "\"dark red\"", "\"DARKRED\"",
                                        "\"Dark-Red\""};
    (void)state;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct given given;
        const struct values *values =
            given_ok(&given, "\"Color\":%s,\"Colors\":[%s,3]", forms[i], forms[i]);
        assert_int_equal(args_number(values, "Color", 0), 2);
        assert_int_equal(values_get(values, "Colors")->items[0].number, 2);
        given_end(&given);
    }
    struct given given;
    assert_int_not_equal(give("\"Color\":7", &given), 0);
    assert_non_null(strstr(given.error.detail, "2 Dark Red, 3 Green, 32768 Vendor"));
    given_end(&given);
}

static void names_that_are_not_in_the_table_are_refused(void **state)
{
    (void)state;
    expect_error("\"Nonsense\":1", ERR_UNKNOWN_MEMBER, "Nonsense");
    expect_error("\"Nonsense\":null", ERR_UNKNOWN_MEMBER, "Nonsense");
    expect_error("\"text\":\"a\"", ERR_UNKNOWN_MEMBER, "text");
    expect_error("\"\":1", ERR_UNKNOWN_MEMBER, "");
    expect_error("\"class\":\"x\"", ERR_UNKNOWN_MEMBER, "class");
    expect_error("\"Goal\":{\"Label\":\"a\",\"Nonsense\":1}", ERR_UNKNOWN_MEMBER, "Goal.Nonsense");
    expect_error("\"Goal\":{\"Label\":\"a\",\"Inner\":{\"x\":1}}", ERR_UNKNOWN_MEMBER,
                 "Goal.Inner.x");
    /* Names are looked at before values, whatever the order. */
    expect_error("\"Tiny\":\"wrong\",\"Nonsense\":1", ERR_UNKNOWN_MEMBER, "Nonsense");
}

static void a_long_name_is_cut_between_characters(void **state)
{
    char members[400] = "\"";
    struct given given;
    (void)state;
    for (int i = 0; i < 60; i++) {
        strcat(members, "\xe2\x82\xac");
    }
    strcat(members, "\":1");
    assert_int_not_equal(give(members, &given), 0);
    assert_int_equal(given.error.code, ERR_UNKNOWN_MEMBER);
    assert_int_equal(strlen(given.error.parameter) % 3, 0);
    assert_true(strlen(given.error.parameter) > 60);
    given_end(&given);
}

static void a_member_that_is_there_twice_is_bad_json(void **state)
{
    (void)state;
    expect_error("\"Tiny\":1,\"Tiny\":1", ERR_BAD_JSON, "Tiny");
    expect_error("\"Tiny\":null,\"Tiny\":1", ERR_BAD_JSON, "Tiny");
    expect_error("\"Tiny\":1,\"\\u0054iny\":1", ERR_BAD_JSON, "Tiny");
    expect_error("\"Goal\":{\"Label\":\"a\",\"Label\":\"b\"}", ERR_BAD_JSON, "Goal.Label");
    expect_error("\"Goal\":{\"Label\":\"a\",\"class\":null,\"class\":null}", ERR_BAD_JSON,
                 "Goal.class");
}

static void an_output_may_not_be_given(void **state)
{
    struct given given;
    (void)state;
    expect_error("\"Job\":\"/jobs/1\"", ERR_OUT_PARAMETER, "Job");
    expect_error("\"Job\":5", ERR_OUT_PARAMETER, "Job");
    assert_int_equal(give("\"Job\":null", &given), 0);
    assert_false(args_present(given.values, "Job"));
    given_end(&given);
}

static void null_and_absent_are_the_same(void **state)
{
    struct given given;
    const struct values *values;
    (void)state;
    values = given_ok(&given, "\"Text\":null,\"Large\":null,\"Goal\":null,\"Names\":null,"
                              "\"Elements\":[null,\"/volumes/2\"]");
    assert_false(args_present(values, "Text"));
    assert_false(args_present(values, "Large"));
    assert_false(args_present(values, "Goal"));
    assert_false(args_present(values, "Names"));
    assert_int_equal(values_get(values, "Elements")->n_items, 2);
    assert_false(values_get(values, "Elements")->items[0].present);
    assert_string_equal(values_get(values, "Elements")->items[1].text, "/volumes/2");
    given_end(&given);

    /* An empty text is a value. */
    values = given_ok(&given, "\"Text\":\"\",\"Names\":[]");
    assert_string_equal(args_text(values, "Text"), "");
    assert_true(args_present(values, "Names"));
    assert_int_equal(values_get(values, "Names")->n_items, 0);
    given_end(&given);

    expect_error("\"Element\":null", ERR_MISSING_PARAMETER, "Element");
    arena_init(&given.arena);
    assert_int_not_equal(bind_text("", 0, &given.arena, &given.values, &given.error), 0);
    assert_int_equal(given.error.code, ERR_MISSING_PARAMETER);
    assert_string_equal(given.error.parameter, "Element");
    given_end(&given);
}

static void texts_are_plain_and_not_endless(void **state)
{
    (void)state;
    expect_error("\"Text\":\"a\\nb\"", ERR_BAD_VALUE, "Text");
    expect_error("\"Text\":\"\\u0001\"", ERR_BAD_VALUE, "Text");
    expect_error("\"Text\":\"\\u007f\"", ERR_BAD_VALUE, "Text");
    expect_error("\"Text\":\"\\u0085\"", ERR_BAD_VALUE, "Text");
    expect_error("\"Element\":\"/a\\tb\"", ERR_BAD_VALUE, "Element");
    expect_error("\"Text\":\"a\\u0000b\"", ERR_BAD_JSON, "");

    for (size_t len = JSON_TEXT_MAX; len <= JSON_TEXT_MAX + 1; len++) {
        struct strbuf text = STRBUF_INIT;
        struct arena arena;
        struct values *values;
        struct error error;
        arena_init(&arena);
        strbuf_puts(&text, "{\"Element\":\"/v\",\"Text\":\"");
        for (size_t i = 0; i < len; i++) {
            strbuf_putc(&text, 'x');
        }
        strbuf_puts(&text, "\"}");
        int err = bind_text(text.data, text.len, &arena, &values, &error);
        assert_int_equal(err == 0, len == JSON_TEXT_MAX);
        strbuf_fini(&text);
        arena_fini(&arena);
    }
}

static void texts_arrive_decoded(void **state)
{
    struct given given;
    (void)state;
    assert_int_equal(give("\"Text\":\"\\u00fc \\\"\\\\ \\ud83d\\ude00 \xc3\xbc\"", &given), 0);
    assert_string_equal(args_text(given.values, "Text"), "\xc3\xbc \"\\ \xf0\x9f\x98\x80 \xc3\xbc");
    given_end(&given);
}

static void times_are_taken_in_all_forms(void **state)
{
    static const char *const good[] = {
        "2026-01-02T03:04:05Z",      "2026-01-02T03:04:05.678+01:00", "PT30S", "P1DT2H",
        "20260102030405.000000+060", "00000000000030.000000:000"};
    static const char *const bad[] = {"yesterday", "2026-13-01T00:00:00Z", "PT", "", "30 seconds"};
    (void)state;
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        struct given given;
        const struct values *values = given_ok(&given, "\"When\":\"%s\"", good[i]);
        assert_string_equal(args_text(values, "When"), good[i]);
        given_end(&given);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        char members[100];
        snprintf(members, sizeof(members), "\"When\":\"%s\"", bad[i]);
        expect_error(members, ERR_BAD_VALUE, "When");
    }
}

static void an_instance_is_an_object_or_a_text_that_holds_one(void **state)
{
    static const char *const forms[] = {
        "{\"Label\":\"a\",\"Priority\":\"green\",\"Limits\":[18446744073709551615,\"1\",null],"
        "\"Inner\":{\"Depth\":9}}",
        "\"{\\\"Label\\\":\\\"a\\\",\\n\\\"Priority\\\":3,\\\"Limits\\\":[18446744073709551615,1,"
        "null],\\\"Inner\\\":\\\"{\\\\\\\"Depth\\\\\\\":9}\\\"}\"",
        "{\"class\":\"ReplicationSettingData\",\"Label\":\"a\",\"Priority\":3,"
        "\"Limits\":[\"18446744073709551615\",1,null],\"Inner\":{\"class\":\"CIM_InnerSetting\","
        "\"Depth\":9}}",
        "{\"class\":\"CIM_ReplicationSettingData\",\"Label\":\"a\",\"Priority\":3,"
        "\"Limits\":[18446744073709551615,1,null],\"Inner\":{\"class\":null,\"Depth\":9}}",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        struct given given;
        const struct values *values =
            given_ok(&given, "\"Goal\":%s,\"Goals\":[%s]", forms[i], forms[i]);
        const struct values *goal = args_instance(values, "Goal");
        assert_string_equal(args_text(goal, "Label"), "a");
        assert_int_equal(args_number(goal, "Priority", 0), 3);
        assert_true(values_get(goal, "Limits")->items[0].number == UINT64_MAX);
        assert_int_equal(values_get(goal, "Limits")->n_items, 3);
        assert_int_equal(args_number(args_instance(goal, "Inner"), "Depth", 0), 9);
        assert_string_equal(args_text(values_get(values, "Goals")->items[0].instance, "Label"),
                            "a");
        given_end(&given);
    }
}

static void what_is_wrong_in_an_instance_is_named_with_its_path(void **state)
{
    (void)state;
    expect_error("\"Goal\":5", ERR_WRONG_TYPE, "Goal");
    expect_error("\"Goal\":[]", ERR_WRONG_TYPE, "Goal");
    expect_error("\"Goal\":\"\"", ERR_BAD_VALUE, "Goal");
    expect_error("\"Goal\":\"no json\"", ERR_BAD_VALUE, "Goal");
    expect_error("\"Goal\":\"[]\"", ERR_BAD_VALUE, "Goal");
    expect_error("\"Goal\":\"{\\\"Label\\\":1}\"", ERR_WRONG_TYPE, "Goal.Label");
    expect_error("\"Goal\":{}", ERR_MISSING_PARAMETER, "Goal.Label");
    expect_error("\"Goal\":{\"Label\":\"a\",\"Priority\":\"blue\"}", ERR_BAD_VALUE,
                 "Goal.Priority");
    expect_error("\"Goal\":{\"Label\":\"a\",\"Inner\":{\"Depth\":256}}", ERR_BAD_VALUE,
                 "Goal.Inner.Depth");
    expect_error("\"Goal\":{\"Label\":\"a\",\"class\":\"StorageSetting\"}", ERR_BAD_VALUE,
                 "Goal.class");
    expect_error("\"Goal\":{\"Label\":\"a\",\"class\":7}", ERR_WRONG_TYPE, "Goal.class");
}

static void a_detail_does_not_repeat_texts(void **state)
{
    static const char *const members[] = {
        "\"Flag\":\"s3cret\"", "\"Element\":\"s3cret\"", "\"Large\":\"s3cret\"",
        "\"When\":\"s3cret\"", "\"Goal\":\"s3cret\"",    "\"Text\":\"s3cret\\u0001\"",
    };
    (void)state;
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        struct given given;
        assert_int_not_equal(give(members[i], &given), 0);
        assert_null(strstr(given.error.detail, "s3cret"));
        given_end(&given);
    }
}

static void an_input_of_both_directions_is_taken(void **state)
{
    struct given given;
    (void)state;
    assert_int_equal(give("\"Size\":12", &given), 0);
    assert_int_equal(args_number(given.values, "Size", 0), 12);
    given_end(&given);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wrong_type_is_refused_for_every_parameter),
        cmocka_unit_test(arrays_want_arrays_and_name_the_entry_that_is_wrong),
        cmocka_unit_test(numbers_keep_every_digit),
        cmocka_unit_test(numbers_out_of_range_are_bad_values),
        cmocka_unit_test(fractions_and_exponents_are_no_integers),
        cmocka_unit_test(an_enumeration_is_taken_by_number_and_by_name),
        cmocka_unit_test(names_that_are_not_in_the_table_are_refused),
        cmocka_unit_test(a_long_name_is_cut_between_characters),
        cmocka_unit_test(a_member_that_is_there_twice_is_bad_json),
        cmocka_unit_test(an_output_may_not_be_given),
        cmocka_unit_test(null_and_absent_are_the_same),
        cmocka_unit_test(texts_are_plain_and_not_endless),
        cmocka_unit_test(texts_arrive_decoded),
        cmocka_unit_test(times_are_taken_in_all_forms),
        cmocka_unit_test(an_instance_is_an_object_or_a_text_that_holds_one),
        cmocka_unit_test(what_is_wrong_in_an_instance_is_named_with_its_path),
        cmocka_unit_test(a_detail_does_not_repeat_texts),
        cmocka_unit_test(an_input_of_both_directions_is_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
