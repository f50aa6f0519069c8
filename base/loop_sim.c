// SPDX-License-Identifier: Apache-2.0
#include "base/loop_sim.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "base/list.h"
#include "base/log.h"
#include "base/loop_ops.h"
#include "base/timer_heap.h"

/* More steps than any test takes without time moving: something posts itself for ever. */
enum { STEPS_WITHOUT_REST = 50 * 1000 * 1000, STALL_ONE_OF = 8 };

/* 2025-01-01T00:00:00Z */
#define WALL_START_MS 1735689600000ull

struct loop_sim {
    uint64_t now_ns;
    bool shuffled;
    uint64_t stall_ns;
    struct random random;
    struct list loops;
    struct sim_loop *current; /* whose function runs now */
    const char *thread;
};

struct task_queue {
    struct loop_task *first;
    struct loop_task **end;
};

/* Works are linked through private_data. */
struct work_queue {
    struct loop_work *first;
    unsigned count;
};

struct sim_loop {
    struct loop base;
    struct loop_sim *sim;
    struct list link;
    struct task_queue posted;
    struct task_queue deferred;
    struct timer_heap timers;
    struct work_queue to_run;
    struct work_queue to_finish;
    struct list polls;
    uint64_t stalled_until_ns;
    bool stopping;
    bool threaded;
};

struct sim_poll {
    struct loop_poll base;
    struct list link;
    int fd;
    int events;
    loop_poll_fn fn;
    void *arg;
};

/* What a loop can do next, in the order that an unshuffled simulation prefers. */
enum step_kind {
    STEP_DEFERRED,
    STEP_TIMER,
    STEP_POSTED,
    STEP_WORK_FINISH,
    STEP_WORK_RUN,
    STEP_POLL,
    STEP_KIND_COUNT,
};

static _Thread_local char thread_identity;

static struct sim_loop *of_loop(struct loop *loop)
{
    return container_of(loop, struct sim_loop, base);
}

static void queue_init(struct task_queue *queue)
{
    queue->first = NULL;
    queue->end = &queue->first;
}

static void queue_push(struct task_queue *queue, struct loop_task *task)
{
    task->next = NULL;
    *queue->end = task;
    queue->end = &task->next;
}

static void work_push(struct work_queue *queue, struct loop_work *work)
{
    void **end = (void **)&queue->first;
    for (struct loop_work *at = queue->first; at; at = at->private_data) {
        end = &at->private_data;
    }
    work->private_data = NULL;
    *end = work;
    queue->count++;
}

static struct loop_work *work_take(struct loop_sim *sim, struct work_queue *queue)
{
    /* Workers are as fast as they like: any of them may be the next. */
    uint64_t index = sim->shuffled ? random_below(&sim->random, queue->count) : 0;
    void **at = (void **)&queue->first;
    for (; index > 0; index--) {
        at = &((struct loop_work *)*at)->private_data;
    }
    struct loop_work *work = *at;
    *at = work->private_data;
    queue->count--;
    return work;
}

/* The poll of the loop that is ready (a random one of them), and for what. */
static struct sim_poll *ready_poll(struct sim_loop *loop, int *ret_events)
{
    struct sim_poll *chosen = NULL;
    uint64_t n_ready = 0;
    list_for_each(link, &loop->polls)
    {
        struct sim_poll *poll_ = list_entry(link, struct sim_poll, link);
        if (poll_->events == 0) {
            continue;
        }
        struct pollfd fd = {.fd = poll_->fd,
                            .events = (short)((poll_->events & LOOP_READ ? POLLIN : 0) |
                                              (poll_->events & LOOP_WRITE ? POLLOUT : 0))};
        if (poll(&fd, 1, 0) != 1) {
            continue;
        }
        n_ready++;
        if (chosen && (!loop->sim->shuffled || random_below(&loop->sim->random, n_ready) != 0)) {
            continue;
        }
        chosen = poll_;
        *ret_events = fd.revents & (POLLERR | POLLNVAL)
                          ? LOOP_READ | LOOP_WRITE
                          : ((fd.revents & (POLLIN | POLLHUP) ? LOOP_READ : 0) |
                             (fd.revents & (POLLOUT | POLLHUP) ? LOOP_WRITE : 0)) &
                                poll_->events;
    }
    return chosen;
}

static bool is_ready(struct sim_loop *loop, enum step_kind kind)
{
    int events;
    const struct loop_timer *timer;
    switch (kind) {
    case STEP_DEFERRED:
        return loop->deferred.first != NULL;
    case STEP_TIMER:
        timer = timer_heap_first(&loop->timers);
        return timer && timer->due_ns <= loop->sim->now_ns;
    case STEP_POSTED:
        return loop->posted.first != NULL;
    case STEP_WORK_FINISH:
        return loop->to_finish.count > 0;
    case STEP_WORK_RUN:
        return loop->to_run.count > 0;
    case STEP_POLL:
        return !list_empty(&loop->polls) && ready_poll(loop, &events) != NULL;
    case STEP_KIND_COUNT:
        break;
    }
    return false;
}

static void run_tasks(struct task_queue *queue, bool all)
{
    struct loop_task *task = queue->first;
    if (all) {
        queue_init(queue);
    } else {
        queue->first = task->next;
        if (!queue->first) {
            queue_init(queue);
        }
        task->next = NULL;
    }
    while (task) {
        struct loop_task *next = task->next;
        task->next = NULL;
        task->fn(task->arg);
        task = next;
    }
}

static void run_kind(struct sim_loop *loop, enum step_kind kind)
{
    struct loop_timer *timer;
    struct loop_work *work;
    struct sim_poll *poll_;
    int events = 0;
    switch (kind) {
    case STEP_DEFERRED:
        run_tasks(&loop->deferred, true);
        break;
    case STEP_TIMER:
        timer = timer_heap_take_due(&loop->timers, loop->sim->now_ns, UINT64_MAX);
        timer->fn(timer->arg);
        break;
    case STEP_POSTED:
        run_tasks(&loop->posted, false);
        break;
    case STEP_WORK_FINISH:
        work = work_take(loop->sim, &loop->to_finish);
        work->done(work->arg);
        break;
    case STEP_WORK_RUN:
        work = work_take(loop->sim, &loop->to_run);
        work->run(work->arg);
        work_push(&loop->to_finish, work);
        break;
    case STEP_POLL:
        poll_ = ready_poll(loop, &events);
        if (poll_ && events) {
            poll_->fn(poll_->arg, events);
        }
        break;
    case STEP_KIND_COUNT:
        break;
    }
}

bool loop_sim_step(struct loop_sim *sim)
{
    CHECK(sim->current == NULL);
    struct sim_loop *loop = NULL;
    enum step_kind kind = STEP_KIND_COUNT;
    uint64_t n_ready = 0;
    list_for_each(link, &sim->loops)
    {
        struct sim_loop *candidate = list_entry(link, struct sim_loop, link);
        for (enum step_kind k = 0; k < STEP_KIND_COUNT; k++) {
            if (candidate->stalled_until_ns > sim->now_ns || !is_ready(candidate, k)) {
                continue;
            }
            n_ready++;
            if (n_ready == 1 || (sim->shuffled && random_below(&sim->random, n_ready) == 0)) {
                loop = candidate;
                kind = k;
            }
        }
        if (loop && !sim->shuffled) {
            break;
        }
    }
    if (!loop) {
        return false;
    }
    /* The next turn is another's. */
    list_remove(&loop->link);
    list_push_back(&sim->loops, &loop->link);
    sim->current = loop;
    run_kind(loop, kind);
    if (!sim->shuffled) {
        while (loop->deferred.first) {
            run_tasks(&loop->deferred, true);
        }
    } else if (sim->stall_ns > 0 && random_below(&sim->random, STALL_ONE_OF) == 0) {
        loop->stalled_until_ns = sim->now_ns + random_below(&sim->random, sim->stall_ns);
    }
    sim->current = NULL;
    return true;
}

void loop_sim_stall(struct loop_sim *sim, uint64_t most_ns)
{
    sim->stall_ns = most_ns;
    list_for_each(link, &sim->loops)
    {
        list_entry(link, struct sim_loop, link)->stalled_until_ns = 0;
    }
}

uint64_t loop_sim_now_ns(const struct loop_sim *sim)
{
    return sim->now_ns;
}

uint64_t loop_sim_next_due_ns(const struct loop_sim *sim)
{
    uint64_t due_ns = UINT64_MAX;
    list_for_each(link, &sim->loops)
    {
        const struct sim_loop *loop = list_entry(link, struct sim_loop, link);
        const struct loop_timer *first = timer_heap_first(&loop->timers);
        uint64_t next_ns = first ? first->due_ns : UINT64_MAX;
        if (loop->stalled_until_ns > sim->now_ns) {
            next_ns = loop->stalled_until_ns; /* whatever it has to do */
        }
        due_ns = next_ns < due_ns ? next_ns : due_ns;
    }
    return due_ns;
}

struct random *loop_sim_random(struct loop_sim *sim)
{
    return &sim->random;
}

static void count_step(unsigned *steps)
{
    if (++*steps == STEPS_WITHOUT_REST) {
        log_error("simulation: does not come to rest");
        CHECK(!"a simulation that comes to rest");
    }
}

void loop_sim_run_until_idle(struct loop_sim *sim)
{
    unsigned steps = 0;
    while (loop_sim_step(sim)) {
        count_step(&steps);
    }
}

void loop_sim_advance(struct loop_sim *sim, uint64_t ns)
{
    uint64_t end_ns = sim->now_ns + ns;
    for (;;) {
        loop_sim_run_until_idle(sim);
        uint64_t due_ns = loop_sim_next_due_ns(sim);
        if (due_ns > end_ns) {
            break;
        }
        sim->now_ns = due_ns;
    }
    sim->now_ns = end_ns;
}

bool loop_sim_run_until(struct loop_sim *sim, bool (*done)(void *arg), void *arg, uint64_t limit_ns)
{
    uint64_t end_ns = limit_ns < UINT64_MAX - sim->now_ns ? sim->now_ns + limit_ns : UINT64_MAX;
    unsigned steps = 0;
    while (!done(arg)) {
        if (loop_sim_step(sim)) {
            count_step(&steps);
            continue;
        }
        steps = 0;
        uint64_t due_ns = loop_sim_next_due_ns(sim);
        if (due_ns == UINT64_MAX || due_ns > end_ns) {
            return false;
        }
        sim->now_ns = due_ns;
    }
    return true;
}

static bool any_poll(const struct loop_sim *sim)
{
    list_for_each(link, &sim->loops)
    {
        if (!list_empty(&list_entry(link, struct sim_loop, link)->polls)) {
            return true;
        }
    }
    return false;
}

static void sim_run(struct loop *base)
{
    struct sim_loop *loop = of_loop(base);
    struct loop_sim *sim = loop->sim;
    CHECK(sim->current == NULL);
    unsigned steps = 0;
    while (!loop->stopping) {
        if (loop_sim_step(sim)) {
            count_step(&steps);
            continue;
        }
        steps = 0;
        uint64_t due_ns = loop_sim_next_due_ns(sim);
        if (due_ns != UINT64_MAX) {
            sim->now_ns = due_ns;
        } else if (any_poll(sim)) {
            /* Somebody outside may still write to a descriptor. */
            usleep(1000);
        } else {
            log_error("simulation: loop %s waits for nothing", loop->base.name);
            CHECK(!"a loop that is stopped");
        }
    }
    /* What was posted before the stop, and what that leaves behind. */
    sim->current = loop;
    if (loop->posted.first) {
        run_tasks(&loop->posted, true);
    }
    while (loop->deferred.first) {
        run_tasks(&loop->deferred, true);
    }
    sim->current = NULL;
    loop->stopping = false;
}

static void sim_stop(struct loop *base)
{
    of_loop(base)->stopping = true;
}

static void sim_free(struct loop *base)
{
    struct sim_loop *loop = of_loop(base);
    CHECK(loop->sim->current == NULL && !loop->threaded);
    CHECK(list_empty(&loop->polls));
    CHECK(loop->to_run.count == 0 && loop->to_finish.count == 0);
    timer_heap_fini(&loop->timers);
    list_remove(&loop->link);
    free(loop);
}

static int sim_thread_start(struct loop *base)
{
    struct sim_loop *loop = of_loop(base);
    CHECK(!loop->threaded);
    loop->threaded = true;
    return 0;
}

static void sim_thread_join(struct loop *base)
{
    struct sim_loop *loop = of_loop(base);
    uint64_t stall_ns = loop->sim->stall_ns;
    CHECK(loop->threaded);
    loop_sim_stall(loop->sim, 0);
    loop_sim_run_until_idle(loop->sim);
    loop_sim_stall(loop->sim, stall_ns);
    loop->threaded = false;
    loop->stopping = false;
}

static bool sim_is_current(const struct loop *base)
{
    const struct sim_loop *loop = container_of(base, const struct sim_loop, base);
    return loop->sim->thread == &thread_identity &&
           (!loop->sim->current || loop->sim->current == loop);
}

static void sim_post(struct loop *base, struct loop_task *task)
{
    struct sim_loop *loop = of_loop(base);
    CHECK(loop->sim->thread == &thread_identity);
    queue_push(&loop->posted, task);
}

static void sim_defer(struct loop *base, struct loop_task *task)
{
    queue_push(&of_loop(base)->deferred, task);
}

static uint64_t sim_now_ns(struct loop *base)
{
    return of_loop(base)->sim->now_ns;
}

static uint64_t sim_wall_ms(struct loop *base)
{
    return WALL_START_MS + of_loop(base)->sim->now_ns / MS_NS;
}

static void sim_timer_start(struct loop *base, struct loop_timer *timer, uint64_t delay_ns)
{
    struct sim_loop *loop = of_loop(base);
    uint64_t now_ns = loop->sim->now_ns;
    /* A timer that would be due after the end of time is pending all the same. */
    timer_heap_put(&loop->timers, timer,
                   delay_ns < UINT64_MAX - now_ns ? now_ns + delay_ns : UINT64_MAX);
}

static void sim_timer_stop(struct loop *base, struct loop_timer *timer)
{
    timer_heap_remove(&of_loop(base)->timers, timer);
}

static int sim_poll_new(struct loop *base, int fd, loop_poll_fn fn, void *arg,
                        struct loop_poll **ret_poll)
{
    struct sim_poll *poll_ = calloc(1, sizeof(*poll_));
    if (!poll_) {
        return -ENOMEM;
    }
    poll_->base.loop = base;
    poll_->fd = fd;
    poll_->fn = fn;
    poll_->arg = arg;
    list_push_back(&of_loop(base)->polls, &poll_->link);
    *ret_poll = &poll_->base;
    return 0;
}

static void sim_poll_set(struct loop_poll *base, int events)
{
    container_of(base, struct sim_poll, base)->events = events;
}

static void sim_poll_free(struct loop_poll *base)
{
    struct sim_poll *poll_ = container_of(base, struct sim_poll, base);
    list_remove(&poll_->link);
    free(poll_);
}

static void sim_work_submit(struct loop *base, struct loop_work *work)
{
    work_push(&of_loop(base)->to_run, work);
}

static const struct loop_ops sim_ops = {
    .run = sim_run,
    .stop = sim_stop,
    .free = sim_free,
    .thread_start = sim_thread_start,
    .thread_join = sim_thread_join,
    .is_current = sim_is_current,
    .post = sim_post,
    .defer = sim_defer,
    .now_ns = sim_now_ns,
    .wall_ms = sim_wall_ms,
    .timer_start = sim_timer_start,
    .timer_stop = sim_timer_stop,
    .poll_new = sim_poll_new,
    .poll_set = sim_poll_set,
    .poll_free = sim_poll_free,
    .work_submit = sim_work_submit,
};

int loop_sim_new(uint64_t seed, struct loop_sim **ret_sim)
{
    struct loop_sim *sim = calloc(1, sizeof(*sim));
    if (!sim) {
        return -ENOMEM;
    }
    /* Not zero: code that takes 0 for "never" should fail here. */
    sim->now_ns = SEC_NS;
    sim->shuffled = seed != 0;
    sim->thread = &thread_identity;
    random_seed(&sim->random, seed);
    list_init(&sim->loops);
    *ret_sim = sim;
    return 0;
}

void loop_sim_free(struct loop_sim *sim)
{
    if (!sim) {
        return;
    }
    CHECK(list_empty(&sim->loops));
    free(sim);
}

int loop_sim_add(struct loop_sim *sim, const char *name, struct loop **ret_loop)
{
    struct sim_loop *loop = calloc(1, sizeof(*loop));
    if (!loop) {
        return -ENOMEM;
    }
    loop->base.ops = &sim_ops;
    snprintf(loop->base.name, sizeof(loop->base.name), "%s", name);
    loop->sim = sim;
    queue_init(&loop->posted);
    queue_init(&loop->deferred);
    list_init(&loop->polls);
    list_push_back(&sim->loops, &loop->link);
    *ret_loop = &loop->base;
    return 0;
}
