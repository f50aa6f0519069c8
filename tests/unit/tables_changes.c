// SPDX-License-Identifier: Apache-2.0
/* From rows to objects: what a transaction has changed, whatever of it was rolled back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "service/changes.h"
#include "tests/unit/store_fixture.h"

struct world {
    struct fixture store;
    struct changes *changes;
    struct change_observer observer;
    char told[4096]; /* "created volumes/v, changed pools/p later, " */
};

static void told(void *arg, const struct object_change *changes, size_t n)
{
    static const char *const kinds[] = {"created", "changed", "deleted"};
    struct world *world = arg;
    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(world->told);
        snprintf(world->told + len, sizeof(world->told) - len, "%s%s %s/%s%s", len > 0 ? ", " : "",
                 kinds[changes[i].kind], view_collections[changes[i].collection].path,
                 changes[i].id, changes[i].later ? " later" : "");
    }
}

static int setup(void **state)
{
    static struct world world;
    memset(&world, 0, sizeof(world));
    fixture_init(&world.store);
    fixture_open(&world.store);
    world.changes = changes_new();
    world.observer = (struct change_observer){told, &world};
    db_watch(world.store.db, changes_watch(world.changes));
    *state = &world;
    return 0;
}

static int teardown(void **state)
{
    struct world *world = *state;
    db_watch(world->store.db, NULL);
    fixture_fini(&world->store);
    changes_free(world->changes);
    return 0;
}

static void begin(struct world *world)
{
    assert_int_equal(db_begin(world->store.db), 0);
}

static void commit(struct world *world)
{
    world->told[0] = '\0';
    assert_int_equal(db_commit(world->store.db), 0);
    changes_commit(world->changes, &world->observer);
}

static struct volume_row volume(const char *id)
{
    struct volume_row row = {.kind = VOLUME_HOSTED, .size_bytes = 1 << 20, .block_bytes = 512};
    TEXT_SET(row.head.id, id);
    TEXT_SET(row.system_id, SYSTEM_LOCAL);
    TEXT_SET(row.pool_id, "default");
    return row;
}

static void insert(struct world *world, const struct table *table, void *row)
{
    assert_int_equal(table_insert(world->store.db, table, row), 0);
}

static void update(struct world *world, const struct table *table, const void *row)
{
    assert_int_equal(table_update(world->store.db, table, row), 0);
}

static void test_every_table_of_the_store_is_known(void **state)
{
    (void)state;
    for (size_t i = 0; i < fixture_n_tables; i++) {
        if (!changes_knows(fixture_tables[i])) {
            print_error(
                "service/changes.c does not say which objects show a row of %s; say NO_OBJECT "
                "when there is none\n",
                fixture_tables[i]->name);
        }
        assert_true(changes_knows(fixture_tables[i]));
    }
}

static void test_a_row_is_told_with_those_that_show_it(void **state)
{
    struct world *world = *state;
    struct volume_row a = volume("a");
    struct volume_row b = volume("b");
    struct sync_row sync = {.copy_state = 3};

    begin(world);
    insert(world, &volume_table, &a);
    commit(world);
    assert_string_equal(world->told, "created volumes/a, changed pools/default later");

    begin(world);
    insert(world, &volume_table, &b);
    TEXT_SET(sync.head.id, "s");
    TEXT_SET(sync.source_id, "a");
    TEXT_SET(sync.target_id, "b");
    insert(world, &sync_table, &sync);
    commit(world);
    assert_string_equal(world->told, "created volumes/b, changed pools/default later, created "
                                     "synchronizations/s, changed volumes/a");

    begin(world);
    sync.copy_state = 4;
    update(world, &sync_table, &sync);
    commit(world);
    assert_string_equal(world->told, "changed synchronizations/s");

    begin(world);
    assert_int_equal(table_delete(world->store.db, &sync_table, "s"), 0);
    assert_int_equal(table_delete(world->store.db, &volume_table, "b"), 0);
    commit(world);
    assert_string_equal(world->told, "deleted synchronizations/s, changed volumes/a, deleted "
                                     "volumes/b, changed pools/default later");
}

static void test_what_moves_is_told_of_both_places(void **state)
{
    struct world *world = *state;
    struct volume_row row = volume("a");

    begin(world);
    insert(world, &volume_table, &row);
    commit(world);
    begin(world);
    TEXT_SET(row.pool_id, "other");
    update(world, &volume_table, &row);
    commit(world);
    assert_string_equal(
        world->told, "changed volumes/a, changed pools/default later, changed pools/other later");
    begin(world);
    TEXT_SET(row.pool_id, "");
    update(world, &volume_table, &row);
    commit(world);
    assert_string_equal(world->told, "changed volumes/a, changed pools/other later");
}

static void test_no_change_is_told_of_what_stays(void **state)
{
    struct world *world = *state;
    struct volume_row row = volume("a");

    begin(world);
    insert(world, &volume_table, &row);
    commit(world);
    begin(world);
    update(world, &volume_table, &row);
    row.last_seen_ms = 1234567;
    update(world, &volume_table, &row);
    commit(world);
    assert_string_equal(world->told, "");
    begin(world);
    row.last_seen_ms = 1234568;
    row.offline = true;
    update(world, &volume_table, &row);
    commit(world);
    assert_string_equal(world->told, "changed volumes/a, changed pools/default later");
}

static void test_several_changes_come_to_one(void **state)
{
    struct world *world = *state;
    struct setting_row row = {0};
    struct db *db = world->store.db;

    begin(world);
    TEXT_SET(row.head.id, "x");
    insert(world, &setting_table, &row);
    row.bandwidth_limit = 5;
    update(world, &setting_table, &row);
    commit(world);
    assert_string_equal(world->told, "created settings/x");

    begin(world);
    row.bandwidth_limit = 6;
    update(world, &setting_table, &row);
    assert_int_equal(table_delete(db, &setting_table, "x"), 0);
    commit(world);
    assert_string_equal(world->told, "deleted settings/x");

    begin(world);
    insert(world, &setting_table, &row);
    assert_int_equal(table_delete(db, &setting_table, "x"), 0);
    commit(world);
    assert_string_equal(world->told, "");

    begin(world);
    insert(world, &setting_table, &row);
    commit(world);
    begin(world);
    assert_int_equal(table_delete(db, &setting_table, "x"), 0);
    insert(world, &setting_table, &row);
    commit(world);
    assert_string_equal(world->told, "changed settings/x");
}

static void test_what_is_rolled_back_is_not_told(void **state)
{
    struct world *world = *state;
    struct setting_row x = {0};
    struct setting_row y = {0};
    struct db *db = world->store.db;

    TEXT_SET(x.head.id, "x");
    TEXT_SET(y.head.id, "y");
    begin(world);
    assert_int_equal(db_savepoint(db), 0);
    insert(world, &setting_table, &x);
    assert_int_equal(db_savepoint(db), 0);
    insert(world, &setting_table, &y);
    db_rollback_to(db);
    assert_int_equal(db_release(db), 0);
    commit(world);
    assert_string_equal(world->told, "created settings/x");

    begin(world);
    insert(world, &setting_table, &y);
    db_rollback(db);
    changes_drop(world->changes);
    begin(world);
    insert(world, &setting_table, &y);
    commit(world);
    assert_string_equal(world->told, "created settings/y");

    /* A change that fails is none. */
    begin(world);
    assert_int_not_equal(table_insert(db, &setting_table, &y), 0);
    assert_int_not_equal(table_delete(db, &setting_table, "nobody"), 0);
    commit(world);
    assert_string_equal(world->told, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_table_of_the_store_is_known),
        cmocka_unit_test_setup_teardown(test_a_row_is_told_with_those_that_show_it, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_what_moves_is_told_of_both_places, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_change_is_told_of_what_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(test_several_changes_come_to_one, setup, teardown),
        cmocka_unit_test_setup_teardown(test_what_is_rolled_back_is_not_told, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
