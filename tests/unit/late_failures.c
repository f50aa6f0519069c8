// SPDX-License-Identifier: Apache-2.0
/* What fails after the commit: the first answer stays the answer to its Idempotency-Key, and there is no second object. */
#include "testing.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "api/answer.h"
#include "hosting/exports.h"
#include "service_fixture.h"

static atomic_bool refused; /* by what serves targets */
static atomic_uint asked;
static struct service_fixture fixture;

void __real_export_put(struct exports *exports, const struct export_spec *spec, array_done_fn done,
                       void *arg);
void __wrap_export_put(struct exports *exports, const struct export_spec *spec, array_done_fn done,
                       void *arg);
void __wrap_export_put(struct exports *exports, const struct export_spec *spec, array_done_fn done,
                       void *arg)
{
    struct error error = {0};
    if (!atomic_load(&refused)) {
        __real_export_put(exports, spec, done, arg);
        return;
    }
    atomic_fetch_add(&asked, 1);
    error_set(&error, ERR_INTERNAL, "No target for %s today.", spec->id);
    done(arg, &error);
}

static int setup(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture.options.iscsi = "127.0.0.1:0";
    fixture_start(&fixture);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    atomic_store(&refused, false);
    fixture_destroy(&fixture);
    return 0;
}

/* Creates a volume, or is answered as before; the answer as the api renders it. */
static struct test_call *create(const char *key)
{
    struct test_call *test = test_call_new(&fixture, &storage_configuration_service,
                                           "CreateOrModifyElementFromStoragePool");
    arg_text(test, "ElementName", "late");
    arg_number(test, "Size", 1 << 20);
    test->call->render = answer_render_call;
    strcpy(test->call->idempotency_key, key);
    test_call_submit(test);
    test_call_wait(test);
    return test;
}

static void test_a_retry_gets_the_answer_of_the_call_that_has_failed_late(void **state)
{
    char first[1024];
    char made[ID_SIZE];
    const char *at;
    (void)state;
    atomic_store(&refused, true);
    struct test_call *test = create("key");
    assert_int_equal(test->call->answer.status, 500);
    snprintf(first, sizeof(first), "%s", strbuf_str(&test->call->answer.body));
    test_call_free(test);
    assert_int_equal(atomic_load(&asked), 1);
    assert_non_null(strstr(first, "No target for "));
    at = strstr(first, "\"Made\":\"/volumes/");
    assert_non_null(at);
    snprintf(made, sizeof(made), "%.*s", ID_LEN, at + strlen("\"Made\":\"/volumes/"));

    /* What it names is there, and says what is wrong. */
    struct volume_row row;
    volume_of(&fixture, made, &row);
    assert_string_equal(row.element_name, "late");

    atomic_store(&refused, false);
    for (unsigned i = 0; i < 3; i++) {
        test = create("key");
        assert_int_equal(test->call->answer.status, 500);
        assert_string_equal(strbuf_str(&test->call->answer.body), first);
        test_call_free(test);
        if (i == 1) { /* what was found is kept in the records */
            fixture_stop(&fixture);
            fixture_start(&fixture);
        }
    }
    assert_int_equal(rows_of(&fixture, &volume_table), 1);

    test = create("another");
    assert_int_equal(test->call->answer.status, 200);
    test_call_free(test);
    assert_int_equal(rows_of(&fixture, &volume_table), 2);
}

/* Those that come while the first is still under way wait for it. */
static void test_those_that_wait_for_the_first_get_its_answer(void **state)
{
    enum { CALLS = 4 };
    struct test_call *tests[CALLS];
    (void)state;
    atomic_store(&refused, true);
    for (unsigned i = 0; i < CALLS; i++) {
        tests[i] = test_call_new(&fixture, &storage_configuration_service,
                                 "CreateOrModifyElementFromStoragePool");
        arg_text(tests[i], "ElementName", "late");
        arg_number(tests[i], "Size", 1 << 20);
        tests[i]->call->render = answer_render_call;
        strcpy(tests[i]->call->idempotency_key, "together");
        test_call_submit(tests[i]);
    }
    for (unsigned i = 0; i < CALLS; i++) {
        test_call_wait(tests[i]);
        assert_int_equal(tests[i]->call->answer.status, 500);
        assert_non_null(strstr(strbuf_str(&tests[i]->call->answer.body), "\"Made\":\"/volumes/"));
    }
    assert_string_equal(strbuf_str(&tests[0]->call->answer.body),
                        strbuf_str(&tests[CALLS - 1]->call->answer.body));
    for (unsigned i = 0; i < CALLS; i++) {
        test_call_free(tests[i]);
    }
    assert_int_equal(rows_of(&fixture, &volume_table), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            test_a_retry_gets_the_answer_of_the_call_that_has_failed_late, setup, teardown),
        cmocka_unit_test_setup_teardown(test_those_that_wait_for_the_first_get_its_answer, setup,
                                        teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
