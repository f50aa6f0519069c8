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

/* Mirrors; snapshots of hosted volumes; clones of and onto anything. */
static bool is_made(uint32_t type)
{
    return type <= 7 || (type >= 10 && type <= 13);
}

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

/* ---- states and operations: smis.md 4.3 ---- */

/* Of its states those that this version has: 2, 3, 4, 5, 8, 9, 12 of a copy. */
struct operation_told {
    uint32_t operation;
    const char *from;       /* with and without Force */
    const char *with_force; /* of these, only with Force */
    const char *wait;       /* WaitForCopyState */
};
static const struct operation_told copied_clone[] = {
    {2, "2 3", "", "12"}, {4, "2 8", "", "3 4"},       {8, "3 4 5 8 12", "3", "15"},
    {9, "4 8", "", "15"}, {14, "4 5 8 12", "", "3 4"}, {15, "4", "", "4 8"},
    {16, "9", "", "3 4"}, {19, "4 5 8 12", "", "15"},  {22, "3", "", "9"},
};
/* smis.md 4.2 and 4.3 for what shares layers: nothing lasts, so there is no 3, 5, 9. */
static const struct operation_told snapshot[] = {
    {2, "2", "", "12"},         {4, "2 8", "", "4"},           {7, "4 13", "", "8"},
    {8, "4 8 12 13", "", "15"}, {9, "4 8 12 13", "", "15"},    {14, "4 12 13", "", "4"},
    {15, "4 13", "", "4 8"},    {19, "2 4 8 12 13", "", "15"},
};
static const struct operation_told layered_clone[] = {
    {2, "2", "", "12"},   {4, "2 8", "", "3 4"},     {8, "4 8 12", "", "15"},
    {9, "4 8", "", "15"}, {14, "4 8 12", "", "3 4"}, {15, "4", "", "4 8"},
};
/* Filled while it is used: not without its source before it is whole, but with all that it is. */
static const struct operation_told filled_clone[] = {
    {2, "2 3", "", "12"},        {4, "2 8", "", "3 4"},
    {8, "4 8", "", "15"},        {9, "4 8", "", "15"},
    {14, "4 5 8 12", "", "3 4"}, {15, "4", "", "4 8"},
    {16, "9", "", "3 4"},        {19, "2 3 4 5 8 9 12", "", "15"},
    {22, "3", "", "9"},
};
/* Either of the two. */
static const struct operation_told remote_clone[] = {
    {2, "2 3", "", "12"},         {4, "2 8", "", "3 4"},
    {8, "3 4 5 8 12", "3", "15"}, {9, "4 8", "", "15"},
    {14, "4 5 8 12", "", "3 4"},  {15, "4", "", "4 8"},
    {16, "9", "", "3 4"},         {19, "2 3 4 5 8 9 12", "", "15"},
    {22, "3", "", "9"},
};
/* smis.md 4.1; 16 besides, and no 13. */
#define MIRROR_UP_TO_REVERSE                                                                       \
    {2, "2 3 11", "", "12"}, {4, "2 8 11", "", "3 4"}, {7, "3 4", "", "8"},                        \
        {8, "3 4 5 6 7 8 9 10 12 16", "3 16", "15"}, {9, "4 6 7 8", "", "15"},                     \
        {10, "3 4 5 6 7 9 16", "3 5 9 16", "10"}, {11, "10", "", "3 4"}, {12, "3 4", "3", "6"},    \
        {14, "5 6 7 12", "", "3 4"}, {15, "6 7", "", "4 8"}, {16, "9", "", "3 4"},                 \
        {17, "3 4 9", "", "3 4"},                                                                  \
    {                                                                                              \
        18, "3 4 9", "", "3 4"                                                                     \
    }
#define MIRROR_FROM_SPLIT                                                                          \
    {21, "3 4", "", "7"}, {22, "3 4", "", "9"}, {23, "2 6 8", "", "11"},                           \
    {                                                                                              \
        24, "2 6 8", "", "11"                                                                      \
    }
static const struct operation_told local_mirror[] = {
    MIRROR_UP_TO_REVERSE, {20, "4", "", "3 4"}, MIRROR_FROM_SPLIT};
static const struct operation_told remote_mirror[] = {MIRROR_UP_TO_REVERSE, MIRROR_FROM_SPLIT};
static const uint32_t clone_states[] = {2, 3, 4, 5, 8, 9, 12};

/* What is told of a type; methodology 0: without setting data. A local clone without it is either of the two. */
static const struct kind_told {
    uint32_t type;
    uint32_t methodology;
    const char *states;
    const char *accessible;
    const char *create_wait;
    const char *modify_wait;
    const struct operation_told *operations;
    size_t n;
} kinds_told[] = {
    {2, 0, "2 3 4 5 6 7 8 9 10 11 12 16", "1 1 1 1 1 1 1 1 1 1 1 1", "2 3 4 8",
     "12 3 4 8 15 10 6 7 9 11", local_mirror, ARRAY_LEN(local_mirror)},
    {3, 0, "2 3 4 5 6 7 8 9 10 11 12 16", "1 1 1 1 1 1 1 1 1 1 1 1", "2 3 4 8",
     "12 3 4 8 15 10 6 7 9 11", local_mirror, ARRAY_LEN(local_mirror)},
    {5, 8, "2 3 4 5 6 7 8 9 10 11 12 16", "1 1 1 1 1 1 1 1 1 1 1 1", "2 3 4 8",
     "12 3 4 8 15 10 6 7 9 11", remote_mirror, ARRAY_LEN(remote_mirror)},
    {4, 4, "2 3 4 5 6 7 8 9 10 11 12 16", "1 1 1 1 1 1 1 1 1 1 1 1", "2 3 4 8",
     "12 3 4 8 15 10 6 7 9 11", remote_mirror, ARRAY_LEN(remote_mirror)},
    {6, 0, "2 4 8 12 13", "0 1 0 0 1", "2 4 8", "12 4 8 15", snapshot, ARRAY_LEN(snapshot)},
    {7, 6, "2 4 8 12 13", "0 1 0 0 1", "2 4 8", "12 4 8 15", snapshot, ARRAY_LEN(snapshot)},
    {10, 6, "2 4 8 12", "0 1 0 0", "2 3 4 8", "12 3 4 15 8", layered_clone,
     ARRAY_LEN(layered_clone)},
    {11, 3, "2 3 4 5 8 9 12", "1 1 1 1 1 1 1", "2 3 4 8", "12 3 4 15 8 9", copied_clone,
     ARRAY_LEN(copied_clone)},
    {10, 0, "2 3 4 5 8 9 12", "0 1 1 1 0 1 0", "2 3 4 8", "12 3 4 15 8 9", copied_clone,
     ARRAY_LEN(copied_clone)},
    {12, 0, "2 3 4 5 8 9 12", "0 1 1 1 0 1 1", "2 3 4 8", "12 3 4 15 8 9", remote_clone,
     ARRAY_LEN(remote_clone)},
    {12, 7, "2 3 4 5 8 9 12", "0 1 1 1 0 1 1", "2 3 4 8", "12 3 4 15 8 9", filled_clone,
     ARRAY_LEN(filled_clone)},
    {13, 3, "2 3 4 5 8 9 12", "1 1 1 1 1 1 1", "2 3 4 8", "12 3 4 15 8 9", copied_clone,
     ARRAY_LEN(copied_clone)},
};

static void give_kind(const struct kind_told *kind)
{
    give("ReplicationType", kind->type);
    if (kind->methodology != 0) {
        const struct class_info *class = &class_ReplicationSettingData;
        struct values *instance = values_new(&call->arena, class->params, class->n_params);

        outs_number(instance, "DesiredCopyMethodology", kind->methodology);
        outs_instance(call->args, "ReplicationSettingData", instance);
    }
}

/* Is the number in "2 3 12"? */
static bool in_text(const char *text, uint32_t number)
{
    char wanted[16];
    char all[64];

    snprintf(wanted, sizeof(wanted), " %u ", number);
    snprintf(all, sizeof(all), " %s ", text);
    return strstr(all, wanted) != NULL;
}

static void test_states(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds_told); i++) {
        begin("GetSupportedCopyStates");
        give_kind(&kinds_told[i]);
        done();
        assert_numbers("SupportedCopyStates", kinds_told[i].states);
        assert_numbers("HostAccessible", kinds_told[i].accessible);
    }
}

static void test_states_that_an_operation_is_taken_from(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds_told); i++) {
        const struct kind_told *kind = &kinds_told[i];

        for (uint32_t operation = 2; operation <= 24; operation++) {
            const struct operation_told *told = NULL;

            for (size_t k = 0; k < kind->n; k++) {
                told = kind->operations[k].operation == operation ? &kind->operations[k] : told;
            }
            begin("GetSupportedCopyStates");
            give_kind(kind);
            give("Operation", operation);
            if (told == NULL) {
                refused(ERR_NOT_SUPPORTED, "Operation");
                continue;
            }
            done();
            assert_numbers("SupportedCopyStates", told->from);
            assert_int_equal(values_get(call->outs, "SupportedCopyStates")->n_items,
                             values_get(call->outs, "HostAccessible")->n_items);
        }
    }
}

/* The parallel arrays say what the table above says of the state; copy_type 5 has no operation 19.
 */
static void assert_operations(const struct operation_told *told, size_t n, uint32_t copy_state,
                              bool with_return)
{
    char operations[128] = "";
    char force[128] = "";
    char controlling[128] = "";
    char updates[128] = "";
    const struct {
        char *text;
    } texts[] = {{operations}, {force}, {controlling}, {updates}};

    for (size_t i = 0; i < n; i++) {
        uint32_t operation = told[i].operation;
        if (copy_state != 0 && !in_text(told[i].from, copy_state)) {
            continue;
        }
        if (operation == 19 && !with_return) {
            continue;
        }
        const uint32_t numbers[] = {
            operation, copy_state != 0 && in_text(told[i].with_force, copy_state), 4, 0};
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

static void test_operations(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds_told); i++) {
        const struct kind_told *kind = &kinds_told[i];

        begin("GetSupportedOperations");
        give_kind(kind);
        done();
        assert_operations(kind->operations, kind->n, 0, true);
        for (uint32_t copy_state = 2; copy_state <= 17; copy_state++) {
            begin("GetSupportedOperations");
            give_kind(kind);
            give("CopyState", copy_state);
            done();
            if (in_text(kind->states, copy_state)) {
                assert_operations(kind->operations, kind->n, copy_state, true);
            } else { /* none of them is ever in this state */
                assert_numbers("SupportedOperations", "");
                assert_numbers("RequiresForce", "");
            }
        }
    }
    begin("GetSupportedOperations");
    give_kind(&(struct kind_told){.type = 12, .methodology = 6});
    refused(ERR_NOT_SUPPORTED, "ReplicationSettingData.DesiredCopyMethodology");
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
            assert_operations(copied_clone, ARRAY_LEN(copied_clone), clone_states[i],
                              copy_type == 4);
        }
    }
    /* What shares layers is told by its CopyMethodology. */
    static const uint32_t resting[] = {2, 4, 8, 12, 13};
    for (size_t i = 0; i < ARRAY_LEN(resting); i++) {
        for (uint32_t sync_type = 7; sync_type <= 8; sync_type++) {
            if (sync_type == 8 && resting[i] == 13) {
                continue;
            }
            struct sync_row row = {.sync_type = sync_type,
                                   .mode = 2,
                                   .copy_type = sync_type == 7 ? 4 : 5,
                                   .copy_methodology = 6,
                                   .copy_state = resting[i]};
            unsigned n = resting[i] * 10 + sync_type;
            snprintf(ids[0], ID_SIZE, "c%u", n);
            snprintf(ids[1], ID_SIZE, "d%u", n);
            snprintf(row.head.id, ID_SIZE, "t%u", n);
            add_volume(ids[0], "local", 512, false);
            add_volume(ids[1], "local", 512, false);
            TEXT_SET(row.source_id, ids[0]);
            TEXT_SET(row.target_id, ids[1]);
            assert_int_equal(table_insert(fixture.db, &sync_table, &row), 0);
            begin("GetSupportedOperationsForSynchronization");
            snprintf(path, sizeof(path), "/synchronizations/%s", row.head.id);
            give_path("Synchronization", path);
            done();
            if (sync_type == 7) {
                assert_operations(snapshot, ARRAY_LEN(snapshot), resting[i], true);
            } else {
                assert_operations(layered_clone, ARRAY_LEN(layered_clone), resting[i], true);
            }
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
    static const uint32_t creates[] = {2, 3, 7, 8, 11};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds_told); i++) {
        const struct kind_told *kind = &kinds_told[i];

        for (size_t k = 0; k < ARRAY_LEN(creates); k++) {
            begin("GetSupportedWaitForCopyStates");
            give_kind(kind);
            give("MethodName", creates[k]);
            done();
            assert_numbers("SupportedCopyStates", kind->create_wait);
            begin("GetSupportedWaitForCopyStates");
            give_kind(kind);
            give("MethodName", creates[k]);
            give("Operation", 8);
            refused(ERR_INVALID_PARAMETER, "Operation");
        }
        for (size_t k = 0; k < kind->n; k++) {
            begin("GetSupportedWaitForCopyStates");
            give_kind(kind);
            give("MethodName", 4);
            give("Operation", kind->operations[k].operation);
            done();
            assert_numbers("SupportedCopyStates", kind->operations[k].wait);
        }
        for (uint32_t modify = 4; modify <= 5; modify++) {
            begin("GetSupportedWaitForCopyStates");
            give_kind(kind);
            give("MethodName", modify);
            done();
            assert_numbers("SupportedCopyStates", kind->modify_wait);
        }
        begin("GetSupportedWaitForCopyStates");
        give_kind(kind);
        give("MethodName", 4);
        give("Operation", kind->type < 6 ? 19 : 10);
        refused(ERR_NOT_SUPPORTED, "Operation");
        for (uint32_t method = 2; method <= 11; method++) {
            if (method == 6 || method == 9 || method == 10) {
                begin("GetSupportedWaitForCopyStates");
                give_kind(kind);
                give("MethodName", method);
                refused(ERR_NOT_SUPPORTED, "MethodName");
            }
        }
    }
}

/* ---- features and limits ---- */

static void test_features(void **state)
{
    static const struct {
        uint32_t type;
        const char *features;
        bool together;
    } told[] = {{2, "7 8 24 29 51"},
                {3, "7 8 24 29 51"},
                {4, "7 8 24 35 36 37 42 50 51"},
                {5, "7 8 24 35 36 37 42 50 51"},
                {6, "2 7 44 51", true},
                {7, "2 7 44 51", true},
                {10, "2 7 8 24 51", true},
                {11, "2 7 8 24 51", true},
                {12, "2 8 24 34 35 36 37 42 50 51"},
                {13, "2 8 24 34 35 36 37 42 50 51"}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(told); i++) {
        begin("GetSupportedFeatures");
        give("ReplicationType", told[i].type);
        done();
        assert_numbers("Features", told[i].features);
        begin("GetSupportedThinProvisioningFeatures");
        give("ReplicationType", told[i].type);
        done();
        assert_numbers("SupportedThinProvisioningFeatures", "2");
        begin("GetSupportedListFeatures");
        give("ReplicationType", told[i].type);
        done();
        assert_numbers("GroupFeatures", told[i].together ? "2 3" : "2 4");
        begin("GetSupportedConsistency");
        give("ReplicationType", told[i].type);
        done();
        bool mirrors = told[i].type <= 5; /* of a group: their cycles, or when they are parted */

        assert_numbers("SupportedConsistency", told[i].together || mirrors ? "2" : "");
        begin("GetDefaultConsistency");
        give("ReplicationType", told[i].type);
        done();
        assert_int_equal(out_of("DefaultConsistency"), told[i].together ? 2 : 0);
    }
    begin("GetDefaultGroupPersistency");
    done();
    assert_int_equal(out_of("DefaultGroupPersistency"), 2);
}

/* Those of pairs, what only groups have, and 14 Mixed. */
static void test_groups_and_lists(void **state)
{
    static const struct {
        uint32_t type;
        const char *operations;    /* of pairs, and so of lists */
        const char *of_groups;     /* besides 3, 5, 6, 13 */
        const char *synchronized;  /* of groups in state 4 */
        const char *states;        /* of groups */
        const char *activate_from; /* of groups */
    } told[] = {
        {6, "2 4 7 8 9 14 15 19", "2 3 4 5 6 7 8 9 13 14 15 19", "3 5 6 7 8 9 13 14 15 19",
         "2 4 8 12 13 14", "2 8 14"},
        {11, "2 4 8 9 14 15 16 19 22", "2 3 4 5 6 8 9 13 14 15 16 19 22", "3 5 6 8 9 13 14 15 19",
         "2 3 4 5 8 9 12 14", "2 8 14"},
        {12, "2 4 8 9 14 15 16 19 22", "2 4 5 8 9 13 14 15 16 19 22", "5 8 9 13 14 15 19",
         "2 3 4 5 8 9 12 14", "2 8 14"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(told); i++) {
        begin("GetSupportedListOperations");
        give("ReplicationType", told[i].type);
        done();
        assert_numbers("SupportedListOperations", told[i].operations);
        assert_int_equal(values_get(call->outs, "RequiresForce")->n_items,
                         values_get(call->outs, "SupportedListOperations")->n_items);
        for (uint32_t copy_state = 0; copy_state <= STATE_MIXED; copy_state += STATE_MIXED) {
            begin("GetSupportedGroupOperations");
            give("ReplicationType", told[i].type);
            if (copy_state != 0) {
                give("CopyState", copy_state);
            }
            done();
            assert_numbers("SupportedGroupOperations", told[i].of_groups);
        }
        begin("GetSupportedGroupOperations");
        give("ReplicationType", told[i].type);
        give("CopyState", 4);
        done();
        assert_numbers("SupportedGroupOperations", told[i].synchronized);
        begin("GetSupportedGroupCopyStates");
        give("ReplicationType", told[i].type);
        done();
        assert_numbers("SupportedCopyStates", told[i].states);
        begin("GetSupportedGroupCopyStates");
        give("ReplicationType", told[i].type);
        give("Operation", 4);
        done();
        assert_numbers("SupportedCopyStates", told[i].activate_from);
        begin("GetSupportedGroupCopyStates");
        give("ReplicationType", told[i].type);
        give("Operation", 10);
        refused(ERR_NOT_SUPPORTED, "Operation");
        begin("GetSupportedGroupFeatures");
        give("ReplicationType", told[i].type);
        done();
        assert_numbers("GroupFeatures", "2 3 5 13 14 15 23 24 38 56");
    }
}

static void test_limits(void **state)
{
    (void)state;
    for (uint32_t type = 2; type <= 13; type++) {
        for (uint32_t component = 2; component <= 12 && is_made(type); component++) {
            begin("GetSupportedMaximum");
            give("ReplicationType", type);
            give("Component", component);
            if (component == 3 || component == 4) {
                done();
                assert_int_equal(out_of("MaxValue"), 1024);
            } else if (component == 2 || (component >= 5 && component <= 8)) {
                done();
                assert_int_equal(out_of("MaxValue"),
                                 component == 5 && type >= 6 && type < 12 ? 250 : 0);
            } else if (component == 9) {
                done();
                assert_int_equal(out_of("MaxValue"), 1);
            } else {
                refused(ERR_NO_INFORMATION, "Component");
            }
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
        if (type == 3 || type == 5) {
            refused(ERR_NOT_SUPPORTED, "ElementType");
            continue;
        }
        done();
        assert_numbers("SupportedFeatures", "2");
        assert_int_equal(out_of("MaxElementNameLen"), type == 6 ? 256 : 250);
        assert_non_null(args_text(call->outs, "ElementNameMask"));
    }
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

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_remote_snapshots_are_not_supported),
        TEST(test_a_kind_must_be_named),
        TEST(test_other_parameters_that_must_be_there),
        TEST(test_kinds_are_converted_both_ways),
        TEST(test_states),
        TEST(test_states_that_an_operation_is_taken_from),
        TEST(test_operations),
        TEST(test_operations_of_a_relationship_follow_its_state_and_copy_type),
        TEST(test_states_that_can_be_waited_for),
        TEST(test_features),
        TEST(test_groups_and_lists),
        TEST(test_limits),
        TEST(test_names),
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
