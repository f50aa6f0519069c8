// SPDX-License-Identifier: Apache-2.0
/*
 * Lists: pages, filters, what they cost and how long they last.
 */
#include "tests/unit/view_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api/json_out.h"
#include "base/check.h"

/* ---- lists ---- */

static void test_pages_have_every_object_once_in_order(void **state)
{
    char id[ID_SIZE];
    unsigned seen = 0;
    struct view_query query = {.limit = 100};
    struct view_page page = {.more = true};

    (void)state;
    add_peer();
    for (unsigned i = 0; i < 250; i++) {
        snprintf(id, sizeof(id), "v%03u", i);
        add_volume(id);
    }
    for (unsigned pages = 0; page.more; pages++) {
        cJSON *members = list(COLLECTION_VOLUMES, &query, &page);
        const cJSON *item;
        assert_int_equal(page.total, 250);
        assert_int_equal(cJSON_GetArraySize(members), pages < 2 ? 100 : 50);
        cJSON_ArrayForEach(item, members)
        {
            snprintf(id, sizeof(id), "v%03u", seen++);
            assert_string_equal(text_of(item, "DeviceID"), id);
        }
        query.after_seq = page.last_seq;
        cJSON_Delete(members);
    }
    assert_int_equal(seen, 250);
}

static void test_a_page_that_ends_with_the_list_has_no_next(void **state)
{
    struct view_query query = {.limit = 2};
    struct view_page page;

    (void)state;
    add_peer();
    add_volume("v1");
    add_volume("v2");
    cJSON *members = list(COLLECTION_VOLUMES, &query, &page);
    assert_false(page.more);
    assert_ids(members, "v1 v2");
    cJSON_Delete(members);
}

static void test_no_limit_is_100_and_none_is_more_than_1000(void **state)
{
    char id[ID_SIZE];
    struct view_page page;

    (void)state;
    add_peer();
    for (unsigned i = 0; i < 1001; i++) {
        snprintf(id, sizeof(id), "s%u", i);
        add_system(id);
    }
    cJSON *members = list(COLLECTION_SYSTEMS, &(struct view_query){0}, &page);
    assert_int_equal(cJSON_GetArraySize(members), 100);
    cJSON_Delete(members);
    members = list(COLLECTION_SYSTEMS, &(struct view_query){.limit = UINT64_MAX}, &page);
    assert_int_equal(cJSON_GetArraySize(members), 1000);
    assert_true(page.more);
    cJSON_Delete(members);
}

static void test_derived_lists_page_too(void **state)
{
    struct view_query query = {.limit = 2};
    struct view_page page;

    (void)state;
    cJSON *members = list(COLLECTION_SERVICES, &query, &page);
    assert_ids(members, "StorageConfigurationService ControllerConfigurationService");
    assert_true(page.more);
    assert_int_equal(page.total, 4);
    cJSON_Delete(members);
    query.after_seq = page.last_seq;
    members = list(COLLECTION_SERVICES, &query, &page);
    assert_ids(members, "ReplicationService ReplicationServiceCapabilities");
    assert_false(page.more);
    assert_int_equal(page.total, 4);
    cJSON_Delete(members);
}

static void test_filters_of_volumes(void **state)
{
    struct volume_row row = volume_of("v2");
    struct pool_row pool = {.kind = POOL_REMOTE};

    (void)state;
    add_peer();
    add_access_point("ap2", "peer", "192.0.2.2:3260", false, false);
    TEXT_SET(pool.head.id, "pool1");
    TEXT_SET(pool.system_id, "peer");
    insert(&pool_table, &pool);
    add_volume("v1");
    TEXT_SET(row.pool_id, "pool1");
    TEXT_SET(row.access_point_id, "ap2");
    TEXT_SET(row.element_name, "my name");
    TEXT_SET(row.identity, "t10.VENDOR disk");
    row.allocated = true;
    insert(&volume_table, &row);

    assert_filtered(COLLECTION_VOLUMES, "System", "/systems/peer", "v1 v2");
    assert_filtered(COLLECTION_VOLUMES, "System", "/systems/local", "");
    assert_filtered(COLLECTION_VOLUMES, "Pool", "/pools/pool1", "v2");
    assert_filtered(COLLECTION_VOLUMES, "AccessPoint", "/accesspoints/ap2", "v2");
    assert_filtered(COLLECTION_VOLUMES, "ElementName", "my name", "v2");
    assert_filtered(COLLECTION_VOLUMES, "ElementName", "", "");
    assert_filtered(COLLECTION_VOLUMES, "Name", "VENDOR disk", "v2");
    assert_filtered(COLLECTION_VOLUMES, "Name", "600140500000000000000000000000ab", "v1");
    assert_filtered(COLLECTION_VOLUMES, "Name", "t10.VENDOR disk", "");
    assert_filtered(COLLECTION_VOLUMES, "Kind", "remote", "v1 v2");
    assert_filtered(COLLECTION_VOLUMES, "Allocated", "true", "v2");
    assert_filtered(COLLECTION_VOLUMES, "Allocated", "false", "v1");
}

static void test_a_name_is_found_whatever_kind_of_identity_it_is(void **state)
{
    static const char *const identities[] = {"serial.X1", "naa.X1", "eui.X1", "t10.X1", "naa.X2"};
    char id[ID_SIZE];
    char long_name[400];
    struct view_query query = {.limit = 1, .n_filters = 1, .filters = {{"Name", "X1"}}};
    struct view_page page = {.more = true};

    (void)state;
    add_peer();
    for (unsigned i = 0; i < ARRAY_LEN(identities); i++) {
        snprintf(id, sizeof(id), "v%u", i);
        struct volume_row row = volume_of(id);
        TEXT_SET(row.identity, identities[i]);
        insert(&volume_table, &row);
    }
    assert_filtered(COLLECTION_VOLUMES, "Name", "X1", "v0 v1 v2 v3");
    for (unsigned i = 0; i < 4; i++) {
        assert_true(page.more);
        cJSON *members = list(COLLECTION_VOLUMES, &query, &page);
        snprintf(id, sizeof(id), "v%u", i);
        assert_ids(members, id);
        assert_int_equal(page.total, 4);
        query.after_seq = page.last_seq;
        cJSON_Delete(members);
    }
    assert_false(page.more);
    memset(long_name, 'x', sizeof(long_name) - 1);
    long_name[sizeof(long_name) - 1] = '\0';
    assert_filtered(COLLECTION_VOLUMES, "Name", long_name, "");
}

static void test_filters_of_relationships(void **state)
{
    struct sync_row row;

    (void)state;
    add_peer();
    add_volume("v1");
    add_volume("v2");
    add_volume("v3");
    add_sync("s1", "v1", "v2");
    row = sync_of("s2", "v1", "v3");
    row.copy_state = STATE_UNSYNCHRONIZED;
    row.copy_type = COPY_UNSYNC_ASSOC;
    row.mode = MODE_ASYNCHRONOUS;
    TEXT_SET(row.job_id, "j1");
    insert(&sync_table, &row);

    assert_filtered(COLLECTION_SYNCHRONIZATIONS, "SystemElement", "/volumes/v1", "s1 s2");
    assert_filtered(COLLECTION_SYNCHRONIZATIONS, "SyncedElement", "/volumes/v3", "s2");
    assert_filtered(COLLECTION_SYNCHRONIZATIONS, "SyncedElement", "/volumes/v1", "");
    assert_filtered(COLLECTION_SYNCHRONIZATIONS, "CopyState", "3", "s2");
    assert_filtered(COLLECTION_SYNCHRONIZATIONS, "CopyState", "un-synchronized", "s2");
    assert_filtered(COLLECTION_SYNCHRONIZATIONS, "CopyState", "Synchronized", "s1");
    assert_filtered(COLLECTION_SYNCHRONIZATIONS, "SyncType", "Clone", "s1 s2");
    assert_filtered(COLLECTION_SYNCHRONIZATIONS, "SyncType", "6", "");
    assert_filtered(COLLECTION_SYNCHRONIZATIONS, "Mode", "3", "s2");
    assert_filtered(COLLECTION_SYNCHRONIZATIONS, "CopyType", "UnSyncAssoc", "s2");
    assert_filtered(COLLECTION_SYNCHRONIZATIONS, "Job", "/jobs/j1", "s2");

    struct view_query both = {
        .n_filters = 2,
        .filters = {{"SystemElement", "/volumes/v1"}, {"SyncedElement", "/volumes/v2"}}};
    struct view_page page;
    cJSON *members = list(COLLECTION_SYNCHRONIZATIONS, &both, &page);
    assert_ids(members, "s1");
    cJSON_Delete(members);
}

static void test_filters_of_the_rest(void **state)
{
    struct job_row running = job_of("j1", JOB_RUNNING);
    struct job_row done = job_of("j2", JOB_COMPLETED);

    (void)state;
    add_peer();
    TEXT_SET(done.name, "AttachReplica");
    TEXT_SET(done.owner, "StorageConfigurationService");
    insert(&job_table, &running);
    insert(&job_table, &done);
    assert_filtered(COLLECTION_JOBS, "JobState", "Running", "j1");
    assert_filtered(COLLECTION_JOBS, "JobState", "7", "j2");
    assert_filtered(COLLECTION_JOBS, "Name", "AttachReplica", "j2");
    assert_filtered(COLLECTION_JOBS, "Owner", "/services/ReplicationService", "j1");
    assert_filtered(COLLECTION_SYSTEMS, "Kind", "local", "local");
    assert_filtered(COLLECTION_SYSTEMS, "Kind", "peer", "peer");
    assert_filtered(COLLECTION_ACCESS_POINTS, "AccessInfo", "as-given", "ap1");
    assert_filtered(COLLECTION_ACCESS_POINTS, "System", "/systems/peer", "ap1");
    assert_filtered(COLLECTION_ENDPOINTS, "System", "/systems/local",
                    "initiator initiator-2 initiator-3 initiator-4 initiator-5 initiator-6 "
                    "initiator-7 initiator-8");
    assert_filtered(COLLECTION_ENDPOINTS, "System", "/systems/peer", "");
    assert_filtered(COLLECTION_SETTINGS, "ElementName", "Default", "default");
    assert_filtered(COLLECTION_GROUPS, "ElementName", "x", "");
    assert_filtered(COLLECTION_PIPES, "ElementName", "x", "");
}

static void assert_refused(enum collection collection, const char *name, const char *value,
                           const char *told)
{
    struct view_query query = {.n_filters = 1, .filters = {{name, value}}};
    struct error error = {0};

    assert_true(list_error(collection, &query, &error) < 0);
    assert_int_equal(error.code, ERR_BAD_QUERY);
    assert_string_equal(error.parameter, name);
    if (strstr(error.detail, told) == NULL) {
        fail_msg("\"%s\" does not say \"%s\"", error.detail, told);
    }
}

static void test_bad_filters_are_refused_and_the_allowed_ones_named(void **state)
{
    struct view_query twice = {.n_filters = 2, .filters = {{"Kind", "peer"}, {"Kind", "local"}}};
    struct error error = {0};

    (void)state;
    assert_refused(COLLECTION_VOLUMES, "Size", "1", "System, Pool, AccessPoint, ElementName");
    assert_refused(COLLECTION_SERVICES, "Name", "x", "limit and cursor.");
    assert_refused(COLLECTION_VOLUMES, "Pool", "/volumes/v1", "/pools/{id}");
    assert_refused(COLLECTION_VOLUMES, "Pool", "pool1", "/pools/{id}");
    assert_refused(COLLECTION_EXPORTS, "OwnedBy", "v1", "/volumes/{id}");
    assert_refused(COLLECTION_VOLUMES, "Kind", "foreign", "remote");
    assert_refused(COLLECTION_VOLUMES, "Allocated", "yes", "true or false");
    assert_refused(COLLECTION_SYNCHRONIZATIONS, "CopyState", "18", "CopyState");
    assert_refused(COLLECTION_SYNCHRONIZATIONS, "CopyState", "4x", "CopyState");
    assert_refused(COLLECTION_SYNCHRONIZATIONS, "CopyState", "99999999999999999999", "CopyState");
    assert_refused(COLLECTION_SYNCHRONIZATIONS, "CopyState", "", "CopyState");
    assert_refused(COLLECTION_JOBS, "Owner", "/jobs/x", "/services/{id}");
    assert_true(list_error(COLLECTION_SYSTEMS, &twice, &error) < 0);
    assert_int_equal(error.code, ERR_BAD_QUERY);
}

static void test_what_is_not_there_is_told(void **state)
{
    struct strbuf text = STRBUF_INIT;
    struct json_out json;
    bool ended = true;

    (void)state;
    json_out_init(&json, &text);
    for (unsigned i = 0; i < COLLECTION_COUNT; i++) {
        assert_int_equal(view_object(fixture.db, NULL, i, "nobody", &json.out, &lasting), -ENOENT);
    }
    assert_int_equal(text.len, 0);
    assert_int_equal(view_job_ended(fixture.db, "nobody", &ended), -ENOENT);
    strbuf_fini(&text);
}

static void test_collections_are_found_by_their_paths(void **state)
{
    enum collection found;

    (void)state;
    for (unsigned i = 0; i < COLLECTION_COUNT; i++) {
        assert_int_equal(view_collection_find(view_collections[i].path, &found), 0);
        assert_int_equal(found, i);
        assert_true(!view_collections[i].can_delete ||
                    service_method(view_collections[i].object_methods, "DeleteInstance") != NULL);
    }
    assert_int_equal(view_collection_find("answers", &found), -ENOENT);
}

/* The ids of Relationships of a volume, as "s1 s2 ". */
static void relationships(const cJSON *volume, char ret_ids[256])
{
    const cJSON *path;

    ret_ids[0] = '\0';
    cJSON_ArrayForEach(path, member(volume, "Relationships"))
    {
        strcat(ret_ids, path->valuestring + strlen("/synchronizations/"));
        strcat(ret_ids, " ");
    }
}

static void test_relationships_of_a_volume_are_the_same_in_every_page_and_alone(void **state)
{
    static const char *const expected[] = {"a b ", "a ", "", "c b ", "", "c "};
    struct view_query queries[] = {
        {.limit = 6},
        {.limit = 1},
        {.limit = 4},
        {.limit = 2, .n_filters = 1, .filters = {{"AccessPoint", "/accesspoints/ap1"}}},
        {.limit = 4, .n_filters = 1, .filters = {{"Name", "600140500000000000000000000000ab"}}},
    };
    char ids[256];

    (void)state;
    add_peer();
    for (unsigned i = 0; i < ARRAY_LEN(expected); i++) {
        char id[] = {'v', (char)('0' + i), '\0'};
        add_volume(id);
    }
    add_sync("a", "v0", "v1");
    add_sync("b", "v0", "v3");
    add_sync("c", "v3", "v5");
    for (unsigned i = 0; i < ARRAY_LEN(queries); i++) {
        struct view_query query = queries[i];
        struct view_page page = {.more = true};
        unsigned n = 0;
        while (page.more) {
            cJSON *members = list(COLLECTION_VOLUMES, &query, &page);
            const cJSON *volume;
            cJSON_ArrayForEach(volume, members)
            {
                relationships(volume, ids);
                assert_string_equal(ids, expected[n++]);
            }
            cJSON_Delete(members);
            query.after_seq = page.last_seq;
        }
        assert_int_equal(n, ARRAY_LEN(expected));
    }
    for (unsigned i = 0; i < ARRAY_LEN(expected); i++) {
        cJSON *volume = object(COLLECTION_VOLUMES, (char[]){'v', (char)('0' + i), '\0'});
        relationships(volume, ids);
        assert_string_equal(ids, expected[i]);
        cJSON_Delete(volume);
    }
}

static bool object_lasts(enum collection collection, const char *id)
{
    lasting = false;
    cJSON_Delete(object(collection, id));
    return lasting;
}

static bool list_lasts(enum collection collection)
{
    struct view_page page;

    cJSON_Delete(list(collection, &(struct view_query){0}, &page));
    return page.lasting;
}

static void test_what_shows_the_time_or_live_counters_does_not_last(void **state)
{
    struct job_row waiting = job_of("j1", JOB_NEW);
    struct job_row running = job_of("j2", JOB_RUNNING);
    struct job_row ended = job_of("j3", JOB_COMPLETED);
    struct copy_row copy = copy_of("c2", "j2", COPY_ROW_RUNNING);
    struct copy_row done = copy_of("c3", "j3", COPY_ROW_DONE);
    struct sync_row sync = sync_of("sync1", "v1", "v2");

    (void)state;
    add_peer();
    add_volume("v1");
    add_volume("v2");
    waiting.start_ms = 0;
    ended.end_ms = now_ms;
    done.end_ms = now_ms;
    insert(&job_table, &waiting);
    insert(&job_table, &ended);
    insert(&copy_table, &done);
    insert(&sync_table, &sync);
    assert_true(list_lasts(COLLECTION_JOBS) && list_lasts(COLLECTION_SYNCHRONIZATIONS));
    assert_true(object_lasts(COLLECTION_JOBS, "j1") && object_lasts(COLLECTION_JOBS, "j3"));

    insert(&job_table, &running);
    assert_false(object_lasts(COLLECTION_JOBS, "j2")); /* ElapsedTime */
    assert_false(list_lasts(COLLECTION_JOBS));

    insert(&copy_table, &copy);
    TEXT_SET(sync.job_id, "j2");
    assert_int_equal(table_update(fixture.db, &sync_table, &sync), 0);
    assert_false(object_lasts(COLLECTION_SYNCHRONIZATIONS, "sync1")); /* PercentSynced */
    assert_false(list_lasts(COLLECTION_SYNCHRONIZATIONS));
    assert_true(object_lasts(COLLECTION_JOBS, "j3"));
    for (unsigned i = 0; i < COLLECTION_COUNT; i++) {
        /* The default pool of files shows what it has left. */
        bool moves =
            i == COLLECTION_JOBS || i == COLLECTION_SYNCHRONIZATIONS || i == COLLECTION_POOLS;
        assert_int_equal(list_lasts(i), !moves);
    }
}

/* ---- speed ---- */

static void discard_begin(struct out *out, const char *name)
{
    (void)out;
    (void)name;
}
static void discard_end(struct out *out)
{
    (void)out;
}
static void discard_text(struct out *out, const char *name, const char *text)
{
    (void)out;
    (void)name;
    (void)text;
}
static void discard_number(struct out *out, const char *name, uint64_t number)
{
    (void)out;
    (void)name;
    (void)number;
}
static void discard_bool(struct out *out, const char *name, bool value)
{
    (void)out;
    (void)name;
    (void)value;
}
static const struct out_ops discard_ops = {discard_begin, discard_end,  discard_begin,
                                           discard_end,   discard_text, discard_number,
                                           discard_bool,  discard_text};

static uint64_t clock_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static int ignore_row(void *arg, const void *row)
{
    (void)arg;
    (void)row;
    return 0;
}

/* The best of several rounds of a page from the middle, in µs. */
static uint64_t page_us(struct db *reader, enum collection collection)
{
    struct out out = {&discard_ops};
    struct view_query query = {.limit = 100, .after_seq = 2500};
    struct view_page page;
    struct error error;
    uint64_t best = UINT64_MAX;

    for (unsigned i = 0; i < 20; i++) {
        uint64_t begin = clock_us();
        assert_int_equal(db_read_begin(reader), 0);
        assert_int_equal(view_list(reader, NULL, collection, &query, &out, &page, &error), 0);
        db_read_end(reader);
        uint64_t us = clock_us() - begin;
        best = us < best ? us : best;
    }
    assert_true(page.more);
    return best;
}

static void test_a_page_costs_little_more_than_its_rows(void **state)
{
    char id[ID_SIZE];
    uint64_t rows_us = UINT64_MAX;

    (void)state;
    assert_int_equal(db_begin(fixture.db), 0);
    add_peer();
    for (unsigned i = 0; i < 5000; i++) {
        snprintf(id, sizeof(id), "v%u", i);
        add_volume(id);
        if (i % 2 == 1) {
            char source[ID_SIZE];
            struct job_row job = job_of(id, JOB_RUNNING);
            struct copy_row copy = copy_of(id, id, COPY_ROW_RUNNING);
            snprintf(source, sizeof(source), "v%u", i - 1);
            add_sync(id, source, id);
            insert(&job_table, &job);
            insert(&copy_table, &copy);
        }
    }
    for (unsigned i = 0; i < 5000; i++) {
        struct job_row job = job_of("", JOB_COMPLETED);
        insert(&job_table, &job);
    }
    assert_int_equal(db_commit(fixture.db), 0);
    struct db *reader = fixture_reader(&fixture);
    for (unsigned i = 0; i < 20; i++) {
        uint64_t begin = clock_us();
        assert_int_equal(table_each(reader, &volume_table, NULL, 2500, 100, ignore_row, NULL), 0);
        uint64_t us = clock_us() - begin;
        rows_us = us < rows_us ? us : rows_us;
    }
    uint64_t volumes_us = page_us(reader, COLLECTION_VOLUMES);
    uint64_t jobs_us = page_us(reader, COLLECTION_JOBS);
    print_message("100 of 5000: rows %llu us, volumes %llu us, jobs %llu us\n",
                  (unsigned long long)rows_us, (unsigned long long)volumes_us,
                  (unsigned long long)jobs_us);
    db_close(reader);
    /* Wide enough for a loaded machine and sanitizers; a scan of a table for each object would be
     * far beyond. */
    assert_true(volumes_us < 50000 && jobs_us < 50000);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_pages_have_every_object_once_in_order),
        TEST(test_a_page_that_ends_with_the_list_has_no_next),
        TEST(test_no_limit_is_100_and_none_is_more_than_1000),
        TEST(test_derived_lists_page_too),
        TEST(test_filters_of_volumes),
        TEST(test_a_name_is_found_whatever_kind_of_identity_it_is),
        TEST(test_filters_of_relationships),
        TEST(test_filters_of_the_rest),
        TEST(test_bad_filters_are_refused_and_the_allowed_ones_named),
        TEST(test_what_is_not_there_is_told),
        TEST(test_collections_are_found_by_their_paths),
        TEST(test_relationships_of_a_volume_are_the_same_in_every_page_and_alone),
        TEST(test_what_shows_the_time_or_live_counters_does_not_last),
        TEST(test_a_page_costs_little_more_than_its_rows),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
