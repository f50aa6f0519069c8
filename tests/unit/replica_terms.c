// SPDX-License-Identifier: Apache-2.0
/*
 * What a replica becomes: which CopyType or SyncType between which elements shares layers, is copied, or is refused; and
 * who may be replaced in an instant.
 */
#include "tests/unit/testing.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/classes.h"
#include "service/replica.h"
#include "service/services.h"
#include "tests/unit/store_fixture.h"

static struct fixture fixture;
static struct call *call;

static int setup(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture_open(&fixture);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    call_free(call);
    call = NULL;
    fixture_fini(&fixture);
    return 0;
}

static void begin(const struct service *service, const char *method)
{
    call_free(call);
    call = call_new();
    call->service = service;
    call->method = service_method(service, method);
    assert_non_null(call->method);
    call->db = fixture.db;
    call->args = values_new(&call->arena, call->method->params, call->method->n_params);
    call->outs = values_new(&call->arena, call->method->params, call->method->n_params);
}

/* ---- elements: a hosted volume of pool p1, one beside it, one of p2, a LUN of another system ---- */

enum element { NOBODY, BESIDE, ELSEWHERE, LUN };

static const struct volume_row hosted = {.head.id = "v1", .kind = VOLUME_HOSTED, .pool_id = "p1"};
static const struct volume_row lun = {.head.id = "v9", .kind = VOLUME_REMOTE};
static const struct volume_row targets[] = {
    [BESIDE] = {.head.id = "v2", .kind = VOLUME_HOSTED, .pool_id = "p1"},
    [ELSEWHERE] = {.head.id = "v3", .kind = VOLUME_HOSTED, .pool_id = "p2"},
    [LUN] = {.head.id = "v8", .kind = VOLUME_REMOTE, .pool_id = "p9"},
};
static const struct pool_row pools[] = {
    [BESIDE] = {.head.id = "p1", .kind = POOL_FILE},
    [ELSEWHERE] = {.head.id = "p2", .kind = POOL_FILE},
    [LUN] = {.head.id = "p9", .kind = POOL_REMOTE},
};

static struct replica_ends ends_of(bool source_hosted, enum element target, enum element pool)
{
    return (struct replica_ends){
        .source = source_hosted ? &hosted : &lun,
        .target = target != NOBODY ? &targets[target] : NULL,
        .pool = pool != NOBODY ? &pools[pool] : NULL,
        .source_parameter = "SourceElement",
        .target_parameter = "TargetElement",
    };
}

static const struct kind_of_copy {
    uint32_t copy_type;
    bool source_hosted;
    enum element target;
    enum element pool;
    enum replica_engine engine;
    uint32_t sync_type;
    uint32_t mode;
    uint32_t replica_type;
    bool remote;
} copies[] = {
    {4, true, NOBODY, NOBODY, ENGINE_LAYERS, 7, 2, 4, false},
    {4, true, NOBODY, BESIDE, ENGINE_LAYERS, 7, 2, 4, false},
    {4, true, BESIDE, NOBODY, ENGINE_LAYERS, 7, 2, 4, false},
    {4, true, NOBODY, ELSEWHERE, ENGINE_COPY, 8, 3, 2, false},
    {4, true, ELSEWHERE, NOBODY, ENGINE_COPY, 8, 3, 2, false},
    {4, true, NOBODY, LUN, ENGINE_COPY, 8, 3, 2, true},
    {4, true, LUN, NOBODY, ENGINE_COPY, 8, 3, 2, true},
    {4, false, NOBODY, NOBODY, ENGINE_COPY, 8, 3, 2, true},
    {4, false, NOBODY, LUN, ENGINE_COPY, 8, 3, 2, true},
    {4, false, NOBODY, BESIDE, ENGINE_COPY, 8, 3, 2, true},
    {4, false, LUN, NOBODY, ENGINE_COPY, 8, 3, 2, true},
    {4, false, BESIDE, NOBODY, ENGINE_COPY, 8, 3, 2, true},
    {5, true, NOBODY, NOBODY, ENGINE_LAYERS, 8, 2, 2, false},
    {5, true, NOBODY, BESIDE, ENGINE_LAYERS, 8, 2, 2, false},
    {5, true, BESIDE, NOBODY, ENGINE_LAYERS, 8, 2, 2, false},
    {5, true, NOBODY, ELSEWHERE, ENGINE_COPY, 8, 2, 2, false},
    {5, true, NOBODY, LUN, ENGINE_COPY, 8, 2, 2, true},
    {5, false, NOBODY, NOBODY, ENGINE_COPY, 8, 2, 2, true},
    {5, false, NOBODY, BESIDE, ENGINE_COPY, 8, 2, 2, true},
    {5, false, BESIDE, NOBODY, ENGINE_COPY, 8, 2, 2, true},
};

static void test_what_a_copy_type_becomes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(copies); i++) {
        const struct kind_of_copy *copy = &copies[i];
        struct replica_ends ends = ends_of(copy->source_hosted, copy->target, copy->pool);
        struct replica_terms terms;

        print_message("%zu: CopyType %u\n", i, copy->copy_type);
        begin(&storage_configuration_service, "CreateReplica");
        assert_int_equal(replica_terms_of_copy_type(call, copy->copy_type, &terms), 0);
        assert_int_equal(replica_terms_complete(call, &ends, &terms), 0);
        assert_int_equal(terms.engine, copy->engine);
        assert_int_equal(terms.sync_type, copy->sync_type);
        assert_int_equal(terms.mode, copy->mode);
        assert_int_equal(terms.copy_type, copy->copy_type);
        assert_int_equal(terms.replica_type, copy->replica_type);
        assert_int_equal(terms.remote, copy->remote);
        assert_int_equal(terms.copy_methodology, copy->engine == ENGINE_LAYERS ? 6 : 3);
        assert_int_equal(terms.temporary, copy->copy_type == 5);
    }
}

/* error ERR_NONE: made so. */
static const struct kind_of_element_replica {
    uint32_t sync_type;
    uint32_t methodology;
    bool source_hosted;
    enum element target;
    enum element pool;
    enum replica_engine engine;
    enum error_code error;
    const char *parameter;
} replicas[] = {
    {7, 0, true, NOBODY, NOBODY, ENGINE_LAYERS, ERR_NONE, NULL},
    {7, 2, true, NOBODY, BESIDE, ENGINE_LAYERS, ERR_NONE, NULL},
    {7, 6, true, BESIDE, NOBODY, ENGINE_LAYERS, ERR_NONE, NULL},
    {7, 3, true, NOBODY, NOBODY, 0, ERR_NOT_SUPPORTED,
     "ReplicationSettingData.DesiredCopyMethodology"},
    {7, 0, false, NOBODY, NOBODY, 0, ERR_NOT_SUPPORTED, "SourceElement"},
    {7, 0, false, BESIDE, NOBODY, 0, ERR_NOT_SUPPORTED, "SourceElement"},
    {7, 0, true, LUN, NOBODY, 0, ERR_NOT_SUPPORTED, "TargetElement"},
    {7, 0, true, NOBODY, LUN, 0, ERR_NOT_SUPPORTED, "TargetPool"},
    {7, 0, true, NOBODY, ELSEWHERE, 0, ERR_BAD_VALUE, "TargetPool"},
    {7, 0, true, ELSEWHERE, NOBODY, 0, ERR_INCOMPATIBLE, "TargetElement"},
    {8, 0, true, NOBODY, NOBODY, ENGINE_LAYERS, ERR_NONE, NULL},
    {8, 2, true, BESIDE, NOBODY, ENGINE_LAYERS, ERR_NONE, NULL},
    {8, 6, true, NOBODY, BESIDE, ENGINE_LAYERS, ERR_NONE, NULL},
    {8, 3, true, NOBODY, NOBODY, ENGINE_COPY, ERR_NONE, NULL},
    {8, 3, true, BESIDE, NOBODY, ENGINE_COPY, ERR_NONE, NULL},
    {8, 0, true, NOBODY, ELSEWHERE, ENGINE_COPY, ERR_NONE, NULL},
    {8, 0, true, ELSEWHERE, NOBODY, ENGINE_COPY, ERR_NONE, NULL},
    {8, 0, true, LUN, NOBODY, ENGINE_COPY, ERR_NONE, NULL},
    {8, 0, true, NOBODY, LUN, ENGINE_COPY, ERR_NONE, NULL},
    {8, 0, false, NOBODY, BESIDE, ENGINE_COPY, ERR_NONE, NULL},
    {8, 3, false, NOBODY, NOBODY, ENGINE_COPY, ERR_NONE, NULL},
    {8, 6, true, NOBODY, ELSEWHERE, 0, ERR_NOT_SUPPORTED,
     "ReplicationSettingData.DesiredCopyMethodology"},
    {8, 6, true, LUN, NOBODY, 0, ERR_NOT_SUPPORTED,
     "ReplicationSettingData.DesiredCopyMethodology"},
    {8, 6, false, NOBODY, BESIDE, 0, ERR_NOT_SUPPORTED,
     "ReplicationSettingData.DesiredCopyMethodology"},
};

static int terms_of(uint32_t sync_type, const char *property, uint32_t value,
                    const struct replica_ends *ends, struct replica_terms *ret_terms)
{
    const struct class_info *class = &class_ReplicationSettingData;

    begin(&replication_service, "CreateElementReplica");
    struct values *instance = values_new(&call->arena, class->params, class->n_params);

    if (value != 0) {
        outs_number(instance, property, value);
    }
    outs_instance(call->args, "ReplicationSettingData", instance);
    assert_int_equal(replica_terms_of_sync_type(call, sync_type, 0, ret_terms), 0);
    assert_int_equal(replica_terms_setting_data(call, "ReplicationSettingData", ret_terms), 0);
    return replica_terms_complete(call, ends, ret_terms);
}

static void test_what_a_sync_type_becomes(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(replicas); i++) {
        const struct kind_of_element_replica *replica = &replicas[i];
        struct replica_ends ends = ends_of(replica->source_hosted, replica->target, replica->pool);
        struct replica_terms terms;

        print_message("%zu: SyncType %u, methodology %u\n", i, replica->sync_type,
                      replica->methodology);
        int r = terms_of(replica->sync_type, "DesiredCopyMethodology", replica->methodology, &ends,
                         &terms);

        assert_int_equal(call->error.code, replica->error);
        if (replica->error != ERR_NONE) {
            assert_int_equal(r, error_info(replica->error)->err);
            assert_string_equal(call->error.parameter, replica->parameter);
            assert_true(call->error.detail[0] != '\0');
            continue;
        }
        assert_int_equal(r, 0);
        assert_int_equal(terms.engine, replica->engine);
        assert_int_equal(terms.sync_type, replica->sync_type);
        assert_int_equal(terms.mode, 2);
        assert_int_equal(terms.copy_type, replica->sync_type == 7 ? 4 : 5);
        assert_int_equal(terms.replica_type, replica->sync_type == 7 ? 4 : 2);
        assert_false(terms.temporary);
    }
}

static void test_only_what_shares_layers_can_be_read_only(void **state)
{
    struct replica_ends beside = ends_of(true, NOBODY, NOBODY);
    struct replica_ends elsewhere = ends_of(true, NOBODY, ELSEWHERE);
    struct replica_terms terms;

    (void)state;
    for (uint32_t sync_type = 7; sync_type <= 8; sync_type++) {
        assert_int_equal(terms_of(sync_type, "ReadOnly", 3, &beside, &terms), 0);
        assert_int_equal(terms.read_only, 3);
        for (uint32_t side = 2; side <= 4; side += 2) {
            assert_int_equal(terms_of(sync_type, "ReadOnly", side, &beside, &terms),
                             error_info(ERR_NOT_SUPPORTED)->err);
            assert_string_equal(call->error.parameter, "ReplicationSettingData.ReadOnly");
        }
    }
    assert_int_equal(terms_of(8, "ReadOnly", 3, &elsewhere, &terms),
                     error_info(ERR_NOT_SUPPORTED)->err);
    assert_string_equal(call->error.parameter, "ReplicationSettingData.ReadOnly");
}

static void test_mirrors_of_hosted_volumes(void **state)
{
    static const enum element ends[] = {BESIDE, ELSEWHERE, LUN};
    struct replica_terms terms;

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        struct replica_ends of_hosted = ends_of(true, ends[i], NOBODY);
        struct replica_ends of_lun = ends_of(false, ends[i], NOBODY);

        begin(&storage_configuration_service, "AttachReplica");
        assert_int_equal(replica_terms_of_copy_type(call, COPY_SYNC, &terms), 0);
        assert_int_equal(replica_terms_complete(call, &of_hosted, &terms), 0);
        assert_int_equal(terms.sync_type, SYNC_MIRROR);
        assert_int_equal(terms.mode, MODE_SYNCHRONOUS);
        assert_int_equal(terms.engine, ENGINE_MIRROR);
        assert_int_equal(terms.copy_methodology, METHODOLOGY_INCREMENTAL_COPY);
        assert_int_equal(terms.replica_type, REPLICA_FULL_COPY);
        assert_int_equal(terms.remote, ends[i] == LUN);
        assert_false(terms.temporary);
        /* Its hosts write past us. */
        begin(&replication_service, "CreateElementReplica");
        assert_int_equal(replica_terms_of_sync_type(call, SYNC_MIRROR, 0, &terms), 0);
        assert_int_equal(terms.copy_type, COPY_SYNC);
        assert_int_equal(replica_terms_complete(call, &of_lun, &terms),
                         error_info(ERR_NOT_SUPPORTED)->err);
        assert_string_equal(call->error.parameter, "SourceElement");
    }
}

static void test_asynchronous_mirrors(void **state)
{
    struct replica_ends of_lun = ends_of(false, BESIDE, NOBODY);
    struct replica_terms terms;

    (void)state;
    begin(&storage_configuration_service, "CreateReplica");
    assert_int_equal(replica_terms_of_copy_type(call, COPY_ASYNC, &terms), 0);
    assert_int_equal(terms.mode, MODE_ASYNCHRONOUS);
    begin(&replication_service, "CreateElementReplica");
    assert_int_equal(replica_terms_of_sync_type(call, SYNC_MIRROR, MODE_ASYNCHRONOUS, &terms), 0);
    assert_int_equal(terms.copy_type, COPY_ASYNC);
    assert_int_equal(terms.engine, ENGINE_ASYNC);
    /* A LUN of another system is compared. */
    assert_int_equal(replica_terms_complete(call, &of_lun, &terms), 0);
    assert_int_equal(terms.copy_methodology, METHODOLOGY_DELTA_UPDATE);
    assert_true(terms.remote);
}

/* ---- who may be replaced ---- */

static void add_volume(const char *id, struct volume_row *ret_row)
{
    struct volume_row row = {.kind = VOLUME_HOSTED, .size_bytes = 4096};
    struct pool_row pool = {.kind = POOL_FILE};

    if (table_get(fixture.db, &pool_table, "p1", &pool) < 0) {
        TEXT_SET(pool.head.id, "p1");
        TEXT_SET(pool.system_id, "local");
        assert_int_equal(table_insert(fixture.db, &pool_table, &pool), 0);
    }
    TEXT_SET(row.head.id, id);
    TEXT_SET(row.system_id, "local");
    TEXT_SET(row.pool_id, "p1");
    snprintf(row.identity, sizeof(row.identity), "naa.%s", id);
    assert_int_equal(table_insert(fixture.db, &volume_table, &row), 0);
    *ret_row = row;
}

static void add_sync(const char *id, const char *source, const char *target, uint32_t sync_type,
                     uint32_t copy_state, const char *job_id)
{
    struct sync_row row = {.sync_type = sync_type,
                           .mode = 2,
                           .copy_type = sync_type == SYNC_SNAPSHOT ? 4 : 5,
                           .copy_methodology = sync_type == SYNC_SNAPSHOT ? 6 : 3,
                           .copy_state = copy_state};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.source_id, source);
    TEXT_SET(row.target_id, target);
    TEXT_SET(row.job_id, job_id);
    assert_int_equal(table_insert(fixture.db, &sync_table, &row), 0);
}

static uint32_t state_of(const char *id)
{
    struct sync_row row;

    assert_int_equal(table_get(fixture.db, &sync_table, id, &row), 0);
    return row.copy_state;
}

static void test_the_first_change_makes_a_snapshot_skewed(void **state)
{
    struct volume_row rows[4];

    (void)state;
    add_volume("source", &rows[0]);
    add_volume("snap", &rows[1]);
    add_volume("off", &rows[2]);
    add_volume("clone", &rows[3]);
    add_sync("s1", "source", "snap", SYNC_SNAPSHOT, STATE_SYNCHRONIZED, "");
    add_sync("s2", "source", "off", SYNC_SNAPSHOT, STATE_INACTIVE, "");
    add_sync("s3", "source", "clone", SYNC_CLONE, STATE_SYNCHRONIZED, "");
    begin(&replication_service, "ModifyReplicaSynchronization");
    static const char *const changed[] = {"snap", "off", "clone", "source", "nobody", "snap"};
    for (size_t i = 0; i < ARRAY_LEN(changed); i++) {
        assert_int_equal(replica_target_changed(call, changed[i]), 0);
    }
    assert_int_equal(state_of("s1"), STATE_SKEWED);
    assert_int_equal(state_of("s2"), STATE_INACTIVE);
    assert_int_equal(state_of("s3"), STATE_SYNCHRONIZED);
}

static void test_a_volume_is_replaced_only_while_no_copy_uses_it(void **state)
{
    struct volume_row source;
    struct volume_row snap;
    struct volume_row copied;

    (void)state;
    add_volume("source", &source);
    add_volume("snap", &snap);
    add_volume("copied", &copied);
    add_sync("s1", "source", "snap", SYNC_SNAPSHOT, STATE_SYNCHRONIZED, "");
    begin(&replication_service, "ModifyReplicaSynchronization");
    /* Snapshots of it, or being one, are in nobody's way. */
    assert_int_equal(replica_check_idle(call, "Synchronization", &source), 0);
    assert_int_equal(replica_check_idle(call, "Synchronization", &snap), 0);
    struct job_row job = {.name = "x"};
    TEXT_SET(job.head.id, "j1");
    assert_int_equal(table_insert(fixture.db, &job_table, &job), 0);
    add_sync("s2", "source", "copied", SYNC_CLONE, STATE_UNSYNCHRONIZED, "j1");
    assert_int_equal(replica_check_idle(call, "Synchronization", &source),
                     error_info(ERR_IN_USE)->err);
    assert_string_equal(call->error.blocked_on, "/synchronizations/s2");
    begin(&replication_service, "ModifyReplicaSynchronization");
    assert_int_equal(replica_check_idle(call, "Synchronization", &copied),
                     error_info(ERR_IN_USE)->err);
    begin(&replication_service, "ModifyReplicaSynchronization");
    assert_int_equal(replica_check_idle(call, "Synchronization", &snap), 0);
}

static void test_a_replica_without_content_is_no_source(void **state)
{
    struct volume_row snap;

    (void)state;
    add_volume("snap", &snap);
    begin(&replication_service, "CreateElementReplica");
    assert_int_equal(replica_check_source(call, "SourceElement", &snap), 0);
    snap.offline = true;
    assert_int_equal(replica_check_source(call, "SourceElement", &snap),
                     error_info(ERR_ILLEGAL_STATE)->err);
    assert_string_equal(call->error.parameter, "SourceElement");
}

static void test_a_volume_has_at_most_250_replicas_that_share_its_layers(void **state)
{
    struct volume_row source;
    struct volume_row target;

    (void)state;
    assert_int_equal(db_begin(fixture.db), 0);
    add_volume("source", &source);
    for (unsigned i = 0; i < 249; i++) {
        char id[ID_SIZE];
        char sync[ID_SIZE];

        snprintf(id, sizeof(id), "t%u", i);
        snprintf(sync, sizeof(sync), "s%u", i);
        add_volume(id, &target);
        add_sync(sync, "source", id, SYNC_SNAPSHOT, STATE_SYNCHRONIZED, "");
    }
    add_volume("copied", &target);
    add_sync("full", "source", "copied", SYNC_CLONE, STATE_SYNCHRONIZED, "");
    assert_int_equal(db_commit(fixture.db), 0);
    begin(&replication_service, "CreateElementReplica");
    assert_int_equal(replica_check_limit(call, "SourceElement", &source, 1), 0);
    assert_int_equal(replica_check_limit(call, "SourceElement", &source, 2),
                     error_info(ERR_LIMIT_REACHED)->err);
    assert_string_equal(call->error.parameter, "SourceElement");
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_what_a_copy_type_becomes),
        TEST(test_what_a_sync_type_becomes),
        TEST(test_only_what_shares_layers_can_be_read_only),
        TEST(test_mirrors_of_hosted_volumes),
        TEST(test_asynchronous_mirrors),
        TEST(test_the_first_change_makes_a_snapshot_skewed),
        TEST(test_a_volume_is_replaced_only_while_no_copy_uses_it),
        TEST(test_a_replica_without_content_is_no_source),
        TEST(test_a_volume_has_at_most_250_replicas_that_share_its_layers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
