// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/view_fixture.h"

#include <stdio.h>
#include <string.h>

#include "api/json_out.h"
#include "service/exports.h"
#include "service/hosted.h"
#include "service/live.h"

struct fixture fixture;
struct live *live;
bool lasting;

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

int setup(void **state)
{
    (void)state;
    fixture_init(&fixture);
    fixture_open(&fixture);
    live = live_new();
    return 0;
}

int teardown(void **state)
{
    (void)state;
    live_free(live);
    fixture_fini(&fixture);
    return 0;
}

/* ---- rows ---- */

void insert(const struct table *table, void *row)
{
    assert_int_equal(table_insert(fixture.db, table, row), 0);
}

void add_system(const char *id)
{
    struct system_row row = {.created_ms = now_ms};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.element_name, id);
    insert(&system_table, &row);
}

void add_access_point(const char *id, const char *system, const char *address, bool probed,
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

struct volume_row volume_of(const char *id)
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

void add_volume(const char *id)
{
    struct volume_row row = volume_of(id);

    insert(&volume_table, &row);
}

void add_peer(void)
{
    add_system("peer");
    add_access_point("ap1", "peer", "192.0.2.1:3260", true, true);
}

struct sync_row sync_of(const char *id, const char *source, const char *target)
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

void add_sync(const char *id, const char *source, const char *target)
{
    struct sync_row row = sync_of(id, source, target);

    insert(&sync_table, &row);
}

struct job_row job_of(const char *id, uint32_t state)
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

struct copy_row copy_of(const char *id, const char *job, uint32_t state)
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

cJSON *object(enum collection collection, const char *id)
{
    struct strbuf text = STRBUF_INIT;
    struct json_out json;

    json_out_init(&json, &text);
    assert_int_equal(view_object(fixture.db, NULL, collection, id, &json.out, &lasting), 0);
    return parsed(&text);
}

int list_error(enum collection collection, const struct view_query *query, struct error *error)
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

cJSON *list(enum collection collection, const struct view_query *query, struct view_page *ret_page)
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

const cJSON *member(const cJSON *json, const char *name)
{
    const cJSON *found = cJSON_GetObjectItemCaseSensitive(json, name);

    if (found == NULL) {
        fail_msg("no %s", name);
    }
    return found;
}

const char *text_of(const cJSON *json, const char *name)
{
    return cJSON_GetStringValue(member(json, name));
}

uint64_t number_of(const cJSON *json, const char *name)
{
    assert_true(cJSON_IsNumber(member(json, name)));
    return (uint64_t)member(json, name)->valuedouble;
}

bool bool_of(const cJSON *json, const char *name)
{
    assert_true(cJSON_IsBool(member(json, name)));
    return cJSON_IsTrue(member(json, name));
}

void assert_null_member(const cJSON *json, const char *name)
{
    assert_true(cJSON_IsNull(member(json, name)));
}

void assert_numbers(const cJSON *json, const char *name, const char *wanted)
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

void assert_ids(const cJSON *array, const char *wanted)
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

void assert_filtered(enum collection collection, const char *name, const char *value,
                     const char *wanted)
{
    struct view_query query = {.n_filters = 1, .filters = {{name, value}}};
    struct view_page page;
    cJSON *members = list(collection, &query, &page);

    assert_ids(members, wanted);
    assert_int_equal(page.total, cJSON_GetArraySize(members));
    cJSON_Delete(members);
}
