// SPDX-License-Identifier: Apache-2.0
/*
 * What only the simulation promises: virtual time, several loops, an order that follows from the
 * seed. What it has in common with the real loop is in base_loop.c.
 */
#include "tests/unit/testing.h"

#include <stdio.h>
#include <string.h>

#include "base/loop_sim.h"

enum { N_LOOPS = 3, TRACE_SIZE = 512 };

struct world {
    struct loop_sim *sim;
    struct loop *loops[N_LOOPS];
    char trace[TRACE_SIZE];
    size_t len;
};

static void world_begin(struct world *world, uint64_t seed)
{
    memset(world, 0, sizeof(*world));
    assert_int_equal(loop_sim_new(seed, &world->sim), 0);
    for (int i = 0; i < N_LOOPS; i++) {
        assert_int_equal(loop_sim_add(world->sim, "sim", &world->loops[i]), 0);
    }
}

static void world_end(struct world *world)
{
    for (int i = 0; i < N_LOOPS; i++) {
        loop_free(world->loops[i]);
    }
    loop_sim_free(world->sim);
}

struct letter {
    struct world *world;
    struct loop_task task;
    struct loop_timer timer;
    struct loop_work work;
    char c;
};

static void letter_trace(void *arg)
{
    struct letter *letter = arg;
    letter->world->trace[letter->world->len++] = letter->c;
}

static void work_nothing(void *arg)
{
    (void)arg;
}

static void time_moves_only_when_told(void **state)
{
    (void)state;
    struct world world;
    struct letter a = {.world = &world, .c = 'a'};
    world_begin(&world, 0);
    uint64_t begin_ns = loop_sim_now_ns(world.sim);
    loop_timer_init(&a.timer, world.loops[0], letter_trace, &a);
    loop_timer_start(&a.timer, 3600 * SEC_NS);
    assert_int_equal(loop_sim_next_due_ns(world.sim), begin_ns + 3600 * SEC_NS);
    loop_sim_run_until_idle(world.sim);
    assert_int_equal(loop_sim_now_ns(world.sim), begin_ns);
    loop_sim_advance(world.sim, 3599 * SEC_NS);
    assert_string_equal(world.trace, "");
    loop_sim_advance(world.sim, 2 * SEC_NS);
    assert_string_equal(world.trace, "a");
    assert_int_equal(loop_now_ns(world.loops[1]), begin_ns + 3601 * SEC_NS);
    assert_int_equal(loop_sim_next_due_ns(world.sim), UINT64_MAX);
    world_end(&world);
}

struct clocked {
    struct loop_timer timer;
    struct loop *loop;
    uint64_t expected_ns;
    int left;
};

static void clocked_fire(void *arg)
{
    struct clocked *clocked = arg;
    assert_int_equal(loop_now_ns(clocked->loop), clocked->expected_ns);
    if (--clocked->left > 0) {
        clocked->expected_ns += 7 * MS_NS;
        loop_timer_start(&clocked->timer, 7 * MS_NS);
    }
}

static void a_timer_sees_exactly_its_due_time(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world, 9);
    struct clocked clocked = {.loop = world.loops[0], .left = 100};
    clocked.expected_ns = loop_sim_now_ns(world.sim) + 1;
    loop_timer_init(&clocked.timer, world.loops[0], clocked_fire, &clocked);
    loop_timer_start(&clocked.timer, 1);
    loop_sim_advance(world.sim, SEC_NS);
    assert_int_equal(clocked.left, 0);
    world_end(&world);
}

static void run_mixture(uint64_t seed, char trace[TRACE_SIZE])
{
    struct world world;
    world_begin(&world, seed);
    struct letter letters[24];
    for (int i = 0; i < 24; i++) {
        struct loop *loop = world.loops[i % N_LOOPS];
        letters[i] = (struct letter){.world = &world, .c = (char)('a' + i)};
        letters[i].task = (struct loop_task){.fn = letter_trace, .arg = &letters[i]};
        switch (i / N_LOOPS % 4) {
        case 0:
            loop_post(loop, &letters[i].task);
            break;
        case 1:
            loop_defer(loop, &letters[i].task);
            break;
        case 2:
            letters[i].work =
                (struct loop_work){.run = work_nothing, .done = letter_trace, .arg = &letters[i]};
            loop_work_submit(loop, &letters[i].work);
            break;
        default:
            loop_timer_init(&letters[i].timer, loop, letter_trace, &letters[i]);
            loop_timer_start(&letters[i].timer, 0);
        }
    }
    loop_sim_run_until_idle(world.sim);
    assert_int_equal(world.len, 24);
    memcpy(trace, world.trace, TRACE_SIZE);
    world_end(&world);
}

static void a_seed_repeats_its_run_and_another_seed_makes_another(void **state)
{
    (void)state;
    char once[TRACE_SIZE];
    char again[TRACE_SIZE];
    char before[TRACE_SIZE] = "";
    int different = 0;
    for (uint64_t seed = 0; seed < 100; seed++) {
        run_mixture(seed, once);
        run_mixture(seed, again);
        assert_string_equal(once, again);
        different += strcmp(once, before) != 0;
        memcpy(before, once, TRACE_SIZE);
        /* Of one loop, posted before posted, timer before timer (letters 12 apart). */
        for (char c = 'a'; c < 'd'; c++) {
            assert_true(strchr(once, c) < strchr(once, c + 12));
            assert_true(strchr(once, c + 3) < strchr(once, c + 15));
            assert_true(strchr(once, c + 9) < strchr(once, c + 21));
        }
    }
    assert_true(different > 95);
}

static void seed_zero_takes_the_loops_in_turn(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world, 0);
    struct letter letters[9];
    for (int i = 0; i < 9; i++) {
        letters[i] = (struct letter){.world = &world, .c = (char)('a' + i)};
        letters[i].task = (struct loop_task){.fn = letter_trace, .arg = &letters[i]};
        loop_post(world.loops[i / 3], &letters[i].task);
    }
    loop_sim_run_until_idle(world.sim);
    assert_string_equal(world.trace, "adgbehcfi");
    world_end(&world);
}

static bool trace_has_two(void *arg)
{
    struct world *world = arg;
    return world->len >= 2;
}

static void running_until_a_condition_stops_there_or_says_it_cannot(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world, 0);
    uint64_t begin_ns = loop_sim_now_ns(world.sim);
    struct letter letters[3];
    for (int i = 0; i < 3; i++) {
        letters[i] = (struct letter){.world = &world, .c = (char)('a' + i)};
        loop_timer_init(&letters[i].timer, world.loops[i], letter_trace, &letters[i]);
        loop_timer_start(&letters[i].timer, (uint64_t)(i + 1) * SEC_NS);
    }
    assert_false(loop_sim_run_until(world.sim, trace_has_two, &world, SEC_NS));
    assert_true(loop_sim_run_until(world.sim, trace_has_two, &world, UINT64_MAX));
    assert_int_equal(loop_sim_now_ns(world.sim), begin_ns + 2 * SEC_NS);
    assert_string_equal(world.trace, "ab");
    world.len = 0;
    assert_false(loop_sim_run_until(world.sim, trace_has_two, &world, UINT64_MAX));
    world_end(&world);
}

/* 40 messages to each of two loops: while one stands still the other goes on; each gets its own in order, and time has passed. */
static void a_stalled_loop_stands_still_alone(void **state)
{
    (void)state;
    enum { N = 40, MOST_NS = 1000 };
    struct world world;
    static struct letter letters[2][N];
    unsigned next[2] = {0};
    unsigned turns = 0;
    world_begin(&world, 5);
    loop_sim_stall(world.sim, MOST_NS);
    uint64_t began_ns = loop_sim_now_ns(world.sim);
    for (unsigned i = 0; i < 2 * N; i++) {
        struct letter *letter = &letters[i % 2][i / 2];
        *letter = (struct letter){.world = &world, .c = (char)(i % 2 ? 'a' + i / 2 : 'A' + i / 2)};
        letter->task = (struct loop_task){.fn = letter_trace, .arg = letter};
        loop_post(world.loops[i % 2], &letter->task);
    }
    loop_sim_run_until_idle(world.sim);
    assert_true(world.len < 2 * N); /* both stand still */
    loop_sim_advance(world.sim, 2 * N * MOST_NS);
    assert_int_equal(world.len, 2 * N);
    assert_true(loop_sim_now_ns(world.sim) > began_ns);
    for (unsigned i = 0; i < 2 * N; i++) {
        unsigned of = 0;
        while (of < 2 && (next[of] == N || letters[of][next[of]].c != world.trace[i])) {
            of++;
        }
        assert_true(of < 2);
        next[of]++;
        turns += i > 0 && (letters[of][next[of] - 1].c - world.trace[i - 1] != 1);
    }
    assert_true(turns > 4);
    loop_sim_stall(world.sim, 0);
    world_end(&world);
}

static void defer_on_the_wrong_loop(void *arg)
{
    struct world *world = arg;
    static struct loop_task task = {.fn = work_nothing};
    loop_defer(world->loops[1], &task);
}

static void run_defer_on_the_wrong_loop(void *arg)
{
    struct world *world = arg;
    struct loop_task task = {.fn = defer_on_the_wrong_loop, .arg = world};
    loop_post(world->loops[0], &task);
    loop_sim_run_until_idle(world->sim);
}

static void wait_for_nothing(void *arg)
{
    struct world *world = arg;
    loop_run(world->loops[0]);
}

static void foreign_loops_and_waiting_for_nothing_are_failed_checks(void **state)
{
    (void)state;
    struct world world;
    world_begin(&world, 0);
    assert_true(dies(run_defer_on_the_wrong_loop, &world));
    assert_true(dies(wait_for_nothing, &world));
    world_end(&world);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(time_moves_only_when_told),
        cmocka_unit_test(a_timer_sees_exactly_its_due_time),
        cmocka_unit_test(a_seed_repeats_its_run_and_another_seed_makes_another),
        cmocka_unit_test(seed_zero_takes_the_loops_in_turn),
        cmocka_unit_test(running_until_a_condition_stops_there_or_says_it_cannot),
        cmocka_unit_test(a_stalled_loop_stands_still_alone),
        cmocka_unit_test(foreign_loops_and_waiting_for_nothing_are_failed_checks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
