// SPDX-License-Identifier: Apache-2.0
/*
 * The promises of base/loop.h, kept by the real loop and by the simulated one: each test runs on
 * both.
 */
#include "tests/unit/testing.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "base/loop.h"
#include "base/loop_sim.h"

enum { TRACE_SIZE = 4096 };

struct fixture {
    struct loop_sim *sim; /* NULL: the real loop */
    struct loop *loop;
    char trace[TRACE_SIZE];
    size_t len;
    size_t stop_at; /* length of the trace that ends the run, 0: none */
};

static struct fixture *fixture;

static int real_setup(void **state)
{
    fixture = calloc(1, sizeof(*fixture));
    assert_int_equal(loop_new("test", &fixture->loop), 0);
    *state = fixture;
    return 0;
}

static int sim_setup_seed(void **state, uint64_t seed)
{
    fixture = calloc(1, sizeof(*fixture));
    assert_int_equal(loop_sim_new(seed, &fixture->sim), 0);
    assert_int_equal(loop_sim_add(fixture->sim, "test", &fixture->loop), 0);
    *state = fixture;
    return 0;
}

static int sim_setup(void **state)
{
    return sim_setup_seed(state, 0);
}

static int shuffled_setup(void **state)
{
    return sim_setup_seed(state, 12345);
}

static int teardown(void **state)
{
    (void)state;
    loop_free(fixture->loop);
    loop_sim_free(fixture->sim);
    free(fixture);
    return 0;
}

static void trace(char c)
{
    assert_true(fixture->len < TRACE_SIZE - 1);
    fixture->trace[fixture->len++] = c;
    if (fixture->len == fixture->stop_at) {
        loop_stop(fixture->loop);
    }
}

static void trace_arg(void *arg)
{
    trace(*(const char *)arg);
}

static void stop(void *arg)
{
    (void)arg;
    loop_stop(fixture->loop);
}

static void run_until_stopped_after(uint64_t delay_ns)
{
    struct loop_timer timer;
    loop_timer_init(&timer, fixture->loop, stop, NULL);
    loop_timer_start(&timer, delay_ns);
    loop_run(fixture->loop);
}

static void run_until_trace_has(size_t len)
{
    fixture->stop_at = len;
    loop_run(fixture->loop);
}

static void posted_tasks_run_in_the_order_of_posting(void **state)
{
    (void)state;
    static const char letters[] = "abcdefghij";
    struct loop_task tasks[10];
    struct loop_task last = {.fn = stop};
    for (size_t i = 0; i < 10; i++) {
        tasks[i] = (struct loop_task){.fn = trace_arg, .arg = (void *)&letters[i]};
        loop_post(fixture->loop, &tasks[i]);
    }
    loop_post(fixture->loop, &last);
    loop_run(fixture->loop);
    assert_string_equal(fixture->trace, letters);
}

static void what_was_posted_before_the_stop_runs_and_the_loop_can_run_again(void **state)
{
    (void)state;
    struct loop_task first = {.fn = stop};
    struct loop_task after = {.fn = trace_arg, .arg = "x"};
    loop_post(fixture->loop, &first);
    loop_post(fixture->loop, &after);
    loop_run(fixture->loop);
    assert_string_equal(fixture->trace, "x");
    loop_post(fixture->loop, &after);
    loop_post(fixture->loop, &first);
    loop_run(fixture->loop);
    assert_string_equal(fixture->trace, "xx");
}

static void a_stop_before_the_run_lets_it_return_at_once(void **state)
{
    (void)state;
    struct loop_task task = {.fn = trace_arg, .arg = "x"};
    loop_post(fixture->loop, &task);
    loop_stop(fixture->loop);
    loop_run(fixture->loop);
    assert_string_equal(fixture->trace, "x");
}

static struct loop_task repeat_task;

static void repeat(void *arg)
{
    int *left = arg;
    trace('r');
    if (--*left > 0) {
        loop_post(fixture->loop, &repeat_task);
    } else {
        loop_stop(fixture->loop);
    }
}

static void a_task_may_post_itself_again(void **state)
{
    (void)state;
    int left = 100;
    repeat_task = (struct loop_task){.fn = repeat, .arg = &left};
    loop_post(fixture->loop, &repeat_task);
    loop_run(fixture->loop);
    assert_int_equal(fixture->len, 100);
}

struct heap_task {
    struct loop_task task;
    char c;
};

static void trace_and_free(void *arg)
{
    struct heap_task *task = arg;
    trace(task->c);
    free(task);
}

static void a_task_may_be_freed_when_it_runs(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        struct heap_task *task = calloc(1, sizeof(*task));
        task->task = (struct loop_task){.fn = trace_and_free, .arg = task};
        task->c = 'f';
        if (i % 2) {
            loop_post(fixture->loop, &task->task);
        } else {
            loop_defer(fixture->loop, &task->task);
        }
    }
    run_until_stopped_after(MS_NS);
    assert_int_equal(fixture->len, 20);
}

static struct loop_task deferred_a = {.fn = trace_arg, .arg = "a"};
static struct loop_task deferred_b = {.fn = trace_arg, .arg = "b"};

static void trace_and_defer(void *arg)
{
    (void)arg;
    loop_defer(fixture->loop, &deferred_a);
    loop_defer(fixture->loop, &deferred_b);
    trace('1');
}

static void deferred_tasks_run_after_the_function_that_deferred_them_in_order(void **state)
{
    (void)state;
    struct loop_task task = {.fn = trace_and_defer};
    loop_post(fixture->loop, &task);
    run_until_stopped_after(MS_NS);
    assert_string_equal(fixture->trace, "1ab");
}

static void deferred_tasks_do_not_wait_for_a_timer(void **state)
{
    (void)state;
    uint64_t begin_ns = loop_now_ns(fixture->loop);
    struct loop_timer timer;
    loop_timer_init(&timer, fixture->loop, trace_arg, "t");
    loop_timer_start(&timer, 3600 * SEC_NS);
    struct loop_task task = {.fn = stop};
    loop_defer(fixture->loop, &task);
    loop_run(fixture->loop);
    assert_true(loop_now_ns(fixture->loop) - begin_ns < 100 * SEC_NS);
    loop_timer_stop(&timer);
    assert_string_equal(fixture->trace, "");
}

static struct loop_task chain_task;

static void defer_again(void *arg)
{
    int *left = arg;
    if (--*left > 0) {
        loop_defer(fixture->loop, &chain_task);
    } else {
        loop_stop(fixture->loop);
    }
}

static void a_long_chain_of_deferred_tasks_does_not_starve_posted_ones(void **state)
{
    (void)state;
    int left = 10000;
    struct loop_task posted = {.fn = trace_arg, .arg = "p"};
    chain_task = (struct loop_task){.fn = defer_again, .arg = &left};
    loop_defer(fixture->loop, &chain_task);
    loop_post(fixture->loop, &posted);
    loop_run(fixture->loop);
    assert_int_equal(left, 0);
    assert_string_equal(fixture->trace, "p");
}

static void timers_fire_in_the_order_of_their_due_times_and_not_early(void **state)
{
    (void)state;
    static const uint64_t delays_ms[] = {30, 10, 20, 10, 0};
    static const char letters[] = "31425";
    struct loop_timer timers[5];
    uint64_t begin_ns = loop_now_ns(fixture->loop);
    for (size_t i = 0; i < 5; i++) {
        loop_timer_init(&timers[i], fixture->loop, trace_arg, (void *)&letters[i]);
        assert_false(loop_timer_pending(&timers[i]));
        loop_timer_start(&timers[i], delays_ms[i] * MS_NS);
        assert_true(loop_timer_pending(&timers[i]));
    }
    run_until_stopped_after(40 * MS_NS);
    assert_true(loop_now_ns(fixture->loop) - begin_ns >= 40 * MS_NS);
    assert_string_equal(fixture->trace, "51243");
    for (size_t i = 0; i < 5; i++) {
        assert_false(loop_timer_pending(&timers[i]));
    }
}

static struct loop_timer early;
static struct loop_task start_early_task;

static void start_early(void *arg)
{
    int *rounds = arg;
    if (--*rounds > 0) {
        loop_post(fixture->loop, &start_early_task);
        return;
    }
    loop_timer_start(&early, MS_NS);
}

static void an_early_timer_does_not_wait_for_a_late_one_that_was_started_before(void **state)
{
    (void)state;
    int rounds = 5;
    struct loop_timer late;
    loop_timer_init(&late, fixture->loop, trace_arg, "l");
    loop_timer_init(&early, fixture->loop, stop, NULL);
    loop_timer_start(&late, 3600 * SEC_NS);
    /* By then the loop has prepared itself to wait for the late one. */
    start_early_task = (struct loop_task){.fn = start_early, .arg = &rounds};
    loop_post(fixture->loop, &start_early_task);
    loop_run(fixture->loop);
    assert_string_equal(fixture->trace, "");
    loop_timer_stop(&late);
}

static void starting_a_pending_timer_moves_it(void **state)
{
    (void)state;
    struct loop_timer a;
    struct loop_timer b;
    loop_timer_init(&a, fixture->loop, trace_arg, "a");
    loop_timer_init(&b, fixture->loop, trace_arg, "b");
    loop_timer_start(&a, 5 * MS_NS);
    loop_timer_start(&b, 10 * MS_NS);
    loop_timer_start(&a, 15 * MS_NS);
    run_until_stopped_after(25 * MS_NS);
    assert_string_equal(fixture->trace, "ba");
}

static struct loop_timer victim;

static void stop_the_victim(void *arg)
{
    (void)arg;
    trace('k');
    loop_timer_stop(&victim);
    loop_timer_stop(&victim);
}

static void a_timer_that_was_stopped_does_not_fire_even_when_due(void **state)
{
    (void)state;
    struct loop_timer killer;
    loop_timer_init(&killer, fixture->loop, stop_the_victim, NULL);
    loop_timer_init(&victim, fixture->loop, trace_arg, "v");
    /* Both are due in the same round. */
    loop_timer_start(&killer, 0);
    loop_timer_start(&victim, 0);
    run_until_stopped_after(5 * MS_NS);
    assert_string_equal(fixture->trace, "k");
    assert_false(loop_timer_pending(&victim));
}

static struct loop_timer periodic;

static void tick(void *arg)
{
    int *left = arg;
    trace('t');
    assert_false(loop_timer_pending(&periodic));
    if (--*left > 0) {
        loop_timer_start(&periodic, 0);
    } else {
        loop_stop(fixture->loop);
    }
}

static void a_timer_may_start_itself_again(void **state)
{
    (void)state;
    int left = 20;
    loop_timer_init(&periodic, fixture->loop, tick, &left);
    loop_timer_start(&periodic, 0);
    loop_run(fixture->loop);
    assert_int_equal(fixture->len, 20);
}

static void a_timer_with_an_endless_delay_never_fires(void **state)
{
    (void)state;
    struct loop_timer timer;
    loop_timer_init(&timer, fixture->loop, trace_arg, "x");
    loop_timer_start(&timer, UINT64_MAX);
    run_until_stopped_after(5 * MS_NS);
    assert_true(loop_timer_pending(&timer));
    loop_timer_stop(&timer);
    assert_string_equal(fixture->trace, "");
}

struct pair {
    int fds[2];
    struct loop_poll *poll;
    int seen;
};

static void pair_open(struct pair *pair, loop_poll_fn fn)
{
    pair->seen = 0;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair->fds), 0);
    assert_int_equal(loop_poll_new(fixture->loop, pair->fds[0], fn, pair, &pair->poll), 0);
}

static void read_one(void *arg, int events)
{
    struct pair *pair = arg;
    char c;
    pair->seen |= events;
    if (read(pair->fds[0], &c, 1) == 1) {
        trace(c);
    }
}

static void a_poll_reports_what_is_set_and_nothing_else(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, read_one);
    assert_int_equal(write(pair.fds[1], "xyz", 3), 3);
    run_until_stopped_after(5 * MS_NS);
    assert_string_equal(fixture->trace, "");

    loop_poll_set(pair.poll, LOOP_READ);
    loop_poll_set(pair.poll, LOOP_READ);
    run_until_trace_has(3);
    assert_string_equal(fixture->trace, "xyz");
    assert_int_equal(pair.seen, LOOP_READ);

    loop_poll_set(pair.poll, LOOP_WRITE);
    loop_poll_set(pair.poll, 0);
    pair.seen = 0;
    run_until_stopped_after(5 * MS_NS);
    assert_int_equal(pair.seen, 0);
    loop_poll_free(pair.poll);
    close(pair.fds[0]);
    close(pair.fds[1]);
}

static void writable_once(void *arg, int events)
{
    struct pair *pair = arg;
    pair->seen = events;
    loop_poll_set(pair->poll, 0);
    loop_stop(fixture->loop);
}

static void a_writable_socket_is_reported(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, writable_once);
    loop_poll_set(pair.poll, LOOP_READ | LOOP_WRITE);
    loop_run(fixture->loop);
    assert_int_equal(pair.seen, LOOP_WRITE);
    loop_poll_free(pair.poll);
    close(pair.fds[0]);
    close(pair.fds[1]);
}

static void free_in_callback(void *arg, int events)
{
    struct pair *pair = arg;
    pair->seen = events;
    trace('f');
    loop_poll_free(pair->poll);
    close(pair->fds[0]);
    close(pair->fds[1]);
}

static void a_poll_may_be_freed_and_its_socket_closed_in_its_callback(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, free_in_callback);
    assert_int_equal(write(pair.fds[1], "x", 1), 1);
    loop_poll_set(pair.poll, LOOP_READ);
    run_until_stopped_after(5 * MS_NS);
    assert_string_equal(fixture->trace, "f");
}

static struct pair pairs[2];

static void free_both(void *arg, int events)
{
    (void)arg;
    (void)events;
    trace('f');
    for (int i = 0; i < 2; i++) {
        loop_poll_free(pairs[i].poll);
        close(pairs[i].fds[0]);
        close(pairs[i].fds[1]);
    }
}

static void a_poll_that_was_freed_in_the_same_round_stays_silent(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        pair_open(&pairs[i], free_both);
        assert_int_equal(write(pairs[i].fds[1], "x", 1), 1);
        loop_poll_set(pairs[i].poll, LOOP_READ);
    }
    run_until_stopped_after(5 * MS_NS);
    assert_string_equal(fixture->trace, "f");
}

static void a_descriptor_number_can_be_watched_again_at_once(void **state)
{
    (void)state;
    for (int i = 0; i < 50; i++) {
        struct pair pair;
        pair_open(&pair, read_one);
        loop_poll_set(pair.poll, LOOP_READ);
        if (i % 3 == 0) {
            run_until_stopped_after(0);
        }
        loop_poll_free(pair.poll);
        close(pair.fds[0]);
        close(pair.fds[1]);
    }
    struct pair pair;
    pair_open(&pair, read_one);
    loop_poll_set(pair.poll, LOOP_READ);
    assert_int_equal(write(pair.fds[1], "z", 1), 1);
    run_until_stopped_after(5 * MS_NS);
    assert_string_equal(fixture->trace, "z");
    loop_poll_free(pair.poll);
    close(pair.fds[0]);
    close(pair.fds[1]);
}

static void count_hangups(void *arg, int events)
{
    struct pair *pair = arg;
    pair->seen |= events;
    trace('h');
}

static void a_lost_peer_is_reported_until_somebody_reacts(void **state)
{
    (void)state;
    struct pair pair;
    pair_open(&pair, count_hangups);
    loop_poll_set(pair.poll, LOOP_READ);
    close(pair.fds[1]);
    run_until_trace_has(3);
    assert_true(pair.seen & LOOP_READ);
    loop_poll_free(pair.poll);
    close(pair.fds[0]);
}

struct job {
    struct loop_work work;
    int input;
    int output;
    struct job *next;
};

static int jobs_done;

static void job_run(void *arg)
{
    struct job *job = arg;
    job->output = job->input * job->input;
}

static void job_done(void *arg)
{
    struct job *job = arg;
    assert_true(loop_is_current(fixture->loop));
    assert_int_equal(job->output, job->input * job->input);
    jobs_done++;
    if (job->next) {
        loop_work_submit(fixture->loop, &job->next->work);
    }
    if (jobs_done == 100) {
        loop_stop(fixture->loop);
    }
}

static void work_runs_elsewhere_and_ends_on_the_loop(void **state)
{
    (void)state;
    struct job jobs[100];
    jobs_done = 0;
    for (int i = 0; i < 100; i++) {
        jobs[i] = (struct job){.work = {.run = job_run, .done = job_done, .arg = &jobs[i]},
                               .input = i,
                               .output = -1,
                               .next = i < 50 ? &jobs[i + 50] : NULL};
    }
    for (int i = 0; i < 50; i++) {
        loop_work_submit(fixture->loop, &jobs[i].work);
    }
    loop_run(fixture->loop);
    assert_int_equal(jobs_done, 100);
}

static void clocks_move_forward(void **state)
{
    (void)state;
    uint64_t wall_ms = loop_wall_ms(fixture->loop);
    assert_true(wall_ms > 1700000000000u);
    run_until_stopped_after(20 * MS_NS);
    assert_in_range(loop_wall_ms(fixture->loop) - wall_ms, 10, 10000);
    assert_string_equal(loop_name(fixture->loop), "test");
}

static void free_with_pending_timer(void *arg)
{
    (void)arg;
    struct loop_timer timer;
    loop_timer_init(&timer, fixture->loop, stop, NULL);
    loop_timer_start(&timer, SEC_NS);
    loop_free(fixture->loop);
}

static void free_with_open_poll(void *arg)
{
    (void)arg;
    struct pair pair;
    pair_open(&pair, read_one);
    loop_free(fixture->loop);
}

static void freeing_a_loop_that_is_in_use_is_a_failed_check(void **state)
{
    (void)state;
    assert_true(dies(free_with_pending_timer, NULL));
    assert_true(dies(free_with_open_poll, NULL));
}

#define ON_BOTH(claim)                                                                             \
    {"real: " #claim, claim, real_setup, teardown, NULL},                                          \
        {"simulated: " #claim, claim, sim_setup, teardown, NULL},                                  \
    {                                                                                              \
        "shuffled: " #claim, claim, shuffled_setup, teardown, NULL                                 \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_BOTH(posted_tasks_run_in_the_order_of_posting),
        ON_BOTH(what_was_posted_before_the_stop_runs_and_the_loop_can_run_again),
        ON_BOTH(a_stop_before_the_run_lets_it_return_at_once),
        ON_BOTH(a_task_may_post_itself_again),
        ON_BOTH(a_task_may_be_freed_when_it_runs),
        ON_BOTH(deferred_tasks_run_after_the_function_that_deferred_them_in_order),
        ON_BOTH(deferred_tasks_do_not_wait_for_a_timer),
        ON_BOTH(a_long_chain_of_deferred_tasks_does_not_starve_posted_ones),
        ON_BOTH(timers_fire_in_the_order_of_their_due_times_and_not_early),
        ON_BOTH(an_early_timer_does_not_wait_for_a_late_one_that_was_started_before),
        ON_BOTH(starting_a_pending_timer_moves_it),
        ON_BOTH(a_timer_that_was_stopped_does_not_fire_even_when_due),
        ON_BOTH(a_timer_may_start_itself_again),
        ON_BOTH(a_timer_with_an_endless_delay_never_fires),
        ON_BOTH(a_poll_reports_what_is_set_and_nothing_else),
        ON_BOTH(a_writable_socket_is_reported),
        ON_BOTH(a_poll_may_be_freed_and_its_socket_closed_in_its_callback),
        ON_BOTH(a_poll_that_was_freed_in_the_same_round_stays_silent),
        ON_BOTH(a_descriptor_number_can_be_watched_again_at_once),
        ON_BOTH(a_lost_peer_is_reported_until_somebody_reacts),
        ON_BOTH(work_runs_elsewhere_and_ends_on_the_loop),
        ON_BOTH(clocks_move_forward),
        ON_BOTH(freeing_a_loop_that_is_in_use_is_a_failed_check),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
