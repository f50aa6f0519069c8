// SPDX-License-Identifier: Apache-2.0
/*
 * How many layer files are open at once: a place for each, and idle ones give theirs back when
 * others wait.
 *
 * Thread:    the loop's; the number is the process's (layer_files_limit() in block/layer.h).
 * Ownership: layer_fds_get() takes a reference, layer_fds_put() gives it back. Waits and idle
 *            links are the caller's and lent.
 * Errors:    none; who gets no place waits. A loop with few files does not: so no loop starves.
 */
#ifndef BLOCK_LAYER_FDS_H
#define BLOCK_LAYER_FDS_H

#include "base/list.h"
#include "base/loop.h"

struct layer_fds;

struct layer_fds_wait {
    struct list link;
    loop_fn fn;
    void *arg;
};

/* A file that is open and has nothing to do. evict: close it and give the place back, soon. */
struct layer_fds_idle {
    struct list link;
    void (*evict)(struct layer_fds_idle *idle);
};

struct layer_fds *layer_fds_get(struct loop *loop);
void layer_fds_put(struct layer_fds *fds);

/* A place: wait->fn is called, perhaps at once. */
void layer_fds_take(struct layer_fds *fds, struct layer_fds_wait *wait);
/* A place is free again. */
void layer_fds_give(struct layer_fds *fds);
/* Idle from now on, used last; or not idle any more. */
void layer_fds_rest(struct layer_fds *fds, struct layer_fds_idle *idle);
void layer_fds_work(struct layer_fds_idle *idle);

#endif
