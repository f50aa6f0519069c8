// SPDX-License-Identifier: Apache-2.0
/* Which volume a copy may take, and what a pool has. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/random.h"
#include "tests/unit/store_fixture.h"

#define GIB (1ull << 30)

static void add_pool(struct db *db, const char *id, enum pool_kind kind)
{
    struct pool_row pool = {.kind = kind};
    TEXT_SET(pool.head.id, id);
    TEXT_SET(pool.system_id, SYSTEM_LOCAL);
    assert_int_equal(table_insert(db, &pool_table, &pool), 0);
}

static struct volume_row free_volume(const char *id, const char *pool_id, uint64_t size_bytes)
{
    struct volume_row volume = {
        .kind = VOLUME_REMOTE, .size_bytes = size_bytes, .block_bytes = 512};
    TEXT_SET(volume.head.id, id);
    TEXT_SET(volume.pool_id, pool_id);
    TEXT_SET(volume.system_id, SYSTEM_LOCAL);
    return volume;
}

static void add_volume(struct db *db, struct volume_row volume)
{
    assert_int_equal(table_insert(db, &volume_table, &volume), 0);
}

static void add_sync(struct db *db, const char *source_id, const char *target_id)
{
    struct sync_row sync = {.copy_type = 5};
    TEXT_SET(sync.source_id, source_id);
    TEXT_SET(sync.target_id, target_id);
    assert_int_equal(table_insert(db, &sync_table, &sync), 0);
}

static void check_found(struct db *db, const char *pool_id, uint64_t size_bytes,
                        const char *expected)
{
    struct volume_row found;
    int err = volume_find_free(db, pool_id, size_bytes, 512, "source", &found);
    if (expected == NULL) {
        assert_int_equal(err, -ENOENT);
    } else {
        assert_int_equal(err, 0);
        assert_string_equal(found.head.id, expected);
    }
}

static void test_the_smallest_that_fits_is_taken_and_the_oldest_of_equals(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    add_pool(db, "p", POOL_REMOTE);
    add_volume(db, free_volume("large", "p", 8 * GIB));
    add_volume(db, free_volume("old", "p", 4 * GIB));
    add_volume(db, free_volume("new", "p", 4 * GIB));
    add_volume(db, free_volume("small", "p", GIB));
    check_found(db, "p", 4 * GIB, "old");
    check_found(db, "p", 4 * GIB - 512, "old");
    check_found(db, "p", 4 * GIB + 512, "large");
    check_found(db, "p", 8 * GIB + 512, NULL);
    check_found(db, "p", 512, "small");
    check_found(db, "p", UINT64_MAX, NULL);
}

static void test_without_a_pool_any_remote_pool_may_give(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    add_pool(db, "p", POOL_REMOTE);
    add_pool(db, "q", POOL_REMOTE);
    add_volume(db, free_volume("in_p", "p", 2 * GIB));
    add_volume(db, free_volume("in_q", "q", GIB));
    check_found(db, "", GIB, "in_q");
    check_found(db, "p", GIB, "in_p");
    check_found(db, "q", 2 * GIB, NULL);
    check_found(db, "nobody", GIB, NULL);
}

static void test_what_is_unsuitable_is_never_taken(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    add_pool(db, "p", POOL_REMOTE);
    add_pool(db, "files", POOL_FILE);
    struct volume_row volume = free_volume("allocated", "p", GIB);
    volume.allocated = true;
    add_volume(db, volume);
    volume = free_volume("write_protected", "p", GIB);
    volume.write_protected = true;
    add_volume(db, volume);
    volume = free_volume("lost", "p", GIB);
    TEXT_SET(volume.problem, "the target does not offer it any more");
    add_volume(db, volume);
    volume = free_volume("other_blocks", "p", GIB);
    volume.block_bytes = 4096;
    add_volume(db, volume);
    add_volume(db, free_volume("in_no_pool", "", GIB));
    add_volume(db, free_volume("in_a_file_pool", "files", GIB));
    add_volume(db, free_volume("in_a_pool_that_is_gone", "gone", GIB));
    add_volume(db, free_volume("source", "p", GIB));
    add_volume(db, free_volume("is_source", "p", GIB));
    add_volume(db, free_volume("is_target", "p", GIB));
    add_sync(db, "is_source", "is_target");
    check_found(db, "p", GIB, NULL);
    check_found(db, "", GIB, NULL);
    check_found(db, "files", GIB, NULL);

    struct volume_row found;
    assert_int_equal(volume_find_free(db, "p", GIB, 4096, "source", &found), 0);
    assert_string_equal(found.head.id, "other_blocks");
    add_volume(db, free_volume("good", "p", GIB));
    check_found(db, "p", GIB, "good");
}

static void test_the_capacity_of_a_pool_is_the_sum_of_its_members(void **state)
{
    struct db *db = ((struct fixture *)*state)->db;
    uint64_t total;
    uint64_t unallocated;
    add_pool(db, "p", POOL_REMOTE);
    assert_int_equal(pool_capacity(db, "p", &total, &unallocated), 0);
    assert_int_equal(total, 0);
    assert_int_equal(unallocated, 0);

    add_volume(db, free_volume("a", "p", 1ull << 50));
    add_volume(db, free_volume("b", "p", 3 * GIB));
    struct volume_row volume = free_volume("c", "p", 5 * GIB);
    volume.allocated = true;
    add_volume(db, volume);
    add_volume(db, free_volume("elsewhere", "q", 7 * GIB));
    assert_int_equal(pool_capacity(db, "p", &total, &unallocated), 0);
    assert_true(total == (1ull << 50) + 8 * GIB);
    assert_true(unallocated == (1ull << 50) + 3 * GIB);
}

/* The rule once more, in C. */
static const struct volume_row *oracle(const struct volume_row *volumes, size_t n,
                                       const char *pool_id, uint64_t size_bytes)
{
    const struct volume_row *best = NULL;
    for (size_t i = 0; i < n; i++) {
        const struct volume_row *v = &volumes[i];
        bool in_pool = pool_id[0] != '\0' ? strcmp(v->pool_id, pool_id) == 0
                                          : strcmp(v->pool_id, "files") != 0;
        if (in_pool && strcmp(pool_id, "files") != 0 && v->pool_id[0] != '\0' && !v->allocated &&
            !v->write_protected && v->problem[0] == '\0' && v->block_bytes == 512 &&
            v->size_bytes >= size_bytes && (best == NULL || v->size_bytes < best->size_bytes)) {
            best = v;
        }
    }
    return best;
}

static void test_the_choice_among_random_volumes_is_that_of_a_plain_search(void **state)
{
    static const char *const pools[] = {"", "p", "q", "files"};
    static struct volume_row volumes[300];
    struct db *db = ((struct fixture *)*state)->db;
    struct random random;
    random_seed(&random, 7);
    add_pool(db, "p", POOL_REMOTE);
    add_pool(db, "q", POOL_REMOTE);
    add_pool(db, "files", POOL_FILE);
    assert_int_equal(db_begin(db), 0);
    for (size_t i = 0; i < 300; i++) {
        char id[ID_SIZE];
        snprintf(id, sizeof(id), "v%zu", i);
        volumes[i] =
            free_volume(id, pools[random_below(&random, 4)], GIB * (1 + random_below(&random, 20)));
        volumes[i].allocated = random_chance(&random, 1, 3);
        volumes[i].write_protected = random_chance(&random, 1, 5);
        volumes[i].block_bytes = random_chance(&random, 1, 4) ? 4096 : 512;
        TEXT_SET(volumes[i].problem, random_chance(&random, 1, 5) ? "lost" : "");
        add_volume(db, volumes[i]);
    }
    assert_int_equal(db_commit(db), 0);
    for (uint64_t size = 1; size <= 21; size++) {
        for (size_t p = 0; p < 4; p++) {
            const struct volume_row *expected = oracle(volumes, 300, pools[p], size * GIB);
            check_found(db, pools[p], size * GIB, expected != NULL ? expected->head.id : NULL);
        }
    }
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fixture_setup, fixture_teardown)
    const struct CMUnitTest tests[] = {
        T(test_the_smallest_that_fits_is_taken_and_the_oldest_of_equals),
        T(test_without_a_pool_any_remote_pool_may_give),
        T(test_what_is_unsuitable_is_never_taken),
        T(test_the_capacity_of_a_pool_is_the_sum_of_its_members),
        T(test_the_choice_among_random_volumes_is_that_of_a_plain_search),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
