// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <stdio.h>

#include "base/random.h"
#include "base/timer_heap.h"

enum { N_TIMERS = 200 };

static struct timer_heap heap;
static struct loop_timer timers[N_TIMERS];

static int empty_heap(void **state)
{
    (void)state;
    heap = (struct timer_heap){0};
    for (size_t i = 0; i < N_TIMERS; i++) {
        loop_timer_init(&timers[i], NULL, NULL, NULL);
    }
    return 0;
}

static int end_heap(void **state)
{
    (void)state;
    timer_heap_fini(&heap);
    return 0;
}

static void timers_come_in_order_of_due_time_and_then_of_start(void **state)
{
    (void)state;
    static const uint64_t due[] = {50, 10, 30, 10, 50, 20, 10};
    static const size_t order[] = {1, 3, 6, 5, 2, 0, 4};
    for (size_t i = 0; i < 7; i++) {
        timer_heap_put(&heap, &timers[i], due[i]);
    }
    for (size_t i = 0; i < 7; i++) {
        assert_ptr_equal(timer_heap_take_due(&heap, 100, UINT64_MAX), &timers[order[i]]);
    }
    assert_null(timer_heap_take_due(&heap, 100, UINT64_MAX));
}

static void what_is_not_due_or_started_too_late_stays(void **state)
{
    (void)state;
    timer_heap_put(&heap, &timers[0], 10);
    assert_null(timer_heap_take_due(&heap, 9, UINT64_MAX));
    assert_null(timer_heap_take_due(&heap, 10, timers[0].sequence));
    assert_ptr_equal(timer_heap_take_due(&heap, 10, timers[0].sequence + 1), &timers[0]);
    assert_false(loop_timer_pending(&timers[0]));
}

/* The model: the pending timer with the least (due, sequence), by looking at all of them. */
static struct loop_timer *model_first(void)
{
    struct loop_timer *first = NULL;
    for (size_t i = 0; i < N_TIMERS; i++) {
        struct loop_timer *timer = &timers[i];
        if (timer->heap_index != SIZE_MAX &&
            (!first || timer->due_ns < first->due_ns ||
             (timer->due_ns == first->due_ns && timer->sequence < first->sequence))) {
            first = timer;
        }
    }
    return first;
}

static void random_starts_restarts_and_stops_agree_with_a_model(void **state)
{
    (void)state;
    struct random random;
    random_seed(&random, 11);
    for (int step = 0; step < 50000; step++) {
        struct loop_timer *timer = &timers[random_below(&random, N_TIMERS)];
        switch (random_below(&random, 4)) {
        case 0:
        case 1:
            timer_heap_put(&heap, timer, random_below(&random, 64));
            break;
        case 2:
            if (loop_timer_pending(timer)) {
                timer_heap_remove(&heap, timer);
            }
            break;
        default: {
            struct loop_timer *first = model_first();
            uint64_t now = random_below(&random, 64);
            struct loop_timer *expected = first && first->due_ns <= now ? first : NULL;
            assert_ptr_equal(timer_heap_take_due(&heap, now, UINT64_MAX), expected);
        }
        }
        assert_ptr_equal(timer_heap_first(&heap), model_first());
    }
    while (timer_heap_first(&heap)) {
        struct loop_timer *first = model_first();
        assert_ptr_equal(timer_heap_take_due(&heap, UINT64_MAX, UINT64_MAX), first);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(timers_come_in_order_of_due_time_and_then_of_start,
                                        empty_heap, end_heap),
        cmocka_unit_test_setup_teardown(what_is_not_due_or_started_too_late_stays, empty_heap,
                                        end_heap),
        cmocka_unit_test_setup_teardown(random_starts_restarts_and_stops_agree_with_a_model,
                                        empty_heap, end_heap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
