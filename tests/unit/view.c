// SPDX-License-Identifier: Apache-2.0
/*
 * The views over a real store. With --dump every kind of object is printed as JSON, for
 * scripts/check_tables.py to hold against the schemas of openapi.yaml.
 *
 * The three functions of control that views call are replaced (ld --wrap): a control of its own
 * would start to work on the jobs that stand in the records.
 */
#include "tests/unit/testing.h"

#include <cjson/cJSON.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "api/json_out.h"
#include "base/check.h"
#include "service/jobs.h"
#include "service/exports.h"
#include "service/hosted.h"
#include "service/live.h"
#include "service/view.h"
#include "service/view_parts.h"
#include "tests/unit/store_fixture.h"

enum { MIB = 1 << 20 };
static const uint64_t now_ms = 1750000000000;

static struct fixture fixture;
static struct live *live;
static bool lasting; /* the last object */

struct live *__wrap_control_live(struct control *control);
uint64_t __wrap_control_now_ms(struct control *control);
const struct control_options *__wrap_control_options(const struct control *control);

struct live *__wrap_control_live(struct control *control)
{
    (void)control;
    return live;
}

uint64_t __wrap_control_now_ms(struct control *control)
{
    (void)control;
    return now_ms;
}

const struct control_options *__wrap_control_options(const struct control *control)
{
    static const struct control_options options = {.initiator_name = "iqn.2025-01.test:initiator"};

    (void)control;
    return &options;
}

/* Nothing is open: what the array would tell. */
struct hosted *__wrap_control_hosted(struct control *control);
struct array *__wrap_hosted_array(struct hosted *hosted);
bool __wrap_array_pool_usage(struct array *array, const char *pool_id,
                             struct array_usage *ret_usage);
bool __wrap_array_volume_usage(struct array *array, const char *volume_id,
                               struct array_volume_usage *ret_usage);
const char *__wrap_exports_advertised(struct control *control);
bool __wrap_export_may_be_served(struct control *control, const struct export_row *row,
                                 uint64_t n_initiators, bool chap);
void __wrap_exports_sessions(struct control *control, const char *export_id, export_session_fn fn,
                             void *arg);

bool __wrap_export_may_be_served(struct control *control, const struct export_row *row,
                                 uint64_t n_initiators, bool chap)
{
    (void)control;
    (void)chap;
    return row->all_initiators || n_initiators > 0;
}

void __wrap_exports_sessions(struct control *control, const char *export_id, export_session_fn fn,
                             void *arg)
{
    (void)control;
    (void)export_id;
    fn(arg, &(struct target_session){"iqn.2025-01.test:host", "host seven"});
}

struct hosted *__wrap_control_hosted(struct control *control)
{
    (void)control;
    return NULL;
}

void __wrap_exports_remotes(struct control *control, const char *volume_id, export_remote_fn fn,
                            void *arg);
void __wrap_exports_remotes(struct control *control, const char *volume_id, export_remote_fn fn,
                            void *arg)
{
    struct target_session session = {"iqn.2025-01.test:peer", "what it said"};
    struct remote_alias remote = {.sync_id = "51d0", .is_target = true, .other_id = "9c01"};

    (void)control;
    (void)volume_id;
    fn(arg, &session, &remote);
}

struct array *__wrap_hosted_array(struct hosted *hosted)
{
    (void)hosted;
    return NULL;
}

bool __wrap_array_pool_usage(struct array *array, const char *pool_id,
                             struct array_usage *ret_usage)
{
    (void)array;
    (void)pool_id;
    *ret_usage = (struct array_usage){.file_system_bytes = 40 * MIB,
                                      .capacity_bytes = 30 * MIB,
                                      .used_bytes = 10 * MIB,
                                      .available_bytes = 20 * MIB,
                                      .reclaimable_bytes = MIB};
    return true;
}

bool __wrap_array_volume_usage(struct array *array, const char *volume_id,
                               struct array_volume_usage *ret_usage)
{
    (void)array;
    (void)volume_id;
    *ret_usage = (struct array_volume_usage){
        .size_bytes = 8 * MIB, .used_bytes = 3 * MIB, .shared_bytes = MIB, .n_layers = 2};
    return true;
}

const char *__wrap_exports_advertised(struct control *control)
{
    (void)control;
    return "127.0.0.1:3260";
}

static int setup(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture_open(&fixture);
    live = live_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    live_free(live);
    fixture_fini(&fixture);
    return 0;
}

/* ---- rows ---- */

static void insert(const struct table *table, void *row)
{
    assert_int_equal(table_insert(fixture.db, table, row), 0);
}

static void add_system(const char *id)
{
    struct system_row row = {.created_ms = now_ms};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.element_name, id);
    insert(&system_table, &row);
}

static void add_access_point(const char *id, const char *system, const char *address, bool probed,
                             bool reachable)
{
    struct access_point_row row = {.info_format = 3,
                                   .registered = true,
                                   .created_ms = now_ms,
                                   .probed = probed,
                                   .reachable = reachable,
                                   .last_seen_ms = reachable ? now_ms - 1000 : 0,
                                   .last_tried_ms = probed ? now_ms - 500 : 0};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.system_id, system);
    TEXT_SET(row.element_name, "portal");
    TEXT_SET(row.access_info, "as-given");
    TEXT_SET(row.address, address);
    if (probed && !reachable) {
        TEXT_SET(row.last_error, "Connection refused");
    }
    insert(&access_point_table, &row);
}

static struct volume_row volume_of(const char *id)
{
    struct volume_row row = {.kind = VOLUME_REMOTE,
                             .lun = 7,
                             .size_bytes = 64 * MIB,
                             .block_bytes = 512,
                             .physical_bytes = 4096,
                             .persistent = true,
                             .created_ms = now_ms,
                             .last_seen_ms = now_ms};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.element_name, id);
    TEXT_SET(row.system_id, "peer");
    TEXT_SET(row.access_point_id, "ap1");
    TEXT_SET(row.iqn, "iqn.2025-01.test:disk");
    TEXT_SET(row.identity, "naa.600140500000000000000000000000ab");
    return row;
}

static void add_volume(const char *id)
{
    struct volume_row row = volume_of(id);

    insert(&volume_table, &row);
}

static void add_peer(void)
{
    add_system("peer");
    add_access_point("ap1", "peer", "192.0.2.1:3260", true, true);
}

static struct sync_row sync_of(const char *id, const char *source, const char *target)
{
    struct sync_row row = {.sync_type = SYNC_CLONE,
                           .mode = MODE_SYNCHRONOUS,
                           .copy_type = COPY_UNSYNC_UNASSOC,
                           .replica_type = REPLICA_FULL_COPY,
                           .remote = true,
                           .copy_state = STATE_SYNCHRONIZED,
                           .requested_copy_state = STATE_NOT_APPLICABLE,
                           .progress_status = PROGRESS_COMPLETED,
                           .copy_methodology = 3,
                           .copy_recovery_mode = 2,
                           .percent_synced = 100,
                           .when_established_ms = now_ms - 5000,
                           .when_synced_ms = now_ms - 1000};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.source_id, source);
    TEXT_SET(row.target_id, target);
    return row;
}

static void add_sync(const char *id, const char *source, const char *target)
{
    struct sync_row row = sync_of(id, source, target);

    insert(&sync_table, &row);
}

static struct job_row job_of(const char *id, uint32_t state)
{
    struct job_row row = {.state = state,
                          .time_submitted_ms = now_ms - 20000,
                          .start_ms = now_ms - 10000,
                          .last_change_ms = now_ms - 10000,
                          .time_before_removal_ms = 300000};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.name, "CreateElementReplica");
    TEXT_SET(row.owner, "ReplicationService");
    TEXT_SET(row.element_name, "my job");
    return row;
}

static struct copy_row copy_of(const char *id, const char *job, uint32_t state)
{
    struct copy_row row = {.state = state, .bytes_total = 100 * MIB};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.job_id, job);
    TEXT_SET(row.sync_id, "sync1");
    TEXT_SET(row.source_id, "v1");
    TEXT_SET(row.target_id, "v2");
    return row;
}

/* ---- objects and lists as JSON ---- */

static cJSON *parsed(struct strbuf *text)
{
    assert_int_equal(strbuf_error(text), 0);
    cJSON *json = cJSON_Parse(strbuf_str(text));
    assert_non_null(json);
    strbuf_fini(text);
    return json;
}

static cJSON *object(enum collection collection, const char *id)
{
    struct strbuf text = STRBUF_INIT;
    struct json_out json;

    json_out_init(&json, &text);
    assert_int_equal(view_object(fixture.db, NULL, collection, id, &json.out, &lasting), 0);
    return parsed(&text);
}

static int list_error(enum collection collection, const struct view_query *query,
                      struct error *error)
{
    struct strbuf text = STRBUF_INIT;
    struct json_out json;
    struct view_page page;

    json_out_init(&json, &text);
    out_begin_array(&json.out, NULL);
    int r = view_list(fixture.db, NULL, collection, query, &json.out, &page, error);
    strbuf_fini(&text);
    return r;
}

static cJSON *list(enum collection collection, const struct view_query *query,
                   struct view_page *ret_page)
{
    struct strbuf text = STRBUF_INIT;
    struct error error = {0};
    struct json_out json;

    json_out_init(&json, &text);
    out_begin_array(&json.out, NULL);
    int r = view_list(fixture.db, NULL, collection, query, &json.out, ret_page, &error);
    if (r < 0) {
        fail_msg("%s", error.detail);
    }
    out_end_array(&json.out);
    return parsed(&text);
}

static const cJSON *member(const cJSON *json, const char *name)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(json, name);

    if (found == NULL) {
        fail_msg("no %s", name);
    }
    return found;
}

static const char *text_of(const cJSON *json, const char *name)
{
    return cJSON_GetStringValue(member(json, name));
}

/* Small ones only: cJSON has doubles. */
static uint64_t number_of(const cJSON *json, const char *name)
{
    assert_true(cJSON_IsNumber(member(json, name)));
    return (uint64_t)member(json, name)->valuedouble;
}

static bool bool_of(const cJSON *json, const char *name)
{
    assert_true(cJSON_IsBool(member(json, name)));
    return cJSON_IsTrue(member(json, name));
}

static void assert_null_member(const cJSON *json, const char *name)
{
    assert_true(cJSON_IsNull(member(json, name)));
}

/* "2 6": an array of numbers. */
static void assert_numbers(const cJSON *json, const char *name, const char *wanted)
{
    char found[256] = "";
    const cJSON *item;

    cJSON_ArrayForEach(item, member(json, name))
    {
        size_t len = strlen(found);
        snprintf(found + len, sizeof(found) - len, "%s%d", len == 0 ? "" : " ", item->valueint);
    }
    assert_string_equal(found, wanted);
}

/* "a b": the last parts of an array of paths. */
static void assert_ids(const cJSON *array, const char *wanted)
{
    char found[256] = "";
    const cJSON *item;

    cJSON_ArrayForEach(item, array)
    {
        const char *path = cJSON_IsObject(item) ? text_of(item, "self") : item->valuestring;
        size_t len = strlen(found);
        snprintf(found + len, sizeof(found) - len, "%s%s", len == 0 ? "" : " ",
                 strrchr(path, '/') + 1);
    }
    assert_string_equal(found, wanted);
}

/* The ids that a list gives for one filter. */
static void assert_filtered(enum collection collection, const char *name, const char *value,
                            const char *wanted)
{
    struct view_query query = {.n_filters = 1, .filters = {{name, value}}};
    struct view_page page;
    cJSON *members = list(collection, &query, &page);

    assert_ids(members, wanted);
    assert_int_equal(page.total, cJSON_GetArraySize(members));
    cJSON_Delete(members);
}

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

/* ---- systems ---- */

static void test_a_system_is_reachable_when_one_of_its_portals_is(void **state)
{
    (void)state;
    add_system("new");
    add_access_point("n1", "new", "192.0.2.1:3260", false, false);
    add_system("half");
    add_access_point("h1", "half", "192.0.2.2:3260", true, false);
    add_access_point("h2", "half", "192.0.2.3:3260", true, true);
    add_system("gone");
    add_access_point("g1", "gone", "192.0.2.4:3260", true, false);

    cJSON *json = object(COLLECTION_SYSTEMS, "new");
    assert_null_member(json, "Reachable");
    assert_numbers(json, "OperationalStatus", "0");
    cJSON_Delete(json);
    json = object(COLLECTION_SYSTEMS, "half");
    assert_true(bool_of(json, "Reachable"));
    assert_numbers(json, "OperationalStatus", "3");
    assert_ids(member(json, "AccessPoints"), "h1 h2");
    assert_string_equal(text_of(json, "LastSeen"), "2025-06-15T15:06:39.000Z");
    cJSON_Delete(json);
    json = object(COLLECTION_SYSTEMS, "gone");
    assert_false(bool_of(json, "Reachable"));
    assert_numbers(json, "OperationalStatus", "12");
    assert_null_member(json, "LastSeen");
    assert_non_null(strstr(text_of(json, "Reachability"), "Connection refused"));
    cJSON_Delete(json);
    json = object(COLLECTION_SYSTEMS, "local");
    assert_true(bool_of(json, "Reachable"));
    assert_ids(member(json, "Services"),
               "StorageConfigurationService ControllerConfigurationService ReplicationService "
        "ReplicationServiceCapabilities");
    assert_ids(member(json, "AccessPoints"), "initiator");
    cJSON_Delete(json);
}

static void add_export(const char *id, const char *own_volume, bool all_initiators)
{
    struct export_row row = {.all_initiators = all_initiators, .created_ms = now_ms};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.element_name, id);
    snprintf(row.iqn, sizeof(row.iqn), "iqn.2026-11.io.smirror:%s", id);
    TEXT_SET(row.own_volume_id, own_volume);
    insert(&export_table, &row);
}

static void add_export_lun(const char *id, uint32_t number, const char *volume, bool read_only)
{
    struct export_lun_row row = {.number = number, .read_only = read_only};

    TEXT_SET(row.export_id, id);
    TEXT_SET(row.volume_id, volume);
    insert(&export_lun_table, &row);
}

static void add_export_initiator(const char *id, const char *initiator)
{
    struct export_initiator_row row = {0};

    TEXT_SET(row.export_id, id);
    TEXT_SET(row.initiator, initiator);
    insert(&export_initiator_table, &row);
}

static void add_secret(const char *access_point, const char *protocol)
{
    struct secret_row row = {0};

    TEXT_SET(row.access_point_id, access_point);
    TEXT_SET(row.remote_id, "hidden-user");
    TEXT_SET(row.secret, "hidden-secret");
    TEXT_SET(row.protocol, protocol);
    insert(&secret_table, &row);
}

static void test_secrets_are_counted_and_never_shown(void **state)
{
    struct strbuf text = STRBUF_INIT;
    struct json_out json;

    (void)state;
    add_peer();
    add_access_point("ap2", "peer", "192.0.2.2:3260", false, false);
    add_access_point("ap3", "peer", "192.0.2.3:3260", false, false);
    add_secret("ap2", "CHAP");
    add_secret("ap3", "CHAP-Mutual");
    add_secret("ap3", "CHAP");
    static const char *const wanted[][2] = {
        {"ap1", "None"}, {"ap2", "CHAP"}, {"ap3", "CHAP-Mutual"}};
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        cJSON *found = object(COLLECTION_ACCESS_POINTS, wanted[i][0]);
        assert_string_equal(text_of(found, "Authentication"), wanted[i][1]);
        cJSON_Delete(found);
    }
    for (unsigned i = 0; i < COLLECTION_COUNT; i++) {
        struct view_page page;
        struct error error;
        json_out_init(&json, &text);
        out_begin_array(&json.out, NULL);
        assert_int_equal(
            view_list(fixture.db, NULL, i, &(struct view_query){0}, &json.out, &page, &error), 0);
        assert_null(strstr(strbuf_str(&text), "hidden"));
        strbuf_reset(&text);
    }
    strbuf_fini(&text);
}

/* ---- volumes ---- */

static void test_a_volume_tells_its_url_size_and_names(void **state)
{
    struct volume_row row = volume_of("v1");

    (void)state;
    add_peer();
    row.size_bytes = 5000000000512; /* more than 32 bits, not a multiple of 4096 */
    row.thin = true;
    TEXT_SET(row.serial, "SER1");
    TEXT_SET(row.vendor, "IET");
    insert(&volume_table, &row);
    cJSON *json = object(COLLECTION_VOLUMES, "v1");
    assert_string_equal(text_of(json, "Url"), "iscsi://192.0.2.1:3260/iqn.2025-01.test:disk/7");
    assert_int_equal(number_of(json, "Size"), 5000000000512);
    assert_int_equal(number_of(json, "BlockSize"), 512);
    assert_int_equal(number_of(json, "NumberOfBlocks"), 5000000000512 / 512);
    assert_int_equal(number_of(json, "ConsumableBlocks"), 5000000000512 / 512);
    assert_true(bool_of(json, "ThinlyProvisioned"));
    assert_string_equal(text_of(json, "Name"), "600140500000000000000000000000ab");
    assert_string_equal(text_of(json, "VendorIdentification"), "IET");
    assert_null_member(json, "ProductIdentification");
    assert_null_member(json, "Pool");
    assert_null_member(json, "Problem");
    assert_int_equal(cJSON_GetArraySize(member(json, "OtherIdentifyingInfo")),
                     cJSON_GetArraySize(member(json, "IdentifyingDescriptions")));
    cJSON_Delete(json);
}

static void test_the_format_of_a_name_follows_its_identity(void **state)
{
    static const struct {
        const char *identity, *name;
        unsigned format, name_space;
    } kinds[] = {
        {"naa.6001405a", "6001405a", 9, 2},
        {"eui.0025385b", "0025385b", 10, 2},
        {"t10.IET  1", "IET  1", 11, 2},
        {"serial.S1", "S1", 1, 5},
        {"", "", 0, 0},
    };
    char id[ID_SIZE];

    (void)state;
    add_peer();
    for (unsigned i = 0; i < ARRAY_LEN(kinds); i++) {
        snprintf(id, sizeof(id), "v%u", i);
        struct volume_row row = volume_of(id);
        TEXT_SET(row.identity, kinds[i].identity);
        insert(&volume_table, &row);
        cJSON *json = object(COLLECTION_VOLUMES, id);
        assert_string_equal(text_of(json, "Name"), kinds[i].name);
        assert_int_equal(number_of(json, "NameFormat"), kinds[i].format);
        assert_int_equal(number_of(json, "NameNamespace"), kinds[i].name_space);
        cJSON_Delete(json);
    }
}

static void assert_usage(const char *id, unsigned usage, const char *relationships)
{
    cJSON *json = object(COLLECTION_VOLUMES, id);

    assert_int_equal(number_of(json, "Usage"), usage);
    assert_ids(member(json, "Relationships"), relationships);
    cJSON_Delete(json);
}

static void test_usage_follows_relationships_then_pool(void **state)
{
    struct volume_row row;
    struct pool_row pool = {.kind = POOL_REMOTE};

    (void)state;
    add_peer();
    TEXT_SET(pool.head.id, "pool1");
    TEXT_SET(pool.system_id, "peer");
    insert(&pool_table, &pool);
    add_volume("plain");
    add_volume("source");
    add_volume("both");
    row = volume_of("target");
    TEXT_SET(row.pool_id, "pool1");
    row.allocated = true;
    insert(&volume_table, &row);
    row = volume_of("free");
    TEXT_SET(row.pool_id, "pool1");
    insert(&volume_table, &row);
    row = volume_of("taken");
    TEXT_SET(row.pool_id, "pool1");
    row.allocated = true;
    insert(&volume_table, &row);
    add_sync("s1", "source", "both");
    add_sync("s2", "both", "target");

    assert_usage("plain", 2, "");
    assert_usage("source", 7, "s1");
    assert_usage("target", 9, "s2");
    assert_usage("both", 11, "s2 s1");
    assert_usage("free", 21, "");
    assert_usage("taken", 24, "");
}

static void test_a_volume_with_a_problem_is_in_error(void **state)
{
    struct volume_row row = volume_of("v1");

    (void)state;
    add_peer();
    TEXT_SET(row.problem, "The LUN is another one.");
    insert(&volume_table, &row);
    add_volume("v2");
    cJSON *json = object(COLLECTION_VOLUMES, "v1");
    assert_numbers(json, "OperationalStatus", "6");
    assert_numbers(json, "ExtentStatus", "3 17");
    assert_string_equal(text_of(json, "Problem"), "The LUN is another one.");
    cJSON_Delete(json);
    json = object(COLLECTION_VOLUMES, "v2");
    assert_numbers(json, "OperationalStatus", "2");
    assert_numbers(json, "ExtentStatus", "17");
    cJSON_Delete(json);
}

static void test_a_pool_sums_its_members(void **state)
{
    struct pool_row pool = {.kind = POOL_REMOTE};

    (void)state;
    add_peer();
    TEXT_SET(pool.head.id, "pool1");
    TEXT_SET(pool.system_id, "peer");
    TEXT_SET(pool.element_name, "replicas");
    insert(&pool_table, &pool);
    for (unsigned i = 1; i <= 3; i++) {
        char id[ID_SIZE];
        snprintf(id, sizeof(id), "v%u", i);
        struct volume_row row = volume_of(id);
        TEXT_SET(row.pool_id, "pool1");
        row.size_bytes = i * MIB;
        row.allocated = i == 1;
        if (i == 2) {
            TEXT_SET(row.problem, "missing");
        }
        insert(&volume_table, &row);
    }
    add_volume("stranger");
    cJSON *json = object(COLLECTION_POOLS, "pool1");
    assert_int_equal(number_of(json, "TotalManagedSpace"), 6 * MIB);
    assert_int_equal(number_of(json, "RemainingManagedSpace"), 5 * MIB);
    assert_ids(member(json, "Elements"), "v1 v2 v3");
    assert_numbers(json, "OperationalStatus", "3");
    cJSON_Delete(json);
}

/* ---- jobs and relationships ---- */

static void test_a_job_shows_live_bytes_and_committed_percent(void **state)
{
    struct job_row job = job_of("j1", JOB_RUNNING);
    struct copy_row copy = copy_of("c1", "j1", COPY_ROW_RUNNING);
    struct copy_progress progress = {.phase = COPY_COPYING,
                                     .bytes_total = 100 * MIB,
                                     .bytes_done = 60 * MIB,
                                     .checkpoint_bytes = 50 * MIB,
                                     .bytes_read = 61 * MIB,
                                     .bytes_written = 30 * MIB,
                                     .bytes_zeroed = 20 * MIB,
                                     .bytes_skipped = 10 * MIB,
                                     .bytes_per_second = 4 * MIB,
                                     .attempts = 2,
                                     .last_error = "link lost",
                                     .last_error_ms = now_ms - 3000};

    (void)state;
    copy.checkpoint_bytes = 40 * MIB;
    copy.bytes_read = 41 * MIB;
    insert(&job_table, &job);
    insert(&copy_table, &copy);
    live_put(live, "c1", &progress);

    cJSON *json = object(COLLECTION_JOBS, "j1");
    assert_int_equal(number_of(json, "PercentComplete"), 40);
    assert_int_equal(number_of(json, "BytesDone"), 60 * MIB);
    assert_int_equal(number_of(json, "CheckpointBytes"), 40 * MIB);
    assert_int_equal(number_of(json, "BytesRead"), 61 * MIB);
    assert_int_equal(number_of(json, "BytesPerSecond"), 4 * MIB);
    assert_int_equal(number_of(json, "Attempts"), 2);
    assert_string_equal(text_of(json, "LastError"), "link lost");
    assert_string_equal(text_of(json, "Phase"), "Copying");
    assert_string_equal(text_of(json, "ElapsedTime"), "PT10S");
    /* 40 MiB at 4 MiB/s after 2025-06-15T15:06:40Z */
    assert_string_equal(text_of(json, "EstimatedEnd"), "2025-06-15T15:06:50.000Z");
    assert_numbers(json, "OperationalStatus", "2");
    assert_null_member(json, "JobOutParameters");
    const cJSON *one = cJSON_GetArrayItem(member(json, "Copies"), 0);
    assert_int_equal(number_of(one, "BytesDone"), 60 * MIB);
    assert_null_member(one, "Synchronization");
    cJSON_Delete(json);

    live_remove(live, "c1");
    json = object(COLLECTION_JOBS, "j1");
    assert_int_equal(number_of(json, "PercentComplete"), 40);
    assert_int_equal(number_of(json, "BytesDone"), 40 * MIB);
    assert_int_equal(number_of(json, "BytesRead"), 41 * MIB);
    assert_int_equal(number_of(json, "BytesPerSecond"), 0);
    assert_string_equal(text_of(json, "Phase"), "Opening");
    assert_null_member(json, "EstimatedEnd");
    cJSON_Delete(json);
}

static void test_the_estimated_end_keeps_to_the_bandwidth_limit(void **state)
{
    struct job_row job = job_of("j1", JOB_RUNNING);
    struct copy_row copy = copy_of("c1", "j1", COPY_ROW_RUNNING);
    struct copy_progress progress = {.phase = COPY_COPYING,
                                     .bytes_total = 100 * MIB,
                                     .bytes_done = 60 * MIB,
                                     .bytes_per_second = 4 * MIB};
    static const struct {
        uint64_t limit;
        uint64_t read;
        const char *end;
    } cases[] = {
        {0, 60 * MIB, "2025-06-15T15:06:50.000Z"},       /* 40 MiB at 4 MiB/s */
        {8 * MIB, 60 * MIB, "2025-06-15T15:06:50.000Z"}, /* the limit is not what holds it back */
        {MIB, 60 * MIB, "2025-06-15T15:07:20.000Z"},
        {MIB, 61 * MIB, "2025-06-15T15:07:20.000Z"}, /* some of it twice */
        {MIB, 30 * MIB, "2025-06-15T15:07:00.000Z"}, /* half of it was empty */
        {MIB, 0, "2025-06-15T15:06:50.000Z"},
    };

    (void)state;
    insert(&job_table, &job);
    insert(&copy_table, &copy);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        progress.bandwidth_limit = cases[i].limit;
        progress.bytes_read = cases[i].read;
        live_put(live, "c1", &progress);
        cJSON *json = object(COLLECTION_JOBS, "j1");

        assert_string_equal(text_of(json, "EstimatedEnd"), cases[i].end);
        assert_int_equal(number_of(json, "BytesPerSecond"), 4 * MIB);
        cJSON_Delete(json);
    }
}

/* What the row and the snapshot say of checkpoint, done, and the pass. */
static void assert_done(uint64_t row_checkpoint, bool row_verifying, uint64_t live_done,
                        bool live_verifying, uint64_t wanted)
{
    struct copy_row copy;
    struct copy_progress progress = {.phase = COPY_COPYING,
                                     .bytes_total = 100 * MIB,
                                     .bytes_done = live_done,
                                     .verifying = live_verifying};

    assert_int_equal(table_get(fixture.db, &copy_table, "c1", &copy), 0);
    copy.checkpoint_bytes = row_checkpoint;
    copy.verify = true;
    copy.verifying = row_verifying;
    assert_int_equal(table_update(fixture.db, &copy_table, &copy), 0);
    live_put(live, "c1", &progress);
    cJSON *json = object(COLLECTION_JOBS, "j1");
    assert_int_equal(number_of(json, "BytesDone"), wanted);
    assert_true(number_of(json, "CheckpointBytes") <= number_of(json, "BytesDone"));
    cJSON_Delete(json);
}

static void test_a_checkpoint_is_never_ahead_of_what_is_done(void **state)
{
    struct job_row job = job_of("j1", JOB_RUNNING);
    struct copy_row copy = copy_of("c1", "j1", COPY_ROW_RUNNING);

    (void)state;
    insert(&job_table, &job);
    insert(&copy_table, &copy);
    assert_done(20 * MIB, false, 30 * MIB, false, 30 * MIB);
    assert_done(40 * MIB, false, 30 * MIB, false, 40 * MIB); /* committed after the snapshot */
    assert_done(40 * MIB, true, 30 * MIB, true, 40 * MIB);
    /* In the second pass, and the row is not yet. */
    assert_done(90 * MIB, false, 30 * MIB, true, 30 * MIB);
}

static unsigned percent_of(uint32_t job_state, uint32_t copy_state, uint64_t checkpoint,
                           bool verify, bool verifying)
{
    static unsigned count;
    char id[ID_SIZE];
    char copy_id[ID_SIZE];

    snprintf(id, sizeof(id), "p%u", ++count);
    snprintf(copy_id, sizeof(copy_id), "pc%u", count);
    struct job_row job = job_of(id, job_state);
    struct copy_row copy = copy_of(copy_id, id, copy_state);
    copy.checkpoint_bytes = checkpoint;
    copy.verify = verify;
    copy.verifying = verifying;
    insert(&job_table, &job);
    insert(&copy_table, &copy);
    cJSON *json = object(COLLECTION_JOBS, id);
    unsigned percent = (unsigned)number_of(json, "PercentComplete");
    cJSON_Delete(json);
    return percent;
}

static void test_percent_is_100_only_for_a_completed_job(void **state)
{
    const uint64_t all = 100 * MIB;

    (void)state;
    assert_int_equal(percent_of(JOB_NEW, COPY_ROW_QUEUED, 0, false, false), 0);
    assert_int_equal(percent_of(JOB_RUNNING, COPY_ROW_RUNNING, all / 2, false, false), 50);
    assert_int_equal(percent_of(JOB_RUNNING, COPY_ROW_RUNNING, all, false, false), 99);
    assert_int_equal(percent_of(JOB_RUNNING, COPY_ROW_DONE, all, false, false), 99);
    assert_int_equal(percent_of(JOB_COMPLETED, COPY_ROW_DONE, all, false, false), 100);
    assert_int_equal(percent_of(JOB_COMPLETED, COPY_ROW_RUNNING, 0, false, false), 100);
    assert_int_equal(percent_of(JOB_EXCEPTION, COPY_ROW_BROKEN, all, false, false), 99);
    assert_int_equal(percent_of(JOB_TERMINATED, COPY_ROW_CANCELLED, all / 4, false, false), 25);
    /* A verification pass is the second half. */
    assert_int_equal(percent_of(JOB_RUNNING, COPY_ROW_RUNNING, all, true, false), 50);
    assert_int_equal(percent_of(JOB_RUNNING, COPY_ROW_RUNNING, 0, true, true), 50);
    assert_int_equal(percent_of(JOB_RUNNING, COPY_ROW_RUNNING, all / 2, true, true), 75);
}

static void test_percent_of_a_job_does_not_fall_below_what_it_has_told(void **state)
{
    struct job_row job = job_of("j1", JOB_RUNNING);
    struct copy_row copy = copy_of("c1", "j1", COPY_ROW_RUNNING);

    (void)state;
    job.percent_complete = 70;
    copy.checkpoint_bytes = 10 * MIB;
    insert(&job_table, &job);
    insert(&copy_table, &copy);
    cJSON *json = object(COLLECTION_JOBS, "j1");
    assert_int_equal(number_of(json, "PercentComplete"), 70);
    cJSON_Delete(json);
}

static void test_a_job_sums_its_copies_and_is_as_far_as_the_slowest(void **state)
{
    struct job_row job = job_of("j1", JOB_RUNNING);
    struct copy_row done = copy_of("c1", "j1", COPY_ROW_DONE);
    struct copy_row running = copy_of("c2", "j1", COPY_ROW_RUNNING);
    struct copy_row queued = copy_of("c3", "j1", COPY_ROW_QUEUED);
    struct copy_progress progress = {.phase = COPY_COPYING,
                                     .bytes_total = 100 * MIB,
                                     .bytes_done = 25 * MIB,
                                     .bytes_per_second = MIB};

    (void)state;
    done.end_ms = now_ms;
    running.checkpoint_bytes = 20 * MIB;
    queued.bytes_total = 200 * MIB;
    insert(&job_table, &job);
    insert(&copy_table, &done);
    insert(&copy_table, &running);
    insert(&copy_table, &queued);
    live_put(live, "c2", &progress);
    cJSON *json = object(COLLECTION_JOBS, "j1");
    assert_int_equal(number_of(json, "BytesTotal"), 400 * MIB);
    assert_int_equal(number_of(json, "BytesDone"), 125 * MIB);
    assert_int_equal(number_of(json, "PercentComplete"), 30); /* 100 + 20 of 400 */
    assert_string_equal(text_of(json, "Phase"), "Queued");
    assert_null_member(json, "EstimatedEnd"); /* the third may wait for long */
    assert_int_equal(cJSON_GetArraySize(member(json, "Copies")), 3);
    cJSON_Delete(json);
}

static void test_an_ended_job_tells_how(void **state)
{
    struct job_row job = job_of("j1", JOB_COMPLETED);
    struct job_element_row element = {.effect = ELEMENT_EFFECT_CREATE};
    struct strbuf text = STRBUF_INIT;
    bool ended = false;

    (void)state;
    job.end_ms = now_ms - 4000;
    job.operational_status_2 = STATUS_OK;
    insert(&job_table, &job);
    TEXT_SET(element.job_id, "j1");
    TEXT_SET(element.element, "/volumes/v2");
    insert(&job_element_table, &element);
    assert_int_equal(job_set_out(fixture.db, "j1", "{\"ReturnValue\":0,\"X\":[1]}"), 0);
    cJSON *json = object(COLLECTION_JOBS, "j1");
    assert_numbers(json, "OperationalStatus", "17 2");
    assert_string_equal(text_of(json, "ElapsedTime"), "PT6S");
    assert_int_equal(number_of(member(json, "JobOutParameters"), "ReturnValue"), 0);
    assert_string_equal(text_of(cJSON_GetArrayItem(member(json, "AffectedElements"), 0), "Element"),
                        "/volumes/v2");
    assert_string_equal(text_of(json, "Phase"), "Done");
    cJSON_Delete(json);
    assert_int_equal(view_job_ended(fixture.db, "j1", &ended), 0);
    assert_true(ended);

    struct job_row failed = job_of("j2", JOB_EXCEPTION);
    failed.end_ms = now_ms;
    failed.operational_status_2 = STATUS_ERROR;
    failed.error_code = 4;
    TEXT_SET(failed.error_word, "lun_changed");
    TEXT_SET(failed.error_text, "It is another LUN.");
    insert(&job_table, &failed);
    json = object(COLLECTION_JOBS, "j2");
    assert_numbers(json, "OperationalStatus", "17 6");
    assert_int_equal(number_of(json, "HealthState"), 20);
    assert_int_equal(number_of(json, "ErrorCode"), 4);
    assert_string_equal(text_of(json, "ErrorCodeText"), "lun_changed");
    assert_string_equal(text_of(json, "Phase"), "Broken");
    cJSON_Delete(json);

    struct job_row running = job_of("j3", JOB_SHUTTING_DOWN);
    insert(&job_table, &running);
    assert_int_equal(view_job_ended(fixture.db, "j3", &ended), 0);
    assert_false(ended);
    strbuf_fini(&text);
}

static void test_a_relationship_moves_with_its_copy(void **state)
{
    struct sync_row sync = sync_of("sync1", "v1", "v2");
    struct job_row job = job_of("j1", JOB_RUNNING);
    struct copy_row copy = copy_of("c1", "j1", COPY_ROW_RUNNING);
    struct copy_progress progress = {
        .phase = COPY_COPYING, .bytes_total = 100 * MIB, .bytes_done = 60 * MIB};

    (void)state;
    add_peer();
    add_volume("v1");
    add_volume("v2");
    TEXT_SET(sync.job_id, "j1");
    sync.copy_state = STATE_UNSYNCHRONIZED;
    sync.progress_status = PROGRESS_SYNCHRONIZING;
    sync.percent_synced = 0;
    sync.when_synced_ms = 0;
    insert(&sync_table, &sync);
    insert(&job_table, &job);
    insert(&copy_table, &copy);
    live_put(live, "c1", &progress);

    cJSON *json = object(COLLECTION_SYNCHRONIZATIONS, "sync1");
    assert_int_equal(number_of(json, "PercentSynced"), 60);
    assert_int_equal(number_of(json, "SyncState"), 15);
    assert_string_equal(text_of(json, "Job"), "/jobs/j1");
    assert_string_equal(text_of(json, "CopyStateText"), "Unsynchronized");
    assert_int_equal(number_of(json, "ReplicationType"), 12);
    assert_null_member(json, "WhenSynced");
    assert_null_member(json, "ReadOnly");
    assert_null_member(json, "ReadOnlyText");
    /* smis.md 4.3: from 3, without Force */
    assert_numbers(json, "LegalOperations", "2 22");
    cJSON_Delete(json);
    json = object(COLLECTION_JOBS, "j1");
    assert_string_equal(text_of(cJSON_GetArrayItem(member(json, "Copies"), 0), "Synchronization"),
                        "/synchronizations/sync1");
    cJSON_Delete(json);
}

static void test_legal_operations_at_rest(void **state)
{
    struct sync_row unassociated = sync_of("s1", "v1", "v2");
    struct sync_row associated = sync_of("s2", "v1", "v3");

    (void)state;
    add_peer();
    add_volume("v1");
    add_volume("v2");
    add_volume("v3");
    associated.copy_type = COPY_UNSYNC_ASSOC;
    insert(&sync_table, &unassociated);
    insert(&sync_table, &associated);
    cJSON *json = object(COLLECTION_SYNCHRONIZATIONS, "s1");
    assert_numbers(json, "LegalOperations", "8 9 14 15");
    assert_int_equal(number_of(json, "SyncState"), 6);
    assert_false(bool_of(json, "SyncMaintained"));
    cJSON_Delete(json);
    json = object(COLLECTION_SYNCHRONIZATIONS, "s2");
    assert_numbers(json, "LegalOperations", "8 9 14 15 19");
    cJSON_Delete(json);
}

/* ---- live ---- */

static void test_live_counters_are_those_put_last(void **state)
{
    struct copy_progress progress = {.bytes_done = 1};
    struct copy_progress found;

    (void)state;
    assert_false(live_get(live, "c1", &found));
    live_put(live, "c1", &progress);
    progress.bytes_done = 2;
    live_put(live, "c1", &progress);
    live_put(live, "c2", &progress);
    assert_true(live_get(live, "c1", &found));
    assert_int_equal(found.bytes_done, 2);
    live_remove(live, "c1");
    live_remove(live, "c1");
    assert_false(live_get(live, "c1", &found));
    assert_true(live_get(live, "c2", &found));
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

static void test_exports_show_their_luns_and_who_may_log_in(void **state)
{
    (void)state;
    add_peer();
    add_volume("v1");
    add_volume("v2");
    add_export("v1", "v1", true);
    add_export_lun("v1", 0, "v1", false);
    add_export("e2", "", false);
    add_export_lun("e2", 7, "v2", true);
    add_export_lun("e2", 1, "v1", false);
    cJSON *json = object(COLLECTION_EXPORTS, "v1");
    char url[128];
    assert_false(lasting);
    assert_string_equal(text_of(json, "class"), "SCSIProtocolController");
    assert_string_equal(text_of(json, "OwnedBy"), "/volumes/v1");
    assert_string_equal(text_of(json, "Name"), "iqn.2026-11.io.smirror:v1");
    assert_true(bool_of(json, "AllInitiators") && bool_of(json, "Served"));
    assert_string_equal(text_of(json, "Authentication"), "None");
    assert_string_equal(cJSON_GetArrayItem(member(json, "Sessions"), 0)->valuestring,
                        "iqn.2025-01.test:host");
    const cJSON *lun = cJSON_GetArrayItem(member(json, "LogicalUnits"), 0);
    assert_string_equal(text_of(lun, "LogicalUnit"), "/volumes/v1");
    assert_string_equal(text_of(lun, "DeviceNumber"), "0");
    snprintf(url, sizeof(url), "iscsi://%s/iqn.2026-11.io.smirror:v1/0", text_of(json, "Portal"));
    assert_string_equal(text_of(lun, "Url"), url);
    cJSON_Delete(json);
    json = object(COLLECTION_EXPORTS, "e2");
    assert_null_member(json, "OwnedBy");
    assert_false(bool_of(json, "Served"));
    assert_int_equal(cJSON_GetArraySize(member(json, "LogicalUnits")), 2);
    lun = cJSON_GetArrayItem(member(json, "LogicalUnits"), 0);
    assert_string_equal(text_of(lun, "DeviceNumber"), "7");
    assert_string_equal(text_of(lun, "DeviceAccessText"), "Read-Only");
    cJSON_Delete(json);
    /* A mutual secret alone asks for nothing. */
    add_secret("e2", "CHAP-Mutual");
    add_export_initiator("e2", "iqn.2025-01.test:a");
    json = object(COLLECTION_EXPORTS, "e2");
    assert_string_equal(text_of(json, "Authentication"), "None");
    assert_true(bool_of(json, "Served"));
    cJSON_Delete(json);
    add_secret("e2", "CHAP");
    json = object(COLLECTION_EXPORTS, "e2");
    assert_string_equal(text_of(json, "Authentication"), "CHAP-Mutual");
    cJSON_Delete(json);
    assert_filtered(COLLECTION_EXPORTS, "OwnedBy", "/volumes/v1", "v1");
    assert_filtered(COLLECTION_EXPORTS, "Name", "iqn.2026-11.io.smirror:e2", "e2");
}

/* ---- dump ---- */

static void add_group(const char *id, const char *first, const char *second)
{
    struct group_row group = {.persistent = true, .reserved_as = 4, .created_ms = now_ms};
    const char *const volumes[] = {first, second};

    TEXT_SET(group.head.id, id);
    TEXT_SET(group.element_name, id);
    insert(&group_table, &group);
    for (size_t i = 0; i < 2; i++) {
        struct group_member_row row = {.head.seq = 0};

        TEXT_SET(row.group_id, id);
        TEXT_SET(row.volume_id, volumes[i]);
        insert(&group_member_table, &row);
    }
}

static void add_group_sync(const char *id, const char *source, const char *target,
                           bool consistency)
{
    struct group_sync_row row = {.sync_type = SYNC_CLONE,
                                 .mode = MODE_SYNCHRONOUS,
                                 .consistency = consistency,
                                 .moments = consistency,
                                 .barrier_microseconds = 250,
                                 .when_established_ms = now_ms};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.relationship_name, id);
    TEXT_SET(row.system_element, source);
    TEXT_SET(row.synced_element, target);
    if (strncmp(source, "/groups/", 8) == 0) {
        TEXT_SET(row.source_group_id, source + 8);
    }
    TEXT_SET(row.target_group_id, target + 8);
    insert(&group_sync_table, &row);
}

static void add_pair_of(const char *group_sync, const char *id, const char *source,
                        const char *target, uint32_t copy_state)
{
    struct sync_row row = sync_of(id, source, target);

    TEXT_SET(row.group_sync_id, group_sync);
    row.copy_state = copy_state;
    row.moment = 1;
    row.copy_methodology = METHODOLOGY_COPY_ON_WRITE;
    insert(&sync_table, &row);
}

/* The state of a relationship of groups is what its pairs have in common. */
static void test_groups_show_their_members_in_order_and_what_relates_them(void **state)
{
    cJSON *json;

    (void)state;
    add_peer();
    for (const char *const *id = (const char *const[]){"v1", "v2", "v3", "v4", NULL}; *id != NULL;
         id++) {
        add_volume(*id);
    }
    add_group("g1", "v2", "v1");
    add_group("g2", "v3", "v4");
    add_group_sync("gs1", "/groups/g1", "/groups/g2", true);
    add_pair_of("gs1", "p1", "v2", "v3", STATE_SYNCHRONIZED);
    add_pair_of("gs1", "p2", "v1", "v4", STATE_SYNCHRONIZED);
    json = object(COLLECTION_GROUPS, "g1");
    assert_ids(member(json, "Members"), "v2 v1");
    assert_ids(member(json, "AsSource"), "gs1");
    assert_ids(member(json, "AsTarget"), "");
    cJSON_Delete(json);
    json = object(COLLECTION_GROUP_SYNCHRONIZATIONS, "gs1");
    assert_ids(member(json, "Synchronizations"), "p1 p2");
    assert_int_equal(number_of(json, "CopyState"), STATE_SYNCHRONIZED);
    assert_int_equal(number_of(json, "PercentSynced"), 100);
    assert_int_equal(number_of(json, "ConsistencyState"), 3);
    assert_int_equal(number_of(json, "BarrierMicroseconds"), 250);
    cJSON_Delete(json);
    assert_filtered(COLLECTION_GROUP_SYNCHRONIZATIONS, "SyncedElement", "/groups/g2", "gs1");
    assert_filtered(COLLECTION_GROUP_SYNCHRONIZATIONS, "SystemElement", "/groups/g2", "");
    assert_filtered(COLLECTION_GROUP_SYNCHRONIZATIONS, "RelationshipName", "gs1", "gs1");
    assert_filtered(COLLECTION_GROUP_SYNCHRONIZATIONS, "SyncType", "Clone", "gs1");
    assert_filtered(COLLECTION_GROUP_SYNCHRONIZATIONS, "Mode", "3", "");
    json = object(COLLECTION_SYNCHRONIZATIONS, "p1");
    assert_string_equal(text_of(json, "GroupSynchronized"), "/groupsynchronizations/gs1");
    cJSON_Delete(json);
}

static void dump_fixture(void)
{
    struct volume_row volume;
    struct pool_row pool = {.kind = POOL_REMOTE, .created_ms = now_ms};
    struct sync_row sync;
    struct job_row job;
    struct copy_row copy;
    struct job_element_row element = {.effect = ELEMENT_EFFECT_CREATE};
    struct copy_progress progress = {.phase = COPY_VERIFYING,
                                     .bytes_total = 100 * MIB,
                                     .bytes_done = 60 * MIB,
                                     .verifying = true,
                                     .bytes_per_second = MIB};

    add_peer();
    add_access_point("ap2", "peer", "[2001:db8::1]:3260", true, false);
    add_system("new");
    add_access_point("ap3", "new", "192.0.2.9:3260", false, false);
    add_secret("ap2", "CHAP");
    TEXT_SET(pool.head.id, "pool1");
    TEXT_SET(pool.element_name, "replicas");
    TEXT_SET(pool.system_id, "peer");
    insert(&pool_table, &pool);
    add_volume("v1");
    add_export("v1", "v1", true);
    add_export_lun("v1", 0, "v1", false);
    add_export("e2", "", false);
    add_export_lun("e2", 7, "v1", true);
    add_export_initiator("e2", "iqn.2025-01.test:host");
    add_secret("e2", "CHAP");
    volume = volume_of("v2");
    TEXT_SET(volume.pool_id, "pool1");
    TEXT_SET(volume.identity, "eui.0011");
    volume.allocated = true;
    insert(&volume_table, &volume);
    volume = volume_of("v3");
    TEXT_SET(volume.identity, "serial.x");
    TEXT_SET(volume.problem, "missing");
    TEXT_SET(volume.vendor, "IET");
    TEXT_SET(volume.access_point_id, "");
    volume.size_bytes = INT64_MAX;
    volume.last_seen_ms = 0;
    insert(&volume_table, &volume);
    sync = sync_of("sync1", "v1", "v2");
    TEXT_SET(sync.job_id, "j2");
    sync.copy_state = STATE_UNSYNCHRONIZED;
    insert(&sync_table, &sync);
    sync = sync_of("sync2", "v2", "v3");
    sync.read_only = 3;
    sync.bandwidth_limit = INT64_MAX;
    insert(&sync_table, &sync);
    add_group("g1", "v1", "v2");
    add_group("g2", "v2", "v3");
    add_group_sync("gs1", "/groups/g1", "/groups/g2", true);
    add_group_sync("gs2", "/volumes/v1", "/groups/g2", false);
    add_pair_of("gs1", "sync3", "v1", "v3", STATE_SYNCHRONIZED);
    add_pair_of("gs1", "sync4", "v3", "v1", STATE_SKEWED);
    job = job_of("j1", JOB_NEW);
    job.start_ms = 0;
    insert(&job_table, &job);
    job = job_of("j2", JOB_RUNNING);
    insert(&job_table, &job);
    copy = copy_of("c2", "j2", COPY_ROW_RUNNING);
    copy.verify = true;
    insert(&copy_table, &copy);
    live_put(live, "c2", &progress);
    job = job_of("j3", JOB_COMPLETED);
    job.end_ms = now_ms;
    job.operational_status_2 = 3;
    job.continue_on_error = true;
    insert(&job_table, &job);
    copy = copy_of("c3", "j3", COPY_ROW_BROKEN);
    TEXT_SET(copy.sync_id, "gone");
    TEXT_SET(copy.last_error, "broken");
    copy.last_error_ms = now_ms;
    insert(&copy_table, &copy);
    TEXT_SET(element.job_id, "j3");
    TEXT_SET(element.element, "/volumes/v2");
    insert(&job_element_table, &element);
    assert_int_equal(job_set_out(fixture.db, "j3", "{\"ReturnValue\":0}"), 0);
    job = job_of("j4", JOB_EXCEPTION);
    job.end_ms = now_ms;
    job.operational_status_2 = 6;
    job.error_code = 4;
    TEXT_SET(job.error_word, "copy_failed");
    TEXT_SET(job.error_text, "It failed.");
    insert(&job_table, &job);
}

static void dump_collection(struct out *out, enum collection collection)
{
    const struct view_kind *kind = view_kind_of(collection);
    struct view_page page;
    struct error error;

    out_begin_object(out, view_collections[collection].path);
    out_bool(out, "delete", view_collections[collection].can_delete);
    out_begin_array(out, "filters");
    for (size_t i = 0; i < kind->n_filters; i++) {
        out_text(out, NULL, kind->filters[i].name);
    }
    out_end_array(out);
    out_begin_array(out, "members");
    assert_int_equal(
        view_list(fixture.db, NULL, collection, &(struct view_query){0}, out, &page, &error), 0);
    out_end_array(out);
    out_end_object(out);
}

static void dump(void **state)
{
    struct strbuf text = STRBUF_INIT;
    struct json_out json;

    (void)state;
    dump_fixture();
    json_out_init(&json, &text);
    out_begin_object(&json.out, NULL);
    for (unsigned i = 0; i < COLLECTION_COUNT; i++) {
        dump_collection(&json.out, i);
    }
    out_end_object(&json.out);
    assert_int_equal(strbuf_error(&text), 0);
    puts(strbuf_str(&text));
    strbuf_fini(&text);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
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
        TEST(test_a_system_is_reachable_when_one_of_its_portals_is),
        TEST(test_secrets_are_counted_and_never_shown),
        TEST(test_a_volume_tells_its_url_size_and_names),
        TEST(test_the_format_of_a_name_follows_its_identity),
        TEST(test_usage_follows_relationships_then_pool),
        TEST(test_a_volume_with_a_problem_is_in_error),
        TEST(test_a_pool_sums_its_members),
        TEST(test_a_job_shows_live_bytes_and_committed_percent),
        TEST(test_the_estimated_end_keeps_to_the_bandwidth_limit),
        TEST(test_a_checkpoint_is_never_ahead_of_what_is_done),
        TEST(test_percent_is_100_only_for_a_completed_job),
        TEST(test_percent_of_a_job_does_not_fall_below_what_it_has_told),
        TEST(test_a_job_sums_its_copies_and_is_as_far_as_the_slowest),
        TEST(test_an_ended_job_tells_how),
        TEST(test_a_relationship_moves_with_its_copy),
        TEST(test_groups_show_their_members_in_order_and_what_relates_them),
        TEST(test_legal_operations_at_rest),
        TEST(test_live_counters_are_those_put_last),
        TEST(test_exports_show_their_luns_and_who_may_log_in),
        TEST(test_relationships_of_a_volume_are_the_same_in_every_page_and_alone),
        TEST(test_what_shows_the_time_or_live_counters_does_not_last),
        TEST(test_a_page_costs_little_more_than_its_rows),
    };

    if (argc > 1 && strcmp(argv[1], "--dump") == 0) {
        void *state = NULL;
        setup(&state);
        dump(&state);
        teardown(&state);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
