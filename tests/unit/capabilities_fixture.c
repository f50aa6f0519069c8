// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/capabilities_fixture.h"

#include <stdio.h>
#include <string.h>

#include "service/replica.h"
#include "service/services.h"

struct fixture fixture;
struct call *call;

int setup(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture_open(&fixture);
    return 0;
}

int teardown(void **state)
{
    (void)state;
    call_free(call);
    call = NULL;
    fixture_fini(&fixture);
    return 0;
}

/* ---- calls ---- */

void begin(const char *method)
{
    call_free(call);
    call = call_new();
    call->service = &replication_service_capabilities;
    call->method = service_method(call->service, method);
    assert_non_null(call->method);
    call->db = fixture.db;
    call->args = values_new(&call->arena, call->method->params, call->method->n_params);
    call->outs = values_new(&call->arena, call->method->params, call->method->n_params);
}

void give(const char *name, uint64_t number)
{
    struct value *value = values_get(call->args, name);

    value->present = true;
    value->number = number;
}

void give_path(const char *name, const char *path)
{
    struct value *value = values_get(call->args, name);

    value->present = true;
    value->text = path;
}

void done(void)
{
    int r = call->method->handler(call);

    if (r != 0 || call->error.code != ERR_NONE) {
        fail_msg("%d: %s", r, call->error.detail);
    }
    assert_int_equal(call->return_value, 0);
}

void refused(enum error_code code, const char *parameter)
{
    int r = call->method->handler(call);

    assert_int_equal(r, error_info(code)->err);
    assert_int_equal(call->error.code, code);
    assert_string_equal(call->error.parameter, parameter);
    assert_true(call->error.detail[0] != '\0');
}

void assert_numbers(const char *name, const char *wanted)
{
    const struct value *value = values_get(call->outs, name);
    char found[512] = "";

    assert_true(value->present);
    for (size_t i = 0; i < value->n_items; i++) {
        size_t len = strlen(found);
        snprintf(found + len, sizeof(found) - len, "%s%llu", len == 0 ? "" : " ",
                 (unsigned long long)value->items[i].number);
    }
    assert_string_equal(found, wanted);
}

uint64_t out_of(const char *name)
{
    assert_true(args_present(call->outs, name));
    return args_number(call->outs, name, 0);
}

/* ---- what there is ---- */

bool is_made(uint32_t type)
{
    return type <= 7 || (type >= 10 && type <= 13);
}

void add_volume(const char *id, const char *system, uint64_t size_bytes, bool read_only)
{
    struct volume_row row = {.kind = VOLUME_REMOTE,
                             .size_bytes = size_bytes,
                             .block_bytes = 512,
                             .write_protected = read_only};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.element_name, id);
    TEXT_SET(row.system_id, system);
    snprintf(row.identity, sizeof(row.identity), "naa.%s", id);
    assert_int_equal(table_insert(fixture.db, &volume_table, &row), 0);
}

void add_system(const char *id)
{
    struct system_row row = {0};

    TEXT_SET(row.head.id, id);
    assert_int_equal(table_insert(fixture.db, &system_table, &row), 0);
}

void add_access_point(const char *id, const char *system)
{
    struct access_point_row row = {.info_format = 3};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.system_id, system);
    TEXT_SET(row.address, "192.0.2.1:3260");
    assert_int_equal(table_insert(fixture.db, &access_point_table, &row), 0);
}

void add_sync(const char *id, const char *source, const char *target, uint32_t copy_state,
              uint32_t copy_type)
{
    struct sync_row row = {.sync_type = 8,
                           .mode = 2,
                           .copy_type = copy_type,
                           .replica_type = 2,
                           .remote = true,
                           .copy_state = copy_state};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.source_id, source);
    TEXT_SET(row.target_id, target);
    assert_int_equal(table_insert(fixture.db, &sync_table, &row), 0);
}
