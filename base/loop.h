// SPDX-License-Identifier: Apache-2.0
/*
 * The event loop: messages from other threads, timers, socket readiness, work for other threads,
 * and the clock.
 *
 * Thread:    a loop belongs to the thread that runs it, and before loop_run() to the one that made
 *            it. loop_post() may be called from any thread, the clock and the name too; everything
 *            else is the owner's, and asserts so.
 * Ownership: struct loop_task, loop_timer and loop_work are embedded in the caller's objects and
 *            lent until they have run or were stopped. Polls are heap objects.
 * Errors:    creation returns negative errno; the rest cannot fail.
 *
 * Real loops stand on libuv (base/loop_uv.c), tests may use a simulated one with virtual time
 * (base/loop_sim.h): all functions here go through struct loop_ops.
 */
#ifndef BASE_LOOP_H
#define BASE_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct loop_poll;

typedef void (*loop_fn)(void *arg);

/* A message. Set fn and arg, post or defer; may be posted again, or freed, once fn has begun. */
struct loop_task {
    loop_fn fn;
    void *arg;
    struct loop_task *next;
};

/* A timer that fires once. loop_timer_init() first; start replaces a pending start; stop is
 * immediate: fn is not called afterwards. May be started again, or freed, once fn has begun. */
struct loop_timer {
    struct loop *loop;
    loop_fn fn;
    void *arg;
    uint64_t due_ns;
    uint64_t sequence;
    size_t heap_index; /* SIZE_MAX: not pending */
};

/* Blocking work: run is called on a worker thread and touches nothing but this work's own data;
 * then done is called on the loop. There is no cancelling: the loop may not end before done. */
struct loop_work {
    loop_fn run;
    loop_fn done;
    void *arg;
    void *private_data;
};

enum { LOOP_READ = 1, LOOP_WRITE = 2 };
/* events: what the descriptor is ready for; an error on it sets both. */
typedef void (*loop_poll_fn)(void *arg, int events);

int loop_new(const char *name, struct loop **ret_loop);
/* Runs until loop_stop(): returns after the task that called it, all tasks posted before it, and
 * what they deferred. May be called again. */
void loop_run(struct loop *loop);
/* Before loop_run(): while sockets and messages usually come within so long, the loop goes on looking for them instead of
 * sleeping, unless others want the processor. 0, as from the beginning: it sleeps at once. */
void loop_linger(struct loop *loop, uint64_t ns);
void loop_stop(struct loop *loop);
/* After loop_run() has returned; no timer may be pending, no poll open, no work under way. Posted
 * tasks that have not run are forgotten. */
void loop_free(struct loop *loop);
const char *loop_name(const struct loop *loop);

/* A thread of its own around loop_run(), with all signals blocked. loop_thread_join() stops the
 * loop, waits for the thread, and makes the caller the owner, who may then loop_free(). */
int loop_thread_start(struct loop *loop);
void loop_thread_join(struct loop *loop);

bool loop_is_current(const struct loop *loop);
/* Any thread. First in, first out. */
void loop_post(struct loop *loop, struct loop_task *task);
/* Own thread. At the end of this round, before the loop waits; first in, first out. */
void loop_defer(struct loop *loop, struct loop_task *task);

uint64_t loop_now_ns(struct loop *loop);  /* monotonic */
uint64_t loop_wall_ms(struct loop *loop); /* since 1970, UTC */

void loop_timer_init(struct loop_timer *timer, struct loop *loop, loop_fn fn, void *arg);
void loop_timer_start(struct loop_timer *timer, uint64_t delay_ns);
void loop_timer_stop(struct loop_timer *timer);
bool loop_timer_pending(const struct loop_timer *timer);

int loop_poll_new(struct loop *loop, int fd, loop_poll_fn fn, void *arg,
                  struct loop_poll **ret_poll);
void loop_poll_set(struct loop_poll *poll, int events); /* 0: none */
/* Immediate: fn is not called afterwards, and fd may be closed at once. */
void loop_poll_free(struct loop_poll *poll);

void loop_work_submit(struct loop *loop, struct loop_work *work);

#define MS_NS  1000000ull
#define SEC_NS 1000000000ull

#endif
