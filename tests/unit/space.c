// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <errno.h>
#include <pthread.h>

#include "base/random.h"
#include "block/space.h"

struct told {
    struct space space;
    atomic_uint times[2];
};

static void watch(void *arg, bool low)
{
    struct told *told = arg;
    atomic_fetch_add(&told->times[low], 1);
}

static void taking_stops_at_the_capacity(void **state)
{
    (void)state;
    struct space space;
    space_init(&space, 0);
    assert_int_equal(space_take(&space, UINT64_C(1) << 60), 0);
    space_init(&space, 100);
    assert_int_equal(space_take(&space, 60), 0);
    assert_int_equal(space_take(&space, 41), -ENOSPC);
    assert_int_equal(space_used(&space), 60);
    assert_int_equal(space_refused(&space), 1);
    assert_int_equal(space_take(&space, 40), 0);
    assert_int_equal(space_left(&space), 0);
    space_add(&space, 5); /* metadata is not refused */
    assert_int_equal(space_left(&space), 0);
    assert_int_equal(space_take(&space, 1), -ENOSPC);
    space_give(&space, 10);
    assert_int_equal(space_left(&space), 5);
    space_set_capacity(&space, 50); /* less than is used: no more until it is */
    assert_int_equal(space_take(&space, 1), -ENOSPC);
    space_set_capacity(&space, 200);
    assert_int_equal(space_take(&space, 105), 0);
}

static void each_crossing_of_the_threshold_is_told_once(void **state)
{
    (void)state;
    struct told told = {0};
    space_init(&told.space, 1000);
    space_watch(&told.space, 160, watch, &told);
    assert_int_equal(space_take(&told.space, 840), 0);
    assert_false(space_is_low(&told.space));
    assert_int_equal(space_take(&told.space, 1), 0);
    assert_true(space_is_low(&told.space));
    assert_int_equal(space_take(&told.space, 10), 0);
    assert_int_equal(told.times[true], 1);
    /* Over only when an eighth more is left: no flutter at the threshold. */
    space_give(&told.space, 30);
    assert_true(space_is_low(&told.space));
    space_give(&told.space, 1);
    assert_false(space_is_low(&told.space));
    assert_int_equal(told.times[false], 1);
    space_set_capacity(&told.space, 900);
    assert_int_equal(told.times[true], 2);
    space_set_low(&told.space, 0);
    assert_int_equal(told.times[false], 2);
}

enum { THREADS = 4, ROUNDS = 20000, CAPACITY = 1000 };

static void *take_and_give(void *arg)
{
    struct told *told = arg;
    struct random random;
    uint64_t mine = 0;
    random_seed(&random, (uint64_t)(uintptr_t)&random);
    for (unsigned i = 0; i < ROUNDS; i++) {
        uint64_t n = 1 + random_below(&random, CAPACITY / 2);
        if (random_chance(&random, 1, 2)) {
            mine += space_take(&told->space, n) == 0 ? n : 0;
        } else {
            n = n < mine ? n : mine;
            space_give(&told->space, n);
            mine -= n;
        }
        if (space_used(&told->space) > CAPACITY) {
            return NULL;
        }
    }
    space_give(&told->space, mine);
    return told;
}

static void threads_share_a_space_without_ever_exceeding_it(void **state)
{
    (void)state;
    pthread_t threads[THREADS];
    struct told told = {0};
    space_init(&told.space, CAPACITY);
    space_watch(&told.space, CAPACITY / 4, watch, &told);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, take_and_give, &told), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *ret;
        pthread_join(threads[i], &ret);
        assert_non_null(ret);
    }
    assert_int_equal(space_used(&told.space), 0);
    assert_false(space_is_low(&told.space));
    /* Low and over alternate, whatever the threads did at once. */
    assert_true(told.times[true] > 0);
    assert_int_equal(told.times[true], told.times[false]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(taking_stops_at_the_capacity),
        cmocka_unit_test(each_crossing_of_the_threshold_is_told_once),
        cmocka_unit_test(threads_share_a_space_without_ever_exceeding_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
