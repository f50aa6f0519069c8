// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <ftw.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/service_fixture.h"

/* ---- the service ---- */

void fixture_init(struct service_fixture *fixture)
{
    memset(fixture, 0, sizeof(*fixture));
    strcpy(fixture->dir, "/tmp/smirror-test-XXXXXX");
    assert_non_null(mkdtemp(fixture->dir));
    fixture->options = (struct control_options){
        .data_dir = fixture->dir,
        .system_name = "test",
        .initiator_name = "iqn.2024-01.example:smirror-test",
        .data_loops = 2,
        .copies_at_once = 2,
        .probe_timeout_ms = 3000,
        .portal_allow = "127.0.0.0/8, ::1/128",
        .own_addresses = "127.0.0.1:8080",
        .idempotency_keep_ms = 1000000,
        .job_keep_ms = 1000000,
        .volumes_stop_ms = 60000, /* it is started again in the same process */
    };
}

void fixture_start(struct service_fixture *fixture)
{
    struct error error;

    if (control_start(&fixture->options, &fixture->control, &error) < 0) {
        fail_msg("control_start: %s", error.detail);
    }
    if (store_reader_open(fixture->dir, &fixture->reader, &error) < 0) {
        fail_msg("store_reader_open: %s", error.detail);
    }
}

void fixture_stop(struct service_fixture *fixture)
{
    db_close(fixture->reader);
    fixture->reader = NULL;
    if (fixture->control != NULL) {
        control_stop(fixture->control);
        fixture->control = NULL;
    }
}

static int remove_entry(const char *path, const struct stat *stat, int type, struct FTW *ftw)
{
    (void)stat;
    (void)type;
    (void)ftw;
    return remove(path);
}

void fixture_destroy(struct service_fixture *fixture)
{
    fixture_stop(fixture);
    assert_int_equal(nftw(fixture->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* ---- calls ---- */

static void render(struct call *call)
{
    call->answer.status = call->result < 0 ? error_info(call->error.code)->http_status : 200;
}

static void answered(struct call *call)
{
    struct test_call *test = call->maker;

    pthread_mutex_lock(&test->lock);
    test->answered = true;
    pthread_cond_signal(&test->answered_cond);
    pthread_mutex_unlock(&test->lock);
}

static struct test_call *call_make(struct service_fixture *fixture, const struct service *service,
                                   const struct method *method)
{
    struct test_call *test = calloc(1, sizeof(*test));

    assert_non_null(test);
    assert_non_null(method);
    test->fixture = fixture;
    test->call = call_new();
    pthread_mutex_init(&test->lock, NULL);
    pthread_cond_init(&test->answered_cond, NULL);
    test->call->service = service;
    test->call->method = method;
    test->call->args = values_new(&test->call->arena, method->params, method->n_params);
    test->call->render = render;
    test->call->answered = answered;
    test->call->maker = test;
    return test;
}

struct test_call *test_call_new(struct service_fixture *fixture, const struct service *service,
                                const char *method)
{
    return call_make(fixture, service, service_method(service, method));
}

struct test_call *test_delete_new(struct service_fixture *fixture, const struct service *methods,
                                  const char *id)
{
    struct test_call *test = test_call_new(fixture, methods, "DeleteInstance");

    snprintf(test->call->object_id, sizeof(test->call->object_id), "%s", id);
    return test;
}

void test_call_free(struct test_call *test)
{
    call_free(test->call);
    pthread_cond_destroy(&test->answered_cond);
    pthread_mutex_destroy(&test->lock);
    free(test);
}

static struct value *arg_value(struct test_call *test, const char *name)
{
    struct values *args = test->call->args;
    const char *dot = strchr(name, '.');

    if (dot == NULL) {
        return values_get(args, name);
    }
    char outer[64];

    snprintf(outer, sizeof(outer), "%.*s", (int)(dot - name), name);
    struct value *instance = values_get(args, outer);

    if (!instance->present) {
        const struct class_info *class = values_param(args, outer)->class;

        instance->present = true;
        instance->instance = values_new(&test->call->arena, class->params, class->n_params);
    }
    return values_get(instance->instance, dot + 1);
}

void arg_text(struct test_call *test, const char *name, const char *text)
{
    struct value *value = arg_value(test, name);

    value->present = true;
    value->text = arena_strdup(&test->call->arena, text);
}

void arg_number(struct test_call *test, const char *name, uint64_t number)
{
    struct value *value = arg_value(test, name);

    value->present = true;
    value->number = number;
}

void arg_array(struct test_call *test, const char *name)
{
    arg_value(test, name)->present = true;
}

void arg_item(struct test_call *test, const char *name, const char *text)
{
    struct value *value = arg_value(test, name);
    struct value *items = arena_alloc(&test->call->arena, (value->n_items + 1) * sizeof(*items));

    if (value->n_items > 0) {
        memcpy(items, value->items, value->n_items * sizeof(*items));
    }
    items[value->n_items].present = text != NULL;
    items[value->n_items].text = text == NULL ? NULL : arena_strdup(&test->call->arena, text);
    value->present = true;
    value->items = items;
    value->n_items++;
}

void test_call_submit(struct test_call *test)
{
    control_submit(test->fixture->control, test->call);
}

void test_call_wait(struct test_call *test)
{
    pthread_mutex_lock(&test->lock);
    while (!test->answered) {
        pthread_cond_wait(&test->answered_cond, &test->lock);
    }
    pthread_mutex_unlock(&test->lock);
}

uint32_t test_call_run(struct test_call *test)
{
    test_call_submit(test);
    test_call_wait(test);
    return test->call->result < 0 ? error_info(test->call->error.code)->return_value
                                  : test->call->return_value;
}

const char *out_of(struct test_call *test, const char *name)
{
    const struct value *value = values_get(test->call->outs, name);

    return value->present ? value->text : NULL;
}

size_t out_count(struct test_call *test, const char *name)
{
    const struct value *value = values_get(test->call->outs, name);

    assert_true(value->present);
    return value->n_items;
}

const char *out_item(struct test_call *test, const char *name, size_t i)
{
    assert_true(i < out_count(test, name));
    return values_get(test->call->outs, name)->items[i].text;
}

const char *id_of(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? path : slash + 1;
}

void test_assert_failed(struct test_call *test, enum error_code code, const char *parameter,
                        const char *file, int line)
{
    struct error *error = &test->call->error;

    test_call_run(test);
    if (error->code != code || (parameter != NULL && strcmp(error->parameter, parameter) != 0)) {
        print_error("expected %s of %s, got %s of %s (%s)\n", error_info(code)->word, parameter,
                    error_info(error->code)->word, error->parameter, error->detail);
        _fail(file, line);
    }
}

void test_assert_done(struct test_call *test, const char *file, int line)
{
    if (test_call_run(test) != 0) {
        print_error("%s: %s\n", error_info(test->call->error.code)->word, test->call->error.detail);
        _fail(file, line);
    }
}

/* ---- in control ---- */

static int run_in_control(struct call *call)
{
    const struct value *fn = values_get(call->args, "fn");
    int (*run)(struct call *, void *);

    memcpy(&run, &fn->text, sizeof(run));
    return run(call, (void *)values_get(call->args, "arg")->text);
}

int fixture_do(struct service_fixture *fixture, int (*fn)(struct call *call, void *arg), void *arg,
               struct error *ret_error)
{
    static const struct param params[] = {
        {.name = "fn", .type = PARAM_STRING, .direction = PARAM_IN},
        {.name = "arg", .type = PARAM_STRING, .direction = PARAM_IN},
    };
    static const struct method method = {
        .name = "test", .params = params, .n_params = 2, .handler = run_in_control};
    struct test_call *test = call_make(fixture, NULL, &method);

    memcpy(&values_get(test->call->args, "fn")->text, &fn, sizeof(fn));
    values_get(test->call->args, "arg")->text = arg;
    test_call_run(test);
    int r = test->call->result;

    if (ret_error != NULL) {
        *ret_error = test->call->error;
    } else if (r < 0) {
        fail_msg("in control: %s", test->call->error.detail);
    }
    test_call_free(test);
    return r;
}

/* ---- rows ---- */

static void row_get(struct service_fixture *fixture, const struct table *table, const char *path,
                    void *ret_row)
{
    int r = table_get(fixture->reader, table, id_of(path), ret_row);

    if (r < 0) {
        fail_msg("%s: %s", path, strerror(-r));
    }
}

void volume_of(struct service_fixture *fixture, const char *path, struct volume_row *ret_row)
{
    row_get(fixture, &volume_table, path, ret_row);
}

void access_point_of(struct service_fixture *fixture, const char *path,
                     struct access_point_row *ret_row)
{
    row_get(fixture, &access_point_table, path, ret_row);
}

bool row_exists(struct service_fixture *fixture, const struct table *table, const char *path)
{
    struct condition where[] = {WHERE_TEXT("id", id_of(path)), WHERE_END};
    uint64_t n;

    assert_int_equal(table_count(fixture->reader, table, where, &n), 0);
    return n == 1;
}

uint64_t rows_of(struct service_fixture *fixture, const struct table *table)
{
    uint64_t n;

    assert_int_equal(table_count(fixture->reader, table, NULL, &n), 0);
    return n;
}

struct row_change {
    const struct table *table;
    void *insert;
    const void *update;
};

static int row_change(struct call *call, void *arg)
{
    struct row_change *change = arg;
    int r = change->insert != NULL ? table_insert(call->db, change->table, change->insert)
                                   : table_update(call->db, change->table, change->update);

    return r < 0 ? call_fail_store(call, r) : 0;
}

void row_insert(struct service_fixture *fixture, const struct table *table, void *row)
{
    struct row_change change = {.table = table, .insert = row};

    fixture_do(fixture, row_change, &change, NULL);
}

void row_update(struct service_fixture *fixture, const struct table *table, const void *row)
{
    struct row_change change = {.table = table, .update = row};

    fixture_do(fixture, row_change, &change, NULL);
}
