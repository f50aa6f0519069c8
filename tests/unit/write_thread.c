// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/testing.h"

#include <pthread.h>

#include "base/loop.h"
#include "block/write_thread.h"

enum { WORKS = 2000, ROUND = 50 };

struct numbered {
    struct loop_work work;
    struct world *world;
    unsigned number;
    bool ran;
};

static struct world {
    struct loop *loop;
    struct write_thread *thread;
    struct numbered works[WORKS];
    unsigned submitted, back;
    /* The thread's until the loop gets the work back. */
    unsigned ran;
    pthread_t ran_by;
    bool other_order;
    struct loop_task next_round;
} world;

static void work_run(void *arg)
{
    struct numbered *one = arg;
    one->world->other_order |= one->number != one->world->ran;
    one->world->ran++;
    one->world->ran_by = pthread_self();
    one->ran = true;
}

static void submit_round(void *arg);

static void work_done(void *arg)
{
    struct numbered *one = arg;
    struct world *w = one->world;
    assert_true(loop_is_current(w->loop));
    assert_true(one->ran);
    assert_int_equal(one->number, w->back);
    assert_false(pthread_equal(w->ran_by, pthread_self()));
    w->back++;
    if (w->back == WORKS) {
        /* Inside a done(): as when the last file of a thread is closed by it. */
        write_thread_put(w->thread);
        loop_stop(w->loop);
    } else if (w->back % ROUND == 0) {
        submit_round(w);
    }
}

static void submit_round(void *arg)
{
    struct world *w = arg;
    for (unsigned i = 0; i < ROUND; i++) {
        struct numbered *one = &w->works[w->submitted];
        one->world = w;
        one->number = w->submitted++;
        one->work = (struct loop_work){.run = work_run, .done = work_done, .arg = one};
        write_thread_submit(w->thread, &one->work);
    }
}

static void all_of_it_runs_in_order_on_another_thread_and_comes_back(void **state)
{
    (void)state;
    world = (struct world){0};
    assert_int_equal(loop_new("test", &world.loop), 0);
    world.thread = write_thread_get(world.loop, 1);
    assert_non_null(world.thread);
    submit_round(&world);
    loop_run(world.loop);
    assert_int_equal(world.back, WORKS);
    assert_false(world.other_order);
    loop_free(world.loop);
}

static void a_loop_has_one_for_each_file_system(void **state)
{
    (void)state;
    struct loop *loops[2];
    assert_int_equal(loop_new("a", &loops[0]), 0);
    assert_int_equal(loop_new("b", &loops[1]), 0);
    struct write_thread *first = write_thread_get(loops[0], 1);
    assert_ptr_equal(write_thread_get(loops[0], 1), first);
    struct write_thread *disk = write_thread_get(loops[0], 2);
    assert_ptr_not_equal(disk, first);
    struct write_thread *other = write_thread_get(loops[1], 1);
    assert_ptr_not_equal(other, first);
    write_thread_put(first);
    write_thread_put(first);
    write_thread_put(disk);
    write_thread_put(other);
    loop_free(loops[0]);
    loop_free(loops[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_of_it_runs_in_order_on_another_thread_and_comes_back),
        cmocka_unit_test(a_loop_has_one_for_each_file_system),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
