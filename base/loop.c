// SPDX-License-Identifier: Apache-2.0
#include "base/loop.h"

#include "base/check.h"
#include "base/loop_ops.h"

void loop_linger(struct loop *loop, uint64_t ns)
{
    loop->linger_ns = ns;
}

void loop_run(struct loop *loop)
{
    CHECK(loop_is_current(loop));
    loop->ops->run(loop);
}

void loop_stop(struct loop *loop)
{
    CHECK(loop_is_current(loop));
    loop->ops->stop(loop);
}

void loop_free(struct loop *loop)
{
    if (!loop) {
        return;
    }
    CHECK(loop_is_current(loop));
    loop->ops->free(loop);
}

const char *loop_name(const struct loop *loop)
{
    return loop->name;
}

int loop_thread_start(struct loop *loop)
{
    CHECK(loop_is_current(loop));
    return loop->ops->thread_start(loop);
}

void loop_thread_join(struct loop *loop)
{
    loop->ops->thread_join(loop);
}

bool loop_is_current(const struct loop *loop)
{
    return loop->ops->is_current(loop);
}

void loop_post(struct loop *loop, struct loop_task *task)
{
    loop->ops->post(loop, task);
}

void loop_defer(struct loop *loop, struct loop_task *task)
{
    CHECK(loop_is_current(loop));
    loop->ops->defer(loop, task);
}

uint64_t loop_now_ns(struct loop *loop)
{
    return loop->ops->now_ns(loop);
}

uint64_t loop_wall_ms(struct loop *loop)
{
    return loop->ops->wall_ms(loop);
}

void loop_timer_init(struct loop_timer *timer, struct loop *loop, loop_fn fn, void *arg)
{
    *timer = (struct loop_timer){.loop = loop, .fn = fn, .arg = arg, .heap_index = SIZE_MAX};
}

void loop_timer_start(struct loop_timer *timer, uint64_t delay_ns)
{
    CHECK(loop_is_current(timer->loop));
    timer->loop->ops->timer_start(timer->loop, timer, delay_ns);
}

void loop_timer_stop(struct loop_timer *timer)
{
    CHECK(loop_is_current(timer->loop));
    if (loop_timer_pending(timer)) {
        timer->loop->ops->timer_stop(timer->loop, timer);
    }
}

bool loop_timer_pending(const struct loop_timer *timer)
{
    return timer->heap_index != SIZE_MAX;
}

int loop_poll_new(struct loop *loop, int fd, loop_poll_fn fn, void *arg,
                  struct loop_poll **ret_poll)
{
    CHECK(loop_is_current(loop));
    return loop->ops->poll_new(loop, fd, fn, arg, ret_poll);
}

void loop_poll_set(struct loop_poll *poll, int events)
{
    CHECK(loop_is_current(poll->loop));
    CHECK((events & ~(LOOP_READ | LOOP_WRITE)) == 0);
    poll->loop->ops->poll_set(poll, events);
}

void loop_poll_free(struct loop_poll *poll)
{
    if (!poll) {
        return;
    }
    CHECK(loop_is_current(poll->loop));
    poll->loop->ops->poll_free(poll);
}

void loop_work_submit(struct loop *loop, struct loop_work *work)
{
    CHECK(loop_is_current(loop));
    loop->ops->work_submit(loop, work);
}
