// SPDX-License-Identifier: Apache-2.0
/* Exports: what is unique, what goes with them, and reservations as bytes. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/store_fixture.h"

static void add_volume(struct db *db, const char *id)
{
    struct volume_row volume = {.kind = VOLUME_HOSTED, .block_bytes = 512};
    TEXT_SET(volume.head.id, id);
    TEXT_SET(volume.system_id, SYSTEM_LOCAL);
    assert_int_equal(table_insert(db, &volume_table, &volume), 0);
}

static int add_export(struct db *db, const char *id, const char *iqn)
{
    struct export_row row = {.all_initiators = true};
    TEXT_SET(row.head.id, id);
    TEXT_SET(row.iqn, iqn);
    return table_insert(db, &export_table, &row);
}

static int add_lun(struct db *db, const char *export_id, uint32_t number, const char *volume_id)
{
    struct export_lun_row row = {.number = number};
    TEXT_SET(row.export_id, export_id);
    TEXT_SET(row.volume_id, volume_id);
    return table_insert(db, &export_lun_table, &row);
}

static int add_initiator(struct db *db, const char *export_id, const char *initiator)
{
    struct export_initiator_row row = {0};
    TEXT_SET(row.export_id, export_id);
    TEXT_SET(row.initiator, initiator);
    return table_insert(db, &export_initiator_table, &row);
}

static struct db *world(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    add_volume(db, "v1");
    add_volume(db, "v2");
    assert_int_equal(add_export(db, "e1", "iqn.1"), 0);
    assert_int_equal(add_export(db, "e2", "iqn.2"), 0);
    assert_int_equal(add_lun(db, "e1", 0, "v1"), 0);
    assert_int_equal(add_lun(db, "e1", 1, "v2"), 0);
    assert_int_equal(add_lun(db, "e2", 0, "v1"), 0);
    return db;
}

static void names_numbers_and_initiators_are_unique(void **state)
{
    struct db *db = world(state);
    assert_int_equal(add_export(db, "e3", "iqn.1"), -EEXIST);
    assert_int_equal(add_lun(db, "e1", 1, "v1"), -EEXIST);
    assert_int_equal(add_lun(db, "e2", 1, "v2"), 0);
    assert_int_equal(add_initiator(db, "e1", "iqn.host"), 0);
    assert_int_equal(add_initiator(db, "e1", "iqn.host"), -EEXIST);
    assert_int_equal(add_initiator(db, "e2", "iqn.host"), 0);
    assert_int_equal(add_lun(db, "e3", 0, "v1"), -ENOENT);
    assert_int_equal(add_lun(db, "e1", 5, "v3"), -ENOENT);
}

static void a_volume_does_not_go_while_it_is_a_lun(void **state)
{
    struct db *db = world(state);
    struct condition luns[] = {WHERE_TEXT("volume_id", "v2"), WHERE_END};
    struct export_lun_row row;
    assert_int_equal(table_delete(db, &volume_table, "v2"), -EBUSY);
    assert_int_equal(table_find(db, &export_lun_table, luns, &row), 0);
    assert_int_equal(table_delete(db, &export_lun_table, row.head.id), 0);
    assert_int_equal(table_delete(db, &volume_table, "v2"), 0);
}

static uint64_t count_of(struct db *db, const struct table *table, const char *export_id)
{
    struct condition where[] = {WHERE_TEXT("export_id", export_id), WHERE_END};
    uint64_t n;
    assert_int_equal(table_count(db, table, where, &n), 0);
    return n;
}

static void what_belongs_to_an_export_goes_with_it(void **state)
{
    struct db *db = world(state);
    struct strbuf kept = STRBUF_INIT;
    assert_int_equal(add_initiator(db, "e1", "iqn.host"), 0);
    assert_int_equal(reservation_put(db, "e1", 0, "abc", 3), 0);
    assert_int_equal(table_delete(db, &export_table, "e1"), 0);
    assert_int_equal(count_of(db, &export_lun_table, "e1"), 0);
    assert_int_equal(count_of(db, &export_initiator_table, "e1"), 0);
    assert_int_equal(count_of(db, &export_lun_table, "e2"), 1);
    assert_int_equal(reservation_get(db, "e1", 0, &kept), -ENOENT);
    assert_int_equal(table_delete(db, &volume_table, "v2"), 0);
    strbuf_fini(&kept);
}

static void reservations_are_bytes_of_any_length(void **state)
{
    struct db *db = world(state);
    struct strbuf kept = STRBUF_INIT;
    static char large[70000];
    memset(large, 0xa5, sizeof(large));
    large[7] = '\0';
    assert_int_equal(reservation_get(db, "e1", 1, &kept), -ENOENT);
    assert_int_equal(reservation_put(db, "e1", 1, "old", 3), 0);
    assert_int_equal(reservation_put(db, "e1", 1, large, sizeof(large)), 0);
    assert_int_equal(reservation_put(db, "e2", 0, "two", 3), 0);
    assert_int_equal(reservation_get(db, "e1", 1, &kept), 0);
    assert_int_equal(kept.len, sizeof(large));
    assert_memory_equal(strbuf_str(&kept), large, sizeof(large));
    assert_int_equal(reservation_put(db, "e1", 1, NULL, 0), 0);
    assert_int_equal(reservation_get(db, "e1", 1, &kept), -ENOENT);
    strbuf_reset(&kept);
    assert_int_equal(reservation_get(db, "e2", 0, &kept), 0);
    assert_string_equal(strbuf_str(&kept), "two");
    assert_int_equal(reservation_put(db, "none", 0, "x", 1), -ENOENT);
    strbuf_fini(&kept);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(names_numbers_and_initiators_are_unique),
        TEST(a_volume_does_not_go_while_it_is_a_lun),
        TEST(what_belongs_to_an_export_goes_with_it),
        TEST(reservations_are_bytes_of_any_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
