// SPDX-License-Identifier: Apache-2.0
/*
 * States and operations of relationships against smis.md 4.1 to 4.3, written out here again: every operation in every
 * state, of each kind. States that a kind never has are in the tables where smis.md has them.
 */
#include "tests/unit/testing.h"

#include <stdio.h>
#include <string.h>

#include "base/check.h"
#include "service/replica_states.h"

enum { STATE_LAST = 17, N_OPERATIONS = 24 };

/* The states from which an operation is legal; F3: only with Force. Operations that are not here are not supported. */
struct expected {
    uint32_t operation;
    const char *from;
};

static const struct expected snapshot[] = {
    {OPERATION_ABORT, "2 3"},          {OPERATION_ACTIVATE, "2 8 11"},
    {OPERATION_DEACTIVATE, "4 13"},    {OPERATION_DETACH, "4 8 12 13"},
    {OPERATION_DISSOLVE, "4 8 12 13"}, {OPERATION_RESYNC, "4 5 6 7 12 13"},
    {OPERATION_RESTORE, "4 6 7 13"},   {OPERATION_RETURN_TO_POOL, "2 4 5 6 7 8 11 12 13"},
};
static const struct expected layered_clone[] = {
    {OPERATION_ABORT, "2 3"},
    {OPERATION_ACTIVATE, "2 8 11"},
    {OPERATION_DETACH, "F3 4 5 8 12 13"},
    {OPERATION_DISSOLVE, "4 8"},
    {OPERATION_RESYNC, "4 5 6 7 8 12 13"},
    {OPERATION_RESTORE, "4 6 7 13"},
};
/* A copy has no 6, 7, 11, 13: its table has only what can be. */
static const struct expected copied_clone[] = {
    {OPERATION_ABORT, "2 3"},    {OPERATION_ACTIVATE, "2 8"},    {OPERATION_DETACH, "F3 4 5 8 12"},
    {OPERATION_DISSOLVE, "4 8"}, {OPERATION_RESYNC, "4 5 8 12"}, {OPERATION_RESTORE, "4"},
    {OPERATION_RESUME, "9"},     {OPERATION_SUSPEND, "3"},
};
static const struct expected copied_clone_of_copy_type_4[] = {
    {OPERATION_ABORT, "2 3"},          {OPERATION_ACTIVATE, "2 8"},
    {OPERATION_DETACH, "F3 4 5 8 12"}, {OPERATION_DISSOLVE, "4 8"},
    {OPERATION_RESYNC, "4 5 8 12"},    {OPERATION_RESTORE, "4"},
    {OPERATION_RESUME, "9"},           {OPERATION_RETURN_TO_POOL, "4 5 8 12"},
    {OPERATION_SUSPEND, "3"},
};

/* Until 4 it cannot be without its source; returned with all that it is, it can. */
static const struct expected filled_clone[] = {
    {OPERATION_ABORT, "2 3"},       {OPERATION_ACTIVATE, "2 8"},
    {OPERATION_DETACH, "4 8"},      {OPERATION_DISSOLVE, "4 8"},
    {OPERATION_RESYNC, "4 5 8 12"}, {OPERATION_RESTORE, "4"},
    {OPERATION_RESUME, "9"},        {OPERATION_RETURN_TO_POOL, "2 3 4 5 8 9 12"},
    {OPERATION_SUSPEND, "3"},
};

/* 4.1; Detach from 16 with Force is ours: a target that stays away can be given up. Without asynchronous mirrors there is no
 * Reset To Async. */
static const struct expected mirror[] = {
    {OPERATION_ABORT, "2 3 11"},
    {OPERATION_ACTIVATE, "2 8 11"},
    {OPERATION_DEACTIVATE, "3 4"},
    {OPERATION_DETACH, "F3 4 5 6 7 8 9 10 12 13 F16"},
    {OPERATION_DISSOLVE, "4 6 7 8 13"},
    {OPERATION_FAILOVER, "F3 4 F5 6 7 F9 F16"},
    {OPERATION_FAILBACK, "10"},
    {OPERATION_FRACTURE, "F3 4"},
    {OPERATION_RESYNC, "5 6 7 12 13"},
    {OPERATION_RESTORE, "6 7 13"},
    {OPERATION_RESUME, "9"},
    {OPERATION_RESET_TO_SYNC, "3 4 9"},
    {OPERATION_RESET_TO_ASYNC, "3 4 9"},
    {OPERATION_REVERSE_ROLES, "4"},
    {OPERATION_SPLIT, "3 4"},
    {OPERATION_SUSPEND, "3 4"},
    {OPERATION_UNPREPARE, "2 6 8"},
    {OPERATION_PREPARE, "2 6 8"},
};

static const struct kind {
    const char *name;
    uint32_t sync_type;
    enum replica_engine engine;
    uint32_t copy_type;
    uint32_t copy_methodology; /* as the relationship has it */
    const struct expected *expected;
    size_t n;
} kinds[] = {
    {"snapshot", SYNC_SNAPSHOT, ENGINE_LAYERS, 4, 6, snapshot, ARRAY_LEN(snapshot)},
    {"clone that shares layers", SYNC_CLONE, ENGINE_LAYERS, 5, 6, layered_clone,
     ARRAY_LEN(layered_clone)},
    {"copied clone", SYNC_CLONE, ENGINE_COPY, 5, 3, copied_clone, ARRAY_LEN(copied_clone)},
    {"full copy of CopyType 4", SYNC_CLONE, ENGINE_COPY, 4, 3, copied_clone_of_copy_type_4,
     ARRAY_LEN(copied_clone_of_copy_type_4)},
    {"filled clone", SYNC_CLONE, ENGINE_FILL, 5, 7, filled_clone, ARRAY_LEN(filled_clone)},
    {"synchronous mirror", SYNC_MIRROR, ENGINE_MIRROR, 3, 4, mirror, ARRAY_LEN(mirror)},
    {"asynchronous mirror", SYNC_MIRROR, ENGINE_ASYNC, 2, 8, mirror, ARRAY_LEN(mirror)},
    {"copied mirror", SYNC_MIRROR, ENGINE_COPY, 3, 3, NULL, 0},
    {"mirror by layers", SYNC_MIRROR, ENGINE_LAYERS, 3, 6, NULL, 0},
    {"copied snapshot", SYNC_SNAPSHOT, ENGINE_COPY, 4, 3, NULL, 0},
};

static bool in_text(const char *text, const char *prefix, uint32_t number)
{
    char wanted[16];
    char all[64];

    snprintf(wanted, sizeof(wanted), " %s%u ", prefix, number);
    snprintf(all, sizeof(all), " %s ", text);
    return strstr(all, wanted) != NULL;
}

static enum operation_verdict expected_verdict(const struct kind *kind, uint32_t state,
                                               uint32_t operation)
{
    for (size_t i = 0; i < kind->n; i++) {
        if (kind->expected[i].operation == operation) {
            return in_text(kind->expected[i].from, "", state)    ? VERDICT_LEGAL
                   : in_text(kind->expected[i].from, "F", state) ? VERDICT_NEEDS_FORCE
                                                                 : VERDICT_ILLEGAL;
        }
    }
    return VERDICT_NOT_SUPPORTED;
}

static void test_every_operation_in_every_state(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        const struct kind *kind = &kinds[i];

        for (uint32_t operation = 2; operation <= N_OPERATIONS; operation++) {
            for (uint32_t copy_state = 2; copy_state <= STATE_LAST; copy_state++) {
                struct sync_row sync = {.sync_type = kind->sync_type,
                                        .copy_type = kind->copy_type,
                                        .copy_methodology = kind->copy_methodology,
                                        .copy_state = copy_state};
                enum operation_verdict wanted = expected_verdict(kind, copy_state, operation);

                if (replica_verdict(kind->sync_type, kind->engine, copy_state, operation,
                                    kind->copy_type) != wanted ||
                    replica_verdict_of(&sync, operation) != wanted) {
                    fail_msg("%s: operation %u in state %u is not %d", kind->name, operation,
                             copy_state, wanted);
                }
            }
        }
    }
}

static void test_the_engine_of_a_relationship_is_its_methodology(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        struct sync_row sync = {.sync_type = kinds[i].sync_type,
                                .copy_methodology = kinds[i].copy_methodology};

        assert_int_equal(replica_engine_of(&sync), kinds[i].engine);
    }
    assert_string_equal(replica_engine_name(ENGINE_COPY), "copy");
    assert_string_equal(replica_engine_name(ENGINE_LAYERS), "layers");
    assert_string_equal(replica_engine_name(ENGINE_FILL), "fill");
    assert_string_equal(replica_engine_name(ENGINE_MIRROR), "mirror");
    assert_string_equal(replica_engine_name(ENGINE_ASYNC), "async");
    for (uint32_t engine = 0; engine < ENGINES; engine++) {
        struct sync_row sync = {.copy_methodology = replica_methodology(engine)};

        assert_int_equal(replica_engine_of(&sync), engine);
    }
}

/* Every state of a kind can be left, and what rests can be got rid of. */
static void test_no_state_is_a_dead_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
        for (const uint32_t *s = replica_states(kinds[i].sync_type, kinds[i].engine); *s != 0;
             s++) {
            bool left = false;

            for (uint32_t operation = 2; operation <= N_OPERATIONS; operation++) {
                enum operation_verdict verdict = expected_verdict(&kinds[i], *s, operation);

                left = left || verdict == VERDICT_LEGAL || verdict == VERDICT_NEEDS_FORCE;
            }
            assert_true(left);
        }
    }
}

static void test_what_can_be_waited_for(void **state)
{
    (void)state;
    /* smis.md 2.0b: create mirror {2,3,4,8}, snapshot {2,4,8}, clone {2,3,4,8}. */
    for (uint32_t copy_state = 0; copy_state <= STATE_LAST; copy_state++) {
        assert_int_equal(replica_wait_state_allowed(SYNC_SNAPSHOT, ENGINE_LAYERS, 0, copy_state),
                         in_text("2 4 8", "", copy_state));
        assert_int_equal(replica_wait_state_allowed(SYNC_CLONE, ENGINE_LAYERS, 0, copy_state),
                         in_text("2 3 4 8", "", copy_state));
        assert_int_equal(replica_wait_state_allowed(SYNC_CLONE, ENGINE_COPY, 0, copy_state),
                         in_text("2 3 4 8", "", copy_state));
        assert_int_equal(replica_wait_state_allowed(SYNC_MIRROR, ENGINE_MIRROR, 0, copy_state),
                         in_text("2 3 4 8", "", copy_state));
        assert_false(replica_wait_state_allowed(SYNC_MIRROR, ENGINE_COPY, 0, copy_state));
        /* W9: clients wait for 8 after Restore, and for 15 where the association goes. */
        assert_int_equal(
            replica_wait_state_allowed(SYNC_SNAPSHOT, ENGINE_LAYERS, OPERATION_RESTORE, copy_state),
            in_text("4 8", "", copy_state));
        assert_int_equal(replica_wait_state_allowed(SYNC_SNAPSHOT, ENGINE_LAYERS,
                                                    OPERATION_RETURN_TO_POOL, copy_state),
                         in_text("15", "", copy_state));
    }
    for (uint32_t operation = 2; operation <= N_OPERATIONS; operation++) {
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
            bool some = replica_wait_states(kinds[i].sync_type, kinds[i].engine, operation)[0] != 0;

            assert_int_equal(
                some, replica_operation_supported(kinds[i].sync_type, kinds[i].engine, operation));
            if (some && replica_operation_removes(operation)) {
                assert_true(replica_wait_state_allowed(kinds[i].sync_type, kinds[i].engine,
                                                       operation, STATE_NOT_APPLICABLE));
            }
        }
    }
    assert_true(replica_wait_reached(STATE_UNSYNCHRONIZED, STATE_SYNCHRONIZED));
    assert_true(replica_wait_reached(STATE_INACTIVE, STATE_SYNCHRONIZED));
    assert_false(replica_wait_reached(STATE_SYNCHRONIZED, STATE_INACTIVE));
}

static void test_types_that_are_made(void **state)
{
    (void)state;
    for (uint32_t sync_type = SYNC_MIRROR; sync_type <= SYNC_CLONE; sync_type++) {
        for (uint32_t mode = MODE_SYNCHRONOUS; mode <= MODE_ASYNCHRONOUS; mode++) {
            assert_true(replica_type_supported(sync_type, mode, false));
            assert_int_equal(replica_type_supported(sync_type, mode, true),
                             sync_type != SYNC_SNAPSHOT);
            assert_false(replica_type_supported(sync_type, 4, false));
        }
    }
    for (uint32_t remote = 0; remote <= 1; remote++) {
        assert_true(replica_engine_possible(SYNC_MIRROR, 2, remote, ENGINE_MIRROR));
        assert_false(replica_engine_possible(SYNC_MIRROR, 3, remote, ENGINE_MIRROR));
        assert_false(replica_engine_possible(SYNC_MIRROR, 2, remote, ENGINE_ASYNC));
        assert_true(replica_engine_possible(SYNC_MIRROR, 3, remote, ENGINE_ASYNC));
    }
    assert_true(replica_engine_possible(SYNC_CLONE, 2, false, ENGINE_COPY));
    assert_true(replica_engine_possible(SYNC_CLONE, 2, false, ENGINE_LAYERS));
    assert_true(replica_engine_possible(SYNC_CLONE, 2, true, ENGINE_COPY));
    assert_false(replica_engine_possible(SYNC_CLONE, 2, true, ENGINE_LAYERS));
    assert_true(replica_engine_possible(SYNC_CLONE, 2, true, ENGINE_FILL));
    assert_false(replica_engine_possible(SYNC_CLONE, 2, false, ENGINE_FILL));
    assert_false(replica_engine_possible(SYNC_SNAPSHOT, 2, true, ENGINE_FILL));
    assert_false(replica_engine_possible(SYNC_SNAPSHOT, 2, false, ENGINE_COPY));
    assert_false(replica_engine_possible(SYNC_SNAPSHOT, 2, true, ENGINE_LAYERS));
}

static void test_the_legacy_state(void **state)
{
    static const uint32_t states[][2] = {{2, 2},  {3, 15}, {4, 6},   {5, 12},
                                         {8, 11}, {9, 9},  {12, 12}, {13, 11}};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(states); i++) {
        assert_int_equal(replica_sync_state(states[i][0], PROGRESS_COMPLETED), states[i][1]);
    }
    for (uint32_t parted = STATE_FRACTURED; parted <= STATE_SPLIT; parted++) {
        assert_int_equal(replica_sync_state(parted, PROGRESS_COMPLETED), 13);
    }
    assert_int_equal(replica_sync_state(STATE_PREPARED, PROGRESS_COMPLETED), 4);
    assert_int_equal(replica_sync_state(STATE_UNSYNCHRONIZED, PROGRESS_RESYNCING), 5);
    assert_int_equal(replica_sync_state(STATE_UNSYNCHRONIZED, PROGRESS_RESTORING), 10);
}

static void test_a_half_done_restore(void **state)
{
    struct sync_row sync = {.sync_type = SYNC_CLONE,
                            .copy_type = 5,
                            .copy_methodology = 3,
                            .copy_state = STATE_ABORTED,
                            .source_incomplete = true};

    (void)state;
    assert_int_equal(replica_verdict_of(&sync, OPERATION_RESTORE), VERDICT_LEGAL);
    assert_int_equal(replica_verdict_of(&sync, OPERATION_RESYNC), VERDICT_NEEDS_FORCE);
    /* One that was filled before is whole. */
    sync.copy_methodology = 7;
    assert_int_equal(replica_verdict_of(&sync, OPERATION_RESTORE), VERDICT_LEGAL);
    assert_int_equal(replica_verdict_of(&sync, OPERATION_RESYNC), VERDICT_NEEDS_FORCE);
    assert_int_equal(replica_verdict_of(&sync, OPERATION_DETACH), VERDICT_LEGAL);
    sync.source_incomplete = false;
    assert_int_equal(replica_verdict_of(&sync, OPERATION_DETACH), VERDICT_ILLEGAL);
}

/* Hosts of another system's LUN write past us: it is no source of a mirror. */
static void test_only_hosted_volumes_change_roles(void **state)
{
    struct sync_row sync = {.sync_type = SYNC_MIRROR,
                            .copy_type = 3,
                            .copy_methodology = 4,
                            .copy_state = STATE_SYNCHRONIZED};

    (void)state;
    assert_int_equal(replica_verdict_of(&sync, OPERATION_REVERSE_ROLES), VERDICT_LEGAL);
    sync.remote = true;
    assert_int_equal(replica_verdict_of(&sync, OPERATION_REVERSE_ROLES), VERDICT_NOT_SUPPORTED);
    assert_true(replica_operation_local(OPERATION_REVERSE_ROLES));
    assert_false(replica_operation_local(OPERATION_FAILOVER));
}

/* While a mirror brings its source back, only the target is whole, and both together. */
static void test_a_mirror_that_is_restored(void **state)
{
    static const uint32_t parting[] = {OPERATION_FRACTURE, OPERATION_SPLIT, OPERATION_SUSPEND,
                                       OPERATION_DEACTIVATE, OPERATION_RESET_TO_SYNC};
    struct sync_row sync = {.sync_type = SYNC_MIRROR,
                            .copy_type = 3,
                            .copy_methodology = 4,
                            .copy_state = STATE_UNSYNCHRONIZED,
                            .source_incomplete = true};

    (void)state;
    for (size_t i = 0; i < ARRAY_LEN(parting); i++) {
        assert_int_equal(replica_verdict_of(&sync, parting[i]), VERDICT_ILLEGAL);
    }
    assert_int_equal(replica_verdict_of(&sync, OPERATION_ABORT), VERDICT_LEGAL);
    assert_int_equal(replica_verdict_of(&sync, OPERATION_FAILOVER), VERDICT_NEEDS_FORCE);
    sync.copy_state = STATE_SUSPENDED;
    assert_int_equal(replica_verdict_of(&sync, OPERATION_RESUME), VERDICT_LEGAL);
    assert_int_equal(replica_verdict_of(&sync, OPERATION_DETACH), VERDICT_NEEDS_FORCE);
    sync.copy_state = STATE_BROKEN;
    assert_int_equal(replica_verdict_of(&sync, OPERATION_RESTORE), VERDICT_LEGAL);
    assert_int_equal(replica_verdict_of(&sync, OPERATION_RESYNC), VERDICT_NEEDS_FORCE);
}

static void test_who_may_write_to_a_mirror(void **state)
{
    (void)state;
    for (uint32_t copy_state = 2; copy_state <= STATE_LAST; copy_state++) {
        struct sync_row sync = {.sync_type = SYNC_MIRROR, .copy_state = copy_state};

        assert_int_equal(replica_mirror_target_free(copy_state), in_text("6 7 10", "", copy_state));
        assert_int_equal(replica_mirror_connected(&sync), in_text("3 4 16", "", copy_state));
        sync.sync_type = SYNC_CLONE;
        assert_false(replica_mirror_connected(&sync));
    }
}

static void test_hosts_have_what_is_filled_from_its_first_moment_on(void **state)
{
    (void)state;
    for (const uint32_t *s = replica_states(SYNC_CLONE, ENGINE_FILL); *s != 0; s++) {
        assert_int_equal(replica_host_accessible(ENGINE_FILL, *s), in_text("3 4 5 9 12", "", *s));
        assert_true(replica_host_accessible(ENGINE_COPY, *s));
    }
}

static void test_legal_operations_as_text(void **state)
{
    struct sync_row sync = {.sync_type = SYNC_SNAPSHOT,
                            .copy_type = 4,
                            .copy_methodology = 6,
                            .copy_state = STATE_INACTIVE};
    char text[320];

    (void)state;
    replica_legal_text(&sync, text, sizeof(text));
    assert_string_equal(text,
                        "Activate (4), Detach (8), Dissolve (9), Return To ResourcePool (19)");
    sync.sync_type = SYNC_MIRROR;
    sync.copy_type = 3;
    replica_legal_text(&sync, text, sizeof(text));
    assert_string_equal(text, "none");
    sync.copy_methodology = 4;
    sync.copy_state = STATE_FAILEDOVER;
    replica_legal_text(&sync, text, sizeof(text));
    assert_string_equal(text, "Detach (8), Failback (11)");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_operation_in_every_state),
        cmocka_unit_test(test_the_engine_of_a_relationship_is_its_methodology),
        cmocka_unit_test(test_no_state_is_a_dead_end),
        cmocka_unit_test(test_what_can_be_waited_for),
        cmocka_unit_test(test_types_that_are_made),
        cmocka_unit_test(test_the_legacy_state),
        cmocka_unit_test(test_a_half_done_restore),
        cmocka_unit_test(test_only_hosted_volumes_change_roles),
        cmocka_unit_test(test_a_mirror_that_is_restored),
        cmocka_unit_test(test_who_may_write_to_a_mirror),
        cmocka_unit_test(test_hosts_have_what_is_filled_from_its_first_moment_on),
        cmocka_unit_test(test_legal_operations_as_text),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
