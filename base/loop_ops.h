// SPDX-License-Identifier: Apache-2.0
/*
 * What an implementation of base/loop.h provides; for loop.c, loop_uv.c and loop_sim.c only.
 *
 * Thread:    as base/loop.h; loop.c has checked the ownership before it calls.
 * Ownership: struct loop is the first member of the implementation's own structure.
 * Errors:    as base/loop.h.
 */
#ifndef BASE_LOOP_OPS_H
#define BASE_LOOP_OPS_H

#include "base/loop.h"

struct loop_ops {
    void (*run)(struct loop *loop);
    void (*stop)(struct loop *loop);
    void (*free)(struct loop *loop);
    int (*thread_start)(struct loop *loop);
    void (*thread_join)(struct loop *loop);
    bool (*is_current)(const struct loop *loop);
    void (*post)(struct loop *loop, struct loop_task *task);
    void (*defer)(struct loop *loop, struct loop_task *task);
    uint64_t (*now_ns)(struct loop *loop);
    uint64_t (*wall_ms)(struct loop *loop);
    void (*timer_start)(struct loop *loop, struct loop_timer *timer, uint64_t delay_ns);
    void (*timer_stop)(struct loop *loop, struct loop_timer *timer);
    int (*poll_new)(struct loop *loop, int fd, loop_poll_fn fn, void *arg,
                    struct loop_poll **ret_poll);
    void (*poll_set)(struct loop_poll *poll, int events);
    void (*poll_free)(struct loop_poll *poll);
    void (*work_submit)(struct loop *loop, struct loop_work *work);
};

struct loop {
    const struct loop_ops *ops;
    char name[32];
    uint64_t linger_ns; /* loop_linger() */
};

/* First member of an implementation's poll. */
struct loop_poll {
    struct loop *loop;
};

#endif
