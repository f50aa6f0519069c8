// SPDX-License-Identifier: Apache-2.0
/* Pools of remote LUNs, and the records of volumes. */
#include "tests/unit/testing.h"

#include <stdio.h>
#include <string.h>

#include "service/enums.h"
#include "service/jobs.h"
#include "service/pools.h"
#include "service/volumes.h"
#include "tests/unit/service_fixture.h"

enum { MIB = 1 << 20 };

static struct service_fixture fixture;
static struct system_row array_a;
static struct system_row array_b;
static struct access_point_row portal_a;
static struct access_point_row portal_b;

static void array_insert(struct system_row *system, struct access_point_row *portal,
                         const char *name, const char *address)
{
    *system = (struct system_row){0};
    snprintf(system->element_name, sizeof(system->element_name), "%s", name);
    row_insert(&fixture, &system_table, system);
    *portal = (struct access_point_row){.registered = true};
    memcpy(portal->system_id, system->head.id, sizeof(portal->system_id));
    snprintf(portal->address, sizeof(portal->address), "%s", address);
    row_insert(&fixture, &access_point_table, portal);
}

static int start(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture_start(&fixture);
    array_insert(&array_a, &portal_a, "array a", "127.0.0.1:3260");
    array_insert(&array_b, &portal_b, "array b", "127.0.0.2:3260");
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fixture_destroy(&fixture);
    return 0;
}

static struct volume_row volume_on(const struct access_point_row *portal, unsigned lun,
                                   uint64_t size_bytes)
{
    struct volume_row row = {
        .kind = VOLUME_REMOTE,
        .lun = lun,
        .size_bytes = size_bytes,
        .block_bytes = 512,
        .persistent = true,
        .iqn = "iqn.2024-01.example:t1",
    };

    snprintf(row.element_name, sizeof(row.element_name), "v%u", lun);
    memcpy(row.system_id, portal->system_id, sizeof(row.system_id));
    memcpy(row.access_point_id, portal->head.id, sizeof(row.access_point_id));
    row_insert(&fixture, &volume_table, &row);
    return row;
}

static struct volume_row volume(unsigned lun, uint64_t size_bytes)
{
    return volume_on(&portal_a, lun, size_bytes);
}

static const char *path_of(const char *collection, const char *id)
{
    static char paths[4][PATH_SIZE];
    static unsigned next;
    char *path = paths[next++ % 4];

    snprintf(path, PATH_SIZE, "/%s/%s", collection, id);
    return path;
}

static void add_extent(struct test_call *test, const struct volume_row *row)
{
    arg_item(test, "InExtents", path_of("volumes", row->head.id));
}

static struct test_call *pool_call(const char *pool)
{
    struct test_call *test =
        test_call_new(&fixture, &storage_configuration_service, "CreateOrModifyStoragePool");

    if (pool != NULL) {
        arg_text(test, "Pool", pool);
    }
    return test;
}

static struct pool_row pool_of(const struct volume_row *members, size_t n)
{
    struct test_call *test = pool_call(NULL);
    struct pool_row row;

    for (size_t i = 0; i < n; i++) {
        add_extent(test, &members[i]);
    }
    assert_done(test);
    assert_int_equal(table_get(fixture.reader, &pool_table, id_of(out_of(test, "Pool")), &row), 0);
    test_call_free(test);
    return row;
}

static struct volume_row now(const struct volume_row *row)
{
    struct volume_row fresh;

    volume_of(&fixture, row->head.id, &fresh);
    return fresh;
}

static struct sync_row relationship(const struct volume_row *source,
                                    const struct volume_row *target)
{
    struct sync_row row = {.sync_type = SYNC_CLONE, .copy_state = STATE_SYNCHRONIZED};

    memcpy(row.source_id, source->head.id, sizeof(row.source_id));
    memcpy(row.target_id, target->head.id, sizeof(row.target_id));
    row_insert(&fixture, &sync_table, &row);
    return row;
}

/* A job with a copy that works on it. */
static struct job_row running(struct sync_row *sync)
{
    struct job_row job = {.name = "CreateReplica", .state = JOB_RUNNING};
    struct copy_row copy = {.state = COPY_ROW_RUNNING};

    row_insert(&fixture, &job_table, &job);
    memcpy(copy.job_id, job.head.id, sizeof(copy.job_id));
    memcpy(copy.sync_id, sync->head.id, sizeof(copy.sync_id));
    row_insert(&fixture, &copy_table, &copy);
    memcpy(sync->job_id, job.head.id, sizeof(sync->job_id));
    row_update(&fixture, &sync_table, sync);
    return job;
}

/* ---- CreateOrModifyStoragePool ---- */

static void a_pool_is_made_of_luns(void **state)
{
    struct volume_row volumes[] = {volume(1, MIB), volume(2, 2 * MIB)};
    struct test_call *test = pool_call(NULL);
    struct pool_row pool;
    struct volume_row row;

    (void)state;
    arg_text(test, "ElementName", "replicas");
    add_extent(test, &volumes[0]);
    add_extent(test, &volumes[1]);
    assert_done(test);
    assert_int_equal(values_get(test->call->outs, "Size")->number, 3 * MIB);
    assert_null(out_of(test, "Job"));
    assert_int_equal(table_get(fixture.reader, &pool_table, id_of(out_of(test, "Pool")), &pool), 0);
    assert_string_equal(pool.element_name, "replicas");
    assert_string_equal(pool.system_id, array_a.head.id);
    assert_int_equal(pool.kind, POOL_REMOTE);
    row = now(&volumes[1]);
    assert_string_equal(row.pool_id, pool.head.id);
    assert_false(row.allocated);
    test_call_free(test);
}

static void pools_without_a_name_get_one_each(void **state)
{
    struct volume_row volumes[] = {volume(1, MIB), volume(2, MIB)};
    struct pool_row first = pool_of(&volumes[0], 1);
    struct pool_row second = pool_of(&volumes[1], 1);

    (void)state;
    assert_string_equal(first.element_name, "array a-pool-1");
    assert_string_equal(second.element_name, "array a-pool-2");
}

static void extents_replace_the_set_and_a_name_renames(void **state)
{
    struct volume_row volumes[] = {volume(1, MIB), volume(2, MIB), volume(3, 4 * MIB)};
    struct pool_row pool = pool_of(volumes, 2);
    const char *path = path_of("pools", pool.head.id);
    struct test_call *test = pool_call(path);
    struct volume_row row;

    (void)state;
    add_extent(test, &volumes[1]);
    add_extent(test, &volumes[2]);
    assert_done(test);
    assert_int_equal(values_get(test->call->outs, "Size")->number, 5 * MIB);
    assert_string_equal(id_of(out_of(test, "Pool")), pool.head.id);
    test_call_free(test);
    row = now(&volumes[0]);
    assert_string_equal(row.pool_id, "");
    row = now(&volumes[1]);
    assert_string_equal(row.pool_id, pool.head.id);
    row = now(&volumes[2]);
    assert_string_equal(row.pool_id, pool.head.id);

    test = pool_call(path);
    arg_text(test, "ElementName", "renamed");
    assert_done(test);
    test_call_free(test);
    assert_int_equal(table_get(fixture.reader, &pool_table, pool.head.id, &pool), 0);
    assert_string_equal(pool.element_name, "renamed");
    row = now(&volumes[2]);
    assert_string_equal(row.pool_id, pool.head.id);
}

static void a_lun_that_holds_a_replica_stays(void **state)
{
    struct volume_row volumes[] = {volume(1, MIB), volume(2, MIB)};
    struct pool_row pool = pool_of(volumes, 2);
    struct test_call *test = pool_call(path_of("pools", pool.head.id));
    struct volume_row row = now(&volumes[0]);

    (void)state;
    row.allocated = true;
    row_update(&fixture, &volume_table, &row);
    add_extent(test, &volumes[1]);
    assert_failed(test, ERR_IN_USE, NULL);
    assert_string_equal(id_of(test->call->error.blocked_on), volumes[0].head.id);
    test_call_free(test);

    /* Named, it stays what it is, also when it is in a relationship. */
    relationship(&volumes[1], &volumes[0]);
    test = pool_call(path_of("pools", pool.head.id));
    add_extent(test, &volumes[0]);
    assert_done(test);
    test_call_free(test);
    row = now(&volumes[0]);
    assert_true(row.allocated);
    assert_string_equal(row.pool_id, pool.head.id);
    row = now(&volumes[1]);
    assert_string_equal(row.pool_id, "");
}

static void bad_pools_are_refused(void **state)
{
    struct volume_row volumes[] = {volume(1, MIB), volume(2, MIB), volume(3, MIB), volume(4, MIB)};
    struct volume_row other = volume_on(&portal_b, 1, MIB);
    struct pool_row pool = pool_of(volumes, 1);
    struct sync_row sync = relationship(&volumes[1], &volumes[2]);
    struct test_call *test;
    static const char *const unsupported[] = {"Goal", "Size", "InPools"};

    (void)state;
    for (size_t i = 0; i < 3; i++) {
        test = pool_call(NULL);
        add_extent(test, &volumes[3]);
        if (i == 0) {
            arg_text(test, "Goal", "/settings/default");
        } else if (i == 1) {
            arg_number(test, "Size", 1);
        } else {
            arg_array(test, "InPools");
        }
        assert_failed(test, ERR_NOT_SUPPORTED, unsupported[i]);
        test_call_free(test);
    }
    test = pool_call(NULL);
    assert_failed(test, ERR_MISSING_PARAMETER, "InExtents");
    test_call_free(test);
    test = pool_call(NULL);
    arg_array(test, "InExtents");
    assert_failed(test, ERR_INVALID_PARAMETER, "InExtents");
    test_call_free(test);
    test = pool_call(path_of("pools", pool.head.id));
    arg_array(test, "InExtents");
    assert_failed(test, ERR_INVALID_PARAMETER, "InExtents");
    test_call_free(test);
    test = pool_call("/pools/none");
    assert_failed(test, ERR_NO_SUCH_OBJECT, "Pool");
    test_call_free(test);
    test = pool_call(path_of("volumes", volumes[0].head.id));
    assert_failed(test, ERR_WRONG_CLASS, "Pool");
    test_call_free(test);
    test = pool_call(NULL);
    add_extent(test, &volumes[3]);
    arg_item(test, "InExtents", NULL);
    assert_failed(test, ERR_INVALID_PARAMETER, "InExtents[1]");
    test_call_free(test);
    test = pool_call(NULL);
    add_extent(test, &volumes[3]);
    arg_item(test, "InExtents", "/volumes/none");
    assert_failed(test, ERR_NO_SUCH_OBJECT, "InExtents[1]");
    test_call_free(test);
    test = pool_call(NULL);
    arg_item(test, "InExtents", "/systems/local");
    assert_failed(test, ERR_WRONG_CLASS, "InExtents[0]");
    test_call_free(test);
    test = pool_call(NULL);
    add_extent(test, &volumes[3]);
    add_extent(test, &other);
    assert_failed(test, ERR_INVALID_PARAMETER, "InExtents[1]");
    test_call_free(test);
    test = pool_call(path_of("pools", pool.head.id));
    add_extent(test, &other);
    assert_failed(test, ERR_INVALID_PARAMETER, "InExtents");
    test_call_free(test);
    test = pool_call(NULL);
    add_extent(test, &volumes[3]);
    add_extent(test, &other);
    assert_failed(test, ERR_INVALID_PARAMETER, "InExtents[1]");
    test_call_free(test);
    test = pool_call(NULL);
    add_extent(test, &volumes[3]);
    add_extent(test, &volumes[3]);
    assert_failed(test, ERR_INVALID_PARAMETER, "InExtents[1]");
    test_call_free(test);
    test = pool_call(NULL);
    add_extent(test, &volumes[0]);
    assert_failed(test, ERR_IN_USE, NULL);
    assert_string_equal(id_of(test->call->error.blocked_on), pool.head.id);
    test_call_free(test);
    for (size_t i = 1; i <= 2; i++) { /* source, target */
        test = pool_call(NULL);
        add_extent(test, &volumes[3]);
        add_extent(test, &volumes[i]);
        assert_failed(test, ERR_IN_USE, NULL);
        assert_string_equal(id_of(test->call->error.blocked_on), sync.head.id);
        test_call_free(test);
    }
    test = pool_call(NULL);
    add_extent(test, &volumes[3]);
    arg_text(test, "ElementName", "");
    assert_failed(test, ERR_INVALID_PARAMETER, "ElementName");
    test_call_free(test);
    struct volume_row hosted = volumes[3];

    hosted.kind = VOLUME_HOSTED;
    row_update(&fixture, &volume_table, &hosted);
    test = pool_call(NULL);
    add_extent(test, &volumes[3]);
    assert_failed(test, ERR_INVALID_PARAMETER, "InExtents[0]");
    test_call_free(test);

    assert_int_equal(rows_of(&fixture, &pool_table), 2);
    struct volume_row row = now(&volumes[3]);

    assert_string_equal(row.pool_id, "");
}

/* ---- DeleteStoragePool ---- */

static void deleting_a_pool_leaves_its_luns(void **state)
{
    struct volume_row volumes[] = {volume(1, MIB), volume(2, MIB)};
    struct pool_row pool = pool_of(volumes, 2);
    struct volume_row row = now(&volumes[1]);
    struct test_call *test;

    (void)state;
    row.allocated = true;
    row_update(&fixture, &volume_table, &row);
    for (int i = 0; i < 2; i++) {
        test = test_call_new(&fixture, &storage_configuration_service, "DeleteStoragePool");
        arg_text(test, "Pool", path_of("pools", pool.head.id));
        if (i == 0) {
            assert_failed(test, ERR_IN_USE, NULL);
            assert_string_equal(id_of(test->call->error.blocked_on), row.head.id);
            row.allocated = false;
            row_update(&fixture, &volume_table, &row);
        } else {
            assert_done(test);
        }
        test_call_free(test);
    }
    assert_int_equal(rows_of(&fixture, &pool_table), 1);
    row = now(&volumes[0]);
    assert_string_equal(row.pool_id, "");
    test = test_call_new(&fixture, &storage_configuration_service, "DeleteStoragePool");
    arg_text(test, "Pool", path_of("pools", pool.head.id));
    assert_failed(test, ERR_NO_SUCH_OBJECT, "Pool");
    test_call_free(test);
}

/* ---- pool_take ---- */

struct take {
    const struct pool_row *pool;
    const struct volume_row *source;
    const char *element_name;
    const struct volume_row *already[4];
    size_t n_already;
    struct volume_row taken;
    struct error error;
};

static int take_in_call(struct call *call, void *arg)
{
    struct take *take = arg;

    return pool_take(call, "TargetPool", take->pool, take->source, take->element_name,
                     take->already, take->n_already, &take->taken);
}

static int take(struct take *take)
{
    return fixture_do(&fixture, take_in_call, take, &take->error);
}

static void the_smallest_that_fits_is_taken(void **state)
{
    struct volume_row source = volume(9, 2 * MIB);
    struct volume_row volumes[] = {volume(1, MIB), volume(2, 4 * MIB), volume(3, 3 * MIB),
                                   volume(4, 3 * MIB), volume(5, 2 * MIB)};
    struct pool_row pool;
    struct volume_row row;

    (void)state;
    volumes[4].block_bytes = 4096; /* hosts could not use it */
    row_update(&fixture, &volume_table, &volumes[4]);
    pool = pool_of(volumes, 5);
    struct take first = {.pool = &pool, .source = &source};

    assert_int_equal(take(&first), 0);
    assert_string_equal(first.taken.head.id, volumes[2].head.id); /* the older of two equals */
    assert_string_equal(first.taken.element_name, "v9-replica-1");
    row = now(&volumes[2]);
    assert_true(row.allocated);
    assert_string_equal(row.element_name, "v9-replica-1");

    struct take second = {.source = &source, .element_name = "mine"}; /* of any pool */

    assert_int_equal(take(&second), 0);
    assert_string_equal(second.taken.head.id, volumes[3].head.id);
    assert_string_equal(second.taken.element_name, "mine");

    struct take third = {.pool = &pool, .source = &source};

    assert_int_equal(take(&third), 0);
    assert_string_equal(third.taken.head.id, volumes[1].head.id);
    assert_string_equal(third.taken.element_name, "v9-replica-2");

    struct take none = {.pool = &pool, .source = &source};

    assert_true(take(&none) < 0);
    assert_int_equal(none.error.code, ERR_NO_SPACE);
    assert_string_equal(none.error.parameter, "TargetPool");
    assert_non_null(strstr(none.error.detail, "largest of 1048576"));
    row = now(&volumes[0]);
    assert_false(row.allocated);
}

static void what_cannot_be_written_is_passed_over(void **state)
{
    struct volume_row source = volume(9, MIB);
    struct volume_row volumes[] = {volume(1, MIB), volume(2, MIB), volume(3, MIB), volume(4, MIB),
                                   volume(5, 5 * MIB)};
    struct pool_row pool = pool_of(volumes, 5);

    (void)state;
    for (int i = 0; i < 5; i++) {
        volumes[i] = now(&volumes[i]);
    }
    volumes[0].write_protected = true;
    strcpy(volumes[1].problem, "gone");
    volumes[2].allocated = true;
    for (int i = 0; i < 3; i++) {
        row_update(&fixture, &volume_table, &volumes[i]);
    }
    relationship(&source, &volumes[3]);
    struct take taken = {.pool = &pool, .source = &source};

    assert_int_equal(take(&taken), 0);
    assert_string_equal(taken.taken.head.id, volumes[4].head.id);
}

static void other_targets_of_the_call_are_passed_over(void **state)
{
    struct volume_row source = volume(9, MIB);
    struct volume_row volumes[] = {volume(1, MIB), volume(2, 2 * MIB), volume(3, 3 * MIB)};
    struct pool_row pool = pool_of(volumes, 3);
    struct take taken = {
        .pool = &pool, .source = &source, .already = {&volumes[0], &volumes[1]}, .n_already = 2};
    struct take none = {
        .source = &source, .already = {&volumes[0], &volumes[1], &volumes[2]}, .n_already = 3};

    (void)state;
    assert_true(take(&none) < 0);
    assert_int_equal(none.error.code, ERR_NO_SPACE);
    assert_int_equal(take(&taken), 0);
    assert_string_equal(taken.taken.head.id, volumes[2].head.id);
}

static void a_member_is_no_target_of_itself(void **state)
{
    struct volume_row volumes[] = {volume(1, MIB), volume(2, 2 * MIB)};
    struct pool_row pool = pool_of(volumes, 2);
    struct take taken = {.pool = &pool, .source = &volumes[0]};

    (void)state;
    assert_int_equal(take(&taken), 0);
    assert_string_equal(taken.taken.head.id, volumes[1].head.id);
}

static void a_pool_of_another_kind_gives_nothing(void **state)
{
    struct volume_row source = volume(9, MIB);
    struct pool_row pool = {.kind = POOL_FILE};
    struct take taken = {.pool = &pool, .source = &source};

    (void)state;
    assert_true(take(&taken) < 0);
    assert_int_equal(taken.error.code, ERR_INVALID_PARAMETER);
    assert_string_equal(taken.error.parameter, "TargetPool");
}

/* ---- ReturnToStoragePool ---- */

static struct test_call *give_back(const struct volume_row *row)
{
    struct test_call *test =
        test_call_new(&fixture, &storage_configuration_service, "ReturnToStoragePool");

    arg_text(test, "TheElement", path_of("volumes", row->head.id));
    return test;
}

static void a_returned_lun_is_free_again(void **state)
{
    struct volume_row source = volume(9, MIB);
    struct volume_row third = volume(8, MIB);
    struct volume_row volumes[] = {volume(1, MIB)};
    struct pool_row pool = pool_of(volumes, 1);
    struct take taken = {.pool = &pool, .source = &source};
    struct sync_row as_target;
    struct sync_row as_source;
    struct test_call *test;
    struct volume_row row;

    (void)state;
    assert_int_equal(take(&taken), 0);
    as_target = relationship(&source, &volumes[0]);
    as_source = relationship(&volumes[0], &third);
    struct job_row job = running(&as_source);

    test = give_back(&volumes[0]);
    assert_failed(test, ERR_IN_USE, NULL);
    assert_string_equal(test->call->error.blocked_on, path_of("jobs", job.head.id));
    test_call_free(test);
    assert_true(row_exists(&fixture, &sync_table, as_target.head.id));

    struct copy_row copy;
    struct condition where[] = {WHERE_TEXT("job_id", job.head.id), WHERE_END};

    assert_int_equal(table_find(fixture.reader, &copy_table, where, &copy), 0);
    copy.state = COPY_ROW_DONE;
    row_update(&fixture, &copy_table, &copy);
    test = give_back(&volumes[0]);
    assert_done(test);
    test_call_free(test);
    row = now(&volumes[0]);
    assert_false(row.allocated);
    assert_string_equal(row.pool_id, pool.head.id);
    assert_string_equal(row.element_name, "t1-lun1");
    assert_int_equal(rows_of(&fixture, &sync_table), 0);

    test = give_back(&volumes[0]); /* it is free */
    assert_failed(test, ERR_ILLEGAL_STATE, "TheElement");
    test_call_free(test);
    test = give_back(&source);
    assert_failed(test, ERR_NOT_FROM_A_POOL, "TheElement");
    assert_non_null(strstr(test->call->error.detail, "DELETE"));
    test_call_free(test);

    /* A name of ours is kept, not counted up. */
    row.allocated = true;
    row_update(&fixture, &volume_table, &row);
    test = give_back(&volumes[0]);
    assert_done(test);
    test_call_free(test);
    row = now(&volumes[0]);
    assert_string_equal(row.element_name, "t1-lun1");
}

/* ---- names ---- */

struct name {
    const char *base;
    bool numbered;
    char name[NAME_SIZE];
};

static int name_in_call(struct call *call, void *arg)
{
    struct name *name = arg;

    return volume_unique_name(call, name->base, name->numbered, name->name);
}

static void names_of_ours_are_unique(void **state)
{
    struct volume_row row = volume(1, MIB);
    struct name name = {.base = "x"};
    char expected[32];

    (void)state;
    for (int i = 1; i <= 20; i++) {
        assert_int_equal(fixture_do(&fixture, name_in_call, &name, NULL), 0);
        snprintf(expected, sizeof(expected), i == 1 ? "x" : "x-%d", i);
        assert_string_equal(name.name, expected);
        row.head = (struct row_head){0};
        memcpy(row.element_name, name.name, sizeof(row.element_name));
        row_insert(&fixture, &volume_table, &row);
    }
    name.numbered = true;
    name.base = "y";
    assert_int_equal(fixture_do(&fixture, name_in_call, &name, NULL), 0);
    assert_string_equal(name.name, "y-1");

    char base[400];

    for (size_t i = 0; i + 1 < sizeof(base); i += 2) {
        memcpy(base + i, "\xc3\xa4", 2);
    }
    base[sizeof(base) - 2] = '\0';
    name.base = base;
    assert_int_equal(fixture_do(&fixture, name_in_call, &name, NULL), 0);
    size_t len = strlen(name.name);

    assert_true(len < NAME_SIZE && len > 200);
    assert_memory_equal(name.name + len - 4, "\xc3\xa4-1", 4); /* no half letters */
}

/* ---- DELETE /volumes/{id}, Persistent false ---- */

static void forgetting_a_volume_ends_its_relationships(void **state)
{
    struct volume_row volumes[] = {volume(1, MIB), volume(2, MIB), volume(3, MIB)};
    struct sync_row sync = relationship(&volumes[0], &volumes[1]);
    struct test_call *test;

    (void)state;
    relationship(&volumes[1], &volumes[2]);
    struct job_row job = running(&sync);

    test = test_delete_new(&fixture, &volume_methods, volumes[1].head.id);
    assert_failed(test, ERR_CONFLICT, NULL);
    assert_string_equal(test->call->error.blocked_on, path_of("jobs", job.head.id));
    test_call_free(test);

    struct copy_row copy;
    struct condition where[] = {WHERE_TEXT("job_id", job.head.id), WHERE_END};

    assert_int_equal(table_find(fixture.reader, &copy_table, where, &copy), 0);
    copy.state = COPY_ROW_BROKEN;
    row_update(&fixture, &copy_table, &copy);
    test = test_delete_new(&fixture, &volume_methods, volumes[1].head.id);
    assert_done(test);
    test_call_free(test);
    assert_false(row_exists(&fixture, &volume_table, volumes[1].head.id));
    assert_int_equal(rows_of(&fixture, &sync_table), 0);
    assert_int_equal(rows_of(&fixture, &volume_table), 2);
    assert_true(row_exists(&fixture, &access_point_table, portal_a.head.id)); /* registered */

    test = test_delete_new(&fixture, &volume_methods, volumes[1].head.id);
    assert_failed(test, ERR_NOT_FOUND, NULL);
    test_call_free(test);

    struct pool_row pool = pool_of(volumes, 1);

    test = test_delete_new(&fixture, &volume_methods, volumes[0].head.id);
    assert_failed(test, ERR_CONFLICT, NULL);
    assert_string_equal(test->call->error.blocked_on, path_of("pools", pool.head.id));
    test_call_free(test);
}

static void a_portal_that_came_with_a_lun_goes_with_the_last(void **state)
{
    struct volume_row volumes[2];
    struct test_call *test;

    (void)state;
    portal_b.registered = false;
    row_update(&fixture, &access_point_table, &portal_b);
    volumes[0] = volume_on(&portal_b, 1, MIB);
    volumes[1] = volume_on(&portal_b, 2, MIB);
    for (int i = 0; i < 2; i++) {
        assert_true(row_exists(&fixture, &access_point_table, portal_b.head.id));
        test = test_delete_new(&fixture, &volume_methods, volumes[i].head.id);
        assert_done(test);
        test_call_free(test);
    }
    assert_false(row_exists(&fixture, &access_point_table, portal_b.head.id));
    assert_false(row_exists(&fixture, &system_table, array_b.head.id));
}

static void transient_volumes_go_when_nothing_uses_them(void **state)
{
    struct volume_row volumes[] = {volume(1, MIB), volume(2, MIB), volume(3, MIB), volume(4, MIB)};
    struct test_call *test;

    (void)state;
    for (int i = 0; i < 3; i++) {
        volumes[i].persistent = false;
        row_update(&fixture, &volume_table, &volumes[i]);
    }
    relationship(&volumes[0], &volumes[3]);
    relationship(&volumes[1], &volumes[3]);
    relationship(&volumes[0], &volumes[1]);
    struct pool_row pool = pool_of(&volumes[2], 1);

    /* 0 and 1 lose one relationship each and keep the one between them. */
    test = test_delete_new(&fixture, &volume_methods, volumes[3].head.id);
    assert_done(test);
    test_call_free(test);
    assert_true(row_exists(&fixture, &volume_table, volumes[0].head.id));
    assert_true(row_exists(&fixture, &volume_table, volumes[1].head.id));
    test = test_delete_new(&fixture, &volume_methods, volumes[1].head.id);
    assert_done(test);
    test_call_free(test);
    assert_false(row_exists(&fixture, &volume_table, volumes[0].head.id));
    assert_true(row_exists(&fixture, &volume_table, volumes[2].head.id));
    test = test_call_new(&fixture, &storage_configuration_service, "DeleteStoragePool");
    arg_text(test, "Pool", path_of("pools", pool.head.id));
    assert_done(test);
    test_call_free(test);
    assert_int_equal(rows_of(&fixture, &volume_table), 0);
}

static void transient_volumes_that_nothing_used_go_at_the_start(void **state)
{
    struct volume_row volumes[] = {volume(1, MIB), volume(2, MIB), volume(3, MIB), volume(4, MIB)};

    (void)state;
    for (int i = 0; i < 3; i++) {
        volumes[i].persistent = false;
        row_update(&fixture, &volume_table, &volumes[i]);
    }
    relationship(&volumes[0], &volumes[3]);
    pool_of(&volumes[2], 1);
    fixture_stop(&fixture);
    fixture_start(&fixture);
    /* A call that comes after the start comes after this. */
    struct name name = {.base = "x"};

    for (int i = 0; i < 100 && row_exists(&fixture, &volume_table, volumes[1].head.id); i++) {
        fixture_do(&fixture, name_in_call, &name, NULL);
        usleep(10000);
    }
    assert_true(row_exists(&fixture, &volume_table, volumes[0].head.id));
    assert_false(row_exists(&fixture, &volume_table, volumes[1].head.id));
    assert_true(row_exists(&fixture, &volume_table, volumes[2].head.id));
    assert_true(row_exists(&fixture, &volume_table, volumes[3].head.id));
}

#define WITH_SERVICE(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SERVICE(a_pool_is_made_of_luns),
        WITH_SERVICE(pools_without_a_name_get_one_each),
        WITH_SERVICE(extents_replace_the_set_and_a_name_renames),
        WITH_SERVICE(a_lun_that_holds_a_replica_stays),
        WITH_SERVICE(bad_pools_are_refused),
        WITH_SERVICE(deleting_a_pool_leaves_its_luns),
        WITH_SERVICE(the_smallest_that_fits_is_taken),
        WITH_SERVICE(what_cannot_be_written_is_passed_over),
        WITH_SERVICE(other_targets_of_the_call_are_passed_over),
        WITH_SERVICE(a_member_is_no_target_of_itself),
        WITH_SERVICE(a_pool_of_another_kind_gives_nothing),
        WITH_SERVICE(a_returned_lun_is_free_again),
        WITH_SERVICE(names_of_ours_are_unique),
        WITH_SERVICE(forgetting_a_volume_ends_its_relationships),
        WITH_SERVICE(a_portal_that_came_with_a_lun_goes_with_the_last),
        WITH_SERVICE(transient_volumes_go_when_nothing_uses_them),
        WITH_SERVICE(transient_volumes_that_nothing_used_go_at_the_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
