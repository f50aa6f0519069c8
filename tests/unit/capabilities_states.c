// SPDX-License-Identifier: Apache-2.0
/*
 * ReplicationServiceCapabilities of states, operations, features and limits against what smis.md says, written out here again: the tables of the
 * service are not asked what is right.
 */
#include "tests/unit/capabilities_fixture.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/classes.h"
#include "service/enums.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_states),
        TEST(test_states_that_an_operation_is_taken_from),
        TEST(test_operations),
        TEST(test_operations_of_a_relationship_follow_its_state_and_copy_type),
        TEST(test_states_that_can_be_waited_for),
        TEST(test_features),
        TEST(test_groups_and_lists),
        TEST(test_limits),
        TEST(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
