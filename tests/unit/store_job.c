// SPDX-License-Identifier: Apache-2.0
/* What belongs to a job goes with it; first answers stand; names have values. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store_fixture.h"

static void add_job(struct db *db, const char *id)
{
    struct job_row job = {.state = 4};
    TEXT_SET(job.head.id, id);
    assert_int_equal(table_insert(db, &job_table, &job), 0);
    for (int i = 0; i < 3; i++) {
        struct copy_row copy = {.position = (uint32_t)i};
        struct job_element_row element = {.effect = 2};
        TEXT_SET(copy.job_id, id);
        TEXT_SET(element.job_id, id);
        TEXT_SET(element.element, "/volumes/3f2a");
        assert_int_equal(table_insert(db, &copy_table, &copy), 0);
        assert_int_equal(table_insert(db, &job_element_table, &element), 0);
    }
    assert_int_equal(job_set_out(db, id, "{\"Job\":1}"), 0);
}

static uint64_t count_of(struct db *db, const struct table *table, const char *job_id)
{
    const struct condition where[] = {WHERE_TEXT("job_id", job_id), WHERE_END};
    uint64_t n;
    assert_int_equal(table_count(db, table, where, &n), 0);
    return n;
}

static void check_out(struct db *db, const char *job_id, const char *expected)
{
    struct strbuf text = STRBUF_INIT;
    assert_int_equal(job_get_out(db, job_id, &text), 0);
    assert_string_equal(strbuf_str(&text), expected);
    strbuf_fini(&text);
}

static void test_copies_elements_and_out_parameters_go_with_their_job_and_no_other(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    add_job(db, "gone");
    add_job(db, "kept");
    assert_int_equal(table_delete(db, &job_table, "gone"), 0);
    assert_int_equal(count_of(db, &copy_table, "gone"), 0);
    assert_int_equal(count_of(db, &job_element_table, "gone"), 0);
    check_out(db, "gone", "");
    assert_int_equal(count_of(db, &copy_table, "kept"), 3);
    assert_int_equal(count_of(db, &job_element_table, "kept"), 3);
    check_out(db, "kept", "{\"Job\":1}");
}

static void test_out_parameters_may_be_set_again_be_long_and_need_their_job(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    add_job(db, "j");
    char *text = malloc(1 << 20);
    assert_non_null(text);
    memset(text, 'x', (1 << 20) - 1);
    text[(1 << 20) - 1] = '\0';
    assert_int_equal(job_set_out(db, "j", text), 0);
    check_out(db, "j", text);
    free(text);
    assert_int_equal(job_set_out(db, "j", ""), 0);
    check_out(db, "j", "");
    assert_int_equal(job_set_out(db, "nobody", "{}"), -ENOENT);
    check_out(db, "nobody", "");
}

static struct answer sample_answer(uint64_t created_ms)
{
    struct answer answer = {.status = 202, .created_ms = created_ms};
    TEXT_SET(answer.location, "/jobs/0123456789ab");
    for (size_t i = 0; i < sizeof(answer.request_hash); i++) {
        answer.request_hash[i] = (uint8_t)(i * 9);
    }
    return answer;
}

static void check_answer(struct db *db, const char *key, const struct answer *expected,
                         const void *body, size_t body_len)
{
    struct answer answer;
    struct strbuf text = STRBUF_INIT;
    assert_int_equal(answer_get(db, key, &answer, &text), 0);
    assert_int_equal(answer.status, expected->status);
    assert_string_equal(answer.location, expected->location);
    assert_int_equal(answer.created_ms, expected->created_ms);
    assert_memory_equal(answer.request_hash, expected->request_hash, sizeof(answer.request_hash));
    assert_int_equal(text.len, body_len);
    if (body_len > 0) {
        assert_memory_equal(text.data, body, body_len);
    }
    strbuf_fini(&text);
}

static void test_an_answer_comes_back_with_every_byte_of_its_body(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    struct answer answer = sample_answer(5);
    static const char body[] = "{\"a\":\0\xff'\"}";
    assert_int_equal(answer_put(db, "k", &answer, body, sizeof(body)), 0);
    check_answer(db, "k", &answer, body, sizeof(body));
    answer.location[0] = '\0';
    answer.status = -1;
    answer.created_ms = INT64_MAX;
    assert_int_equal(answer_put(db, "empty", &answer, NULL, 0), 0);
    check_answer(db, "empty", &answer, NULL, 0);
}

static void test_the_first_answer_to_a_key_stands(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    struct answer first = sample_answer(5);
    struct answer second = sample_answer(6);
    assert_int_equal(answer_put(db, "k", &first, "1", 1), 0);
    assert_int_equal(answer_put(db, "k", &second, "2", 1), -EEXIST);
    check_answer(db, "k", &first, "1", 1);
}

static void test_an_unknown_key_leaves_the_result_alone(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    struct answer answer = sample_answer(77);
    struct strbuf text = STRBUF_INIT;
    assert_int_equal(answer_get(db, "nobody", &answer, &text), -ENOENT);
    assert_int_equal(answer.created_ms, 77);
    assert_int_equal(text.len, 0);
    strbuf_fini(&text);
}

static void test_a_location_that_is_too_long_is_refused(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    struct answer answer = sample_answer(5);
    memset(answer.location, 'x', sizeof(answer.location));
    assert_int_equal(answer_put(db, "k", &answer, "1", 1), -ENAMETOOLONG);
    answer = sample_answer((uint64_t)INT64_MAX + 1);
    assert_int_equal(answer_put(db, "k", &answer, "1", 1), -ERANGE);
    struct strbuf text = STRBUF_INIT;
    assert_int_equal(answer_get(db, "k", &answer, &text), -ENOENT);
    strbuf_fini(&text);
}

static void test_answers_expire_by_age_and_their_keys_may_be_used_again(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    struct strbuf text = STRBUF_INIT;
    struct answer answer;
    for (uint64_t ms = 1; ms <= 20; ms++) {
        char key[16];
        snprintf(key, sizeof(key), "k%d", (int)ms);
        answer = sample_answer(ms * 1000);
        assert_int_equal(answer_put(db, key, &answer, "1", 1), 0);
    }
    assert_int_equal(answer_expire(db, 10000), 0);
    assert_int_equal(answer_get(db, "k9", &answer, &text), -ENOENT);
    assert_int_equal(answer_get(db, "k10", &answer, &text), 0);
    answer = sample_answer(30000);
    assert_int_equal(answer_put(db, "k9", &answer, "2", 1), 0);
    check_answer(db, "k9", &answer, "2", 1);
    assert_int_equal(answer_expire(db, UINT64_MAX), 0);
    assert_int_equal(answer_get(db, "k20", &answer, &text), -ENOENT);
    strbuf_fini(&text);
}

static void test_a_name_has_the_value_that_was_set_last(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    char value[8] = "before";
    assert_int_equal(meta_get(db, "array_id", value, sizeof(value)), -ENOENT);
    assert_int_equal(meta_set(db, "array_id", "1"), 0);
    assert_int_equal(meta_set(db, "array_id", "1234567"), 0);
    assert_int_equal(meta_set(db, "other", ""), 0);
    assert_int_equal(meta_get(db, "array_id", value, 7), -ENAMETOOLONG);
    assert_string_equal(value, "before");
    assert_int_equal(meta_get(db, "array_id", value, 8), 0);
    assert_string_equal(value, "1234567");
    assert_int_equal(meta_get(db, "other", value, 1), 0);
    assert_string_equal(value, "");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_copies_elements_and_out_parameters_go_with_their_job_and_no_other),
        T(test_out_parameters_may_be_set_again_be_long_and_need_their_job),
        T(test_an_answer_comes_back_with_every_byte_of_its_body),
        T(test_the_first_answer_to_a_key_stands),
        T(test_an_unknown_key_leaves_the_result_alone),
        T(test_a_location_that_is_too_long_is_refused),
        T(test_answers_expire_by_age_and_their_keys_may_be_used_again),
        T(test_a_name_has_the_value_that_was_set_last),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
