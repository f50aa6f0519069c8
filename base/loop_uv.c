// SPDX-License-Identifier: Apache-2.0
/*
 * The real loop, on libuv. One round is:
 *
 *     uv_timer ─▶ due timers of our heap
 *     idle     ─▶ (exists only while deferred tasks wait: it keeps the poll from blocking)
 *     prepare  ─▶ deferred tasks; the uv_timer is armed for the first timer of the heap
 *     poll     ─▶ sockets; the wake-up's eventfd ─▶ posted tasks; finished work
 *
 * Posted tasks form a stack that any thread pushes on; the loop takes the whole stack in one
 * exchange and runs it in reverse, which is the order of posting. Only the thread that finds the
 * stack empty rings the eventfd: whoever finds it filled knows that the bell was rung and that the
 * loop has not yet taken the stack.
 *
 * uv_timer counts in milliseconds; due times are rounded up, so a timer may be late by one, never
 * early.
 */
#include "base/loop.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <uv.h>

#include "base/check.h"
#include "base/loop_ops.h"
#include "base/timer_heap.h"

/* Rounds of deferred tasks that run before sockets are looked at again: chains of completions that
 * finish in memory cost no system call each, and cannot starve the sockets either. */
enum { DEFER_ROUNDS = 8 };

/* A loop that lingers and was away for so long has lost its processor to somebody: it sleeps for a while. */
#define LOST_NS    50000
#define MODESTY_NS 5000000

struct uv_work_slot {
    uv_work_t req;
    struct loop_uv *loop;
    struct loop_work *work;
    struct uv_work_slot *next_free;
};

struct loop_uv {
    struct loop base;

    /* Any thread. */
    _Atomic(struct loop_task *) posted;
    _Atomic(const char *)
        owner; /* identity of the owning thread, NULL while a thread is being started */
    uv_async_t wake;

    /* Owner only. */
    uv_loop_t uv;
    uv_timer_t timer;
    uv_prepare_t prepare;
    uv_idle_t idle;
    struct timer_heap timers;
    uint64_t armed_ns; /* due time that the uv_timer stands for, UINT64_MAX: none */
    struct loop_task *deferred_first;
    struct loop_task **deferred_end;
    struct uv_work_slot *free_slots;
    unsigned works;
    unsigned polls;
    bool running;
    bool stopping;

    /* Lingering: what has come so far, when the first of a round came, how long they usually take, and until when others go first. */
    uint64_t events;
    uint64_t came_ns;
    uint64_t usual_ns;
    uint64_t modest_until_ns;

    /* Whoever called loop_thread_start(). */
    pthread_t thread;
    bool threaded;
    struct loop_task stop_task;
};

struct uv_poll {
    struct loop_poll base;
    uv_poll_t handle;
    loop_poll_fn fn;
    void *arg;
    int events; /* wanted by the user */
};

/* Its address is the identity of a thread: unlike pthread_t it can be compared atomically. */
static _Thread_local char thread_identity;

static struct loop_uv *of_loop(struct loop *loop)
{
    return container_of(loop, struct loop_uv, base);
}

static void owner_set(struct loop_uv *loop, const char *identity)
{
    atomic_store_explicit(&loop->owner, identity, memory_order_release);
}

static bool uv_loop_is_current(const struct loop *base)
{
    const struct loop_uv *loop = container_of(base, const struct loop_uv, base);
    return atomic_load_explicit(&loop->owner, memory_order_acquire) == &thread_identity;
}

static void run_posted(struct loop_uv *loop)
{
    struct loop_task *newest = atomic_exchange_explicit(&loop->posted, NULL, memory_order_acquire);
    struct loop_task *oldest = NULL;
    while (newest) {
        struct loop_task *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (oldest) {
        struct loop_task *task = oldest;
        oldest = task->next;
        task->next = NULL;
        task->fn(task->arg);
    }
}

static void run_deferred_once(struct loop_uv *loop)
{
    struct loop_task *task = loop->deferred_first;
    loop->deferred_first = NULL;
    loop->deferred_end = &loop->deferred_first;
    while (task) {
        struct loop_task *next = task->next;
        task->next = NULL;
        task->fn(task->arg);
        task = next;
    }
}

static void run_due_timers(struct loop_uv *loop)
{
    uint64_t now_ns = uv_hrtime();
    uint64_t limit = loop->timers.next_sequence;
    struct loop_timer *timer;
    while ((timer = timer_heap_take_due(&loop->timers, now_ns, limit)) != NULL) {
        timer->fn(timer->arg);
    }
}

static void note_event(struct loop_uv *loop)
{
    loop->events++;
    if (loop->base.linger_ns > 0 && loop->came_ns == 0) {
        loop->came_ns = uv_hrtime();
    }
}

static void wake_fired(uv_async_t *handle)
{
    note_event(handle->data);
    run_posted(handle->data);
}

static void timer_fired(uv_timer_t *handle)
{
    struct loop_uv *loop = handle->data;
    loop->armed_ns = UINT64_MAX;
    run_due_timers(loop);
}

static void idle_fired(uv_idle_t *handle)
{
    (void)handle;
}

static void arm_timer(struct loop_uv *loop)
{
    const struct loop_timer *first = timer_heap_first(&loop->timers);
    uint64_t due_ns = first ? first->due_ns : UINT64_MAX;
    if (due_ns == UINT64_MAX) {
        if (loop->armed_ns != UINT64_MAX) {
            loop->armed_ns = UINT64_MAX;
            uv_timer_stop(&loop->timer);
        }
        return;
    }
    /* libuv measures from its cached time, which is as old as this round. */
    uv_update_time(&loop->uv);
    if (due_ns == loop->armed_ns) {
        return;
    }
    loop->armed_ns = due_ns;
    uint64_t due_ms = due_ns / MS_NS + (due_ns % MS_NS != 0);
    uint64_t now_ms = uv_now(&loop->uv);
    uv_timer_start(&loop->timer, timer_fired, due_ms > now_ms ? due_ms - now_ms : 0, 0);
}

static void prepare_fired(uv_prepare_t *handle)
{
    struct loop_uv *loop = handle->data;
    for (int i = 0; i < DEFER_ROUNDS && loop->deferred_first; i++) {
        run_deferred_once(loop);
    }
    if (loop->deferred_first) {
        uv_idle_start(&loop->idle, idle_fired);
    } else {
        uv_idle_stop(&loop->idle);
    }
    arm_timer(loop);
}

/* Looks for events without sleeping, for as long as they usually take at most. */
static void linger(struct loop_uv *loop, uint64_t began_ns)
{
    uint64_t seen = loop->events;
    uint64_t before_ns = began_ns;
    for (;;) {
        uv_run(&loop->uv, UV_RUN_NOWAIT);
        if (loop->stopping || loop->events != seen) {
            return;
        }
        sched_yield();
        uint64_t now_ns = uv_hrtime();
        if (now_ns - before_ns > LOST_NS) {
            loop->modest_until_ns = now_ns + MODESTY_NS;
            return;
        }
        if (now_ns - began_ns > loop->base.linger_ns) {
            return;
        }
        before_ns = now_ns;
    }
}

/* Waking a processor that sleeps takes longer than many a request: tens of microseconds in a virtual machine. */
static void lingering_round(struct loop_uv *loop)
{
    uint64_t linger_ns = loop->base.linger_ns;
    uint64_t seen = loop->events;
    uint64_t began_ns = uv_hrtime();
    loop->came_ns = 0;
    if (loop->usual_ns < linger_ns && began_ns >= loop->modest_until_ns) {
        linger(loop, began_ns);
    }
    if (loop->events == seen && !loop->stopping) {
        uv_run(&loop->uv, UV_RUN_ONCE);
    }
    if (loop->events != seen) {
        uint64_t took_ns = loop->came_ns - began_ns;
        uint64_t most_ns = 4 * linger_ns;
        loop->usual_ns = (7 * loop->usual_ns + (took_ns < most_ns ? took_ns : most_ns)) / 8;
    }
}

static void uv_loop_run(struct loop *base)
{
    struct loop_uv *loop = of_loop(base);
    CHECK(!loop->running);
    loop->running = true;
    while (!loop->stopping) {
        if (base->linger_ns > 0) {
            lingering_round(loop);
        } else {
            uv_run(&loop->uv, UV_RUN_DEFAULT);
        }
    }
    /* What was posted before the stop still runs, and so do the completions it leaves behind. */
    run_posted(loop);
    for (int i = 0; i < DEFER_ROUNDS && loop->deferred_first; i++) {
        run_deferred_once(loop);
    }
    loop->stopping = false;
    loop->running = false;
}

static void uv_loop_stop(struct loop *base)
{
    struct loop_uv *loop = of_loop(base);
    loop->stopping = true;
    uv_stop(&loop->uv);
}

static void uv_loop_free(struct loop *base)
{
    struct loop_uv *loop = of_loop(base);
    CHECK(!loop->running && !loop->threaded);
    CHECK(loop->polls == 0);
    CHECK(loop->works == 0);
    timer_heap_fini(&loop->timers);
    uv_close((uv_handle_t *)&loop->wake, NULL);
    uv_close((uv_handle_t *)&loop->timer, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
    while (uv_run(&loop->uv, UV_RUN_DEFAULT) != 0) {
    }
    CHECK(uv_loop_close(&loop->uv) == 0);
    while (loop->free_slots) {
        struct uv_work_slot *slot = loop->free_slots;
        loop->free_slots = slot->next_free;
        free(slot);
    }
    free(loop);
}

static void *thread_main(void *arg)
{
    struct loop_uv *loop = arg;
    owner_set(loop, &thread_identity);
    loop_run(&loop->base);
    owner_set(loop, NULL);
    return NULL;
}

static void stop_posted(void *arg)
{
    loop_stop(arg);
}

static int uv_loop_thread_start(struct loop *base)
{
    struct loop_uv *loop = of_loop(base);
    CHECK(!loop->threaded && !loop->running);
    loop->threaded = true;
    owner_set(loop, NULL);

    /* Signals of the process are for the thread that waits for them. */
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int err = -pthread_create(&loop->thread, NULL, thread_main, loop);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (err) {
        loop->threaded = false;
        owner_set(loop, &thread_identity);
        return err;
    }
    char name[16];
    snprintf(name, sizeof(name), "%.15s", loop->base.name);
    pthread_setname_np(loop->thread, name);
    return 0;
}

static void uv_loop_thread_join(struct loop *base)
{
    struct loop_uv *loop = of_loop(base);
    CHECK(loop->threaded && !uv_loop_is_current(base));
    loop->stop_task = (struct loop_task){.fn = stop_posted, .arg = base};
    loop_post(base, &loop->stop_task);
    CHECK(pthread_join(loop->thread, NULL) == 0);
    loop->threaded = false;
    owner_set(loop, &thread_identity);
}

static void uv_loop_post(struct loop *base, struct loop_task *task)
{
    struct loop_uv *loop = of_loop(base);
    struct loop_task *head = atomic_load_explicit(&loop->posted, memory_order_relaxed);
    do {
        task->next = head;
    } while (!atomic_compare_exchange_weak_explicit(&loop->posted, &head, task,
                                                    memory_order_release, memory_order_relaxed));
    if (!head) {
        uv_async_send(&loop->wake);
    }
}

static void uv_loop_defer(struct loop *base, struct loop_task *task)
{
    struct loop_uv *loop = of_loop(base);
    task->next = NULL;
    *loop->deferred_end = task;
    loop->deferred_end = &task->next;
}

static uint64_t uv_loop_now_ns(struct loop *base)
{
    (void)base;
    return uv_hrtime();
}

static uint64_t uv_loop_wall_ms(struct loop *base)
{
    (void)base;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / MS_NS;
}

static void uv_loop_timer_start(struct loop *base, struct loop_timer *timer, uint64_t delay_ns)
{
    uint64_t now_ns = uv_hrtime();
    uint64_t due_ns = delay_ns < UINT64_MAX - now_ns ? now_ns + delay_ns : UINT64_MAX;
    timer_heap_put(&of_loop(base)->timers, timer, due_ns);
}

static void uv_loop_timer_stop(struct loop *base, struct loop_timer *timer)
{
    timer_heap_remove(&of_loop(base)->timers, timer);
}

static struct uv_poll *of_poll(struct loop_poll *poll)
{
    return container_of(poll, struct uv_poll, base);
}

static void poll_fired(uv_poll_t *handle, int status, int uv_events)
{
    struct uv_poll *poll = handle->data;
    int events = 0;
    if (status < 0) {
        /* libuv has stopped watching; the user has not. Before the call, which may free the poll.
         */
        uv_poll_start(handle,
                      (poll->events & LOOP_READ ? UV_READABLE : 0) |
                          (poll->events & LOOP_WRITE ? UV_WRITABLE : 0),
                      poll_fired);
        events = LOOP_READ | LOOP_WRITE;
    } else {
        events |= uv_events & UV_READABLE ? LOOP_READ : 0;
        events |= uv_events & UV_WRITABLE ? LOOP_WRITE : 0;
    }
    if (events) {
        note_event(of_loop(poll->base.loop));
        poll->fn(poll->arg, events);
    }
}

static int uv_loop_poll_new(struct loop *base, int fd, loop_poll_fn fn, void *arg,
                            struct loop_poll **ret_poll)
{
    struct loop_uv *loop = of_loop(base);
    struct uv_poll *poll = calloc(1, sizeof(*poll));
    if (!poll) {
        return -ENOMEM;
    }
    int err = uv_poll_init(&loop->uv, &poll->handle, fd);
    if (err) {
        free(poll);
        return err;
    }
    poll->base.loop = base;
    poll->handle.data = poll;
    poll->fn = fn;
    poll->arg = arg;
    loop->polls++;
    *ret_poll = &poll->base;
    return 0;
}

static void uv_loop_poll_set(struct loop_poll *base, int events)
{
    struct uv_poll *poll = of_poll(base);
    if (events == poll->events) {
        return;
    }
    poll->events = events;
    if (events == 0) {
        uv_poll_stop(&poll->handle);
        return;
    }
    int err = uv_poll_start(&poll->handle,
                            (events & LOOP_READ ? UV_READABLE : 0) |
                                (events & LOOP_WRITE ? UV_WRITABLE : 0),
                            poll_fired);
    CHECK(err == 0);
}

static void poll_closed(uv_handle_t *handle)
{
    free(handle->data);
}

static void uv_loop_poll_free(struct loop_poll *base)
{
    struct uv_poll *poll = of_poll(base);
    of_loop(base->loop)->polls--;
    /* Takes the descriptor out of the epoll set now; only the memory waits for the end of the
     * round. */
    uv_close((uv_handle_t *)&poll->handle, poll_closed);
}

static void work_run(uv_work_t *req)
{
    struct uv_work_slot *slot = container_of(req, struct uv_work_slot, req);
    slot->work->run(slot->work->arg);
}

static void work_done(uv_work_t *req, int status)
{
    CHECK(status == 0);
    struct uv_work_slot *slot = container_of(req, struct uv_work_slot, req);
    struct loop_uv *loop = slot->loop;
    struct loop_work *work = slot->work;
    slot->next_free = loop->free_slots;
    loop->free_slots = slot;
    loop->works--;
    work->done(work->arg);
}

static void uv_loop_work_submit(struct loop *base, struct loop_work *work)
{
    struct loop_uv *loop = of_loop(base);
    struct uv_work_slot *slot = loop->free_slots;
    if (slot) {
        loop->free_slots = slot->next_free;
    } else {
        /* As many slots as ever were in use at once; they are kept. */
        slot = calloc(1, sizeof(*slot));
        CHECK(slot != NULL);
        slot->loop = loop;
    }
    slot->work = work;
    loop->works++;
    CHECK(uv_queue_work(&loop->uv, &slot->req, work_run, work_done) == 0);
}

static const struct loop_ops uv_ops = {
    .run = uv_loop_run,
    .stop = uv_loop_stop,
    .free = uv_loop_free,
    .thread_start = uv_loop_thread_start,
    .thread_join = uv_loop_thread_join,
    .is_current = uv_loop_is_current,
    .post = uv_loop_post,
    .defer = uv_loop_defer,
    .now_ns = uv_loop_now_ns,
    .wall_ms = uv_loop_wall_ms,
    .timer_start = uv_loop_timer_start,
    .timer_stop = uv_loop_timer_stop,
    .poll_new = uv_loop_poll_new,
    .poll_set = uv_loop_poll_set,
    .poll_free = uv_loop_poll_free,
    .work_submit = uv_loop_work_submit,
};

int loop_new(const char *name, struct loop **ret_loop)
{
    struct loop_uv *loop = calloc(1, sizeof(*loop));
    if (!loop) {
        return -ENOMEM;
    }
    int err = uv_loop_init(&loop->uv);
    if (err) {
        free(loop);
        return err;
    }
    err = uv_async_init(&loop->uv, &loop->wake, wake_fired);
    if (err) {
        uv_loop_close(&loop->uv);
        free(loop);
        return err;
    }
    uv_timer_init(&loop->uv, &loop->timer);
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_idle_init(&loop->uv, &loop->idle);
    loop->wake.data = loop;
    loop->timer.data = loop;
    loop->prepare.data = loop;
    loop->idle.data = loop;
    uv_prepare_start(&loop->prepare, prepare_fired);

    loop->base.ops = &uv_ops;
    snprintf(loop->base.name, sizeof(loop->base.name), "%s", name);
    loop->armed_ns = UINT64_MAX;
    loop->deferred_end = &loop->deferred_first;
    owner_set(loop, &thread_identity);
    *ret_loop = &loop->base;
    return 0;
}
