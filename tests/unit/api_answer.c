// SPDX-License-Identifier: Apache-2.0
#include "testing.h"

#include <stdio.h>
#include <string.h>

#include "api/answer.h"
#include "api_fake.h"

static void a_problem_says_what_the_table_says(void **state)
{
    struct strbuf body = STRBUF_INIT;
    struct error error = {0};
    (void)state;
    error_param(&error, ERR_BAD_VALUE, "CopyType", "CopyType 7 is \"none\".");
    assert_int_equal(answer_problem(&error, true, &body), 400);
    assert_string_equal(
        strbuf_str(&body),
        "{\"type\":\"urn:smirror:problem:bad_value\",\"title\":\"Value not allowed\","
        "\"status\":400,\"detail\":\"CopyType 7 is \\\"none\\\".\",\"ReturnValue\":5,"
        "\"Code\":\"bad_value\",\"Parameter\":\"CopyType\"}");
    strbuf_fini(&body);
}

static void the_object_in_the_way_is_named(void **state)
{
    struct strbuf body = STRBUF_INIT;
    struct error error = {0};
    (void)state;
    error_blocked(&error, ERR_IN_USE, "/jobs/1", "Busy.");
    assert_int_equal(answer_problem(&error, true, &body), 409);
    assert_non_null(strstr(strbuf_str(&body), "\"ReturnValue\":6"));
    assert_non_null(strstr(strbuf_str(&body), "\"BlockedOn\":\"/jobs/1\"}"));
    assert_null(strstr(strbuf_str(&body), "Parameter"));
    strbuf_fini(&body);
}

/* Every row of the error table gives a problem with its own word; ReturnValue only where a method
 * was called. */
static void every_error_has_an_answer(void **state)
{
    (void)state;
    for (int code = ERR_NONE + 1; code < ERR_COUNT; code++) {
        for (int of_method = 0; of_method < 2; of_method++) {
            const struct error_info *info = error_info((enum error_code)code);
            struct strbuf body = STRBUF_INIT;
            struct error error = {.code = (enum error_code)code};
            char word[100];
            int status = answer_problem(&error, of_method == 1, &body);
            assert_int_equal(status, info->http_status);
            assert_in_range(status, 400, 599);
            snprintf(word, sizeof(word), "\"Code\":\"%s\"", info->word);
            assert_non_null(strstr(strbuf_str(&body), word));
            bool has = strstr(strbuf_str(&body), "ReturnValue") != NULL;
            assert_int_equal(has, of_method == 1 && info->return_value != ERROR_NO_RETURN_VALUE);
            strbuf_fini(&body);
        }
    }
}

static struct call *make_call(const char *name)
{
    struct call *call = call_new();
    size_t n;
    call->service = service_all(&n)[1];
    call->method = service_method(service_find("ReplicationService"), name);
    call->outs = values_new(&call->arena, call->method->params, call->method->n_params);
    return call;
}

static void outputs_are_there_even_when_they_are_null(void **state)
{
    struct call *call = make_call("Everything");
    (void)state;
    answer_render_call(call);
    assert_int_equal(call->answer.status, 200);
    assert_string_equal(strbuf_str(&call->answer.body),
                        "{\"ReturnValue\":0,\"Size\":null,\"Job\":null}");
    assert_string_equal(call->answer.location, "");
    call_free(call);
}

static void a_job_is_202_with_its_place(void **state)
{
    struct call *call = make_call("Everything");
    (void)state;
    call->return_value = 4096;
    outs_number(call->outs, "Size", UINT64_MAX);
    outs_path(call->outs, "Job", "/jobs/%s", "abc");
    strcpy(call->location, "/jobs/abc");
    answer_render_call(call);
    assert_int_equal(call->answer.status, 202);
    assert_string_equal(
        strbuf_str(&call->answer.body),
        "{\"ReturnValue\":4096,\"Size\":18446744073709551615,\"Job\":\"/jobs/abc\"}");
    assert_string_equal(call->answer.location, "/jobs/abc");

    /* What the job will show when it is done. */
    struct strbuf outs = STRBUF_INIT;
    answer_render_outs(call, &outs);
    assert_string_equal(strbuf_str(&outs), "{\"ReturnValue\":0,\"Size\":18446744073709551615}");
    strbuf_fini(&outs);
    call_free(call);
}

static void a_failed_call_shows_no_outputs(void **state)
{
    struct call *call = make_call("Everything");
    (void)state;
    outs_path(call->outs, "Job", "/jobs/abc");
    strcpy(call->location, "/jobs/abc");
    call_fail(call, ERR_NO_SPACE, "Full.");
    answer_render_call(call);
    assert_int_equal(call->answer.status, 507);
    assert_null(strstr(strbuf_str(&call->answer.body), "abc"));
    assert_string_equal(call->answer.location, "");
    /* Rendering again, after the commit has failed, replaces what was there. */
    call_fail(call, ERR_STORE_FAILED, "No commit.");
    answer_render_call(call);
    assert_int_equal(call->answer.status, 500);
    assert_int_equal(strbuf_str(&call->answer.body)[0], '{');
    assert_null(strstr(strbuf_str(&call->answer.body), "Full."));
    call_free(call);
}

static void a_deleted_object_leaves_no_body(void **state)
{
    struct call *call = call_new();
    (void)state;
    const struct method method = {.name = "DeleteInstance"};
    call->method = &method;
    answer_render_call(call);
    assert_int_equal(call->answer.status, 204);
    assert_int_equal(call->answer.body.len, 0);
    call_free(call);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_problem_says_what_the_table_says),
        cmocka_unit_test(the_object_in_the_way_is_named),
        cmocka_unit_test(every_error_has_an_answer),
        cmocka_unit_test(outputs_are_there_even_when_they_are_null),
        cmocka_unit_test(a_job_is_202_with_its_place),
        cmocka_unit_test(a_failed_call_shows_no_outputs),
        cmocka_unit_test(a_deleted_object_leaves_no_body),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
