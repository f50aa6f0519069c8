// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <errno.h>
#include <string.h>

#include "base/loop_sim.h"
#include "base/slice.h"

static void a_pool_gives_its_count_and_takes_them_back(void **state)
{
    (void)state;
    struct buffer_pool *pool;
    struct buffer *buffers[3];
    assert_int_equal(buffer_pool_new(5000, 3, &pool), 0);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 3; i++) {
            assert_int_equal(buffer_pool_available(pool), 3 - i);
            buffers[i] = buffer_pool_get(pool);
            assert_non_null(buffers[i]);
            assert_int_equal((uintptr_t)buffers[i]->data % 4096, 0);
            assert_int_equal(buffers[i]->size, 5000);
            memset(buffers[i]->data, i, 5000);
        }
        assert_null(buffer_pool_get(pool));
        for (int i = 0; i < 3; i++) {
            buffer_unref(buffers[i]);
        }
    }
    buffer_pool_free(pool);
    assert_int_equal(buffer_pool_new(0, 1, &pool), -EINVAL);
    assert_int_equal(buffer_pool_new(1, 0, &pool), -EINVAL);
}

static void a_buffer_returns_with_its_last_reference(void **state)
{
    (void)state;
    struct buffer_pool *pool;
    assert_int_equal(buffer_pool_new(4096, 1, &pool), 0);
    struct buffer *buffer = buffer_pool_get(pool);
    struct slice a = slice_of(buffer, 0, 4096);
    struct slice b = slice_of(buffer, 4096, 0);
    struct slice none = {0};
    buffer_unref(buffer);
    slice_unref(&a);
    assert_null(a.data);
    assert_int_equal(buffer_pool_available(pool), 0);
    slice_unref(&b);
    slice_unref(&none);
    assert_int_equal(buffer_pool_available(pool), 1);
    buffer_pool_free(pool);
}

static void slice_outside(void *arg)
{
    slice_of(arg, 4000, 97);
}

static void free_lent_pool(void *arg)
{
    buffer_pool_free(arg);
}

static void slices_outside_and_lent_buffers_are_failed_checks(void **state)
{
    (void)state;
    struct buffer_pool *pool;
    assert_int_equal(buffer_pool_new(4096, 1, &pool), 0);
    struct buffer *buffer = buffer_pool_get(pool);
    assert_true(dies(slice_outside, buffer));
    assert_true(dies(free_lent_pool, pool));
    buffer_unref(buffer);
    buffer_pool_free(pool);
}

struct waiter {
    struct loop_task task;
    struct buffer_pool *pool;
    struct buffer *got;
    int woken;
};

static void waiter_woken(void *arg)
{
    struct waiter *waiter = arg;
    waiter->woken++;
    waiter->got = buffer_pool_get(waiter->pool);
}

static void waiters_are_served_in_order_one_per_buffer(void **state)
{
    (void)state;
    struct loop_sim *sim;
    struct loop *loop;
    struct buffer_pool *pool;
    assert_int_equal(loop_sim_new(0, &sim), 0);
    assert_int_equal(loop_sim_add(sim, "test", &loop), 0);
    assert_int_equal(buffer_pool_new(64, 1, &pool), 0);
    struct waiter waiters[4];
    for (int i = 0; i < 4; i++) {
        waiters[i] =
            (struct waiter){.task = {.fn = waiter_woken, .arg = &waiters[i]}, .pool = pool};
    }
    /* A pool that is not empty answers without a buffer coming back. */
    buffer_pool_wait(pool, loop, &waiters[0].task);
    loop_sim_run_until_idle(sim);
    assert_non_null(waiters[0].got);

    for (int i = 1; i < 4; i++) {
        buffer_pool_wait(pool, loop, &waiters[i].task);
    }
    assert_true(buffer_pool_wait_cancel(pool, &waiters[2].task));
    assert_false(buffer_pool_wait_cancel(pool, &waiters[2].task));
    loop_sim_run_until_idle(sim);
    assert_null(waiters[1].got);
    buffer_unref(waiters[0].got);
    assert_null(waiters[1].got);
    loop_sim_run_until_idle(sim);
    assert_non_null(waiters[1].got);
    assert_int_equal(waiters[3].woken, 0);
    buffer_unref(waiters[1].got);
    loop_sim_run_until_idle(sim);
    assert_non_null(waiters[3].got);
    assert_int_equal(waiters[2].woken, 0);
    buffer_unref(waiters[3].got);
    buffer_pool_free(pool);
    loop_free(loop);
    loop_sim_free(sim);
}

static void zero_is_found_at_every_place_and_length(void **state)
{
    (void)state;
    static uint8_t data[2000];
    for (size_t len = 0; len < 1200; len = len < 40 ? len + 1 : len + 13) {
        for (size_t offset = 0; offset < 9; offset++) {
            memset(data, 0xff, sizeof(data));
            memset(data + offset, 0, len);
            assert_true(mem_is_zero(data + offset, len));
            for (size_t i = 0; i < len; i++) {
                data[offset + i] = 0x80;
                assert_false(mem_is_zero(data + offset, len));
                data[offset + i] = 0;
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_pool_gives_its_count_and_takes_them_back),
        cmocka_unit_test(a_buffer_returns_with_its_last_reference),
        cmocka_unit_test(slices_outside_and_lent_buffers_are_failed_checks),
        cmocka_unit_test(waiters_are_served_in_order_one_per_buffer),
        cmocka_unit_test(zero_is_found_at_every_place_and_length),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
