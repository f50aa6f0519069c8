// SPDX-License-Identifier: Apache-2.0
/*
 * ReplicationServiceCapabilities of kinds, settings and elements against what smis.md says, written out here again: the tables of the service are
 * not asked what is right. The last tests hold the answers against what the calls themselves accept. With --dump an answer of every method is
 * printed, for scripts/check_tables.py.
 */
#include "tests/unit/capabilities_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/json_out.h"
#include "base/check.h"
#include "service/classes.h"
#include "service/enums.h"
#include "service/replica.h"
#include "service/services.h"
#include "service/setting_defaults.h"

/* ---- kinds of replication ---- */

/* Every method that asks about a kind, with what else it needs. */
static const struct {
    const char *method;
    const char *also;
    uint64_t value;
} kind_methods[] = {
    {"GetSupportedListOperations", NULL, 0},
    {"GetSupportedCopyStates", NULL, 0},
    {"GetSupportedGroupCopyStates", NULL, 0},
    {"GetSupportedGroupFeatures", NULL, 0},
    {"GetSupportedGroupOperations", NULL, 0},
    {"GetSupportedWaitForCopyStates", "MethodName", 2},
    {"GetSupportedFeatures", NULL, 0},
    {"GetSupportedConsistency", NULL, 0},
    {"GetSupportedOperations", NULL, 0},
    {"GetSupportedThinProvisioningFeatures", NULL, 0},
    {"GetSupportedMaximum", "Component", 5},
    {"GetDefaultConsistency", NULL, 0},
    {"GetSupportedReplicationSettingData", "PropertyName", 3},
    {"GetDefaultReplicationSettingData", NULL, 0},
    {"GetSupportedListFeatures", NULL, 0},
};

static void test_remote_snapshots_are_not_supported(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kind_methods); i++) {
        for (uint32_t type = 2; type <= 13; type++) {
            begin(kind_methods[i].method);
            give("ReplicationType", type);
            if (kind_methods[i].also != NULL) {
                give(kind_methods[i].also, kind_methods[i].value);
            }
            if (is_made(type)) {
                done();
            } else {
                refused(ERR_NOT_SUPPORTED, "ReplicationType");
            }
        }
    }
}

static void test_a_kind_must_be_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kind_methods); i++) {
        begin(kind_methods[i].method);
        refused(ERR_MISSING_PARAMETER, "ReplicationType");
    }
    begin("ConvertReplicationTypeToSyncType");
    refused(ERR_MISSING_PARAMETER, "ReplicationType");
}

static void test_other_parameters_that_must_be_there(void **state)
{
    static const char *const names[][2] = {
        {"GetSupportedWaitForCopyStates", "MethodName"},
        {"GetSupportedMaximum", "Component"},
        {"GetSupportedReplicationSettingData", "PropertyName"},
        {"GetElementNameCapabilities", "ElementType"},
        {"GetSupportedConnectionFeatures", "connection"},
        {"GetSynchronizationSupported", "LocalElement"},
        {"GetSupportedOperationsForSynchronization", "Synchronization"},
        {"GetSupportedReplicationTypesForSystem", "System"},
        {"ConvertSyncTypeToReplicationType", "SyncType"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        begin(names[i][0]);
        if (values_param(call->args, "ReplicationType") != NULL) {
            give("ReplicationType", 12);
        }
        refused(ERR_MISSING_PARAMETER, names[i][1]);
    }
    begin("ConvertSyncTypeToReplicationType");
    give("SyncType", 8);
    refused(ERR_MISSING_PARAMETER, "LocalOrRemote");
}

/* smis.md E14 in order: mirrors, snapshots, clones; each local, then remote; each synchronous, then
 * asynchronous. */
static void test_kinds_are_converted_both_ways(void **state)
{
    uint32_t type = 2;

    (void)state;
    for (uint32_t sync_type = 6; sync_type <= 8; sync_type++) {
        for (uint32_t place = 2; place <= 3; place++) {
            for (uint32_t mode = 2; mode <= 3; mode++) {
                begin("ConvertSyncTypeToReplicationType");
                give("SyncType", sync_type);
                give("Mode", mode);
                give("LocalOrRemote", place);
                done();
                assert_int_equal(out_of("SupportedReplicationTypes"), type);
                begin("ConvertReplicationTypeToSyncType");
                give("ReplicationType", type);
                done();
                assert_int_equal(out_of("SyncType"), sync_type);
                assert_int_equal(out_of("Mode"), mode);
                assert_int_equal(out_of("LocalOrRemote"), place);
                type++;
            }
        }
    }
    assert_int_equal(type, 14);
    /* NULL is what a create takes for it. */
    begin("ConvertSyncTypeToReplicationType");
    give("SyncType", 8);
    give("LocalOrRemote", 3);
    done();
    assert_int_equal(out_of("SupportedReplicationTypes"), 12);
}

/* ---- setting data ---- */

/* Snapshot, local clone, remote clone, synchronous mirror; NULL: 7 Property Is Not Supported */
static const struct {
    uint32_t number;
    const char *values[4];
} setting_values[] = {
    {2, {"2 3", "2 3", NULL, NULL}},
    {3, {"2 6", "2 3 6", "2 3 7", "2 4"}},
    {4, {"1", "1", "1", "1"}},
    {5, {"2 3", "2 3", "2 3", "2 3"}},
    {6, {"2 3 4", "2 3 4", "2 3 4", "2 3 4"}},
    {7, {"1 2 3 4 5", "1 2 3 4 5", "1 2 3 4 5", "1 2 3 4 5"}},
    {8, {"2 5 6 7", "2 5 6 7", "6 7", "5 6 7"}},
    {9, {"2 3", "2 3", "2 3", "2 3"}},
    {10, {NULL, NULL, NULL, "2 3"}},
    {11, {"2 4", "2 4", "2 4", "2 3 4"}},
    {12, {"2 3 4", "2 3 4", "2 3 4", "2 3 4"}},
    {13, {NULL, NULL, NULL, NULL}},
    {14, {NULL, NULL, NULL, NULL}},
    {15, {"3", "3", NULL, NULL}},
    {16, {"6 7", "6 7", "6 7", "6 7"}},
    {17, {"2 3", "2 3", "2 3", "2 3"}},
    {18, {"2", "2", "2", "2"}},
    {19, {NULL, NULL, NULL, NULL}},
    {20, {NULL, NULL, NULL, NULL}},
    {21, {NULL, NULL, NULL, NULL}},
    {23, {NULL, NULL, NULL, NULL}},
    {24, {NULL, NULL, NULL, NULL}},
    {25, {NULL, NULL, NULL, NULL}},
    {26, {NULL, NULL, NULL, NULL}},
    {27, {NULL, NULL, NULL, NULL}},
};
static const struct {
    uint32_t type;
    uint32_t sync_type;
    bool remote;
} setting_types[] = {{6, SYNC_SNAPSHOT, false},
                     {10, SYNC_CLONE, false},
                     {12, SYNC_CLONE, true},
                     {2, SYNC_MIRROR, false}};

static void test_values_of_settings(void **state)
{
    (void)state;
    assert_int_equal(ARRAY_LEN(setting_values), map_setting_property.n_values);
    for (size_t t = 0; t < ARRAY_LEN(setting_types); t++) {
        for (size_t i = 0; i < ARRAY_LEN(setting_values); i++) {
            begin("GetSupportedReplicationSettingData");
            give("ReplicationType", setting_types[t].type);
            give("PropertyName", setting_values[i].number);
            if (setting_values[i].values[t] == NULL) {
                refused(ERR_PROPERTY_UNSUPPORTED, "PropertyName");
            } else {
                done();
                assert_numbers("SupportedValues", setting_values[i].values[t]);
            }
        }
    }
    assert_int_equal(error_info(ERR_PROPERTY_UNSUPPORTED)->return_value, 7);
}

static void test_default_settings(void **state)
{
    static const struct {
        const char *name;
        uint64_t values[4];
    } wanted[] = {
        {"Pairing", {3, 3, 3, 3}},
        {"UnequalGroupsAction", {2, 2, 2, 2}},
        {"UnequalListsAction", {2, 2, 2, 2}},
        {"CopyPriority", {0, 0, 0, 0}},
        {"DesiredCopyMethodology", {6, 2, 3, 4}},
        {"TargetElementSupplier", {4, 4, 4, 4}},
        {"CopyRecoveryMode", {2, 2, 2, 2}},
        {"ThinProvisioningPolicy", {7, 7, 7, 7}},
        {"OnGroupOrListError", {3, 3, 3, 3}},
        {"Multihop", {1, 1, 1, 1}},
        {"ConsistentPointInTime", {0, 0, 0, 0}},
        {"FailedCopyStopsHostIO", {0, 0, 0, 0}},
        {"BandwidthLimit", {0, 0, 0, 0}},
        {"Verify", {0, 0, 0, 0}},
    };

    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(setting_types); t++) {
        begin("GetDefaultReplicationSettingData");
        give("ReplicationType", setting_types[t].type);
        done();
        const struct values *instance = args_instance(call->outs, "DefaultInstance");
        assert_non_null(instance);
        for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
            assert_true(args_present(instance, wanted[i].name));
            assert_int_equal(args_number(instance, wanted[i].name, 99), wanted[i].values[t]);
        }
        assert_false(args_present(instance, "ReadOnly"));
        assert_false(args_present(instance, "DesiredRPO"));
        assert_non_null(args_text(instance, "InstanceID"));
    }
}

static void test_every_property_of_the_class_is_in_the_table_of_settings(void **state)
{
    const struct class_info *class = &class_ReplicationSettingData;

    (void)state;
    assert_int_equal(setting_properties_count(), class->n_params);
    for (size_t t = 0; t < ARRAY_LEN(setting_types); t++) {
        for (size_t i = 0; i < class->n_params; i++) {
            const struct setting_property *property =
                setting_property_at(setting_types[t].sync_type, 2, setting_types[t].remote, i);
            assert_string_equal(property->name, class->params[i].name);
            assert_ptr_equal(property, setting_property(setting_types[t].sync_type, 2,
                                                        setting_types[t].remote, property->name));
            for (size_t k = 0; k < property->n_values; k++) {
                const struct enum_map *map = class->params[i].map;
                assert_true(map == NULL || enum_has(map, (uint32_t)property->values[k]));
            }
            if (property->has_default && property->honours == SETTING_VALUES) {
                assert_true(setting_property_honours(property, property->initial, false));
            }
            /* What can be refused says what there is instead. */
            if (property->honours == SETTING_VALUES || property->honours == SETTING_NOTHING) {
                assert_non_null(property->what);
            }
        }
    }
    assert_null(setting_property(SYNC_CLONE, 2, true, "NoSuchProperty"));
    assert_null(setting_property(SYNC_SNAPSHOT, 2, true, "Verify"));
    assert_null(setting_property(SYNC_MIRROR, 4, false, "Verify"));
    assert_null(setting_property(SYNC_SNAPSHOT, 2, true, "Verify"));
    const struct setting_property *moment =
        setting_property(SYNC_CLONE, 2, true, "ConsistentPointInTime");
    assert_false(setting_property_honours(moment, 1, false));
    assert_true(setting_property_honours(moment, 0, false));
    assert_false(
        setting_property_honours(setting_property(SYNC_CLONE, 2, true, "DesiredRPO"), 0, true));
    assert_true(
        setting_property_honours(setting_property(SYNC_CLONE, 2, true, "Verify"), 1, false));
}

/* ---- what there is ---- */

static void assert_synchronization(const char *local, const char *other, const char *types,
                                   const char *modes, const char *roles)
{
    begin("GetSynchronizationSupported");
    give_path("LocalElement", local);
    give_path("OtherElement", other);
    done();
    assert_numbers("SyncTypes", types);
    assert_numbers("Modes", modes);
    assert_numbers("LocalElementRole", roles);
}

static void add_hosted(const char *id, const char *pool_id, uint64_t size_bytes)
{
    struct volume_row row = {.kind = VOLUME_HOSTED, .size_bytes = size_bytes, .block_bytes = 512};
    struct pool_row pool = {.kind = POOL_FILE};

    if (table_get(fixture.db, &pool_table, pool_id, &pool) == -ENOENT) {
        TEXT_SET(pool.head.id, pool_id);
        TEXT_SET(pool.system_id, "local");
        assert_int_equal(table_insert(fixture.db, &pool_table, &pool), 0);
    }
    TEXT_SET(row.head.id, id);
    TEXT_SET(row.element_name, id);
    TEXT_SET(row.system_id, "local");
    TEXT_SET(row.pool_id, pool_id);
    snprintf(row.identity, sizeof(row.identity), "naa.%s", id);
    assert_int_equal(table_insert(fixture.db, &volume_table, &row), 0);
}

static void test_which_pairs_can_be_synchronized(void **state)
{
    (void)state;
    add_system("peer");
    add_system("other");
    add_access_point("ap1", "peer");
    add_access_point("ap2", "other");
    add_volume("small", "peer", 512, false);
    add_volume("small2", "other", 512, false);
    add_volume("large", "peer", 1024, false);
    add_volume("fixed", "peer", 2048, true);
    add_volume("source", "peer", 512, false);
    add_volume("target", "peer", 512, false);
    add_sync("s1", "source", "target", STATE_SYNCHRONIZED, 5);

    assert_synchronization("/volumes/small", "/volumes/small2", "6 8 8 6 8 8", "3 2 3 3 2 3",
                           "2 2 2 3 3 3");
    assert_synchronization("/volumes/small", "/volumes/large", "6 8 8", "3 2 3", "2 2 2");
    assert_synchronization("/volumes/large", "/volumes/small", "6 8 8", "3 2 3", "3 3 3");
    assert_synchronization("/volumes/small", "/volumes/fixed", "", "", "");
    /* A target has one source, and a source is not overwritten. */
    assert_synchronization("/volumes/small", "/volumes/target", "6 8 8", "3 2 3", "3 3 3");
    assert_synchronization("/volumes/small", "/volumes/source", "6 8 8", "3 2 3", "3 3 3");

    /* Hosted volumes: a snapshot only beside its source; a synchronous mirror only of them. */
    add_hosted("here", "p1", 512);
    add_hosted("beside", "p1", 512);
    add_hosted("larger", "p1", 1024);
    add_hosted("elsewhere", "p2", 512);
    assert_synchronization("/volumes/here", "/volumes/beside", "6 6 7 7 8 8 6 6 7 7 8 8",
                           "2 3 2 3 2 3 2 3 2 3 2 3", "2 2 2 2 2 2 3 3 3 3 3 3");
    assert_synchronization("/volumes/here", "/volumes/larger", "6 6 7 7 8 8", "2 3 2 3 2 3",
                           "2 2 2 2 2 2");
    assert_synchronization("/volumes/here", "/volumes/elsewhere", "6 6 8 8 6 6 8 8",
                           "2 3 2 3 2 3 2 3", "2 2 2 2 3 3 3 3");
    assert_synchronization("/volumes/here", "/volumes/small", "6 6 8 8 6 8 8", "2 3 2 3 3 2 3",
                           "2 2 2 2 3 3 3");

    begin("GetSynchronizationSupported");
    give_path("LocalElement", "/volumes/small");
    give_path("OtherElement", "/volumes/small");
    refused(ERR_INVALID_PARAMETER, "OtherElement");
    begin("GetSynchronizationSupported");
    give_path("LocalElement", "/volumes/small");
    refused(ERR_MISSING_PARAMETER, "OtherElement");
    begin("GetSynchronizationSupported");
    give_path("LocalElement", "/volumes/small");
    give_path("OtherElement", "/systems/peer");
    refused(ERR_WRONG_CLASS, "OtherElement");
    begin("GetSynchronizationSupported");
    give_path("LocalElement", "/volumes/small");
    give_path("OtherElement", "/volumes/large");
    give("MethodName", 3);
    refused(ERR_NOT_SUPPORTED, "MethodName");
    begin("GetSynchronizationSupported");
    give_path("LocalElement", "/volumes/small");
    give_path("OtherElement", "/volumes/large");
    give_path("OtherElementAccessPoint", "/accesspoints/ap2");
    refused(ERR_INVALID_PARAMETER, "OtherElementAccessPoint");
    begin("GetSynchronizationSupported");
    give_path("LocalElement", "/volumes/small");
    give_path("OtherElement", "/volumes/large");
    give_path("OtherElementAccessPoint", "/accesspoints/ap1");
    done();
}

static void test_systems_and_portals(void **state)
{
    (void)state;
    add_system("peer");
    add_access_point("ap1", "peer");
    begin("GetSupportedReplicationTypesForSystem");
    give_path("System", "/systems/peer");
    done();
    assert_numbers("SupportedReplicationTypes", "4 5 12 13");
    begin("GetSupportedReplicationTypesForSystem");
    give_path("System", "/systems/local");
    done();
    assert_numbers("SupportedReplicationTypes", "2 3 4 5 6 7 10 11 12 13");
    begin("GetSupportedReplicationTypesForSystem");
    give_path("System", "/systems/nobody");
    refused(ERR_NO_SUCH_OBJECT, "System");
    begin("GetSupportedConnectionFeatures");
    give_path("connection", "/accesspoints/ap1");
    done();
    assert_numbers("SupportedConnectionFeatures", "2 3");
    begin("GetSupportedConnectionFeatures");
    give_path("connection", "/accesspoints/nobody");
    refused(ERR_NO_SUCH_OBJECT, "connection");
}

/* ---- what is told is what is taken ---- */

/* Does a create of that type (of setting_types) take the property with that value? Its elements: a
 * hosted volume and its pool, or a LUN of another system. */
static bool create_takes(size_t type, const char *property, uint64_t number, const char *text)
{
    static const struct volume_row hosted = {.kind = VOLUME_HOSTED, .pool_id = "p1"};
    static const struct volume_row lun = {.kind = VOLUME_REMOTE};
    struct replica_ends ends = {.source = setting_types[type].remote ? &lun : &hosted,
                                .source_parameter = "SourceElement"};
    struct replica_terms terms = {0};

    call_free(call);
    call = call_new();
    call->service = &replication_service;
    call->method = service_method(call->service, "CreateElementReplica");
    call->db = fixture.db;
    call->args = values_new(&call->arena, call->method->params, call->method->n_params);
    assert_int_equal(replica_terms_of_sync_type(call, setting_types[type].sync_type, 0, &terms), 0);
    const struct class_info *class = &class_ReplicationSettingData;
    struct values *instance = values_new(&call->arena, class->params, class->n_params);
    struct value *value = values_get(instance, property);
    value->present = true;
    value->number = number;
    value->text = text;
    outs_instance(call->args, "ReplicationSettingData", instance);
    int r = replica_terms_setting_data(call, "ReplicationSettingData", &terms);
    if (r == 0) {
        r = replica_terms_complete(call, &ends, &terms);
        assert_int_equal(terms.remote, setting_types[type].remote);
    }
    if (r < 0) {
        assert_int_equal(call->error.code, ERR_NOT_SUPPORTED);
        assert_non_null(strstr(call->error.parameter, property));
    }
    return r == 0;
}

static void test_a_create_takes_every_value_that_is_told(void **state)
{
    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(setting_types); t++) {
        for (size_t i = 0; i < setting_properties_count(); i++) {
            const struct setting_property *property =
                setting_property_at(setting_types[t].sync_type, 2, setting_types[t].remote, i);
            for (size_t k = 0; k < property->n_values; k++) {
                if (!create_takes(t, property->name, property->values[k], NULL)) {
                    fail_msg("%u: %s %llu is told and not taken", setting_types[t].type,
                             property->name, (unsigned long long)property->values[k]);
                }
            }
            if (property->has_default &&
                !create_takes(t, property->name, property->initial, NULL)) {
                fail_msg("%u: %s: its default is not taken", setting_types[t].type, property->name);
            }
        }
    }
}

static void test_a_create_refuses_what_is_not_told(void **state)
{
    static const char *const booleans[] = {"ConsistentPointInTime", "FailedCopyStopsHostIO",
                                           "AutoDelete", "ConsistentAsyncCopy"};
    static const char *const intervals[] = {"DeltaUpdateInterval", "TimeBeforeRemoval",
                                            "DesiredRPO"};

    (void)state;
    for (size_t t = 0; t < ARRAY_LEN(setting_types); t++) {
        for (size_t i = 0; i < ARRAY_LEN(booleans); i++) {
            bool mirror = setting_types[t].sync_type == SYNC_MIRROR;
            bool taken = (i == 0 && !setting_types[t].remote && !mirror) || (i == 1 && mirror);

            assert_int_equal(create_takes(t, booleans[i], 1, NULL), taken);
        }
        for (size_t i = 0; i < ARRAY_LEN(intervals); i++) {
            assert_false(create_takes(t, intervals[i], 0, "PT30S"));
            assert_true(create_takes(t, intervals[i], 0, "PT0S"));
        }
        for (size_t i = 0; i < setting_properties_count(); i++) {
            const struct setting_property *property =
                setting_property_at(setting_types[t].sync_type, 2, setting_types[t].remote, i);
            const struct enum_map *map = class_ReplicationSettingData.params[i].map;

            for (size_t k = 0; map != NULL && k < map->n_values; k++) {
                bool told = setting_property_honours(property, map->values[k].number, false);

                assert_int_equal(create_takes(t, property->name, map->values[k].number, NULL),
                                 told);
            }
        }
        assert_false(create_takes(t, "ReadOnly", 2, NULL));
        assert_false(create_takes(t, "Multihop", 2, NULL));
        assert_int_equal(create_takes(t, "CopyRecoveryMode", 3, NULL),
                         setting_types[t].sync_type == SYNC_MIRROR);
        assert_false(create_takes(t, "DesiredCopyMethodology", 5, NULL));
    }
}

/* ---- dump ---- */

static void dump_answer(struct out *out)
{
    done();
    out_begin_object(out, NULL);
    out_text(out, "Method", call->method->name);
    out_begin_object(out, "Answer");
    out_number(out, "ReturnValue", call->return_value);
    for (size_t i = 0; i < call->method->n_params; i++) {
        if (call->method->params[i].direction != PARAM_IN) {
            out_value(out, &call->method->params[i], &call->outs->values[i]);
        }
    }
    out_null(out, "Job");
    out_end_object(out);
    out_end_object(out);
}

static void dump_kind(struct out *out, uint32_t type)
{
    for (size_t i = 0; i < ARRAY_LEN(kind_methods); i++) {
        begin(kind_methods[i].method);
        give("ReplicationType", type);
        if (kind_methods[i].also != NULL) {
            give(kind_methods[i].also, kind_methods[i].value);
        }
        dump_answer(out);
    }
}

static void dump_rest(struct out *out)
{
    begin("ConvertReplicationTypeToSyncType");
    give("ReplicationType", 12);
    dump_answer(out);
    begin("ConvertSyncTypeToReplicationType");
    give("SyncType", 8);
    give("LocalOrRemote", 3);
    dump_answer(out);
    begin("GetDefaultGroupPersistency");
    dump_answer(out);
    begin("GetElementNameCapabilities");
    give("ElementType", 6);
    dump_answer(out);
    begin("GetSupportedConnectionFeatures");
    give_path("connection", "/accesspoints/ap1");
    dump_answer(out);
    begin("GetSynchronizationSupported");
    give_path("LocalElement", "/volumes/v1");
    give_path("OtherElement", "/volumes/v3");
    dump_answer(out);
    begin("GetSupportedOperationsForSynchronization");
    give_path("Synchronization", "/synchronizations/s1");
    dump_answer(out);
    begin("GetSupportedReplicationTypesForSystem");
    give_path("System", "/systems/peer");
    dump_answer(out);
}

/* One answer of every method, for scripts/check_tables.py. */
static void dump(void)
{
    struct strbuf text = STRBUF_INIT;
    struct json_out json;

    add_system("peer");
    add_access_point("ap1", "peer");
    add_volume("v1", "peer", 512, false);
    add_volume("v2", "peer", 512, false);
    add_volume("v3", "peer", 512, false);
    add_sync("s1", "v1", "v2", STATE_SYNCHRONIZED, 5);
    json_out_init(&json, &text);
    out_begin_array(&json.out, NULL);
    for (size_t i = 0; i < ARRAY_LEN(setting_types); i++) {
        dump_kind(&json.out, setting_types[i].type);
    }
    dump_rest(&json.out);
    out_end_array(&json.out);
    assert_int_equal(strbuf_error(&text), 0);
    puts(strbuf_str(&text));
    strbuf_fini(&text);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_remote_snapshots_are_not_supported),
        TEST(test_a_kind_must_be_named),
        TEST(test_other_parameters_that_must_be_there),
        TEST(test_kinds_are_converted_both_ways),
        TEST(test_values_of_settings),
        TEST(test_default_settings),
        TEST(test_every_property_of_the_class_is_in_the_table_of_settings),
        TEST(test_which_pairs_can_be_synchronized),
        TEST(test_systems_and_portals),
        TEST(test_a_create_takes_every_value_that_is_told),
        TEST(test_a_create_refuses_what_is_not_told),
    };

    if (argc > 1 && strcmp(argv[1], "--dump") == 0) {
        void *state = NULL;
        setup(&state);
        dump();
        teardown(&state);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
