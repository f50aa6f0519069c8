// SPDX-License-Identifier: Apache-2.0
/* The row structs, their tables of columns and the schema say the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "tests/unit/store_fixture.h"

static sqlite3 *raw_open(const struct fixture *fixture)
{
    sqlite3 *raw;
    assert_int_equal(sqlite3_open(fixture_path(fixture, "smirror.db"), &raw), SQLITE_OK);
    return raw;
}

static sqlite3_stmt *raw_prepare(sqlite3 *raw, const char *sql)
{
    sqlite3_stmt *statement;
    assert_int_equal(sqlite3_prepare_v2(raw, sql, -1, &statement, NULL), SQLITE_OK);
    return statement;
}

static const struct column *find_column(const struct table *table, const char *name)
{
    for (size_t i = 0; i < table->n_columns; i++) {
        if (strcmp(table->columns[i].name, name) == 0) {
            return &table->columns[i];
        }
    }
    return NULL;
}

static void check_schema_of(sqlite3 *raw, const struct table *table)
{
    sqlite3_stmt *info =
        raw_prepare(raw, "SELECT name, type, \"notnull\", pk FROM pragma_table_info(?)");
    sqlite3_bind_text(info, 1, table->name, -1, SQLITE_STATIC);
    size_t n = 0;
    bool has_seq = false;
    bool has_id = false;
    while (sqlite3_step(info) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(info, 0);
        const char *type = (const char *)sqlite3_column_text(info, 1);
        bool not_null = sqlite3_column_int(info, 2) != 0;
        bool primary = sqlite3_column_int(info, 3) != 0;
        if (strcmp(name, "seq") == 0) {
            has_seq = primary && strcmp(type, "INTEGER") == 0;
            continue;
        }
        if (strcmp(name, "id") == 0) {
            has_id = not_null && strcmp(type, "TEXT") == 0;
            continue;
        }
        const struct column *column = find_column(table, name);
        if (column == NULL) {
            fail_msg("%s.%s is in the schema, not in the struct table", table->name, name);
        }
        assert_string_equal(type, column->type == COLUMN_TEXT ? "TEXT" : "INTEGER");
        assert_true(not_null);
        n++;
    }
    sqlite3_finalize(info);
    assert_true(has_seq);
    assert_true(has_id);
    if (n != table->n_columns) {
        fail_msg("%s: %zu columns in the schema, %zu in the struct table", table->name, n,
                 table->n_columns);
    }
}

static void test_every_column_of_every_table_is_in_the_schema_and_no_other(void **state)
{
    sqlite3 *raw = raw_open(*state);
    for (size_t i = 0; i < fixture_n_tables; i++) {
        check_schema_of(raw, fixture_tables[i]);
    }
    sqlite3_close(raw);
}

static void test_every_table_of_the_schema_is_known_strict_and_numbered(void **state)
{
    static const char *const others[] = {"meta", "answers", "job_outs", "reservations"};
    sqlite3 *raw = raw_open(*state);
    sqlite3_stmt *list = raw_prepare(raw, "SELECT t.name, t.strict, s.sql FROM pragma_table_list t "
                                          "JOIN sqlite_schema s ON s.name = t.name "
                                          "WHERE t.name NOT LIKE 'sqlite_%'");
    size_t n = 0;
    while (sqlite3_step(list) == SQLITE_ROW) {
        const char *name = (const char *)sqlite3_column_text(list, 0);
        assert_int_equal(sqlite3_column_int(list, 1), 1);
        bool known = false;
        for (size_t i = 0; i < fixture_n_tables; i++) {
            if (strcmp(fixture_tables[i]->name, name) == 0) {
                known = true;
                assert_non_null(
                    strstr((const char *)sqlite3_column_text(list, 2), "AUTOINCREMENT"));
            }
        }
        for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
            known = known || strcmp(others[i], name) == 0;
        }
        if (!known) {
            fail_msg("table %s is in the schema only", name);
        }
        n++;
    }
    assert_int_equal(n, fixture_n_tables + sizeof(others) / sizeof(others[0]));
    sqlite3_finalize(list);
    sqlite3_close(raw);
}

static size_t alignment_of(const struct column *column)
{
    return column->type == COLUMN_U64 ? 8 : column->type == COLUMN_U32 ? 4 : 1;
}

static size_t align_up(size_t offset, size_t alignment)
{
    return (offset + alignment - 1) / alignment * alignment;
}

/* A member without a column would leave a hole that alignment does not explain. */
static void test_every_member_of_every_row_has_a_column_of_its_type(void **state)
{
    (void)state;
    for (size_t t = 0; t < fixture_n_tables; t++) {
        const struct table *table = fixture_tables[t];
        size_t end = sizeof(struct row_head);
        assert_true(table->row_size <= ROW_MAX);
        for (size_t i = 0; i < table->n_columns; i++) {
            const struct column *column = &table->columns[i];
            if (column->offset != align_up(end, alignment_of(column))) {
                fail_msg("%s: a hole before %s", table->name, column->name);
            }
            size_t expected = column->type == COLUMN_TEXT  ? column->size
                              : column->type == COLUMN_U64 ? sizeof(uint64_t)
                              : column->type == COLUMN_U32 ? sizeof(uint32_t)
                                                           : sizeof(bool);
            assert_int_equal(column->size, expected);
            assert_true(column->type != COLUMN_TEXT || column->size > 1);
            end = column->offset + column->size;
        }
        assert_int_equal(table->row_size, align_up(end, 8));
    }
}

static bool plan_mentions(sqlite3 *raw, const char *query, const char *what)
{
    char sql[512];
    snprintf(sql, sizeof(sql), "EXPLAIN QUERY PLAN %s", query);
    sqlite3_stmt *plan = raw_prepare(raw, sql);
    bool found = false;
    while (sqlite3_step(plan) == SQLITE_ROW) {
        const char *detail = (const char *)sqlite3_column_text(plan, 3);
        found = found || strstr(detail, what) != NULL;
    }
    sqlite3_finalize(plan);
    return found;
}

static void test_lists_with_a_filter_are_served_by_an_index_in_order_of_seq(void **state)
{
    static const char *const filters[][2] = {
        {"synchronizations", "source_id"},
        {"synchronizations", "target_id"},
        {"synchronizations", "job_id"},
        {"synchronizations", "copy_state"},
        {"volumes", "system_id"},
        {"volumes", "pool_id"},
        {"volumes", "element_name"},
        {"volumes", "access_point_id"},
        {"volumes", "identity"},
        {"copies", "job_id"},
        {"copies", "sync_id"},
        {"job_elements", "job_id"},
        {"job_elements", "element"},
        {"jobs", "state"},
        {"jobs", "name"},
        {"access_points", "system_id"},
        {"access_points", "address"},
        {"secrets", "access_point_id"},
        {"pools", "system_id"},
        {"pools", "element_name"},
    };
    sqlite3 *raw = raw_open(*state);
    for (size_t i = 0; i < sizeof(filters) / sizeof(filters[0]); i++) {
        char query[256];
        char by[64];
        char by_named[64]; /* an index that names seq, to cover what follows it */
        snprintf(query, sizeof(query), "SELECT * FROM %s WHERE %s = ? AND seq > ? ORDER BY seq",
                 filters[i][0], filters[i][1]);
        snprintf(by, sizeof(by), "(%s=? AND rowid>?)", filters[i][1]);
        snprintf(by_named, sizeof(by_named), "(%s=? AND seq>?)", filters[i][1]);
        if (!(plan_mentions(raw, query, by) || plan_mentions(raw, query, by_named)) ||
            plan_mentions(raw, query, "TEMP B-TREE")) {
            fail_msg("no index serves %s", query);
        }
    }
    const char *related = "SELECT id FROM synchronizations WHERE target_id = ? ORDER BY seq";
    assert_true(plan_mentions(raw, related, "COVERING INDEX synchronizations_by_target"));
    const char *lun = "SELECT * FROM volumes WHERE kind = ? AND iqn = ? AND lun = ? AND seq > ? "
                      "ORDER BY seq";
    assert_true(plan_mentions(raw, lun, "volumes_by_lun"));
    const char *unallocated = "SELECT * FROM volumes WHERE size_bytes >= ? AND allocated = 0 AND "
                              "pool_id <> '' ORDER BY size_bytes, seq";
    assert_true(plan_mentions(raw, unallocated, "volumes_free"));
    assert_false(plan_mentions(raw, unallocated, "TEMP B-TREE"));
    sqlite3_close(raw);
}

static void test_the_local_system_and_the_default_setting_are_there_from_the_start(void **state)
{
    struct fixture *fixture = *state;
    struct system_row system;
    struct setting_row setting;
    assert_int_equal(table_get(fixture->db, &system_table, SYSTEM_LOCAL, &system), 0);
    assert_true(system.local);
    assert_true(system.created_ms > 1600000000000);
    assert_int_equal(table_get(fixture->db, &setting_table, "default", &setting), 0);
    assert_int_equal(setting.replication_priority, 3);
    assert_int_equal(setting.initial_synchronization, 2);
    assert_int_equal(setting.bandwidth_limit, 0);
    assert_false(setting.verify);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_every_column_of_every_table_is_in_the_schema_and_no_other),
        T(test_every_table_of_the_schema_is_known_strict_and_numbered),
        T(test_every_member_of_every_row_has_a_column_of_its_type),
        T(test_lists_with_a_filter_are_served_by_an_index_in_order_of_seq),
        T(test_the_local_system_and_the_default_setting_are_there_from_the_start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
