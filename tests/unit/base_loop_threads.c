// SPDX-License-Identifier: Apache-2.0
/*
 * Loops in threads of their own: messages between them, and who may touch what. Worth most under
 * ThreadSanitizer.
 */
#include "tests/unit/testing.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/loop.h"

enum { SENDERS = 4, MESSAGES = 20000 };

struct message {
    struct loop_task task;
    int sender;
    int number;
};

struct sender {
    pthread_t thread;
    struct loop *target;
    int id;
    struct message messages[MESSAGES];
};

static int next_number[SENDERS]; /* belongs to the receiving loop */
static bool in_order = true;
static _Atomic int received;

static void message_received(void *arg)
{
    struct message *message = arg;
    in_order = in_order && message->number == next_number[message->sender];
    next_number[message->sender]++;
    atomic_fetch_add(&received, 1);
}

static void *send_all(void *arg)
{
    struct sender *sender = arg;
    for (int i = 0; i < MESSAGES; i++) {
        sender->messages[i] =
            (struct message){.task = {.fn = message_received, .arg = &sender->messages[i]},
                             .sender = sender->id,
                             .number = i};
        loop_post(sender->target, &sender->messages[i].task);
        if (i % 1000 == 0) {
            sched_yield();
        }
    }
    return NULL;
}

static void messages_of_many_threads_arrive_once_and_in_each_senders_order(void **state)
{
    (void)state;
    struct loop *loop;
    assert_int_equal(loop_new("receiver", &loop), 0);
    assert_int_equal(loop_thread_start(loop), 0);
    struct sender *senders = calloc(SENDERS, sizeof(*senders));
    for (int i = 0; i < SENDERS; i++) {
        senders[i].target = loop;
        senders[i].id = i;
        assert_int_equal(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    for (int i = 0; i < SENDERS; i++) {
        pthread_join(senders[i].thread, NULL);
    }
    /* Join stops behind everything that was posted before. */
    loop_thread_join(loop);
    assert_int_equal(atomic_load(&received), SENDERS * MESSAGES);
    assert_true(in_order);
    loop_free(loop);
    free(senders);
}

struct ball {
    struct loop_task task;
    struct loop *sides[2];
    int hits;
    _Atomic bool done;
};

static void ball_hit(void *arg)
{
    struct ball *ball = arg;
    assert_true(loop_is_current(ball->sides[ball->hits % 2]));
    if (++ball->hits == 20000) {
        atomic_store(&ball->done, true);
        return;
    }
    loop_post(ball->sides[ball->hits % 2], &ball->task);
}

static void one_task_can_travel_between_two_loops(void **state)
{
    (void)state;
    struct ball ball = {.task = {.fn = ball_hit, .arg = &ball}};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(loop_new("side", &ball.sides[i]), 0);
        assert_int_equal(loop_thread_start(ball.sides[i]), 0);
    }
    loop_post(ball.sides[0], &ball.task);
    while (!atomic_load(&ball.done)) {
        sched_yield();
    }
    for (int i = 0; i < 2; i++) {
        loop_thread_join(ball.sides[i]);
        loop_free(ball.sides[i]);
    }
    assert_int_equal(ball.hits, 20000);
}

struct ticker {
    struct loop *loop;
    struct loop_task start;
    struct loop_timer timer;
    struct loop_work work;
    int ticks;
    int worked;
    _Atomic bool done;
};

static void ticker_work_done(void *arg)
{
    struct ticker *ticker = arg;
    ticker->worked++;
    if (ticker->ticks < 20) {
        loop_timer_start(&ticker->timer, 100 * 1000);
    } else {
        atomic_store(&ticker->done, true);
    }
}

static void ticker_work_run(void *arg)
{
    (void)arg;
}

static void ticker_tick(void *arg)
{
    struct ticker *ticker = arg;
    ticker->ticks++;
    loop_work_submit(ticker->loop, &ticker->work);
}

static void ticker_start(void *arg)
{
    struct ticker *ticker = arg;
    loop_timer_init(&ticker->timer, ticker->loop, ticker_tick, ticker);
    ticker->work =
        (struct loop_work){.run = ticker_work_run, .done = ticker_work_done, .arg = ticker};
    loop_timer_start(&ticker->timer, 0);
}

static void loops_with_timers_and_work_run_side_by_side(void **state)
{
    (void)state;
    struct ticker tickers[3];
    for (int i = 0; i < 3; i++) {
        struct ticker *ticker = &tickers[i];
        memset(ticker, 0, sizeof(*ticker));
        assert_int_equal(loop_new("ticker", &ticker->loop), 0);
        ticker->start = (struct loop_task){.fn = ticker_start, .arg = ticker};
        assert_int_equal(loop_thread_start(ticker->loop), 0);
        loop_post(ticker->loop, &ticker->start);
    }
    for (int i = 0; i < 3; i++) {
        while (!atomic_load(&tickers[i].done)) {
            sched_yield();
        }
        loop_thread_join(tickers[i].loop);
        assert_int_equal(tickers[i].ticks, 20);
        assert_int_equal(tickers[i].worked, 20);
        loop_free(tickers[i].loop);
    }
}

static void ownership_follows_the_thread(void **state)
{
    (void)state;
    struct loop *loop;
    assert_int_equal(loop_new("owned", &loop), 0);
    assert_true(loop_is_current(loop));
    assert_int_equal(loop_thread_start(loop), 0);
    assert_false(loop_is_current(loop));
    loop_thread_join(loop);
    assert_true(loop_is_current(loop));
    /* A second life in another thread. */
    assert_int_equal(loop_thread_start(loop), 0);
    loop_thread_join(loop);
    loop_free(loop);
}

static void *use_foreign_loop(void *arg)
{
    struct loop_task task = {.fn = message_received};
    loop_defer(arg, &task);
    return NULL;
}

static void defer_from_another_thread(void *arg)
{
    struct loop *loop;
    (void)arg;
    if (loop_new("owned", &loop)) {
        _exit(0);
    }
    pthread_t thread;
    pthread_create(&thread, NULL, use_foreign_loop, loop);
    pthread_join(thread, NULL);
}

static void touching_another_threads_loop_is_a_failed_check(void **state)
{
    (void)state;
    assert_true(dies(defer_from_another_thread, NULL));
}

/* ---- lingering ---- */

enum { ROUND_TRIPS = 3000 };

struct table_tennis {
    struct loop *loops[2];
    struct loop_task task;
    unsigned n;
    _Atomic bool over;
    struct loop_timer late; /* of the first loop: nothing happens for a while, then this */
    struct timespec idle_from;
    _Atomic bool woken;
};

static void returned(void *arg)
{
    struct table_tennis *game = arg;
    if (++game->n == 2 * ROUND_TRIPS) {
        atomic_store(&game->over, true);
        return;
    }
    loop_post(game->loops[game->n % 2], &game->task);
}

static double thread_seconds(const struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (double)(now.tv_sec - since->tv_sec) + (double)(now.tv_nsec - since->tv_nsec) / 1e9;
}

static double idle_seconds;

static void was_idle(void *arg)
{
    struct table_tennis *game = arg;
    idle_seconds = thread_seconds(&game->idle_from);
    atomic_store(&game->woken, true);
}

static void be_idle(void *arg)
{
    struct table_tennis *game = arg;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &game->idle_from);
    loop_timer_init(&game->late, game->loops[0], was_idle, game);
    loop_timer_start(&game->late, 500000000);
}

static void wait_until(_Atomic bool *what)
{
    while (!atomic_load(what)) {
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    }
}

/* What comes is noticed whether the loop lingers or sleeps, and a loop that nothing comes to sleeps, its timers running. */
static void a_loop_that_lingers_hears_everything_and_sleeps_when_nothing_comes(void **state)
{
    (void)state;
    static struct table_tennis game;
    game.task = (struct loop_task){.fn = returned, .arg = &game};
    for (int i = 0; i < 2; i++) {
        assert_int_equal(loop_new("lingers", &game.loops[i]), 0);
        loop_linger(game.loops[i], 300000);
        assert_int_equal(loop_thread_start(game.loops[i]), 0);
    }
    loop_post(game.loops[0], &game.task);
    wait_until(&game.over);
    struct loop_task idle = {.fn = be_idle, .arg = &game};
    loop_post(game.loops[0], &idle);
    wait_until(&game.woken);
    assert_int_equal(game.n, 2 * ROUND_TRIPS);
    /* 0.3 ms after the last message and after each timer, not half a second. */
    assert_true(idle_seconds < 0.1);
    for (int i = 0; i < 2; i++) {
        loop_thread_join(game.loops[i]);
        loop_free(game.loops[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        /* First: it forks, and the others start libuv's worker threads. */
        cmocka_unit_test(touching_another_threads_loop_is_a_failed_check),
        cmocka_unit_test(messages_of_many_threads_arrive_once_and_in_each_senders_order),
        cmocka_unit_test(one_task_can_travel_between_two_loops),
        cmocka_unit_test(loops_with_timers_and_work_run_side_by_side),
        cmocka_unit_test(ownership_follows_the_thread),
        cmocka_unit_test(a_loop_that_lingers_hears_everything_and_sleeps_when_nothing_comes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
