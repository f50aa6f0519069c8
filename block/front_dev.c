// SPDX-License-Identifier: Apache-2.0
/*
 * Every request gets a struct passage, which holds the request that goes below:
 *
 *     submit ─▶ below ─▶ completed
 *     submit ─▶ waiting, while replacing ─▶ below, once the new device is there
 *
 * Replacing: nothing goes below any more; when the last passage is back, the swap is a task of its
 * own, also when there was none, so that the caller hears of it later in every case. A close ends
 * what waits, and comes after a swap that is under way.
 */
#include "block/front_dev.h"

#include <errno.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/list.h"

struct passage {
    struct list link; /* in waiting or spare; on none while below */
    struct front_dev *front;
    struct block_req *req;
    struct block_req child;
};

struct front_dev {
    struct blockdev base;
    struct blockdev inner; /* past read_only and the watch */
    struct blockdev *below;
    struct list waiting;
    struct list spare;
    unsigned n_below;
    bool read_only; /* asked for here */

    bool replacing;
    bool swap_queued;
    struct blockdev *next_below;
    front_done_fn replaced;
    void *replaced_arg;
    struct loop_task swap_task;

    loop_fn watch_fn;
    void *watch_arg;
    bool watch_hit;
    bool watch_queued;
    struct loop_task watch_task;

    bool close_waits; /* for the swap */
    block_close_fn close_done;
    void *close_arg;
};

static const struct blockdev_ops front_ops;
static const struct blockdev_ops inner_ops;

static struct front_dev *of_dev(struct blockdev *dev)
{
    CHECK(dev->ops == &front_ops);
    return container_of(dev, struct front_dev, base);
}

static void take_info(struct front_dev *front)
{
    front->inner.info = front->below->info;
    front->base.info = front->below->info;
    front->base.info.read_only |= front->read_only;
}

/* ---- watching ---- */

static void watch_tell(void *arg)
{
    struct front_dev *front = arg;
    loop_fn fn = front->watch_fn;
    front->watch_queued = false;
    if (front->watch_hit && fn) {
        front->watch_fn = NULL;
        fn(front->watch_arg);
    }
}

static void watch_see(struct front_dev *front, const struct block_req *req)
{
    if (!front->watch_fn ||
        (req->op != BLOCK_WRITE && req->op != BLOCK_ZERO && req->op != BLOCK_DISCARD)) {
        return;
    }
    front->watch_hit = true;
    if (!front->watch_queued) {
        front->watch_queued = true;
        loop_defer(front->base.loop, &front->watch_task);
    }
}

void front_dev_watch(struct blockdev *dev, loop_fn fn, void *arg)
{
    struct front_dev *front = of_dev(dev);
    CHECK(loop_is_current(dev->loop));
    front->watch_fn = fn;
    front->watch_arg = arg;
    front->watch_hit = false;
}

/* ---- passing down ---- */

static void swap_when_drained(struct front_dev *front)
{
    if (front->replacing && front->n_below == 0 && !front->swap_queued) {
        front->swap_queued = true;
        loop_defer(front->base.loop, &front->swap_task);
    }
}

static void child_done(struct block_req *child)
{
    struct passage *passage = child->arg;
    struct front_dev *front = passage->front;
    struct block_req *req = passage->req;
    req->n_extents = child->n_extents;
    list_push_front(&front->spare, &passage->link);
    front->n_below--;
    swap_when_drained(front);
    blockdev_complete_now(req, child->status);
}

static struct passage *passage_take(struct front_dev *front, struct block_req *req)
{
    struct list *link = list_pop_front(&front->spare);
    struct passage *passage =
        link ? list_entry(link, struct passage, link) : calloc(1, sizeof(*passage));
    if (passage) {
        list_init(&passage->link);
        passage->front = front;
        passage->req = req;
    }
    return passage;
}

static void passage_go_below(struct passage *passage)
{
    struct front_dev *front = passage->front;
    const struct block_req *req = passage->req;
    blockdev_pass(&passage->child, req, child_done, passage);
    front->n_below++;
    if (req->dev == &front->base) {
        watch_see(front, req);
    }
    blockdev_submit(front->below, &passage->child);
}

static void pass(struct front_dev *front, struct block_req *req)
{
    struct passage *passage = passage_take(front, req);
    if (!passage) {
        blockdev_complete(req, -EIO);
    } else if (front->replacing) {
        list_push_back(&front->waiting, &passage->link);
    } else {
        passage_go_below(passage);
    }
}

static void front_submit(struct blockdev *dev, struct block_req *req)
{
    pass(of_dev(dev), req);
}

static void inner_submit(struct blockdev *dev, struct block_req *req)
{
    pass(container_of(dev, struct front_dev, inner), req);
}

struct blockdev *front_dev_inner(struct blockdev *dev)
{
    return &of_dev(dev)->inner;
}

/* ---- replacing ---- */

static void below_event(void *arg, struct blockdev *below, enum block_event event,
                        unsigned attempts, const char *detail)
{
    struct front_dev *front = arg;
    CHECK(below == front->below);
    take_info(front);
    blockdev_emit(&front->base, event, attempts, detail);
}

/* Another front may have been put over it since. */
static void below_leave(struct front_dev *front)
{
    if (front->below && front->below->event_arg == front) {
        front->below->on_event = NULL;
    }
}

static void below_set(struct front_dev *front, struct blockdev *below)
{
    below_leave(front);
    front->below = below;
    below->on_event = below_event;
    below->event_arg = front;
    take_info(front);
}

static void front_idle(void *arg);

static void swap(void *arg)
{
    struct front_dev *front = arg;
    front->swap_queued = false;
    front->replacing = false;
    below_set(front, front->next_below);
    front->next_below = NULL;
    front->replaced(front->replaced_arg);
    /* fn may have begun the next one, or the close. */
    struct list *link;
    while (!front->replacing && (link = list_pop_front(&front->waiting)) != NULL) {
        passage_go_below(list_entry(link, struct passage, link));
    }
    if (front->close_waits) {
        front->close_waits = false;
        blockdev_when_idle(&front->base, front_idle, front);
    }
}

int front_dev_replace(struct blockdev *dev, struct blockdev *below, front_done_fn fn, void *arg)
{
    struct front_dev *front = of_dev(dev);
    CHECK(loop_is_current(dev->loop) && !dev->closing);
    CHECK(below->loop == dev->loop && fn != NULL);
    if (front->replacing) {
        return -EBUSY;
    }
    front->replacing = true;
    front->next_below = below;
    front->replaced = fn;
    front->replaced_arg = arg;
    swap_when_drained(front);
    return 0;
}

struct blockdev *front_dev_below(struct blockdev *dev)
{
    return of_dev(dev)->below;
}

void front_dev_refresh(struct blockdev *dev)
{
    struct front_dev *front = of_dev(dev);
    CHECK(loop_is_current(dev->loop));
    below_set(front, front->below);
}

void front_dev_set_read_only(struct blockdev *dev, bool read_only)
{
    struct front_dev *front = of_dev(dev);
    CHECK(loop_is_current(dev->loop));
    front->read_only = read_only;
    take_info(front);
}

/* ---- beginning and end ---- */

static void front_idle(void *arg)
{
    struct front_dev *front = arg;
    block_close_fn done = front->close_done;
    void *done_arg = front->close_arg;
    CHECK(!front->watch_queued && !front->swap_queued && front->inner.inflight == 0);
    below_leave(front);
    struct list *link;
    while ((link = list_pop_front(&front->spare)) != NULL) {
        free(list_entry(link, struct passage, link));
    }
    free(front);
    done(done_arg);
}

static void front_close(struct blockdev *dev, block_close_fn done, void *arg)
{
    struct front_dev *front = of_dev(dev);
    front->close_done = done;
    front->close_arg = arg;
    front->watch_fn = NULL;
    struct list *link;
    while ((link = list_pop_front(&front->waiting)) != NULL) {
        struct passage *passage = list_entry(link, struct passage, link);
        list_push_back(&front->spare, &passage->link);
        blockdev_complete(passage->req, -ECANCELED);
    }
    if (front->replacing) {
        front->close_waits = true;
    } else {
        blockdev_when_idle(dev, front_idle, front);
    }
}

static const struct blockdev_ops front_ops = {
    .kind = "front",
    .submit = front_submit,
    .close = front_close,
};

static const struct blockdev_ops inner_ops = {
    .kind = "front inner",
    .submit = inner_submit,
};

int front_dev_new(struct blockdev *below, struct blockdev **ret_dev)
{
    struct front_dev *front = calloc(1, sizeof(*front));
    if (!front) {
        return -ENOMEM;
    }
    front->base.ops = &front_ops;
    front->base.loop = below->loop;
    front->inner.ops = &inner_ops;
    front->inner.loop = below->loop;
    list_init(&front->waiting);
    list_init(&front->spare);
    front->swap_task = (struct loop_task){.fn = swap, .arg = front};
    front->watch_task = (struct loop_task){.fn = watch_tell, .arg = front};
    below_set(front, below);
    *ret_dev = &front->base;
    return 0;
}
