// SPDX-License-Identifier: Apache-2.0
/* Files of every age are brought to the newest schema, or left as they are. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <sqlite3.h>

#include "store/db.h"
#include "store/migrations.h"
#include "tests/unit/store_fixture.h"

/* Runs one text over the file without anything of ours. */
static void raw_exec(const struct fixture *fixture, const char *sql)
{
    sqlite3 *raw;
    assert_int_equal(sqlite3_open(fixture_path(fixture, "smirror.db"), &raw), SQLITE_OK);
    assert_int_equal(sqlite3_exec(raw, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(raw);
}

/* All CREATE texts, in a fixed order; to be freed. */
static char *schema_text(const struct fixture *fixture)
{
    sqlite3 *raw;
    sqlite3_stmt *list;
    struct strbuf text = STRBUF_INIT;
    assert_int_equal(sqlite3_open(fixture_path(fixture, "smirror.db"), &raw), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(raw,
                                        "SELECT type, name, sql FROM sqlite_schema ORDER BY 1, 2",
                                        -1, &list, NULL),
                     SQLITE_OK);
    while (sqlite3_step(list) == SQLITE_ROW) {
        const char *sql = (const char *)sqlite3_column_text(list, 2);
        strbuf_printf(&text, "%s %s %s\n", (const char *)sqlite3_column_text(list, 0),
                      (const char *)sqlite3_column_text(list, 1), sql != NULL ? sql : "");
    }
    sqlite3_finalize(list);
    sqlite3_close(raw);
    assert_int_equal(strbuf_error(&text), 0);
    return strbuf_steal(&text);
}

static int64_t version_of(struct db *db)
{
    int64_t version;
    assert_int_equal(db_number(db, "PRAGMA user_version", &version), 0);
    return version;
}

/* A file as a program of that version has left it. */
static void make_file_of_version(const struct fixture *fixture, size_t version)
{
    struct strbuf sql = STRBUF_INIT;
    for (size_t i = 0; i < version; i++) {
        strbuf_printf(&sql, "%s;", schema_steps[i]);
    }
    if (version > 0) {
        strbuf_printf(&sql, "PRAGMA user_version = %zu; PRAGMA application_id = %d", version,
                      STORE_APPLICATION_ID);
    }
    raw_exec(fixture, strbuf_str(&sql));
    strbuf_fini(&sql);
}

static void test_a_file_of_every_older_version_becomes_what_a_new_file_is(void **state)
{
    (void)state;
    struct fixture fresh;
    fixture_init(&fresh);
    fixture_open(&fresh);
    char *newest = schema_text(&fresh);
    for (size_t version = 0; version <= schema_version; version++) {
        struct fixture old;
        fixture_init(&old);
        make_file_of_version(&old, version);
        fixture_open(&old);
        assert_int_equal(version_of(old.db), schema_version);
        char *migrated = schema_text(&old);
        assert_string_equal(migrated, newest);
        free(migrated);
        struct system_row row;
        assert_int_equal(table_get(old.db, &system_table, SYSTEM_LOCAL, &row), 0);
        fixture_fini(&old);
    }
    free(newest);
    fixture_fini(&fresh);
}

/* Steps of a future that may never come, to test the machinery with more than one. */
static const char *const later_steps[] = {
    "", /* version 1 is there already */
    "CREATE TABLE later (a TEXT); INSERT INTO later VALUES ('two')",
    "ALTER TABLE later ADD COLUMN b INTEGER NOT NULL DEFAULT 7; UPDATE later SET a = a || ' three'",
};

static void test_steps_run_once_each_and_in_order_from_wherever_the_file_is(void **state)
{
    struct fixture *fixture = *state;
    struct error error = {0};
    assert_int_equal(schema_version, 1); /* else later_steps wants another empty one */
    for (size_t target = 1; target <= 3; target++) {
        assert_int_equal(migrations_run(fixture->db, later_steps, target, &error), 0);
        assert_int_equal(version_of(fixture->db), target);
    }
    assert_int_equal(migrations_run(fixture->db, later_steps, 3, &error), 0);
    int64_t n;
    assert_int_equal(
        db_number(fixture->db, "SELECT count(*) FROM later WHERE a = 'two three' AND b = 7", &n),
        0);
    assert_int_equal(n, 1);
    assert_int_equal(db_number(fixture->db, "SELECT count(*) FROM later", &n), 0);
    assert_int_equal(n, 1);
}

static void test_a_step_that_fails_leaves_the_file_at_the_version_before(void **state)
{
    static const char *const failing[] = {
        "",
        "CREATE TABLE later (a TEXT)",
        "INSERT INTO later VALUES ('x'); INSERT INTO nowhere VALUES (1)",
    };
    struct fixture *fixture = *state;
    struct error error = {0};
    assert_true(migrations_run(fixture->db, failing, 3, &error) < 0);
    assert_int_equal(error.code, ERR_STORE_FAILED);
    assert_non_null(strstr(error.detail, "version 2 to 3"));
    assert_non_null(strstr(error.detail, "nowhere"));
    assert_int_equal(version_of(fixture->db), 2);
    int64_t n;
    assert_int_equal(db_number(fixture->db, "SELECT count(*) FROM later", &n), 0);
    assert_int_equal(n, 0);
}

static void test_a_newer_version_is_refused_by_writer_and_reader_and_left_alone(void **state)
{
    struct fixture *fixture = *state;
    struct error error = {0};
    struct db *db = NULL;
    fixture_close(fixture);
    raw_exec(fixture, "PRAGMA user_version = 1000");
    char *before = schema_text(fixture);
    assert_int_equal(store_open(fixture->dir, &db, &error), -EIO);
    assert_int_equal(error.code, ERR_STORE_FAILED);
    assert_non_null(strstr(error.detail, "1000"));
    assert_null(db);
    error = (struct error){0};
    assert_int_equal(store_reader_open(fixture->dir, &db, &error), -EIO);
    assert_non_null(strstr(error.detail, "1000"));
    assert_null(db);
    char *after = schema_text(fixture);
    assert_string_equal(after, before);
    free(before);
    free(after);
    raw_exec(fixture, "PRAGMA user_version = 1");
    fixture_open(fixture);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_file_of_every_older_version_becomes_what_a_new_file_is),
        T(test_steps_run_once_each_and_in_order_from_wherever_the_file_is),
        T(test_a_step_that_fails_leaves_the_file_at_the_version_before),
        T(test_a_newer_version_is_refused_by_writer_and_reader_and_left_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
