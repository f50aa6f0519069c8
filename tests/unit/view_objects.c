// SPDX-License-Identifier: Apache-2.0
/*
 * What an object shows: systems, secrets, volumes, pools, exports, groups. With --dump every kind of object is printed as JSON, for
 * scripts/check_tables.py to hold against the schemas of openapi.yaml.
 */
#include "tests/unit/view_fixture.h"

#include <stdio.h>
#include <string.h>

#include "api/json_out.h"
#include "base/check.h"
#include "service/live.h"
#include "service/view_parts.h"

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

/* ---- exports and groups ---- */

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

static void add_group_sync(const char *id, const char *source, const char *target, bool consistency)
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

/* ---- dump ---- */

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

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_a_system_is_reachable_when_one_of_its_portals_is),
        TEST(test_secrets_are_counted_and_never_shown),
        TEST(test_a_volume_tells_its_url_size_and_names),
        TEST(test_the_format_of_a_name_follows_its_identity),
        TEST(test_usage_follows_relationships_then_pool),
        TEST(test_a_volume_with_a_problem_is_in_error),
        TEST(test_a_pool_sums_its_members),
        TEST(test_groups_show_their_members_in_order_and_what_relates_them),
        TEST(test_exports_show_their_luns_and_who_may_log_in),
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
