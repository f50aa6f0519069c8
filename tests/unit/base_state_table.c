// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include "base/log.h"
#include "base/state_table.h"

enum door_state { DOOR_OPEN, DOOR_CLOSED, DOOR_LOCKED, DOOR_STATE_COUNT };

static const struct state_table door_states = {
    .name = "door",
    .count = DOOR_STATE_COUNT,
    .names = {[DOOR_OPEN] = "open", [DOOR_CLOSED] = "closed", [DOOR_LOCKED] = "locked"},
    .moves =
        {
            [DOOR_OPEN] = STATE_TO(DOOR_CLOSED),
            [DOOR_CLOSED] = STATE_TO(DOOR_OPEN) | STATE_TO(DOOR_LOCKED),
            [DOOR_LOCKED] = STATE_TO(DOOR_CLOSED),
        },
};

struct door_move {
    enum door_state from;
    enum door_state to;
};

static void move_door(void *arg)
{
    struct door_move *move = arg;
    enum door_state state = move->from;
    state_move(&door_states, &state, move->to, "front");
    if (state != move->to) {
        _exit(1);
    }
}

static void every_pair_moves_or_dies_as_the_table_says(void **state)
{
    (void)state;
    static const bool allowed[3][3] = {{0, 1, 0}, {1, 0, 1}, {0, 1, 0}};
    for (enum door_state from = 0; from < DOOR_STATE_COUNT; from++) {
        for (enum door_state to = 0; to < DOOR_STATE_COUNT; to++) {
            struct door_move move = {from, to};
            assert_int_equal(state_may_move(&door_states, from, to), allowed[from][to]);
            assert_int_equal(dies(move_door, &move), !allowed[from][to]);
        }
    }
}

static void move_sets_the_new_state(void **state)
{
    (void)state;
    enum door_state door = DOOR_OPEN;
    state_move(&door_states, &door, DOOR_CLOSED, "front");
    assert_int_equal(door, DOOR_CLOSED);
    state_move(&door_states, &door, DOOR_LOCKED, "front");
    assert_int_equal(door, DOOR_LOCKED);
}

static void names_lead_both_ways(void **state)
{
    (void)state;
    for (unsigned s = 0; s < DOOR_STATE_COUNT; s++) {
        assert_int_equal(state_by_name(&door_states, state_name(&door_states, s)), s);
    }
    assert_int_equal(state_by_name(&door_states, "ajar"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_pair_moves_or_dies_as_the_table_says),
        cmocka_unit_test(move_sets_the_new_state),
        cmocka_unit_test(names_lead_both_ways),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
