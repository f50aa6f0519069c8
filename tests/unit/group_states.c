// SPDX-License-Identifier: Apache-2.0
/* The state of a relationship of groups, by hand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "service/group_states.h"

enum { SYNCED = STATE_SYNCHRONIZED, MIXED = STATE_MIXED };

static struct sync_row pair_of(uint32_t copy_state, uint64_t moment)
{
    return (struct sync_row){
        .sync_type = SYNC_SNAPSHOT,
        .copy_type = COPY_UNSYNC_ASSOC,
        .copy_methodology = METHODOLOGY_COPY_ON_WRITE,
        .copy_state = copy_state,
        .requested_copy_state = STATE_NOT_APPLICABLE,
        .progress_status = PROGRESS_COMPLETED,
        .when_synced_ms = 1000 + moment,
        .moment = moment,
    };
}

static void test_a_state_that_all_share_is_the_groups_else_it_is_mixed(void **state)
{
    static const struct {
        uint32_t pairs[3];
        size_t n;
        uint32_t wanted;
    } cases[] = {
        {{SYNCED}, 1, SYNCED},
        {{SYNCED, SYNCED, SYNCED}, 3, SYNCED},
        {{STATE_BROKEN, STATE_BROKEN}, 2, STATE_BROKEN},
        {{SYNCED, STATE_SKEWED}, 2, MIXED},
        {{STATE_UNSYNCHRONIZED, SYNCED, SYNCED}, 3, MIXED},
        {{SYNCED, SYNCED, STATE_BROKEN}, 3, MIXED},
        {{0}, 0, STATE_NOT_APPLICABLE},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct group_sync_row group_sync = {.sync_type = SYNC_SNAPSHOT};
        struct sync_row pairs[3];

        for (size_t k = 0; k < cases[i].n; k++) {
            pairs[k] = pair_of(cases[i].pairs[k], 1);
        }
        struct group_state found = group_state_of(&group_sync, pairs, cases[i].n);

        assert_int_equal(found.copy_state, cases[i].wanted);
        assert_int_equal(found.requested_copy_state, STATE_NOT_APPLICABLE);
    }
}

static void test_progress_and_requested_states_are_mixed_too(void **state)
{
    struct group_sync_row group_sync = {.sync_type = SYNC_CLONE};
    struct sync_row pairs[2] = {pair_of(SYNCED, 0), pair_of(SYNCED, 0)};
    struct group_state found;

    (void)state;
    pairs[1].progress_status = PROGRESS_RESTORING;
    pairs[1].requested_copy_state = SYNCED;
    strcpy(pairs[1].job_id, "j1");
    found = group_state_of(&group_sync, pairs, 2);
    assert_int_equal(found.progress_status, PROGRESS_MIXED);
    assert_int_equal(found.requested_copy_state, MIXED);
    assert_string_equal(found.job_id, "j1");
    pairs[0].when_synced_ms = 7;
    found = group_state_of(&group_sync, pairs, 2);
    assert_int_equal(found.when_synced_ms, 7);
}

/* G17: enabled or not, consistent or not, and how far it is. */
static void test_consistency_is_of_one_moment(void **state)
{
    static const struct {
        bool enabled;
        uint64_t moments[2];
        uint32_t states[2];
        uint32_t consistency_state;
        uint32_t consistency_status;
    } cases[] = {
        {false, {1, 1}, {SYNCED, SYNCED}, 2, 4},
        {true, {1, 1}, {SYNCED, SYNCED}, 3, 2},
        {true, {1, 1}, {SYNCED, STATE_SKEWED}, 3, 2},
        {true, {1, 2}, {SYNCED, SYNCED}, 4, 5},
        {true, {0, 0}, {SYNCED, SYNCED}, 4, 5},
        {true, {2, 2}, {SYNCED, STATE_INACTIVE}, 4, 3},
        {true, {0, 0}, {STATE_INITIALIZED, STATE_INITIALIZED}, 4, 3},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct group_sync_row group_sync = {.consistency = cases[i].enabled};
        struct sync_row pairs[2] = {pair_of(cases[i].states[0], cases[i].moments[0]),
                                    pair_of(cases[i].states[1], cases[i].moments[1])};
        struct group_state found = group_state_of(&group_sync, pairs, 2);

        assert_int_equal(found.consistency_state, cases[i].consistency_state);
        assert_int_equal(found.consistency_status, cases[i].consistency_status);
    }
}

/* The target of an asynchronous mirror has its point in any state. */
static void test_points_of_rounds_are_consistent(void **state)
{
    struct group_sync_row group_sync = {.consistency = true, .sync_type = SYNC_MIRROR};
    struct sync_row pairs[2] = {pair_of(STATE_FAILEDOVER, 3), pair_of(STATE_PARTITIONED, 3)};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        pairs[i].sync_type = SYNC_MIRROR;
        pairs[i].copy_methodology = METHODOLOGY_DELTA_UPDATE;
    }
    assert_true(group_consistency_possible(pairs, 2));
    assert_int_equal(group_state_of(&group_sync, pairs, 2).consistency_state, 3);
    pairs[1].moment = 4;
    assert_int_equal(group_state_of(&group_sync, pairs, 2).consistency_state, 4);
    pairs[1].copy_methodology = METHODOLOGY_INCREMENTAL_COPY;
    assert_false(group_consistency_possible(pairs, 2));
}

/* Targets of synchronous mirrors are of one moment while all are equal, and when all were parted at one. */
static void test_synchronous_mirrors_are_consistent_when_equal_or_parted_together(void **state)
{
    static const struct {
        uint32_t states[2];
        uint64_t moments[2];
        uint32_t consistency_state;
        uint32_t consistency_status;
    } cases[] = {
        {{SYNCED, SYNCED}, {0, 0}, 3, 2},
        {{STATE_UNSYNCHRONIZED, SYNCED}, {0, 0}, 4, 3},
        {{STATE_PARTITIONED, SYNCED}, {0, 0}, 4, 3},
        {{STATE_SPLIT, STATE_SPLIT}, {2, 2}, 3, 2},
        {{STATE_SUSPENDED, STATE_SUSPENDED}, {2, 2}, 3, 2},
        {{STATE_FAILEDOVER, STATE_FRACTURED}, {2, 2}, 3, 2},
        {{STATE_SPLIT, STATE_SPLIT}, {0, 0}, 4, 5},
        {{STATE_FRACTURED, STATE_FRACTURED}, {1, 2}, 4, 5},
        {{STATE_FRACTURED, SYNCED}, {2, 0}, 4, 5},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct group_sync_row group_sync = {.consistency = true, .sync_type = SYNC_MIRROR};
        struct sync_row pairs[2];

        for (size_t k = 0; k < 2; k++) {
            pairs[k] = pair_of(cases[i].states[k], cases[i].moments[k]);
            pairs[k].sync_type = SYNC_MIRROR;
            pairs[k].copy_methodology = METHODOLOGY_INCREMENTAL_COPY;
        }
        struct group_state found = group_state_of(&group_sync, pairs, 2);

        assert_int_equal(found.consistency_state, cases[i].consistency_state);
        assert_int_equal(found.consistency_status, cases[i].consistency_status);
    }
}

static void test_synchronous_mirrors_are_held_together_when_none_writes_to_another(void **state)
{
    static const struct {
        const char *sources[2];
        const char *targets[2];
        bool possible;
    } cases[] = {
        {{"a", "b"}, {"c", "d"}, true},
        {{"a", "a"}, {"c", "d"}, false},
        {{"a", "b"}, {"b", "c"}, false},
        {{"a", "b"}, {"c", "a"}, false},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct sync_row pairs[2] = {pair_of(SYNCED, 0), pair_of(SYNCED, 0)};

        for (size_t k = 0; k < 2; k++) {
            pairs[k].sync_type = SYNC_MIRROR;
            pairs[k].copy_methodology = METHODOLOGY_INCREMENTAL_COPY;
            strcpy(pairs[k].source_id, cases[i].sources[k]);
            strcpy(pairs[k].target_id, cases[i].targets[k]);
        }
        assert_int_equal(group_consistency_possible(pairs, 2), cases[i].possible);
    }
}

static void test_one_pair_alone_is_consistent(void **state)
{
    struct group_sync_row group_sync = {.consistency = true};
    struct sync_row pair = pair_of(SYNCED, 0);

    (void)state;
    assert_int_equal(group_state_of(&group_sync, &pair, 1).consistency_state, 3);
}

static void test_an_operation_is_legal_when_it_is_for_each_pair(void **state)
{
    struct sync_row pairs[3] = {pair_of(SYNCED, 1), pair_of(SYNCED, 1), pair_of(SYNCED, 1)};
    size_t pair;

    (void)state;
    assert_int_equal(group_verdict(pairs, 3, OPERATION_RESYNC, &pair), VERDICT_LEGAL);
    assert_int_equal(group_verdict(pairs, 3, OPERATION_ACTIVATE, &pair), VERDICT_ILLEGAL);
    assert_int_equal(group_verdict(pairs, 3, OPERATION_SUSPEND, &pair), VERDICT_NOT_SUPPORTED);
    pairs[2].copy_state = STATE_INACTIVE;
    assert_int_equal(group_verdict(pairs, 3, OPERATION_RESYNC, &pair), VERDICT_ILLEGAL);
    assert_int_equal(pair, 2);
    assert_int_equal(group_verdict(pairs, 3, OPERATION_DETACH, &pair), VERDICT_LEGAL);
    assert_int_equal(group_verdict(pairs, 0, OPERATION_DETACH, &pair), VERDICT_ILLEGAL);
    /* A relationship keeps one pair. */
    assert_int_equal(group_verdict(pairs, 1, OPERATION_REMOVE_SYNC_PAIR, &pair), VERDICT_ILLEGAL);
    assert_int_equal(group_verdict(pairs, 2, OPERATION_REMOVE_SYNC_PAIR, &pair), VERDICT_LEGAL);
    assert_int_equal(group_verdict(pairs, 2, OPERATION_ADD_SYNC_PAIR, &pair), VERDICT_LEGAL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_state_that_all_share_is_the_groups_else_it_is_mixed),
        cmocka_unit_test(test_progress_and_requested_states_are_mixed_too),
        cmocka_unit_test(test_consistency_is_of_one_moment),
        cmocka_unit_test(test_points_of_rounds_are_consistent),
        cmocka_unit_test(test_synchronous_mirrors_are_consistent_when_equal_or_parted_together),
        cmocka_unit_test(test_synchronous_mirrors_are_held_together_when_none_writes_to_another),
        cmocka_unit_test(test_one_pair_alone_is_consistent),
        cmocka_unit_test(test_an_operation_is_legal_when_it_is_for_each_pair),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
