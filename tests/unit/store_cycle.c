// SPDX-License-Identifier: Apache-2.0
/* Where asynchronous mirrors are: which layers they count on, and how old their points were. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store_fixture.h"

static void add(struct fixture *fixture, const char *sync, const char *base, const char *cut,
                const char *point)
{
    struct cycle_row row = {0};

    TEXT_SET(row.sync_id, sync);
    TEXT_SET(row.base_id, base);
    TEXT_SET(row.cut_id, cut);
    TEXT_SET(row.point_id, point);
    assert_int_equal(table_insert(fixture->db, &cycle_table, &row), 0);
}

static void test_layers_are_pinned_and_followed(void **state)
{
    struct fixture *fixture = *state;
    struct cycle_row row;

    assert_int_equal(db_begin(fixture->db), 0);
    add(fixture, "s1", "b", "c", "p");
    add(fixture, "s2", "b", "", "b");
    assert_int_equal(cycle_pins(fixture->db, "b"), 1);
    assert_int_equal(cycle_pins(fixture->db, "c"), 1);
    assert_int_equal(cycle_pins(fixture->db, "p"), 1);
    assert_int_equal(cycle_pins(fixture->db, "x"), 0);
    assert_int_equal(cycle_layer_renamed(fixture->db, "b", "a"), 0);
    assert_int_equal(cycle_layer_renamed(fixture->db, "x", "y"), 0);
    assert_int_equal(cycle_pins(fixture->db, "b"), 0);
    assert_int_equal(cycle_find(fixture->db, "s1", &row), 0);
    assert_string_equal(row.base_id, "a");
    assert_string_equal(row.cut_id, "c");
    assert_int_equal(cycle_find(fixture->db, "s2", &row), 0);
    assert_string_equal(row.base_id, "a");
    assert_string_equal(row.point_id, "a");
    assert_int_equal(db_commit(fixture->db), 0);
}

static void test_percentiles_are_of_the_last_samples(void **state)
{
    char history[CYCLE_HISTORY_SIZE] = "";

    (void)state;
    assert_int_equal(cycle_history_percentile(history, 50), 0);
    cycle_history_add(history, 7);
    assert_int_equal(cycle_history_percentile(history, 50), 7);
    assert_int_equal(cycle_history_percentile(history, 99), 7);
    for (unsigned i = 1; i <= 200; i++) {
        cycle_history_add(history, i);
    }
    /* 137 to 200 are left. */
    assert_int_equal(cycle_history_percentile(history, 50), 168);
    assert_int_equal(cycle_history_percentile(history, 99), 200);
    assert_int_equal(cycle_history_percentile(history, 1), 137);
    for (unsigned i = 0; i < 100; i++) {
        cycle_history_add(history, UINT64_MAX);
        assert_true(strlen(history) < sizeof(history));
    }
    assert_true(cycle_history_percentile(history, 50) == UINT64_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_layers_are_pinned_and_followed, fixture_setup,
                                        fixture_teardown),
        cmocka_unit_test(test_percentiles_are_of_the_last_samples),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
