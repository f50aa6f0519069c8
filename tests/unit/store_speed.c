// SPDX-License-Identifier: Apache-2.0
/*
 * Prints what the usual queries cost with 5,000 volumes. The limits are twenty times and more above
 * what an idle machine needs, for sanitizers and busy machines: they catch a lost index or a
 * statement that is prepared each time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/random.h"
#include "store/db.h"
#include "tests/unit/store_fixture.h"

#define N_VOLUMES 5000

static char ids[N_VOLUMES][ID_SIZE];

static uint64_t now_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void report(const char *what, uint64_t start_ns, unsigned times, double limit_us)
{
    double us = (double)(now_ns() - start_ns) / 1000 / times;
    printf("%-44s %9.1f us\n", what, us);
    if (us > limit_us) {
        fail_msg("%s took %.1f us, more than %.0f", what, us, limit_us);
    }
}

static struct volume_row volume(unsigned i)
{
    struct volume_row row = {.kind = VOLUME_REMOTE,
                             .lun = i % 100,
                             .size_bytes = (1 + i % 37) * (1ull << 30),
                             .block_bytes = 512,
                             .physical_bytes = 4096};
    snprintf(row.element_name, sizeof(row.element_name), "volume %u of the database cluster", i);
    TEXT_SET(row.system_id, SYSTEM_LOCAL);
    snprintf(row.pool_id, sizeof(row.pool_id), "pool%u", i % 10);
    snprintf(row.iqn, sizeof(row.iqn), "iqn.2026-01.org.example:array%u", i / 100);
    snprintf(row.identity, sizeof(row.identity), "naa.6001405%025u", i);
    TEXT_SET(row.vendor, "EXAMPLE");
    TEXT_SET(row.product, "VIRTUAL-DISK");
    row.allocated = i % 2 == 0;
    return row;
}

static int count_row(void *arg, const void *row)
{
    (void)row;
    ++*(unsigned *)arg;
    return 0;
}

static void test_usual_queries_stay_cheap_with_thousands_of_volumes(void **state)
{
    struct fixture *fixture = *state;
    struct db *db = fixture->db;
    struct random random;
    random_seed(&random, 1);

    for (unsigned i = 0; i < 10; i++) {
        struct pool_row pool = {.kind = POOL_REMOTE};
        snprintf(pool.head.id, sizeof(pool.head.id), "pool%u", i);
        TEXT_SET(pool.system_id, SYSTEM_LOCAL);
        assert_int_equal(table_insert(db, &pool_table, &pool), 0);
    }
    uint64_t start = now_ns();
    assert_int_equal(db_begin(db), 0);
    for (unsigned i = 0; i < N_VOLUMES; i++) {
        struct volume_row row = volume(i);
        assert_int_equal(table_insert(db, &volume_table, &row), 0);
        memcpy(ids[i], row.head.id, ID_SIZE);
    }
    assert_int_equal(db_commit(db), 0);
    report("insert, 5000 in one transaction, each", start, N_VOLUMES, 2000);

    struct db *reader = fixture_reader(fixture);
    struct volume_row row;
    start = now_ns();
    for (unsigned i = 0; i < 20000; i++) {
        const char *id = ids[random_below(&random, N_VOLUMES)];
        assert_int_equal(table_get(reader, &volume_table, id, &row), 0);
    }
    report("get by id, each its own transaction", start, 20000, 500);

    start = now_ns();
    assert_int_equal(db_read_begin(reader), 0);
    for (unsigned i = 0; i < 20000; i++) {
        const char *id = ids[random_below(&random, N_VOLUMES)];
        assert_int_equal(table_get(reader, &volume_table, id, &row), 0);
    }
    db_read_end(reader);
    report("get by id, in one snapshot", start, 20000, 500);

    unsigned n = 0;
    start = now_ns();
    for (unsigned i = 0; i < 500; i++) {
        int64_t after = (int64_t)random_below(&random, N_VOLUMES - 100);
        assert_int_equal(table_each(reader, &volume_table, NULL, after, 100, count_row, &n), 0);
    }
    assert_int_equal(n, 50000);
    report("page of 100", start, 500, 10000);

    const struct condition in_pool[] = {WHERE_TEXT("pool_id", "pool3"), WHERE_END};
    n = 0;
    start = now_ns();
    for (unsigned i = 0; i < 500; i++) {
        int64_t after = (int64_t)random_below(&random, 3000);
        assert_int_equal(table_each(reader, &volume_table, in_pool, after, 100, count_row, &n), 0);
    }
    assert_int_equal(n, 50000);
    report("page of 100, one pool", start, 500, 10000);

    const struct condition lun[] = {WHERE_NUM("kind", VOLUME_REMOTE),
                                    WHERE_TEXT("iqn", "iqn.2026-01.org.example:array42"),
                                    WHERE_NUM("lun", 17), WHERE_END};
    start = now_ns();
    for (unsigned i = 0; i < 5000; i++) {
        assert_int_equal(table_find(reader, &volume_table, lun, &row), 0);
    }
    report("find by (kind, iqn, lun)", start, 5000, 1000);

    uint64_t total;
    uint64_t unallocated;
    start = now_ns();
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(table_count(reader, &volume_table, NULL, &total), 0);
    }
    report("count, all", start, 1000, 10000);
    start = now_ns();
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(pool_capacity(reader, "pool3", &total, &unallocated), 0);
    }
    report("capacity of a pool of 500", start, 500, 20000);
    start = now_ns();
    for (unsigned i = 0; i < 500; i++) {
        assert_int_equal(volume_find_free(reader, "pool3", 20ull << 30, 512, "", &row), 0);
    }
    report("find a free volume in a pool", start, 500, 40000);
    db_close(reader);

    /* Without a limit: the disk decides. */
    struct db_stats before = db_stats(db);
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(db_begin(db), 0);
        assert_int_equal(table_get(db, &volume_table, ids[i], &row), 0);
        row.last_seen_ms = i;
        assert_int_equal(table_update(db, &volume_table, &row), 0);
        assert_int_equal(db_commit(db), 0);
    }
    struct db_stats after = db_stats(db);
    printf("%-44s %9.1f us\n", "commit of one update",
           (double)(after.commit_ns - before.commit_ns) / 1000 / 200);
    assert_int_equal(db_begin(db), 0);
    start = now_ns();
    for (unsigned i = 0; i < 2000; i++) {
        row = volume(i);
        TEXT_SET(row.head.id, ids[i]);
        assert_int_equal(db_savepoint(db), 0);
        assert_int_equal(table_update(db, &volume_table, &row), 0);
        assert_int_equal(db_release(db), 0);
    }
    report("savepoint, update, release", start, 2000, 4000);
    assert_int_equal(db_commit(db), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_usual_queries_stay_cheap_with_thousands_of_volumes,
                                        fixture_setup, fixture_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
