// SPDX-License-Identifier: Apache-2.0
/*
 * ReplicationServiceCapabilities against what smis.md says of clones, written out here again: the
 * tables of the service are not asked what is right. The last tests hold the answers against what
 * the calls themselves accept.
 */
#include "tests/unit/testing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "api/json_out.h"
#include "base/check.h"
#include "service/call.h"
#include "service/classes.h"
#include "service/enums.h"
#include "service/replica.h"
#include "service/services.h"
#include "service/setting_defaults.h"
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

/* ---- calls ---- */

/* A call of that method without arguments; the one before is forgotten. */
static void begin(const char *method)
{
    call_free(call);
    call = call_new();
    call->service = &replication_service_capabilities;
    call->method = service_method(call->service, method);
    assert_non_null(call->method);
    call->db = fixture.db;
    call->args = values_new(&call->arena, call->method->params, call->method->n_params);
    call->outs = values_new(&call->arena, call->method->params, call->method->n_params);
}

static void give(const char *name, uint64_t number)
{
    struct value *value = values_get(call->args, name);

    value->present = true;
    value->number = number;
}

static void give_path(const char *name, const char *path)
{
    struct value *value = values_get(call->args, name);

    value->present = true;
    value->text = path;
}

static void done(void)
{
    int r = call->method->handler(call);

    if (r != 0 || call->error.code != ERR_NONE) {
        fail_msg("%d: %s", r, call->error.detail);
    }
    assert_int_equal(call->return_value, 0);
}

static void refused(enum error_code code, const char *parameter)
{
    int r = call->method->handler(call);

    assert_int_equal(r, error_info(code)->err);
    assert_int_equal(call->error.code, code);
    assert_string_equal(call->error.parameter, parameter);
    assert_true(call->error.detail[0] != '\0');
}

/* "2 3": the numbers of an out parameter. */
static void assert_numbers(const char *name, const char *wanted)
{
    const struct value *value = values_get(call->outs, name);
    char found[512] = "";

    assert_true(value->present);
    for (size_t i = 0; i < value->n_items; i++) {
        size_t len = strlen(found);
        snprintf(found + len, sizeof(found) - len, "%s%llu", len == 0 ? "" : " ",
                 (unsigned long long)value->items[i].number);
    }
    assert_string_equal(found, wanted);
}

static uint64_t out_of(const char *name)
{
    assert_true(args_present(call->outs, name));
    return args_number(call->outs, name, 0);
}

/* ---- kinds of replication ---- */

/* Every method that asks about a kind, with what else it needs. */
static const struct {
    const char *method;
    const char *also;
    uint64_t value;
} kind_methods[] = {
    {"GetSupportedListOperations", NULL, 0},
    {"GetSupportedCopyStates", NULL, 0},
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

static void test_every_kind_but_remote_clones_is_not_supported(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kind_methods); i++) {
        for (uint32_t type = 2; type <= 13; type++) {
            begin(kind_methods[i].method);
            give("ReplicationType", type);
            if (kind_methods[i].also != NULL) {
                give(kind_methods[i].also, kind_methods[i].value);
            }
            if (type == 12 || type == 13) {
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

/* ---- states and operations: smis.md 4.3 ---- */

/* Of its states those that this version has: 2, 3, 4, 5, 8, 9, 12. */
static const struct {
    uint32_t operation;
    const char *from;       /* with and without Force */
    const char *with_force; /* of these, only with Force */
    const char *wait;       /* WaitForCopyState */
} clone_operations[] = {
    {2, "2 3", "", "12"}, {4, "2 8", "", "3 4"},       {8, "3 4 5 8 12", "3", "15"},
    {9, "4 8", "", "15"}, {14, "4 5 8 12", "", "3 4"}, {15, "4", "", "4 8"},
    {16, "9", "", "3 4"}, {19, "4 5 8 12", "", "15"},  {22, "3", "", "9"},
};
static const uint32_t clone_states[] = {2, 3, 4, 5, 8, 9, 12};

/* Is the number in "2 3 12"? */
static bool in_text(const char *text, uint32_t number)
{
    char wanted[16];
    char all[64];

    snprintf(wanted, sizeof(wanted), " %u ", number);
    snprintf(all, sizeof(all), " %s ", text);
    return strstr(all, wanted) != NULL;
}

static void test_states_of_clones(void **state)
{
    (void)state;
    begin("GetSupportedCopyStates");
    give("ReplicationType", 12);
    done();
    assert_numbers("SupportedCopyStates", "2 3 4 5 8 9 12");
    assert_numbers("HostAccessible", "1 1 1 1 1 1 1");
}

static void test_states_that_an_operation_is_taken_from(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(clone_operations); i++) {
        begin("GetSupportedCopyStates");
        give("ReplicationType", 13);
        give("Operation", clone_operations[i].operation);
        done();
        assert_numbers("SupportedCopyStates", clone_operations[i].from);
        assert_int_equal(values_get(call->outs, "SupportedCopyStates")->n_items,
                         values_get(call->outs, "HostAccessible")->n_items);
    }
    for (uint32_t operation = 2; operation <= 24; operation++) {
        bool known = false;
        for (size_t i = 0; i < ARRAY_LEN(clone_operations); i++) {
            known = known || clone_operations[i].operation == operation;
        }
        if (!known) {
            begin("GetSupportedCopyStates");
            give("ReplicationType", 12);
            give("Operation", operation);
            refused(ERR_NOT_SUPPORTED, "Operation");
        }
    }
}

/* The parallel arrays say what the table above says of the state; copy_type 5 has no operation 19.
 */
static void assert_operations(uint32_t copy_state, bool with_return)
{
    char operations[128] = "";
    char force[128] = "";
    char controlling[128] = "";
    char updates[128] = "";
    const struct {
        char *text;
    } texts[] = {{operations}, {force}, {controlling}, {updates}};

    for (size_t i = 0; i < ARRAY_LEN(clone_operations); i++) {
        uint32_t operation = clone_operations[i].operation;
        if (copy_state != 0 && !in_text(clone_operations[i].from, copy_state)) {
            continue;
        }
        if (operation == 19 && !with_return) {
            continue;
        }
        const uint32_t numbers[] = {
            operation, copy_state != 0 && in_text(clone_operations[i].with_force, copy_state), 4,
            0};
        for (size_t k = 0; k < ARRAY_LEN(texts); k++) {
            size_t len = strlen(texts[k].text);
            snprintf(texts[k].text + len, sizeof(operations) - len, "%s%u", len == 0 ? "" : " ",
                     numbers[k]);
        }
    }
    assert_numbers("SupportedOperations", operations);
    assert_numbers("RequiresForce", force);
    assert_numbers("ServiceControlling", controlling);
    assert_numbers("UpdatesSynchronizedPath", updates);
}

static void test_operations_of_clones(void **state)
{
    (void)state;
    begin("GetSupportedOperations");
    give("ReplicationType", 12);
    done();
    assert_operations(0, true);
    for (size_t i = 0; i < ARRAY_LEN(clone_states); i++) {
        begin("GetSupportedOperations");
        give("ReplicationType", 12);
        give("CopyState", clone_states[i]);
        done();
        assert_operations(clone_states[i], true);
    }
    /* No clone is ever in this state. */
    begin("GetSupportedOperations");
    give("ReplicationType", 12);
    give("CopyState", 6);
    done();
    assert_numbers("SupportedOperations", "");
    assert_numbers("RequiresForce", "");
}

static void add_volume(const char *id, const char *system, uint64_t size_bytes, bool read_only)
{
    struct volume_row row = {.kind = VOLUME_REMOTE,
                             .size_bytes = size_bytes,
                             .block_bytes = 512,
                             .write_protected = read_only};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.element_name, id);
    TEXT_SET(row.system_id, system);
    snprintf(row.identity, sizeof(row.identity), "naa.%s", id);
    assert_int_equal(table_insert(fixture.db, &volume_table, &row), 0);
}

static void add_system(const char *id)
{
    struct system_row row = {0};

    TEXT_SET(row.head.id, id);
    assert_int_equal(table_insert(fixture.db, &system_table, &row), 0);
}

static void add_access_point(const char *id, const char *system)
{
    struct access_point_row row = {.info_format = 3};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.system_id, system);
    TEXT_SET(row.address, "192.0.2.1:3260");
    assert_int_equal(table_insert(fixture.db, &access_point_table, &row), 0);
}

static void add_sync(const char *id, const char *source, const char *target, uint32_t copy_state,
                     uint32_t copy_type)
{
    struct sync_row row = {.sync_type = 8,
                           .mode = 2,
                           .copy_type = copy_type,
                           .replica_type = 2,
                           .remote = true,
                           .copy_state = copy_state};

    TEXT_SET(row.head.id, id);
    TEXT_SET(row.source_id, source);
    TEXT_SET(row.target_id, target);
    assert_int_equal(table_insert(fixture.db, &sync_table, &row), 0);
}

static void test_operations_of_a_relationship_follow_its_state_and_copy_type(void **state)
{
    char path[PATH_SIZE];
    char ids[3][ID_SIZE];

    (void)state;
    add_system("peer");
    for (size_t i = 0; i < ARRAY_LEN(clone_states); i++) {
        for (uint32_t copy_type = 4; copy_type <= 5; copy_type++) {
            unsigned n = clone_states[i] * 10 + copy_type;
            snprintf(ids[0], ID_SIZE, "a%u", n);
            snprintf(ids[1], ID_SIZE, "b%u", n);
            snprintf(ids[2], ID_SIZE, "s%u", n);
            add_volume(ids[0], "peer", 512, false);
            add_volume(ids[1], "peer", 512, false);
            add_sync(ids[2], ids[0], ids[1], clone_states[i], copy_type);
            begin("GetSupportedOperationsForSynchronization");
            snprintf(path, sizeof(path), "/synchronizations/%s", ids[2]);
            give_path("Synchronization", path);
            done();
            assert_operations(clone_states[i], copy_type == 4);
        }
    }
    begin("GetSupportedOperationsForSynchronization");
    give_path("Synchronization", "/synchronizations/nobody");
    refused(ERR_NO_SUCH_OBJECT, "Synchronization");
    begin("GetSupportedOperationsForSynchronization");
    give_path("Synchronization", "/systems/peer");
    refused(ERR_WRONG_CLASS, "Synchronization");
}

static void test_states_that_can_be_waited_for(void **state)
{
    static const uint32_t creates[] = {2, 7};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(creates); i++) {
        begin("GetSupportedWaitForCopyStates");
        give("ReplicationType", 12);
        give("MethodName", creates[i]);
        done();
        assert_numbers("SupportedCopyStates", "2 3 4 8");
        begin("GetSupportedWaitForCopyStates");
        give("ReplicationType", 12);
        give("MethodName", creates[i]);
        give("Operation", 8);
        refused(ERR_INVALID_PARAMETER, "Operation");
    }
    for (size_t i = 0; i < ARRAY_LEN(clone_operations); i++) {
        begin("GetSupportedWaitForCopyStates");
        give("ReplicationType", 12);
        give("MethodName", 4);
        give("Operation", clone_operations[i].operation);
        done();
        assert_numbers("SupportedCopyStates", clone_operations[i].wait);
    }
    begin("GetSupportedWaitForCopyStates");
    give("ReplicationType", 12);
    give("MethodName", 4);
    done();
    assert_numbers("SupportedCopyStates", "12 3 4 15 8 9");
    begin("GetSupportedWaitForCopyStates");
    give("ReplicationType", 12);
    give("MethodName", 4);
    give("Operation", 10);
    refused(ERR_NOT_SUPPORTED, "Operation");
    for (uint32_t method = 2; method <= 11; method++) {
        if (method != 2 && method != 4 && method != 7) {
            begin("GetSupportedWaitForCopyStates");
            give("ReplicationType", 12);
            give("MethodName", method);
            refused(ERR_NOT_SUPPORTED, "MethodName");
        }
    }
}

/* ---- features and limits ---- */

static void test_features(void **state)
{
    (void)state;
    begin("GetSupportedFeatures");
    give("ReplicationType", 13);
    done();
    assert_numbers("Features", "8 24 34 35 36 37 42 50 51");
    begin("GetSupportedThinProvisioningFeatures");
    give("ReplicationType", 13);
    done();
    assert_numbers("SupportedThinProvisioningFeatures", "2");
    begin("GetSupportedListFeatures");
    give("ReplicationType", 13);
    done();
    assert_numbers("GroupFeatures", "2 4");
    begin("GetSupportedConsistency");
    give("ReplicationType", 13);
    done();
    assert_numbers("SupportedConsistency", "");
    begin("GetDefaultConsistency");
    give("ReplicationType", 13);
    done();
    assert_int_equal(out_of("DefaultConsistency"), 0);
    begin("GetDefaultGroupPersistency");
    done();
    assert_int_equal(out_of("DefaultGroupPersistency"), 0);
}

static void test_there_are_no_operations_on_lists(void **state)
{
    (void)state;
    begin("GetSupportedListOperations");
    give("ReplicationType", 12);
    done();
    assert_numbers("SupportedListOperations", "");
    assert_numbers("ServiceControlling", "");
    assert_numbers("RequiresForce", "");
    assert_numbers("UpdatesSynchronizedPath", "");
}

static void test_limits(void **state)
{
    (void)state;
    for (uint32_t component = 2; component <= 12; component++) {
        begin("GetSupportedMaximum");
        give("ReplicationType", 12);
        give("Component", component);
        if (component >= 5 && component <= 8) {
            done();
            assert_int_equal(out_of("MaxValue"), 0);
        } else if (component == 9) {
            done();
            assert_int_equal(out_of("MaxValue"), 1);
        } else {
            refused(ERR_NO_INFORMATION, "Component");
        }
    }
    assert_int_equal(error_info(ERR_NO_INFORMATION)->return_value, 7);
}

static void test_names(void **state)
{
    (void)state;
    for (uint32_t type = 2; type <= 6; type++) {
        begin("GetElementNameCapabilities");
        give("ElementType", type);
        if (type != 6) {
            refused(ERR_NOT_SUPPORTED, "ElementType");
            continue;
        }
        done();
        assert_numbers("SupportedFeatures", "2");
        assert_int_equal(out_of("MaxElementNameLen"), 256);
        assert_non_null(args_text(call->outs, "ElementNameMask"));
    }
}

/* ---- setting data ---- */

static const struct {
    uint32_t number;
    const char *values; /* NULL: 7 Property Is Not Supported */
} setting_values[] = {
    {2, NULL},   {3, "2 3"},  {4, "1"},    {5, "2 3"},    {6, NULL},  {7, "1 2 3 4 5"}, {8, "6 7"},
    {9, "2 3"},  {10, NULL},  {11, "2 4"}, {12, "2 3 4"}, {13, NULL}, {14, NULL},       {15, NULL},
    {16, "6 7"}, {17, "2 3"}, {18, "2"},   {19, NULL},    {20, NULL}, {21, NULL},       {23, NULL},
    {24, NULL},  {25, NULL},  {26, NULL},  {27, NULL},
};

static void test_values_of_settings(void **state)
{
    (void)state;
    assert_int_equal(ARRAY_LEN(setting_values), map_setting_property.n_values);
    for (size_t i = 0; i < ARRAY_LEN(setting_values); i++) {
        begin("GetSupportedReplicationSettingData");
        give("ReplicationType", 12);
        give("PropertyName", setting_values[i].number);
        if (setting_values[i].values == NULL) {
            refused(ERR_PROPERTY_UNSUPPORTED, "PropertyName");
        } else {
            done();
            assert_numbers("SupportedValues", setting_values[i].values);
        }
    }
    assert_int_equal(error_info(ERR_PROPERTY_UNSUPPORTED)->return_value, 7);
}

static void test_default_settings(void **state)
{
    static const struct {
        const char *name;
        uint64_t value;
    } wanted[] = {
        {"Pairing", 3},
        {"UnequalGroupsAction", 2},
        {"UnequalListsAction", 2},
        {"CopyPriority", 0},
        {"DesiredCopyMethodology", 3},
        {"TargetElementSupplier", 4},
        {"CopyRecoveryMode", 2},
        {"ThinProvisioningPolicy", 7},
        {"OnGroupOrListError", 3},
        {"Multihop", 1},
        {"ConsistentPointInTime", 0},
        {"FailedCopyStopsHostIO", 0},
        {"BandwidthLimit", 0},
        {"Verify", 0},
    };

    (void)state;
    begin("GetDefaultReplicationSettingData");
    give("ReplicationType", 12);
    done();
    const struct values *instance = args_instance(call->outs, "DefaultInstance");
    assert_non_null(instance);
    for (size_t i = 0; i < ARRAY_LEN(wanted); i++) {
        assert_true(args_present(instance, wanted[i].name));
        assert_int_equal(args_number(instance, wanted[i].name, 99), wanted[i].value);
    }
    assert_false(args_present(instance, "ReadOnly"));
    assert_false(args_present(instance, "DesiredRPO"));
    assert_non_null(args_text(instance, "InstanceID"));
}

static void test_the_struct_of_defaults_is_the_instance(void **state)
{
    const struct setting_defaults *defaults = setting_defaults(SYNC_CLONE);

    (void)state;
    assert_null(setting_defaults(SYNC_MIRROR));
    assert_null(setting_defaults(SYNC_SNAPSHOT));
    const struct {
        const char *name;
        uint64_t value;
    } members[] = {
        {"Pairing", defaults->pairing},
        {"UnequalListsAction", defaults->unequal_lists_action},
        {"DesiredCopyMethodology", defaults->copy_methodology},
        {"TargetElementSupplier", defaults->target_element_supplier},
        {"ThinProvisioningPolicy", defaults->thin_provisioning_policy},
        {"OnGroupOrListError", defaults->on_group_or_list_error},
        {"CopyPriority", defaults->copy_priority},
        {"CopyRecoveryMode", defaults->copy_recovery_mode},
        {"FailedCopyStopsHostIO", defaults->failed_copy_stops_host_io},
        {"BandwidthLimit", defaults->bandwidth_limit},
        {"Verify", defaults->verify},
    };
    for (size_t i = 0; i < ARRAY_LEN(members); i++) {
        const struct setting_property *property = setting_property(SYNC_CLONE, members[i].name);
        assert_non_null(property);
        assert_true(property->has_default);
        assert_int_equal(property->initial, members[i].value);
    }
    assert_int_equal(defaults->read_only, 0);
}

static void test_every_property_of_the_class_is_in_the_table_of_settings(void **state)
{
    const struct class_info *class = &class_ReplicationSettingData;
    size_t n;
    const struct setting_property *properties = setting_properties(SYNC_CLONE, &n);

    (void)state;
    assert_int_equal(n, class->n_params);
    for (size_t i = 0; i < n; i++) {
        const struct setting_property *property = &properties[i];
        assert_string_equal(property->name, class->params[i].name);
        for (size_t k = 0; k < property->n_values; k++) {
            const struct enum_map *map = class->params[i].map;
            assert_true(map == NULL || enum_has(map, (uint32_t)property->values[k]));
        }
        if (property->has_default && property->honours == SETTING_VALUES) {
            assert_true(setting_honoured(SYNC_CLONE, property->name, property->initial, false));
        }
    }
    assert_false(setting_honoured(SYNC_CLONE, "NoSuchProperty", 0, false));
    assert_false(setting_honoured(SYNC_CLONE, "DesiredRPO", 0, true));
    assert_false(setting_honoured(SYNC_CLONE, "ConsistentPointInTime", 1, false));
    assert_true(setting_honoured(SYNC_CLONE, "ConsistentPointInTime", 0, false));
    assert_true(setting_honoured(SYNC_CLONE, "Verify", 1, false));
}

/* ---- what there is ---- */

static void assert_synchronization(const char *local, const char *other, const char *modes,
                                   const char *roles)
{
    begin("GetSynchronizationSupported");
    give_path("LocalElement", local);
    give_path("OtherElement", other);
    done();
    assert_numbers("Modes", modes);
    assert_numbers("LocalElementRole", roles);
    const struct value *types = values_get(call->outs, "SyncTypes");
    assert_int_equal(types->n_items, values_get(call->outs, "Modes")->n_items);
    for (size_t i = 0; i < types->n_items; i++) {
        assert_int_equal(types->items[i].number, 8);
    }
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

    assert_synchronization("/volumes/small", "/volumes/small2", "2 3 2 3", "2 2 3 3");
    assert_synchronization("/volumes/small", "/volumes/large", "2 3", "2 2");
    assert_synchronization("/volumes/large", "/volumes/small", "2 3", "3 3");
    assert_synchronization("/volumes/small", "/volumes/fixed", "", "");
    /* A target has one source, and a source is not overwritten. */
    assert_synchronization("/volumes/small", "/volumes/target", "2 3", "3 3");
    assert_synchronization("/volumes/small", "/volumes/source", "2 3", "3 3");

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
    assert_numbers("SupportedReplicationTypes", "12 13");
    begin("GetSupportedReplicationTypesForSystem");
    give_path("System", "/systems/local");
    done();
    assert_numbers("SupportedReplicationTypes", "");
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

/* Does a create take the property with that value? */
static bool create_takes(const char *property, uint64_t number, const char *text)
{
    struct replica_terms terms = {0};

    call_free(call);
    call = call_new();
    call->service = &replication_service;
    call->method = service_method(call->service, "CreateElementReplica");
    call->db = fixture.db;
    call->args = values_new(&call->arena, call->method->params, call->method->n_params);
    assert_int_equal(replica_terms_of_sync_type(call, SYNC_CLONE, 0, &terms), 0);
    const struct class_info *class = &class_ReplicationSettingData;
    struct values *instance = values_new(&call->arena, class->params, class->n_params);
    struct value *value = values_get(instance, property);
    value->present = true;
    value->number = number;
    value->text = text;
    outs_instance(call->args, "ReplicationSettingData", instance);
    int r = replica_terms_setting_data(call, "ReplicationSettingData", &terms);
    if (r < 0) {
        assert_int_equal(call->error.code, ERR_NOT_SUPPORTED);
        assert_non_null(strstr(call->error.parameter, property));
    }
    return r == 0;
}

static void test_a_create_takes_every_value_that_is_told(void **state)
{
    size_t n;
    const struct setting_property *properties = setting_properties(SYNC_CLONE, &n);

    (void)state;
    for (size_t i = 0; i < n; i++) {
        const struct setting_property *property = &properties[i];
        for (size_t k = 0; k < property->n_values; k++) {
            if (!create_takes(property->name, property->values[k], NULL)) {
                fail_msg("%s %llu is told and not taken", property->name,
                         (unsigned long long)property->values[k]);
            }
        }
        if (property->has_default && !create_takes(property->name, property->initial, NULL)) {
            fail_msg("%s: its default is not taken", property->name);
        }
    }
}

static void test_a_create_refuses_what_is_not_there(void **state)
{
    static const char *const booleans[] = {"ConsistentPointInTime", "FailedCopyStopsHostIO",
                                           "AutoDelete", "ConsistentAsyncCopy"};
    static const char *const intervals[] = {"DeltaUpdateInterval", "TimeBeforeRemoval",
                                            "DesiredRPO"};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(booleans); i++) {
        assert_false(create_takes(booleans[i], 1, NULL));
    }
    for (size_t i = 0; i < ARRAY_LEN(intervals); i++) {
        assert_false(create_takes(intervals[i], 0, "PT30S"));
    }
    assert_false(create_takes("ReadOnly", 3, NULL));
    assert_false(create_takes("Multihop", 2, NULL));
    assert_false(create_takes("CopyRecoveryMode", 3, NULL));
    assert_false(create_takes("DesiredCopyMethodology", 6, NULL));
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

static void dump_kind(struct out *out)
{
    for (size_t i = 0; i < ARRAY_LEN(kind_methods); i++) {
        begin(kind_methods[i].method);
        give("ReplicationType", 12);
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
    dump_kind(&json.out);
    dump_rest(&json.out);
    out_end_array(&json.out);
    assert_int_equal(strbuf_error(&text), 0);
    puts(strbuf_str(&text));
    strbuf_fini(&text);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_every_kind_but_remote_clones_is_not_supported),
        TEST(test_a_kind_must_be_named),
        TEST(test_other_parameters_that_must_be_there),
        TEST(test_kinds_are_converted_both_ways),
        TEST(test_states_of_clones),
        TEST(test_states_that_an_operation_is_taken_from),
        TEST(test_operations_of_clones),
        TEST(test_operations_of_a_relationship_follow_its_state_and_copy_type),
        TEST(test_states_that_can_be_waited_for),
        TEST(test_features),
        TEST(test_there_are_no_operations_on_lists),
        TEST(test_limits),
        TEST(test_names),
        TEST(test_values_of_settings),
        TEST(test_default_settings),
        TEST(test_the_struct_of_defaults_is_the_instance),
        TEST(test_every_property_of_the_class_is_in_the_table_of_settings),
        TEST(test_which_pairs_can_be_synchronized),
        TEST(test_systems_and_portals),
        TEST(test_a_create_takes_every_value_that_is_told),
        TEST(test_a_create_refuses_what_is_not_there),
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
